# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where replicas go, and what stays where it is, seen through whole plans."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.fleets import (
    LLAMA_8B,
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

SHAPES = {"small": shape(LLAMA_8B), "large": shape(LLAMA_70B), "tiny": shape(), "other": shape()}


def make(models, hosts, previous=None, **settings):
    return planned(models=models, hosts=hosts, shapes=SHAPES, previous=previous, settings=PUBLIC | settings)


def servers(*numbers, count=8):
    return {f"gpu{number}": gpu_host(number, count=count) for number in numbers}


def seats(made):
    """Each replica as host:port/devices."""
    return {
        replica["name"]: f"{replica['head']}:{replica['port']}/"
        + ",".join(str(rank["device_index"]) for rank in replica["ranks"])
        for replica in made["replicas"]
    }


def test_one_host_is_filled_before_the_next_in_natural_order():
    made = make([model("small", replica_count=3, tensor_parallel_size=2)], servers(10, 9, count=4))
    assert seats(made) == {"small-0": "gpu9:8000/0,1", "small-1": "gpu9:8001/2,3", "small-2": "gpu10:8000/0,1"}


def test_large_replicas_are_placed_first_so_that_small_ones_do_not_break_hosts_up():
    models = [model("small", replica_count=4), model("large", tensor_parallel_size=8)]
    made = make(models, servers(1, count=8) | servers(2, count=4))
    assert seats(made)["large-0"] == "gpu1:8000/0,1,2,3,4,5,6,7"
    assert {replica["head"] for replica in made["replicas"] if replica["model"] == "small"} == {"gpu2"}


def test_priority_comes_before_size():
    models = [model("small", replica_count=8, priority=1), model("large", tensor_parallel_size=8)]
    refusal = refusals(models=models, hosts=servers(1), shapes=SHAPES, settings=PUBLIC)["not_enough_devices"]
    assert refusal["subject"] == "large"
    assert "take devices from small" in refusal["remedies"][-1]


def test_the_ports_of_a_front_door_are_left_free():
    hosts = {"gpu1": gpu_host(1, groups="gpu_nodes gateways")}
    made = make([model("small", replica_count=3)], hosts, gateway_metrics_port=8001, gateway_port=8443)
    assert [replica["port"] for replica in made["replicas"]] == [8000, 8002, 8003]


@pytest.mark.parametrize("setting", ["gateway_port", "gateway_metrics_port"])
def test_a_block_of_ports_that_begins_at_the_gateways_is_refused(setting):
    clash = {"models": [model("small")], "shapes": SHAPES, "settings": PUBLIC | {setting: 8000}}
    assert "port_clash" in refusals(hosts=servers(1), **clash)
    assert "port_clash" in refusals(hosts={"gpu1": gpu_host(1, groups="gpu_nodes gateways")}, **clash)
    assert "port_clash" not in refusals(hosts=servers(1) | {"gw": host(9, "gateways")}, **clash)


def test_the_gateway_cannot_take_the_port_of_a_replica_that_serves():
    models, hosts = [model("small", replica_count=2)], servers(1)
    asked = {"models": models, "hosts": hosts, "shapes": SHAPES, "previous": applied(make(models, hosts))}
    moved = PUBLIC | {"gateway_port": 8001}
    assert "small-1 serves on gpu1" in refusals(**asked, settings=moved)["port_clash"]["reason"]
    allowed = planned(**asked, settings=moved | {"allow_restart": True})
    assert [replica["port"] for replica in allowed["replicas"]] == [8000, 8002]


def test_a_host_without_free_ports_takes_no_more():
    assert "not_enough_devices" in refusals(
        models=[model("small", replica_count=3)],
        hosts=servers(1) | {"gw": host(9, "gateways")},
        shapes=SHAPES,
        settings=PUBLIC | {"engine_port": 65534},
    )


def test_what_runs_stays_when_an_earlier_host_comes():
    models = [model("small", replica_count=2)]
    before = make(models, servers(5))
    after = make(models, servers(1, 5), applied(before))
    assert seats(after) == seats(before)
    assert after["id"] == before["id"]
    assert after["endpoint"] == before["endpoint"]


def test_only_new_replicas_are_placed():
    hosts = servers(1, 2, count=2)
    before = make([model("small", replica_count=3)], hosts)
    after = make([model("small", replica_count=4)], hosts, applied(before))
    assert after["diff"] == {
        "added": ["small-3"],
        "moved": [],
        "removed": [],
        "restarted": [],
        "untouched": ["small-0", "small-1", "small-2"],
    }


