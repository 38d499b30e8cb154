# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the planner's memory against start-ups and refusals of real servers.

Each row of the file becomes the wishes, the model, the devices and the layout that the planner takes; what it then
says of weights, KV cache and fit is held against what the server's log said. Rows that cannot be predicted are counted
and named with the reason.
"""

from __future__ import annotations

import json
import math
import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.serving.plugins.module_utils._gpu_catalogue import by_key, by_name
from ansible_collections.gpufleet.serving.plugins.module_utils._model import ModelError, ModelShape
from ansible_collections.gpufleet.serving.plugins.plugin_utils._capacity import Fit, fit
from ansible_collections.gpufleet.serving.plugins.plugin_utils._devices import CUDA, Kind
from ansible_collections.gpufleet.serving.plugins.plugin_utils._engine_behaviour import release
from ansible_collections.gpufleet.serving.plugins.plugin_utils._interval import Interval
from ansible_collections.gpufleet.serving.plugins.plugin_utils._memory import ReplicaMemory
from ansible_collections.gpufleet.serving.plugins.plugin_utils._weights import Layout
from ansible_collections.gpufleet.serving.plugins.plugin_utils._wishes import Model, Source
from ansible_collections.gpufleet.serving.tests.accuracy import fit_memory, report
from ansible_collections.gpufleet.serving.tests.accuracy.models import UnknownModel, shape_of

GIB = 2**30
FITTED = pathlib.Path(__file__).resolve().parent / "data" / "vllm_startup_logs.jsonl"
"""The rows that the planner's constants were fitted to."""
UNSTATED_VERSION = "0.11.0"
"""The version that rows without one are predicted with: the middle of those that rows name; of models that came later,
the one that they came with."""
CAME_WITH = {
    "Qwen3_5ForConditionalGeneration": "0.17.0",
    "Qwen3_5MoeForConditionalGeneration": "0.17.0",
    "Gemma4ForConditionalGeneration": "0.19.0",
    "GlmMoeDsaForCausalLM": "0.16.0",
}
"""The first version that serves an architecture. Source: vLLM's release notes."""
FIRST_GENERATION = "0.7.0"
LAST_WITH_TWO_GENERATIONS = (0, 11)


class Unpredictable(Exception):
    """A row that lacks what a prediction needs; the message says what."""


@dataclass(frozen=True)
class Case:
    """One row as the planner's inputs."""

    row: Mapping[str, Any]
    shape: ModelShape
    model: Model
    kind: Kind | None
    layout: Layout
    max_model_len: int
    excluded: frozenset[str]


@dataclass(frozen=True)
class Prediction:
    """What the planner says of a case: GiB of weights and of KV cache on a rank, tokens of the replica, and whether it
    fits on the careful side and on the likely one."""

    weights_gib: float
    kv_gib: Interval | None
    kv_tokens: Interval | None
    fits: bool | None
    memory: ReplicaMemory | None


def judge(path: pathlib.Path, models: pathlib.Path) -> tuple[list[str], dict[str, Any]]:
    """The lines to print for a file of start-ups, and the figures for machines."""
    found, left_out = outcomes(path, read_configs(models))
    refitted = fit_memory.crossvalidated(found) if path.resolve() == FITTED.resolve() else None
    return report.startup(path, found, left_out, refitted)


def outcomes(
    path: pathlib.Path, configs: Mapping[str, Any]
) -> tuple[list[tuple[str, Case, Prediction]], dict[str, str]]:
    """Every row of a file that can be predicted, and what is left out with the reason."""
    rows, left_out = read_rows(path)
    found = []
    for number, row in rows:
        name = row_name(row, number)
        try:
            case = prepare(row, configs)
            found.append((name, case, predict(case)))
        except Unpredictable as reason:
            left_out[name] = str(reason)
    return found, left_out


def read_configs(path: pathlib.Path) -> dict[str, Any]:
    """Configurations by model name; none where the file holds no such thing."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_rows(path: pathlib.Path) -> tuple[list[tuple[int, dict[str, Any]]], dict[str, str]]:
    """The rows of a file with their line numbers, and the lines that are none, each with the reason."""
    rows: list[tuple[int, dict[str, Any]]] = []
    broken: dict[str, str] = {}
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        return [], {str(path): f"cannot be read: {error.strerror}"}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            broken[f"line {number}"] = f"is no JSON ({error})"
            continue
        if isinstance(row, dict):
            rows.append((number, row))
        else:
            broken[f"line {number}"] = f"is a JSON {type(row).__name__}, not an object"
    return rows, broken


def row_name(row: Mapping[str, Any], number: int) -> str:
    """How a row is named in what is printed."""
    return f"{row.get('id') or f'line {number}'} {row.get('model') or ''}".strip()


def prepare(row: Mapping[str, Any], configs: Mapping[str, Any]) -> Case:
    """The planner's inputs for a row. Raises Unpredictable."""
    try:
        shape = shape_of(row, configs)
    except UnknownModel as reason:
        raise Unpredictable(str(reason)) from None
    layout = _layout(row)
    kind = _kind(row)
    length = _count(row.get("max_model_len")) or shape.max_position_embeddings
    return Case(
        row=row,
        shape=shape,
        model=_model(row, shape),
        kind=kind,
        layout=layout,
        max_model_len=length,
        excluded=_excluded(row),
    )


