# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replicas over several hosts: how they are cut, where they go, and how they change, seen through whole plans."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.fleets import (
    LLAMA_70B,
    PUBLIC,
    applied,
    cpu_host,
    facts,
    gpu,
    gpu_host,
    host,
    model,
    planned,
    refusals,
    shape,
    warnings,
)

HUGE = LLAMA_70B | {"num_hidden_layers": 126, "hidden_size": 16384, "intermediate_size": 53248,
                    "num_attention_heads": 128}  # fmt: skip
SHAPES = {"huge": shape(HUGE), "large": shape(LLAMA_70B), "tiny": shape()}
ONE = [model("huge", max_model_len=8192, replica_count=1)]


def inputs(models, hosts, previous=None, **settings):
    return {"models": models, "hosts": hosts, "shapes": SHAPES, "previous": previous, "settings": PUBLIC | settings}


def make(models, hosts, previous=None, **settings):
    return planned(**inputs(models, hosts, previous, **settings))


def servers(*numbers, count=8):
    return {f"gpu{number}": gpu_host(number, count=count) for number in numbers}


def answering(number, *interfaces, count=8, **words):
    """A host whose GPUs and interfaces were read."""
    found = [
        {"name": name, "state": "up", "addresses": [{"address": address, "prefix": 24}]} for name, address in interfaces
    ]
    gpus = [gpu(index, uuid=f"GPU-{number}-{index}") for index in range(count)]
    told = facts(*gpus, interfaces=found, default_address=f"10.0.0.{number}")
    return host(number, address=None, facts=told, reachable=True, **words)


def pair(*further):
    return {f"gpu{n}": answering(n, ("eth0", f"10.0.0.{n}"), *further) for n in (1, 2)}


def unit(made, name, at):
    return next(unit for unit in made["shares"][at]["serve"]["serve_units"] if unit["name"] == name)


def hosts_of(made):
    return {
        r["name"]: [member["host"] for member in (r["group"] or {"members": []})["members"]] for r in made["replicas"]
    }


def steps(made):
    return [(step["action"], step["replica"], step["hosts"]) for step in made["steps"]]


def test_a_model_that_one_host_cannot_hold_is_tensor_parallel_inside_hosts_and_pipeline_parallel_over_them():
    made = make(ONE, servers(1, 2, 3))
    (entry,) = made["models"]
    assert (entry["tensor_parallel_size"], entry["pipeline_parallel_size"], entry["nnodes"]) == (8, 2, 2)
    assert entry["tier"] == 3
    assert "executor mp: the engine spans 2 hosts by itself" in entry["reason"]
    (replica,) = made["replicas"]
    assert [(rank["host"], rank["pp_rank"]) for rank in replica["ranks"]] == [("gpu1", 0)] * 8 + [("gpu2", 1)] * 8
    head, other = unit(made, "huge-0", "gpu1"), unit(made, "huge-0", "gpu2")
    assert (head["address"], head["port"]) == (other["address"], other["port"]) == ("10.0.0.1", 8000)
    assert [each["group"]["node_rank"] for each in (head, other)] == [0, 1]
    assert head["config"] == other["config"]
    assert made["warnings"] == []


OVER_RAY = [ONE[0] | {"distributed_executor_backend": "ray"}]


def test_over_ray_only_where_that_is_asked_for_and_the_plan_says_so():
    (entry,) = make(OVER_RAY, pair())["models"]
    assert entry["distributed_executor_backend"] == "ray"
    assert "executor ray as asked for: each replica has a Ray cluster of its own" in entry["reason"]
    (replica,) = make(OVER_RAY, pair())["replicas"]
    assert (replica["executor"], replica["group"]["ray_port"]) == ("ray", 20000)
    for word in ("auto", "mp"):
        (replica,) = make([ONE[0] | {"distributed_executor_backend": word}], pair())["replicas"]
        assert (replica["executor"], replica["group"]["ray_port"]) == ("mp", None)


