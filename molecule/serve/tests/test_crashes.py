# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas come back by themselves, and killed ones leave nothing behind."""

from __future__ import annotations

from ansible_collections.gpufleet.serving.plugins.module_utils._openai import CompletionError
from replicas import REPLICAS, complete, eventually, pids, shown


def answers(port):
    try:
        return complete(port).events == 3
    except CompletionError:
        return False


def test_killed_replicas_come_back_and_their_leavings_go(host):
    before = pids(host)
    for replica, pid in before.items():
        host.check_output("nsenter --target %s --mount touch /dev/shm/psm_%s /tmp/left_%s", pid, replica, replica)
    assert host.check_output("find /dev/shm -name 'psm_*'") == ""
    # the guard of one, a worker of the other: there the engine ends by itself, with exit status 0, as the guard says
    host.check_output("kill -9 %s", before["tiny-0"])
    host.check_output("kill -9 $(pgrep --parent $(pgrep --parent %s) | tail -1)", before["tiny-1"])
    eventually(lambda: shown(host, "tiny-1", "SubState") == "auto-restart", 10, "tiny-1 has ended")
    assert (shown(host, "tiny-1", "Result"), shown(host, "tiny-1", "ExecMainStatus")) == ("exit-code", "1")
    journal = host.check_output(
        "journalctl --unit gpufleet-tiny-1.service --output cat --grep 'gpufleet guard: failed'"
    )
    assert "the engine ended by itself with status 0" in journal
    eventually(lambda: all(answers(port) for port in REPLICAS.values()), 30, "both replicas answer again")
    after = pids(host)
    for replica in REPLICAS:
        assert shown(host, replica, "NRestarts") == "1"
        assert after[replica] != before[replica]
        assert host.check_output("nsenter --target %s --mount find /dev/shm /tmp -type f", after[replica]) == ""


def test_a_stopped_unit_leaves_no_process(host):
    host.check_output("systemctl stop gpufleet-tiny-0.service")
    assert host.check_output("pgrep --full --count serve/tiny-0[.]yaml || true") == "0"
    host.check_output("systemctl start gpufleet-tiny-0.service")


def test_after_a_reboot_both_serve_without_ansible(host):
    before = shown(host, "tiny-0", "ExecMainStartTimestampMonotonic")
    boot = host.check_output("systemctl show --property=UserspaceTimestampMonotonic --value")
    host.run("systemctl reboot")
    eventually(
        lambda: (
            host.run("systemctl show --property=UserspaceTimestampMonotonic --value").stdout.strip() not in ("", boot)
        ),
        60,
        "a new boot",
    )
    eventually(lambda: all(answers(port) for port in REPLICAS.values()), 60, "both replicas answer again")
    assert shown(host, "tiny-0", "ExecMainStartTimestampMonotonic") != before
