# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a model fits nowhere, and what would make it fit: every remedy was tried by the planner's own reckoning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..module_utils import _gpu_catalogue
from ..module_utils._model import ModelShape
from ..module_utils._quantization import FP8
from ._capacity import Fit, fit
from ._devices import CPU, CUDA, Kind
from ._findings import Findings
from ._memory import as_served
from ._parallelism import why_not_pipeline, why_not_tensor
from ._text import GIB, counted, gib
from ._weights import Layout
from ._wishes import Model

SERVER_SIZES = (1, 2, 4, 8)
"""GPUs of one server that a remedy proposes: what servers are sold with."""
MOST_PROPOSED_HOSTS = 4
"""Hosts of one replica that a remedy proposes."""
EIGHT_BIT_CAPABILITY = (8, 9)
"""Compute capability from which GPUs compute in FP8 (Ada and Hopper)."""


def refuse_size(model: Model, shape: ModelShape, candidates: list[Fit], max_model_len: int, findings: Findings) -> None:
    """No layout holds the model: say what is short on the roomiest one, and what would make it fit."""
    roomiest = max(candidates, key=lambda candidate: (candidate.memory.longest, -_shortage(candidate)))
    findings.refuse(
        "model_too_large",
        model.name,
        _what_is_short(model, roomiest, max_model_len),
        *_size_remedies(model, shape, roomiest, candidates, max_model_len),
    )


def _shortage(candidate: Fit) -> int:
    """Bytes that the tightest rank lacks before it has any KV cache."""
    return max(int(-stage.kv.low) for stage in candidate.memory.stages)


def _what_is_short(model: Model, candidate: Fit, max_model_len: int) -> str:
    memory, kind = candidate.memory, candidate.kind
    tightest = min(memory.stages, key=lambda stage: stage.kv.low)
    hosts = candidate.layout.nnodes
    most = "the most that one host has" if hosts == 1 else f"the most that {hosts} hosts have"
    limit = "as asked for" if model.tensor_parallel_size else most
    where = f"{counted(candidate.layout.world, 'device')} of {kind.key} ({gib(kind.memory_bytes)} each), {limit}"
    if not memory.starts:
        return (
            f"on {where}, the engine would not start: beside its share it leaves {gib(tightest.outside)} of a device, "
            f"and {gib(memory.outside_needed)} are taken before it looks"
        )
    beside = int(tightest.activation.likely) + int(tightest.graphs.likely) + tightest.margin
    terms = f"{gib(tightest.weights)} of weights"
    if kind.accelerator == CUDA:
        terms += f", {gib(beside)} beside them and {gib(tightest.outside)} left to the driver on each"
    if tightest.kv.low <= 0:
        return f"it does not fit on {where}: {terms}; {gib(-tightest.kv.low)} are missing on each"
    return (
        f"on {where}, there is room for requests of {memory.longest} tokens, "
        f"and max_model_len is {max_model_len}: {terms}"
    )


def _size_remedies(
    model: Model, shape: ModelShape, roomiest: Fit, candidates: Iterable[Fit], max_model_len: int
) -> list[str]:
    """What would make the model fit, each with its figure, the cheapest first."""
    remedies = []
    if not roomiest.memory.starts:
        share = 1 - roomiest.memory.outside_needed / roomiest.kind.memory_bytes
        remedies.append(f"set gpu_memory_utilization to {max(0.05, int(share * 100) / 100):g} or lower")
    elif roomiest.memory.longest >= 16:
        remedies.append(f"set max_model_len to {roomiest.memory.longest} at most")
    if roomiest.kind.accelerator == CPU:
        return remedies + [f"raise fleet_cpu_kv_gib (now {gib(roomiest.kind.memory_bytes)} a rank)"]
    remedies += _eight_bit_remedies(model, shape, candidates, max_model_len)
    remedies += _more_devices_remedies(model, shape, candidates, max_model_len)
    remedies += _more_hosts_remedies(model, shape, candidates, max_model_len)
    remedies += _other_gpu_remedies(model, shape, max_model_len)
    return list(dict.fromkeys(remedies)) or ["use a smaller model: no server of the catalogue holds it"]


