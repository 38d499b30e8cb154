# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What measured figures do to a plan, and what they leave alone, seen through whole plans."""

from __future__ import annotations

import copy

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._measured_fact import unit_id
from ansible_collections.gpufleet.serving.plugins.plugin_utils._basis import Figures, read_basis
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.fleets import (
    LLAMA_8B,
    PUBLIC,
    applied,
    gpu_host,
    model,
    planned,
    shape,
)

TIME = "2026-01-31T12:00:00Z"
BLOCKS_A_REQUEST = 8192 // 16


def wish(concurrent, **options):
    """A model of which the scheduler takes 18 requests at once, where the KV cache would hold a few more."""
    load = {"concurrent_requests": concurrent, "prompt_tokens": 8000, "output_tokens": 192}
    fixed = {"max_model_len": 8192, "tensor_parallel_size": 1, "max_num_seqs": 18}
    return model("llama", workload=load, **(fixed | options))


def make(wished, previous=None, **settings):
    return planned(
        models=[wished],
        hosts={"gpu1": gpu_host(1, key="L40S-48GB"), "gpu2": gpu_host(2, key="L40S-48GB")},
        shapes={"llama": shape(LLAMA_8B)},
        previous=previous,
        settings=PUBLIC | settings,
    )


def each(made):
    """Requests that the plan has a replica hold at once."""
    return made["models"][0]["fits_requests"]


def count(made):
    return made["models"][0]["replica_count"]


def measured(made, requests, live=True):
    """The fleet after a plan was carried out, each engine with KV blocks for so many requests of the workload."""
    state = copy.deepcopy(applied(made, live))
    for host in state["hosts"].values():
        units = host["roles"].get("serve", {}).get("options", {}).get("serve_units", [])
        host["measured"] = {
            unit["name"]: {
                "unit_id": unit_id(unit),
                "measured_at": TIME,
                "kv_blocks": requests * BLOCKS_A_REQUEST,
                "block_size": 16,
                "weights_gib": 14.99,
            }
            for unit in units
        }
    return state


def codes(made):
    return {warning["code"]: warning for warning in made["warnings"]}


@pytest.fixture
def before():
    """Two replicas that the estimate says are enough."""
    made = make(wish(30))
    assert (count(made), each(made)) == (2, 18), "the tests below rest on these figures"
    return made


def test_a_measurement_changes_nothing_that_runs(before):
    again = make(wish(30), measured(before, 10))
    assert (again["id"], again["steps"], again["basis"]) == (before["id"], [], {})
    assert each(again) == each(before)


def test_where_it_would_change_the_number_of_replicas_the_plan_says_so_and_how(before):
    warning = codes(make(wish(30), measured(before, 10)))["measured_not_adopted"]
    assert warning["subject"] == "llama"
    assert warning["reason"] == "as measured, 3 replicas would meet its workload, and 2 run"
    assert "fleet_adopt_measured=true" in warning["remedies"][0]


def test_an_engine_with_less_kv_cache_than_planned_is_named_with_both_figures(before):
    planned_blocks = before["models"][0]["memory"][0]["kv_blocks"]
    warning = codes(make(wish(30), measured(before, 10)))["kv_cache_below_plan"]
    assert (
        f"has {10 * BLOCKS_A_REQUEST:,} KV blocks of 16 tokens, and {planned_blocks:,} of 16 were planned"
        in (warning["reason"])
    )


def test_an_engine_with_more_is_no_warning(before):
    made = make(wish(30), measured(before, 40))
    assert codes(made) == {}


def test_adopted_the_number_follows_and_stays(before):
    adopting = make(wish(30), measured(before, 10), adopt_measured=True)
    assert (count(adopting), each(adopting)) == (3, 10)
    assert adopting["basis"]["llama"]["L40S-48GB"]["kv_blocks"] == 10 * BLOCKS_A_REQUEST
    assert "as measured, 10 requests" in adopting["models"][0]["reason"]
    assert "measured_not_adopted" not in codes(adopting)

    again = make(wish(30), measured(adopting, 10))
    assert (again["id"], again["steps"], again["basis"]) == (adopting["id"], [], adopting["basis"])


def test_a_later_measurement_does_not_move_what_was_adopted(before):
    adopting = make(wish(30), measured(before, 10), adopt_measured=True)
    later = make(wish(30), measured(adopting, 18))
    assert (later["id"], later["steps"], later["basis"]) == (adopting["id"], [], adopting["basis"])
    assert "2 replicas would meet its workload, and 3 run" in codes(later)["measured_not_adopted"]["reason"]


def test_facts_that_were_lost_do_not_move_what_was_adopted(before):
    adopting = make(wish(30), measured(before, 10), adopt_measured=True)
    lost = make(wish(30), applied(adopting))
    assert (lost["id"], lost["steps"], lost["basis"]) == (adopting["id"], [], adopting["basis"])
    assert codes(lost) == {}


def test_replicas_that_come_anyway_are_counted_with_what_was_measured(before):
    """The workload grows past what two hold: the estimate says 3, the measurement 5."""
    made = make(wish(50), measured(before, 10))
    assert (count(made), each(made)) == (5, 10)
    assert make(wish(50), measured(made, 10))["steps"] == []


def test_figures_of_other_settings_count_for_nothing(before):
    changed = make(wish(30, max_num_seqs=17), measured(before, 10), allow_restart=True)
    assert (changed["basis"], each(changed), changed["measured"]) == ({}, 17, {})
    assert codes(changed) == {}


def test_a_fixed_number_of_replicas_is_the_operators():
    fixed = make(wish(30, replica_count=2))
    again = make(wish(30, replica_count=2), measured(fixed, 10), adopt_measured=True)
    assert count(again) == 2
    assert again["steps"] == []


def test_of_several_engines_the_smallest_counts(before):
    state = measured(before, 18)
    state["hosts"]["gpu1"]["measured"]["llama-1"]["kv_blocks"] = 10 * BLOCKS_A_REQUEST
    assert each(make(wish(30), state, adopt_measured=True)) == 10


def test_the_plan_shows_what_was_measured(before):
    shown = make(wish(30), measured(before, 10))["measured"]
    assert shown["llama-0"] == {
        "kv_blocks": 10 * BLOCKS_A_REQUEST,
        "block_size": 16,
        "weights_gib": 14.99,
        "measured_at": TIME,
    }


def test_a_fact_that_cannot_be_read_is_named_and_left_out(before):
    state = measured(before, 10)
    state["hosts"]["gpu1"]["measured"]["llama-0"]["kv_blocks"] = "many"
    made = make(wish(30), state)
    assert "kv_blocks is no number above 0" in codes(made)["measured_unreadable"]["reason"]
    assert set(made["measured"]) == {"llama-1"}


@pytest.mark.parametrize(
    "value", [None, [], {"L4": 3}, {"L4": {"unit_id": 3}}, {"L4": {"unit_id": "a", "kv_blocks": 0, "block_size": 16}}]
)
def test_a_basis_that_is_not_whole_is_left_out(value):
    assert read_basis(value) == {}


def test_a_basis_comes_back_as_it_was_kept():
    kept = {"L4": {"unit_id": "a", "kv_blocks": 9, "block_size": 16}}
    assert read_basis(kept) == {"L4": Figures("a", 9, 16)}
