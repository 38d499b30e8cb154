# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one replica can carry, and how many replicas a workload needs.

A replica carries as many requests at once as its KV cache holds, and as many a second as it is measured or estimated
to serve. A workload needs enough replicas for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..module_utils._model import ModelShape
from ._devices import Kind
from ._interval import Interval
from ._memory import ReplicaMemory, replica_memory
from ._speed import Speed, speed_of
from ._weights import Layout
from ._wishes import Model

FEW_REQUESTS = 4
"""Requests at once below which an operator who stated no workload is told that it is few."""


ROUNDING = 1e-9
"""Relative error of sums of rates, within which a rate is met."""


@dataclass(frozen=True, slots=True)
class MeasuredRate:
    """Requests a second of one replica that somebody measured, and who says so: ``inventory`` or ``benchmark.yml``."""

    requests_per_second: float
    source: str


@dataclass(frozen=True, slots=True)
class Carried:
    """What replicas carry together: requests at once, and requests a second, infinite where nobody knows."""

    at_once: int = 0
    per_second: float = 0.0

    def __add__(self, other: Carried) -> Carried:
        return Carried(self.at_once + other.at_once, self.per_second + other.per_second)

    def __mul__(self, replicas: int) -> Carried:
        return Carried(self.at_once * replicas, self.per_second * replicas if replicas else 0.0)


@dataclass(frozen=True, slots=True)
class Fit:
    """One layout of a model on devices of one kind: its memory, the requests that it holds at once, and its speed.

    requests: of the workload's length where one is stated, else of max_model_len; never more than the scheduler takes.
    admitted: whether a request of max_model_len fits, without which the engine does not start. speed: the estimate,
    None where there is nothing to go by. measured: what is reported in its place. adopted: the measured rate that
    replicas are counted with.
    """

    memory: ReplicaMemory
    requests: int
    admitted: bool
    speed: Speed | None = None
    measured: MeasuredRate | None = None
    adopted: MeasuredRate | None = None

    @property
    def carries(self) -> Carried:
        """What one replica carries of a workload."""
        if self.adopted:
            return Carried(self.requests, self.adopted.requests_per_second)
        return Carried(self.requests, self.speed.requests_per_second.likely if self.speed else math.inf)

    @property
    def reported(self) -> Interval | None:
        """Requests a second of one replica, as measured where it was, else as estimated; None where neither is."""
        if self.measured:
            return Interval.exactly(self.measured.requests_per_second)
        return self.speed.requests_per_second if self.speed else None

    @property
    def kind(self) -> Kind:
        return self.memory.kind

    @property
    def layout(self) -> Layout:
        return self.memory.layout

    @property
    def fits(self) -> bool:
        return self.admitted and self.memory.starts


def fit(model: Model, shape: ModelShape, kind: Kind, layout: Layout, max_model_len: int) -> Fit:
    """Hold a model against devices of one kind, cut in one way. ``shape``: as served.

    Raises ShardingError where the weights cannot be divided so.
    """
    memory = replica_memory(model, shape, kind, layout, max_model_len)
    longest = memory.cache.request_blocks(max_model_len)
    requests = requests_held(model, shape, memory, max_model_len, memory.blocks)
    stated = model.per_replica_requests_per_second
    rate = MeasuredRate(stated, "inventory") if stated else None
    return Fit(
        memory=memory,
        requests=requests,
        # the engine keeps one block for itself
        admitted=memory.blocks - 1 >= longest,
        speed=speed_of(model, shape, memory, requests),
        measured=rate,
        adopted=rate,
    )


def requests_held(model: Model, shape: ModelShape, memory: ReplicaMemory, max_model_len: int, blocks: int) -> int:
    """Requests that a replica holds at once with so many KV blocks a rank; never more than its schedulers take."""
    each = memory.cache.request_blocks(request_tokens(model, max_model_len))
    return memory.layout.data_parallel_size * min(blocks // max(1, each), memory.batch.sequences)


def request_tokens(model: Model, max_model_len: int) -> int:
    """Tokens of the request that capacity is counted in."""
    stated = model.workload.tokens_per_request
    return min(stated, max_model_len) if stated else max_model_len


def replicas_wanted(model: Model, each: Carried) -> int:
    """Replicas that meet the workload when each carries so much; as many as stated where that is fixed."""
    if model.replica_count is not None:
        return model.replica_count
    at_once = math.ceil((model.workload.concurrent_requests or 0) / max(1, each.at_once))
    per_second = math.ceil((model.workload.requests_per_second or 0) / each.per_second * (1 - ROUNDING))
    return max(1, at_once, per_second)


def is_wanted(model: Model, index: int, carried: Carried) -> bool:
    """Whether a model needs a replica of this index, when those before it carry so much."""
    if model.replica_count is not None:
        return index < model.replica_count
    return index == 0 or not _suffices(model, carried)


def meets_workload(model: Model, each: Carried, replicas: int) -> bool:
    """Whether so many replicas carry the workload; true where none is stated."""
    return _suffices(model, each * replicas)


def _suffices(model: Model, carried: Carried) -> bool:
    at_once, per_second = model.workload.concurrent_requests or 0, model.workload.requests_per_second or 0
    return carried.at_once >= at_once and carried.per_second >= per_second * (1 - ROUNDING)
