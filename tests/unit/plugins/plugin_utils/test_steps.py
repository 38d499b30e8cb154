# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which changes come in which order, and which replicas are held, seen through whole plans."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.fleets import (
    LLAMA_8B,
    PUBLIC,
    applied,
    cpu_host,
    gpu_host,
    model,
    planned,
    shape,
)

SHAPES = {"small": shape(LLAMA_8B), "tiny": shape(), "other": shape()}


def make(models, hosts, previous=None, **settings):
    return planned(models=models, hosts=hosts, shapes=SHAPES, previous=previous, settings=PUBLIC | settings)


def servers(*numbers, count=2, racks=()):
    return {f"gpu{number}": gpu_host(number, count=count, fleet_rack=dict(racks).get(number)) for number in numbers}


def steps(made):
    return [(step["action"], step["replica"], step["hosts"][0]) for step in made["steps"]]


def unit(made, name):
    units = [u for roles in made["shares"].values() for u in roles.get("serve", {}).get("serve_units", [])]
    return next(u for u in units if u["name"] == name)


TWO = [model("small", replica_count=2)]
CHANGED = [model("small", replica_count=2, max_num_seqs=64)]


def test_a_first_run_starts_everything():
    made = make(TWO, servers(1))
    assert steps(made) == [("start", "small-0", "gpu1"), ("start", "small-1", "gpu1")]
    assert made["waves"] == {"serial": [], "together": ["gpu1"]}


def test_a_second_run_does_nothing():
    before = make(TWO, servers(1))
    after = make(TWO, servers(1), applied(before))
    assert (after["steps"], after["held"], after["id"]) == ([], [], before["id"])


def test_a_live_replica_that_would_change_is_held_word_for_word():
    before = make(TWO, servers(1))
    after = make(CHANGED, servers(1), applied(before))
    assert [held["replica"] for held in after["held"]] == ["small-0", "small-1"]
    assert after["held"][0]["reason"] == "it serves, and its unit would change: max_num_seqs from unset to 64"
    assert "fleet_allow_restart=true" in after["held"][0]["remedy"]
    assert after["steps"] == []
    assert after["shares"]["gpu1"]["serve"] == before["shares"]["gpu1"]["serve"]
    assert all(replica["held"] for replica in after["replicas"])


def test_an_engine_is_exchanged_where_that_is_allowed_and_exchanged_back():
    """The environment of each version has a path of its own, so that going back finds the former one."""
    cpu = {"node1": cpu_host(1)}
    one = [model(tensor_parallel_size=2)]
    former = make(one, cpu, engine_versions={"cpu": "0.31.0"})
    assert make(one, cpu, applied(former))["held"], "a live replica waits until somebody allows its restart"

    newer = make(one, cpu, applied(former), allow_restart=True)
    assert steps(newer)[-1][:2] in [("start", "tiny-0"), ("restart", "tiny-0")]
    environments = newer["shares"]["node1"]["engine"]["engine_environments"]
    assert [entry["path"] for entry in environments] == ["/opt/gpufleet/engine/cpu-0.32.0"]
    assert newer["shares"]["node1"]["model_store"] == former["shares"]["node1"]["model_store"]

    back = make(one, cpu, applied(newer), allow_restart=True, engine_versions={"cpu": "0.31.0"})
    assert unit(back, "tiny-0") == unit(former, "tiny-0")
    assert make(one, cpu, applied(back), engine_versions={"cpu": "0.31.0"})["steps"] == []


def test_held_replicas_keep_their_engine_weights_and_upstreams():
    before = make(TWO, servers(1))
    new_engine = {"engine_versions": {"cuda": "0.33.0", "cpu": "0.32.0"}, "engine_root": "/srv/engine"}
    after = make(TWO, servers(1), applied(before), **new_engine)
    assert after["held"]
    share = after["shares"]["gpu1"]
    assert share["engine"]["engine_environments"][0]["path"] == "/opt/gpufleet/engine/cuda-0.33.0"
    for role in ("model_store", "gateway"):
        assert share[role] == before["shares"]["gpu1"][role]


def test_the_weights_that_a_held_replica_reads_are_kept_when_its_model_moves():
    before = make(TWO, servers(1))
    after = make([model("small", replica_count=2, source="/srv/moved/small")], servers(1), applied(before))
    store = after["shares"]["gpu1"]["model_store"]
    assert store["model_store_models"] == []
    assert store["model_store_keep_paths"] == ["/srv/models/small"]


