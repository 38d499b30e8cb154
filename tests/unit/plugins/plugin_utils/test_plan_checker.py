# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The judge of plans must be able to say no: each promise is broken once, and the checker must name it."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.gpufleet.serving.tests.plan_checker import PlanRejected, accept, problems
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils import fleets


def good():
    """Two models on two hosts, one replica to be restarted and one to be removed: something in every part."""
    shapes = {"tiny": fleets.shape(), "other": fleets.shape(), "small": fleets.shape(fleets.LLAMA_8B)}
    hosts = {"gpu1": fleets.gpu_host(1, count=2), "gpu2": fleets.gpu_host(2, count=2), "gw": fleets.host(9, "gateways")}
    asked = {"hosts": hosts, "shapes": shapes}
    first = [fleets.model(replica_count=2), fleets.model("other")]
    before = fleets.planned(models=first, settings=fleets.PUBLIC, **asked)
    after = [fleets.model(replica_count=1, max_num_seqs=8), fleets.model("small", tensor_parallel_size=2)]
    allowed = fleets.PUBLIC | {"allow_restart": True}
    return copy.deepcopy(fleets.planned(models=after, previous=fleets.applied(before), settings=allowed, **asked))


def set_at(*path, value):
    """A change of one value somewhere in a plan."""

    def change(plan):
        place = plan
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return change


def drop_step(action):
    def change(plan):
        plan["steps"] = [step for step in plan["steps"] if step["action"] != action]

    return change


def unit(plan, name):
    units = [unit for roles in plan["shares"].values() for unit in roles.get("serve", {}).get("serve_units", [])]
    return next(unit for unit in units if unit["name"] == name)


BREAKS = {
    "keys": (lambda plan: plan.pop("waves"), "has the keys"),
    "id": (set_at("id", value="0" * 64), "id is not the hash"),
    "share id": (set_at("shares", "gpu1", "engine", "engine_share_id", value="x"), "engine_share_id is not the hash"),
    "foreign option": (set_at("shares", "gpu1", "engine", "serve_units", value=[]), "options of another role"),
    "null in a share": (set_at("shares", "gpu1", "engine", "engine_note", value=None), "is null in a share"),
    "tagged text": (set_at("tier", value=type("Tagged", (int,), {})(4)), "plan.tier is a Tagged"),
    "device twice": (set_at("replicas", 0, "ranks", 0, "device", value="1"), "is used 2 times"),
    "no such device": (set_at("replicas", 0, "ranks", 0, "device", value="9"), "has 0 devices 9"),
    "no such host": (set_at("replicas", 0, "ranks", 0, "host", value="gpu9"), "which the plan does not hold"),
    "used and free": (set_at("hosts", "gpu1", "devices", 0, "free", value=True), "is said to be free"),
    "mixed kinds": (set_at("hosts", "gpu2", "devices", 1, "key", value="L4-24GB"), "mixes"),
    "rank order": (set_at("replicas", 0, "ranks", 1, "rank", value=0), "its ranks are not those of"),
    "fewer ranks": (lambda plan: plan["replicas"][0]["ranks"].pop(), "its ranks are not those of"),
    "executor": (set_at("replicas", 0, "executor", value="ray"), "executor ray"),
    "two hosts": (set_at("replicas", 0, "head", value="gpu1"), "and nnodes is 1"),
    "port twice": (
        lambda plan: [replica.update(port=8000, head="gpu1") for replica in plan["replicas"]],
        "used 2 times",
    ),
    "low port": (set_at("replicas", 0, "port", value=80), "port 80"),
    "unit missing": (set_at("shares", "gpu2", "serve", "serve_units", value=[]), "are not the replicas"),
    "unit elsewhere": (lambda plan: unit(plan, "tiny-0").update(port=9000), "listens elsewhere"),
    "unit on other devices": (lambda plan: unit(plan, "tiny-0").update(devices=["1"]), "devices are not the replica's"),
    "wrong address": (set_at("hosts", "gpu2", "address", value="10.9.9.9"), "binds 10.0.0.2"),
    "no engine": (set_at("shares", "gpu1", "engine", "engine_environments", value=[]), "no engine is installed"),
    "no weights": (set_at("shares", "gpu1", "model_store", "model_store_models", value=[]), "no weights are at"),
    "wrong build": (lambda plan: unit(plan, "tiny-0").update(accelerator="cpu"), "accelerator cpu"),
    "upstream missing": (
        lambda plan: plan["shares"]["gw"]["gateway"]["gateway_models"].pop(),
        "and the replicas are",
    ),
    "upstream weight": (
        set_at("shares", "gw", "gateway", "gateway_models", 0, "upstreams", 0, "weight", value=0),
        "upstream without weight",
    ),
    "gateway without share": (set_at("gateways", value=["gpu1"]), "is a gateway without a share"),
    "drained elsewhere": (set_at("shares", "gpu1", "serve", "serve_gateways", value=["x"]), "would be drained at"),
    "no endpoint": (set_at("endpoint", value=None), "the endpoint is None"),
    "memory does not add up": (set_at("models", 0, "memory", 0, "weights_gib", value=9.0), "do not add up"),
    "memory beyond the device": (
        lambda plan: plan["models"][0]["memory"][0].update(device_gib=100.0, kv_gib=95.0),
        "takes 100.0 of",
    ),
    "negative memory": (set_at("models", 0, "memory", 0, "kv_gib", value=-1.0), "a term is negative"),
    "token count": (set_at("models", 0, "memory", 0, "kv_tokens", value=1), "are not 1 tokens"),
    "no request fits": (set_at("models", 0, "fits_requests", value=0), "holds 0 requests"),
    "replica count": (set_at("models", 0, "replica_count", value=3), "3 replicas promised"),
    "tier of the plan": (set_at("tier", value=2), "is not the highest"),
    "tier of a model": (set_at("models", 1, "tier", value=1), "tier 1 with several devices"),
    "two defaults": (set_at("models", 1, "default", value=True), "not exactly one default"),
    "stop without drain": (drop_step("drain"), "is not drained before it is gone"),
    "start elsewhere": (set_at("steps", -1, "hosts", value=["gw"]), "is started on ['gw'], and the plan has it on"),
    "step out of reach": (set_at("hosts", "gpu1", "state", value="lost"), "of which not all are in reach"),
    "remove what is planned": (
        lambda plan: plan["steps"].append(
            {"action": "remove", "replica": "tiny-0", "hosts": ["gpu1"], "live": False, "reason": "x"}
        ),
        "is removed from ['gpu1'], and the plan has it on",
    ),
    "waves": (lambda plan: plan["waves"]["together"].clear(), "are not the serving hosts"),
    "restart without a turn": (
        lambda plan: plan["waves"].update(together=["gpu1", "gpu2"], serial=[]),
        "which take no turn together",
    ),
    "held and changed": (
        lambda plan: plan["held"].append({"replica": "tiny-0", "reason": "x", "remedy": "y"}),
        "is held and changed",
    ),
    "held unsaid": (set_at("replicas", 0, "held", value=True), "held is True"),
    "difference twice": (lambda plan: plan["diff"]["added"].append("tiny-0"), "several parts"),
    "difference of others": (lambda plan: plan["diff"]["added"].append("ghost-0"), "not about the replicas"),
    "removed and there": (lambda plan: plan["diff"]["removed"].append("small-0"), "are removed and there"),
    "change without a step": (set_at("steps", value=[]), "something changes without a step"),
    "finding without remedy": (
        lambda plan: plan["warnings"].append({"code": "x", "subject": "y", "reason": "z", "remedies": []}),
        "lacks a word or a remedy",
    ),
    "finding that says None": (
        lambda plan: plan["warnings"].append({"code": "x", "subject": "y", "reason": "is None", "remedies": ["z"]}),
        "badly worded",
    ),
    "refused and carried out": (
        lambda plan: plan["refusals"].append({"code": "x", "subject": "y", "reason": "z", "remedies": ["a"]}),
        "a refused plan has shares",
    ),
}


