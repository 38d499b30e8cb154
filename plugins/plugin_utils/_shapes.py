# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The models' shapes as ``model_info`` found them, checked before anything is reckoned with them."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, replace
from typing import Any

from ..module_utils._model import (
    ATTENTIONS,
    BOTH,
    CHUNKED,
    DENSE,
    DTYPE_BYTES,
    GQA,
    LAYER_TYPES,
    LINEAR,
    MAMBA,
    MLA,
    MLP_TYPES,
    SLIDING,
    SPARSE,
    ModelError,
    ModelShape,
)
from ..module_utils._model_config import MOST_LAYERS, shape_from_config
from ..module_utils._model_families import FAMILIES
from ..module_utils._model_tensors import is_sized
from ..module_utils._quantization import CHECKPOINT_WORDS, FORMATS, FP8, GRANULARITIES, MADE_WHILE_LOADING
from ._findings import Findings
from ._reading import Reader, is_whole, shown
from ._weights import Layout, stage_weights
from ._wishes import REVISION, Model

SHAPE_WORDS = frozenset(field.name for field in dataclasses.fields(ModelShape))
DEFAULTS = {field.name: field.default for field in dataclasses.fields(ModelShape)}
LARGEST_COUNT = 2**32
"""More than any model has of anything that its shape counts."""
COUNTS = (
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
)
FLAGS = ("tie_word_embeddings", "attention_bias", "mlp_bias", "qk_norm")
OPTIONAL_FLAGS = tuple(name for name, default in DEFAULTS.items() if isinstance(default, bool))
OPTIONAL_COUNTS = tuple(name for name, default in DEFAULTS.items() if is_whole(default))
"""Sizes of parts that not every model has; 0 where it has none."""
PER_LAYER_WORDS = {"layer_types": LAYER_TYPES, "mlp_types": MLP_TYPES}
PER_LAYER_COUNTS = ("layer_intermediate_sizes",)
WORDS = {"model_type": "", "provenance": "config.json"}

NEEDED_BY = {
    MLA: ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"),
    LINEAR: (
        "linear_num_key_heads",
        "linear_num_value_heads",
        "linear_key_head_dim",
        "linear_value_head_dim",
        "linear_conv_kernel_dim",
    ),
    MAMBA: ("mamba_num_heads", "mamba_head_dim", "mamba_state_size", "mamba_n_groups", "mamba_conv_kernel_dim"),
    CHUNKED: ("attention_chunk_size",),
    SLIDING: ("sliding_window",),
    SPARSE: ("num_experts", "num_experts_per_tok", "moe_intermediate_size"),
    BOTH: ("num_experts", "num_experts_per_tok", "moe_intermediate_size"),
    DENSE: ("intermediate_size",),
}
"""The sizes without which a part of a model cannot be counted, by the word that announces it."""


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
    stated = _given(model, findings) if model.shape else entry.get("shape")
    if model.shape and not (stated and _agrees(stated, entry.get("shape"), model, findings)):
        return None
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
    content_id = _content_id(entry, model, findings)
    if model.source.kind != "host" and content_id is None:
        return None
    on_disk = entry.integer("weight_bytes") or shape.weight_bytes or sum(stage_weights(shape, Layout()))
    return Weights(shape, content_id, on_disk)


def _content_id(entry: Reader, model: Model, findings: Findings) -> str | None:
    """The hash of the model's files; of one on a hub its commit, which is known without the hub where it is pinned."""
    content_id = entry.text("content_id", pattern="sha256:[0-9a-f]{64}|git:[0-9a-f]{40}")
    if content_id is None and model.source.kind == "hub" and REVISION.fullmatch(model.revision or ""):
        return f"git:{model.revision}"
    if content_id is None and model.source.kind != "host":
        on_hub = model.source.kind == "hub"
        findings.refuse(
            "unknown_model_shape",
            model.name,
            f"{model.source.place} was not read" + (", and its revision is no commit" if on_hub else ""),
            "pin the revision, or run again when the hub answers" if on_hub else "run on the controller that holds it",
        )
    return content_id


