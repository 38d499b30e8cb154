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

STATES = ("*.linear_attn*",)
"""Layers with a state, which four-bit versions of hybrid models leave in 16 bits."""

FORMATS = {
    "fp8": Quantization(FP8, TENSOR, None, EXPORTED),
    "fp8 blocks": Quantization(FP8, BLOCK, (128, 128), EXPORTED),
    "fp8 channels": Quantization(FP8, CHANNEL, None, EXPORTED),
    "w8": Quantization(INT8, CHANNEL, None, EXPORTED),
    "w4": Quantization(INT4, GROUP, (1, 128), EXPORTED, zeros=True),
    "w4 small groups": Quantization(INT4, GROUP, (1, 32), EXPORTED),
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
    shape = dataclasses.replace(_architecture(row, configs))
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
    names = [name for name in (row.get("model_config_key"), row.get("model")) if isinstance(name, str) and name]
    problem = "the row names no model"
    for name in names:
        for candidate in (name, *_aliases(name, configs)):
            if candidate in _model_catalogue.BY_NAME:
                return _model_catalogue.shape(candidate)
        config = configs.get(name)
        if isinstance(config, Mapping):
            try:
                return shape_from_config(config)
            except (ModelError, TypeError, ValueError, KeyError) as error:
                problem = f"{name}: {str(error).partition('. ')[0]}"
                continue
        problem = f"{name} is in no configuration and not in the catalogue"
    raise UnknownModel(problem)


TEXT_STACKS = {"llava 1.5 13B text stack (Llama-2-13B)": "llava-hf/llava-1.5-13b-hf"}
"""Entries of the configurations that describe a part of a model of the catalogue."""


def _aliases(name: str, configs: Mapping[str, Any]) -> list[str]:
    return [TEXT_STACKS[name]] if name in TEXT_STACKS else []


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
    stored = FORMATS[_variety(scheme, name.lower(), dialect.lower())]
    ignored = stored.ignored + (STATES if shape.linear_num_value_heads and scheme in ("w4", "nvfp4") else ())
    return dataclasses.replace(
        shape,
        quantization=stored.word,
        quantization_granularity=stored.granularity,
        quantization_block=stored.block,
        quantization_zeros=stored.zeros,
        quantization_ignored=ignored,
        quantization_overrides=(),
        kv_cache_dtype=None,
    )


def _variety(scheme: str, name: str, dialect: str) -> str:
    """Which usual form of a format a name speaks of."""
    if scheme == "fp8" and "dynamic" in name:
        return "fp8 channels"
    if scheme == "fp8" and name.startswith(("qwen", "deepseek")) and name.endswith("-fp8"):
        return "fp8 blocks"
    if scheme == "w4" and "compressed" in dialect:
        return "w4 small groups" if "awq" in name else "w4"
    return scheme
