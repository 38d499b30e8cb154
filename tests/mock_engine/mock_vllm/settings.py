# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the mock: the command line, its ``--config`` file, and MOCK_* variables."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

_KEY = re.compile(r"^([A-Za-z0-9_.-]+):(?:\s+(.*))?$")
_SHORT = {"-tp": "tensor-parallel-size", "-pp": "pipeline-parallel-size"}


class SettingsError(Exception):
    """The settings do not start an engine; the text says why."""


def parse_yaml(text: str) -> dict[str, Any]:
    """Read the part of YAML that configuration files of the engine use.

    Mappings, lists of scalars, plain, quoted and folded scalars, and anything written as JSON. The standard library has
    no YAML, and the hosts have nothing else.

    Raises:
        SettingsError: a line that is none of these.
    """
    return _mapping([line.rstrip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")])


def _mapping(lines: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while lines:
        line = lines.pop(0)
        match = _KEY.match(line)
        if match is None:
            raise SettingsError(f"not a line of 'key: value': {line!r}")
        rest = []
        while lines and (lines[0].startswith((" ", "- ")) or lines[0] == "-"):
            rest.append(lines.pop(0))
        found[match.group(1)] = _value(match.group(2) or "", rest)
    return found


def _value(first: str, rest: list[str]) -> Any:
    if first or not rest:
        return _scalar(" ".join([first, *(line.strip() for line in rest)]))
    margin = min(len(line) - len(line.lstrip()) for line in rest)
    inner = [line[margin:] for line in rest]
    if inner[0].startswith("-"):
        return [_scalar(line[1:].strip()) for line in inner]
    if _KEY.match(inner[0]):
        return _mapping(inner)
    return _scalar(" ".join(line.strip() for line in inner))


def _scalar(text: str) -> Any:
    if text.startswith("'") and text.endswith("'") and len(text) > 1:
        return text[1:-1].replace("''", "'")
    if text in ("", "~"):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


@dataclass(frozen=True)
class Settings:
    """What of the engine's settings the mock acts upon; it accepts all others and ignores them."""

    model: str
    served_model_name: str
    host: str = "127.0.0.1"
    port: int = 8000
    shutdown_timeout: float = 0.0
    max_model_len: int = 8192
    max_num_seqs: int = 256
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    nnodes: int = 1
    node_rank: int = 0
    master_addr: str = "127.0.0.1"
    master_port: int = 29501
    headless: bool = False

    @property
    def ranks(self) -> int:
        """Worker processes of this host, one a rank."""
        return self.tensor_parallel_size * self.pipeline_parallel_size // self.nnodes


@dataclass(frozen=True)
class Behaviour:
    """How the mock differs from a fast, healthy engine; each field is set by MOCK_<FIELD> in the environment."""

    start_seconds: float = 0.0
    token_seconds: float = 0.001
    death_seconds: float = 0.5
    # 0: as many as the KV space takes, see kv_cache.py
    kv_blocks: int = 0
    # what its weights are said to take; 0: nothing is said, as on the CPU
    weights_gib: float = 0.0
    # a start-up failure with this text
    fail_start: str = ""


def read_settings(arguments: list[str]) -> Settings:
    """Put the settings together from ``[model] --config file.yaml --flag value ...``; flags win over the file.

    Raises:
        SettingsError: no model, an unreadable file, or a flag without a value.
    """
    flags: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        word, equals, value = rest.pop(0).partition("=")
        if not word.startswith("-"):
            flags["model"] = word
            continue
        name = _SHORT.get(word, word.lstrip("-"))
        if equals:
            flags[name] = _scalar(value)
        elif rest and not rest[0].startswith("-"):
            flags[name] = _scalar(rest.pop(0))
        else:
            flags[name] = True
    words = {**_read_file(flags.pop("config", None)), **flags}
    given = {key.replace("-", "_"): value for key, value in words.items() if value is not None}
    if "model" not in given:
        raise SettingsError("no model named")
    served = given.get("served_model_name", given["model"])
    given["served_model_name"] = served[0] if isinstance(served, list) else served
    return Settings(**{field.name: given[field.name] for field in fields(Settings) if field.name in given})


def _read_file(path: Any) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return parse_yaml(Path(str(path)).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from error


def read_behaviour(environment: Mapping[str, str]) -> Behaviour:
    """Read MOCK_* variables.

    Raises:
        SettingsError: a variable that the mock does not know.
    """
    known: dict[str, type] = {field.name: type(field.default) for field in fields(Behaviour)}
    given = {name[5:].lower(): value for name, value in environment.items() if name.startswith("MOCK_")}
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise SettingsError(
            f"unknown MOCK_{unknown[0].upper()}; known: {', '.join('MOCK_' + k.upper() for k in known)}"
        )
    return Behaviour(**{name: known[name](value) for name, value in given.items()})


def check_model(settings: Settings) -> None:
    """Refuse what the engine refuses at its start.

    Raises:
        SettingsError: no readable config.json, or attention heads that the ranks do not divide.
    """
    path = Path(settings.model) / "config.json"
    try:
        heads = json.loads(path.read_text(encoding="utf-8")).get("num_attention_heads", 0)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
    size = settings.tensor_parallel_size
    if heads % size:
        raise SettingsError(
            f"Total number of attention heads ({heads}) must be divisible by tensor parallel size ({size})."
        )
