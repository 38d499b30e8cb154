# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads a config.json into a `ModelShape`, and holds it against the weights where they are at hand.

Families are known by their architecture, and only where every weight is known: any other model is refused by name,
with the fields to give, never sized by a guess.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.gpufleet.serving.plugins.module_utils._model import (
    BOTH,
    CHUNKED,
    DENSE,
    DTYPE_BYTES,
    FULL,
    LAYER_TYPES,
    LINEAR,
    MAMBA,
    MLA,
    NO_ATTENTION,
    NO_MLP,
    SLIDING,
    SPARSE,
    InconsistentModelError,
    MissingFieldError,
    ModelShape,
    UnknownArchitectureError,
)
from ansible_collections.gpufleet.serving.plugins.module_utils._model_families import FAMILIES, GATED_DELTA, Family
from ansible_collections.gpufleet.serving.plugins.module_utils._model_rotary import rotary_elements
from ansible_collections.gpufleet.serving.plugins.module_utils._model_tensors import Tensor, checkpoint_tensors
from ansible_collections.gpufleet.serving.plugins.module_utils._model_vision import vision_parameters
from ansible_collections.gpufleet.serving.plugins.module_utils._quantization import FP8, Quantization, parse
from ansible_collections.gpufleet.serving.plugins.module_utils._safetensors import TensorHeader, total_bytes

