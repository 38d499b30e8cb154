# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real engine on real systemd hosts, in order: each test begins where the one before it ended."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest
from groups import Group, kill
from harness import Fleet, FrontDoor, eventually, left_by_benchmarks, main_pid, measured, reboot, shell

REPLICAS = {"tiny-0": "fleet-node1", "tiny-1": "fleet-node2"}
ADDRESSES = ("10.89.77.72", "10.89.77.73")
# an engine of this size is back in one to two minutes on two quiet cores
BACK_WITHIN_S = 400


def metrics(fleet: Fleet, replica: str) -> str:
    """What the replica's own engine says of itself, asked on its host."""
    address = fleet.hosts["gpu_nodes"]["hosts"][REPLICAS[replica]]["ansible_host"]
    return shell(REPLICAS[replica], f"curl -s --max-time 10 http://{address}:8000/metrics", check=False)


def served(fleet: Fleet, replica: str) -> float:
    """Requests that the replica finished since it started."""
    return sum(
        float(value) for value in re.findall(r"^vllm:request_success_total\{.*\} (\S+)$", metrics(fleet, replica), re.M)
    )


def pids() -> dict[str, int]:
    return {replica: main_pid(host, replica) for replica, host in REPLICAS.items()}


def serves_again(fleet: Fleet, front_door: FrontDoor, replica: str) -> bool:
    """Whether a request that comes through the front door now may land on the replica."""
    before = served(fleet, replica)
    return (
        bool(metrics(fleet, replica))
        and front_door.answers("tiny")
        and front_door.answers("tiny")
        and served(fleet, replica) > before
    )


def test_both_replicas_serve(fleet, front_door):
    before = {replica: served(fleet, replica) for replica in REPLICAS}
    with front_door.load("tiny", clients=4, pause_s=0) as results:
        eventually(lambda: len(results["ok"]) >= 20, 120, "20 answers")
    assert results["failed"] == []
    for replica in REPLICAS:
        assert served(fleet, replica) > before[replica], replica


def test_the_planned_kv_cache_is_what_the_engine_has(fleet):
    fleet.run("playbooks/plan.yml", "-e", "survey_contact=always").expect(0)
    (model,) = fleet.plan()["models"]
    blocks = int(re.search(r'vllm:cache_config_info\{.*num_gpu_blocks="(\d+)"', metrics(fleet, "tiny-0"))[1])
    size = int(re.search(r'vllm:cache_config_info\{.*block_size="(\d+)"', metrics(fleet, "tiny-0"))[1])
    assert {(rank["kv_blocks"], rank["block_size"]) for rank in model["memory"]} == {(blocks, size)}


def test_what_was_predicted_is_what_every_engine_tells_to_the_block(fleet):
    run = fleet.run("playbooks/verify.yml").expect(0)
    assert "Predicted beside measured" in run.words
    for replica, host in REPLICAS.items():
        told = measured(host)[replica]
        assert told["kv_tokens"] == told["kv_blocks"] * told["block_size"]
        words = ("kv_blocks", "block_size", "kv_tokens", "kv_gib")
        assert {word: told[word] for word in words} == {word: told["predicted"][word] for word in words}
    assert "kv_cache_below_plan" not in run.output


def test_a_benchmark_tells_what_a_replica_does_and_changes_nothing_that_runs(fleet):
    before = pids()
    load = {"replica": "tiny-0", "concurrency": 2, "prompt_tokens": 64, "output_tokens": 16, "num_prompts": 8}
    wishes = [word for name, value in load.items() for word in ("-e", f"benchmark_{name}={value}")]
    run = fleet.run("playbooks/benchmark.yml", *wishes).expect(0)
    print(run.output[-1500:])
    assert "8 requests of 64 prompt and 16 output tokens, 2 at once, at tiny-0" in run.words
    told = measured("fleet-node1")["tiny-0"]["benchmark"]
    assert told["requests_per_second"] > 0
    assert told["output_tokens_per_second"] == pytest.approx(16 * told["requests_per_second"], rel=0.01)
    assert 0 < told["ttft_ms"]["p50"] <= told["ttft_ms"]["p99"]
    assert told["tool"] == "vllm bench serve 0.32.0"
    assert left_by_benchmarks("fleet-node1") == ""
    assert pids() == before


