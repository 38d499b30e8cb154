# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The usual formulas, on the same rows: what a planner has to beat.

``parameters x 2 bytes x 1.2`` is what model cards and blogs advise. The second reckons the KV cache from the hidden
size (2 x layers x hidden x length x 2 bytes), as if every query head had a key and a value, and adds 15 % to all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.gpufleet.serving.plugins.module_utils._model import ModelShape

GIB = 2**30
BYTES = 2
ROOM = 1.2
OVERHEAD = 1.15


@dataclass(frozen=True)
class Formula:
    """What a formula says: GiB of weights and of KV cache on a rank, tokens of the replica, and whether it fits."""

    weights_gib: float
    kv_gib: float
    kv_tokens: float
    fits: bool


def twenty_percent(shape: ModelShape, ranks: int, total_gib: float, share: float, length: int) -> Formula:
    """Parameters x 2 bytes x 1.2; what is left of the engine's share is KV cache, by the hidden size."""
    weights = shape.parameter_count * BYTES * ROOM / ranks / GIB
    kv = max(0.0, total_gib * share - weights)
    return Formula(weights, kv, kv * ranks * GIB / _token_bytes(shape), weights <= total_gib * share)


def hidden_size(shape: ModelShape, ranks: int, total_gib: float, share: float, length: int) -> Formula:
    """Weights and KV cache of the whole context, by the hidden size, and 15 % on top."""
    weights = shape.parameter_count * BYTES / ranks / GIB
    kv = max(0.0, total_gib * share / OVERHEAD - weights)
    one = length * _token_bytes(shape) / ranks / GIB
    return Formula(weights, kv, kv * ranks * GIB / _token_bytes(shape), kv >= one)


def _token_bytes(shape: ModelShape) -> int:
    return 2 * shape.num_hidden_layers * shape.hidden_size * BYTES


FORMULAS: dict[str, Callable[[ModelShape, int, float, float, int], Formula]] = {
    "parameters x 2 bytes x 1.2": twenty_percent,
    "KV from the hidden size, + 15 %": hidden_size,
}
