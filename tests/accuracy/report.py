# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures of a file of start-ups, for people and for machines."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ansible_collections.gpufleet.serving.tests.accuracy import yardsticks

if TYPE_CHECKING:
    from ansible_collections.gpufleet.serving.tests.accuracy.startup import Case, Prediction

GIB = 2**30
WORST_ROWS = 10

Outcome = tuple[str, "Case", "Prediction"]
"""A row's name, the planner's inputs for it, and what the planner says."""


@dataclass(frozen=True)
class Comparison:
    """One figure of one row: what was measured, what was predicted, and the interval of the prediction."""

    name: str
    figure: str
    measured: float
    predicted: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """By how much of the measured figure the prediction is off."""
        return self.predicted / self.measured - 1

    @property
    def covered(self) -> bool:
        """Whether the interval holds the measured figure."""
        return self.low <= self.measured <= self.high


def startup(
    path: pathlib.Path,
    outcomes: Sequence[Outcome],
    left_out: Mapping[str, str],
    crossvalidated: Sequence[Outcome] | None,
) -> tuple[list[str], dict[str, Any]]:
    """The lines to print and the figures for machines.

    left_out: rows that could not be predicted, with the reason. crossvalidated: the same outcomes with constants that
    were fitted without a row's own source; None where the file is not the one that the constants were fitted to.
    """
    rows = len(outcomes) + len(left_out)
    compared, verdicts = _judged(outcomes)
    figures = summary(compared, verdicts, rows)
    lines = [f"start-ups: {path.name}, {rows} rows, {len(outcomes)} predicted, {len(left_out)} not", _header()]
    lines.append(_line("the planner", figures))
    if crossvalidated is not None:
        refitted = summary(*_judged(crossvalidated), rows)
        lines.append(_line("the same, cross-validated by source", refitted))
        figures |= {f"crossvalidated_{name}": value for name, value in refitted.items() if name != "rows"}
    lines += [_line(name, _by_formula(formula, outcomes)) for name, formula in yardsticks.FORMULAS.items()]
    figures["interval_width_median"] = _width(outcomes)
    if figures["coverage"] is not None and figures["interval_width_median"] is not None:
        lines.append(
            f"  the interval of the KV cache holds {figures['coverage']:.0%} of {figures['kv_gib_rows']} rows; "
            f"its median width is {figures['interval_width_median']:.1%} of the device"
        )
    lines += _verdict_lines(verdicts)
    lines += _worst(compared)
    lines += [f"  not predicted: {name}: {reason}" for name, reason in left_out.items()]
    return lines, {**figures, "left_out": dict(left_out)}


def _judged(outcomes: Sequence[Outcome]) -> tuple[list[Comparison], list[Verdict]]:
    compared = [found for name, case, prediction in outcomes for found in comparisons(name, case, prediction)]
    return compared, [found for name, case, prediction in outcomes if (found := verdict(name, case, prediction))]


def comparisons(name: str, case: Case, prediction: Prediction) -> Iterable[Comparison]:
    """Each figure that the row tells and that can be predicted."""
    from ansible_collections.gpufleet.serving.tests.accuracy.startup import measured_tokens

    weights = _positive(case.row.get("weights_gib_per_gpu"))
    if weights and "weights" not in case.excluded:
        value = prediction.weights_gib
        yield Comparison(name, "weights", weights, value, value, value)
    if prediction.kv_gib is None or prediction.kv_tokens is None:
        return
    kv = _positive(case.row.get("kv_cache_gib_per_gpu"))
    if kv and "kv" not in case.excluded:
        found = prediction.kv_gib
        yield Comparison(name, "KV GiB", kv, max(0.0, found.likely), found.low, found.high)
    tokens = measured_tokens(case)
    if tokens and "tokens" not in case.excluded:
        found = prediction.kv_tokens
        yield Comparison(name, "KV tokens", tokens, found.likely, found.low, found.high)


@dataclass(frozen=True)
class Verdict:
    """Whether a row started, and what was said before."""

    name: str
    started: bool
    promised: bool


def verdict(name: str, case: Case, prediction: Prediction) -> Verdict | None:
    """The verdict on a row that tells whether it started and on which device."""
    started = case.row.get("fits")
    if not isinstance(started, bool) or prediction.fits is None or "fit" in case.excluded:
        return None
    return Verdict(name, started, prediction.fits)