def group():
    """A plan of one replica over two hosts."""
    hosts = {f"gpu{number}": fleets.gpu_host(number, "H100-SXM-80GB", 1) for number in (1, 2)}
    for number, described in enumerate(hosts.values(), 1):
        nic = {"name": "eth0", "state": "up", "addresses": [{"address": f"10.0.0.{number}", "prefix": 24}]}
        described["facts"] = fleets.facts(fleets.gpu(0, uuid=f"GPU-{number}"), interfaces=[nic])
    models = [fleets.model(tensor_parallel_size=2, replica_count=1)]
    return fleets.planned(models=models, hosts=hosts, shapes={"tiny": fleets.shape()}, settings=fleets.PUBLIC)


def members(plan):
    return plan["replicas"][0]["group"]["members"]


BROKEN_GROUPS = {
    "no group": (set_at("replicas", 0, "group", value=None), "with the group None"),
    "order": (lambda plan: members(plan).reverse(), "are not ['gpu1', 'gpu2']"),
    "one address": (lambda plan: members(plan)[0].update(address="10.0.0.2"), "two members have one address"),
    "other subnet": (lambda plan: members(plan)[0].update(address="10.9.0.2"), "are not all in 10.0.0.0/24"),
    "interfaces": (lambda plan: members(plan)[0].update(nccl_interfaces=[]), "an interface is missing"),
    "unit of another": (
        lambda plan: unit(plan, "tiny-0")["group"].update(node_rank=1),
        "the unit on gpu1 knows of (1, ['gpu1', 'gpu2']",
    ),
    "rank missing": (set_at("shares", "gpu2", "serve", "serve_units", value=[]), "are not the replicas"),
    "ranks on one host": (
        lambda plan: plan["replicas"][0]["ranks"][1].update(host="gpu1", device="GPU-1"),
        "is on ['gpu1'], and nnodes is 2",
    ),
    "master port": (set_at("replicas", 0, "group", "master_port", value=8000), "port 8000 is used 2 times"),
    "tier": (set_at("models", 0, "tier", value=2), "tier 2 over 2 hosts"),
    "half a start": (set_at("steps", 0, "hosts", value=["gpu1"]), "is started on ['gpu1'], and the plan has it on"),
}


@pytest.mark.parametrize("name", BROKEN_GROUPS)
def test_every_broken_promise_of_a_group_is_named(name):
    change, words = BROKEN_GROUPS[name]
    plan = copy.deepcopy(group())
    change(plan)
    assert any(words in problem for problem in problems(plan)), problems(plan)


def test_a_good_plan_is_accepted():
    plan = good()
    assert accept(plan) == plan
    assert {step["action"] for step in plan["steps"]} == {"drain", "remove", "stop", "start"}


@pytest.mark.parametrize("name", BREAKS)
def test_every_broken_promise_is_named(name):
    change, words = BREAKS[name]
    plan = good()
    change(plan)
    assert any(words in problem for problem in problems(plan)), problems(plan)
    with pytest.raises(PlanRejected):
        accept(plan)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"engine_env": {}}, "several CPU ranks without"),
        ({"cpu_kv_gib": None}, "is null in a share"),
    ],
)
def test_units_for_cpus_need_what_the_cpu_build_needs(change, words):
    plan = copy.deepcopy(fleets.planned(**fleets.demo()))
    unit(plan, "tiny-0").update(change)
    assert any(words in problem for problem in problems(plan))


def test_what_is_no_plan_is_rejected():
    assert problems([])
    assert problems({})
