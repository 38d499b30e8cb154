# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the operator wishes for: the models, checked and in one form.

``read_models`` takes plain data of any shape. What is wrong is refused under the name that the operator typed; what
remains is complete, so that nothing after this module checks a type again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ._findings import Findings
from ._owned import OWNED_ENVIRONMENT, check_owned, is_secret
from ._reading import Reader, shown
from ._settings import PATH, Settings, is_private
from ._text import listing, repeated

LONGEST_MODEL_NAME = 57
"""A DNS label has 63 characters at most, and a replica adds ``-`` and its number."""
MODEL_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
SERVED_NAME = r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*"
"""What stands in requests as ``model``, and in files of nginx."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
REVISION = re.compile(r"[0-9a-f]{40}")
CONTROLLER_PREFIX = "controller:"
MOST_RANKS = 1024
"""Ranks along one axis that anybody could mean; the largest deployments have a few dozen."""
SLOWEST, FASTEST = 1e-6, 1e6
"""Requests a second between which every rate lies that anybody could mean: one in eleven days, and a million."""
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

MODEL_OPTIONS = frozenset(
    {
        "name",
        "source",
        "revision",
        "max_model_len",
        "workload",
        "per_replica_requests_per_second",
        "replica_count",
        "max_replica_count",
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "decode_context_parallel_size",
        "distributed_executor_backend",
        "gpu_memory_utilization",
        "max_num_seqs",
        "max_num_batched_tokens",
        "kv_cache_dtype",
        "quantization",
        "dtype",
        "served_model_name",
        "engine_args",
        "engine_env",
        "default",
        "priority",
        "shape",
        "trust_remote_code",
    }
)
WORKLOAD_OPTIONS = frozenset({"concurrent_requests", "prompt_tokens", "output_tokens", "requests_per_second"})

KV_CACHE_DTYPES = frozenset({"auto", "bfloat16", "float16", "fp8", "fp8_e4m3", "fp8_e5m2"})
DTYPES = frozenset({"auto", "bfloat16", "float16", "half", "float", "float32"})
EXECUTORS = frozenset({"auto", "mp", "ray"})


@dataclass(frozen=True, slots=True)
class Workload:
    """What a model's users are expected to ask for. None: not stated."""

    concurrent_requests: int | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    requests_per_second: float | None = None

    @property
    def tokens_per_request(self) -> int | None:
        """Prompt and output of one request, or None when either is not stated."""
        if self.prompt_tokens is None or self.output_tokens is None:
            return None
        return self.prompt_tokens + self.output_tokens


@dataclass(frozen=True, slots=True)
class Source:
    """Where weights come from. kind: ``hub``, ``host`` (a path on the hosts) or ``controller`` (a directory here)."""

    kind: str
    place: str


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of fleet_models. None in a size means that the planner, or the engine, chooses."""

    name: str
    source: Source
    served_model_name: str
    revision: str | None = None
    max_model_len: int | None = None
    workload: Workload = Workload()
    per_replica_requests_per_second: float | None = None
    replica_count: int | None = None
    max_replica_count: int | None = None
    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    data_parallel_size: int | None = None
    decode_context_parallel_size: int = 1
    distributed_executor_backend: str = "auto"
    gpu_memory_utilization: float | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    kv_cache_dtype: str = "auto"
    quantization: str | None = None
    dtype: str = "auto"
    engine_args: dict[str, Any] = field(default_factory=dict)
    engine_env: dict[str, str] = field(default_factory=dict)
    default: bool = False
    priority: int = 0
    trust_remote_code: bool = False
    shape: dict[str, Any] = field(default_factory=dict)
    engine_version: str | None = None


def read_models(value: Any, settings: Settings, findings: Findings) -> tuple[Model, ...]:
    """The models that can be planned, in the operator's order. ``value``: a list of mappings, as YAML gave it."""
    if not isinstance(value, list) or not value:
        findings.refuse(
            "no_models",
            "fleet_models",
            "is not a list of models" if value else "is empty",
            "list the models to serve: fleet_models: [{name: ..., source: ...}]",
        )
        return ()
    models = [_read_model(item, f"fleet_models[{position}]", settings, findings) for position, item in enumerate(value)]
    found = [model for model in models if model]
    _check_unique(found, findings)
    return tuple({model.name: model for model in found}.values())


