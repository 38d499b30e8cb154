# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every fault of a replica over several hosts, with the real engine, over Ray and by itself; in order.

Every fault prints how long it took to be noticed and to be over.
"""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._openai import CompletionError
from faults import Faults
from groups import Group, kill
from harness import eventually, main_pid, shell
from operations import AtItsEnd, WhileItServes

HEAD, OTHER = HOSTS = ("groups-node1", "groups-node2")
SPARE, SPARE_ADDRESS = "groups-node3", "10.89.77.134"
HEAD_ADDRESS, OTHER_ADDRESS = ADDRESSES = ("10.89.77.132", "10.89.77.133")
ENGINE = "/opt/gpufleet/engine/cpu-0.32.0/bin"
# compiled: a pipeline on CPUs fails without
PIPELINE = {"tensor_parallel_size": 1, "pipeline_parallel_size": 2, "engine_args": {}}
LONGEST_PROMPT = 4000
MIXED_LOAD_S = float(os.environ.get("GPUFLEET_MIXED_LOAD_S", "1800"))


@pytest.fixture(scope="session")
def group(front_door):
    return Group("tiny-0", "tiny", HOSTS, ADDRESSES, front_door)


@pytest.fixture(scope="session")
def layouts(fleet, group):
    """Brings the replica to another layout or executor, once; a change restarts the whole group, and only once."""

    def change(group=group, **words):
        fleet.variables["fleet_models"][0] |= words
        before = max(group.epochs())
        fleet.run("site.yml", "-e", "fleet_allow_restart=true").expect(0)
        assert group.epochs() == [before + 1] * len(group.hosts), "a change is to restart the group once"

    return change


class TestTensorParallelOverRay(WhileItServes):
    def test_a_completion_comes_through_the_gateway(self, group):
        assert group.front_door.ask("tiny", max_tokens=8)
        for host in HOSTS:
            assert "ray::RayWorkerProc" in shell(host, "pgrep -af ray::"), f"{host} has no rank"

    def test_a_node_with_another_token_is_refused_by_ray_itself(self, group):
        place = f"{HEAD_ADDRESS}:{group.engines_port()}"
        start = f"ray start --block --address={place} --node-ip-address={OTHER_ADDRESS} --num-gpus=1"
        for token in ("RAY_AUTH_TOKEN=of-somebody-else-altogether", ""):
            said = shell(OTHER, f"RAY_AUTH_MODE=token {token} timeout 100 {ENGINE}/{start} 2>&1", check=False)
            assert "AuthenticationError" in said, said[-2000:]
        assert group.front_door.answers("tiny")

    def test_killed_raylet(self, group):
        group.heals("ray: kill -9 of the other host's raylet", 10, kill(OTHER, "raylet/[r]aylet"))

    def test_killed_worker(self, group):
        group.heals("ray: kill -9 of the other host's worker", 10, kill(OTHER, "'ray::[R]ayWorkerProc'"))

    def test_killed_engine(self, group):
        group.heals("ray: kill -9 of the head's engine core", 10, kill(HEAD, "'[V]LLM::EngineCore'"))


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
        group.begins_again(before)

    def test_another_release_is_refused_in_words(self, group):
        before, folder = max(group.epochs()), f"{ENGINE}/../lib/python3.*/site-packages"
        shell(OTHER, f"cd {folder} && for each in ray-*.dist-info; do mv $each /root/ && mkdir ray-2.1.dist-info; done")
        shell(OTHER, f"systemctl restart {group.unit}")
        eventually(lambda: f"{OTHER} has Ray 2.1 on" in group.guard(OTHER).get("reason", ""), 60, "refused")
        shell(OTHER, f"cd {folder} && rmdir ray-2.1.dist-info && mv /root/ray-*.dist-info .")
        shell(OTHER, f"systemctl restart {group.unit}")
        group.begins_again(before)


def test_a_head_and_two_workers_over_ray(group, layouts):
    three = replace(group, hosts=(*HOSTS, SPARE), addresses=(*ADDRESSES, SPARE_ADDRESS))
    layouts(three, **PIPELINE | {"pipeline_parallel_size": 3})
    assert three.front_door.ask("tiny", max_tokens=8)
    for host in three.hosts:
        assert "ray::RayWorkerProc" in shell(host, "pgrep -af ray::"), f"{host} has no rank"
    three.heals("ray, three hosts: kill -9 of a worker", 10, kill(SPARE, "'ray::[R]ayWorkerProc'"))


def test_a_pipeline_over_ray(group, layouts):
    layouts(**PIPELINE)
    assert group.front_door.ask("tiny", max_tokens=8)


def test_a_pipeline_without_ray(group, layouts):
    layouts(**PIPELINE, distributed_executor_backend="auto")
    assert group.front_door.ask("tiny", max_tokens=8)
    for host in HOSTS:
        assert not shell(host, "pgrep -af '[r]ay::|[r]aylet'", check=False), f"{host}: Ray is left"


class TestHostsWithoutRay(Faults):
    def test_killed_worker(self, group):
        group.heals("mp: kill -9 of the other host's worker", 10, kill(OTHER, "'[V]LLM::Worker'"))

    def test_killed_engine(self, group):
        group.heals("mp: kill -9 of the head's engine core", 10, kill(HEAD, "'[V]LLM::EngineCore'"))


def ask_in_every_way(front_door, until, lost):
    """Short answers, long ones, the longest prompts many at once, and nothing at all: each for as long as it likes."""
    dice, lock = random.Random(0), threading.Lock()

    def ask(max_tokens, prompt):
        try:
            front_door.ask("tiny", max_tokens, timeout_s=300, prompt=prompt)
        except CompletionError as error:
            with lock:
                lost.append(str(error))

    asked = 0
    while time.monotonic() < until:
        tokens, length, clients = dice.choice(
            [(8, 40, 4), (600, 40, 2), (8, LONGEST_PROMPT, 32), (64, LONGEST_PROMPT, 8)]
        )
        # no two prompts begin alike, or the second would find its prefix computed
        prompts = [f"{asked + client:08} " + "x" * (length - 9) for client in range(clients)]
        threads = [threading.Thread(target=ask, args=(tokens, prompt)) for prompt in prompts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asked += clients
        time.sleep(dice.choice([0, 0, 1, 60]))
    return asked


def test_the_watchdog_shoots_no_engine_that_works(group):
    before, lost = ([main_pid(host, group.replica) for host in HOSTS], group.epochs()), []
    asked = ask_in_every_way(group.front_door, time.monotonic() + MIXED_LOAD_S, lost)
    print(f"\nmixed load for {MIXED_LOAD_S / 60:.0f} min: {asked} requests, {len(lost)} lost")
    assert not lost
    assert before == ([main_pid(host, group.replica) for host in HOSTS], group.epochs())


def test_another_host_takes_the_place_of_one_that_is_gone(group, fleet):
    subprocess.run(["podman", "kill", OTHER], check=True, capture_output=True)
    try:
        fleet.changed(fleet_lost_hosts=[OTHER]).run("site.yml", "-e", "fleet_allow_restart=true").expect(0)
        moved = replace(group, hosts=(HEAD, SPARE), addresses=(HEAD_ADDRESS, SPARE_ADDRESS))
        assert len(set(moved.epochs())) == 1
        assert moved.front_door.ask("tiny", max_tokens=8)
    finally:
        subprocess.run(["podman", "start", OTHER], check=True, capture_output=True)
    fleet.run("site.yml", "-e", "fleet_allow_restart=true").expect(0)
    assert group.front_door.ask("tiny", max_tokens=8)


class TestAtItsEnd(AtItsEnd):
    pass
