# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What was measured of a replica that runs: its engine's own figures, and what it did under a stated load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from ..module_utils._measured_fact import unit_id
from ._reading import is_whole

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One replica under load: ``concurrency`` requests at once, each of so many prompt and output tokens.

    requests_per_second, output_tokens_per_second: of the whole replica. ttft_ms, itl_ms: (median, 99th percentile) of
    the time to the first token and between two tokens, in milliseconds. tool: the load generator with its version.
    """

    concurrency: int
    prompt_tokens: int
    output_tokens: int
    requests_per_second: float
    output_tokens_per_second: float
    ttft_ms: tuple[float, float]
    itl_ms: tuple[float, float]
    measured_at: str
    tool: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What one replica's engine has, under the settings that are applied. None: it did not tell.

    kv_blocks, block_size (tokens of a block), kv_tokens: of the KV cache. weights_gib: GiB of weights on one rank.
    measured_at: when the figures last changed, in ISO 8601.
    """

    kv_blocks: int | None = None
    block_size: int | None = None
    kv_tokens: int | None = None
    kv_gib: float | None = None
    weights_gib: float | None = None
    measured_at: str | None = None
    benchmark: Benchmark | None = None

    def as_dict(self) -> dict[str, Any]:
        """What is known, under the names and in the shape of the fact."""
        told = asdict(self)
        if self.benchmark:
            told["benchmark"] |= {
                word: dict(zip(("p50", "p99"), told["benchmark"][word], strict=True)) for word in ("ttft_ms", "itl_ms")
            }
        return {word: value for word, value in told.items() if value is not None}


class UnreadableError(ValueError):
    """An entry of the fact is not what the collection writes; the text says where."""


def read_measured(entry: Any, unit: Mapping[str, Any]) -> Measured | None:
    """An entry of ``gpufleet_measured.fact``; None where it is about other settings than those of ``unit``.

    Raises UnreadableError.
    """
    told = _mapping(entry, "the entry")
    if told.get("unit_id") != unit_id(unit):
        return None
    return Measured(
        kv_blocks=_whole(told, "kv_blocks"),
        block_size=_whole(told, "block_size"),
        kv_tokens=_whole(told, "kv_tokens"),
        kv_gib=_amount(told, "kv_gib"),
        weights_gib=_amount(told, "weights_gib"),
        measured_at=_text(told, "measured_at"),
        benchmark=_benchmark(_mapping(told["benchmark"], "benchmark")) if "benchmark" in told else None,
    )


def _benchmark(told: Mapping[str, Any]) -> Benchmark:
    return Benchmark(
        concurrency=_needed(_whole(told, "concurrency"), "concurrency"),
        prompt_tokens=_needed(_whole(told, "prompt_tokens"), "prompt_tokens"),
        output_tokens=_needed(_whole(told, "output_tokens"), "output_tokens"),
        requests_per_second=_needed(_amount(told, "requests_per_second"), "requests_per_second"),
        output_tokens_per_second=_needed(_amount(told, "output_tokens_per_second"), "output_tokens_per_second"),
        ttft_ms=_percentiles(told, "ttft_ms"),
        itl_ms=_percentiles(told, "itl_ms"),
        measured_at=_needed(_text(told, "measured_at"), "measured_at"),
        tool=_needed(_text(told, "tool"), "tool"),
    )


def _percentiles(told: Mapping[str, Any], name: str) -> tuple[float, float]:
    times = _mapping(told.get(name), name)
    return _needed(_amount(times, "p50"), f"{name}.p50"), _needed(_amount(times, "p99"), f"{name}.p99")


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if isinstance(value, dict):
        return value
    raise UnreadableError(f"{name} is no mapping")


def _whole(told: Mapping[str, Any], name: str) -> int | None:
    value = told.get(name)
    if value is None or (is_whole(value) and value > 0):
        return value
    raise UnreadableError(f"{name} is no number above 0")


def _amount(told: Mapping[str, Any], name: str) -> float | None:
    value = told.get(name)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value >= 0):
        return value
    raise UnreadableError(f"{name} is no amount")


def _text(told: Mapping[str, Any], name: str) -> str | None:
    value = told.get(name)
    if value is None or isinstance(value, str):
        return value
    raise UnreadableError(f"{name} is no text")


def _needed(value: Value | None, name: str) -> Value:
    if value is None:
        raise UnreadableError(f"{name} is missing")
    return value