def test_the_next_revision_is_brought_while_the_present_one_serves():
    listed = [model("small", source="controller:weights")]
    before = make(listed, servers(1))
    newer = {"small": {**shape(), "content_id": "sha256:" + "cd" * 32}}
    held = planned(models=listed, hosts=servers(1), shapes=SHAPES | newer, previous=applied(before), settings=PUBLIC)
    store = held["shares"]["gpu1"]["model_store"]
    assert held["held"]
    assert unit(held, "small-0") == unit(before, "small-0")
    assert [entry["path"] for entry in store["model_store_models"]] == ["/var/lib/gpufleet/models/small/cdcdcdcdcdcd"]
    assert store["model_store_keep_paths"] == [unit(before, "small-0")["model_path"]]


def test_a_held_replica_is_asked_under_the_name_that_it_still_answers_to():
    before = make(TWO, servers(1))
    after = make([model("small", replica_count=2, served_model_name="new")], servers(1), applied(before))
    assert after["shares"]["gpu1"]["gateway"]["gateway_models"][0]["served_model_name"] == "small"


def test_with_leave_live_replicas_restart_one_failure_domain_after_another():
    racks = {1: "b", 2: "a"}.items()
    before = make([model("small", replica_count=3)], servers(1, 2, racks=racks))
    changed = [model("small", replica_count=3, max_num_seqs=64)]
    after = make(changed, servers(1, 2, racks=racks), applied(before), allow_restart=True)
    assert after["held"] == []
    order = [("small-2", "gpu2"), ("small-0", "gpu1"), ("small-1", "gpu1")]
    assert steps(after) == [(action, *place) for place in order for action in ("drain", "stop", "start")]
    assert after["waves"] == {"serial": [["gpu1"], ["gpu2"]], "together": []}
    assert after["diff"]["restarted"] == ["small-0", "small-1", "small-2"]


def test_what_does_not_serve_is_restarted_without_asking():
    before = make(TWO, servers(1))
    after = make(CHANGED, servers(1), applied(before, live=False))
    assert steps(after) == [("restart", "small-0", "gpu1"), ("restart", "small-1", "gpu1")]
    assert unit(after, "small-0")["config"]["max_num_seqs"] == 64
    assert after["waves"]["serial"] == []


def test_removals_come_first_and_drain_what_serves():
    before = make([model("small", replica_count=1), model("other")], servers(1))
    after = make([model("small", replica_count=2)], servers(1), applied(before))
    assert steps(after) == [("drain", "other-0", "gpu1"), ("remove", "other-0", "gpu1"), ("start", "small-1", "gpu1")]
    assert after["waves"]["serial"] == []


def test_a_dropped_model_leaves_empty_shares_that_remove_what_was_made():
    before = make([model("small", replica_count=1), model("other", tensor_parallel_size=2)], servers(1, 2))
    assert unit(before, "other-0")
    gone = next(
        name for name in ("gpu1", "gpu2") if before["shares"][name]["serve"]["serve_units"][0]["name"] == "other-0"
    )
    after = make([model("small", replica_count=1)], servers(1, 2), applied(before))
    share = after["shares"][gone]
    assert share["serve"]["serve_units"] == []
    assert share["engine"]["engine_environments"] == []
    assert share["model_store"]["model_store_models"] == []


def test_a_new_replica_that_needs_a_held_ones_devices_waits():
    before = make([model("small", tensor_parallel_size=2)], servers(1))
    after = make([model("small", tensor_parallel_size=1), model("other")], servers(1), applied(before))
    held = {item["replica"]: item["reason"] for item in after["held"]}
    assert set(held) == {"small-0", "other-0"}
    assert held["other-0"].startswith("waits for device 1 of gpu1, which small-0 keeps")
    assert [replica["name"] for replica in after["replicas"]] == ["small-0"]
    assert [entry["name"] for entry in after["shares"]["gpu1"]["gateway"]["gateway_models"]] == ["small"]


def test_with_leave_what_waited_starts_after_the_restart_that_frees_its_devices():
    before = make([model("small", tensor_parallel_size=2)], servers(1))
    shrunk = [model("small", tensor_parallel_size=1), model("other")]
    after = make(shrunk, servers(1), applied(before), allow_restart=True)
    assert steps(after) == [
        ("drain", "small-0", "gpu1"),
        ("stop", "small-0", "gpu1"),
        ("start", "small-0", "gpu1"),
        ("start", "other-0", "gpu1"),
    ]