def test_over_ray_each_host_is_told_the_ports_of_the_cluster():
    made = make(OVER_RAY, pair(), ray_port=21000)
    for at in ("gpu1", "gpu2"):
        told = unit(made, "huge-0", at)
        assert (told["config"]["distributed_executor_backend"], told["group"]["ray_port"]) == ("ray", 21000)


def test_clusters_that_share_a_host_have_ports_of_their_own_and_keep_them():
    asked = [
        model("tiny", pipeline_parallel_size=3, tensor_parallel_size=1, replica_count=2)
        | {"distributed_executor_backend": "ray"}
    ]
    hosts = {f"c{n}": cpu_host(n, 2) for n in (1, 2, 3)}
    made = make(asked, hosts)
    blocks = {replica["name"]: replica["group"]["ray_port"] for replica in made["replicas"]}
    assert blocks == {"tiny-0": 20000, "tiny-1": 20064}
    past = applied(made)
    for told in past["hosts"].values():
        told["roles"]["serve"]["options"]["serve_units"] = [
            each for each in told["roles"]["serve"]["options"]["serve_units"] if each["name"] == "tiny-1"
        ]
        told["replicas"].pop("tiny-0")
    again = make(asked, hosts, past)
    assert {replica["name"]: replica["group"]["ray_port"] for replica in again["replicas"]} == blocks
    assert steps(again) == [("start", "tiny-0", ["c1", "c2", "c3"])]


def test_clusters_keep_away_from_what_else_the_fleet_listens_on():
    asked = [model("tiny", tensor_parallel_size=2, replica_count=1) | {"distributed_executor_backend": "ray"}]
    hosts = {"c1": cpu_host(1, 1), "c2": cpu_host(2, 1)}
    (replica,) = make(asked, hosts, ray_port=7990)["replicas"]
    assert (replica["port"], replica["group"]["ray_port"]) == (8000, 8054)


def test_without_room_for_a_cluster_the_port_to_lower_is_named():
    refusal = refusals(**inputs(OVER_RAY, pair(), ray_port=65500))["no_free_ports"]
    assert refusal["subject"] == "huge-0" and "gpu1, gpu2" in refusal["reason"]
    assert "lower fleet_ray_port" in refusal["remedies"][0]


def test_ray_is_for_several_hosts_with_gpus():
    small = [model("large", replica_count=1) | {"distributed_executor_backend": "ray"}]
    assert "runs without" in warnings(**inputs(small, servers(1, count=4)))["ray_not_needed"]["reason"]
    assert make(small, servers(1, count=4))["replicas"][0]["executor"] == "mp"
    on_cpu = [model("tiny", tensor_parallel_size=2, replica_count=1) | {"distributed_executor_backend": "ray"}]
    assert "ray_on_cpu" in warnings(**inputs(on_cpu, {"c1": cpu_host(1, 1), "c2": cpu_host(2, 1)}))


def test_another_executor_is_another_unit():
    before = make(ONE, pair())
    held = make(OVER_RAY, pair(), applied(before))
    assert "distributed_executor_backend from mp to ray" in held["held"][0]["reason"]
    after = make(OVER_RAY, pair(), applied(before), allow_restart=True)
    assert steps(after) == [(action, "huge-0", ["gpu1", "gpu2"]) for action in ("drain", "stop", "start")]


def test_ports_of_ray_are_closed_to_all_but_the_hosts_of_the_replica():
    made = make(OVER_RAY, pair() | {"gpu3": answering(3, ("eth0", "10.0.0.3"))})
    doors = [door for door in made["perimeter"]["doors"] if door["purpose"] == "Ray of replica huge-0"]
    assert [(door["host"], door["first_port"], door["last_port"]) for door in doors] == [
        ("gpu1", 20000, 20063),
        ("gpu2", 20000, 20063),
    ]
    assert [[source["name"] for source in door["sources"]] for door in doors] == [["gpu2"], ["gpu1"]]


