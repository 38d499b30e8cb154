# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fits the constants of the memory model to start-up logs, and cross-validates them by source.

``python3 tests/accuracy/fit_memory.py [LOGS]`` prints each constant of ``_activation`` and ``_engine_behaviour`` beside
what the file gives. A constant is a median: of what a row's budget left over after its weights, its KV cache and the
tensors of its trial run. Cross-validation leaves out all rows of one source at a time, fits on the others, and predicts
those that were left out.
"""

from __future__ import annotations

import importlib
import pathlib
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    importlib.import_module("planner").register()

from ansible_collections.gpufleet.serving.plugins.plugin_utils import _activation, _engine_behaviour
from ansible_collections.gpufleet.serving.plugins.plugin_utils._engine_behaviour import engine
from ansible_collections.gpufleet.serving.plugins.plugin_utils._interval import Interval
from ansible_collections.gpufleet.serving.tests.accuracy import startup

if TYPE_CHECKING:
    from ansible_collections.gpufleet.serving.tests.accuracy.startup import Case, Prediction

GIB = 2**30
LOGIT_BYTES = _activation.LOGIT_BYTES
FEWEST_ROWS = 2
"""Rows below which a constant stays as it is."""


@dataclass(frozen=True)
class Constants:
    """What is fitted: copies of the logits in both kinds of sampler, and GiB of everything beside the peak."""

    sorting: float = _engine_behaviour.SORTING_COPIES
    selecting: float = _engine_behaviour.SELECTING_COPIES
    base: float = _activation.BASE.likely / GIB
    first_base: float = _activation.FIRST_BASE.likely / GIB
    unified: float = _activation.UNIFIED.likely / GIB
    links_two: float = _activation.LINKED[True, 2].likely / GIB
    links_many: float = _activation.LINKED[True, 4].likely / GIB
    links_unknown_two: float = _activation.LINKED[None, 2].likely / GIB
    links_unknown_many: float = _activation.LINKED[None, 4].likely / GIB
    links_plain: float = _activation.LINKED[False, 2].likely / GIB
    unlinked: float = _activation.UNLINKED.likely / GIB


Row = tuple[str, "Case", "Prediction"]


def overhead_gib(case: Case, prediction: Prediction) -> float | None:
    """What a row's budget left over beside weights and KV cache, less the graphs that the planner takes off."""
    kv, weights = case.row.get("kv_cache_gib_per_gpu"), case.row.get("weights_gib_per_gpu")
    if not isinstance(kv, int | float) or prediction.memory is None or "kv" in case.excluded:
        return None
    stage = prediction.memory.stages[-1]
    asked = (prediction.memory.kind.memory_bytes - stage.outside) / GIB
    held = weights if isinstance(weights, int | float) and "weights" not in case.excluded else prediction.weights_gib
    return asked - held - kv - stage.graphs.likely / GIB


def beside(case: Case, constants: Constants) -> dict[str, float]:
    """The terms beside the peak that apply to a case, by the name of their constant."""
    behaves, ranks = engine(case.model.engine_version), case.layout.world
    found = {"first_base" if behaves.first_generation else "base": 0.0}
    key = case.kind.key if case.kind else ""
    if ranks > 1:
        found[_link_name(key, ranks, behaves.links_inside)] = 0.0
    if _activation.UNIFIED_NAME in key:
        found["unified"] = 0.0
    return {name: getattr(constants, name) for name in found}


def _link_name(key: str, ranks: int, inside: bool) -> str:
    if not inside:
        return "unlinked"
    term = _activation.links(key, ranks)
    if term is _activation.LINKED[False, 2] or term is _activation.LINKED[False, 4]:
        return "links_plain"
    kind = "" if term in (_activation.LINKED[True, 2], _activation.LINKED[True, 4]) and "SXM" in key else "unknown_"
    return f"links_{kind}{'many' if ranks >= 4 else 'two'}"


def peak_gib(case: Case, prediction: Prediction, constants: Constants) -> Interval:
    """The peak of the trial run with these copies of the logits, in GiB."""
    assert prediction.memory is not None
    behaves = engine(case.model.engine_version)
    sorts = behaves.logit_copies > _engine_behaviour.SELECTING_COPIES
    behaves = replace(behaves, logit_copies=constants.sorting if sorts else constants.selecting)
    batch, ranks = prediction.memory.batch, case.layout.tensor_parallel_size
    found = _activation.peak(case.shape, ranks, batch, case.max_model_len, behaves, samples=True)
    return Interval(found.low / GIB, found.likely / GIB, found.high / GIB)


