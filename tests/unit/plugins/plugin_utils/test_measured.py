# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._measured_fact import unit_id
from ansible_collections.gpufleet.serving.plugins.plugin_utils._measured import (
    Benchmark,
    Measured,
    UnreadableError,
    read_measured,
)

UNIT = {"name": "tiny-0", "model": "tiny", "port": 8000, "config": {"max_model_len": 1024}}
BENCHMARK = {
    "concurrency": 8,
    "prompt_tokens": 512,
    "output_tokens": 128,
    "requests_per_second": 3.5,
    "output_tokens_per_second": 448.0,
    "ttft_ms": {"p50": 30.5, "p99": 60.0},
    "itl_ms": {"p50": 4, "p99": 9.5},
    "measured_at": "2026-01-31T13:00:00Z",
    "tool": "vllm bench serve 0.33.0",
}


def entry(**words):
    return {"unit_id": unit_id(UNIT), "measured_at": "2026-01-31T12:00:00Z", "kv_blocks": 900, **words}


def test_figures_and_benchmark_of_the_applied_settings():
    told = entry(block_size=16, kv_tokens=14400, kv_gib=2.5, weights_gib=15.4, benchmark=BENCHMARK)
    assert read_measured(told, UNIT) == Measured(
        kv_blocks=900,
        block_size=16,
        kv_tokens=14400,
        kv_gib=2.5,
        weights_gib=15.4,
        measured_at="2026-01-31T12:00:00Z",
        benchmark=Benchmark(
            concurrency=8,
            prompt_tokens=512,
            output_tokens=128,
            requests_per_second=3.5,
            output_tokens_per_second=448.0,
            ttft_ms=(30.5, 60.0),
            itl_ms=(4, 9.5),
            measured_at="2026-01-31T13:00:00Z",
            tool="vllm bench serve 0.33.0",
        ),
    )


def test_what_an_engine_does_not_tell_is_not_known():
    assert read_measured(entry(), UNIT) == Measured(kv_blocks=900, measured_at="2026-01-31T12:00:00Z")


def test_figures_of_other_settings_are_none_of_this_unit():
    assert read_measured(entry(), {**UNIT, "config": {"max_model_len": 2048}}) is None


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([], "the entry is no mapping"),
        (entry(kv_blocks="900"), "kv_blocks is no number above 0"),
        (entry(kv_blocks=0), "kv_blocks is no number above 0"),
        (entry(kv_gib=True), "kv_gib is no amount"),
        (entry(weights_gib=-1), "weights_gib is no amount"),
        (entry(measured_at=5), "measured_at is no text"),
        (entry(benchmark=3), "benchmark is no mapping"),
        (entry(benchmark={**BENCHMARK, "ttft_ms": {"p50": 1}}), "ttft_ms.p99 is missing"),
        (entry(benchmark={**BENCHMARK, "tool": None}), "tool is missing"),
    ],
)
def test_what_the_collection_does_not_write_is_named(told, words):
    with pytest.raises(UnreadableError, match=words):
        read_measured(told, UNIT)
