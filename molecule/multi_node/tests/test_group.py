# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One replica over two hosts with a mock of the engine, in order: each test begins where the one before it ended.

Every fault prints how long it took to be noticed and to be over.
"""

from __future__ import annotations

import json

import pytest
from faults import Faults
from groups import Group, kill
from harness import main_pid, shell
from operations import AtItsEnd, WhileItServes

HEAD, OTHER = HOSTS = ("multi-node1", "multi-node2")
ADDRESSES = ("10.89.77.122", "10.89.77.123")


@pytest.fixture(scope="session")
def group(front_door):
    return Group("tiny-0", "tiny", HOSTS, ADDRESSES, front_door)


def test_a_completion_comes_through_the_gateway(front_door):
    assert front_door.ask("tiny", max_tokens=8)


def test_the_ranks_are_on_both_hosts_and_speak_on_the_planned_network(group):
    for host, address in zip(HOSTS, ADDRESSES, strict=True):
        told = json.loads(shell(host, "cat /etc/ansible/facts.d/gpufleet_serve.fact"))["options"]["serve_units"][0]
        assert told["group"]["gloo_interface"] == "eth0"
        assert told["group"]["addresses"] == [*ADDRESSES]
        environment = shell(host, f"systemctl show --property=Environment {group.unit}")
        assert f"VLLM_HOST_IP={address}" in environment and "GLOO_SOCKET_IFNAME=eth0" in environment
    first, second = group.epochs()
    assert first == second > 0
    ports = shell(OTHER, "cat /proc/net/tcp /proc/net/tcp6")
    assert f":{8000:04X} 00000000:0000 0A" not in ports, "the other host listens for requests"


class TestWhileItServes(WhileItServes):
    pass


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


class TestFaults(Faults):
    executor = "mock"

    def hang(self, group):
        body = json.dumps({"kind": "hang"})
        return lambda: shell(HEAD, f"curl -sS -d '{body}' http://{ADDRESSES[0]}:8000/mock/fault")

    def test_killed_worker(self, group):
        group.heals("mock: kill -9 of the other host's worker", 10, kill(OTHER, "'[V]LLM::Worker'"))

    def test_killed_engine(self, group):
        group.heals("mock: kill -9 of the head's engine core", 10, kill(HEAD, "'[V]LLM::EngineCore'"))


class TestAtItsEnd(AtItsEnd):
    pass