def test_what_one_host_can_hold_stays_inside_it():
    (entry,) = make([model("large", replica_count=1)], servers(1, 2, count=2))["models"]
    assert entry["nnodes"] == 1


def test_the_fewest_hosts_are_taken_that_hold_it():
    assert hosts_of(make(ONE, servers(1, 2, 3, 4, count=4))) == {"huge-0": ["gpu1", "gpu2", "gpu3"]}


def test_layers_are_cut_between_hosts_only_where_that_is_asked_for_and_never_silently():
    asked = [model("huge", max_model_len=8192, tensor_parallel_size=16, replica_count=1)]
    assert "waits for the network" in warnings(**inputs(asked, servers(1, 2)))["tensor_parallel_over_hosts"]["reason"]
    (entry,) = make(asked, servers(1, 2))["models"]
    assert (entry["tensor_parallel_size"], entry["nnodes"], entry["capacity"]) == (16, 2, None)


def test_ranks_on_single_cpus_span_hosts_too():
    asked = [model("tiny", tensor_parallel_size=2, replica_count=1)]
    made = make(asked, {"cpu1": cpu_host(1, 1), "cpu2": cpu_host(2, 1)})
    assert hosts_of(made) == {"tiny-0": ["cpu1", "cpu2"]}
    assert unit(made, "tiny-0", "cpu2")["devices"] == ["cpu:0"]


def test_a_cpu_host_gives_the_ram_of_its_own_ranks_only():
    asked = [model("tiny", tensor_parallel_size=2, replica_count=1)]
    machine = {"memory_total_bytes": 5 * 2**30, "default_address": None}
    found = {}
    for number in (1, 2):
        addresses = [{"address": f"10.0.0.{number}", "prefix": 24}]
        told = facts(state="no_gpu", interfaces=[{"name": "eth0", "state": "up", "addresses": addresses}], **machine)
        found[f"cpu{number}"] = cpu_host(number, 1, facts=told, reachable=True)
    assert hosts_of(make(asked, found)) == {"tiny-0": ["cpu1", "cpu2"]}


def test_two_groups_with_one_head_have_ports_of_their_own():
    asked = [model("tiny", pipeline_parallel_size=3, tensor_parallel_size=1, replica_count=2)]
    made = make(asked, {f"c{n}": cpu_host(n, 2) for n in (1, 2, 3)})
    assert made["refusals"] == []
    places = {(replica["head"], replica["port"], replica["group"]["master_port"]) for replica in made["replicas"]}
    assert places == {("c1", 8000, 29501), ("c1", 8001, 29517)}


def test_as_many_groups_are_found_as_there_can_be():
    """The host with the most room gives each group a share; taken in order, two hosts would be left over alone."""
    hosts = {"c1": cpu_host(1, 1), "c2": cpu_host(2, 1), "c3": cpu_host(3, 1), "c4": cpu_host(4, 1)}
    asked = [model("tiny", tensor_parallel_size=2, replica_count=2)]
    assert hosts_of(make(asked, hosts)) == {"tiny-0": ["c1", "c2"], "tiny-1": ["c3", "c4"]}
    refusal = refusals(**inputs([asked[0] | {"replica_count": 3}], hosts))["not_enough_devices"]
    assert "needs 3 replicas of 1 device in each of 2 hosts" in refusal["reason"]
    assert "room for 2" in refusal["reason"]


def test_the_common_subnet_is_found_among_other_networks():
    bridge = [("docker0", "172.17.0.1")]
    hosts = {
        "gpu1": answering(1, *bridge, ("ens3", "192.168.7.1"), ("eth0", "10.0.0.1")),
        "gpu2": answering(2, *bridge, ("eth1", "10.0.0.2"), ("ens3", "192.168.8.1")),
    }
    (replica,) = make(ONE, hosts)["replicas"]
    assert replica["group"]["subnet"] == "10.0.0.0/24"
    members = [(m["host"], m["address"], m["gloo_interface"]) for m in replica["group"]["members"]]
    assert members == [("gpu1", "10.0.0.1", "eth0"), ("gpu2", "10.0.0.2", "eth1")]


