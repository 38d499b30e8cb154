# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses
import json
import math
import re

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._model import (
    InconsistentModelError,
    MissingFieldError,
    ModelError,
    ModelShape,
    ShardingError,
    UnknownArchitectureError,
    UnsupportedModelError,
)
from ansible_collections.gpufleet.serving.plugins.module_utils._model_config import shape_from_config
from ansible_collections.gpufleet.serving.plugins.module_utils._model_families import FAMILIES
from ansible_collections.gpufleet.serving.plugins.module_utils._model_tensors import tensors
from ansible_collections.gpufleet.serving.plugins.module_utils._quantization import FORMATS
from ansible_collections.gpufleet.serving.plugins.module_utils._safetensors import TensorHeader
from ansible_collections.gpufleet.serving.tests.unit.checkpoints import CONFIG, ITEM_BYTES, PARAMETERS, TENSORS
from hypothesis import given
from hypothesis import strategies as st

PADDING_BYTES = 2 * (64 - 40) * 16 * 2
"""What the engine adds to embedding and output head of CONFIG."""

FP8_BLOCKS = {"quant_method": "fp8", "weight_block_size": [4, 4]}
FP8_CHANNELS = {
    "quant_method": "compressed-tensors",
    "config_groups": {"g": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}},
    "ignore": ["lm_head"],
}
FP8_TENSORS = {"quant_method": "fp8"}


def config(**changes):
    merged = {**CONFIG, **changes}
    return {key: value for key, value in merged.items() if value is not ...}


def headers(names=TENSORS, dtype="BF16", **dtypes):
    """Headers as a checkpoint of these shapes has them; dtypes by the last word but one of a name."""
    found = {}
    for name, shape in names.items():
        stored = dtypes.get(name.split(".")[-2], dtype)
        found[name] = TensorHeader(stored, shape, math.prod(shape) * ITEM_BYTES[stored])
    return found


def names_and_shapes(shape):
    return {tensor.name: tensor.shape for tensor in tensors(shape)}


def weights_bytes(shape, tensor_parallel_size=1):
    return sum(tensor.bytes_on_rank(tensor_parallel_size) for tensor in tensors(shape))


def test_every_weight_of_a_llama():
    shape = shape_from_config(config(), headers())
    assert names_and_shapes(shape) == TENSORS
    assert shape.parameter_count == PARAMETERS
    assert shape.weight_bytes == 2 * PARAMETERS
    assert weights_bytes(shape) == 2 * PARAMETERS + PADDING_BYTES
    assert shape.provenance == "safetensors"


def test_config_alone_gives_no_stored_bytes():
    shape = shape_from_config(config())
    assert (shape.parameter_count, shape.weight_bytes, shape.provenance) == (PARAMETERS, None, "config.json")


def test_shape_survives_json():
    """What travels to the planner comes back the same."""
    for more in ({}, {"quantization_config": FP8_BLOCKS}, {"quantization_config": FP8_CHANNELS}):
        shape = shape_from_config(config(**more))
        assert ModelShape.from_dict(json.loads(json.dumps(shape.to_dict()))) == shape


@pytest.mark.parametrize(
    ("change", "fields"),
    [({"vocab_size": ...}, ("vocab_size",)), ({"colour": "red"}, ("colour",))],
)
def test_plain_shape_with_other_fields_is_refused(change, fields):
    plain = {k: v for k, v in {**shape_from_config(config()).to_dict(), **change}.items() if v is not ...}
    with pytest.raises(
        ModelError, match=f"^a model's shape has these fields missing or unknown: {fields[0]}$"
    ) as error:
        ModelShape.from_dict(plain)
    assert error.value.fields == fields


