# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold of every plan, whatever goes in: tried on thousands of made-up fleets, wishes and pasts."""

from __future__ import annotations

import json
import os

from ansible_collections.gpufleet.serving.plugins.plugin_utils._explain import endpoint, held, refusals, table
from ansible_collections.gpufleet.serving.plugins.plugin_utils._plan import plan
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils import fleets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("GPUFLEET_EXAMPLES", "60"))
"""Examples of each property: a few in the quick lane, thousands in a long one."""
RUNS = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))

JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["auto", "8", "-1", "true", "/", "controller:", "GPU-0", "10.0.0.1", "", "a" * 70, "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["H100-SXM-80GB", "L40S-48GB", "A100-SXM-40GB", "L4-24GB", "B200-SXM-180GB"]
SHAPES = {
    "tiny": fleets.shape(),
    "small": fleets.shape(fleets.LLAMA_8B),
    "large": fleets.shape(fleets.LLAMA_70B),
    "huge": fleets.shape(
        fleets.LLAMA_70B | {"num_hidden_layers": 126, "hidden_size": 16384, "intermediate_size": 53248}
    ),
    "mixture": fleets.shape(fleets.MIXTURE),
    "odd": fleets.shape(num_attention_heads=6, num_key_value_heads=3, hidden_size=384, num_hidden_layers=5),
}


def sometimes(strategy):
    return st.none() | strategy


@st.composite
def gpu_answers(draw):
    """A host's answer: whole GPUs, or slices of them, of one or two kinds."""
    sliced, number = draw(st.booleans()), draw(st.integers(0, 10**6))
    gpus = []
    for index in range(draw(st.integers(1, 4))):
        slices = [
            {"uuid": f"MIG-{number}-{index}-{part}", "profile": "3g.20gb", "memory_mib": 19968, "index": part}
            for part in range(2)
        ]
        key = draw(st.sampled_from(KEYS[:2]))
        uuid = f"GPU-{number}-{index}"
        gpus.append(
            fleets.gpu(
                index, key, uuid=uuid, mig_mode="Enabled" if sliced else None, mig_devices=slices if sliced else []
            )
        )
    address = f"10.1.{number % 250}.{number // 250 % 250}"
    prefix = draw(st.sampled_from(["10.2", "10.3", "172.17"]))
    bridge = {"name": "vmnet0", "state": "up", "addresses": [{"address": "172.17.0.1", "prefix": 16}]}
    nic = {"name": "eth0", "state": "up", "addresses": [{"address": address, "prefix": 16}]}
    another = address.replace("10.1", prefix, 1)
    further = {"name": "eth1", "state": "up", "addresses": [{"address": another, "prefix": 16}]}
    found = draw(st.lists(st.sampled_from([bridge, nic, further]), unique_by=lambda each: each["name"]))
    return fleets.facts(*gpus, default_address=address, interfaces=found)


@st.composite
def hosts(draw):
    names = draw(st.lists(st.sampled_from([f"h{number}" for number in range(12)]), min_size=1, max_size=6, unique=True))
    found = {}
    for number, name in enumerate(names):
        kind = draw(st.sampled_from(["gpu", "gpu", "told", "cpu", "gateway", "both"]))
        rack = {"fleet_rack": draw(sometimes(st.sampled_from(["a", "b"])))}
        if kind == "told":
            found[name] = fleets.host(number, facts=draw(gpu_answers()), reachable=True, **rack)
        elif kind == "cpu":
            found[name] = fleets.cpu_host(number, draw(st.integers(1, 4)), draw(st.integers(1, 4)), **rack)
        elif kind == "gateway":
            found[name] = fleets.host(number, "gateways")
        else:
            groups = "gpu_nodes gateways" if kind == "both" else "gpu_nodes"
            count, key = draw(st.integers(1, 8)), draw(st.sampled_from(KEYS))
            found[name] = fleets.gpu_host(number, key, count, groups=groups, **rack)
    return found


@st.composite
def wishes(draw):
    names = draw(st.lists(st.sampled_from(list(SHAPES)), min_size=1, max_size=3, unique=True))
    models = []
    for name in names:
        options = {
            "max_model_len": draw(st.sampled_from([16, 1024, 2048])),
            "replica_count": draw(st.sampled_from(["auto", 1, 2, 3])),
            "tensor_parallel_size": draw(st.sampled_from(["auto", "auto", 1, 2, 3, 4, 8])),
            "pipeline_parallel_size": draw(st.sampled_from(["auto", "auto", 1, 2, 4])),
            "data_parallel_size": draw(st.sampled_from(["auto", "auto", "auto", 2])),
            "decode_context_parallel_size": draw(st.sampled_from([1, 1, 1, 2])),
            "engine_args": draw(st.sampled_from([{}, {"enable_expert_parallel": True}])),
            "workload": {
                "concurrent_requests": draw(sometimes(st.integers(1, 2000))),
                "requests_per_second": draw(sometimes(st.sampled_from([0.5, 20]))),
                "prompt_tokens": draw(sometimes(st.just(500))),
                "output_tokens": draw(sometimes(st.just(100))),
            },
            "priority": draw(st.integers(-2, 2)),
            "quantization": draw(st.sampled_from([None, None, "fp8"])),
            "gpu_memory_utilization": draw(sometimes(st.sampled_from([0.5, 0.9, 1.0]))),
        }
        models.append(fleets.model(name, **options))
    return models


@RUNS
@given(models=wishes(), hosts=hosts(), tier=st.sampled_from(["auto", 1, 2, 3, 4]))
def test_every_plan_keeps_its_promises(models, hosts, tier):
    fleets.accepted(plan(models, hosts, SHAPES, None, fleets.PUBLIC | {"tier": tier}))


@RUNS
@given(models=wishes(), hosts=hosts(), order=st.randoms())
def test_the_order_of_hosts_does_not_matter(models, hosts, order):
    names = list(hosts)
    order.shuffle(names)
    shuffled = {name: hosts[name] for name in names}
    first = plan(models, hosts, SHAPES, None, fleets.PUBLIC)
    assert json.dumps(first) == json.dumps(plan(models, shuffled, SHAPES, None, fleets.PUBLIC))


@RUNS
@given(models=wishes(), hosts=hosts(), live=st.booleans())
def test_a_fleet_at_its_plan_has_nothing_to_do(models, hosts, live):
    made = plan(models, hosts, SHAPES, None, fleets.PUBLIC)
    again = fleets.accepted(plan(models, hosts, SHAPES, fleets.applied(made, live), fleets.PUBLIC))
    if not made["refusals"]:
        assert (again["id"], again["steps"], again["held"]) == (made["id"], [], [])


@RUNS
@given(
    before=wishes(),
    after=wishes(),
    hosts=hosts(),
    live=st.booleans(),
    allowed=st.booleans(),
    silent=st.sets(st.sampled_from([f"h{number}" for number in range(12)]), max_size=2),
    lost=st.booleans(),
)
def test_any_change_of_wishes_and_machines_is_carried_out_in_order(before, after, hosts, live, allowed, silent, lost):
    made = plan(before, hosts, SHAPES, None, fleets.PUBLIC)
    now = {name: described | {"reachable": name not in silent} for name, described in hosts.items()}
    asked = fleets.PUBLIC | {"allow_restart": allowed, "allow_unreachable": True}
    if lost:
        asked["lost_hosts"] = sorted(silent & set(hosts))
    past = fleets.applied(made, live, tuple(silent))
    changed = fleets.accepted(plan(after, now, SHAPES, past, asked))
    if live and not allowed:
        stopped = {step["replica"] for step in changed["steps"] if step["action"] in ("stop", "restart")}
        assert not stopped
    if not changed["refusals"] and not changed["held"] and not silent:
        assert not plan(after, now, SHAPES, fleets.applied(changed, live), asked)["steps"]


@RUNS
@given(models=wishes(), hosts=hosts())
def test_a_new_host_moves_nothing_that_runs(models, hosts):
    made = plan(models, hosts, SHAPES, None, fleets.PUBLIC)
    if made["refusals"]:
        return
    more = hosts | {"a-first": fleets.gpu_host(99, "B200-SXM-180GB")}
    grown = fleets.accepted(plan(models, more, SHAPES, fleets.applied(made), fleets.PUBLIC))
    assert not grown["diff"]["moved"]
    assert not grown["diff"]["restarted"]
    assert not grown["held"]


@RUNS
@given(models=wishes(), count=st.integers(1, 8))
def test_more_memory_never_turns_a_fit_into_a_refusal(models, count):
    """Within one row of the engine's defaults: beyond it the engine tries larger batches too."""
    fits = []
    for usable_gib in (4.0, 20.0, 24.0, 40.0, 60.0):
        gpus = [fleets.gpu(index, "L40S-48GB", usable_gib=usable_gib) for index in range(count)]
        told = {"h": fleets.host(1, facts=fleets.facts(*gpus), reachable=True)}
        codes = {refusal["code"] for refusal in plan(models, told, SHAPES, None, fleets.PUBLIC)["refusals"]}
        fits.append("model_too_large" not in codes)
    assert fits == sorted(fits)


@RUNS
@given(models=JUNK, hosts=JUNK, shapes=JUNK, previous=JUNK, asked=JUNK)
def test_junk_gives_a_refusal_and_never_an_exception(models, hosts, shapes, previous, asked):
    made = fleets.accepted(plan(models, hosts, shapes, previous, asked))
    for words in (table, refusals, held, endpoint):
        assert isinstance(words(made), str)


@st.composite
def one_thing_wrong(draw):
    """The demo's inputs with junk somewhere inside."""
    inputs = json.loads(json.dumps(fleets.demo()))
    made = plan(**inputs)
    inputs["previous"] = json.loads(json.dumps(fleets.applied(made)))
    inputs["hosts"]["node1"]["facts"] = fleets.facts(fleets.gpu(0))
    place, steps = inputs, draw(st.integers(1, 9))
    for _step in range(steps):
        keys = sorted(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            break
        key = draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or _step == steps - 1:
            place[key] = draw(JUNK)
            break
        place = place[key]
    return inputs


@settings(RUNS, max_examples=4 * EXAMPLES)
@given(inputs=one_thing_wrong())
def test_junk_anywhere_inside_good_input_gives_a_plan_or_a_refusal(inputs):
    made = fleets.accepted(plan(**inputs))
    assert table(made)
