# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._model_config import shape_from_config
from ansible_collections.gpufleet.serving.plugins.plugin_utils._batching import (
    Request,
    Server,
    at_concurrency,
    at_rate,
)
from ansible_collections.gpufleet.serving.plugins.plugin_utils._devices import CUDA, Kind
from ansible_collections.gpufleet.serving.plugins.plugin_utils._roofline import rates_of, work_of
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.fleets import LLAMA_8B
from hypothesis import given, settings
from hypothesis import strategies as st

CHAT = Request(1000, 300)


def server(key="H100-SXM-80GB", sequences=256.0, batch_tokens=8192.0, tensor=1, pipeline=1):
    rates = rates_of(Kind(key, CUDA, 80 * 2**30))
    assert rates is not None
    return Server(work_of(shape_from_config(LLAMA_8B), tensor, pipeline), rates, sequences, batch_tokens)


def test_a_lone_request_takes_its_prompt_and_then_its_steps():
    pace = at_concurrency(server(), CHAT, 1)
    prompt = server().seconds(0, 0, 1000, 1000, 1)
    step = server().seconds(1, CHAT.context)
    assert 1 / pace.requests_per_second == pytest.approx(prompt + 299 * step, rel=0.1)
    assert pace.decode == pytest.approx(step, rel=0.01)
    assert pace.prefill_tokens_per_second == pytest.approx(1000 / prompt)


def test_littles_law_holds():
    for clients in (1, 8, 64, 256, 1000):
        pace = at_concurrency(server(), CHAT, clients)
        assert pace.requests_per_second * (pace.ttft + 299 * pace.itl) == pytest.approx(clients, rel=0.02)


def test_what_does_not_fit_waits():
    some, many = at_concurrency(server(sequences=32), CHAT, 32), at_concurrency(server(sequences=32), CHAT, 320)
    assert many.requests_per_second == pytest.approx(some.requests_per_second)
    assert many.itl == pytest.approx(some.itl)
    assert many.ttft == pytest.approx(some.ttft + 288 / some.requests_per_second)


def test_prompts_without_answers_are_prefilled_one_after_another():
    pace = at_concurrency(server(), Request(8000, 1), 64)
    assert pace.requests_per_second == pytest.approx(1 / server().seconds(0, 4000, 8000, 8000, 1), rel=0.1)


def test_long_prompts_are_cut_to_the_budget():
    short, long = (at_concurrency(server(batch_tokens=tokens), Request(16000, 100), 4) for tokens in (2048, 16384))
    assert short.itl < long.itl


def test_stages_of_a_pipeline_share_the_sequences():
    alone, piped = at_concurrency(server(), CHAT, 64), at_concurrency(server(pipeline=4), CHAT, 64)
    assert piped.itl < alone.itl
    lone = at_concurrency(server(pipeline=4), CHAT, 1)
    assert lone.itl >= at_concurrency(server(), CHAT, 1).itl


def test_at_a_rate_there_are_as_many_requests_as_it_takes():
    most = at_concurrency(server(), CHAT, 256)
    half = at_rate(server(), CHAT, most.requests_per_second / 2)
    assert half.requests_per_second == pytest.approx(most.requests_per_second / 2, rel=0.01)
    assert half.itl < most.itl
    assert at_rate(server(), CHAT, most.requests_per_second * 2) == most


loads = st.tuples(st.floats(1, 200000), st.floats(1, 20000), st.floats(1, 5000))
servers = st.builds(
    server,
    key=st.sampled_from(["H100-SXM-80GB", "L4-24GB", "B200-SXM-180GB", "T4-16GB"]),
    sequences=st.floats(1, 1024),
    batch_tokens=st.sampled_from([512.0, 2048.0, 16384.0]),
    tensor=st.sampled_from([1, 2, 8]),
    pipeline=st.sampled_from([1, 2, 4]),
)


@settings(deadline=None)
@given(load=loads, replica=servers, slower=st.floats(0.1, 0.9))
def test_a_slower_device_is_never_faster(load, replica, slower):
    prompt, output, clients = load
    request = Request(prompt, output)
    rates = replica.rates
    slow = replace(
        replica,
        rates=replace(
            rates,
            memory=rates.memory * slower,
            flops=tuple((bits, flops * slower) for bits, flops in rates.flops),
            link=rates.link * slower,
        ),
    )
    fast, late = at_concurrency(replica, request, clients), at_concurrency(slow, request, clients)
    # the fixed point is met to a thousandth
    assert late.requests_per_second <= fast.requests_per_second * 1.01


@settings(deadline=None)
@given(load=loads, replica=servers, rate=st.floats(1e-4, 1e4))
def test_every_load_has_a_pace(load, replica, rate):
    prompt, output, clients = load
    request = Request(prompt, output)
    for pace in (at_concurrency(replica, request, clients), at_rate(replica, request, rate)):
        assert pace.requests_per_second > 0
        assert 0 < pace.decode <= pace.itl * 1.001
        assert pace.ttft > 0
        assert 0 < pace.running <= replica.sequences