def test_waiting_passes_on_from_one_to_the_next():
    """a wants to move onto b's port, b onto c's; c is live and held, so all three stay."""
    before = make([model("small", replica_count=2, tensor_parallel_size=1)], servers(1))
    past = applied(before)
    past["hosts"]["gpu1"]["replicas"]["small-1"] = {"active": False, "live": False}
    units = past["hosts"]["gpu1"]["roles"]["serve"]["options"]["serve_units"]
    units[0]["devices"], units[1]["devices"] = units[1]["devices"], units[0]["devices"]
    units[0]["port"], units[1]["port"] = units[1]["port"], units[0]["port"]
    after = make(CHANGED, servers(1), past)
    assert [held["replica"] for held in after["held"]] == ["small-0"]
    assert steps(after) == [("restart", "small-1", "gpu1")]


def test_a_live_replica_that_must_move_is_held_and_with_leave_drained_after_the_new_one_starts():
    before = make([model("small", replica_count=1)], servers(1, count=1))
    wider = [model("small", replica_count=1, tensor_parallel_size=2)]
    hosts = servers(1, count=1) | servers(2)
    held = make(wider, hosts, applied(before))
    assert held["held"][0]["reason"] == "it serves, and it would move from gpu1 to gpu2"
    moved = make(wider, hosts, applied(before), allow_restart=True)
    assert steps(moved) == [("start", "small-0", "gpu2"), ("drain", "small-0", "gpu1"), ("remove", "small-0", "gpu1")]
    assert moved["waves"] == {"serial": [["gpu1"]], "together": ["gpu2"]}
    assert moved["diff"]["moved"] == ["small-0"]


def test_a_move_of_what_does_not_serve_removes_it_first():
    before = make([model("small", replica_count=1)], servers(1, count=1))
    hosts = servers(1, count=1) | servers(2)
    wider = [model("small", replica_count=1, tensor_parallel_size=2)]
    assert steps(make(wider, hosts, applied(before, live=False))) == [
        ("remove", "small-0", "gpu1"),
        ("start", "small-0", "gpu2"),
    ]


def test_a_replica_that_runs_twice_keeps_the_planned_one():
    """A lost host came back with its old units."""
    before = make([model("small", replica_count=1)], servers(1))
    elsewhere = make([model("small", replica_count=1)], servers(2))
    past = applied(before)
    past["hosts"] |= applied(elsewhere)["hosts"]
    after = make([model("small", replica_count=1)], servers(1, 2), past)
    assert after["diff"]["untouched"] == ["small-0"]
    assert len(after["steps"]) == 2
    assert {step["action"] for step in after["steps"]} == {"drain", "remove"}


def test_an_interrupted_first_run_goes_on_where_it_was():
    """Units are there and no role has recorded anything yet."""
    first = make(TWO, servers(1))
    past = {"hosts": {"gpu1": {"roles": {}, "replicas": {"small-0": {"active": True, "live": True}}}}, "plan": None}
    after = make(TWO, servers(1), past)
    assert after["id"] == first["id"]
    assert [step["action"] for step in after["steps"]] == ["start", "start"]


def test_what_an_interrupted_run_left_behind_is_removed():
    past = {"hosts": {"gpu2": {"roles": {}, "replicas": {"gone-0": {"active": True, "live": True}}}}, "plan": None}
    after = make([model("small", replica_count=1)], servers(1, 2), past)
    assert steps(after)[:2] == [("drain", "gone-0", "gpu2"), ("remove", "gone-0", "gpu2")]
    assert after["shares"]["gpu2"]["serve"]["serve_units"] == []
    assert after["diff"]["removed"] == ["gone-0"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda unit: unit.pop("config"),
        lambda unit: unit.update(port="x"),
        lambda unit: unit.update(name="other"),
        lambda unit: unit.update(devices=None),
        lambda unit: unit["config"].update(tensor_parallel_size=0),
    ],
)
def test_a_record_that_cannot_be_read_is_named_and_taken_as_absent(damage):
    before = make([model("small", replica_count=1)], servers(1))
    past = copy.deepcopy(applied(before, live=False))
    damage(past["hosts"]["gpu1"]["roles"]["serve"]["options"]["serve_units"][0])
    after = make([model("small", replica_count=1)], servers(1), past)
    assert "applied_unreadable" in [warning["code"] for warning in after["warnings"]]
    assert after["diff"]["added"] == ["small-0"]
