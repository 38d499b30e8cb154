# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fault of a replica over two hosts, with the real engine, over Ray and by itself; in order.

Every fault prints how long it took to be noticed and to be over.
"""

from __future__ import annotations

import json
import time

import pytest
from groups import BACK_WITHIN_S, Group, cut, kill, mend, podman
from harness import eventually, shell

HEAD, OTHER = HOSTS = ("groups-node1", "groups-node2")
HEAD_ADDRESS, OTHER_ADDRESS = "10.89.77.132", "10.89.77.133"
ENGINE = "/opt/gpufleet/engine/cpu-0.32.0/bin"
PIPELINE = {"tensor_parallel_size": 1, "pipeline_parallel_size": 2}


@pytest.fixture(scope="session")
def group(front_door):
    return Group("tiny-0", "tiny", HOSTS, front_door)


@pytest.fixture(scope="session")
def layouts(fleet, group):
    """Brings the replica to another layout or executor, once; a change restarts the whole group, and only once."""

    def change(**words):
        model = {**fleet.variables["fleet_models"][0], **words}
        before = group.epochs()
        fleet.changed(fleet_models=[model]).run("site.yml", "-e", "fleet_allow_restart=true").expect(0)
        assert group.epochs() == [max(before) + 1] * 2, "a change is to restart the group once"

    return change


def place_of_ray(group):
    settings = json.loads(shell(HEAD, f"cat /etc/gpufleet/serve/{group.replica}.json"))["group"]
    return f"{HEAD_ADDRESS}:{settings['master_port'] + 1 + group.epochs()[0] % 15}"


class TestTensorParallelOverRay:
    def test_a_completion_comes_through_the_gateway(self, group):
        assert group.front_door.ask("tiny", max_tokens=8)
        for host in HOSTS:
            assert "ray::RayWorkerProc" in shell(host, "pgrep -af ray::"), f"{host} has no rank"

    def test_a_second_run_changes_nothing(self, group, fleet):
        before = [group.processes(host) for host in HOSTS]
        fleet.run().expect_unchanged()
        assert [group.processes(host) for host in HOSTS] == before

    def test_verify_shows_the_group_in_one_line(self, group, fleet):
        words = fleet.run("playbooks/verify.yml").expect(0).words
        epoch = group.epochs()[0]
        assert f"group: tiny-0 on {HEAD} serving (epoch {epoch}), {OTHER} running (epoch {epoch})" in words

    def test_a_node_with_another_token_is_refused_by_ray_itself(self, group):
        start = f"ray start --block --address={place_of_ray(group)} --node-ip-address={OTHER_ADDRESS} --num-gpus=1"
        for token in ("RAY_AUTH_TOKEN=of-somebody-else-altogether", ""):
            said = shell(OTHER, f"RAY_AUTH_MODE=token {token} timeout 100 {ENGINE}/{start} 2>&1", check=False)
            assert "AuthenticationError" in said, said[-2000:]
        assert group.front_door.answers("tiny")

    def test_a_port_of_an_earlier_epoch_is_closed(self, group):
        host, _colon, port = place_of_ray(group).partition(":")
        probe = "import socket; socket.create_connection(('{}', {}), 3)"
        shell(OTHER, f'python3 -c "{probe.format(host, int(port))}"')
        said = shell(OTHER, f'python3 -c "{probe.format(host, int(port) - 1)}"', check=False)
        assert "ConnectionRefusedError" in said

    def test_killed_raylet(self, group):
        group.heals("ray: kill -9 of the other host's raylet", 10, kill(OTHER, "raylet/[r]aylet"))

    def test_killed_worker(self, group):
        group.heals("ray: kill -9 of the other host's worker", 10, kill(OTHER, "'ray::[R]ayWorkerProc'"))

    def test_killed_engine(self, group):
        group.heals("ray: kill -9 of the head's engine core", 10, kill(HEAD, "'[V]LLM::EngineCore'"))


class Faults:
    """The faults of whole hosts, of which the engines know nothing."""

    executor = ""

    def test_host_off(self, group):
        group.heals(f"{self.executor}: host off", 30, podman("kill", OTHER), undo=podman("start", OTHER))

    def test_host_frozen(self, group):
        group.heals(f"{self.executor}: host frozen", 60, podman("pause", OTHER), undo=podman("unpause", OTHER))

    def test_network_cut(self, group):
        group.heals(f"{self.executor}: network cut both ways", 30, cut(OTHER, HEAD_ADDRESS), undo=mend(OTHER))

    def test_a_member_that_comes_late(self, group):
        """Stopped, the replica finishes what it holds; it begins again when the other is back, a minute later."""
        before = max(group.epochs())
        with group.answers_under_way() as lost:
            shell(OTHER, f"systemctl stop {group.unit}")
        assert lost == [], "a stop cut a request"
        time.sleep(60)
        told = group.guard(HEAD)
        assert told["state"] == "meeting" and f"waits at port 29501 for {OTHER} ({OTHER_ADDRESS})" in told["reason"]
        shell(OTHER, f"systemctl start {group.unit}")
        begun = time.monotonic()
        eventually(lambda: group.epochs() == [before + 1] * 2, 60, "met")
        met = time.monotonic() - begun
        eventually(lambda: group.front_door.answers("tiny"), BACK_WITHIN_S, "serves")
        print(f"\n{self.executor}: a member 60 s late: met {met:.0f} s, serves {time.monotonic() - begun:.0f} s")


class TestHostsOverRay(Faults):
    executor = "ray"

    def test_another_token_is_refused_in_words(self, group):
        """The host with another token meets nobody; with the right one all begin again."""
        before, path = max(group.epochs()), f"/etc/gpufleet/serve/{group.replica}.env"
        shell(OTHER, f"cp -p {path} /root/env && sed -i 's/^RAY_AUTH_TOKEN=.*/RAY_AUTH_TOKEN={'x' * 32}/' {path}")
        shell(OTHER, f"systemctl restart {group.unit}")
        refusal = f"{OTHER} has another Ray token than {HEAD}: run site.yml on both"
        eventually(lambda: refusal in group.guard(OTHER).get("reason", ""), 60, "refused")
        shell(OTHER, f"cp -p /root/env {path} && systemctl restart {group.unit}")
        eventually(lambda: group.epochs() == [before + 1] * 2, 60, "met")
        eventually(lambda: group.front_door.answers("tiny"), BACK_WITHIN_S, "serves")


def test_a_pipeline_over_ray(group, layouts):
    layouts(**PIPELINE)
    assert group.front_door.ask("tiny", max_tokens=8)


def test_a_pipeline_without_ray(group, layouts):
    layouts(**PIPELINE, distributed_executor_backend="auto")
    assert group.front_door.ask("tiny", max_tokens=8)
    for host in HOSTS:
        assert not shell(host, "pgrep -af '[r]ay::|[r]aylet'", check=False), f"{host}: Ray is left"


class TestHostsWithoutRay(Faults):
    executor = "mp"

    def test_killed_worker(self, group):
        group.heals("mp: kill -9 of the other host's worker", 10, kill(OTHER, "'[V]LLM::Worker'"))

    def test_killed_engine(self, group):
        group.heals("mp: kill -9 of the head's engine core", 10, kill(HEAD, "'[V]LLM::EngineCore'"))


def test_nothing_of_it_answers_who_is_not_of_it(fleet):
    fleet.run("playbooks/audit.yml").expect(0)


def test_reset_takes_the_group_and_its_perimeter_away(fleet):
    fleet.run("playbooks/reset.yml", "-e", "fleet_confirm_reset=inventory").expect(0)
    for host in HOSTS:
        assert not shell(host, "nft list tables | grep gpufleet; pgrep -u vllm", check=False)
        assert not shell(host, "ls -d /etc/gpufleet/serve /usr/local/lib/gpufleet 2>/dev/null", check=False)
    fleet.run("playbooks/reset.yml", "-e", "fleet_confirm_reset=inventory").expect_unchanged()