def _more_devices_remedies(model: Model, shape: ModelShape, candidates: Iterable[Fit], max_model_len: int) -> list[str]:
    """More GPUs of the kinds that are there; under a fixed tensor_parallel_size, a larger one as well."""
    largest = {candidate.kind: 0 for candidate in candidates if not candidate.kind.sliced}
    for candidate in candidates:
        largest[candidate.kind] = max(largest.get(candidate.kind, 0), candidate.layout.world)
    remedies = []
    for kind, world in largest.items():
        smallest = None if kind.sliced else _smallest(model, shape, kind, max_model_len)
        if smallest and smallest.layout.world > world:
            more = smallest.layout.world
            fixed = f"set tensor_parallel_size to {more}, on" if model.tensor_parallel_size else "use"
            remedies.append(f"{fixed} a host with {more} x {kind.key}")
    return remedies


def _more_hosts_remedies(model: Model, shape: ModelShape, candidates: Iterable[Fit], max_model_len: int) -> list[str]:
    """More hosts like the largest of each kind that is there, each with one stage of the model."""
    largest: dict[Kind, int] = {}
    for candidate in candidates:
        if not candidate.kind.sliced:
            largest[candidate.kind] = max(largest.get(candidate.kind, 0), candidate.layout.local)
    remedies = []
    for kind, local in largest.items():
        layouts = (Layout(local, nnodes, nnodes=nnodes) for nnodes in range(2, MOST_PROPOSED_HOSTS + 1))
        tries = (_tried(model, shape, kind, layout, max_model_len) for layout in layouts)
        smallest = next((tried for tried in tries if tried), None)
        if smallest:
            remedies.append(f"use {smallest.layout.nnodes} hosts with {local} x {kind.key} each, in one subnet")
    return remedies


def _eight_bit_remedies(model: Model, shape: ModelShape, candidates: Iterable[Fit], max_model_len: int) -> list[str]:
    """Whether weights or KV cache in 8 bits would fit on what is there."""
    able = [candidate for candidate in candidates if candidate.kind.compute_capability >= EIGHT_BIT_CAPABILITY]
    tries = []
    if shape.quantization is None:
        small = as_served(shape, replace(model, quantization=FP8))
        tries.append(("quantization: fp8", replace(model, quantization=FP8), small))
    if model.kv_cache_dtype == "auto" and shape.kv_cache_dtype is None:
        tries.append(("kv_cache_dtype: fp8", replace(model, kv_cache_dtype=FP8), shape))
    remedies = []
    for words, wish, served in tries:
        fitting = [c for c in able if _tried(wish, served, c.kind, c.layout, max_model_len)]
        if fitting:
            smallest = min(fitting, key=lambda candidate: candidate.layout.world)
            remedies.append(f"say {words}: it then fits on {smallest.layout.world} x {smallest.kind.key}")
    return remedies


def _other_gpu_remedies(model: Model, shape: ModelShape, max_model_len: int) -> list[str]:
    """The servers of the catalogue that hold the model: that with the fewest GPUs, and the next with smaller ones."""
    found = []
    for gpu in _gpu_catalogue.CATALOGUE:
        kind = Kind(gpu.key, CUDA, int(gpu.usable_gib * GIB))
        smallest = _smallest(model, shape, kind, max_model_len) if gpu.runs_engine else None
        if smallest:
            found.append((smallest.layout.world, kind.memory_bytes, kind.key))
    found.sort()
    next_smaller = [other for other in found if other[1] < found[0][1]]
    return [f"use a host with {world} x {key}" for world, _memory, key in found[:1] + next_smaller[:1]]


def _smallest(model: Model, shape: ModelShape, kind: Kind, max_model_len: int) -> Fit | None:
    """The layout with the fewest devices of a kind that holds the model, tensor parallel alone."""
    for count in SERVER_SIZES:
        tried = _tried(model, shape, kind, Layout(count), max_model_len)
        if tried:
            return tried
    return None


def _tried(model: Model, shape: ModelShape, kind: Kind, layout: Layout, max_model_len: int) -> Fit | None:
    """The fit, if it is one."""
    if why_not_tensor(shape, layout.tensor_parallel_size) or why_not_pipeline(shape, layout.pipeline_parallel_size):
        return None
    tried = fit(model, shape, kind, layout, max_model_len)
    return tried if tried.fits else None
