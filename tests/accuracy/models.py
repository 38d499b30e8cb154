# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the shape of the model that a row of measurements names, stored as the row says that it was."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.serving.plugins.module_utils import _model_catalogue
from ansible_collections.gpufleet.serving.plugins.module_utils._model import ModelError, ModelShape
from ansible_collections.gpufleet.serving.plugins.module_utils._model_config import shape_from_config
from ansible_collections.gpufleet.serving.plugins.module_utils._quantization import (
    BLOCK,
    CHANNEL,
    FP8,
    GROUP,
    INT4,
    INT8,
    MXFP4,
    NF4,
    NVFP4,
    TENSOR,
    Quantization,
)

EXPORTED = ("lm_head", r"re:.*mlp\.gate$", "*.visual*")
"""What exporters of smaller weights leave as it was."""

FORMATS = {
    "fp8": Quantization(FP8, TENSOR, None, EXPORTED),
    "fp8 blocks": Quantization(FP8, BLOCK, (128, 128), EXPORTED),
    "fp8 channels": Quantization(FP8, CHANNEL, None, EXPORTED),
    "w8": Quantization(INT8, CHANNEL, None, EXPORTED),
    "w4": Quantization(INT4, GROUP, (1, 128), EXPORTED, zeros=True),
    "bnb": Quantization(NF4, GROUP, (1, 64), EXPORTED),
    "bnb8": Quantization(INT8, CHANNEL, None, EXPORTED),
    "mxfp4": Quantization(MXFP4, GROUP, (1, 32), (*EXPORTED, "*.self_attn*")),
    "nvfp4": Quantization(NVFP4, GROUP, (1, 16), EXPORTED),
    "q8_0": Quantization("gguf_q8_0"),
    "q4_0": Quantization("gguf_q4_0"),
    "q4_k": Quantization("gguf_q4_k"),
    "q5_k": Quantization("gguf_q5_k"),
    "q6_k": Quantization("gguf_q6_k"),
}
"""The formats of rows, each by its usual scales."""

HYBRID_NVFP4 = Quantization(
    "mixed", kv_cache_dtype=FP8, overrides=(("*.mlp.*", NVFP4), ("*.linear_attn.*", FP8), ("*.self_attn.*", FP8))
)
"""NVFP4 versions of models with linear attention keep all attention in 8 bits, and ask for an 8-bit KV cache. Source:
quantization_config of nvidia/Qwen3.6-27B-NVFP4."""
WITH_HEAD = ("lm_head", NVFP4)
"""NVIDIA's own versions store the output head in 4 bits as well; others leave it."""

WORDS = (
    (r"bf16|bfloat16|fp16|float16|none|unquantized|auto", None),
    (r"q8_0", "q8_0"), (r"q4_0", "q4_0"), (r"q4_k", "q4_k"), (r"q5_k", "q5_k"), (r"q6_k", "q6_k"),
    (r"nvfp4|modelopt_fp4", "nvfp4"), (r"mxfp4", "mxfp4"),
    (r"(bnb|bitsandbytes).*8|8.*(bnb|bitsandbytes)", "bnb8"), (r"bnb|bitsandbytes|nf4", "bnb"),
    (r"w8a8|w8a16|int8|w8|gptq.*8bit|8bit", "w8"), (r"fp8|float8|w8a8_fp8|fbgemm|modelopt", "fp8"),
    (r"w4|int4|awq|gptq|auto-?round|4bit|compressed-tensors|moe_wna16|inc", "w4"),
)  # fmt: skip
"""What rows call a format, in any dialect; the first that is found counts."""

SAME_WORD = {"fp8": FP8, "w8": INT8, "w4": INT4, "bnb": NF4, "mxfp4": MXFP4, "nvfp4": NVFP4}


class UnknownModel(Exception):
    """A row's model that neither the configurations nor the catalogue hold, or that cannot be read."""