def _read_model(value: Any, path: str, settings: Settings, findings: Findings) -> Model | None:
    named = value.get("name") if isinstance(value, dict) else None
    reader = Reader(value, f"{path} ({named})" if isinstance(named, str) else path, findings, MODEL_OPTIONS)
    if not isinstance(value, dict):
        return None
    name = _name(reader, findings)
    source = _source(reader, findings)
    workload = Reader(reader.mapping("workload"), reader.at("workload"), findings, WORKLOAD_OPTIONS)
    model = Model(
        name=name or "",
        source=source or Source("host", "/"),
        served_model_name=reader.text("served_model_name", pattern=SERVED_NAME) or name or "",
        revision=_revision(reader, source, settings, findings),
        max_model_len=reader.integer("max_model_len"),
        workload=Workload(
            concurrent_requests=workload.integer("concurrent_requests"),
            prompt_tokens=workload.integer("prompt_tokens"),
            output_tokens=workload.integer("output_tokens"),
            requests_per_second=workload.number("requests_per_second", above=SLOWEST, most=FASTEST),
        ),
        per_replica_requests_per_second=reader.number("per_replica_requests_per_second", above=SLOWEST, most=FASTEST),
        replica_count=reader.integer_or_auto("replica_count"),
        max_replica_count=reader.integer_or_auto("max_replica_count"),
        tensor_parallel_size=reader.integer_or_auto("tensor_parallel_size", most=MOST_RANKS),
        pipeline_parallel_size=reader.integer_or_auto("pipeline_parallel_size", most=MOST_RANKS),
        data_parallel_size=reader.integer_or_auto("data_parallel_size", most=MOST_RANKS),
        decode_context_parallel_size=reader.integer("decode_context_parallel_size", most=MOST_RANKS) or 1,
        distributed_executor_backend=reader.choice("distributed_executor_backend", EXECUTORS, "auto"),
        gpu_memory_utilization=reader.number("gpu_memory_utilization", most=1.0),
        max_num_seqs=reader.integer("max_num_seqs"),
        max_num_batched_tokens=reader.integer("max_num_batched_tokens"),
        kv_cache_dtype=reader.choice("kv_cache_dtype", KV_CACHE_DTYPES, "auto"),
        quantization=reader.text("quantization"),
        dtype=reader.choice("dtype", DTYPES, "auto"),
        engine_args=_engine_args(reader, findings),
        engine_env=_engine_env(reader, findings),
        default=reader.flag("default"),
        priority=reader.integer("priority", 0, least=-1000, most=1000) or 0,
        trust_remote_code=reader.flag("trust_remote_code"),
        shape=reader.mapping("shape"),
        engine_version=settings.engine_versions.get("cuda"),
    )
    _check_workload_length(model, reader, findings)
    return model if name and source else None


def _name(reader: Reader, findings: Findings) -> str | None:
    name = reader.get("name")
    if name is None:
        findings.refuse("missing_option", reader.at("name"), "is not given", "give the model a name, such as llama-8b")
        return None
    text = name if isinstance(name, str) else ""
    if MODEL_NAME.fullmatch(text) and len(text) <= LONGEST_MODEL_NAME:
        return text
    suggestion = re.sub("[^a-z0-9]+", "-", text.lower())[:LONGEST_MODEL_NAME].strip("-")
    findings.refuse(
        "bad_name",
        reader.at("name"),
        f"is {shown(name)}, which is no DNS label",
        f"use a to z, 0 to 9 and dashes, {LONGEST_MODEL_NAME} characters at most"
        + (f", such as {suggestion}" if suggestion else ""),
    )
    return None


def _source(reader: Reader, findings: Findings) -> Source | None:
    place = reader.text("source")
    if place is None:
        if reader.get("source") is None:
            findings.refuse(
                "missing_option",
                reader.at("source"),
                "is not given",
                "name a hub id (org/name), an absolute path on the hosts, or controller:<directory>",
            )
        return None
    if place.startswith(CONTROLLER_PREFIX) and place != CONTROLLER_PREFIX:
        return Source("controller", place.removeprefix(CONTROLLER_PREFIX))
    if place.startswith("/"):
        return _host_path(place.rstrip("/"), reader, findings)
    if HUB_ID.fullmatch(place):
        return Source("hub", place)
    findings.refuse(
        "bad_source",
        reader.at("source"),
        f"is {shown(place)}, which is neither a hub id nor an absolute path",
        "name a hub id (org/name), an absolute path on the hosts (/srv/models/x), or controller:<directory>",
    )
    return None