def _given(model: Model, findings: Findings) -> dict[str, Any] | None:
    """The shape that the inventory gives in config.json's own words, as plain data; None where it cannot be read."""
    try:
        return replace(shape_from_config(model.shape), provenance="inventory").to_dict()
    except (ModelError, TypeError, ValueError, KeyError, AttributeError) as error:
        findings.refuse(
            "unknown_model_shape",
            model.name,
            f"its shape in fleet_models: {error}",
            "copy the fields of the model's config.json into fleet_models[].shape, architectures among them",
        )
        return None


def _agrees(given: dict[str, Any], read: Any, model: Model, findings: Findings) -> bool:
    """Whether the weights, where they were read, are of the shape that the inventory gives."""
    found = read if isinstance(read, dict) else {}
    for name in ("num_hidden_layers", "hidden_size", "vocab_size"):
        if found.get(name) not in (None, given[name]):
            findings.refuse(
                "shape_disagrees",
                model.name,
                f"{name} is {given[name]} in fleet_models[].shape, and {shown(found[name])} where weights were read",
                "correct fleet_models[].shape, or leave it out",
            )
            return False
    return True


def _shape_remedies(model: Model) -> tuple[str, ...]:
    return (
        "correct source and revision"
        if model.source.kind == "hub"
        else "point source at a directory with config.json and safetensors files",
        "or give the fields of its config.json as shape in fleet_models",
    )


def _checked(reader: Reader, findings: Findings) -> ModelShape | None:
    """The shape of plain data, or None when some of it is not what a shape holds."""
    before = len(findings.refusals)
    values: dict[str, Any] = {name: _needed(reader, name, reader.integer(name, most=LARGEST_COUNT)) for name in COUNTS}
    layers = _needed(reader, "num_hidden_layers", reader.integer("num_hidden_layers", most=MOST_LAYERS))
    values["num_hidden_layers"] = layers
    values["intermediate_size"] = reader.integer("intermediate_size", 0, least=0, most=LARGEST_COUNT)
    values |= {name: reader.integer(name, None, least=0) for name in ("weight_bytes", "sliding_window")}
    values |= {
        name: reader.integer(name, 0, least=0, most=2**50 if name == "parameter_count" else LARGEST_COUNT)
        for name in OPTIONAL_COUNTS
    }
    values |= {name: reader.flag(name) for name in FLAGS}
    values |= {name: reader.flag(name, bool(DEFAULTS[name])) for name in OPTIONAL_FLAGS}
    for name, choices in (("architecture", FAMILIES), ("dtype", DTYPE_BYTES)):
        values[name] = _needed(reader, name, reader.choice(name, choices, ""))
    values["attention"] = reader.choice("attention", ATTENTIONS, GQA)
    values |= {name: reader.text(name, default, pattern="(?s).*") for name, default in WORDS.items()}
    values |= _per_layer(reader, layers)
    values |= _quantization(reader)
    if len(findings.refusals) > before:
        return None
    shape = ModelShape(**values)
    _check_parts(shape, reader)
    return shape if len(findings.refusals) == before else None


def _per_layer(reader: Reader, layers: int | None) -> dict[str, Any]:
    """What a shape lists layer by layer."""
    found: dict[str, Any] = {}
    for name, words in PER_LAYER_WORDS.items():
        found[name] = reader.texts(name)
        for word in sorted(set(found[name]) - words):
            reader.wrong(name, word, f"words of {', '.join(sorted(words))}")
    for name in PER_LAYER_COUNTS:
        values = reader.items(name)
        found[name] = tuple(value for value in values if is_whole(value) and 0 <= value < LARGEST_COUNT)
        if len(found[name]) < len(values):
            reader.wrong(name, values, "whole numbers")
    for name, values in found.items():
        if values and len(values) != layers:
            reader.wrong(name, len(values), f"an item for each of {layers} layers")
    return found


