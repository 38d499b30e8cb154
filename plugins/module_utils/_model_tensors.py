# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every weight of a model: its part, its shape, how it is stored, and how ranks divide it.

Bytes a rank are summed over these instead of being estimated. How weights are divided is what vLLM 0.33 does
(model_executor/layers: linear.py, vocab_parallel_embedding.py, fused_moe/layer.py, mla.py, mamba), which weights a
layer has is in its model classes (model_executor/models).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.gpufleet.serving.plugins.module_utils._model import (
    BOTH,
    DENSE,
    DTYPE_BYTES,
    LINEAR,
    MAMBA,
    MLA,
    NO_ATTENTION,
    NO_MLP,
    SPARSE,
    ModelShape,
    ShardingError,
    UnsupportedModelError,
)
from ansible_collections.gpufleet.serving.plugins.module_utils._model_families import (
    FAMILIES,
    KIMI_DELTA,
    PER_HEAD,
    Family,
)
from ansible_collections.gpufleet.serving.plugins.module_utils._quantization import (
    FORMATS,
    GGUF,
    MADE_WHILE_LOADING,
    Storage,
    first_match,
    ignores,
    plain,
    storage,
)

VOCABULARY_PADDING = 64
"""Rows to which the engine pads embedding and output head before it divides them (vocab_parallel_embedding.py)."""

ROUTING_BYTES = 4
"""Corrections of a router's scores, logarithms and time steps of states are kept as float32."""