def test_fewer_replicas_drop_the_last_ones():
    before = make([model("small", replica_count=3)], servers(1))
    after = make([model("small", replica_count=1)], servers(1), applied(before))
    assert after["diff"]["removed"] == ["small-1", "small-2"]
    assert [(step["action"], step["replica"]) for step in after["steps"]] == [
        ("drain", "small-1"),
        ("remove", "small-1"),
        ("drain", "small-2"),
        ("remove", "small-2"),
    ]


def test_a_plan_by_index_and_one_by_uuid_are_the_same_place():
    """GPUs of a bare host get their names when the driver comes; the replica keeps its seat."""
    before = make([model("small", replica_count=2)], servers(1, count=2))
    told = {"gpu1": gpu_host(1, count=2, facts=facts(gpu(0), gpu(1)), reachable=True)}
    after = make([model("small", replica_count=2)], told, applied(before, live=False))
    assert seats(after) == seats(before)
    assert [rank["device"] for replica in after["replicas"] for rank in replica["ranks"]] == [
        "GPU-00000000",
        "GPU-00000001",
    ]


def test_a_gpu_that_is_gone_moves_its_replica():
    def told(*indexes):
        gpus = [gpu(index) for index in indexes]
        return {"gpu1": host(1, facts=facts(*gpus), reachable=True)} | servers(2, count=2)

    before = make([model("small", replica_count=2)], told(0, 1))
    after = make([model("small", replica_count=2)], told(1), applied(before, live=False))
    assert after["diff"]["moved"] == ["small-0"]
    assert after["diff"]["untouched"] == ["small-1"]


def test_a_larger_layout_stays_on_the_host_of_before_if_it_has_room():
    hosts = servers(1, 2)
    both = [model("other", tensor_parallel_size=4, priority=1), model("small", replica_count=1)]
    before = make(both, hosts)
    assert seats(before)["small-0"].startswith("gpu1")
    moved = applied(make([model("small", replica_count=1)], servers(2)), live=False)
    after = make([model("small", tensor_parallel_size=4)], hosts, moved)
    assert seats(after)["small-0"] == "gpu2:8000/0,1,2,3"


def test_models_share_a_host_of_cpus_within_its_ram():
    machine = {"memory_total_bytes": 9 * 2**30}
    hosts = {"cpu": cpu_host(1, 4, facts=facts(state="no_gpu", **machine), reachable=True)}
    assert make([model("tiny", replica_count=2)], hosts)["refusals"] == []
    refused = refusals(models=[model("tiny", replica_count=3)], hosts=hosts, shapes=SHAPES, settings=PUBLIC)
    assert "room for 2" in refused["not_enough_devices"]["reason"]


def silent(hosts, *names):
    return {name: described | {"reachable": name not in names} for name, described in hosts.items()}


def test_a_host_that_does_not_answer_stops_the_run_and_its_replicas_are_named():
    models = [model("small", replica_count=2)]
    before = make(models, servers(1, 2, count=1))
    refusal = refusals(
        models=models,
        hosts=silent(servers(1, 2, count=1), "gpu2"),
        shapes=SHAPES,
        previous=applied(before, silent=("gpu2",)),
        settings=PUBLIC,
    )["host_unreachable"]
    assert (refusal["subject"], refusal["reason"]) == ("gpu2", "does not answer; there is small-1")
    assert "fleet_allow_unreachable=true" in refusal["remedies"][1]
    assert "fleet_lost_hosts: [gpu2]" in refusal["remedies"][2]


def test_going_on_without_a_host_leaves_it_as_it_is():
    models = [model("small", replica_count=2)]
    before = make(models, servers(1, 2, count=1))
    hosts = silent(servers(1, 2, 3, count=1), "gpu2")
    after = make(models, hosts, applied(before, silent=("gpu2",)), allow_unreachable=True)
    assert seats(after) == seats(before) | {"small-1": "gpu2:8000/0"}
    assert after["shares"]["gpu2"] == before["shares"]["gpu2"]
    assert after["id"] == before["id"]
    assert after["hosts"]["gpu2"]["state"] == "unreachable"
    assert after["warnings"][0]["reason"] == "does not answer; left there as it is: small-1"
    assert "gpu2" not in after["waves"]["together"]


def test_a_model_whose_replicas_all_rest_on_silent_hosts_needs_no_other_place():
    models = [model("large", tensor_parallel_size=4), model("small")]
    hosts = servers(1, count=4) | {"gpu2": gpu_host(2, "L4-24GB", 1)}
    before = make(models, hosts)
    after = make(models, silent(hosts, "gpu1"), applied(before, silent=("gpu1",)), allow_unreachable=True)
    assert after["refusals"] == []
    assert {entry["name"]: entry["tier"] for entry in after["models"]} == {"large": 2, "small": 1}