def _excluded(row: Mapping[str, Any]) -> frozenset[str]:
    """The figures that a row is not fit for."""
    told = row.get("exclude_from")
    return frozenset(item for item in told if isinstance(item, str)) if isinstance(told, list) else frozenset()


def predict(case: Case) -> Prediction:
    """What the planner says of a case. Raises Unpredictable where the layout is impossible."""
    kind = case.kind or Kind("unknown", CUDA, 80 * GIB)
    try:
        found = fit(case.model, case.shape, kind, case.layout, case.max_model_len)
    except ModelError as reason:
        raise Unpredictable(str(reason)) from None
    memory = found.memory
    weights = max(stage.weights for stage in memory.stages) / GIB
    if case.kind is None:
        return Prediction(weights, None, None, None, None)
    tightest = min(memory.stages, key=lambda stage: stage.kv.low / stage.block_bytes)
    kv_gib = _scaled(tightest.kv, 1 / GIB)
    return Prediction(weights, kv_gib, _tokens(case, found), found.fits, memory)


def _tokens(case: Case, found: Fit) -> Interval:
    """Tokens that the cache holds, counted as the row's log counts them."""
    memory = found.memory
    tightest = min(memory.stages, key=lambda stage: stage.kv.likely / stage.block_bytes)
    cache = memory.cache

    def counted(available: float) -> float:
        blocks = max(0, int(available)) // tightest.block_bytes
        if len(cache.groups) == 1:
            return float(cache.tokens(blocks))
        return blocks / max(1, cache.request_blocks(case.max_model_len)) * case.max_model_len

    return Interval(counted(tightest.kv.low), counted(tightest.kv.likely), counted(tightest.kv.high))


def measured_tokens(case: Case) -> float | None:
    """The token capacity that a row's log tells: its token line, or concurrency times length where it has none or
    where several groups of layers share the blocks, so that the line means something else from version to version."""
    tokens, blocks = _number(case.row.get("kv_cache_tokens")), _number(case.row.get("num_gpu_blocks"))
    concurrency = _number(case.row.get("max_concurrency"))
    length = _count(case.row.get("max_model_len"))
    by_length = concurrency * length if concurrency and length else None
    several = len({case.shape.layer_type(layer) for layer in range(case.shape.num_hidden_layers)} - {"none"}) > 1
    if several and by_length:
        return by_length
    if tokens:
        return tokens
    if by_length:
        return by_length
    return blocks * (_count(case.row.get("block_size")) or 16) if blocks and not several else None


def _scaled(interval: Interval, factor: float) -> Interval:
    return Interval(interval.low * factor, interval.likely * factor, interval.high * factor)