FAMILY_WEIGHTS = {
    "llama, biases everywhere": (
        {"attention_bias": True, "mlp_bias": True},
        {
            "q_proj.bias": (16,), "k_proj.bias": (8,), "v_proj.bias": (8,), "o_proj.bias": (16,),
            "gate_proj.bias": (24,), "up_proj.bias": (24,), "down_proj.bias": (16,),
        },
        (),
    ),
    "llama, wide heads": (
        {"head_dim": 6},
        {"q_proj.weight": (24, 16), "k_proj.weight": (12, 16), "v_proj.weight": (12, 16), "o_proj.weight": (16, 24)},
        (),
    ),
    "llama, a key and value for every head": (
        {"num_key_value_heads": ...},
        {"k_proj.weight": (16, 16), "v_proj.weight": (16, 16)},
        (),
    ),
    "mistral": ({"architectures": ["MistralForCausalLM"], "mlp_bias": True, "attention_bias": True}, {}, ()),
    "qwen2, biases of query, key and value": (
        {"architectures": ["Qwen2ForCausalLM"]},
        {"q_proj.bias": (16,), "k_proj.bias": (8,), "v_proj.bias": (8,)},
        (),
    ),
    "qwen3, norms of query and key": (
        {"architectures": ["Qwen3ForCausalLM"]},
        {"q_norm.weight": (4,), "k_norm.weight": (4,)},
        (),
    ),
    "phi3, fused projections": (
        {"architectures": ["Phi3ForCausalLM"]},
        {"qkv_proj.weight": (32, 16), "gate_up_proj.weight": (48, 16)},
        ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "added", "gone"), FAMILY_WEIGHTS.values(), ids=FAMILY_WEIGHTS)
def test_weights_of_each_family(change, added, gone):
    """The layouts are those of the models' own classes; these tables were held against transformers 5.19."""
    first = names_and_shapes(shape_from_config(config(**change)))
    expected = {name: shape for name, shape in TENSORS.items() if not any(part in name for part in gone)}
    for layer in (0, 1):
        for name, shape in added.items():
            module = (
                "mlp" if name.split(".")[0] in ("gate_proj", "up_proj", "down_proj", "gate_up_proj") else "self_attn"
            )
            expected[f"model.layers.{layer}.{module}.{name}"] = shape
    assert first == expected


def test_tied_embedding_is_one_weight():
    shape = shape_from_config(config(tie_word_embeddings=True))
    assert "lm_head.weight" not in names_and_shapes(shape)
    assert shape.parameter_count == PARAMETERS - 40 * 16


def test_tied_checkpoint_may_store_the_head_a_second_time():
    shape = shape_from_config(config(tie_word_embeddings=True), headers())
    assert (shape.parameter_count, shape.weight_bytes) == (PARAMETERS - 40 * 16, 2 * PARAMETERS)


def test_parts_and_layers():
    shape = shape_from_config(config(architectures=["Qwen3ForCausalLM"]))
    parts = {(t.part, t.layer) for t in tensors(shape)}
    inside = {(part, layer) for part in ("norm", "attention", "mlp") for layer in (0, 1)}
    assert parts == inside | {("embedding", None), ("norm", None), ("lm_head", None)}


# --- tensor parallelism -------------------------------------------------------------------------------------------


def on_rank(shape, name, tensor_parallel_size):
    return next(t for t in tensors(shape) if t.name == name).shape_on_rank(tensor_parallel_size)


RANKS = {
    "query by heads": ("self_attn.q_proj.weight", {1: (16, 16), 2: (8, 16), 4: (4, 16)}),
    "key and value by heads, then copied": ("self_attn.k_proj.weight", {1: (8, 16), 2: (4, 16), 4: (4, 16)}),
    "output by inputs": ("self_attn.o_proj.weight", {1: (16, 16), 2: (16, 8), 4: (16, 4)}),
    "gate by outputs": ("mlp.gate_proj.weight", {1: (24, 16), 2: (12, 16), 4: (6, 16)}),
    "down by inputs": ("mlp.down_proj.weight", {1: (16, 24), 2: (16, 12), 4: (16, 6)}),
    "norm whole": ("input_layernorm.weight", {1: (16,), 2: (16,), 4: (16,)}),
    "output's bias whole": ("self_attn.o_proj.bias", {1: (16,), 4: (16,)}),
    "query's bias by heads": ("self_attn.q_proj.bias", {1: (16,), 4: (4,)}),
}