def _check_parts(shape: ModelShape, reader: Reader) -> None:
    """Every part that the shape announces has its sizes."""
    layers = range(shape.num_hidden_layers)
    kinds = {shape.layer_type(layer) for layer in layers}
    announced = kinds | {shape.mlp_type(layer) for layer in layers} | {shape.attention}
    for word in sorted(announced & set(NEEDED_BY)):
        for name in NEEDED_BY[word]:
            if not getattr(shape, name):
                reader.wrong(name, getattr(shape, name), f"a number above 0: its layers are {word}")
    if FAMILIES[shape.architecture].experts is None and announced & {SPARSE, BOTH}:
        reader.wrong(
            "mlp_types", sorted(announced & {SPARSE, BOTH}), f"dense layers: {shape.architecture} has no others"
        )
    if FAMILIES[shape.architecture].linear is None and LINEAR in kinds:
        reader.wrong("layer_types", LINEAR, f"other layers: {shape.architecture} has none of those")


def _needed(reader: Reader, name: str, value: Any) -> Any:
    """The value, refused where nothing stands. What stands there and is wrong has been refused already."""
    if reader.get(name) is None:
        reader.wrong(name, None, "what model_info says of the model")
    return value


def _quantization(reader: Reader) -> dict[str, Any]:
    block = reader.get("quantization_block")
    granularity = reader.get("quantization_granularity")
    if granularity is not None:
        granularity = reader.choice("quantization_granularity", GRANULARITIES, "tensor")
    if (block is not None or granularity in ("block", "group")) and not _is_block(block):
        reader.wrong("quantization_block", block, "two numbers above 0")
    ignored = reader.texts("quantization_ignored")
    for pattern in ignored:
        if not _is_pattern(pattern):
            reader.wrong("quantization_ignored", pattern, "names, globs, or re: and a regular expression")
    overrides = reader.items("quantization_overrides")
    for override in overrides:
        if not _is_override(override):
            reader.wrong("quantization_overrides", override, f"a pattern and one of {', '.join(FORMATS)}")
    return {
        "quantization_overrides": tuple(tuple(override) for override in overrides if _is_override(override)),
        "quantization": reader.text("quantization", pattern="(?s).*"),
        "quantization_granularity": granularity,
        "quantization_block": tuple(block) if isinstance(block, list) else None,
        "quantization_ignored": ignored,
        "kv_cache_dtype": reader.choice("kv_cache_dtype", {FP8}, FP8) if reader.get("kv_cache_dtype") else None,
    }


def _is_block(block: Any) -> bool:
    extents = block if isinstance(block, list) else []
    return len(extents) == 2 and all(is_whole(extent) and 0 < extent < LARGEST_COUNT for extent in extents)


def _is_override(override: Any) -> bool:
    pair = override if isinstance(override, list) else []
    return (
        len(pair) == 2 and all(isinstance(item, str) for item in pair) and _is_pattern(pair[0]) and pair[1] in FORMATS
    )


def _is_pattern(pattern: str) -> bool:
    try:
        re.compile(pattern.removeprefix("re:"))
    except re.error:
        return False
    return True


def _sizeable(shape: ModelShape, model: Model, findings: Findings) -> bool:
    """Whether the planner has rules for this shape. Others are refused, never sized by a guess."""
    if not is_sized(shape):
        findings.refuse(
            "unknown_quantization",
            model.name,
            f"its weights are stored as {shape.quantization}, whose size is not known here",
            f"use the unquantised model, or a version in one of {', '.join(FORMATS)}",
        )
        return False
    wished = (model.quantization or "").lower()
    if wished and wished not in (MADE_WHILE_LOADING if shape.quantization is None else CHECKPOINT_WORDS | {FP8}):
        stored = "in 16 bits" if shape.quantization is None else f"as {shape.quantization}"
        findings.refuse(
            "unknown_quantization",
            model.name,
            f"quantization is {model.quantization}, and its weights are stored {stored}",
            "leave it out: the engine reads the checkpoint's own",
            *([f"or say one of {', '.join(sorted(MADE_WHILE_LOADING))}"] if shape.quantization is None else []),
        )
        return False
    return True