def test_replicas_of_a_lost_host_are_served_elsewhere():
    models = [model("small", replica_count=2)]
    before = make(models, servers(1, 2, count=1))
    hosts = silent(servers(1, 2, 3, count=1), "gpu2")
    after = make(models, hosts, applied(before, silent=("gpu2",)), lost_hosts=["gpu2"])
    assert after["diff"]["moved"] == ["small-1"]
    assert seats(after)["small-1"] == "gpu3:8000/0"
    assert "gpu2" not in after["shares"]
    assert [(step["action"], step["hosts"]) for step in after["steps"]] == [("start", ["gpu3"])]
    assert after["warnings"][0]["code"] == "host_lost"


@pytest.mark.parametrize(("lost", "code"), [("gpu9", "lost_host_unknown"), ("gpu1", "lost_host_answers")])
def test_only_hosts_of_the_fleet_that_do_not_answer_can_be_lost(lost, code):
    asked = {"models": [model("small")], "hosts": silent(servers(1, 2)), "shapes": SHAPES}
    assert code in refusals(**asked, settings=PUBLIC | {"lost_hosts": [lost]})


def test_a_host_that_left_the_inventory_is_named_and_its_replicas_move():
    models = [model("small", replica_count=2)]
    before = make(models, servers(1, 2, count=1))
    past = applied(before)
    del past["hosts"]["gpu2"]
    after = make(models, servers(1, 3, count=1), past)
    assert seats(after)["small-1"] == "gpu3:8000/0"
    left = warnings(models=models, hosts=servers(1, 3, count=1), shapes=SHAPES, previous=past, settings=PUBLIC)[
        "host_left"
    ]
    assert left["subject"] == "gpu2"
    assert "gpufleet.serving.reset --limit gpu2" in left["remedies"][0]


@pytest.mark.parametrize(
    ("hosts", "code"),
    [
        (silent(servers(1), "gpu1"), "no_devices"),
        ({"gpu1": host(1, facts=facts(gpu(0, mig_mode=True)), reachable=True)}, "no_devices"),
        (silent(servers(1) | {"gw": host(9, "gateways")}, "gw"), "no_gateway"),
    ],
)
def test_something_must_be_within_reach(hosts, code):
    asked = {"models": [model("small")], "hosts": hosts, "shapes": SHAPES}
    assert code in refusals(**asked, settings=PUBLIC | {"allow_unreachable": True})


def test_the_front_door_is_the_first_serving_host_and_stays_there():
    before = make([model("small", replica_count=1)], servers(5))
    assert (before["gateways"], before["endpoint"]["address"]) == (["gpu5"], "10.0.0.5")
    after = make([model("small", replica_count=9)], servers(1, 5), applied(before))
    assert after["gateways"] == ["gpu5"]


def test_a_group_of_gateways_is_the_front_door_and_the_old_one_is_emptied():
    before = make([model("small")], servers(5))
    with_group = servers(5) | {"gw2": host(22, "gateways"), "gw1": host(21, "gateways")}
    after = make([model("small")], with_group, applied(before))
    assert after["gateways"] == ["gw1", "gw2"]
    assert after["endpoint"]["host"] == "gw1"
    assert after["shares"]["gpu5"]["gateway"]["gateway_models"] == []


DISKS = {"/": {"free_bytes": 10 * 10**9, "total_bytes": 10**12}}
ROOT = {"/var/lib/gpufleet/models": {"free_bytes": 20 * 10**9, "total_bytes": 10**12}}


@pytest.mark.parametrize(("disks", "refused"), [({}, False), (DISKS, True), (ROOT, False), (DISKS | ROOT, False)])
def test_weights_must_find_room_on_the_disk(disks, refused):
    models = [model("small", source="controller:small")]
    hosts = {"gpu1": host(1, facts=facts(gpu(0), disks=disks), reachable=True)}
    codes = refusals(models=models, hosts=hosts, shapes=SHAPES, settings=PUBLIC)
    assert ("disk_too_small" in codes) == refused
    if refused:
        assert codes["disk_too_small"]["reason"].startswith("has 9.31 GiB free at /var/lib/gpufleet/models")


def test_weights_that_are_there_already_need_no_room():
    models = [model("small", source="controller:small")]
    hosts = {"gpu1": host(1, facts=facts(gpu(0)), reachable=True)}
    before = make(models, hosts)
    full = {"gpu1": host(1, facts=facts(gpu(0), disks=DISKS), reachable=True)}
    assert make(models, full, applied(before))["refusals"] == []