def fit(rows: Sequence[Row]) -> Constants:
    """The constants that these rows give."""
    found = Constants()
    found = replace(found, **_copies(rows))
    for name in [field.name for field in fields(Constants)][2:]:
        left = []
        for _row, case, prediction in rows:
            told = overhead_gib(case, prediction)
            terms = beside(case, found)
            if told is not None and name in terms:
                others = sum(value for other, value in terms.items() if other != name)
                left.append(told - peak_gib(case, prediction, found).likely - others)
        if len(left) >= FEWEST_ROWS:
            found = replace(found, **{name: max(0.0, statistics.median(left))})
    return found


def _copies(rows: Sequence[Row]) -> dict[str, float]:
    """The copies of the logits, from rows whose sampler is the peak: those that print it, else those that imply it."""
    ratios: dict[str, list[float]] = defaultdict(list)
    for _row, case, prediction in rows:
        told = overhead_gib(case, prediction)
        behaves = engine(case.model.engine_version)
        if told is None or prediction.memory is None or behaves.first_generation:
            continue
        batch = prediction.memory.batch
        logits = batch.sequences * case.shape.vocab_size * LOGIT_BYTES / GIB
        hidden = batch.tokens * case.shape.hidden_size * 2 / GIB
        sorts = behaves.logit_copies > _engine_behaviour.SELECTING_COPIES
        sampler = behaves.logit_copies * logits + hidden
        if sampler < peak_gib(case, prediction, Constants()).likely or len(beside(case, Constants())) > 1:
            continue
        printed = case.row.get("activation_gib")
        activation = printed if isinstance(printed, int | float) else told - _activation.BASE.likely / GIB
        ratios["sorting" if sorts else "selecting"].append((activation - hidden) / logits)
    return {name: statistics.median(found) for name, found in ratios.items() if len(found) >= FEWEST_ROWS}


def with_constants(case: Case, prediction: Prediction, constants: Constants) -> Prediction:
    """The prediction as these constants would make it: the KV cache moves by what they take more or less."""
    memory = prediction.memory
    if memory is None or prediction.kv_gib is None or prediction.kv_tokens is None:
        return prediction
    own = Constants()
    before = peak_gib(case, prediction, own).likely + sum(beside(case, own).values())
    after = peak_gib(case, prediction, constants).likely + sum(beside(case, constants).values())
    kv = prediction.kv_gib
    moved = Interval(kv.low + before - after, kv.likely + before - after, kv.high + before - after)
    share = moved.likely / kv.likely if kv.likely > 0 else 1.0
    tokens = prediction.kv_tokens
    blocks = int(max(0.0, moved.low) * GIB) // max(stage.block_bytes for stage in memory.stages)
    fits = memory.starts and blocks - 1 >= memory.cache.request_blocks(case.max_model_len)
    scaled = Interval(tokens.low * share, tokens.likely * share, tokens.high * share)
    return replace(prediction, kv_gib=moved, kv_tokens=scaled, fits=fits)


def crossvalidated(rows: Sequence[Row]) -> list[Row]:
    """Every row as constants fitted without its source predict it."""
    sources: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        sources[_source(row[1])].append(row)
    found: list[Row] = []
    for left_out in sources.values():
        constants = fit([row for source in sources.values() if source is not left_out for row in source])
        found += [(name, case, with_constants(case, prediction, constants)) for name, case, prediction in left_out]
    return found


def _source(case: Case) -> str:
    """Who published a row: files of one repository are one source."""
    told = str(case.row.get("source") or "")
    return told.split(" ")[0] if told.startswith("github:") else told


def main(arguments: Iterable[str]) -> int:
    """Print the constants of the planner beside those that a file gives."""
    here = pathlib.Path(__file__).resolve().parent / "data"
    path = pathlib.Path(next(iter(arguments), str(here / "vllm_startup_logs.jsonl")))
    configs = startup.read_configs(here / "model_configs.json")
    rows, _left_out = startup.outcomes(path, configs)
    fitted, own = fit(rows), Constants()
    print(f"{'constant':20}{'planner':>10}{'fitted':>10}   ({len(rows)} rows of {path.name})")
    for field in fields(Constants):
        print(f"{field.name:20}{getattr(own, field.name):10.3f}{getattr(fitted, field.name):10.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
