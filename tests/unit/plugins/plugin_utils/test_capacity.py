# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How many replicas a workload gets, and what the plan says that they serve, seen through whole plans."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._measured_fact import unit_id
from ansible_collections.gpufleet.serving.plugins.plugin_utils._capacity import (
    Carried,
    is_wanted,
    meets_workload,
    replicas_wanted,
)
from ansible_collections.gpufleet.serving.plugins.plugin_utils._explain import table
from ansible_collections.gpufleet.serving.plugins.plugin_utils._wishes import Model, Source, Workload
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.fleets import (
    LLAMA_8B,
    PUBLIC,
    applied,
    gpu_host,
    model,
    planned,
    shape,
)
from hypothesis import given, settings
from hypothesis import strategies as st

CHAT = {"prompt_tokens": 1000, "output_tokens": 300}
EACH = 50


def make(wished, hosts=2, key="H100-SXM-80GB", previous=None, **given):
    return planned(
        models=[wished],
        hosts={f"gpu{number}": gpu_host(number, key=key) for number in range(1, hosts + 1)},
        shapes={wished["name"]: shape(LLAMA_8B)},
        previous=previous,
        settings=PUBLIC | given,
    )


def wish(workload=None, **options):
    return model("llama", workload=CHAT | (workload or {}), **({"max_model_len": 8192} | options))


def entry(made):
    return made["models"][0]


def codes(made):
    return {warning["code"]: warning for warning in made["warnings"]}


TABLE = {1: 50, 4: 200, 16: 800, 64: 3200, 256: 12800, 1000: 50000}
"""Replicas and their requests a second in all, each with fifty."""


@pytest.mark.parametrize(("replicas", "total"), TABLE.items())
def test_replicas_add_up(replicas, total):
    made = make(wish(replica_count=replicas, per_replica_requests_per_second=EACH), hosts=math.ceil(replicas / 8))
    capacity = entry(made)["capacity"]
    assert capacity["replicas"] == replicas
    assert capacity["total_requests_per_second"] == {"low": total, "likely": total, "high": total}
    assert capacity["requests_per_second"]["likely"] == EACH
    assert (capacity["measured"], capacity["estimate"]) == (True, False)
    assert capacity["source"] == "inventory"


@pytest.mark.parametrize(("replicas", "total"), list(TABLE.items())[:4])
def test_a_rate_gets_the_replicas_that_serve_it(replicas, total):
    wished = wish({"requests_per_second": total}, per_replica_requests_per_second=EACH)
    assert entry(make(wished, hosts=math.ceil(replicas / 8)))["replica_count"] == replicas


def test_without_a_measurement_the_estimate_counts():
    alone = entry(make(wish()))["capacity"]
    likely = alone["requests_per_second"]["likely"]
    made = entry(make(wish({"requests_per_second": 2.5 * likely})))
    assert made["replica_count"] == 3
    assert (made["capacity"]["estimate"], made["capacity"]["source"]) == (True, "estimate")
    assert made["capacity"]["total_requests_per_second"]["likely"] == pytest.approx(3 * likely, rel=0.01)


def test_the_larger_need_decides():
    few = entry(make(wish({"requests_per_second": 60, "concurrent_requests": 8}, per_replica_requests_per_second=20)))
    assert few["replica_count"] == 3
    held = entry(make(wish()))["fits_requests"]
    many = wish({"requests_per_second": 60, "concurrent_requests": 4 * held}, per_replica_requests_per_second=20)
    assert entry(make(many))["replica_count"] == 4


UNMET = {
    "too few replicas for the rate": (
        wish({"requests_per_second": 500}, replica_count=2, per_replica_requests_per_second=20),
        "H100-SXM-80GB",
        "rate_not_met",
    ),
    "no lengths to estimate from": (
        model("llama", workload={"requests_per_second": 5}),
        "H100-SXM-80GB",
        "rate_not_used",
    ),
    "no CUDA graphs": (
        wish({"requests_per_second": 5}, engine_args={"enforce_eager": True}),
        "H100-SXM-80GB",
        "rate_not_used",
    ),
}


@pytest.mark.parametrize(("wished", "key", "code"), UNMET.values(), ids=UNMET)
def test_a_rate_that_is_not_met_or_cannot_be_judged_is_warned_of(wished, key, code):
    warning = codes(make(wished, key=key))[code]
    assert any("per_replica_requests_per_second" in remedy for remedy in warning["remedies"])


def test_a_met_rate_is_not_warned_of():
    assert not {"rate_not_met", "rate_not_used"} & set(codes(make(wish({"requests_per_second": 20}))))


def test_an_estimate_is_called_one():
    text = table(make(wish()))
    assert "estimated" in text
    assert "estimate: " in text
    assert "measured: inventory" in table(make(wish(per_replica_requests_per_second=20)))


def test_nothing_is_said_of_a_device_of_unknown_speed():
    made = make(model("llama", workload={"concurrent_requests": 8}))
    assert entry(made)["capacity"] is None
    assert "Capacity" not in table(made)


# --- what was measured ----------------------------------------------------------------------------------------------