@pytest.mark.parametrize(("name", "shapes"), RANKS.values(), ids=RANKS)
def test_what_a_rank_holds(name, shapes):
    shape = shape_from_config(config(attention_bias=True))
    assert {size: on_rank(shape, f"model.layers.1.{name}", size) for size in shapes} == shapes


def test_fused_weights_are_divided_piece_by_piece():
    """Four ranks on two key and value heads: 4 rows of query, and a whole head each of key and value."""
    shape = shape_from_config(config(architectures=["Phi3ForCausalLM"]))
    assert on_rank(shape, "model.layers.0.self_attn.qkv_proj.weight", 4) == (4 + 4 + 4, 16)
    assert on_rank(shape, "model.layers.0.mlp.gate_up_proj.weight", 4) == (6 + 6, 16)


@pytest.mark.parametrize(("size", "rows"), [(1, 64), (2, 32), (4, 16), (64, 1)])
def test_vocabulary_is_padded_to_64_before_it_is_divided(size, rows):
    shape = shape_from_config(config())
    assert on_rank(shape, "model.embed_tokens.weight", size) == (rows, 16)
    assert on_rank(shape, "lm_head.weight", size) == (rows, 16)


INDIVISIBLE = {
    "heads": ({}, 8, "tensor_parallel_size 8 does not divide num_attention_heads (4)"),
    "key and value heads below": (
        {"num_attention_heads": 24, "num_key_value_heads": 4, "head_dim": 4, "vocab_size": 384},
        6,
        "tensor_parallel_size 6 does not divide num_key_value_heads (4)",
    ),
    "intermediate size": (
        {"num_attention_heads": 5, "num_key_value_heads": 5, "head_dim": 4, "vocab_size": 320},
        5,
        "tensor_parallel_size 5 does not divide intermediate_size (24)",
    ),
    "padded vocabulary": (
        {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 4},
        3,
        "tensor_parallel_size 3 does not divide vocab_size (64 with padding)",
    ),
    "fp8 blocks": (
        {"quantization_config": FP8_BLOCKS},
        4,
        "tensor_parallel_size 4 gives each rank 6 of intermediate_size, which cuts the fp8 blocks of 4",
    ),
}


@pytest.mark.parametrize(("change", "size", "message"), INDIVISIBLE.values(), ids=INDIVISIBLE)
def test_sizes_that_do_not_divide(change, size, message):
    shape = shape_from_config(config(**change))
    with pytest.raises(ShardingError, match=f"^{re.escape(message)}$"):
        weights_bytes(shape, size)


