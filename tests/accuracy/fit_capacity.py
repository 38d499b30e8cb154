#!/usr/bin/env python3
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fits the constants of the capacity model to published benchmarks, and says how well they foretell other sources.

Run ``python3 tests/accuracy/fit_capacity.py [FILE]``; it takes a few minutes on one core. What it prints as fitted
stands in plugins/plugin_utils/_roofline.py. For the cross-validation every source is judged by constants that were
fitted without it.

The fit minimises the logarithm of predicted / measured, of throughput and, where clients are so many that ask again,
of the time between tokens. Rows of one source, GPU and model count together as the root of their number, so that one
long series does not outweigh many short ones; far-off rows pull hardly more than near ones.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import math
import pathlib
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
importlib.import_module("planner").register()

from ansible_collections.gpufleet.serving.plugins.plugin_utils._roofline import Constants  # noqa: E402
from ansible_collections.gpufleet.serving.tests.accuracy.throughput import compare, factor, read  # noqa: E402
from ansible_collections.gpufleet.serving.tests.accuracy.throughput_rows import CLOSED, Case, Models  # noqa: E402
from ansible_collections.gpufleet.serving.tests.accuracy.throughput_runs import Assumed, predict  # noqa: E402

START = {
    "memory": 0.8,
    "gemm": 0.7,
    "experts": 0.3,
    "attention": 0.4,
    "link": 0.4,
    "layer": 30e-6,
    "sparse_layer": 30e-6,
    "hop": 30e-6,
    "step": 1.5e-3,
    "sequence": 30e-6,
    "old_host": 2.0,
}
"""Where the search begins: shares and times of the order that kernels are known to reach."""

SHARES = ("memory", "gemm", "experts", "attention", "link")
LARGEST_SHARE = 0.95

BEND = 0.1
"""Errors below this count by their square, larger ones as they are."""

FIRST_STRIDE, LAST_STRIDE, ROUNDS = 0.25, 0.03, 9


def assumed(values: Mapping[str, float]) -> Assumed:
    """The values as the model takes them."""
    names = {field.name for field in dataclasses.fields(Constants)}
    constants = Constants(**{name: value for name, value in values.items() if name in names})
    return Assumed(constants, values["old_host"])


def loss(cases: Sequence[Case], values: Mapping[str, float]) -> float:
    """The weighted mean of the errors; 0 is perfect."""
    guess = assumed(values)
    groups: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for row in compare(cases, lambda case: predict(case, guess)):
        case = row.case
        errors = [row.tokens, row.tpot if case.load == CLOSED else None]
        sizes = [math.hypot(error, BEND) - BEND for error in errors if error is not None]
        if sizes:
            key = (case.source, str(case.row["gpu"]), str(case.row["model"]))
            groups[key].append(sum(sizes) / len(sizes))
    weights = [math.sqrt(len(sizes)) for sizes in groups.values()]
    means = [sum(sizes) / len(sizes) for sizes in groups.values()]
    return sum(weight * mean for weight, mean in zip(weights, means, strict=True)) / sum(weights)


def fit(cases: Sequence[Case], start: Mapping[str, float], stride: float = FIRST_STRIDE) -> dict[str, float]:
    """Improve one value after another by a stride up or down, and halve the stride when none helps."""
    values, best = dict(start), loss(cases, start)
    for _round in range(ROUNDS):
        before = best
        for name in values:
            for change in (math.exp(stride), math.exp(-stride)):
                while name not in SHARES or values[name] * change <= LARGEST_SHARE:
                    tried = {**values, name: values[name] * change}
                    result = loss(cases, tried)
                    if result >= best - 1e-6:
                        break
                    values, best = tried, result
        if best > before - 1e-4:
            stride /= 2
        if stride < LAST_STRIDE:
            break
    return values


def main(arguments: list[str] | None = None) -> int:
    """Print the fitted constants, and the figures with them and without each source."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("file", nargs="?", default=str(HERE / "data" / "vllm_throughput.jsonl"))
    parser.add_argument("--models", default=str(HERE / "data" / "model_configs.json"))
    options = parser.parse_args(arguments)
    cases, _left_out = read(pathlib.Path(options.file), Models(pathlib.Path(options.models)))
    fitted = fit(cases, START)
    print("fitted to all sources")
    for name, value in fitted.items():
        print(f"  {name:<14} {value:.3g}")
    print(_figures("fitted", cases, {case.source: fitted for case in cases}))
    held_out = {}
    for source in sorted({case.source for case in cases}):
        others = [case for case in cases if case.source != source]
        held_out[source] = fit(others, fitted, FIRST_STRIDE / 2)
        own = [case for case in cases if case.source == source]
        print(_figures(f"  without {source}", own, held_out))
    print(_figures("cross-validated by source", cases, held_out))
    stated = [case for case in cases if case.load == CLOSED]
    print(_figures("  of these with a stated concurrency", stated, held_out))
    return 0


def _figures(title: str, cases: Sequence[Case], values: Mapping[str, Mapping[str, float]]) -> str:
    judged = compare(cases, lambda case: predict(case, assumed(values[case.source])))
    shown = []
    for errors in ([row.tokens for row in judged], [row.tpot for row in judged]):
        median, most = factor(errors, 0.5), factor(errors, 0.9)
        shown.append("-" if median is None or most is None else f"{median:.2f} / {most:.2f}")
    return f"{title:<58} {len(cases):>5} rows  tokens/s {shown[0]:>13}  TPOT {shown[1]:>13}"


if __name__ == "__main__":
    sys.exit(main())
