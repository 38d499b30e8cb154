# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one replica can carry, and how many replicas a workload needs.

For now capacity is what the KV cache holds at once. A roofline of requests per second belongs beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..module_utils._model import ModelShape
from ._devices import Kind
from ._memory import Layout, ReplicaMemory, replica_memory
from ._wishes import Model

FEW_REQUESTS = 4
"""Requests at once below which an operator who stated no workload is told that it is few."""


@dataclass(frozen=True, slots=True)
class Fit:
    """One layout of a model on devices of one kind: its memory, and the requests that it holds at once.

    requests: of the workload's length where one is stated, else of max_model_len; never more than the scheduler takes.
    admitted: whether a request of max_model_len fits, without which the engine does not start.
    """

    memory: ReplicaMemory
    requests: int
    admitted: bool

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
    return Fit(
        memory=memory,
        requests=requests_held(model, shape, memory, max_model_len, memory.blocks),
        # the engine keeps one block for itself
        admitted=memory.blocks - 1 >= longest,
    )


def requests_held(model: Model, shape: ModelShape, memory: ReplicaMemory, max_model_len: int, blocks: int) -> int:
    """Requests that so many KV blocks hold at once; never more than the scheduler takes."""
    each = memory.cache.request_blocks(request_tokens(model, max_model_len))
    return min(blocks // max(1, each), memory.batch.sequences)


def request_tokens(model: Model, max_model_len: int) -> int:
    """Tokens of the request that capacity is counted in."""
    stated = model.workload.tokens_per_request
    return min(stated, max_model_len) if stated else max_model_len


def replicas_wanted(model: Model, requests: int) -> int:
    """Replicas that meet the workload when each holds ``requests`` at once; as many as stated where that is fixed."""
    if model.replica_count is not None:
        return model.replica_count
    concurrent = model.workload.concurrent_requests
    return math.ceil(concurrent / max(1, requests)) if concurrent else 1


def is_wanted(model: Model, index: int, held: int) -> bool:
    """Whether a model needs a replica of this index, when those before it hold so many requests at once."""
    if model.replica_count is not None:
        return index < model.replica_count
    return held < (model.workload.concurrent_requests or 1)


def meets_workload(model: Model, requests: int, replicas: int) -> bool:
    """Whether so many replicas hold the workload's concurrent requests; true where none are stated."""
    return replicas * requests >= (model.workload.concurrent_requests or 0)