@given(
    kv_heads=st.sampled_from([1, 2, 4, 8]),
    group=st.sampled_from([1, 2, 4]),
    head_dim=st.integers(1, 32),
    width=st.integers(1, 64),
    vocabulary=st.integers(1, 5000),
    layers=st.integers(1, 4),
    tied=st.booleans(),
    architecture=st.sampled_from(["LlamaForCausalLM", "MistralForCausalLM", "Qwen3ForCausalLM", "Gemma3ForCausalLM"]),
)
def test_ranks_together_hold_the_model_and_its_copies(
    kv_heads, group, head_dim, width, vocabulary, layers, tied, architecture
):
    """Property: what all ranks hold, less the copies and the padding, is the checkpoint."""
    shape = shape_from_config(
        config(
            architectures=[architecture],
            num_attention_heads=kv_heads * group,
            num_key_value_heads=kv_heads,
            head_dim=head_dim,
            hidden_size=width,
            intermediate_size=32 * width,
            vocab_size=vocabulary,
            num_hidden_layers=layers,
            tie_word_embeddings=tied,
        )
    )
    for size in [size for size in (1, 2, 4, 8, 16) if kv_heads * group % size == 0]:
        for tensor in tensors(shape):
            held = size * math.prod(tensor.shape_on_rank(size))
            if tensor.part in ("embedding", "lm_head"):
                assert held == -(-vocabulary // 64) * 64 * width
            elif tensor.sharded_dim is None:
                assert held == size * tensor.elements
            elif "k_proj" in tensor.name or "v_proj" in tensor.name:
                assert held == tensor.elements * max(1, size // kv_heads)
            else:
                assert held == tensor.elements


# --- quantisation -------------------------------------------------------------------------------------------------

LINEAR = 16 * 16 * 2 + 8 * 16 * 2 + 24 * 16 * 3
"""Elements of the linear weights of a layer of CONFIG; everything else keeps its 16 bits."""

FP8_SIZES = {
    "one scale a weight": (FP8_TENSORS, 7 * 4),
    "one scale a row": (FP8_CHANNELS, (16 + 8 + 8 + 16 + 24 + 24 + 16) * 4),
    "one scale a block of 4 x 4": (FP8_BLOCKS, LINEAR // 16 * 4),
    "the down projections left": ({**FP8_TENSORS, "modules_to_not_convert": ["*.down_proj"]}, 6 * 4 + 24 * 16),
}


@pytest.mark.parametrize(("quantization", "beyond_a_byte_each"), FP8_SIZES.values(), ids=FP8_SIZES)
def test_bytes_of_fp8_weights(quantization, beyond_a_byte_each):
    shape = shape_from_config(config(quantization_config=quantization))
    assert shape.quantization == "fp8"
    assert shape.parameter_count == PARAMETERS
    stored = 2 * (PARAMETERS - 2 * LINEAR) + 2 * (LINEAR + beyond_a_byte_each)
    assert weights_bytes(shape) == stored + PADDING_BYTES


def test_scales_of_a_rank():
    shape = shape_from_config(config(quantization_config={**FP8_BLOCKS, "weight_block_size": [4, 6]}))
    down = next(t for t in tensors(shape) if "down_proj" in t.name)
    assert down.bytes_on_rank(1) == 16 * 24 + 4 * (4 * 4)
    assert down.bytes_on_rank(2) == 16 * 12 + 4 * (4 * 2)


def test_other_quantisations_are_named_but_not_sized():
    shape = shape_from_config(config(quantization_config={"quant_method": "hqq", "bits": 4}), headers())
    assert (shape.quantization, shape.parameter_count, shape.weight_bytes) == ("hqq", PARAMETERS, 2 * PARAMETERS)
    message = f"weights quantised as hqq are not sized tensor by tensor, only those in {', '.join(FORMATS)} are"
    with pytest.raises(UnsupportedModelError, match=f"^{message}$"):
        tensors(shape)


def test_planner_may_ask_for_another_storage():
    """A bfloat16 checkpoint that the engine quantises while it loads."""
    shape = shape_from_config(config(), headers())
    quantised = dataclasses.replace(shape, quantization="fp8", quantization_granularity="tensor")
    assert weights_bytes(shape) - weights_bytes(quantised) == 2 * (LINEAR - 7 * 4)


# --- what config.json may leave out or say otherwise ---------------------------------------------------------------

MIXED_LAYERS = {
    "listed": ({"sliding_window": 32, "layer_types": ["full_attention", "sliding_attention"]}, 32),
    "by number": (
        {
            "architectures": ["Qwen2ForCausalLM"],
            "sliding_window": 32,
            "use_sliding_window": True,
            "max_window_layers": 1,
        },
        32,
    ),
}


@pytest.mark.parametrize(("change", "window"), MIXED_LAYERS.values(), ids=MIXED_LAYERS)
def test_layers_of_two_kinds(change, window):
    shape = shape_from_config(config(**change))
    assert (shape.layer_types, shape.sliding_window) == (("full_attention", "sliding_attention"), window)


WINDOWS = {
    "llama has none": ({}, None),
    "llama with one": ({"sliding_window": 32}, 32),
    "zero means none": ({"sliding_window": 0}, None),
    "mistral names none": ({"architectures": ["MistralForCausalLM"], "sliding_window": None}, None),
    "mistral does not say": ({"architectures": ["MistralForCausalLM"]}, 4096),
    "all layers slide": ({"sliding_window": 32, "layer_types": ["sliding_attention"] * 2}, 32),
    "no layer slides": ({"sliding_window": 32, "layer_types": ["full_attention"] * 2}, None),
    "qwen2 switched off": ({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 32}, None),
    "qwen2 for layers that it does not have": (
        {
            "architectures": ["Qwen2ForCausalLM"],
            "sliding_window": 32,
            "use_sliding_window": True,
            "max_window_layers": 2,
        },
        None,
    ),
    "qwen2 from the default layer on": (
        {"architectures": ["Qwen2ForCausalLM"], "sliding_window": 32, "use_sliding_window": True},
        None,
    ),
    "qwen3 for all layers": (
        {
            "architectures": ["Qwen3ForCausalLM"],
            "sliding_window": 32,
            "use_sliding_window": True,
            "max_window_layers": 0,
        },
        32,
    ),
}


@pytest.mark.parametrize(("change", "window"), WINDOWS.values(), ids=WINDOWS)
def test_sliding_window(change, window):
    assert shape_from_config(config(**change)).sliding_window == window


@pytest.mark.parametrize(
    ("change", "dtype"),
    [
        ({}, "bfloat16"),
        ({"torch_dtype": "torch.float16"}, "float16"),
        ({"torch_dtype": ..., "dtype": "float32"}, "float32"),
        ({"torch_dtype": ..., "dtype": None}, "bfloat16"),
    ],
)
def test_dtype(change, dtype):
    assert shape_from_config(config(**change), headers()).dtype == dtype


REFUSALS = {
    "another architecture": (
        {"architectures": ["RwkvForCausalLM"]},
        UnknownArchitectureError,
        f"the weights of architecture RwkvForCausalLM are not known here, only those of {', '.join(FAMILIES)}. "
        "If the model is one of these under another name, give architectures and num_hidden_layers, hidden_size, "
        "intermediate_size, num_attention_heads, vocab_size, max_position_embeddings in config.json",
    ),
    "a picture model around a language model": (
        {"architectures": ["FancyForConditionalGeneration"], "text_config": {"model_type": "mistral"}},
        UnknownArchitectureError,
        "the weights of architecture FancyForConditionalGeneration (its language model is nested in text_config) are "
        f"not known here, only those of {', '.join(FAMILIES)}. If the model is one of these under another name, give "
        "architectures and num_hidden_layers, hidden_size, intermediate_size, num_attention_heads, vocab_size, "
        "max_position_embeddings in config.json",
    ),
    "no architecture": (
        {"architectures": ...},
        MissingFieldError,
        "config.json names no architecture: give architectures",
    ),
    "an architecture that is a word": (
        {"architectures": "LlamaForCausalLM"},
        MissingFieldError,
        "config.json names no architecture: give architectures",
    ),
    "no layers": (
        {"num_hidden_layers": ...},
        MissingFieldError,
        "config.json of LlamaForCausalLM: num_hidden_layers is missing, give a number above 0",
    ),
    "a list of widths": (
        {"intermediate_size": [24, 24]},
        MissingFieldError,
        "config.json of LlamaForCausalLM: intermediate_size is [24, 24], give a number above 0",
    ),
    "true heads": (
        {"num_attention_heads": True},
        MissingFieldError,
        "config.json of LlamaForCausalLM: num_attention_heads is True, give a number above 0",
    ),
    "no key and value heads": (
        {"architectures": ["Qwen3ForCausalLM"], "num_key_value_heads": ...},
        MissingFieldError,
        "config.json of Qwen3ForCausalLM: num_key_value_heads is missing, give a number above 0",
    ),
    "heads of which no group comes out": (
        {"num_key_value_heads": 3},
        InconsistentModelError,
        "config.json of LlamaForCausalLM: num_attention_heads 4 is no multiple of num_key_value_heads 3",
    ),
    "heads of no whole size": (
        {"hidden_size": 18},
        InconsistentModelError,
        "config.json of LlamaForCausalLM: hidden_size 18 and num_attention_heads 4 do not give a whole head_dim",
    ),
    "a head size that the engine would not use": (
        {"architectures": ["Qwen2ForCausalLM"], "head_dim": 8},
        InconsistentModelError,
        "config.json of Qwen2ForCausalLM: hidden_size 16 and num_attention_heads 4 do not give head_dim 8",
    ),
    "no dtype": (
        {"torch_dtype": ...},
        MissingFieldError,
        "config.json of LlamaForCausalLM: torch_dtype is missing, give one of float32, bfloat16, float16",
    ),
    "an unknown dtype": (
        {"torch_dtype": "float64"},
        MissingFieldError,
        "config.json of LlamaForCausalLM: torch_dtype is 'float64', give one of float32, bfloat16, float16",
    ),
    "a kind of layer of the future": (
        {"layer_types": ["full_attention", "quantum_attention"]},
        MissingFieldError,
        "config.json of LlamaForCausalLM: layer_types names quantum_attention, give a kind for every layer",
    ),
    "a kind too many": (
        {"layer_types": ["full_attention"] * 3},
        MissingFieldError,
        "config.json of LlamaForCausalLM: layer_types has 3 layers, not 2, give a kind for every layer",
    ),
}


@pytest.mark.parametrize(("change", "kind", "message"), REFUSALS.values(), ids=REFUSALS)
def test_refusals(change, kind, message):
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$") as error:
        shape_from_config(config(**change))
    assert type(error.value) is kind
    assert error.value.fields


# --- config.json against the weights beside it -----------------------------------------------------------------------

MISMATCHES = {
    "a layer too many": (
        {"num_hidden_layers": 3},
        {},
        "model.layers.2.input_layernorm.weight [16] is missing; model.layers.2.self_attn.q_proj.weight [16, 16] is "
        "missing; model.layers.2.self_attn.k_proj.weight [8, 16] is missing; and 6 more",
    ),
    "another vocabulary": (
        {"vocab_size": 48},
        {},
        "model.embed_tokens.weight is [40, 16], config.json gives [48, 16]; "
        "lm_head.weight is [40, 16], config.json gives [48, 16]",
    ),
    "a weight of another model": (
        {},
        {"model.mtp.weight": TensorHeader("BF16", (1,), 2)},
        "model.mtp.weight is there, LlamaForCausalLM has no such weight",
    ),
    "biases that config.json does not announce": (
        {},
        {"model.layers.0.self_attn.q_proj.bias": TensorHeader("BF16", (16,), 32)},
        "model.layers.0.self_attn.q_proj.bias is there, LlamaForCausalLM has no such weight",
    ),
    "fp8 announced, not stored": (
        {"num_hidden_layers": 2, "quantization_config": {**FP8_TENSORS, "modules_to_not_convert": ["model.layers.0"]}},
        {
            name: TensorHeader("F8_E4M3", shape, math.prod(shape))
            for name, shape in TENSORS.items()
            if name.startswith("model.layers.1.") and name.endswith("_proj.weight") and "down" not in name
        },
        "model.layers.1.mlp.down_proj.weight is stored as BF16, quantization_config says fp8",
    ),
    "fp8 stored, not announced": (
        {},
        {"model.layers.1.mlp.down_proj.weight": TensorHeader("F8_E4M3", (16, 24), 384)},
        "model.layers.1.mlp.down_proj.weight is stored as F8_E4M3, quantization_config does not say fp8",
    ),
}


@pytest.mark.parametrize(("change", "stored", "message"), MISMATCHES.values(), ids=MISMATCHES)
def test_weights_that_config_json_does_not_describe(change, stored, message):
    with pytest.raises(
        InconsistentModelError, match=f"^{re.escape(f'config.json and the weights disagree: {message}')}$"
    ):
        shape_from_config(config(**change), {**headers(), **stored})


def test_scales_and_rotary_tables_lie_beside_the_parameters():
    linear = {
        name: TensorHeader("F8_E4M3", shape, math.prod(shape)) for name, shape in TENSORS.items() if "_proj" in name
    }
    scales = {
        name.replace("weight", end): TensorHeader("F32", (), 4)
        for name in linear
        for end in ("weight_scale", "input_scale")
    }
    rotary = {"model.layers.0.self_attn.rotary_emb.inv_freq": TensorHeader("F32", (2,), 8)}
    stored = {**headers(), **linear, **scales, **rotary}
    shape = shape_from_config(config(quantization_config=FP8_TENSORS), stored)
    assert shape.parameter_count == PARAMETERS
    assert shape.weight_bytes == 2 * (PARAMETERS - 2 * LINEAR) + 2 * (LINEAR + 14 * 4) + 8
