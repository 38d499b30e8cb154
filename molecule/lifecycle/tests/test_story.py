# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of a fleet after its first day, in order: each test begins where the one before it ended."""

from __future__ import annotations

import pytest
from harness import (
    Fleet,
    FrontDoor,
    Run,
    difference,
    eventually,
    left_by_benchmarks,
    main_pid,
    measured,
    shell,
    snapshot,
    stop,
)

NODE1, NODE2, GATEWAY = "lifecycle-node1", "lifecycle-node2", "lifecycle-gw"
REPLICAS = {"tiny-0": NODE1, "tiny-1": NODE2}


def pids() -> dict[str, int]:
    return {replica: main_pid(host, replica) for replica, host in REPLICAS.items()}


def traces(host: str, word: str) -> str:
    """Every place on a host where a word is left in the collection's files, units or processes."""
    return shell(
        host,
        f"grep -rl {word} /etc/gpufleet /etc/nginx /etc/systemd/system /etc/ansible/facts.d 2>/dev/null; "
        f"find /etc /var/lib/gpufleet /var/cache/gpufleet -name '*{word}*' 2>/dev/null; "
        f"systemctl list-units --all --plain --no-legend '*{word}*'; pgrep -af '{word}' | grep -v pgrep",
        check=False,
    )


@pytest.fixture(scope="module")
def two_models(fleet: Fleet) -> Fleet:
    first = fleet.variables["fleet_models"][0]
    second = {**first, "name": "zebra", "tensor_parallel_size": 1, "replica_count": 1}
    return fleet.changed(fleet_models=[{**first, "default": True}, second])


def test_without_plan_json_and_from_another_folder_nothing_changes(fleet, tmp_path):
    before = pids()
    (fleet.folder.parent / "plan.json").unlink(missing_ok=True)
    fleet.run(cwd=tmp_path).expect_unchanged()
    assert pids() == before


def test_what_engines_got_is_read_back_once_and_moves_nothing(fleet):
    before = pids()
    run = fleet.run("playbooks/verify.yml").expect(0)
    assert "Predicted beside measured" in run.words
    for replica, host in REPLICAS.items():
        told = measured(host)[replica]
        assert (told["kv_blocks"], told["block_size"], told["kv_tokens"]) == (8192, 128, 1048576)
        assert told["predicted"]["kv_blocks"] == told["kv_blocks"]
    fleet.run("playbooks/verify.yml").expect_unchanged()
    assert pids() == before


@pytest.fixture
def benchmark(fleet: Fleet):
    def drive(**wishes: object) -> Run:
        return fleet.run(
            "playbooks/benchmark.yml",
            *(word for key, value in wishes.items() for word in ("-e", f"benchmark_{key}={value}")),
        )

    return drive


def test_a_benchmark_says_what_it_does_keeps_what_came_and_moves_nothing(fleet, benchmark):
    before = pids()
    run = benchmark(replica="tiny-1", concurrency=3, prompt_tokens=20, output_tokens=10, num_prompts=12).expect(0)
    assert "12 requests of 20 prompt and 10 output tokens, 3 at once, at tiny-1" in run.words
    assert "requests/s" in run.words
    told = measured(NODE2)["tiny-1"]["benchmark"]
    assert (told["concurrency"], told["num_prompts"], told["tool"]) == (3, 12, "vllm bench serve 0.32.0+cpu")
    assert told["requests_per_second"] > 0
    assert left_by_benchmarks(NODE2) == ""
    fleet.run().expect_unchanged()
    assert pids() == before
    assert measured(NODE2)["tiny-1"]["benchmark"] == told


def test_a_benchmark_that_takes_too_long_is_ended_and_leaves_nothing(benchmark):
    before = measured(NODE1)
    run = benchmark(
        replica="tiny-0", concurrency=1, prompt_tokens=20, output_tokens=900, num_prompts=200, time_limit=5
    ).expect(2)
    assert "not done after 5 s, and ended" in run.words
    assert left_by_benchmarks(NODE1) == ""
    assert measured(NODE1) == before


def test_a_benchmark_of_a_replica_that_is_not_there_names_those_that_are(benchmark):
    run = benchmark(replica="tiny-7").expect(2)
    assert "tiny-7 does not answer: name one that does: benchmark_replica=tiny-0, tiny-1" in run.words


def test_no_secret_is_in_any_output_plan_fact_or_process_list(fleet):
    secrets = [
        (fleet.secrets / "engine.key").read_text(encoding="ascii"),
        fleet.variables["gateway_keys"][0]["key"],
        (fleet.secrets / "gateway.key").read_text(encoding="ascii").splitlines()[1],
    ]
    run = fleet.run("site.yml", "-vvv", "--diff").expect(0)
    places = {"output": run.output, "plan.json": (fleet.folder.parent / "plan.json").read_text(encoding="utf-8")}
    for host in (NODE1, NODE2, GATEWAY):
        places[f"facts of {host}"] = shell(host, "cat /etc/ansible/facts.d/* /var/lib/gpufleet/plan.json", check=False)
        places[f"processes of {host}"] = shell(host, "ps axww")
        places[f"journal of {host}"] = shell(
            host, "journalctl --no-pager -n 5000; cat /var/log/nginx/*.log", check=False
        )
        readable = "find / -xdev -type f -perm /044 \\( -path '/etc/*' -o -path '/var/*' -o -path '/run/*' \\)"
        for secret in secrets:
            places[f"world-readable files of {host}"] = shell(
                host, f"{readable} -exec grep -l -F -e '{secret}' {{}} +", check=False
            )
            assert places[f"world-readable files of {host}"] == ""
    for place, text in places.items():
        for secret in secrets:
            assert secret not in text, place


