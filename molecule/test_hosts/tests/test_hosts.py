# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a test host promises: systemd, its own name and address, its peers by name, reboots."""

from __future__ import annotations

import time

ADDRESSES = {"test-hosts-1": "10.89.77.11", "test-hosts-2": "10.89.77.12"}


def test_systemd_runs_without_a_failed_unit(host):
    assert host.process.get(pid=1).comm == "systemd"
    assert host.check_output("systemctl list-units --failed --no-legend") == ""


def test_has_its_own_name_address_and_identity(host):
    name = host.check_output("hostname")
    assert ADDRESSES[name] in host.interface("eth0").addresses
    assert len(host.check_output("cat /etc/machine-id")) == 32


def test_knows_its_peers_by_name_and_nobody_else(host):
    for name, address in ADDRESSES.items():
        assert host.addr(name).ipv4_addresses == [address]
    names = host.check_output("grep -v '^::1' /etc/hosts | awk '{print $2}'").split()
    assert sorted(names) == sorted(["localhost", "host.containers.internal", *ADDRESSES])


def test_reaches_its_peers(host):
    for address in ADDRESSES.values():
        assert "Welcome to nginx" in host.check_output("curl -sS --max-time 5 http://%s/", address)


def test_memory_is_limited(host):
    limit = host.check_output(
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || true"
    )
    assert int(limit) == 1024 * 2**20


def test_comes_back_from_a_reboot_with_its_services_and_rules(host):
    address = host.interface("eth0").addresses
    before = host.check_output("systemctl show --property=UserspaceTimestampMonotonic --value")
    host.run("systemctl reboot")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        state = host.run("systemctl is-system-running")
        now = host.run("systemctl show --property=UserspaceTimestampMonotonic --value")
        if state.stdout.strip() == "running" and now.stdout.strip() != before:
            break
        time.sleep(0.5)
    assert host.service("nginx").is_running
    assert "tcp dport 81 drop" in host.check_output("nft list ruleset")
    assert host.interface("eth0").addresses == address
