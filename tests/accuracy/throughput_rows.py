# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads published benchmarks: which model on which devices under which load, what was measured, or why not to use it.

A row is used where its model, its GPU and its load are known and its engine did nothing that the planner does not plan
for. Everything else is left out under a reason that is counted.
"""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ansible_collections.gpufleet.serving.plugins.module_utils import _model_catalogue
from ansible_collections.gpufleet.serving.plugins.module_utils._gpu_catalogue import CATALOGUE, GpuModel
from ansible_collections.gpufleet.serving.plugins.module_utils._model import ModelError, ModelShape
from ansible_collections.gpufleet.serving.plugins.module_utils._quantization import NVFP4
from ansible_collections.gpufleet.serving.plugins.plugin_utils._batching import Server
from ansible_collections.gpufleet.serving.plugins.plugin_utils._capacity import fit
from ansible_collections.gpufleet.serving.plugins.plugin_utils._devices import CUDA, Kind
from ansible_collections.gpufleet.serving.plugins.plugin_utils._roofline import MODERN, HostSide
from ansible_collections.gpufleet.serving.plugins.plugin_utils._speed import server_of
from ansible_collections.gpufleet.serving.plugins.plugin_utils._weights import Layout
from ansible_collections.gpufleet.serving.plugins.plugin_utils._wishes import Model, Source, Workload
from ansible_collections.gpufleet.serving.tests.accuracy.models import UnknownModel, shape_of

ADDED = pathlib.Path(__file__).resolve().parent / "data" / "throughput_models.json"
"""Models of benchmarks that neither the configurations nor the catalogue hold, and other names of those that do."""
GIB = 2**30

SERIAL_V1, SERIAL_V0 = HostSide(overlapped=False), HostSide(overlapped=False, slowness=2.0)
"""Engines before 0.14, which prepare a step only when the one before is done, and before 0.8 with a slower host side
(the factor is fitted by fit_capacity.py like the planner's own constants; the planner installs neither)."""

CLOSED, BURST, OPEN = "concurrency", "all at once", "rate"
"""The kinds of load: so many clients that ask again, all prompts at once, or prompts at a rate."""

LENGTH_SPREAD = ("sharegpt", "conversation", "real")
"""Words for data sets whose requests differ in length."""


class LeftOutError(ValueError):
    """A row that cannot be used; the text is the reason, the same for all rows alike."""


@dataclass(frozen=True)
class Case:
    """One benchmark run, per replica: what was asked of what, and what came out.

    concurrency, prompts, rate: None where not stated. tokens_per_second: of output, ``derived`` says from what; tpot:
    seconds between two tokens. None where not measured.
    """

    row: Mapping[str, Any]
    server: Server
    replicas: int
    prompt_tokens: float
    output_tokens: float
    concurrency: float | None
    prompts: float | None
    rate: float | None
    tokens_per_second: float | None
    derived: str
    tpot: float | None

    @property
    def source(self) -> str:
        """The repository or page that the row is from."""
        words = str(self.row.get("source", "?")).split(" ")
        return " ".join(words[:3]) if words[0] == "github" else words[0]

    @property
    def load(self) -> str:
        """How requests come: one of CLOSED, BURST, OPEN."""
        return OPEN if self.rate else CLOSED if self.concurrency else BURST

    @cached_property
    def uneven(self) -> bool:
        """Whether requests differ in length."""
        return any(word in str(self.row.get("dataset", "")).lower() for word in LENGTH_SPREAD)


class Models:
    """Shapes by the many names of a model: of the configurations, of the catalogue, and of what benchmarks add."""

    def __init__(self, configurations: pathlib.Path) -> None:
        added = json.loads(ADDED.read_text(encoding="utf-8"))
        self._configs: dict[str, Any] = {**json.loads(configurations.read_text(encoding="utf-8")), **added["configs"]}
        self._names = {plain_name(name): name for name in (*_model_catalogue.BY_NAME, *self._configs)}
        for name, config in self._configs.items():
            for also in config.get("also_for", ()):
                self._names.setdefault(plain_name(also), name)
        for also, name in added["aliases"].items():
            self._names.setdefault(plain_name(also), self._names.get(plain_name(name), name))
        self._shapes: dict[tuple[str, ...], ModelShape] = {}

    def shape(self, row: Mapping[str, Any]) -> ModelShape:
        """The shape of a row's model, stored as the row says. Raises LeftOutError, ModelError."""
        key = tuple(str(row.get(field)) for field in ("model", "quantization", "dtype"))
        if key not in self._shapes:
            name = self._names.get(plain_name(key[0]))
            if name is None:
                raise LeftOutError(f"model not known: {key[0]}")
            try:
                self._shapes[key] = _as_served(shape_of({**row, "model": name, **_storage(row)}, self._configs), row)
            except UnknownModel as error:
                raise LeftOutError(f"model not known: {key[0]}: {error}") from error
        return self._shapes[key]


NOISE = re.compile(
    r"(instruct|chat|it|hf|base|preview|latest|meta|fp8|nvfp4|mxfp4|fp4|bf16|fp16|awq|gptq|int4|int8|w4a16|w8a8|w8a16|"
    r"dynamic|block|quantized|autoround|autoawq|qat|bnb|4bit|8bit|marlin|kv|2501|2503|2506|2507|0528|0324|v0\.\d)"
)
"""Parts of a model's name that say how it was trained or stored, not how large it is."""

STORED_BY_ITS_MAKER = re.compile(r"Deepseek|GptOss|KimiK2|MiniMax")
"""Architectures whose first checkpoint is a quantised one."""


def plain_name(name: str) -> str:
    """A model's name without whose it is, how it was tuned and how it is stored.

    >>> plain_name("RedHatAI/Meta-Llama-3.1-70B-Instruct-quantized.w4a16")
    'llama-3.1-70b'
    """
    words = name.lower().replace("(", " ").split() or [""]
    parts = re.split(r"[-_]|(?<=quantized)\.", words[0].rsplit("/", 1)[-1])
    return "-".join(part for part in parts if part and not NOISE.fullmatch(part))


def _storage(row: Mapping[str, Any]) -> dict[str, Any]:
    """How the weights are stored: as stated, else as the name says."""
    stated = row.get("quantization")
    if stated and "mixed" in str(stated):
        raise LeftOutError(f"quantisation not told: {stated}")
    return {"quantization": stated or _format_in(str(row.get("model")))}


def _format_in(name: str) -> str | None:
    found = re.search(r"nvfp4|mxfp4|fp8|awq|gptq|int4|int8|w4a16|w8a8", name.lower())
    return found[0] if found else None


def _as_served(shape: ModelShape, row: Mapping[str, Any]) -> ModelShape:
    """The shape of a mixture as its makers store it."""
    if not _storage(row)["quantization"] and row.get("dtype") and not STORED_BY_ITS_MAKER.match(shape.architecture):
        return replace(shape, quantization=None, quantization_ignored=(), quantization_overrides=())
    if shape.quantization == NVFP4 and shape.num_experts:
        # NVIDIA's checkpoints of mixtures leave attention in 16 bits
        return replace(shape, quantization_ignored=(*shape.quantization_ignored, "*self_attn*"))
    return shape


def gpu_of(name: str) -> GpuModel | None:
    """The GPU that a table means: every word that it says is a word of the catalogue's key or names.

    >>> gpu_of("NVIDIA H100 SXM5 80GB").key
    'H100-SXM-80GB'
    """
    words = set(re.sub(r"sxm\d", "sxm", re.sub(r"[\s_\-/(),]+", " ", name.lower())).split())
    words -= {"nvidia", "tesla", "geforce", "gpu", "tensor", "core", "blackwell", "generation", "edition"}
    for wanted in (words, {word for word in words if not re.fullmatch(r"\d+(gb|gib|g)", word)}):
        found = [model for model in CATALOGUE if wanted and wanted <= _spelled(model)]
        if found:
            return found[0]
    return None


def _spelled(model: GpuModel) -> set[str]:
    texts = " ".join((model.key, *model.names)).lower()
    return set(re.split(r"[\s\-]+", texts)) | {re.sub(r"sxm\d", "sxm", word) for word in texts.split()}


def case_of(row: Mapping[str, Any], models: Models) -> Case:
    """A row as a run to predict. Raises LeftOutError with the reason."""
    _check_engine(row)
    prompt, output = _number(row, "input_tokens"), _number(row, "output_tokens")
    if not prompt or not output:
        raise LeftOutError("lengths not stated")
    gpu = gpu_of(str(row.get("gpu") or ""))
    if gpu is None:
        raise LeftOutError(f"GPU not known: {row.get('gpu')}")
    try:
        shape = models.shape(row)
        layout, replicas = _layout(row, shape)
        model = _wish(row, prompt, output)
        kind = Kind(gpu.key, CUDA, _memory(gpu, row), tuple(int(part) for part in gpu.compute_capability.split(".")))
        held = fit(model, shape, kind, layout, int(prompt + output))
        server = server_of(model, shape, held.memory, max(1, held.requests))
    except ModelError as error:
        raise LeftOutError(f"model not sized: {row.get('model')}: {error}") from error
    assert server is not None
    concurrency, prompts, rate = _load(row)
    return Case(
        row=row,
        server=replace(server, host=host_side(row)),
        replicas=replicas,
        prompt_tokens=prompt,
        output_tokens=output,
        concurrency=concurrency / replicas if concurrency else None,
        prompts=prompts / replicas if prompts else None,
        rate=rate / replicas if rate else None,
        **_measured(row, concurrency, prompt, output, replicas),
    )


def _check_engine(row: Mapping[str, Any]) -> None:
    """Raises LeftOutError for engines that do what the planner does not plan for."""
    note, engine = str(row.get("note") or ""), str(row.get("engine") or "vLLM")
    if engine.lower() != "vllm":
        raise LeftOutError(f"engine is {engine}")
    if re.search(r"enforce.?eager", note, re.IGNORECASE):
        raise LeftOutError("without CUDA graphs (enforce-eager): the host's time is not modelled")
    if re.search(r"multi.step", note, re.IGNORECASE):
        raise LeftOutError("multi-step scheduling, which current engines do not have")
    if re.search(r"spec-(?!none)", f"{row.get('id')} {row.get('source')}"):
        raise LeftOutError("speculative decoding")


def _layout(row: Mapping[str, Any], shape: ModelShape) -> tuple[Layout, int]:
    """How one replica is cut, and how many there are."""
    pipeline, data = int(row.get("pp") or 1), int(row.get("dp") or 1)
    if data > 1 and shape.num_experts:
        raise LeftOutError("data parallel attention over routed experts, which nothing is fitted to")
    tensor = int(row.get("tp") or 0) or max(1, int(row.get("gpu_count") or 1) // (pipeline * data))
    return Layout(tensor, pipeline), data


def _wish(row: Mapping[str, Any], prompt: float, output: float) -> Model:
    """The benchmark's engine in the planner's words; half of the output stands in the cache on average."""
    note = str(row.get("note") or "")
    sharded = re.search(r"expert.parallel|[_-]ep[2-9]", f"{note} {row.get('id')}")
    sequences, tokens = (_flag(note, flag) for flag in ("max-num-seqs", "max-num-batched-tokens"))
    return Model(
        name="benchmark",
        source=Source("host", "/"),
        served_model_name="benchmark",
        workload=Workload(prompt_tokens=max(1, round(prompt)), output_tokens=max(1, round(output / 2))),
        max_num_seqs=sequences,
        max_num_batched_tokens=tokens,
        engine_args={"enable_expert_parallel": True} if sharded else {},
        kv_cache_dtype="fp8" if re.search(r"fp8 kv cache true|kv.cache.dtype fp8", note, re.IGNORECASE) else "auto",
    )


def _flag(note: str, flag: str) -> int | None:
    found = re.search(rf"{flag}[ =](\d+)", note)
    return int(found[1]) if found else None


def _memory(gpu: GpuModel, row: Mapping[str, Any]) -> int:
    """What the engine sees. A note may say that the board is a smaller one of the same name."""
    smaller = next((other for other in CATALOGUE if other.key == gpu.key.replace("80GB", "40GB")), gpu)
    stated = gpu if "GB" in str(row.get("gpu")) else smaller if re.search(r"\b40 ?GB", str(row.get("note"))) else gpu
    return int(stated.usable_gib * GIB)


def host_side(row: Mapping[str, Any]) -> HostSide:
    """The engine's host side by its version, or by the year where only that is told."""
    version = str(row.get("engine_version") or "")
    found = re.match(r"v?(\d+)\.(\d+)", version)
    if found:
        number = (int(found[1]), int(found[2]))
        return SERIAL_V0 if number < (0, 8) else SERIAL_V1 if number < (0, 14) else MODERN
    if "nightly" in version:
        return MODERN
    old = re.search(r"\b20(23|24)\b", str(row.get("note") or ""))
    return SERIAL_V0 if old else SERIAL_V1


def _load(row: Mapping[str, Any]) -> tuple[float | None, float | None, float | None]:
    """Concurrency, number of prompts and rate, each None where not stated."""
    concurrency, prompts = _number(row, "max_concurrency"), _number(row, "num_prompts")
    rate = _number(row, "request_rate")
    if not concurrency and not rate and not (prompts and str(row.get("request_rate")).lower() == "inf"):
        raise LeftOutError("load not stated: neither concurrency nor rate nor prompts at once")
    return concurrency, prompts, None if concurrency else rate


def _measured(
    row: Mapping[str, Any], concurrency: float | None, prompt: float, output: float, replicas: int
) -> dict[str, Any]:
    """Output tokens a second of one replica, with how they were found, and seconds between tokens."""
    tpot = _number(row, "tpot_ms_mean") or (_number(row, "itl_ms_mean") if output > 1 else None)
    first = _number(row, "ttft_ms_mean")
    ways = {
        "stated": _number(row, "output_tok_per_s"),
        "requests/s": (_number(row, "req_per_s") or 0) * output,
        "all tokens/s": (_number(row, "total_tok_per_s") or 0) * output / (prompt + output),
        "TTFT and TPOT": 1e3 * concurrency * output / (first + tpot * (output - 1))
        if concurrency and first is not None and tpot
        else None,
    }
    derived, value = next(((way, value) for way, value in ways.items() if value), ("nothing", None))
    if value is None and tpot is None:
        raise LeftOutError("neither throughput nor time a token measured")
    return {
        "tokens_per_second": value / replicas if value else None,
        "derived": derived,
        "tpot": tpot / 1e3 if tpot else None,
    }


def _number(row: Mapping[str, Any], name: str) -> float | None:
    """A number above 0, however it is written; None for anything else, infinity among it."""
    try:
        value = float(row.get(name) or 0)
    except (TypeError, ValueError):
        return None
    return value if 0 < value < float("inf") else None
