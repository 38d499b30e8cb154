# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shape of a model: everything that decides how many bytes of it lie where, as plain data.

`_model_config` reads a config.json into a `ModelShape`; `_model_families` holds what an architecture fixes beyond it;
`_model_tensors` names every weight of a shape and says how ranks divide it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes an element of the weights' dtypes, by the names that config.json and the engine use."""

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"
LINEAR, MAMBA, NO_ATTENTION = "linear_attention", "mamba", "none"
LAYER_TYPES = frozenset({FULL, SLIDING, CHUNKED, LINEAR, MAMBA, NO_ATTENTION})
"""How a layer looks back: at everything, at a window, at its chunk of the text, or by a state of fixed size (gated
delta rule or Mamba 2); `none` is a layer without any of them. The first four are config.json's own words."""

DENSE, SPARSE, BOTH, NO_MLP = "dense", "sparse", "both", "none"
MLP_TYPES = frozenset({DENSE, SPARSE, BOTH, NO_MLP})
"""What follows the attention of a layer: a feed-forward part, routed experts, both side by side, or nothing."""

GQA, MLA = "gqa", "mla"
ATTENTIONS = frozenset({GQA, MLA})
"""What attending layers keep of a token: keys and values of each key-value head, or one latent vector."""


class ModelError(ValueError):
    """A model whose shape cannot be told. `fields` names the fields of config.json that would have to change."""

    def __init__(self, message: str, fields: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.fields = fields


class UnknownArchitectureError(ModelError):
    """The weights of this architecture are not known here."""


class MissingFieldError(ModelError):
    """config.json lacks a field, or holds something else than the number or word that belongs there."""


class UnsupportedModelError(ModelError):
    """A known architecture used in a way, or stored in a format, that is not sized exactly."""


class InconsistentModelError(ModelError):
    """config.json contradicts itself, or the weights beside it."""


class ShardingError(ModelError):
    """A parallel size by which a weight cannot be divided."""


@dataclass(frozen=True)
class ModelShape:
    """One model. Counts are of elements; weight_bytes is what the safetensors files hold, None where none were read.

    dtype is the checkpoint's ("bfloat16", "float16", "float32"; the engine runs float32 checkpoints in 16 bits).
    quantization is None, a word of `_quantization.FORMATS` or the engine's word for another method; the other
    quantization_* fields and kv_cache_dtype are those of `_quantization.Quantization`. provenance says what was read:
    "safetensors" (config.json, checked against the weights), "config.json", "catalogue" or "inventory".

    attention is what attending layers keep, "gqa" or "mla". layer_types and mlp_types have a word for every layer,
    or none where all layers are alike: then they attend to everything, or to sliding_window where that is set, and
    are dense. Zero in any of the counts below means that the model has no such part:

    - moe_intermediate_size is the width of one routed expert, shared_expert_intermediate_size of all shared ones;
      moe_latent_size is what routed experts read and write where that is not the hidden state (Nemotron 3).
    - q_lora_rank to v_head_dim: latent attention; index_*: the indexer of sparse attention.
    - linear_*: gated delta rule and Kimi's delta attention. mamba_*: Mamba 2.
    - global_*: layers that attend to everything, where they differ from those with a window (Gemma 4).
    - layer_intermediate_sizes: the width of each layer's feed-forward part where they differ.
    - rotary_elements: of the tables of positions that every rank computes and keeps.
    - vision_parameters: of the encoders of pictures and sound. draft_layers: multi-token-prediction layers, which
      the engine loads only for speculative decoding.
    """

    architecture: str
    model_type: str
    num_hidden_layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    tie_word_embeddings: bool
    attention_bias: bool
    mlp_bias: bool
    qk_norm: bool
    max_position_embeddings: int
    sliding_window: int | None
    dtype: str
    quantization: str | None = None
    quantization_granularity: str | None = None
    quantization_block: tuple[int, int] | None = None
    quantization_zeros: bool = False
    quantization_ignored: tuple[str, ...] = ()
    quantization_overrides: tuple[tuple[str, str], ...] = ()
    kv_cache_dtype: str | None = None
    parameter_count: int = 0
    weight_bytes: int | None = None
    attention: str = GQA
    supports_pipeline: bool = True
    provenance: str = "config.json"
    layer_types: tuple[str, ...] = ()
    mlp_types: tuple[str, ...] = ()
    attention_chunk_size: int = 0
    attention_output_gate: bool = False
    global_head_dim: int = 0
    num_global_key_value_heads: int = 0
    layer_intermediate_sizes: tuple[int, ...] = ()
    num_experts: int = 0
    num_experts_per_tok: int = 0
    moe_intermediate_size: int = 0
    shared_expert_intermediate_size: int = 0
    moe_latent_size: int = 0
    q_lora_rank: int = 0
    kv_lora_rank: int = 0
    qk_nope_head_dim: int = 0
    qk_rope_head_dim: int = 0
    v_head_dim: int = 0
    index_n_heads: int = 0
    index_head_dim: int = 0
    linear_num_key_heads: int = 0
    linear_num_value_heads: int = 0
    linear_key_head_dim: int = 0
    linear_value_head_dim: int = 0
    linear_conv_kernel_dim: int = 0
    mamba_num_heads: int = 0
    mamba_head_dim: int = 0
    mamba_state_size: int = 0
    mamba_n_groups: int = 0
    mamba_conv_kernel_dim: int = 0
    rotary_elements: int = 0
    vision_parameters: int = 0
    draft_layers: int = 0

    def layer_type(self, layer: int) -> str:
        """Return how this layer looks back."""
        if self.layer_types:
            return self.layer_types[layer]
        return SLIDING if self.sliding_window else FULL

    def mlp_type(self, layer: int) -> str:
        """Return what follows the attention of this layer."""
        return self.mlp_types[layer] if self.mlp_types else DENSE

    def key_value_heads(self, layer: int) -> int:
        """Return the key and value heads of this layer."""
        if self.num_global_key_value_heads and self.layer_type(layer) == FULL:
            return self.num_global_key_value_heads
        return self.num_key_value_heads

    def head_width(self, layer: int) -> int:
        """Return the elements of one head of this layer."""
        if self.global_head_dim and self.layer_type(layer) == FULL:
            return self.global_head_dim
        return self.head_dim

    def feed_forward_size(self, layer: int) -> int:
        """Return the elements inside the dense feed-forward part of this layer."""
        return self.layer_intermediate_sizes[layer] if self.layer_intermediate_sizes else self.intermediate_size

    def to_dict(self) -> dict:
        """Return the shape as JSON would hold it: the form that travels from `model_info` to the planner."""
        return {name: _listed(value) for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, plain: Mapping) -> ModelShape:
        """Return the shape that `to_dict` gave. Raises ModelError for a field that is missing or not known."""
        names = {field.name for field in dataclasses.fields(cls)}
        needed = {field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING}
        wrong = sorted(needed - set(plain)) + sorted(set(plain) - names)
        if wrong:
            raise ModelError(f"a model's shape has these fields missing or unknown: {', '.join(wrong)}", tuple(wrong))
        values: dict[str, Any] = {name: _frozen(value) for name, value in plain.items()}
        return cls(**values)


def _listed(value: object) -> object:
    return [_listed(item) for item in value] if isinstance(value, tuple) else value


def _frozen(value: object) -> object:
    return tuple(_frozen(item) for item in value) if isinstance(value, (list, tuple)) else value
