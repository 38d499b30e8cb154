# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan fixes of a model on Kubernetes: the shape of its pods, how many there may be, and on which nodes.

Where a pod runs, and how many run at a moment, belongs to Kubernetes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from ._capacity import Fit
from ._devices import CPU
from ._settings import Settings
from ._shapes import Weights
from ._text import GIB
from ._units import config, engine_args, engine_version, environment, model_path, without_nulls
from ._wishes import Model

READ_BYTES_PER_SECOND = GIB // 2
"""How fast a node reads weights that it has not read lately; chosen for a disk on SATA, NVMe is faster."""
START_SECONDS = 600
"""What an engine may take beside reading its weights (to compile, to capture graphs); chosen, as the chart's bound."""
CPUS_BESIDE_RANKS, CPUS_PER_RANK = 2, 1
"""Cores that a pod asks for: API server and engine core poll, and so does every rank. Chosen; a request, no limit."""
MEMORY_BESIDE_RANKS_GIB, MEMORY_PER_RANK_GIB = 4, 6
"""RAM that a pod with GPUs asks for. Chosen; a request, no limit."""
REVISION_LENGTH = 12
"""Characters of a version of weights that stand in paths and labels."""


@dataclass(frozen=True, slots=True)
class Pods:
    """One model's pods. ``fits``: the layout on each kind of device that takes it, the preferred first."""

    model: Model
    fits: tuple[Fit, ...]
    max_model_len: int
    minimum: int
    maximum: int
    nodes: tuple[str, ...]


def pod_options(pods: Pods, weights: Weights, node_port: int, settings: Settings) -> dict[str, Any]:
    """One entry of ``vllm_stack_models``: everything that the role ``vllm_stack`` writes of a model."""
    model, best = pods.model, pods.fits[0]
    accelerator, ranks = best.kind.accelerator, best.layout.world
    on_cpu = accelerator == CPU
    return without_nulls(
        {
            "name": model.name,
            "source_kind": "hub" if model.source.kind == "hub" else "store",
            "source": model.source.place if model.source.kind == "hub" else model_path(model, weights, settings),
            "revision": model.revision if model.source.kind == "hub" else None,
            "version": weights_version(model, weights),
            "engine_version": engine_version(accelerator, settings),
            "accelerator": accelerator,
            "device": best.kind.key,
            "ranks": ranks,
            "nodes": best.layout.nnodes,
            "cpus": CPUS_BESIDE_RANKS + CPUS_PER_RANK * best.layout.local,
            "memory_gib": _memory_gib(best),
            "cpu_kv_gib": min(fit.kind.memory_bytes for fit in pods.fits) // GIB if on_cpu else None,
            "load_seconds": load_seconds(weights.weight_bytes),
            "min_replicas": pods.minimum,
            "max_replicas": pods.maximum,
            "node_port": node_port,
            "config": config(model, best.layout, accelerator, pods.max_model_len) | {"nnodes": None},
            "engine_args": engine_args(model),
            "engine_env": environment(model, accelerator, shared=best.layout.local > 1),
        }
    )


def weights_version(model: Model, weights: Weights) -> str:
    """The version of a model's weights, as the label of the nodes that have them says it."""
    stated = weights.content_id if model.source.kind == "controller" else model.revision
    return (stated or "unpinned").removeprefix("sha256:")[:REVISION_LENGTH]


def load_seconds(weight_bytes: int) -> int:
    """Seconds until a pod serves, at most: its weights read cold, and everything else; in whole minutes."""
    return math.ceil((weight_bytes / READ_BYTES_PER_SECOND + START_SECONDS) / 60) * 60


def _memory_gib(fit: Fit) -> int:
    """RAM of a pod: of one on a CPU what the planner reckoned, of one with GPUs what its processes need beside them."""
    if fit.memory.host_bytes:
        return math.ceil(fit.memory.host_bytes / GIB)
    return MEMORY_BESIDE_RANKS_GIB + MEMORY_PER_RANK_GIB * fit.layout.local