def shape_of(row: Mapping[str, Any], configs: Mapping[str, Any]) -> ModelShape:
    """The model of a row, with the storage that the row states. Raises UnknownModel."""
    shape = _architecture(row, configs)
    scheme = scheme_of(row)
    extra = row.get("extra_vision_params_b")
    if isinstance(extra, int | float) and extra > 0:
        shape = dataclasses.replace(shape, vision_parameters=int(extra * 1e9))
    if _language_only(row):
        shape = dataclasses.replace(shape, vision_parameters=0)
    return _stored_as(shape, scheme, str(row.get("model", "")), str(row.get("quantization") or ""))


def scheme_of(row: Mapping[str, Any]) -> str | None:
    """The format of a row's weights: the word for it, None for 16 bits, "" where the row does not tell."""
    for field in ("quantization_scheme", "quantization"):
        told = row.get(field)
        if isinstance(told, str) and told.strip():
            found = next(((word,) for pattern, word in WORDS if re.search(pattern, told.lower())), None)
            if found:
                return found[0]
    return ""


def _architecture(row: Mapping[str, Any], configs: Mapping[str, Any]) -> ModelShape:
    key, model = row.get("model_config_key"), row.get("model")
    names = [name for name in (key, model) if isinstance(name, str) and name]
    problem = "the row names no model"
    for name in names:
        try:
            found = _named(name, configs)
        except (ModelError, TypeError, ValueError, KeyError, AttributeError) as error:
            problem = f"{name}: {re.split(', only|[.] ', str(error))[0]}"
            continue
        if found is not None:
            return _exactly(str(model), found)
        problem = f"{name} is in no configuration and not in the catalogue"
    raise UnknownModel(problem)


def _named(name: str, configs: Mapping[str, Any]) -> ModelShape | None:
    """The shape under a name: the catalogue's, which is whole, or that of the configurations at hand."""
    known = TEXT_STACKS.get(name, name)
    if known in _model_catalogue.BY_NAME:
        return _model_catalogue.shape(known)
    config = configs.get(name)
    return shape_from_config(config) if isinstance(config, Mapping) else None


def _exactly(model: str, found: ModelShape) -> ModelShape:
    """The catalogue's row of the very model where it has one: a row's key may name a relative of the same shape."""
    if model not in _model_catalogue.BY_NAME:
        return found
    own = _model_catalogue.shape(model)
    alike = (own.num_hidden_layers, own.hidden_size) == (found.num_hidden_layers, found.hidden_size)
    return own if alike else found


TEXT_STACKS = {"llava 1.5 13B text stack (Llama-2-13B)": "llava-hf/llava-1.5-13b-hf"}
"""Entries of the configurations that describe a part of a model of the catalogue."""


def _language_only(row: Mapping[str, Any]) -> bool:
    return "language_model_only" in str(row.get("extra_flags") or "")


def _stored_as(shape: ModelShape, scheme: str | None, name: str, dialect: str) -> ModelShape:
    if scheme == "":
        return shape
    if scheme is None:
        return dataclasses.replace(
            shape, quantization=None, quantization_ignored=(), quantization_overrides=(), kv_cache_dtype=None
        )
    if shape.quantization == SAME_WORD.get(scheme, scheme):
        return shape
    stored = FORMATS[_variety(scheme, name.lower())]
    if scheme == "nvfp4" and shape.linear_num_value_heads:
        head = (WITH_HEAD,) if "nvidia" in name.lower() or "modelopt" in dialect.lower() else ()
        stored = dataclasses.replace(HYBRID_NVFP4, overrides=head + HYBRID_NVFP4.overrides)
    return dataclasses.replace(
        shape,
        quantization=stored.word,
        quantization_granularity=stored.granularity,
        quantization_block=stored.block,
        quantization_zeros=stored.zeros,
        quantization_ignored=stored.ignored,
        quantization_overrides=stored.overrides,
        kv_cache_dtype=stored.kv_cache_dtype,
    )


def _variety(scheme: str, name: str) -> str:
    """Which usual form of a format a name speaks of."""
    if scheme == "fp8" and "dynamic" in name:
        return "fp8 channels"
    if scheme == "fp8" and name.startswith(("qwen", "deepseek")) and name.endswith("-fp8"):
        return "fp8 blocks"
    return scheme
