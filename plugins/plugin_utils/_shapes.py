# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models' shapes as ``model_info`` found them, checked before anything is reckoned with them."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

from ..module_utils._model import DTYPE_BYTES, FAMILIES, ModelShape
from ..module_utils._quantization import FP8
from ._findings import Findings
from ._memory import Layout, stage_weights
from ._reading import Reader, is_whole
from ._wishes import Model

SHAPE_WORDS = frozenset(field.name for field in dataclasses.fields(ModelShape))
LARGEST_COUNT = 2**32
"""More than any model has of anything that its shape counts."""
MOST_LAYERS = 4096
COUNTS = (
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
)
OPTIONAL_COUNTS = {"parameter_count": 0, "weight_bytes": None, "sliding_window": None}
FLAGS = {
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
    "qk_norm": False,
    "supports_pipeline": True,
}
WORDS = {"model_type": "", "attention": "gqa", "provenance": "config.json"}


@dataclass(frozen=True, slots=True)
class Weights:
    """A model's weights: their shape, the hash of their files where those were read, and their bytes on disk."""

    shape: ModelShape
    content_id: str | None
    weight_bytes: int


def read_shapes(value: Any, models: tuple[Model, ...], findings: Findings) -> dict[str, Weights]:
    """The weights of each model by its name. A model without them is refused, with what ``model_info`` said of it.

    ``value``: ``{model name: {"shape", "content_id", "weight_bytes", "error"}}``, plain data.
    """
    entries = value if isinstance(value, dict) else {}
    found = {model.name: _read(entries.get(model.name), model, findings) for model in models}
    return {name: weights for name, weights in found.items() if weights}


def _read(value: Any, model: Model, findings: Findings) -> Weights | None:
    entry = Reader(value if isinstance(value, dict) else {}, f"shape of {model.name}", findings)
    stated = entry.get("shape")
    if not isinstance(stated, dict):
        findings.refuse(
            "unknown_model_shape",
            model.name,
            entry.text("error", pattern="(?s).+") or f"nothing is known of the shape of {model.source.place}",
            *_shape_remedies(model),
        )
        return None
    shape = _checked(Reader(stated, entry.path, findings, SHAPE_WORDS), findings)
    if shape is None or not _sizeable(shape, model, findings):
        return None
    content_id = entry.text("content_id", pattern="sha256:[0-9a-f]{64}")
    if model.source.kind == "controller" and content_id is None:
        findings.refuse(
            "unknown_model_shape",
            model.name,
            f"the weights in {model.source.place} were not read",
            "run on the controller that holds them",
        )
        return None
    on_disk = entry.integer("weight_bytes") or shape.weight_bytes or sum(stage_weights(shape, Layout()))
    return Weights(shape, content_id, on_disk)


def _shape_remedies(model: Model) -> tuple[str, ...]:
    if model.source.kind == "hub":
        return (
            "use a model of the built-in catalogue",
            "or point source at a directory with its config.json and weights",
        )
    return ("point source at a directory with config.json and safetensors files",)


def _checked(reader: Reader, findings: Findings) -> ModelShape | None:
    """The shape of plain data, or None when some of it is not what a shape holds."""
    before = len(findings.refusals)
    values: dict[str, Any] = {name: _needed(reader, name, reader.integer(name, most=LARGEST_COUNT)) for name in COUNTS}
    values["num_hidden_layers"] = _needed(
        reader, "num_hidden_layers", reader.integer("num_hidden_layers", most=MOST_LAYERS)
    )
    values |= {name: reader.integer(name, default, least=0) for name, default in OPTIONAL_COUNTS.items()}
    values |= {name: reader.flag(name, default) for name, default in FLAGS.items()}
    for name, choices in (("architecture", FAMILIES), ("dtype", DTYPE_BYTES)):
        values[name] = _needed(reader, name, reader.choice(name, choices, ""))
    values |= {name: reader.text(name, default, pattern="(?s).*") for name, default in WORDS.items()}
    values |= _quantization(reader)
    return ModelShape(**values) if len(findings.refusals) == before else None


def _needed(reader: Reader, name: str, value: Any) -> Any:
    """The value, refused where nothing stands. What stands there and is wrong has been refused already."""
    if reader.get(name) is None:
        reader.wrong(name, None, "what model_info says of the model")
    return value


def _quantization(reader: Reader) -> dict[str, Any]:
    block = reader.get("quantization_block")
    granularity = reader.get("quantization_granularity")
    if granularity is not None:
        granularity = reader.choice("quantization_granularity", {"tensor", "channel", "block"}, "tensor")
    if (block is not None or granularity == "block") and not _is_block(block):
        reader.wrong("quantization_block", block, "two numbers above 0")
    ignored = reader.texts("quantization_ignored")
    for pattern in ignored:
        if not _is_pattern(pattern):
            reader.wrong("quantization_ignored", pattern, "names, globs, or re: and a regular expression")
    return {
        "quantization": reader.text("quantization", pattern="(?s).*"),
        "quantization_granularity": granularity,
        "quantization_block": tuple(block) if isinstance(block, list) else None,
        "quantization_ignored": ignored,
        "kv_cache_dtype": reader.choice("kv_cache_dtype", {FP8}, FP8) if reader.get("kv_cache_dtype") else None,
    }


def _is_block(block: Any) -> bool:
    extents = block if isinstance(block, list) else []
    return len(extents) == 2 and all(is_whole(extent) and 0 < extent < LARGEST_COUNT for extent in extents)


def _is_pattern(pattern: str) -> bool:
    try:
        re.compile(pattern.removeprefix("re:"))
    except re.error:
        return False
    return True


def _sizeable(shape: ModelShape, model: Model, findings: Findings) -> bool:
    """Whether the planner has rules for this shape. Others are refused, never sized by a guess."""
    if shape.attention != "gqa":
        findings.refuse(
            "not_yet", model.name, f"its attention is {shape.attention}, which is not yet sized", "use a dense model"
        )
    elif shape.quantization not in (None, FP8):
        findings.refuse(
            "not_yet",
            model.name,
            f"its weights are quantised as {shape.quantization}, which is not yet sized",
            "use the unquantised model, or its fp8 version",
        )
    elif model.quantization not in (None, FP8):
        findings.refuse(
            "not_yet",
            model.name,
            f"quantization {model.quantization} is not yet sized",
            "leave it out: the engine reads the checkpoint's own; or say fp8",
        )
    else:
        return True
    return False
