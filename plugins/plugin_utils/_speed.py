# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How fast one replica serves a stated workload: an estimate, with the interval that benchmarks grant it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..module_utils._model import CHUNKED, LINEAR, MAMBA, ModelShape
from ._batching import Pace, Request, Server, at_concurrency
from ._interval import Interval
from ._memory import ReplicaMemory, kv_item_bytes
from ._roofline import rates_of, work_of
from ._weights import Layout, holding
from ._wishes import Model

SPREAD = 2.0
"""An estimate lies within this factor of what is measured: nine of ten public benchmarks do, each judged by constants
that were fitted without its source (tests/accuracy/fit_capacity.py)."""

THIN_SPREAD = 3.0
"""The same where hardly any public benchmark says how good the estimate is."""

KNOWN_DEVICES = frozenset(
    {
        "A100-SXM-40GB",
        "A100-SXM-80GB",
        "B200-SXM-180GB",
        "B300-SXM-288GB",
        "H100-PCIE-80GB",
        "H100-SXM-80GB",
        "H200-SXM-141GB",
        "RTX-3090-24GB",
        "RTX-4090-24GB",
    }
)
"""Devices of twenty public benchmarks at least, and the smaller A100, which some do not tell from the larger."""

THIN_LAYERS = frozenset({CHUNKED, LINEAR, MAMBA})
"""Kinds of layers that no model of those benchmarks has."""

MILLI = 1e3


@dataclass(frozen=True, slots=True)
class Speed:
    """What one replica does with ``concurrency`` requests of so many tokens at once.

    Rates are per second of the whole replica. ttft_ms: milliseconds to the first token, the wait for other prompts
    included. itl_ms: between two tokens. prefill_tokens_per_second: with nothing else to do. decode_step_ms: a step
    that carries no prompt.
    """

    concurrency: int
    prompt_tokens: int
    output_tokens: int
    requests_per_second: Interval
    output_tokens_per_second: Interval
    prefill_tokens_per_second: Interval
    ttft_ms: Interval
    itl_ms: Interval
    decode_step_ms: Interval

    def as_dict(self) -> dict[str, Any]:
        """The estimate as the plan holds it."""
        intervals = (
            "requests_per_second",
            "output_tokens_per_second",
            "prefill_tokens_per_second",
            "ttft_ms",
            "itl_ms",
            "decode_step_ms",
        )
        return {
            "concurrency": self.concurrency,
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            **{name: getattr(self, name).as_dict() for name in intervals},
        }


def speed_of(model: Model, shape: ModelShape, memory: ReplicaMemory, requests: int) -> Speed | None:
    """Estimate one replica at the model's workload. ``shape``: as served; ``requests``: what it holds at once.

    None where there is nothing to go by: no lengths stated, a device that is not in the catalogue, a CPU, an engine
    without CUDA graphs, or no room for a single request.
    """
    workload = model.workload
    prompt, output = workload.prompt_tokens, workload.output_tokens
    server = server_of(model, shape, memory, requests)
    if prompt is None or output is None or server is None or model.engine_args.get("enforce_eager") is True:
        return None
    concurrency = min(requests, workload.concurrent_requests or requests)
    pace = _pace(server, Request(prompt, output), math.ceil(concurrency / memory.layout.data_parallel_size))
    return _stated(pace, Request(prompt, output), concurrency, memory.layout, _spread(shape, memory))


def server_of(model: Model, shape: ModelShape, memory: ReplicaMemory, requests: int) -> Server | None:
    """One replica as its scheduler sees it, or one of the copies of a data parallel one.

    None on a device of unknown speed, where nothing fits, and where every layer waits for a network of unknown speed.
    """
    rates, layout = rates_of(memory.kind), memory.layout
    if rates is None or requests < 1 or layout.crosses:
        return None
    held = holding(model.engine_args, memory.kind.compute_capability, layout)
    work = work_of(
        shape,
        layout.tensor_parallel_size,
        layout.pipeline_parallel_size,
        expert_parallel_size=held.expert_parallel_size,
        kv_item_bytes=kv_item_bytes(model, shape),
        context_ranks=model.decode_context_parallel_size,
    )
    return Server(work, rates, sequences=requests // layout.data_parallel_size, batch_tokens=memory.batch.tokens)


@lru_cache(maxsize=4096)
def _pace(server: Server, request: Request, concurrency: int) -> Pace:
    return at_concurrency(server, request, concurrency)


def _stated(pace: Pace, request: Request, concurrency: int, layout: Layout, spread: float) -> Speed:
    copies = layout.data_parallel_size
    rate = pace.requests_per_second * copies
    return Speed(
        concurrency=concurrency,
        prompt_tokens=int(request.prompt_tokens),
        output_tokens=int(request.output_tokens),
        requests_per_second=Interval.within(rate, spread),
        output_tokens_per_second=Interval.within(rate * request.output_tokens, spread),
        prefill_tokens_per_second=Interval.within(pace.prefill_tokens_per_second * copies, spread),
        ttft_ms=Interval.within(pace.ttft * MILLI, spread),
        itl_ms=Interval.within(pace.itl * MILLI, spread),
        decode_step_ms=Interval.within(pace.decode * MILLI, spread),
    )


def _spread(shape: ModelShape, memory: ReplicaMemory) -> float:
    known = (
        memory.kind.key in KNOWN_DEVICES
        and memory.layout.pipeline_parallel_size == memory.layout.data_parallel_size == 1
        and not THIN_LAYERS & set(shape.layer_types)
    )
    return SPREAD if known else THIN_SPREAD
