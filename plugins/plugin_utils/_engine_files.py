# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files on a host that an engine's further flags name: templates, plug-ins, adapters, draft models."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ._weights import speculation

FILE_FLAGS = (
    "chat_template",
    "hf_config_path",
    "reasoning_parser_plugin",
    "spec_model",
    "tokenizer",
    "tool_parser_plugin",
)
"""Flags whose value is a file or a folder."""

TEMPLATE_TEXT = "{}\n"
"""A chat template with one of these is the template itself. Source: vLLM 0.33.0, renderers/chat_utils.py."""


def named_files(engine_args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each flag, or part of one, that names a file or a folder, and what it names.

    Words without a slash name something of the engine's own: a template that it brings, a method of drafting.

    >>> list(named_files({"tokenizer": "/srv/tokenizer", "lora_modules": ["sql=/srv/sql"]}))
    [('tokenizer', '/srv/tokenizer'), ('lora_modules[0]', '/srv/sql')]
    """
    candidates = [
        *((flag, engine_args.get(flag)) for flag in FILE_FLAGS),
        *_adapters(_parsed(engine_args.get("lora_modules"))),
        ("speculative_config.model", speculation(engine_args).get("model")),
    ]
    for flag, value in candidates:
        if isinstance(value, str) and "/" in value and not (flag == "chat_template" and _is_template(value)):
            yield flag, value


def _is_template(text: str) -> bool:
    return any(character in text for character in TEMPLATE_TEXT)


def _adapters(modules: Any) -> Iterator[tuple[str, Any]]:
    """Adapters as the engine takes them: ``name=path``, or a mapping with name and path; one, or a list of them."""
    for position, module in enumerate(modules if isinstance(modules, list) else [modules]):
        adapter = _parsed(module)
        if isinstance(adapter, str):
            yield f"lora_modules[{position}]", adapter.partition("=")[2]
        else:
            yield f"lora_modules[{position}].path", adapter.get("path") if isinstance(adapter, Mapping) else None


def _parsed(value: Any) -> Any:
    """JSON in text as what it says; anything else as it is."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