def summary(compared: Sequence[Comparison], verdicts: Sequence[Verdict], rows: int) -> dict[str, Any]:
    """The figures for machines; errors are fractions, null where no row tells."""
    figures: dict[str, Any] = {"rows": rows}
    for key, figure in (("weights", "weights"), ("kv_gib", "KV GiB"), ("kv_tokens", "KV tokens")):
        errors = sorted(abs(found.error) for found in compared if found.figure == figure)
        figures[f"{key}_rows"] = len(errors)
        figures[f"{key}_median"] = statistics.median(errors) if errors else None
        figures[f"{key}_p90"] = percentile(errors, 0.9)
    refused = [found for found in verdicts if not found.started]
    started = [found for found in verdicts if found.started]
    intervals = [found for found in compared if found.figure == "KV GiB"]
    figures |= {
        "refusal_rows": len(refused),
        "false_fits": sum(found.promised for found in refused),
        "fit_rows": len(started),
        "false_refusals": sum(not found.promised for found in started),
        "coverage": sum(found.covered for found in intervals) / len(intervals) if intervals else None,
    }
    return figures


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value below which so large a share of the sorted values lies, between neighbours in proportion."""
    if not values:
        return None
    place = (len(values) - 1) * share
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)


def _header() -> str:
    cells = "".join(f"{name:>16}" for name in ("weights", "KV GiB", "KV tokens"))
    return f"  {'median / p90 of the relative error, %':38}{cells}{'refusals called fits':>22}{'fits refused':>14}"


def _width(outcomes: Sequence[Outcome]) -> float | None:
    """The median width of the KV cache's interval over the rows that tell it, as a share of the device."""
    widths = [
        (prediction.kv_gib.high - prediction.kv_gib.low) * GIB / case.kind.memory_bytes
        for name, case, prediction in outcomes
        if prediction.kv_gib
        and case.kind
        and any(found.figure == "KV GiB" for found in comparisons(name, case, prediction))
    ]
    return statistics.median(widths) if widths else None


def _line(name: str, figures: Mapping[str, Any]) -> str:
    cells = "".join(f"{_pair(figures, key):>16}" for key in ("weights", "kv_gib", "kv_tokens"))
    refusals = f"{figures['false_fits']} of {figures['refusal_rows']}"
    return f"  {name:38}{cells}{refusals:>22}{figures['false_refusals']:>8} of {figures['fit_rows']}"


def _pair(figures: Mapping[str, Any], key: str) -> str:
    median, high = figures[f"{key}_median"], figures[f"{key}_p90"]
    return "no row" if median is None else f"{median * 100:.2f} / {high * 100:.1f}"


def _by_formula(formula: Callable[..., yardsticks.Formula], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    compared: list[Comparison] = []
    verdicts: list[Verdict] = []
    for name, case, prediction in outcomes:
        share = case.model.gpu_memory_utilization or 0.9
        total = case.kind.memory_bytes / GIB if case.kind else 0.0
        said = formula(case.shape, case.layout.world, total, share, case.max_model_len)
        told = {"weights": said.weights_gib, "KV GiB": said.kv_gib, "KV tokens": said.kv_tokens}
        for found in comparisons(name, case, prediction):
            value = told[found.figure]
            compared.append(Comparison(name, found.figure, found.measured, value, value, value))
        judged = verdict(name, case, prediction)
        if judged:
            verdicts.append(Verdict(name, judged.started, said.fits))
    return summary(compared, verdicts, len(outcomes))


def _verdict_lines(verdicts: Iterable[Verdict]) -> list[str]:
    wrong = [found for found in verdicts if found.started != found.promised]
    return [
        f"  {'refused, and started' if found.started else 'promised, and refused'}: {found.name}" for found in wrong
    ]


def _worst(compared: Sequence[Comparison]) -> list[str]:
    worst = sorted(compared, key=lambda found: -abs(found.error))[:WORST_ROWS]
    return ["  the worst rows:"] * bool(worst) + [
        f"    {found.error:+8.1%}  {found.figure:10} {found.measured:>12,.2f} measured "
        f"{found.predicted:>12,.2f} predicted  {found.name}"
        for found in worst
    ]


def _positive(value: Any) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return float(value) if usable else None
