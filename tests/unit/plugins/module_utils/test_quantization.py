# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._quantization import Quantization, ignores, parse

FLOAT8 = {"num_bits": 8, "type": "float", "dynamic": False}


def compressed(weights, targets=("Linear",), **more):
    groups = {"group_0": {"targets": list(targets), "weights": weights}}
    return {"quant_method": "compressed-tensors", "config_groups": groups, "ignore": ["lm_head"], **more}


CASES = {
    # The configurations of Qwen/Qwen3-32B-FP8 and nvidia/Llama-3.1-70B-Instruct-FP8 (before and after its producer
    # moved them into config.json), as github.com/ai-dynamo/aiconfigurator 095f58a51c4c keeps them.
    "blocks": (
        {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [128, 128]},
        Quantization("fp8", "block", (128, 128)),
    ),
    "hf_quant_config.json": (
        {
            "producer": {"name": "modelopt", "version": "0.23.0"},
            "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]},
        },
        Quantization("fp8", "tensor", None, ("lm_head",), "fp8"),
    ),
    "modelopt in config.json": (
        {
            "config_groups": {"group_0": {"input_activations": FLOAT8, "weights": FLOAT8}},
            "ignore": ["lm_head"],
            "quant_algo": "FP8",
            "kv_cache_scheme": FLOAT8,
            "producer": {"name": "modelopt", "version": "0.31.0"},
        },
        Quantization("fp8", "tensor", None, ("lm_head",), "fp8"),
    ),
    # constructed
    "fp8 with one scale a weight": (
        {"quant_method": "fp8", "modules_to_not_convert": ["lm_head"]},
        Quantization("fp8", "tensor", None, ("lm_head",)),
    ),
    "modelopt with 16 bits of cache": (
        {"quantization": {"quant_algo": "fp8", "kv_cache_quant_algo": None}},
        Quantization("fp8", "tensor"),
    ),
    "modelopt in 4 bits": ({"quantization": {"quant_algo": "NVFP4"}}, Quantization("nvfp4", "group", (1, 16))),
    "modelopt, a word of the future": ({"quant_algo": "W3A3"}, Quantization("w3a3")),
    "compressed, a scale a channel": (
        compressed({**FLOAT8, "strategy": "channel"}),
        Quantization("fp8", "channel", None, ("lm_head",)),
    ),
    "compressed, a scale a weight, with a cache": (
        compressed({**FLOAT8, "strategy": "tensor"}, kv_cache_scheme=FLOAT8),
        Quantization("fp8", "tensor", None, ("lm_head",), "fp8"),
    ),
    "compressed, blocks": (
        compressed({**FLOAT8, "strategy": "block", "block_structure": [128, 64]}),
        Quantization("fp8", "block", (128, 64), ("lm_head",)),
    ),
    "compressed, spelt otherwise": (
        {**compressed({**FLOAT8, "strategy": "channel"}), "quant_method": "compressed_tensors"},
        Quantization("fp8", "channel", None, ("lm_head",)),
    ),
    "compressed, integers": (
        compressed({"num_bits": 8, "type": "int", "strategy": "channel"}),
        Quantization("int8", "channel", None, ("lm_head",)),
    ),
    "compressed, integers in groups with zero points": (
        compressed({"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": False}),
        Quantization("int4", "group", (1, 32), ("lm_head",), zeros=True),
    ),
    "compressed, four bits of floating point": (
        compressed({"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}),
        Quantization("nvfp4", "group", (1, 16), ("lm_head",)),
    ),
    "compressed, some layers only": (
        compressed({**FLOAT8, "strategy": "channel"}, targets=("re:.*down_proj",)),
        Quantization("compressed-tensors", None, None, ("lm_head",), overrides=(("re:.*down_proj", "fp8"),)),
    ),
    "compressed, three bits": (
        compressed({"num_bits": 3, "type": "int", "strategy": "channel"}),
        Quantization("compressed-tensors", None, None, ("lm_head",)),
    ),
    "modelopt, layer by layer": (
        {
            "quant_algo": "MIXED_PRECISION",
            "quantized_layers": {
                "model.layers.0.mlp.experts.0.down_proj": {"quant_algo": "NVFP4"},
                "model.layers.0.mlp.experts.1.down_proj": {"quant_algo": "NVFP4"},
                "model.layers.0.self_attn.q_proj": {"quant_algo": "FP8"},
            },
        },
        Quantization(
            "modelopt_mixed",
            overrides=(
                ("model.layers.0.mlp.experts.down_proj", "nvfp4"),
                ("model.layers.0.self_attn.q_proj", "fp8"),
            ),
        ),
    ),
    "compressed, no groups": ({"quant_method": "compressed-tensors"}, Quantization("compressed-tensors")),
    "awq": (
        {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
        Quantization("int4", "group", (1, 128), zeros=True),
    ),
    "gptq": (
        {"quant_method": "gptq", "bits": 8, "group_size": 32, "sym": True},
        Quantization("int8", "group", (1, 32)),
    ),
    "gptq, a scale a row": ({"quant_method": "gptq", "bits": 4, "group_size": -1}, Quantization("int4", "channel")),
    "mxfp4": (
        {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]},
        Quantization("mxfp4", "group", (1, 32), ("lm_head",)),
    ),
    "bitsandbytes": (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "llm_int8_skip_modules": ["lm_head"]},
        Quantization("nf4", "group", (1, 64), ("lm_head",)),
    ),
    "a method with an underscore": (
        {"quant_method": "fbgemm_fp8", "modules_to_not_convert": ["lm_head"]},
        Quantization("fp8", "channel", None, ("lm_head",)),
    ),
    "a method of the future": ({"quant_method": "spqr_next"}, Quantization("spqr_next")),
    "no method": ({"bits": 4}, Quantization("unnamed")),
}


@pytest.mark.parametrize(("config", "expected"), CASES.values(), ids=CASES)
def test_parse(config, expected):
    assert parse(config) == expected


@pytest.mark.parametrize(
    ("pattern", "module", "ignored"),
    [
        ("lm_head", "lm_head", True),
        ("lm_head", "model.lm_head", False),
        ("model.layers.1", "model.layers.1.mlp.up_proj", True),
        ("model.layers.1", "model.layers.10.mlp.up_proj", False),
        ("*.down_proj", "model.layers.10.mlp.down_proj", True),
        ("*.down_proj", "model.layers.10.mlp.up_proj", False),
        ("re:.*self_attn.*", "model.layers.3.self_attn.q_proj", True),
        ("re:self_attn", "model.layers.3.self_attn.q_proj", False),
        ("model.language_model.layers.3.self_attn*", "language_model.model.layers.3.self_attn.q_proj", True),
        ("model.language_model.layers.3.self_attn*", "model.layers.3.self_attn.q_proj", True),
        ("language_model.lm_head", "lm_head", True),
        ("backbone.layers.3.mixer", "model.layers.3.mixer.in_proj", True),
    ],
)
def test_ignores(pattern, module, ignored):
    assert ignores(["another", pattern], module) is ignored