STORED_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""The dtypes of weights by their names in safetensors headers."""

MOST_LAYERS = 4096
"""More than any model has."""

DEFAULT_MAX_WINDOW_LAYERS = 28
"""Layers before the first with a sliding window, where a Qwen configuration does not say."""

REQUIRED_FIELDS = (
    "num_hidden_layers",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "vocab_size",
    "max_position_embeddings",
)
OPTIONAL_FIELDS = (
    "global_head_dim", "num_global_key_value_heads", "index_n_heads", "index_head_dim",
    "draft_layers",
)  # fmt: skip
LATENT_FIELDS = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
EXPERT_FIELDS = ("num_experts", "num_experts_per_tok")
LINEAR_FIELDS = (
    "linear_num_key_heads",
    "linear_num_value_heads",
    "linear_key_head_dim",
    "linear_value_head_dim",
    "linear_conv_kernel_dim",
)
MAMBA_FIELDS = ("mamba_num_heads", "mamba_head_dim", "mamba_state_size", "mamba_n_groups", "mamba_conv_kernel_dim")

OTHER_NAMES = {
    "num_experts": ("num_local_experts", "n_routed_experts"),
    "num_experts_per_tok": ("num_experts_per_token", "top_k_experts", "experts_per_token"),
    "linear_num_key_heads": ("num_heads",),
    "linear_num_value_heads": ("num_heads",),
    "linear_key_head_dim": ("head_dim",),
    "linear_value_head_dim": ("head_dim",),
    "linear_conv_kernel_dim": ("short_conv_kernel_size",),
    "mamba_state_size": ("ssm_state_size", "mamba_d_state"),
    "mamba_n_groups": ("n_groups", "mamba_n_groups"),
    "mamba_conv_kernel_dim": ("conv_kernel", "mamba_d_conv"),
    "max_position_embeddings": ("model_max_length",),
    "draft_layers": ("num_nextn_predict_layers", "mtp_num_hidden_layers"),
}
"""What configurations call the fields of a shape instead."""

LANGUAGE_MODEL = ("text_config", "language_config", "llm_config")
"""Where a configuration of several models keeps the one that writes."""

LAYER_WORDS = {
    "attention": FULL, "*": FULL, "deepseek_sparse_attention": FULL, "sliding": SLIDING, "M": MAMBA, "mamba2": MAMBA,
    "E": NO_ATTENTION, "moe": NO_ATTENTION, "-": NO_ATTENTION, "mlp": NO_ATTENTION,
}  # fmt: skip
"""Other words, and letters of a pattern, for the kinds of layers."""

MLP_WORDS = {"E": SPARSE, "moe": SPARSE, "-": DENSE, "mlp": DENSE}
"""The same words of models whose layers have either attention or a feed-forward part."""


def shape_from_config(config: Mapping, tensors: Mapping[str, TensorHeader] | None = None) -> ModelShape:
    """Return the shape that a config.json describes, held against the weights where their headers are at hand.

    `config` is the parsed file, with the content of hf_quant_config.json as its `quantization_config` where only that
    exists. `tensors` are the headers of all its safetensors files.

    Raises a ModelError: UnknownArchitectureError, MissingFieldError, UnsupportedModelError, InconsistentModelError.
    """
    architecture = _architecture(config)
    shape = _Reader(architecture, _language_model(config), tensors).shape()
    shape = dataclasses.replace(shape, vision_parameters=vision_parameters(config, shape.hidden_size))
    counted = sum(tensor.elements for tensor in checkpoint_tensors(shape))
    shape = dataclasses.replace(shape, parameter_count=counted)
    if tensors is None:
        return shape
    _check_against_weights(shape, tensors)
    return dataclasses.replace(shape, weight_bytes=total_bytes(tensors), provenance="safetensors")


def _architecture(config: Mapping) -> str:
    names = config.get("architectures")
    if not isinstance(names, (list, tuple)) or not names:
        raise MissingFieldError("config.json names no architecture: give architectures", ("architectures",))
    if names[0] in FAMILIES:
        return names[0]
    nested = " (its language model is nested in text_config)" if "text_config" in config else ""
    raise UnknownArchitectureError(
        f"the weights of architecture {names[0]}{nested} are not known here, only those of {', '.join(FAMILIES)}. "
        f"If the model is one of these under another name, give architectures and {', '.join(REQUIRED_FIELDS)} "
        "in config.json",
        ("architectures",) + REQUIRED_FIELDS,
    )


def _language_model(config: Mapping) -> Mapping:
    """The configuration of the model that writes, with what the whole says where its part does not."""
    for name in LANGUAGE_MODEL:
        if isinstance(config.get(name), Mapping):
            own = {key: value for key, value in config[name].items() if value is not None}
            return {**{key: value for key, value in config.items() if key not in LANGUAGE_MODEL}, **own}
    return config


class _Reader:
    """One config.json, read field by field; what does not belong there raises a ModelError that names the field."""

    def __init__(self, architecture: str, config: Mapping, tensors: Mapping[str, TensorHeader] | None) -> None:
        self.architecture = architecture
        self.family: Family = FAMILIES[architecture]
        self.config = config
        self.tensors = tensors

    def shape(self) -> ModelShape:
        """Return the whole shape, without what is counted afterwards."""
        numbers = {name: self.positive(name) for name in REQUIRED_FIELDS if name != "intermediate_size"}
        hidden, heads, layers = (numbers[name] for name in ("hidden_size", "num_attention_heads", "num_hidden_layers"))
        layer_types, window = self.layer_types(layers)
        latent = self.latent() if self.family.attention == MLA else {}
        mixture = self.mixture()
        head_dim = self.head_dim(hidden, heads, latent)
        bias = self.family.query_bias
        values: dict[str, Any] = {
            "architecture": self.architecture,
            "model_type": str(self.config.get("model_type", "")),
            "num_key_value_heads": heads if latent else self.key_value_heads(heads),
            "head_dim": head_dim,
            "tie_word_embeddings": bool(self.config.get("tie_word_embeddings", self.family.tied)),
            "attention_bias": self.flag("attention_bias") if bias is None else bias,
            "mlp_bias": self.family.mlp_bias and self.flag("mlp_bias"),
            "qk_norm": self.family.qk_norm is not None and self.config.get("use_qk_norm") is not False,
            "sliding_window": window,
            "dtype": self.dtype(),
            "attention": self.family.attention,
            "layer_types": layer_types,
            "mlp_types": self.mlp_types(layers, bool(mixture)),
            "attention_chunk_size": self.count("attention_chunk_size") if CHUNKED in layer_types else 0,
            "attention_output_gate": self.flag("attn_output_gate") or self.family.linear == GATED_DELTA,
            "rotary_elements": rotary_elements(self.config, self.family, head_dim),
        }
        counts = {name: self.count(name) for name in OPTIONAL_FIELDS}
        parts = {**self.widths(bool(mixture)), **latent, **mixture, **self.states(layer_types)}
        return ModelShape(**{**values, **numbers, **counts, **parts, **self.storage()})

    def get(self, name: str) -> Any:
        """Return a field, under whichever of its names it stands."""
        if name == "num_hidden_layers" and self.pattern():
            return len(self.pattern())
        for known in (name, *OTHER_NAMES.get(name, ())):
            if self.config.get(known) is not None:
                return self.config[known]
        return None

    def positive(self, name: str) -> int:
        """Return a field that must be a number above 0."""
        value = self.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            seen = "is missing" if value is None else f"is {value!r}"
            raise self.missing(name, f"{name} {seen}, give a number above 0")
        if name == "num_hidden_layers" and value > MOST_LAYERS:
            raise self.missing(name, f"{name} is {value}, give a number up to {MOST_LAYERS}")
        return value

    def count(self, name: str) -> int:
        """Return a field that may be missing, which then counts as 0."""
        value = self.get(name)
        return 0 if value in (None, False, 0) else self.positive(name)

    def flag(self, name: str) -> bool:
        """Return a field that is true or false; missing is false."""
        return bool(self.config.get(name))

    def missing(self, name: str, what: str) -> MissingFieldError:
        """Return the error for a field that is missing or holds something else."""
        return MissingFieldError(f"config.json of {self.architecture}: {what}", (name,))

    def key_value_heads(self, heads: int) -> int:
        """Return the key and value heads of a layer."""
        if self.config.get("num_key_value_heads") is None:
            grouped = [block for block in self.blocks() if block["group"]]
            if grouped:
                return heads // grouped[0]["group"]
            if self.family.optional_kv_heads:
                return heads
        kv_heads = self.positive("num_key_value_heads")
        if heads % kv_heads:
            raise InconsistentModelError(
                f"config.json of {self.architecture}: num_attention_heads {heads} is no multiple "
                f"of num_key_value_heads {kv_heads}",
                ("num_attention_heads", "num_key_value_heads"),
            )
        return kv_heads

    def head_dim(self, hidden: int, heads: int, latent: Mapping[str, int]) -> int:
        """Return the elements of a query head."""
        if latent:
            return latent["qk_nope_head_dim"] + latent["qk_rope_head_dim"]
        given = self.config.get("head_dim")
        if given is not None and self.family.own_head_dim:
            return self.positive("head_dim")
        if hidden % heads or given not in (None, hidden // heads):
            raise InconsistentModelError(
                f"config.json of {self.architecture}: hidden_size {hidden} and num_attention_heads {heads} "
                f"do not give {'a whole head_dim' if given is None else f'head_dim {given}'}",
                ("hidden_size", "num_attention_heads", "head_dim"),
            )
        return hidden // heads

    def layer_types(self, layers: int) -> tuple[tuple[str, ...], int | None]:
        """Return the kind of each layer, none where all are alike, and the window of those that have one."""
        kinds = self.stated_layers(layers) or self.blocks_layers() or self.cycled_layers(layers)
        window = self.config.get("sliding_window", self.family.sliding_window)
        if self.family.window_switch and not self.flag("use_sliding_window"):
            window = None
        if isinstance(window, list):
            raise self.missing("sliding_window", f"sliding_window is {window!r}, give a number above 0")
        if not window:
            kinds = tuple(FULL if kind == SLIDING else kind for kind in kinds)
        elif not kinds and self.family.window_switch:
            first = self.config.get("max_window_layers", DEFAULT_MAX_WINDOW_LAYERS)
            kinds = tuple(FULL if layer < first else SLIDING for layer in range(layers))
        if kinds and set(kinds) == {FULL}:
            return (), None
        if kinds and set(kinds) == {SLIDING}:
            return (), window
        if kinds and SLIDING not in kinds:
            return kinds, None
        return kinds, window or None

    def stated_layers(self, layers: int) -> tuple[str, ...]:
        """Return the kinds that config.json lists, in whichever field and words."""
        listed = self.config.get("layer_types") or self.pattern()
        if listed:
            kinds = tuple(LAYER_WORDS.get(str(word), str(word)) for word in listed)
            unknown = sorted(set(kinds) - LAYER_TYPES)
            if unknown or len(kinds) != layers:
                what = f"names {', '.join(unknown)}" if unknown else f"has {len(kinds)} layers, not {layers}"
                raise self.missing("layer_types", f"layer_types {what}, give a kind for every layer")
            return kinds
        linear = self.config.get("linear_attn_config")
        if isinstance(linear, Mapping) and linear.get("kda_layers"):
            return tuple(LINEAR if layer + 1 in linear["kda_layers"] else FULL for layer in range(layers))
        return ()

    def pattern(self) -> tuple[str, ...]:
        """Return the words or letters of a model whose layers are of several makes, in order."""
        if self.family.norms != 1:
            return ()
        return tuple(self.config.get("hybrid_override_pattern") or self.config.get("layers_block_type") or ())

    def cycled_layers(self, layers: int) -> tuple[str, ...]:
        """Return the kinds that follow from the family's pattern; its interval may be given."""
        cycle = self.family.layer_cycle
        interval = self.count("full_attention_interval") or self.count("sliding_window_pattern")
        if cycle and interval:
            cycle = cycle[:1] * (interval - 1) + (FULL,)
        return tuple(cycle[layer % len(cycle)] for layer in range(layers)) if cycle else ()

    def blocks(self) -> list[dict[str, Any]]:
        """Return the blocks of a model cut out of another (NAS): the group of each attention, None where the layer
        has none, and the width of each feed-forward part, 0 where it has none."""
        listed = self.config.get("block_configs")
        if not isinstance(listed, list):
            return []
        hidden, found = self.positive("hidden_size"), []
        for block in listed:
            attention, ffn = block["attention"], block["ffn"]
            absent = attention.get("no_op") or attention.get("replace_with_linear")
            width = 0 if ffn.get("no_op") else _rounded_up(int(2 * ffn["ffn_mult"] * hidden / 3), 256)
            found.append({"group": None if absent else attention["n_heads_in_group"], "width": width})
        return found

    def blocks_layers(self) -> tuple[str, ...]:
        """Return the kinds of the layers of a model cut out of another."""
        return tuple(FULL if block["group"] else NO_ATTENTION for block in self.blocks())

    def widths(self, sparse: bool) -> dict[str, Any]:
        """Return the widths of the feed-forward parts: of the dense ones, or of each."""
        blocks = self.blocks()
        if blocks:
            widths = tuple(block["width"] for block in blocks)
            return {"intermediate_size": max(widths), "layer_intermediate_sizes": widths}
        dense = self.get("intermediate_size_mlp") or self.get("intermediate_size")
        if dense is None and sparse:
            return {"intermediate_size": 0}
        if self.get("intermediate_size_mlp"):
            return {"intermediate_size": self.positive("intermediate_size_mlp")}
        return {"intermediate_size": self.positive("intermediate_size")}

    def mlp_types(self, layers: int, sparse: bool) -> tuple[str, ...]:
        """Return what follows the attention of each layer, none where all have a dense part."""
        if self.family.norms == 1:
            return tuple(MLP_WORDS.get(word, NO_MLP) for word in self.pattern())
        blocks = self.blocks()
        if blocks and not all(block["width"] for block in blocks):
            return tuple(DENSE if block["width"] else NO_MLP for block in blocks)
        if not sparse:
            return ()
        if self.config.get("enable_moe_block"):
            return (BOTH,) * layers
        return tuple(SPARSE if self.is_sparse(layer) else DENSE for layer in range(layers))

    def is_sparse(self, layer: int) -> bool:
        """Return whether a layer of a mixture of experts has routed experts."""
        listed = self.config.get("moe_layers")
        if isinstance(listed, list):
            return layer in listed
        if layer in (self.config.get("mlp_only_layers") or ()) or layer < self.count("first_k_dense_replace"):
            return False
        step = self.count("decoder_sparse_step") or self.count("interleave_moe_layer_step")
        if step:
            return (layer + 1) % step == 0
        frequency = self.config.get("moe_layer_freq")
        if isinstance(frequency, list):
            return bool(frequency[layer])
        return not frequency or layer % frequency == 0

    def latent(self) -> dict[str, int]:
        """Return the dimensions of latent attention."""
        return {"q_lora_rank": self.count("q_lora_rank"), **{name: self.positive(name) for name in LATENT_FIELDS}}

    def mixture(self) -> dict[str, int]:
        """Return the dimensions of a mixture of experts; nothing where the model has none."""
        if self.family.experts is None or not self.count("num_experts") or self.config.get("enable_moe_block") is False:
            return {}
        width = self.count("moe_intermediate_size") or self.positive(self.family.expert_width)
        return {
            **{name: self.positive(name) for name in EXPERT_FIELDS},
            "moe_intermediate_size": width,
            "shared_expert_intermediate_size": self.shared_width(width),
            "moe_latent_size": self.count("moe_latent_size"),
        }

    def shared_width(self, width: int) -> int:
        """Return the elements inside the experts that every token passes."""
        for name in ("moe_shared_expert_intermediate_size", "shared_expert_intermediate_size"):
            if self.count(name):
                return self.count(name)
        shared = self.count("n_shared_experts") or self.count("num_shared_experts")
        return width if self.architecture.startswith("Llama4") else shared * width

    def states(self, kinds: tuple[str, ...]) -> dict[str, int]:
        """Return the dimensions of layers that keep a state instead of what they have read."""
        found: dict[str, int] = {}
        if LINEAR in kinds:
            nested = self.config.get("linear_attn_config")
            reader = _Reader(self.architecture, nested, None) if isinstance(nested, Mapping) else self
            found |= {name: reader.positive(name) for name in LINEAR_FIELDS}
        if MAMBA in kinds:
            found |= {name: self.positive(name) for name in MAMBA_FIELDS}
        return found

    def storage(self) -> dict[str, Any]:
        """Return how the checkpoint is stored."""
        config = self.config.get("quantization_config")
        stored = parse(dict(config)) if isinstance(config, Mapping) and config else Quantization("")
        return {
            "quantization": stored.word or None,
            "quantization_granularity": stored.granularity,
            "quantization_block": stored.block,
            "quantization_zeros": stored.zeros,
            "quantization_ignored": stored.ignored,
            "quantization_overrides": stored.overrides,
            "kv_cache_dtype": stored.kv_cache_dtype,
        }

    def dtype(self) -> str:
        """Return what config.json says; where it says nothing, the dtype of the weights, as the engine does."""
        given = self.config.get("dtype") or self.config.get("torch_dtype")
        if given is None and self.tensors:
            stored = {STORED_DTYPES[header.dtype] for header in self.tensors.values() if header.dtype in STORED_DTYPES}
            given = stored.pop() if len(stored) == 1 else None
        if given is None and self.config.get("quantization_config"):
            given = "bfloat16"
        name = str(given).replace("torch.", "")
        if name not in DTYPE_BYTES:
            seen = "is missing" if given is None else f"is {given!r}"
            raise self.missing("torch_dtype", f"torch_dtype {seen}, give one of {', '.join(DTYPE_BYTES)}")
        return name