def driven(made, rate, **lengths):
    """The fleet after a plan was carried out and ``benchmark.yml`` drove each replica."""
    state = copy.deepcopy(applied(made, live=True))
    (memory,) = entry(made)["memory"]
    for held in state["hosts"].values():
        units = held["roles"].get("serve", {}).get("options", {}).get("serve_units", [])
        held["measured"] = {
            unit["name"]: {
                "unit_id": unit_id(unit),
                "measured_at": "2026-01-31T12:00:00Z",
                "kv_blocks": memory["kv_blocks"],
                "block_size": memory["block_size"],
                "benchmark": {
                    "measured_at": "2026-01-31T12:00:00Z",
                    "tool": "vllm bench serve 0.33.0",
                    "concurrency": 64,
                    **CHAT,
                    "requests_per_second": rate,
                    "output_tokens_per_second": 300 * rate,
                    "ttft_ms": {"p50": 90.0, "p99": 200.0},
                    "itl_ms": {"p50": 9.0, "p99": 20.0},
                }
                | lengths,
            }
            for unit in units
        }
    return state


def test_a_benchmark_is_reported_and_changes_nothing_that_runs():
    wished = wish({"requests_per_second": 60})
    before = make(wished)
    after = make(wished, previous=driven(before, 12.0))
    assert entry(after)["replica_count"] == entry(before)["replica_count"]
    assert after["diff"]["untouched"] == [replica["name"] for replica in before["replicas"]]
    assert entry(after)["capacity"]["source"] == "benchmark.yml"
    assert entry(after)["capacity"]["requests_per_second"]["likely"] == 12.0
    assert "measured_not_adopted" in codes(after)


def test_an_adopted_benchmark_counts_and_goes_on_counting():
    wished = wish({"requests_per_second": 60})
    adopted = make(wished, previous=driven(make(wished), 12.0), adopt_measured=True)
    assert entry(adopted)["replica_count"] == 5
    again = make(wished, previous=driven(adopted, 30.0))
    assert entry(again)["replica_count"] == 5
    assert "measured_not_adopted" in codes(again)


@pytest.mark.parametrize(("concurrency", "counts"), [(18, True), (17, False)])
def test_a_benchmark_counts_when_it_drove_at_least_a_replicas_share(concurrency, counts):
    wished = wish({"requests_per_second": 60, "concurrent_requests": 40}, replica_count=2, pipeline_parallel_size=1)
    after = make(wished, previous=driven(make(wished), 12.0, concurrency=concurrency))
    assert entry(after)["capacity"]["measured"] is counts


def test_the_inventory_beats_a_benchmark():
    wished = wish({"requests_per_second": 60}, per_replica_requests_per_second=30)
    after = make(wished, previous=driven(make(wished), 5.0), adopt_measured=True)
    assert entry(after)["replica_count"] == 2
    assert entry(after)["capacity"]["source"] == "inventory"


def test_a_benchmark_of_other_lengths_says_nothing():
    wished = wish({"requests_per_second": 60})
    before = make(wished)
    after = make(wished, previous=driven(before, 5.0, prompt_tokens=100), adopt_measured=True)
    assert entry(after)["capacity"]["estimate"]
    assert entry(after)["replica_count"] == entry(before)["replica_count"]


def test_a_further_host_moves_nothing():
    wished = wish({"requests_per_second": 60}, per_replica_requests_per_second=20)
    before = make(wished, hosts=1)
    after = make(wished, hosts=2, previous=applied(before, live=True))
    assert after["diff"] == {
        "added": [],
        "moved": [],
        "removed": [],
        "restarted": [],
        "untouched": after["diff"]["untouched"],
    }
    assert len(after["diff"]["untouched"]) == 3


# --- counting -------------------------------------------------------------------------------------------------------

needs = st.builds(
    Workload,
    concurrent_requests=st.none() | st.integers(1, 5000),
    requests_per_second=st.none() | st.floats(1e-3, 1e4),
)
each_carries = st.builds(Carried, at_once=st.integers(1, 1024), per_second=st.floats(10, 1e5) | st.just(math.inf))


def counted(workload, replica_count=None):
    return Model("m", Source("host", "/m"), "m", workload=workload, replica_count=replica_count)


@settings(deadline=None)
@given(workload=needs, each=each_carries)
def test_counting_one_by_one_comes_to_the_same(workload, each):
    wished = counted(workload)
    total = replicas_wanted(wished, each)
    seated = next(index for index in itertools.count() if not is_wanted(wished, index, each * index))
    assert seated == total
    assert meets_workload(wished, each, total)
    assert total == 1 or not meets_workload(wished, each, total - 1)


@given(each=each_carries, replicas=st.integers(0, 1000))
def test_more_replicas_never_carry_less(each, replicas):
    fewer, more = each * replicas, each * (replicas + 1)
    assert more.at_once > fewer.at_once
    assert more.per_second >= fewer.per_second


@given(workload=needs, each=each_carries, fixed=st.integers(1, 100))
def test_a_stated_number_of_replicas_is_what_there_is(workload, each, fixed):
    wished = counted(workload, fixed)
    assert replicas_wanted(wished, each) == fixed
    assert is_wanted(wished, fixed - 1, each * 1000)
    assert not is_wanted(wished, fixed, Carried())
