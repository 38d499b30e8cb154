# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One replica over two hosts with the real engine, in order: each test begins where the one before it ended.

Every fault prints how long it took to be noticed and to be over.
"""

from __future__ import annotations

import json
import time

import pytest
from harness import eventually, main_pid, shell

HEAD, OTHER = HOSTS = ("multi-node1", "multi-node2")
# two engines of this size meet and load in one to two minutes on two quiet cores
BACK_WITHIN_S = 400
UNIT = "gpufleet-tiny-0.service"


def guard(host):
    return json.loads(shell(host, "cat /var/cache/gpufleet/tiny-0/guard.json"))


def epochs():
    return [guard(host)["epoch"] for host in HOSTS]


def engines(host):
    """The processes of the unit, by id; whatever is in its control group."""
    group = shell(host, f"systemctl show --property=ControlGroup --value {UNIT}").strip()
    found = shell(
        host, f"cat /sys/fs/cgroup/systemd{group}/cgroup.procs /sys/fs/cgroup{group}/cgroup.procs", check=False
    )
    return {int(line) for line in found.split() if line.isdigit()}


def failures():
    return [guard(host)["failures"] for host in HOSTS]


@pytest.fixture
def heals(front_door):
    """Waits until a fault was noticed and the replica serves again with nothing of its earlier processes left."""

    def wait(fault, noticed_within_s, cause):
        before, processes = epochs(), {host: engines(host) for host in HOSTS}
        begun = time.monotonic()
        cause()
        eventually(lambda: failures_since(before), noticed_within_s + 15, f"{fault}: noticed")
        noticed = time.monotonic() - begun
        eventually(lambda: epochs() == [max(before) + 1] * 2, BACK_WITHIN_S, f"{fault}: met again")
        met = time.monotonic() - begun
        eventually(lambda: front_door.answers("tiny"), BACK_WITHIN_S, f"{fault}: serves")
        served = time.monotonic() - begun
        print(f"{fault}: noticed {noticed:.0f} s, met again {met:.0f} s, serves {served:.0f} s")
        assert noticed <= noticed_within_s, fault
        for host in HOSTS:
            assert not engines(host) & processes[host], f"{host}: a process of the earlier start is left"

    return wait


def failures_since(before):
    """Whether the head has ended, or begun anew, since the epochs of before."""
    told = guard(HEAD)
    return told["state"] in ("failed", "meeting") or told["epoch"] > max(before)


def test_a_completion_comes_through_the_gateway(front_door):
    assert front_door.ask("tiny", max_tokens=8)


def test_the_ranks_are_on_both_hosts_and_speak_on_the_planned_network(fleet):
    for host, address in zip(HOSTS, ("10.89.77.122", "10.89.77.123"), strict=True):
        told = json.loads(shell(host, "cat /etc/ansible/facts.d/gpufleet_serve.fact"))["options"]["serve_units"][0]
        assert told["group"]["gloo_interface"] == "eth0"
        assert told["group"]["addresses"] == ["10.89.77.122", "10.89.77.123"]
        environment = shell(host, f"systemctl show --property=Environment {UNIT}")
        assert f"VLLM_HOST_IP={address}" in environment and "GLOO_SOCKET_IFNAME=eth0" in environment
    assert epochs()[0] == epochs()[1] > 0
    ports = shell(OTHER, "cat /proc/net/tcp /proc/net/tcp6")
    assert f":{8000:04X} 00000000:0000 0A" not in ports, "the other host listens for requests"


def test_a_second_run_changes_nothing(fleet):
    before = [main_pid(host, "tiny-0") for host in HOSTS]
    fleet.run().expect_unchanged()
    assert [main_pid(host, "tiny-0") for host in HOSTS] == before


def test_verify_shows_the_group_in_one_line(fleet):
    words = fleet.run("playbooks/verify.yml").expect(0).words
    epoch = epochs()[0]
    assert f"group: tiny-0 on {HEAD} serving (epoch {epoch}), {OTHER} running (epoch {epoch})" in words


def test_the_guard_costs_next_to_nothing():
    for host in HOSTS:
        pid = main_pid(host, "tiny-0")
        resident_kib, ticks, age_s = (
            int(shell(host, command).strip())
            for command in (
                f"awk '/VmRSS/ {{print $2}}' /proc/{pid}/status",
                f"awk '{{print $14 + $15}}' /proc/{pid}/stat",
                f"ps -o etimes= -p {pid}",
            )
        )
        assert resident_kib < 30 * 1024
        assert ticks / 100 / age_s < 0.01, f"{host}: {ticks / 100} s of {age_s} s"


def kill(host, name):
    return lambda: shell(host, f"pkill -KILL -f {name}")


def test_a_killed_worker_of_the_other_host_restarts_both(heals):
    heals("kill -9 of a worker engine", 10, kill(OTHER, "'[V]LLM::Worker'"))


def test_a_killed_head_restarts_both(heals):
    heals("kill -9 of the head engine", 10, kill(HEAD, "'[V]LLM::EngineCore'"))
