# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the capacity model against published benchmarks: one factor a row, beside those of two simpler estimates.

A factor is exp(|ln(predicted / measured)|): 1.2 means a fifth off, in either direction.
"""

from __future__ import annotations

import json
import math
import pathlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.serving.plugins.plugin_utils._speed import SPREAD
from ansible_collections.gpufleet.serving.tests.accuracy.throughput_rows import (
    CLOSED,
    Case,
    LeftOutError,
    Models,
    case_of,
    gpu_of,
)
from ansible_collections.gpufleet.serving.tests.accuracy.throughput_runs import (
    Prediction,
    bandwidth_bound,
    predict,
    roofline_bound,
)

WORST = 10
"""Rows that are printed with what was predicted and measured."""


@dataclass(frozen=True)
class Judged:
    """One row with the natural logarithms of predicted / measured; None where a figure was not measured."""

    case: Case
    tokens: float | None
    tpot: float | None


def judge(path: pathlib.Path, models: pathlib.Path) -> tuple[list[str], dict[str, Any]]:
    """Judge the rows of a file of JSON lines. Returns the report and the figures for machines."""
    cases, left_out = read(path, Models(models))
    judged = compare(cases, predict)
    stated = [row for row in judged if row.case.load == CLOSED]
    figures = {
        "capacity_rows": len(judged),
        "capacity_left_out": dict(left_out.most_common()),
        "capacity_coverage": _coverage(judged),
        **_figures("", judged),
        **_figures("stated_", stated),
    }
    return [*_report(path, judged, left_out, figures), *_yardsticks(cases)], figures


def read(path: pathlib.Path, models: Models) -> tuple[list[Case], Counter[str]]:
    """The rows that can be used, and how many cannot, by reason."""
    cases, left_out = [], Counter[str]()
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict):
                raise LeftOutError("no JSON object")
            cases.append(case_of(row, models))
        except json.JSONDecodeError:
            left_out["no JSON"] += 1
        except LeftOutError as reason:
            left_out[str(reason)] += 1
        except (ValueError, TypeError, KeyError, ArithmeticError) as error:
            left_out[f"not readable: {type(error).__name__}: {error}"] += 1
    return cases, left_out


def compare(cases: Iterable[Case], model: Callable[[Case], Prediction]) -> list[Judged]:
    """Hold the predictions of ``model`` against what was measured."""
    judged = []
    for case in cases:
        said = model(case)
        judged.append(
            Judged(
                case,
                math.log(said.tokens_per_second / case.tokens_per_second) if case.tokens_per_second else None,
                math.log(said.tpot / case.tpot) if case.tpot else None,
            )
        )
    return judged


def factor(logarithms: Iterable[float | None], share: float) -> float | None:
    """The factor that ``share`` of the rows stay within; None without rows."""
    sizes = sorted(abs(value) for value in logarithms if value is not None)
    return math.exp(sizes[min(len(sizes) - 1, int(share * len(sizes)))]) if sizes else None


def _figures(prefix: str, judged: Sequence[Judged]) -> dict[str, float | None]:
    tokens, tpots = [row.tokens for row in judged], [row.tpot for row in judged]
    return {
        f"{prefix}tok_factor_median": factor(tokens, 0.5),
        f"{prefix}tok_factor_p90": factor(tokens, 0.9),
        f"{prefix}tpot_factor_median": factor(tpots, 0.5),
        f"{prefix}tpot_factor_p90": factor(tpots, 0.9),
    }


def _coverage(judged: Sequence[Judged]) -> float | None:
    """The share of throughputs within the interval that a plan would print."""
    errors = [row.tokens for row in judged if row.tokens is not None]
    return sum(abs(error) <= math.log(SPREAD) for error in errors) / len(errors) if errors else None


def _report(
    path: pathlib.Path, judged: Sequence[Judged], left_out: Counter[str], figures: Mapping[str, Any]
) -> Iterator[str]:
    yield f"Capacity, from {path.name}: {len(judged)} rows used, {left_out.total()} left out"
    yield from (f"  left out {count:>5}  {reason}" for reason, count in left_out.most_common())
    derived = Counter(row.case.derived for row in judged)
    yield "  output tokens/s from: " + ", ".join(f"{way} ({count})" for way, count in derived.most_common())
    if figures["capacity_coverage"] is not None:
        yield f"  within the interval of the plan (factor {SPREAD}): {figures['capacity_coverage']:.0%} of the rows"
    yield ""
    yield _line("", "rows", "tokens/s", "TPOT")
    yield _row("all", judged)
    for title, key in BY.items():
        yield f"by {title}"
        groups = defaultdict(list)
        for row in judged:
            groups[key(row.case)].append(row)
        yield from (_row(f"  {name}", rows) for name, rows in sorted(groups.items()))
    yield ""
    yield f"The {WORST} rows that are furthest off"
    yield from (_worst(row) for row in sorted(judged, key=_distance)[: -WORST - 1 : -1])


BY: dict[str, Callable[[Case], str]] = {
    "load": lambda case: case.load,
    "GPU": lambda case: _key(case),
    "model": lambda case: str(case.row["model"]).rsplit("/", 1)[-1],
    "source": lambda case: case.source,
}


def _key(case: Case) -> str:
    gpu = gpu_of(str(case.row["gpu"]))
    return gpu.key if gpu else "?"


def _yardsticks(cases: Sequence[Case]) -> Iterator[str]:
    yield ""
    yield "The same rows by simpler estimates"
    yield _row("bandwidth alone", compare(cases, bandwidth_bound))
    yield _row("bandwidth and arithmetic at their peaks", compare(cases, roofline_bound))


def _row(name: str, judged: Sequence[Judged]) -> str:
    tokens, tpots = [row.tokens for row in judged], [row.tpot for row in judged]
    return _line(name, str(len(judged)), _factors(tokens), _factors(tpots))


def _factors(errors: Sequence[float | None]) -> str:
    median, most = factor(errors, 0.5), factor(errors, 0.9)
    return "-" if median is None or most is None else f"{median:.2f} / {most:.2f}"


def _line(name: str, rows: str, tokens: str, tpot: str) -> str:
    return f"{name:<48} {rows:>5}  {tokens:>15}  {tpot:>15}"


def _distance(row: Judged) -> float:
    return max(abs(row.tokens or 0), abs(row.tpot or 0))


def _worst(row: Judged) -> str:
    shown = [
        f"{what} {math.exp(error):.2f} x measured"
        for what, error in (("tokens/s", row.tokens), ("TPOT", row.tpot))
        if error is not None
    ]
    return f"  {row.case.row.get('id', '?')}: {', '.join(shown)}"