def _host_path(place: str, reader: Reader, findings: Findings) -> Source | None:
    if not re.fullmatch(PATH, place) or is_private(place):
        findings.refuse(
            "bad_source",
            reader.at("source"),
            f"is {shown(place)}" + (", of which each engine sees its own" if is_private(place) else ""),
            "use letters, digits and ._/+@=:,- in a path, and no folder below /tmp, /var/tmp or /dev/shm",
        )
        return None
    return Source("host", place)


def _revision(reader: Reader, source: Source | None, settings: Settings, findings: Findings) -> str | None:
    revision = reader.text("revision")
    if source is None or source.kind != "hub" or settings.allow_unpinned_models:
        return revision
    if revision is None:
        findings.refuse(
            "revision_missing",
            reader.at("revision"),
            f"is not given, so that {source.place} could change under the fleet",
            "give the commit of the hub repository: 40 hexadecimal digits",
            "or set fleet_allow_unpinned_models: true",
        )
    elif not REVISION.fullmatch(revision):
        findings.refuse(
            "revision_missing",
            reader.at("revision"),
            f"is {shown(revision)}, a name that can be moved",
            "give the commit of the hub repository: 40 hexadecimal digits",
            "or set fleet_allow_unpinned_models: true",
        )
    return revision


def _engine_args(reader: Reader, findings: Findings) -> dict[str, Any]:
    """The engine's further flags, by underscore name. Which ones the version knows is checked with its variant."""
    given = reader.mapping("engine_args")
    arguments = {key.lstrip("-").replace("-", "_"): value for key, value in given.items() if value is not None}
    if len(arguments) < sum(value is not None for value in given.values()):
        findings.refuse("bad_value", reader.at("engine_args"), "gives one flag in two spellings", "keep one of them")
    check_owned(arguments, reader.at("engine_args"), findings)
    return arguments


def _engine_env(reader: Reader, findings: Findings) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in reader.mapping("engine_env").items():
        path = reader.at(f"engine_env.{name}")
        if not ENVIRONMENT_NAME.fullmatch(name):
            findings.refuse("bad_value", path, "is no name of an environment variable", "use letters, digits and _")
        elif name in OWNED_ENVIRONMENT:
            findings.refuse("owned_engine_env", path, "is set by the collection", OWNED_ENVIRONMENT[name])
        elif is_secret(name):
            findings.refuse(
                "secret_in_plan",
                path,
                "looks like a secret, and engine_env is written into the plan and onto the hosts for all to read",
                "leave it out: weights come from the model store, and engines need no token",
            )
        elif isinstance(value, dict | list) or value is None or CONTROL_CHARACTER.search(str(value)):
            reader.wrong(f"engine_env.{name}", value, "text on one line")
        else:
            found[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def _check_workload_length(model: Model, reader: Reader, findings: Findings) -> None:
    tokens = model.workload.tokens_per_request
    if tokens and model.max_model_len and tokens > model.max_model_len:
        findings.refuse(
            "workload_too_long",
            reader.at("workload"),
            f"asks for {tokens} tokens a request (prompt and output), and max_model_len is {model.max_model_len}",
            f"raise max_model_len to {tokens} at least, or lower prompt_tokens or output_tokens",
        )


def _check_unique(models: list[Model], findings: Findings) -> None:
    for name in repeated(model.name for model in models):
        findings.refuse(
            "duplicate_model",
            f"fleet_models ({name})",
            "is named twice",
            "give each model its own name",
            "for more copies of one model use replica_count",
        )
    by_name = {model.name: model for model in models}
    for served in repeated(model.served_model_name for model in by_name.values()):
        findings.refuse(
            "duplicate_model",
            f"served_model_name {served}",
            f"is what {listing(m.name for m in by_name.values() if m.served_model_name == served)} all answer to",
            "give each model its own served_model_name",
        )
    defaults = [model.name for model in by_name.values() if model.default]
    if len(defaults) > 1:
        findings.refuse(
            "two_defaults",
            "fleet_models",
            f"makes {listing(defaults)} the default, and one model answers on /v1",
            "keep default: true on one of them",
        )