def test_a_second_run_changes_nothing_in_under_a_minute(fleet):
    before, begun = pids(), time.monotonic()
    run = fleet.run().expect_unchanged()
    took = time.monotonic() - begun
    assert pids() == before
    assert "RUNNING HANDLER" not in run.output
    print(f"second site.yml: {took:.0f} s")
    assert took < 90


def test_a_killed_worker_process_comes_back_and_only_what_was_in_flight_is_lost(fleet, front_door):
    clients = 2
    before = pids()["tiny-0"]
    with front_door.load("tiny", clients=clients, pause_s=2) as results:
        worker = shell("fleet-node1", "pgrep -f '[V]LLM::Worker' | head -n 1").strip()
        assert worker, shell("fleet-node1", "ps axww")
        shell("fleet-node1", f"kill -9 {worker}")
        eventually(lambda: main_pid("fleet-node1", "tiny-0") not in (0, before), 60, "a new main process")
        eventually(lambda: serves_again(fleet, front_door, "tiny-0"), BACK_WITHIN_S, "the replica serving again")
    assert len(results["failed"]) <= clients, results["failed"]
    assert pids()["tiny-1"] > 0


def test_a_restarted_host_is_back_without_ansible(fleet, front_door):
    clients = 2
    with front_door.load("tiny", clients=clients, pause_s=2) as results:
        reboot("fleet-node2")
        eventually(lambda: serves_again(fleet, front_door, "tiny-1"), BACK_WITHIN_S, "the replica serving again")
    assert len(results["failed"]) <= clients, results["failed"]
    fleet.run().expect_unchanged()


@pytest.fixture(scope="module")
def pipelined(fleet: Fleet) -> Fleet:
    first = fleet.variables["fleet_models"][0]
    return fleet.changed(fleet_models=[{**first, "tensor_parallel_size": 1, "pipeline_parallel_size": 2}])


def test_a_changed_layout_waits_for_leave(fleet, pipelined):
    before = pids()
    run = pipelined.run().expect(2)
    assert "fleet_allow_restart=true" in run.words
    assert pids() == before


def test_pipeline_stages_serve_too_and_no_request_fails_on_the_way_there(fleet, pipelined, front_door):
    before = pids()
    with front_door.load("tiny", clients=1, pause_s=1) as results:
        pipelined.run("site.yml", "-e", "fleet_allow_restart=true").expect(0)
    assert results["failed"] == []
    assert len(results["ok"]) > 20
    for replica, host in REPLICAS.items():
        assert pids()[replica] != before[replica]
        assert "pipeline-parallel-size: 2" in shell(host, f"cat /etc/gpufleet/serve/{replica}.yaml")
    assert front_door.answers("tiny")
    pipelined.run("playbooks/verify.yml").expect(0)
    told = measured("fleet-node1")["tiny-0"]
    assert told["kv_blocks"] == told["predicted"]["kv_blocks"]
    assert "benchmark" not in told, "it was of other settings"
    pipelined.run().expect_unchanged()


@pytest.fixture(scope="module")
def over_ray(fleet: Fleet) -> Fleet:
    """One replica over both hosts, of which each gives one device."""

    def shrink(hosts: dict[str, Any]) -> None:
        for host in hosts["gpu_nodes"]["hosts"].values():
            host["fleet_cpu_devices"] = 1

    model = {
        **fleet.variables["fleet_models"][0],
        "replica_count": 1,
        "distributed_executor_backend": "ray",
        "engine_env": {"PYTHONPATH": "/srv/cpu_ray"},
        # compiled engines are those of the tests before
        "engine_args": {"enforce_eager": True},
    }
    return fleet.changed(fleet_models=[model]).with_hosts(shrink)


def test_a_replica_over_ray_heals_as_one(over_ray, front_door):
    over_ray.run("site.yml", "-e", "fleet_allow_restart=true").expect(0)
    group = Group("tiny-0", "tiny", tuple(REPLICAS.values()), ADDRESSES, front_door)
    for host in group.hosts:
        assert "ray::RayWorkerProc" in shell(host, "pgrep -af ray::"), f"{host} has no rank"
    group.heals("ray: kill -9 of the other host's raylet", 10, kill(group.other, "raylet/[r]aylet"))
