# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import math

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._gpu_catalogue import CATALOGUE
from ansible_collections.gpufleet.serving.plugins.module_utils._model_config import shape_from_config
from ansible_collections.gpufleet.serving.plugins.plugin_utils._devices import CPU, CUDA, Kind
from ansible_collections.gpufleet.serving.plugins.plugin_utils._memory import replica_memory
from ansible_collections.gpufleet.serving.plugins.plugin_utils._speed import (
    KNOWN_DEVICES,
    SPREAD,
    THIN_SPREAD,
    speed_of,
)
from ansible_collections.gpufleet.serving.plugins.plugin_utils._weights import Layout
from ansible_collections.gpufleet.serving.plugins.plugin_utils._wishes import Model, Source, Workload
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.fleets import LLAMA_8B
from hypothesis import given, settings
from hypothesis import strategies as st

CHAT = Workload(prompt_tokens=1000, output_tokens=300)
SHAPE = shape_from_config(LLAMA_8B)


def speed(workload=CHAT, key="H100-SXM-80GB", tensor=1, pipeline=1, requests=64, accelerator=CUDA, **options):
    model = Model("m", Source("host", "/m"), "m", workload=workload, **options)
    kind = Kind(key, accelerator, 80 * 2**30)
    memory = replica_memory(model, SHAPE, kind, Layout(tensor, pipeline), 8192)
    return speed_of(model, SHAPE, memory, requests)


def test_an_estimate_with_its_interval():
    estimate = speed()
    rate = estimate.requests_per_second
    assert estimate.concurrency == 64
    assert rate.likely / rate.low == pytest.approx(SPREAD)
    assert estimate.output_tokens_per_second.likely == pytest.approx(300 * rate.likely)
    assert rate.likely * (estimate.ttft_ms.likely + 299 * estimate.itl_ms.likely) / 1e3 == pytest.approx(64, rel=0.02)
    assert estimate.decode_step_ms.likely <= estimate.itl_ms.likely
    assert estimate.as_dict()["ttft_ms"] == estimate.ttft_ms.as_dict()


NOTHING_TO_GO_BY = {
    "no lengths": {"workload": Workload(concurrent_requests=64)},
    "no length of answers": {"workload": Workload(prompt_tokens=1000)},
    "a device that nobody knows": {"key": "GTX-480"},
    "a CPU": {"accelerator": CPU},
    "no CUDA graphs": {"engine_args": {"enforce_eager": True}},
    "no room": {"requests": 0},
}


@pytest.mark.parametrize("case", NOTHING_TO_GO_BY.values(), ids=NOTHING_TO_GO_BY)
def test_there_is_no_estimate_without_anything_to_go_by(case):
    assert speed(**case) is None


def test_the_workload_bounds_what_is_at_once():
    few = speed(Workload(concurrent_requests=8, prompt_tokens=1000, output_tokens=300))
    assert few.concurrency == 8
    assert few.itl_ms.likely < speed().itl_ms.likely


THIN = {"a device of few benchmarks": {"key": "L4-24GB"}, "stages": {"pipeline": 2}}


@pytest.mark.parametrize("case", THIN.values(), ids=THIN)
def test_where_benchmarks_are_few_the_interval_is_wide(case):
    rate = speed(**case).requests_per_second
    assert rate.high / rate.likely == pytest.approx(THIN_SPREAD)


def test_known_devices_are_in_the_catalogue():
    assert {model.key for model in CATALOGUE} >= KNOWN_DEVICES


@settings(deadline=None)
@given(
    key=st.sampled_from([model.key for model in CATALOGUE]),
    prompt=st.integers(1, 10**6),
    output=st.integers(1, 10**5),
    at_once=st.none() | st.integers(1, 10**5),
    requests=st.integers(0, 4096),
    tensor=st.sampled_from([1, 2, 4, 8]),
    pipeline=st.sampled_from([1, 2, 3]),
)
def test_every_workload_on_every_gpu_has_an_ordered_interval(key, prompt, output, at_once, requests, tensor, pipeline):
    estimate = speed(Workload(at_once, prompt, output), key, tensor, pipeline, requests)
    assert (estimate is None) == (requests == 0)
    for name in ("requests_per_second", "ttft_ms", "itl_ms", "prefill_tokens_per_second") if estimate else ():
        interval = getattr(estimate, name)
        assert 0 < interval.low <= interval.likely <= interval.high < math.inf
