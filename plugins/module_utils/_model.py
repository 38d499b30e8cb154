# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The shape of a model: everything that decides how many bytes of it lie where.

`shape_from_config` reads a config.json into a `ModelShape`; `tensors` then names every weight of the model and says
how tensor parallelism divides it, so that bytes a rank are summed exactly instead of estimated. Families are known by
their architecture, and only where every weight is known: any other model is refused by name, never sized by a guess.

What a missing field means is what the model's own configuration class says (transformers 5.23,
models/<family>/configuration_<family>.py). How weights are divided is what vLLM 0.33 does
(model_executor/layers/linear.py and vocab_parallel_embedding.py, models/{llama,mistral,qwen2,qwen3,phi3}.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.serving.plugins.module_utils._quantization import FP8, Quantization, ignores, parse
from ansible_collections.gpufleet.serving.plugins.module_utils._safetensors import TensorHeader, total_bytes

VOCABULARY_PADDING = 64
"""Rows to which the engine pads embedding and output head before it divides them (vocab_parallel_embedding.py)."""

SCALE_BYTES = 4
"""The engine keeps the scales of fp8 weights as float32."""

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes an element of the weights' dtypes, by the names that config.json and the engine use."""

STORED_DTYPES = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""The same dtypes by their names in safetensors headers."""

FULL, SLIDING = "full_attention", "sliding_attention"
"""The words of `layer_types` in config.json."""

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
    """A known architecture used in a way that is not sized exactly, such as layers of different kinds."""


class InconsistentModelError(ModelError):
    """config.json contradicts itself, or the weights beside it."""


class ShardingError(ModelError):
    """A tensor parallel size by which a weight cannot be divided."""


@dataclass(frozen=True)
class Family:
    """What an architecture fixes beyond its config.json.

    query_bias: biases of the query, key and value projections; None where `attention_bias` of config.json decides.
    output_bias: the output projection has a bias wherever those have one. own_head_dim: `head_dim` is free (otherwise
    hidden_size / num_attention_heads). fused: the checkpoint keeps query, key and value, and gate and up, in one
    weight each. optional_kv_heads: without num_key_value_heads every head has its own. sliding_window: the window where
    config.json does not name one. window_switch: a window counts only with `use_sliding_window`.
    """

    query_bias: bool | None
    output_bias: bool = False
    qk_norm: bool = False
    own_head_dim: bool = True
    fused: bool = False
    mlp_bias: bool = False
    optional_kv_heads: bool = False
    sliding_window: int | None = None
    window_switch: bool = False


FAMILIES = {
    "LlamaForCausalLM": Family(query_bias=None, output_bias=True, mlp_bias=True, optional_kv_heads=True),
    "MistralForCausalLM": Family(query_bias=False, sliding_window=4096),
    "Qwen2ForCausalLM": Family(query_bias=True, own_head_dim=False, window_switch=True),
    "Qwen3ForCausalLM": Family(query_bias=None, qk_norm=True, window_switch=True),
    "Phi3ForCausalLM": Family(query_bias=False, own_head_dim=False, fused=True, optional_kv_heads=True),
}
"""The dense families with grouped-query attention. All of them implement the engine's pipeline parallelism."""


@dataclass(frozen=True)
class ModelShape:
    """One model. Counts are of elements; weight_bytes is what the safetensors files hold, None where none were read.

    dtype is the checkpoint's ("bfloat16", "float16", "float32"; the engine runs float32 checkpoints in 16 bits).
    quantization is None, "fp8" or the engine's word for another method; the three quantization_* fields and
    kv_cache_dtype are those of `_quantization.Quantization`. sliding_window is the window of every layer, or None.
    attention is the kind of KV cache ("gqa"; the seam for latent and hybrid attention). provenance says what was
    read: "safetensors" (config.json, checked against every weight), "config.json" or "catalogue".
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
    quantization_ignored: tuple[str, ...] = ()
    kv_cache_dtype: str | None = None
    parameter_count: int = 0
    weight_bytes: int | None = None
    attention: str = "gqa"
    supports_pipeline: bool = True
    provenance: str = "config.json"

    def to_dict(self) -> dict:
        """Return the shape as JSON would hold it: the form that travels from `model_info` to the planner."""
        plain = dataclasses.asdict(self)
        plain["quantization_ignored"] = list(self.quantization_ignored)
        plain["quantization_block"] = None if self.quantization_block is None else list(self.quantization_block)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping) -> ModelShape:
        """Return the shape that `to_dict` gave. Raises ModelError for a field that is missing or not known."""
        names = {field.name for field in dataclasses.fields(cls)}
        needed = {field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING}
        wrong = sorted(needed - set(plain)) + sorted(set(plain) - names)
        if wrong:
            raise ModelError(f"a model's shape has these fields missing or unknown: {', '.join(wrong)}", tuple(wrong))
        values = dict(plain)
        if values.get("quantization_block") is not None:
            values["quantization_block"] = tuple(values["quantization_block"])
        values["quantization_ignored"] = tuple(values.get("quantization_ignored") or ())
        return cls(**values)


def shape_from_config(config: Mapping, tensors: Mapping[str, TensorHeader] | None = None) -> ModelShape:
    """Return the shape that a config.json describes, held against the weights where their headers are at hand.

    `config` is the parsed file, with the content of hf_quant_config.json as its `quantization_config` where only that
    exists. `tensors` are the headers of all its safetensors files.

    Raises a ModelError: UnknownArchitectureError, MissingFieldError, UnsupportedModelError, InconsistentModelError.
    """
    architecture = _architecture(config)
    family = FAMILIES[architecture]
    numbers: dict[str, Any] = {name: _positive(config, architecture, name) for name in REQUIRED_FIELDS}
    heads = numbers["num_attention_heads"]
    quantization = parse(config["quantization_config"]) if config.get("quantization_config") else Quantization("")
    shape = ModelShape(
        architecture=architecture,
        model_type=str(config.get("model_type", "")),
        num_key_value_heads=_key_value_heads(config, architecture, heads),
        head_dim=_head_dim(config, architecture, numbers["hidden_size"], heads),
        tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
        attention_bias=bool(config.get("attention_bias")) if family.query_bias is None else family.query_bias,
        mlp_bias=family.mlp_bias and bool(config.get("mlp_bias")),
        qk_norm=family.qk_norm,
        sliding_window=_sliding_window(config, architecture),
        dtype=_dtype(config, architecture, tensors),
        quantization=quantization.word or None,
        quantization_granularity=quantization.granularity,
        quantization_block=quantization.block,
        quantization_ignored=quantization.ignored,
        kv_cache_dtype=quantization.kv_cache_dtype,
        **numbers,
    )
    shape = dataclasses.replace(shape, parameter_count=sum(weight.elements for weight in _weights(shape)))
    if tensors is None:
        return shape
    if shape.quantization in (None, FP8):
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


def _positive(config: Mapping, architecture: str, name: str) -> int:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        seen = "is missing" if value is None else f"is {value!r}"
        raise MissingFieldError(f"config.json of {architecture}: {name} {seen}, give a number above 0", (name,))
    return value


def _key_value_heads(config: Mapping, architecture: str, heads: int) -> int:
    if config.get("num_key_value_heads") is None and FAMILIES[architecture].optional_kv_heads:
        return heads
    kv_heads = _positive(config, architecture, "num_key_value_heads")
    if heads % kv_heads:
        raise InconsistentModelError(
            f"config.json of {architecture}: num_attention_heads {heads} is no multiple "
            f"of num_key_value_heads {kv_heads}",
            ("num_attention_heads", "num_key_value_heads"),
        )
    return kv_heads


def _head_dim(config: Mapping, architecture: str, hidden: int, heads: int) -> int:
    given = config.get("head_dim")
    if given is not None and FAMILIES[architecture].own_head_dim:
        return _positive(config, architecture, "head_dim")
    if hidden % heads or given not in (None, hidden // heads):
        raise InconsistentModelError(
            f"config.json of {architecture}: hidden_size {hidden} and num_attention_heads {heads} "
            f"do not give {'a whole head_dim' if given is None else f'head_dim {given}'}",
            ("hidden_size", "num_attention_heads", "head_dim"),
        )
    return hidden // heads


def _sliding_window(config: Mapping, architecture: str) -> int | None:
    """Return the window of all layers, None where all attend to everything; layers of both kinds are refused."""
    family = FAMILIES[architecture]
    window = config.get("sliding_window", family.sliding_window)
    if family.window_switch and not config.get("use_sliding_window", False):
        window = None
    if not window:
        return None
    kinds = set(config.get("layer_types") or ())
    if not kinds and family.window_switch:
        first_sliding = config.get("max_window_layers", DEFAULT_MAX_WINDOW_LAYERS)
        kinds = {FULL if layer < first_sliding else SLIDING for layer in range(config["num_hidden_layers"])}
    if isinstance(window, list) or len(kinds) > 1:
        raise UnsupportedModelError(
            f"config.json of {architecture}: some layers attend to a window of {window} tokens and some to everything; "
            "only models whose layers are all alike are sized",
            ("sliding_window", "layer_types"),
        )
    return None if kinds == {FULL} else window


def _dtype(config: Mapping, architecture: str, tensors: Mapping[str, TensorHeader] | None) -> str:
    """Return what config.json says; where it says nothing, the dtype of the weights, as the engine does."""
    given = config.get("dtype") or config.get("torch_dtype")
    if given is None and tensors:
        stored = {STORED_DTYPES[header.dtype] for header in tensors.values() if header.dtype in STORED_DTYPES}
        given = stored.pop() if len(stored) == 1 else None
    name = str(given).replace("torch.", "")
    if name not in DTYPE_BYTES:
        seen = "is missing" if given is None else f"is {given!r}"
        raise MissingFieldError(
            f"config.json of {architecture}: torch_dtype {seen}, give one of {', '.join(DTYPE_BYTES)}", ("torch_dtype",)
        )
    return name


@dataclass(frozen=True)
class Piece:
    """A part of a weight that is divided on its own: `size` elements along the divided dimension, in `units` that
    must stay whole (heads, columns). Units are padded to a multiple of `padding` first. Key and value heads are
    `replicable`: where there are more ranks than heads, each rank keeps one head and several keep the same."""

    size: int
    units: int
    what: str
    replicable: bool = False
    padding: int = 1

    def on_rank(self, tensor_parallel_size: int) -> int:
        """Return the elements that one rank of `tensor_parallel_size` holds along the divided dimension."""
        units = -(-self.units // self.padding) * self.padding
        width = self.size // self.units
        if units % tensor_parallel_size == 0:
            return units // tensor_parallel_size * width
        if self.replicable and tensor_parallel_size % units == 0:
            return width
        raise ShardingError(
            f"tensor_parallel_size {tensor_parallel_size} does not divide {self.what}"
            f"{f' ({units} with padding)' if units != self.units else f' ({units})'}",
            ("tensor_parallel_size",),
        )


@dataclass(frozen=True)
class Tensor:
    """One weight of the checkpoint.

    part is one of embedding, attention, mlp, norm, lm_head; layer is None outside the layers. sharded_dim is the
    dimension that tensor parallelism divides, in the order of `pieces`; None where every rank keeps a whole copy.
    linear: a weight of a linear layer, which quantisation changes. granularity and block: see Quantization.
    """

    name: str
    part: str
    layer: int | None
    shape: tuple[int, ...]
    sharded_dim: int | None
    pieces: tuple[Piece, ...]
    linear: bool
    item_bytes: int
    granularity: str | None = None
    block: tuple[int, int] | None = None

    @property
    def elements(self) -> int:
        """Elements in the checkpoint, without padding and scales."""
        return _product(self.shape)

    def shape_on_rank(self, tensor_parallel_size: int) -> tuple[int, ...]:
        """Return the shape that each rank holds. Raises ShardingError where it cannot be divided."""
        if self.sharded_dim is None:
            return self.shape
        parts = [piece.on_rank(tensor_parallel_size) for piece in self.pieces]
        if self.block and tensor_parallel_size > 1:
            self._check_blocks(parts, self.block[self.sharded_dim], tensor_parallel_size)
        return tuple(sum(parts) if dim == self.sharded_dim else extent for dim, extent in enumerate(self.shape))

    def bytes_on_rank(self, tensor_parallel_size: int) -> int:
        """Return the bytes that each rank holds, scales included. Raises ShardingError where it cannot be divided."""
        shape = self.shape_on_rank(tensor_parallel_size)
        return _product(shape) * self.item_bytes + self._scales(shape) * SCALE_BYTES

    def _check_blocks(self, parts: list[int], extent: int, tensor_parallel_size: int) -> None:
        """Source: validate_fp8_block_shape in vLLM 0.33, quantization/utils/fp8_utils.py."""
        for piece, part in zip(self.pieces, parts):
            if part % extent:
                raise ShardingError(
                    f"tensor_parallel_size {tensor_parallel_size} gives each rank {part} of {piece.what}, "
                    f"which cuts the fp8 blocks of {extent}",
                    ("tensor_parallel_size",),
                )

    def _scales(self, shape: tuple[int, ...]) -> int:
        if self.block:
            return _product(tuple(-(-extent // block) for extent, block in zip(shape, self.block)))
        if self.granularity == "channel":
            return shape[0]
        return 1 if self.granularity == "tensor" else 0


def tensors(shape: ModelShape) -> Iterator[Tensor]:
    """Yield every weight of the checkpoint in its order: embedding, layers, final norm, output head.

    Embedding and output head are one weight where tie_word_embeddings is set. A pipeline's first stage holds the
    embedding, its last the final norm and the output head, or with tied weights a second embedding.

    Raises UnsupportedModelError for a quantisation other than fp8: its storage is not known here.
    """
    if shape.quantization not in (None, FP8):
        raise UnsupportedModelError(
            f"weights quantised as {shape.quantization} are not sized tensor by tensor, "
            f"only unquantised and {FP8} ones are",
            ("quantization_config",),
        )
    return _weights(shape)


def _weights(shape: ModelShape) -> Iterator[Tensor]:
    vocabulary = Piece(shape.vocab_size, shape.vocab_size, "vocab_size", padding=VOCABULARY_PADDING)
    table = (shape.vocab_size, shape.hidden_size)
    item_bytes = DTYPE_BYTES[shape.dtype]
    yield Tensor("model.embed_tokens.weight", "embedding", None, table, 0, (vocabulary,), False, item_bytes)
    for layer in range(shape.num_hidden_layers):
        yield from _layer(shape, layer)
    yield _norm(shape, "model.norm", "norm", None, shape.hidden_size)
    if not shape.tie_word_embeddings:
        yield Tensor("lm_head.weight", "lm_head", None, table, 0, (vocabulary,), False, item_bytes)


def _layer(shape: ModelShape, layer: int) -> Iterator[Tensor]:
    family, prefix, hidden = FAMILIES[shape.architecture], f"model.layers.{layer}", shape.hidden_size
    query, key_value, columns = _query(shape), _key_value(shape), _columns(shape)
    projections: dict[str, tuple[Piece, ...]]
    gates: dict[str, tuple[Piece, ...]]
    if family.fused:
        projections = {"qkv_proj": (query, key_value, key_value)}
        gates = {"gate_up_proj": (columns, columns)}
    else:
        projections = {"q_proj": (query,), "k_proj": (key_value,), "v_proj": (key_value,)}
        gates = {"gate_proj": (columns,), "up_proj": (columns,)}

    yield _norm(shape, f"{prefix}.input_layernorm", "norm", layer, hidden)
    for name, pieces in projections.items():
        yield from _column(shape, f"{prefix}.self_attn.{name}", "attention", layer, pieces, shape.attention_bias)
    yield from _row(
        shape, f"{prefix}.self_attn.o_proj", "attention", layer, query, shape.attention_bias and family.output_bias
    )
    if shape.qk_norm:
        yield _norm(shape, f"{prefix}.self_attn.q_norm", "attention", layer, shape.head_dim)
        yield _norm(shape, f"{prefix}.self_attn.k_norm", "attention", layer, shape.head_dim)
    yield _norm(shape, f"{prefix}.post_attention_layernorm", "norm", layer, hidden)
    for name, pieces in gates.items():
        yield from _column(shape, f"{prefix}.mlp.{name}", "mlp", layer, pieces, shape.mlp_bias)
    yield from _row(shape, f"{prefix}.mlp.down_proj", "mlp", layer, columns, shape.mlp_bias)


def _query(shape: ModelShape) -> Piece:
    heads = shape.num_attention_heads
    return Piece(heads * shape.head_dim, heads, "num_attention_heads")


def _key_value(shape: ModelShape) -> Piece:
    heads = shape.num_key_value_heads
    return Piece(heads * shape.head_dim, heads, "num_key_value_heads", replicable=True)


def _columns(shape: ModelShape) -> Piece:
    return Piece(shape.intermediate_size, shape.intermediate_size, "intermediate_size")


def _norm(shape: ModelShape, module: str, part: str, layer: int | None, size: int) -> Tensor:
    return Tensor(f"{module}.weight", part, layer, (size,), None, (), False, DTYPE_BYTES[shape.dtype])


def _column(
    shape: ModelShape, module: str, part: str, layer: int, pieces: tuple[Piece, ...], bias: bool
) -> Iterator[Tensor]:
    """A linear layer whose outputs are divided: its rows, and its bias with them."""
    rows = sum(piece.size for piece in pieces)
    yield _linear(shape, module, part, layer, (rows, shape.hidden_size), 0, pieces)
    if bias:
        yield Tensor(f"{module}.bias", part, layer, (rows,), 0, pieces, False, DTYPE_BYTES[shape.dtype])


def _row(shape: ModelShape, module: str, part: str, layer: int, piece: Piece, bias: bool) -> Iterator[Tensor]:
    """A linear layer whose inputs are divided: its columns. Every rank keeps the whole bias."""
    yield _linear(shape, module, part, layer, (shape.hidden_size, piece.size), 1, (piece,))
    if bias:
        yield Tensor(f"{module}.bias", part, layer, (shape.hidden_size,), None, (), False, DTYPE_BYTES[shape.dtype])


def _linear(
    shape: ModelShape,
    module: str,
    part: str,
    layer: int,
    extents: tuple[int, int],
    sharded_dim: int,
    pieces: tuple[Piece, ...],
) -> Tensor:
    weight = Tensor(f"{module}.weight", part, layer, extents, sharded_dim, pieces, True, DTYPE_BYTES[shape.dtype])
    if shape.quantization != FP8 or ignores(shape.quantization_ignored, module):
        return weight
    return dataclasses.replace(
        weight, item_bytes=1, granularity=shape.quantization_granularity, block=shape.quantization_block
    )


def _product(extents: tuple[int, ...]) -> int:
    product = 1
    for extent in extents:
        product *= extent
    return product


BESIDE_WEIGHTS = (
    ".weight_scale", ".weight_scale_inv", ".input_scale", ".activation_scale", ".k_scale", ".v_scale",
    ".rotary_emb.inv_freq",
)  # fmt: skip
"""Endings of tensors that checkpoints hold beside their parameters."""


def _check_against_weights(shape: ModelShape, stored: Mapping[str, TensorHeader]) -> None:
    """Every weight that the architecture has must be stored with that shape, and nothing else."""
    expected = {weight.name: weight for weight in _weights(shape)}
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


def _faults(weight: Tensor, header: TensorHeader | None) -> Iterator[str]:
    if header is None:
        yield f"{weight.name} {list(weight.shape)} is missing"
        return
    if header.shape != weight.shape:
        yield f"{weight.name} is {list(header.shape)}, config.json gives {list(weight.shape)}"
    if (header.dtype == "F8_E4M3") != (weight.granularity is not None):
        says = "does not say" if weight.granularity is None else "says"
        yield f"{weight.name} is stored as {header.dtype}, quantization_config {says} {FP8}"