def test_the_fabric_interface_that_an_inventory_names_is_used():
    hosts = {
        f"gpu{n}": answering(
            n, ("eth0", f"10.0.0.{n}"), ("ib0", f"10.7.0.{n}"),
            fleet_fabric_interface="ib0", fleet_rdma_devices=["mlx5_0"],
        )
        for n in (1, 2)
    }  # fmt: skip
    made = make(ONE, hosts)
    assert unit(made, "huge-0", "gpu2")["group"] == {
        "node_rank": 1,
        "hosts": ["gpu1", "gpu2"],
        "addresses": ["10.7.0.1", "10.7.0.2"],
        "master_port": 29501,
        "gloo_interface": "ib0",
        "nccl_interfaces": ["ib0"],
        "rdma_devices": ["mlx5_0"],
    }


def test_hosts_without_a_common_subnet_are_named_with_what_they_have():
    hosts = {"gpu1": answering(1, ("eth0", "10.0.0.1")), "gpu2": answering(2, ("eth0", "10.0.9.2"))}
    refusal = refusals(**inputs(ONE, hosts))["no_common_network"]
    assert "gpu1 and gpu2 share no subnet" in refusal["reason"]
    assert "gpu1 has 10.0.0.1 on eth0 (10.0.0.0/24); gpu2 has 10.0.9.2 on eth0" in refusal["reason"]
    assert "addresses in one subnet" in refusal["remedies"][0]


def test_a_bridge_that_every_host_has_is_no_common_subnet():
    hosts = {f"gpu{n}": answering(n, ("enp1s0", f"10.0.{n}.1"), ("vmnet8", "172.17.0.1")) for n in (1, 2)}
    assert "no_common_network" in refusals(**inputs(ONE, hosts))


def test_rdma_devices_have_names():
    hosts = servers(1) | {"gpu2": gpu_host(2, fleet_rdma_devices=["mlx5_0; rm"])}
    assert "bad_value" in refusals(**inputs(ONE, hosts))


@pytest.mark.parametrize(("tier", "allowed"), [(2, False), (3, True), (4, True), ("auto", True)])
def test_several_hosts_are_tier_3(tier, allowed):
    made = planned(**inputs(ONE, servers(1, 2), tier=tier))
    assert [refusal["code"] for refusal in made["refusals"]] == ([] if allowed else ["tier_too_low"])


def test_a_model_too_large_for_all_is_told_how_many_hosts_would_do():
    refusal = refusals(**inputs(ONE, servers(1)))["model_too_large"]
    assert "use 2 hosts with 8 x H100-SXM-80GB each, in one subnet" in refusal["remedies"]


def test_a_group_that_runs_is_left_alone_and_moved_by_no_new_host():
    before = make(ONE, pair())
    assert make(ONE, pair(), applied(before))["steps"] == []
    more = pair() | {"gpu0": answering(9, ("eth0", "10.0.0.9"), count=16)}
    after = make(ONE, more, applied(before))
    assert (after["steps"], after["held"]) == ([], [])


def test_a_group_starts_and_restarts_on_all_its_hosts_at_once():
    before = make(ONE, pair())
    assert steps(before) == [("start", "huge-0", ["gpu1", "gpu2"])]
    changed = [ONE[0] | {"max_num_seqs": 8}]
    held = make(changed, pair(), applied(before))
    assert [item["replica"] for item in held["held"]] == ["huge-0"]
    assert "max_num_seqs from unset to 8" in held["held"][0]["reason"]
    after = make(changed, pair(), applied(before), allow_restart=True)
    assert steps(after) == [(action, "huge-0", ["gpu1", "gpu2"]) for action in ("drain", "stop", "start")]
    assert after["waves"] == {"serial": [["gpu1", "gpu2"]], "together": []}


