# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import re

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._measured_fact import (
    FactError,
    fact_text,
    now,
    of_present,
    read_fact,
    unit_id,
    with_benchmark,
    with_figures,
)

UNIT = {
    "name": "llama-0",
    "model": "llama",
    "address": "10.0.0.11",
    "port": 8000,
    "devices": ["GPU-1", "GPU-2"],
    "engine_path": "/opt/gpufleet/engine/cuda-0.33.0",
    "model_path": "/var/lib/gpufleet/models/llama/0123456789ab",
    "accelerator": "cuda",
    "config": {"served_model_name": "llama", "tensor_parallel_size": 2, "gpu_memory_utilization": 0.9},
    "engine_args": {},
    "engine_env": {},
}
ID = unit_id(UNIT)
TOLD = {"kv_blocks": 900, "block_size": 16, "weights_gib": 15.4, "predicted": {"kv_blocks": 880}}
FIRST, LATER = "2026-01-31T12:00:00Z", "2026-02-01T12:00:00Z"


def test_replicas_alike_have_one_id_wherever_they_are():
    assert unit_id({**UNIT, "name": "llama-1", "address": "10.0.0.12", "port": 8001, "devices": ["GPU-8"]}) == ID


@pytest.mark.parametrize(
    "change",
    [
        {"engine_path": "/opt/gpufleet/engine/cuda-0.34.0"},
        {"model_path": "/var/lib/gpufleet/models/llama/ba9876543210"},
        {"config": {**UNIT["config"], "gpu_memory_utilization": 0.8}},
        {"engine_args": {"enforce_eager": True}},
        {"engine_env": {"VLLM_ATTENTION_BACKEND": "FLASHINFER"}},
    ],
    ids=["engine", "weights", "config", "arguments", "environment"],
)
def test_another_setting_makes_another_id(change):
    assert unit_id({**UNIT, **change}) != ID


def test_figures_are_kept_with_the_time_at_which_they_came():
    replicas = with_figures({}, "llama-0", ID, TOLD, FIRST)
    assert replicas == {"llama-0": {"unit_id": ID, "measured_at": FIRST, **TOLD}}


def test_the_same_figures_change_nothing():
    replicas = with_figures({}, "llama-0", ID, TOLD, FIRST)
    assert with_figures(replicas, "llama-0", ID, TOLD, LATER) == replicas


def test_another_figure_is_taken_with_its_time():
    replicas = with_figures({}, "llama-0", ID, TOLD, FIRST)
    after = with_figures(replicas, "llama-0", ID, {**TOLD, "kv_blocks": 901}, LATER)
    assert after["llama-0"] == {"unit_id": ID, "measured_at": LATER, **TOLD, "kv_blocks": 901}


def test_what_left_the_journal_stays_known():
    replicas = with_figures({}, "llama-0", ID, TOLD, FIRST)
    assert with_figures(replicas, "llama-0", ID, {"kv_blocks": 900}, LATER) == replicas


def test_other_settings_throw_everything_away():
    replicas = with_benchmark(with_figures({}, "llama-0", ID, TOLD, FIRST), "llama-0", ID, {"concurrency": 4}, FIRST)
    assert with_figures(replicas, "llama-0", "other", {"kv_blocks": 5}, LATER) == {
        "llama-0": {"unit_id": "other", "measured_at": LATER, "kv_blocks": 5}
    }
    assert with_benchmark(replicas, "llama-0", "other", {"concurrency": 8}, LATER) == {
        "llama-0": {"unit_id": "other", "benchmark": {"concurrency": 8, "measured_at": LATER}}
    }


def test_a_benchmark_stands_beside_the_figures_and_in_place_of_an_older_one():
    replicas = with_figures({}, "llama-0", ID, TOLD, FIRST)
    once = with_benchmark(replicas, "llama-0", ID, {"requests_per_second": 3.0}, FIRST)
    twice = with_benchmark(once, "llama-0", ID, {"requests_per_second": 3.1}, LATER)
    assert twice["llama-0"] == {
        **replicas["llama-0"],
        "benchmark": {"requests_per_second": 3.1, "measured_at": LATER},
    }
    assert with_figures(twice, "llama-0", ID, TOLD, LATER) == twice


def test_entries_of_replicas_that_left_go():
    replicas = with_figures(with_figures({}, "a", ID, TOLD, FIRST), "b", ID, TOLD, FIRST)
    assert list(of_present(replicas, ["b", "c"])) == ["b"]


def test_a_fact_comes_back_as_it_was_written(tmp_path):
    replicas = with_figures({}, "llama-0", ID, TOLD, FIRST)
    path = tmp_path / "gpufleet_measured.fact"
    assert read_fact(path) == {}
    path.write_text(fact_text(replicas))
    assert read_fact(path) == replicas
    assert json.loads(path.read_text()) == {"replicas": replicas}
    assert fact_text({}) == ""


@pytest.mark.parametrize("content", ["{", "[]", '{"replicas": []}', '{"replicas": {"a": 1}}'])
def test_a_file_of_somebody_else_is_told_apart(tmp_path, content):
    path = tmp_path / "gpufleet_measured.fact"
    path.write_text(content)
    with pytest.raises(FactError, match="gpufleet_measured.fact: "):
        read_fact(path)


def test_a_moment_is_in_utc():
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", now())
