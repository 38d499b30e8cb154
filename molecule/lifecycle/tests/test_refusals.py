# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bad input is refused by site.yml with the remedy in the message, and no host is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

import pytest
from harness import Fleet, Run, difference, main_pid, shell, snapshot

HOSTS = ["lifecycle-node1", "lifecycle-node2", "lifecycle-gw"]


Change = Callable[[Fleet], Fleet]


@dataclass(frozen=True)
class Case:
    """Something wrong in an inventory, the code that it is refused with, and words of the reason and the remedy."""

    change: Change
    code: str
    words: tuple[str, ...]


def another(**options: Any) -> Change:
    """One more model, like the first but for some options."""

    def change(fleet: Fleet) -> Fleet:
        models = fleet.variables["fleet_models"]
        return fleet.changed(fleet_models=[*models, {**models[0], **options}])

    return change


def variables(**changes: Any) -> Change:
    return lambda fleet: fleet.changed(**changes)


def host(name: str, **changes: Any) -> Change:
    def change(fleet: Fleet) -> Fleet:
        return fleet.with_hosts(lambda hosts: hosts["gpu_nodes"]["hosts"][name].update(changes))

    return change


HUB = {"source": "Qwen/Qwen3-8B", "max_model_len": 1024}
REVISION = "0" * 40
TOO_LARGE = {"source": "meta-llama/Llama-3.1-405B-Instruct", "revision": REVISION, "max_model_len": 131072}
H100S = [{"model": "H100-SXM-80GB", "count": 8}]

# What is wrong with one inventory is refused in one run, as it would be for an operator who made all of these mistakes.
INVENTORIES = {
    "models": {
        "model too large for every host": Case(
            another(name="large", **TOO_LARGE), "model_too_large", ("large:", "fleet_cpu_kv_gib")
        ),
        "tensor parallel size that does not divide the heads": Case(
            another(name="three", tensor_parallel_size=3),
            "tensor_parallel_does_not_divide",
            ("tensor_parallel_size 3 does not divide its 4 attention heads",),
        ),
        "duplicate model name": Case(another(), "duplicate_model", ("tiny",)),
        "name that is no DNS label": Case(another(name="Tiny_Model"), "bad_name", ("Tiny_Model", "tiny-model")),
        "hub source without revision": Case(
            another(name="free", **HUB), "revision_missing", ("free", "revision", "fleet_allow_unpinned_models")
        ),
        "model that no hub answers for and the catalogue does not know": Case(
            another(name="hub", source="nobody/nothing", revision=REVISION),
            "unknown_model_shape",
            ("does not answer", "model_store_hub_endpoint"),
        ),
        "misspelt option": Case(
            another(name="misspelt", max_model_length=1024), "unknown_option", ("max_model_length", "max_model_len")
        ),
        "engine flag that does not exist": Case(
            another(name="flag", engine_args={"enable_prefix_cachin": True}),
            "unknown_engine_flag",
            ("enable_prefix_cachin", "enable_prefix_caching"),
        ),
        "engine flag that the plan owns": Case(
            another(name="owned", engine_args={"port": 1}),
            "owned_engine_flag",
            ("engine_args.port", "fleet_engine_port"),
        ),
    },
    "fleet": {
        "port clash": Case(variables(fleet_gateway_port=9145), "port_clash", ("9145",)),
        "tier below what the model needs": Case(variables(fleet_tier=1), "tier_too_low", ("fleet_tier to 4",)),
        "no gateway key": Case(variables(gateway_keys=[]), "no_gateway_key", ("gateway_keys", "gateway_public: true")),
    },
    "hosts": {
        "host with neither GPUs nor CPU space": Case(
            host("lifecycle-node2", fleet_cpu_kv_gib=None),
            "no_devices",
            ("lifecycle-node2", "fleet_cpu_kv_gib", "fleet_gpus"),
        ),
        "fleet_gpus that disagrees with the host": Case(
            host("lifecycle-node1", fleet_gpus=H100S), "gpus_disagree", ("lifecycle-node1", "H100-SXM-80GB")
        ),
    },
    "reach": {
        "tier above what there is": Case(variables(fleet_tier=6), "bad_value", ("fleet_tier", "6")),
        "unreachable host": Case(
            host("lifecycle-node2", ansible_port=1), "host_unreachable", ("lifecycle-node2", "fleet_allow_unreachable")
        ),
    },
}


@pytest.fixture(scope="module")
def refused(fleet: Fleet) -> Callable[[str], Run]:
    """The run of site.yml over one of the inventories, which left every host as it was."""

    @cache
    def run(inventory: str) -> Run:
        wrong = reduce(lambda before, case: case.change(before), INVENTORIES[inventory].values(), fleet)
        before = snapshot(HOSTS)
        done = wrong.run()
        assert difference(before, snapshot(HOSTS)) == {}
        return done.expect(2)

    return run


@pytest.mark.parametrize(
    ("inventory", "what"), [(inventory, what) for inventory, cases in INVENTORIES.items() for what in cases]
)
def test_refused_with_the_remedy_and_no_host_changed(refused, inventory, what):
    case, words = INVENTORIES[inventory][what], refused(inventory).words
    for word in (f"[{case.code}]", *case.words):
        assert word in words


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