def _layout(row: Mapping[str, Any]) -> Layout:
    """How a row is cut. A row of which only the weights count, and that tells no ranks, speaks of one device."""
    tensor, devices = _count(row.get("tp")), _count(row.get("gpu_count"))
    pipeline, data = _count(row.get("pp")) or 1, _count(row.get("dp")) or 1
    if tensor is None and devices is not None:
        tensor = max(1, devices // (pipeline * data))
    only_weights = row.get("fits") is None or "fit" in _excluded(row)
    if tensor is None and only_weights and "weights" not in _excluded(row):
        tensor = 1
    if tensor is None:
        raise Unpredictable("states neither tp nor gpu_count")
    return Layout(tensor, pipeline, data)


def _kind(row: Mapping[str, Any]) -> Kind | None:
    """The device of a row; None where neither its memory nor its name is told."""
    name = row.get("gpu") if isinstance(row.get("gpu"), str) else ""
    known = _catalogued(str(name))
    total = _number(row.get("gpu_total_gib")) or _number(row.get("total_gpu_gib"))
    if total is None and known is not None:
        total = by_key(known).usable_gib
    if total is None:
        return None
    key = known or str(name) or "unknown"
    capability = by_key(known).compute_capability if known else ""
    return Kind(key, CUDA, int(total * GIB), tuple(int(part) for part in capability.split(".")) if capability else ())


def _catalogued(name: str) -> str | None:
    """The catalogue's key for whatever a row calls its GPU."""
    exact = by_name(name)
    if exact:
        return exact.key
    words = re.sub(r"[^a-z0-9]+", " ", name.lower())
    found = next((key for pattern, key in GPU_WORDS if re.search(pattern, words)), None)
    return found if found and by_key(found) else None


GPU_WORDS = (
    (r"h100 nvl", "H100-NVL-94GB"),
    (r"h100 pcie", "H100-PCIE-80GB"),
    (r"\bh100\b", "H100-SXM-80GB"),
    (r"\bh200\b", "H200-SXM-141GB"),
    (r"\bb200\b", "B200-SXM-180GB"),
    (r"a100.*40", "A100-SXM-40GB"),
    (r"a100.*80", "A100-SXM-80GB"),
    (r"\bl40s\b", "L40S-48GB"),
    (r"\bl4\b", "L4-24GB"),
    (r"\bt4\b", "T4-16GB"),
    (r"\bh20\b.*96", "H20-SXM-96GB"),
    (r"\bh20\b", "H20-SXM-141GB"),
    (r"\bl40\b", "L40-48GB"),
    (r"\ba40\b", "A40-48GB"),
    (r"\ba6000\b", "RTX-A6000-48GB"),
    (r"rtx pro 6000", "RTX-PRO-6000-SERVER-96GB"),
    (r"\b3090\b", "RTX-3090-24GB"),
    (r"\b4090\b", "RTX-4090-24GB"),
    (r"\b5090\b", "RTX-5090-32GB"),
    (r"\b5080\b", "RTX-5080-16GB"),
    (r"\b5060\s?ti\b", "RTX-5060-TI-16GB"),
)
"""Words of GPU names to keys of the catalogue; whether the catalogue holds them is looked up."""


def _model(row: Mapping[str, Any], shape: ModelShape) -> Model:
    flags = str(row.get("extra_flags") or "").lower()
    arguments: dict[str, Any] = {}
    if re.search(r"enforce.eager", flags) and not re.search(r"enforce.eager\W*false", flags):
        arguments["enforce_eager"] = True
    if re.search(r"expert.parallel", flags):
        arguments["enable_expert_parallel"] = True
    if re.search(r"enable.lora", flags):
        arguments["enable_lora"] = True
    if re.search(r"\bmtp\b", flags):
        drafts = re.search(r"num.speculative.tokens\W*(\d+)|\bk=(\d+)", flags)
        number = int(next(filter(None, drafts.groups()), 1)) if drafts else 1
        arguments["speculative_config"] = {"method": "mtp", "num_speculative_tokens": number}
    if re.search(r"no prefix caching|enable.prefix.caching\W*false", flags):
        arguments["enable_prefix_caching"] = False
    block = _count(row.get("block_size"))
    if block:
        arguments["block_size"] = block
    version = _version(row, shape)
    return Model(
        name="row",
        source=Source("host", "/row"),
        served_model_name="row",
        gpu_memory_utilization=_utilization(row),
        max_num_seqs=_count(row.get("max_num_seqs")),
        max_num_batched_tokens=_count(row.get("max_num_batched_tokens")),
        kv_cache_dtype=_cache_dtype(row),
        dtype=str(row["dtype"]) if row.get("dtype") in ("bfloat16", "float16", "float32") else "auto",
        engine_args=arguments,
        engine_version=version,
    )


def _version(row: Mapping[str, Any], shape: ModelShape) -> str:
    """The version of a row's engine. Until 0.10 it had two generations; only the first logs blocks without tokens."""
    told = row.get("vllm_version") if isinstance(row.get("vllm_version"), str) else None
    blocks_only = row.get("num_gpu_blocks") is not None and row.get("kv_cache_tokens") is None
    if blocks_only and (told is None or release(told) < LAST_WITH_TWO_GENERATIONS):
        return FIRST_GENERATION
    return str(told) if told else CAME_WITH.get(shape.architecture, UNSTATED_VERSION)


def _utilization(row: Mapping[str, Any]) -> float | None:
    for field in ("gpu_memory_utilization", "gpu_memory_utilization_assumed"):
        share = _number(row.get(field))
        if share and 0 < share <= 1:
            return share
    return None


def _cache_dtype(row: Mapping[str, Any]) -> str:
    told = str(row.get("kv_cache_dtype") or "auto").lower()
    return told if told.startswith(("fp8", "bfloat16", "float16")) else "auto"


def _number(value: Any) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number >= 1 else None