@dataclass(frozen=True)
class Piece:
    """A part of a weight that is divided on its own: `size` elements along the divided dimension, in `units` that
    must stay whole (heads, columns). Units are padded to a multiple of `padding` first. Key and value heads are
    `replicable`: where there are more ranks than heads, each rank keeps one head and several keep the same. What is
    `uneven` is padded to whatever the ranks want."""

    size: int
    units: int
    what: str
    replicable: bool = False
    padding: int = 1
    uneven: bool = False

    def on_rank(self, tensor_parallel_size: int) -> int:
        """Return the elements that one rank of `tensor_parallel_size` holds along the divided dimension."""
        units = -(-self.units // self.padding) * self.padding
        width = self.size // self.units
        if units % tensor_parallel_size == 0:
            return units // tensor_parallel_size * width
        if self.uneven:
            return -(-units // tensor_parallel_size) * width
        if self.replicable and tensor_parallel_size % units == 0:
            return width
        raise ShardingError(
            f"tensor_parallel_size {tensor_parallel_size} does not divide {self.what}"
            f"{f' ({units} with padding)' if units != self.units else f' ({units})'}",
            ("tensor_parallel_size",),
        )


@dataclass(frozen=True)
class Tensor:
    """One weight of the checkpoint, or the same weight of all routed experts of a layer.

    part is one of embedding, attention, mlp, experts, shared_experts, router, norm, lm_head, vision; layer is None
    outside the layers. sharded_dim is the dimension that tensor parallelism divides, in the order of `pieces`; None
    where every rank keeps a whole copy. experts: how many stand along the first dimension, 0 for any other weight;
    expert parallelism divides that dimension instead. linear: a weight that quantisation changes. storage is None
    where the format is not known. fused: the module in whose weight the engine keeps it together with others.
    """

    name: str
    part: str
    layer: int | None
    shape: tuple[int, ...]
    sharded_dim: int | None
    pieces: tuple[Piece, ...]
    linear: bool
    storage: Storage | None
    experts: int = 0
    fused: str = ""

    @property
    def elements(self) -> int:
        """Elements in the checkpoint, without padding and scales."""
        product = 1
        for extent in self.shape:
            product *= extent
        return product

    @property
    def quantized(self) -> bool:
        """Whether it is stored in fewer bits than it is computed with."""
        return self.storage is None or self.storage.scale_bytes > 0

    @property
    def stored_bytes(self) -> int:
        """Bytes in the checkpoint, scales included. The format must be known."""
        return self.known_storage.bytes_of(self.shape)

    def shape_on_rank(
        self, tensor_parallel_size: int, expert_parallel_size: int = 1, tiles: tuple[int, int] = (1, 1)
    ) -> tuple[int, ...]:
        """Return the shape that each rank holds. Raises ShardingError where it cannot be divided.

        tiles: what the kernels of experts pad the hidden state and the experts' width to, where storage is tiled.
        """
        if self.experts and expert_parallel_size > 1:
            shape = (-(-self.experts // expert_parallel_size), *self.shape[1:])
        else:
            shape = self._divided(tensor_parallel_size)
        return self._padded(shape, tiles) if self.storage and self.storage.tiled and self.experts else shape

    def _padded(self, shape: tuple[int, ...], tiles: tuple[int, int]) -> tuple[int, ...]:
        """The shape in whole tiles: of the experts' width in the divided dimension, of the hidden state elsewhere."""
        return (shape[0],) + tuple(
            -(-extent // tile) * tile
            for dim, extent in enumerate(shape[1:], 1)
            for tile in [tiles[1] if dim == self.sharded_dim else tiles[0]]
        )

    def _divided(self, tensor_parallel_size: int) -> tuple[int, ...]:
        if self.sharded_dim is None:
            return self.shape
        parts = [piece.on_rank(tensor_parallel_size) for piece in self.pieces]
        if self.storage and tensor_parallel_size > 1:
            self._check_scales(parts, tensor_parallel_size)
        return tuple(sum(parts) if dim == self.sharded_dim else extent for dim, extent in enumerate(self.shape))

    def bytes_on_rank(self, tensor_parallel_size: int, expert_parallel_size: int = 1) -> int:
        """Return the bytes that each rank holds, scales included. Raises ShardingError where it cannot be divided."""
        return self.known_storage.bytes_of(self.shape_on_rank(tensor_parallel_size, expert_parallel_size))

    @property
    def known_storage(self) -> Storage:
        """How it is stored. Raises UnsupportedModelError where that is not known."""
        if self.storage is None:
            raise UnsupportedModelError(f"how {self.name} is stored is not known here", ("quantization_config",))
        return self.storage

    def _check_scales(self, parts: list[int], tensor_parallel_size: int) -> None:
        """A rank holds whole blocks of fp8 (validate_fp8_block_shape in vLLM 0.33, utils/fp8_utils.py) and, outside
        experts, whole groups of integers (auto_awq.py, auto_gptq.py)."""
        stored = self.known_storage
        block, inputs = stored.block, self.sharded_dim == len(self.shape) - 1
        if block:
            extent = block[1 if inputs else 0]
        else:
            extent = stored.columns if stored.whole_groups and inputs and not self.experts else 0
        if not extent:
            return
        what = "fp8 blocks" if block else "quantisation groups"
        for piece, part in zip(self.pieces, parts):
            if part % extent:
                raise ShardingError(
                    f"tensor_parallel_size {tensor_parallel_size} gives each rank {part} of {piece.what}, "
                    f"which cuts the {what} of {extent}",
                    ("tensor_parallel_size",),
                )


def tensors(shape: ModelShape) -> Iterator[Tensor]:
    """Yield every weight of the checkpoint: encoders, embedding, layers, final norm, output head.

    Embedding and output head are one weight where tie_word_embeddings is set. A pipeline's first stage holds the
    encoders and the embedding, its last the final norm and the output head, or with tied weights a second embedding.
    Draft layers are not among them: `draft_tensors` yields those.

    Raises UnsupportedModelError for a quantisation whose storage is not known here.
    """
    if not is_sized(shape):
        raise UnsupportedModelError(
            f"weights quantised as {shape.quantization} are not sized tensor by tensor, only those in "
            f"{', '.join(FORMATS)} are",
            ("quantization_config",),
        )
    return checkpoint_tensors(shape)


def is_sized(shape: ModelShape) -> bool:
    """Say whether the bytes of the shape's weights are known."""
    return shape.quantization in (None, *FORMATS) or bool(shape.quantization_overrides)


def checkpoint_tensors(shape: ModelShape) -> Iterator[Tensor]:
    """Yield the same weights whatever their format, without storage where it is not known."""
    model = _Weights(shape)
    if shape.vision_parameters:
        yield model.vision()
    yield model.table("embed_tokens", "embedding")
    for layer in range(shape.num_hidden_layers):
        yield from model.layer(layer)
    yield model.norm(f"{model.family.root}.norm", "norm", None, shape.hidden_size)
    if not shape.tie_word_embeddings:
        yield model.table("lm_head", "lm_head")


def draft_tensors(shape: ModelShape) -> Iterator[Tensor]:
    """Yield the weights of the layers that draft tokens, where the engine is told to load them.

    A draft layer joins the hidden state with the next token's embedding in one projection and is otherwise a layer
    like the last one that attends (models deepseek_mtp.py, qwen3_next_mtp.py); embedding and head are the model's.
    """
    if not shape.draft_layers:
        return
    model = _Weights(shape)
    like = max(layer for layer in range(shape.num_hidden_layers) if shape.layer_type(layer) not in (LINEAR, MAMBA))
    for _draft in range(shape.draft_layers):
        yield model.copied("mtp.fc", "mlp", like, (shape.hidden_size, 2 * shape.hidden_size), linear=False)
        yield from model.layer(like)


Projections = dict[str, tuple[Piece, ...]]
"""Linear layers that read the same, by the end of their name, with what divides the rows of each."""


class _Weights:
    """The weights of one shape. Methods that yield a linear layer take its module's name and what divides it."""

    def __init__(self, shape: ModelShape) -> None:
        self.shape = shape
        self.family: Family = FAMILIES[shape.architecture]
        self.plain = plain(DTYPE_BYTES[shape.dtype])
        self.quantized = _storage(shape)

    def table(self, name: str, part: str) -> Tensor:
        shape = self.shape
        vocabulary = Piece(shape.vocab_size, shape.vocab_size, "vocab_size", padding=VOCABULARY_PADDING)
        module = self.family.head if name == "lm_head" else f"{self.family.root}.{name}"
        stored = self.plain
        if (shape.quantization or "").startswith(GGUF) or _named(shape.quantization_overrides, module):
            stored = self.stored(module) or self.plain
        extents = (shape.vocab_size, shape.hidden_size)
        return Tensor(f"{module}.weight", part, None, extents, 0, (vocabulary,), False, stored)

    def vision(self) -> Tensor:
        count = self.shape.vision_parameters
        piece = Piece(count, count, "vision_parameters", uneven=True)
        return Tensor("vision", "vision", None, (count,), 0, (piece,), False, self.plain)

    def layer(self, layer: int) -> Iterator[Tensor]:
        prefix, hidden = f"{self.family.root}.layers.{layer}", self.shape.hidden_size
        names = NORMS[self.family.norms]
        yield self.norm(f"{prefix}.{names[0]}", "norm", layer, hidden)
        yield from self.attention(prefix, layer)
        for name in names[1:]:
            yield self.norm(f"{prefix}.{name}", "norm", layer, hidden)
        yield from self.mlp(prefix, layer)

    # --- attention --------------------------------------------------------------------------------------------------

    def attention(self, prefix: str, layer: int) -> Iterator[Tensor]:
        kind = self.shape.layer_type(layer)
        if kind == NO_ATTENTION:
            return
        if kind == MAMBA:
            yield from self.mamba(f"{prefix}.mixer", layer)
        elif kind == LINEAR:
            linear = self.kimi_delta if self.family.linear == KIMI_DELTA else self.gated_delta
            yield from linear(prefix, layer)
        elif self.shape.attention == MLA:
            yield from self.latent(f"{prefix}.self_attn", layer)
        else:
            yield from self.grouped(f"{prefix}.{'mixer' if self.family.norms == 1 else 'self_attn'}", layer)

    def grouped(self, module: str, layer: int) -> Iterator[Tensor]:
        shape, hidden, width = self.shape, self.shape.hidden_size, self.shape.head_width(layer)
        heads, kv_heads = shape.num_attention_heads, shape.key_value_heads(layer)
        query = Piece(heads * width, heads, "num_attention_heads")
        key_value = Piece(kv_heads * width, kv_heads, "num_key_value_heads", replicable=True)
        gated = (query, query) if shape.attention_output_gate else (query,)
        projections: Projections = {"q_proj": gated, "k_proj": (key_value,), "v_proj": (key_value,)}
        if self.family.fused:
            projections = {"qkv_proj": (query, key_value, key_value)}
        for name, pieces in projections.items():
            fused = f"{module}.qkv_proj"
            yield from self.column(f"{module}.{name}", "attention", layer, hidden, pieces, shape.attention_bias, fused)
        bias = shape.attention_bias and self.family.output_bias
        yield from self.row(f"{module}.o_proj", "attention", layer, hidden, query, bias)
        if shape.qk_norm:
            per_head = self.family.qk_norm == PER_HEAD
            yield self.norm(f"{module}.q_norm", "attention", layer, width if per_head else query.size)
            yield self.norm(f"{module}.k_norm", "attention", layer, width if per_head else key_value.size)
        if self.family.sinks:
            yield Tensor(f"{module}.sinks", "attention", layer, (heads,), 0, (_units(heads),), False, self.plain)

    def latent(self, module: str, layer: int) -> Iterator[Tensor]:
        shape, hidden, heads = self.shape, self.shape.hidden_size, self.shape.num_attention_heads
        query = Piece(heads * shape.head_dim, heads, "num_attention_heads")
        if shape.q_lora_rank:
            yield self.copied(f"{module}.q_a_proj", "attention", layer, (shape.q_lora_rank, hidden))
            yield self.norm(f"{module}.q_a_layernorm", "attention", layer, shape.q_lora_rank)
            yield from self.column(f"{module}.q_b_proj", "attention", layer, shape.q_lora_rank, (query,))
        else:
            yield from self.column(f"{module}.q_proj", "attention", layer, hidden, (query,))
        latent = shape.kv_lora_rank + shape.qk_rope_head_dim
        yield self.copied(f"{module}.kv_a_proj_with_mqa", "attention", layer, (latent, hidden))
        yield self.norm(f"{module}.kv_a_layernorm", "attention", layer, shape.kv_lora_rank)
        expanded = Piece(heads * (shape.qk_nope_head_dim + shape.v_head_dim), heads, "num_attention_heads")
        yield from self.column(f"{module}.kv_b_proj", "attention", layer, shape.kv_lora_rank, (expanded,))
        output = Piece(heads * shape.v_head_dim, heads, "num_attention_heads")
        yield from self.row(f"{module}.o_proj", "attention", layer, hidden, output)
        if shape.index_n_heads:
            yield from self.indexer(f"{module}.indexer", layer)

    def indexer(self, module: str, layer: int) -> Iterator[Tensor]:
        shape = self.shape
        queries = shape.index_n_heads * shape.index_head_dim
        yield self.copied(f"{module}.wq_b", "attention", layer, (queries, shape.q_lora_rank or shape.hidden_size))
        yield self.copied(f"{module}.wk", "attention", layer, (shape.index_head_dim, shape.hidden_size))
        yield self.norm(f"{module}.k_norm", "attention", layer, 2 * shape.index_head_dim)
        extents = (shape.index_n_heads, shape.hidden_size)
        yield self.copied(f"{module}.weights_proj", "attention", layer, extents, linear=False)

    def gated_delta(self, prefix: str, layer: int) -> Iterator[Tensor]:
        shape, hidden, module = self.shape, self.shape.hidden_size, f"{prefix}.linear_attn"
        heads = shape.linear_num_value_heads
        keys = _units(shape.linear_num_key_heads, shape.linear_key_head_dim, "linear_num_key_heads")
        values = _units(heads, shape.linear_value_head_dim, "linear_num_value_heads")
        fused = f"{module}.in_proj_qkvz"
        for name, pieces in (("in_proj_qkv", (keys, keys, values)), ("in_proj_z", (values,))):
            yield from self.column(f"{module}.{name}", "attention", layer, hidden, pieces, fused=fused)
        gates, extents = (_units(heads), _units(heads)), (2 * heads, hidden)
        yield Tensor(f"{module}.in_proj_ba.weight", "attention", layer, extents, 0, gates, False, self.plain)
        yield self.convolution(module, layer, (keys, keys, values), shape.linear_conv_kernel_dim)
        yield from self.scalars(module, layer, heads, ("A_log", "dt_bias"))
        yield self.norm(f"{module}.norm", "attention", layer, shape.linear_value_head_dim)
        yield from self.row(f"{module}.out_proj", "attention", layer, hidden, values)

    def kimi_delta(self, prefix: str, layer: int) -> Iterator[Tensor]:
        shape, hidden, module = self.shape, self.shape.hidden_size, f"{prefix}.self_attn"
        heads, width = shape.linear_num_value_heads, shape.linear_value_head_dim
        values = _units(heads, width, "linear_num_value_heads")
        for name in ("q_proj", "k_proj", "v_proj"):
            yield from self.column(f"{module}.{name}", "attention", layer, hidden, (values,))
        yield self.convolution(module, layer, (values, values, values), shape.linear_conv_kernel_dim)
        for gate in ("f", "g"):
            yield self.copied(f"{module}.{gate}_a_proj", "attention", layer, (width, hidden))
            yield from self.column(f"{module}.{gate}_b_proj", "attention", layer, width, (values,))
        yield from self.column(f"{module}.b_proj", "attention", layer, hidden, (_units(heads),))
        yield from self.scalars(module, layer, heads, ("A_log",))
        yield from self.scalars(module, layer, values.size, ("dt_bias",))
        yield self.norm(f"{module}.o_norm", "attention", layer, width)
        yield from self.row(f"{module}.o_proj", "attention", layer, hidden, values)

    def mamba(self, module: str, layer: int) -> Iterator[Tensor]:
        shape, hidden, heads = self.shape, self.shape.hidden_size, self.shape.mamba_num_heads
        inner = _units(heads, shape.mamba_head_dim, "mamba_num_heads")
        groups = Piece(
            shape.mamba_n_groups * shape.mamba_state_size, shape.mamba_n_groups, "mamba_n_groups", replicable=True
        )
        pieces = (inner, inner, groups, groups, _units(heads))
        yield from self.column(f"{module}.in_proj", "attention", layer, hidden, pieces)
        yield self.convolution(module, layer, (inner, groups, groups), shape.mamba_conv_kernel_dim + 1)
        yield from self.scalars(module, layer, heads, ("A_log", "D", "dt_bias"))
        yield Tensor(f"{module}.norm.weight", "attention", layer, (inner.size,), 0, (inner,), False, self.plain)
        yield from self.row(f"{module}.out_proj", "attention", layer, hidden, inner)

    def convolution(self, module: str, layer: int, pieces: tuple[Piece, ...], kernel: int) -> Tensor:
        extents = (sum(piece.size for piece in pieces), kernel)
        return Tensor(f"{module}.conv1d.weight", "attention", layer, extents, 0, pieces, False, self.plain)

    def scalars(self, module: str, layer: int, count: int, names: tuple[str, ...]) -> Iterator[Tensor]:
        for name in names:
            stored = plain(ROUTING_BYTES)
            yield Tensor(f"{module}.{name}", "attention", layer, (count,), 0, (_units(count),), False, stored)

    # --- feed-forward -----------------------------------------------------------------------------------------------

    def mlp(self, prefix: str, layer: int) -> Iterator[Tensor]:
        kind = self.shape.mlp_type(layer)
        if kind == NO_MLP:
            return
        if kind in (DENSE, BOTH):
            yield from self.dense(f"{prefix}.{self.family.mlp}", "mlp", layer, self.shape.feed_forward_size(layer))
        if kind in (SPARSE, BOTH):
            yield from self.mixture(prefix, layer)
        if kind == BOTH:
            for name in MIXTURE_NORMS:
                yield self.norm(f"{prefix}.{name}", "norm", layer, self.shape.hidden_size)

    def dense(self, module: str, part: str, layer: int, width: int) -> Iterator[Tensor]:
        hidden, bias = self.shape.hidden_size, self.shape.mlp_bias
        columns = Piece(width, width, "intermediate_size")
        names = ("gate_proj", "up_proj") if self.family.gated else ("up_proj",)
        projections: Projections = dict.fromkeys(names, (columns,))
        if self.family.fused:
            projections = {"gate_up_proj": (columns, columns)}
        for name, pieces in projections.items():
            fused = f"{module}.gate_up_proj"
            yield from self.column(f"{module}.{name}", part, layer, hidden, pieces, bias, fused)
        yield from self.row(f"{module}.down_proj", part, layer, hidden, columns, bias)

    def mixture(self, prefix: str, layer: int) -> Iterator[Tensor]:
        shape, names = self.shape, self.family.experts
        if names is None:
            return
        module = f"{prefix}.{names.block}" if names.block else prefix
        count, hidden, width = shape.num_experts, shape.hidden_size, shape.moe_intermediate_size
        yield self.copied(f"{module}.{names.router}", "router", layer, (count, hidden), linear=False)
        inner = shape.moe_latent_size or hidden
        if self.family.router_bias:
            yield self.norm(f"{module}.{names.router}", "router", layer, count, "bias")
        columns = Piece(width, width, "moe_intermediate_size")
        *into, out = names.weights
        for name in into:
            yield self.expert(f"{module}.experts.{name}", layer, (count, width, inner), 1, columns, f"{module}.w13")
        yield self.expert(f"{module}.experts.{out}", layer, (count, inner, width), 2, columns)
        if shape.moe_latent_size:
            yield self.copied(f"{module}.fc1_latent_proj", "shared_experts", layer, (inner, hidden))
            yield self.copied(f"{module}.fc2_latent_proj", "shared_experts", layer, (hidden, inner))
        if self.family.expert_bias:
            yield from self.expert_biases(module, layer, columns)
        if shape.shared_expert_intermediate_size:
            shared = f"{module}.{names.shared}"
            yield from self.dense(shared, "shared_experts", layer, shape.shared_expert_intermediate_size)
            if self.family.shared_gate:
                yield self.copied(f"{shared}_gate", "shared_experts", layer, (1, hidden), linear=False)

    def expert(
        self, module: str, layer: int, extents: tuple[int, int, int], divided: int, columns: Piece, fused: str = ""
    ) -> Tensor:
        """One of the weights of all experts of a layer."""
        stored, name = self.stored(module), f"{module}.weight"
        return Tensor(name, "experts", layer, extents, divided, (columns,), True, stored, extents[0], fused)

    def expert_biases(self, module: str, layer: int, columns: Piece) -> Iterator[Tensor]:
        count, hidden = self.shape.num_experts, self.shape.hidden_size
        inner = (count, 2 * columns.size)
        name = f"{module}.experts"
        yield Tensor(f"{name}.gate_up_proj_bias", "experts", layer, inner, 1, (columns,) * 2, False, self.plain, count)
        yield Tensor(f"{name}.down_proj_bias", "experts", layer, (count, hidden), None, (), False, self.plain, count)

    # --- single weights ---------------------------------------------------------------------------------------------

    def norm(self, module: str, part: str, layer: int | None, size: int, kind: str = "weight") -> Tensor:
        return Tensor(f"{module}.{kind}", part, layer, (size,), None, (), False, self.plain)

    def copied(self, module: str, part: str, layer: int, extents: tuple[int, int], linear: bool = True) -> Tensor:
        """A linear layer that every rank keeps whole."""
        stored = self.stored(module) if linear else self.plain
        return Tensor(f"{module}.weight", part, layer, extents, None, (), linear, stored)

    def column(
        self,
        module: str,
        part: str,
        layer: int,
        inputs: int,
        pieces: tuple[Piece, ...],
        bias: bool = False,
        fused: str = "",
    ) -> Iterator[Tensor]:
        """A linear layer whose outputs are divided: its rows, and its bias with them."""
        rows = sum(piece.size for piece in pieces)
        stored = self.stored(module)
        yield Tensor(f"{module}.weight", part, layer, (rows, inputs), 0, pieces, True, stored, fused=fused)
        if bias:
            yield Tensor(f"{module}.bias", part, layer, (rows,), 0, pieces, False, self.plain)

    def row(
        self, module: str, part: str, layer: int, outputs: int, piece: Piece, bias: bool = False
    ) -> Iterator[Tensor]:
        """A linear layer whose inputs are divided: its columns. Every rank keeps the whole bias."""
        stored = self.stored(module)
        yield Tensor(f"{module}.weight", part, layer, (outputs, piece.size), 1, (piece,), True, stored)
        if bias:
            yield Tensor(f"{module}.bias", part, layer, (outputs,), None, (), False, self.plain)

    def stored(self, module: str) -> Storage | None:
        """How a linear layer is stored: as the model is, unless the checkpoint names it otherwise."""
        shape = self.shape
        if shape.quantization is None or ignores(shape.quantization_ignored, module):
            return self.plain
        if shape.quantization_overrides:
            word = _named(shape.quantization_overrides, module)
            return self.plain if word is None else storage(word) if word in FORMATS else None
        return self.quantized


NORMS = {
    1: ("norm",),
    2: ("input_layernorm", "post_attention_layernorm"),
    4: (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ),
}
"""What the norms of a layer are called, by their number."""

MIXTURE_NORMS = ("pre_feedforward_layernorm_2", "post_feedforward_layernorm_1", "post_feedforward_layernorm_2")
"""Further norms of layers with a feed-forward part and experts side by side (gemma4.py)."""


def _storage(shape: ModelShape) -> Storage | None:
    if shape.quantization not in FORMATS:
        return None
    return storage(
        shape.quantization, shape.quantization_granularity, shape.quantization_block, shape.quantization_zeros
    )


def _named(overrides: tuple[tuple[str, str], ...], module: str) -> str | None:
    found = first_match(tuple(pattern for pattern, _word in overrides), module)
    return None if found is None else overrides[found][1]


def _units(units: int, width: int = 1, what: str = "heads") -> Piece:
    return Piece(units * width, units, what)


def quantized_while_loading(shape: ModelShape, word: str) -> ModelShape:
    """Return the shape as the engine holds it when it turns 16-bit weights into a format while it loads them."""
    stored = MADE_WHILE_LOADING[word]
    return dataclasses.replace(
        shape,
        quantization=stored.word,
        quantization_granularity=stored.granularity,
        quantization_block=stored.block,
        quantization_ignored=stored.ignored,
    )