def test_a_change_of_one_rank_restarts_the_group_once():
    before, hosts = make(ONE, pair()), pair()
    hosts["gpu2"]["fleet_rdma_devices"] = ["mlx5_0"]
    after = make(ONE, hosts, applied(before), allow_restart=True)
    assert steps(after) == [(action, "huge-0", ["gpu1", "gpu2"]) for action in ("drain", "stop", "start")]


def test_a_group_that_is_no_longer_wanted_goes_as_a_whole():
    before = make(
        ONE + [model("tiny", replica_count=1)], pair() | {"gpu3": answering(3, ("eth0", "10.0.0.3"), count=1)}
    )
    hosts = pair() | {"gpu3": answering(3, ("eth0", "10.0.0.3"), count=1)}
    after = make([model("tiny", replica_count=1)], hosts, applied(before))
    assert steps(after) == [("drain", "huge-0", ["gpu1", "gpu2"]), ("remove", "huge-0", ["gpu1", "gpu2"])]
    assert after["diff"]["removed"] == ["huge-0"]


def test_a_host_that_does_not_answer_leaves_its_group_as_it_is():
    before = make(ONE, pair())
    hosts = pair() | {"gpu2": host(2, reachable=False)}
    after = make(ONE, hosts, applied(before, silent=("gpu2",)), allow_unreachable=True)
    assert (after["steps"], hosts_of(after)) == ([], hosts_of(before))
    assert after["shares"]["gpu1"]["serve"] == before["shares"]["gpu1"]["serve"]


def test_a_lost_host_is_replaced_and_the_rest_of_its_group_goes_along():
    before = make(ONE, pair())
    hosts = pair() | {"gpu2": host(2, reachable=False), "gpu3": answering(3, ("eth0", "10.0.0.3"))}
    past = applied(before, live=False, silent=("gpu2",))
    after = make(ONE, hosts, past, lost_hosts=["gpu2"])
    assert hosts_of(after) == {"huge-0": ["gpu1", "gpu3"]}
    assert steps(after) == [("restart", "huge-0", ["gpu1", "gpu3"])]
    assert after["waves"]["serial"] == []


def test_with_leave_a_group_that_serves_gives_up_a_host_in_one_turn():
    before = make(ONE, pair())
    hosts = {"gpu1": pair()["gpu1"], "gpu3": answering(3, ("eth0", "10.0.0.3"))}
    hosts["gpu2"] = answering(2, ("eth0", "10.0.0.2"), count=1)
    after = make(ONE, hosts, applied(before), allow_restart=True)
    assert hosts_of(after) == {"huge-0": ["gpu1", "gpu3"]}
    assert [(action, hosts) for action, _name, hosts in steps(after)] == [
        ("drain", ["gpu1", "gpu2"]),
        ("stop", ["gpu1", "gpu2"]),
        ("start", ["gpu1", "gpu3"]),
        ("drain", ["gpu2"]),
        ("remove", ["gpu2"]),
    ]
    assert after["waves"]["serial"] == [["gpu1", "gpu2", "gpu3"]]


def test_a_group_whose_record_is_gone_on_one_host_is_made_whole():
    before = make(ONE, pair())
    past = applied(before, live=False)
    past["hosts"]["gpu2"] = {"roles": {}, "replicas": {}}
    after = make(ONE, pair(), past)
    assert after["id"] == before["id"]
    assert steps(after) == [("restart", "huge-0", ["gpu1", "gpu2"])]


@pytest.mark.parametrize(
    "damage",
    [
        lambda unit: unit.pop("group"),
        lambda unit: unit["group"].update(hosts=["gpu1"]),
        lambda unit: unit["group"].update(master_port="x"),
        lambda unit: unit["config"].update(nnodes=3),
    ],
)
def test_a_record_of_a_group_that_cannot_be_read_is_taken_as_absent(damage):
    past = copy.deepcopy(applied(make(ONE, pair()), live=False))
    damage(past["hosts"]["gpu1"]["roles"]["serve"]["options"]["serve_units"][0])
    assert "applied_unreadable" in [warning["code"] for warning in make(ONE, pair(), past)["warnings"]]