def test_a_changed_setting_does_not_touch_a_live_replica(fleet):
    first = fleet.variables["fleet_models"][0]
    before, look = pids(), snapshot(list(REPLICAS.values()))
    run = fleet.changed(fleet_models=[{**first, "max_num_seqs": 4}]).run().expect(2)
    assert "fleet_allow_restart=true" in run.words
    assert "tiny-0" in run.words and "tiny-1" in run.words
    assert pids() == before
    assert difference(look, snapshot(list(REPLICAS.values()))) == {}


def test_with_leave_it_restarts_one_replica_after_the_other_and_no_request_fails(fleet, front_door: FrontDoor):
    first = fleet.variables["fleet_models"][0]
    before = pids()
    changed = fleet.changed(fleet_models=[{**first, "max_num_seqs": 4}])
    with front_door.load("tiny", clients=4, pause_s=0.05) as results:
        changed.run("site.yml", "-e", "fleet_allow_restart=true").expect(0)
    assert results["failed"] == []
    assert len(results["ok"]) > 20
    assert all(pids()[replica] != before[replica] for replica in REPLICAS)
    changed.run().expect_unchanged()
    fleet.run("site.yml", "-e", "fleet_allow_restart=true").expect(0)


def test_a_run_that_is_killed_half_way_is_finished_by_the_next(two_models, front_door):
    process = two_models.start()
    eventually(
        lambda: (
            shell(NODE1, "ls /etc/gpufleet/serve/zebra-0.yaml", check=False).startswith("/etc")
            or shell(NODE2, "ls /etc/gpufleet/serve/zebra-0.yaml", check=False).startswith("/etc")
        ),
        240,
        "the other model's unit",
    )
    assert process.poll() is None, process.stdout.read()
    stop(process)
    before = pids()
    two_models.run().expect(0)
    assert pids() == before
    assert front_door.answers("zebra") or FrontDoor(
        front_door.url.replace("/v1", "/m/zebra/v1"), front_door.key, front_door.ca_path
    ).answers("zebra")
    two_models.run().expect_unchanged()


def test_a_removed_model_leaves_nothing_behind(fleet, front_door):
    before = pids()
    with front_door.load("tiny") as results:
        fleet.run("site.yml", "-e", "model_store_prune=true", "-e", "engine_prune=true").expect(0)
    assert results["failed"] == []
    assert pids() == before
    for host in (NODE1, NODE2, GATEWAY):
        assert traces(host, "zebra") == ""


def test_a_host_that_loses_its_last_replica_stays_in_the_fleet(fleet, front_door):
    fewer = fleet.changed(fleet_models=[fleet.variables["fleet_models"][0] | {"replica_count": 1}])
    before = main_pid(NODE1, "tiny-0")
    with front_door.load("tiny") as results:
        fewer.run().expect(0)
    assert results["failed"] == []
    assert main_pid(NODE1, "tiny-0") == before
    assert traces(NODE2, "tiny-1").split() in ([], ["/etc/ansible/facts.d/gpufleet_measured.fact"])
    last = fewer.run().expect(0)
    assert last.changed[GATEWAY] == sum(last.changed.values()) <= 1, "the plan's copy named what was removed"
    fleet.run().expect(0)
    assert main_pid(NODE2, "tiny-1") > 0


def test_a_dropped_hosts_replica_moves_and_the_host_is_named(fleet, front_door):
    def drop(hosts):
        del hosts["gpu_nodes"]["hosts"][NODE2]
        hosts["gpu_nodes"]["hosts"][NODE1]["fleet_cpu_devices"] = 4

    smaller = fleet.with_hosts(drop)
    before = main_pid(NODE1, "tiny-0")
    run = smaller.run().expect(0)
    assert f"gpufleet.serving.reset --limit {NODE2}" in run.words
    assert main_pid(NODE1, "tiny-0") == before
    assert main_pid(NODE1, "tiny-1") > 0
    assert front_door.answers("tiny")
    upstreams = shell(GATEWAY, "cat /etc/nginx/gpufleet/* /etc/nginx/gpufleet/*/* 2>/dev/null", check=False)
    assert fleet.hosts["gpu_nodes"]["hosts"][NODE2]["ansible_host"] not in upstreams
    smaller.run().expect_unchanged()
    fleet.run("playbooks/reset.yml", "-e", "fleet_confirm_reset=inventory", "--limit", NODE2).expect(0)
    assert traces(NODE2, "gpufleet") == ""


def test_reset_wants_the_inventorys_name(fleet):
    before = snapshot([NODE1, GATEWAY])
    run = fleet.run("playbooks/reset.yml").expect(2)
    assert "fleet_confirm_reset=inventory" in run.words
    assert difference(before, snapshot([NODE1, GATEWAY])) == {}


def test_reset_removes_what_the_collection_made_and_nothing_else(fleet):
    shell(GATEWAY, "echo 'server { listen 127.0.0.1:8099; }' > /etc/nginx/conf.d/site-of-somebody-else.conf")
    fleet.run("playbooks/reset.yml", "-e", "fleet_confirm_reset=inventory").expect(0)
    for host in (NODE1, GATEWAY):
        assert traces(host, "gpufleet") == ""
        assert shell(host, "ls -d /opt/gpufleet /var/lib/gpufleet /etc/gpufleet 2>/dev/null", check=False) == ""
    assert "8099" in shell(GATEWAY, "cat /etc/nginx/conf.d/site-of-somebody-else.conf")
    fleet.run("playbooks/reset.yml", "-e", "fleet_confirm_reset=inventory").expect_unchanged()
