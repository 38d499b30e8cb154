# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input is refused by site.yml with the remedy in the message, and no host is changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from harness import Fleet, difference, main_pid, shell, snapshot

HOSTS = ["lifecycle-node1", "lifecycle-node2", "lifecycle-gw"]


def model(**changes: Any) -> Callable[[Fleet], Fleet]:
    """The fleet with its first model changed; None takes a key away."""

    def change(fleet: Fleet) -> Fleet:
        first, *others = fleet.variables["fleet_models"]
        changed = {key: value for key, value in {**first, **changes}.items() if value is not None}
        return fleet.changed(fleet_models=[changed, *others])

    return change


def variables(**changes: Any) -> Callable[[Fleet], Fleet]:
    return lambda fleet: fleet.changed(**changes)


def host(name: str, **changes: Any) -> Callable[[Fleet], Fleet]:
    def change(fleet: Fleet) -> Fleet:
        return fleet.with_hosts(lambda hosts: hosts["gpu_nodes"]["hosts"][name].update(changes))

    return change


def twice(fleet: Fleet) -> Fleet:
    return fleet.changed(fleet_models=fleet.variables["fleet_models"] * 2)


def without_devices(fleet: Fleet) -> Fleet:
    return fleet.with_hosts(lambda hosts: hosts["gpu_nodes"]["hosts"]["lifecycle-node2"].update(fleet_cpu_kv_gib=None))


REFUSALS = {
    "model too large for every host": (
        model(source="meta-llama/Llama-3.1-405B-Instruct", revision="0" * 40, max_model_len=4096),
        ["model_too_large"],
    ),
    "tensor parallel size that does not divide the heads": (
        model(tensor_parallel_size=3),
        ["tensor_parallel_size", "3", "4"],
    ),
    "port clash": (variables(fleet_gateway_port=9145), ["port", "9145"]),
    "duplicate model name": (twice, ["duplicate_model", "tiny"]),
    "name that is no DNS label": (model(name="Tiny_Model"), ["Tiny_Model", "tiny-model"]),
    "tier below what the model needs": (variables(fleet_tier=1), ["fleet_tier", "4"]),
    "tier above what there is": (variables(fleet_tier=6), ["fleet_tier", "6"]),
    "host with neither GPUs nor CPU space": (without_devices, ["lifecycle-node2", "fleet_cpu_kv_gib", "fleet_gpus"]),
    "hub source without revision": (model(source="Qwen/Qwen3-8B"), ["revision", "fleet_allow_unpinned_models"]),
    "hub source before hub sources can be deployed": (
        model(source="Qwen/Qwen3-8B", revision="0" * 40),
        ["controller:"],
    ),
    "no gateway key": (variables(gateway_keys=[]), ["gateway_keys", "gateway_public"]),
    "misspelt option": (model(max_model_length=1024), ["max_model_length", "max_model_len"]),
    "engine flag that does not exist": (
        model(engine_args={"enable_prefix_cachin": True}),
        ["enable_prefix_cachin", "enable_prefix_caching"],
    ),
    "engine flag that the plan owns": (model(engine_args={"port": 1}), ["engine_args.port", "fleet_engine_port"]),
    "fleet_gpus that disagrees with the host": (
        host("lifecycle-node1", fleet_gpus=[{"model": "H100-SXM-80GB", "count": 8}]),
        ["lifecycle-node1", "H100-SXM-80GB"],
    ),
    "unreachable host": (host("lifecycle-node2", ansible_port=1), ["lifecycle-node2", "fleet_allow_unreachable"]),
}


@pytest.mark.parametrize("change, words", REFUSALS.values(), ids=REFUSALS)
def test_refused_with_the_remedy_and_no_host_changed(fleet, change, words):
    before = snapshot(HOSTS)
    run = change(fleet).run()
    assert difference(before, snapshot(HOSTS)) == {}
    run.expect(2)
    for word in words:
        assert word in run.words


def test_not_enough_disk_is_refused_before_the_first_byte(fleet):
    """A small file system where the weights of a second model would go."""
    shell("lifecycle-node1", "mkdir -p /srv/small && mount -t tmpfs -o size=1m tmpfs /srv/small")
    shell("lifecycle-node2", "mkdir -p /srv/small && mount -t tmpfs -o size=1m tmpfs /srv/small")
    before = snapshot(HOSTS)
    run = fleet.run("site.yml", "-e", "survey_model_store_root=/srv/small")
    assert difference(before, snapshot(HOSTS)) == {}
    run.expect(2)
    for word in ("disk", "lifecycle-node1", "/srv/small"):
        assert word in run.words


def test_somebody_elses_lock_stops_the_run_and_says_how_to_break_it(fleet):
    lock = '{"owner": "kim@laptop", "controller": "laptop/0", "pid": 7, "purpose": "site.yml", "since": 1750000000}'
    shell("lifecycle-node1", f"mkdir -p /run/gpufleet && echo '{lock}' > /run/gpufleet/lock.json")
    before = snapshot(HOSTS)
    run = fleet.run()
    assert difference(before, snapshot(HOSTS)) == {}
    run.expect(2)
    for word in ("kim@laptop", "lifecycle-node1", "fleet_break_lock=true"):
        assert word in run.words
    fleet.run("site.yml", "-e", "fleet_break_lock=true").expect_unchanged()


def test_an_unreachable_host_may_be_allowed_and_its_replica_is_left_as_it_was(fleet):
    pids = {name: main_pid(f"lifecycle-node{index + 1}", f"tiny-{index}") for index, name in enumerate(("a", "b"))}
    run = host("lifecycle-node2", ansible_port=1)(fleet).run("site.yml", "-e", "fleet_allow_unreachable=true").expect(0)
    assert "lifecycle-node2" in run.words
    assert "tiny-1" in run.words
    assert {
        name: main_pid(f"lifecycle-node{index + 1}", f"tiny-{index}") for index, name in enumerate(("a", "b"))
    } == pids
    fleet.run().expect(0)
    fleet.run().expect_unchanged()