def _rounded_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


BESIDE_WEIGHTS = (
    ".weight_scale", ".weight_scale_inv", ".input_scale", ".activation_scale", ".k_scale", ".v_scale",
    ".rotary_emb.inv_freq",
)  # fmt: skip
"""Endings of tensors that checkpoints hold beside their parameters."""

STORED_TOLERANCE = 0.02
"""Share by which stored weights may fall short of what config.json describes, where names are not compared."""


def _check_against_weights(shape: ModelShape, stored: Mapping[str, TensorHeader]) -> None:
    """Every weight that the architecture has must be stored with that shape, and nothing else.

    Names are compared for dense models in 16 bits or fp8. Mixtures, other formats and models with encoders are stored
    under many names: of them the stored bytes must reach what config.json describes.
    """
    if shape.num_experts or shape.vision_parameters or shape.layer_types or shape.quantization not in (None, FP8):
        _check_bytes(shape, stored)
        return
    expected = {weight.name: weight for weight in checkpoint_tensors(shape)}
    beside = BESIDE_WEIGHTS + (("lm_head.weight",) if shape.tie_word_embeddings else ())
    faults = [fault for weight in expected.values() for fault in _faults(weight, stored.get(weight.name))]
    faults += [
        f"{name} is there, {shape.architecture} has no such weight"
        for name in sorted(set(stored) - set(expected))
        if not name.endswith(beside)
    ]
    if faults:
        more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InconsistentModelError(f"config.json and the weights disagree: {'; '.join(faults[:3])}{more}")


def _check_bytes(shape: ModelShape, stored: Mapping[str, TensorHeader]) -> None:
    if any(tensor.storage is None for tensor in checkpoint_tensors(shape)):
        return
    described = sum(tensor.stored_bytes for tensor in checkpoint_tensors(shape))
    held = total_bytes(stored)
    if held < described * (1 - STORED_TOLERANCE):
        raise InconsistentModelError(
            f"config.json describes weights of {described} bytes, and {held} are stored: copy the missing files",
            ("quantization_config",),
        )


def _faults(weight: Tensor, header: TensorHeader | None) -> Iterator[str]:
    if header is None:
        yield f"{weight.name} {list(weight.shape)} is missing"
        return
    if header.shape != weight.shape:
        yield f"{weight.name} is {list(header.shape)}, config.json gives {list(weight.shape)}"
    if (header.dtype == "F8_E4M3") != weight.quantized:
        says = "says" if weight.quantized else "does not say"
        yield f"{weight.name} is stored as {header.dtype}, quantization_config {says} {FP8}"
