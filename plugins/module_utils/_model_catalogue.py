# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Widely used open dense models by hub id: enough to plan them with no file at hand.

A row is the config.json of its first name, reduced to what decides sizes; the other names have the same. Two things
vouch for it: `source`, where that config.json was read, and `stored_bytes`, the size of the stored weights as the
checkpoint's index or the hub's count of its parameters announces it, which the dimensions must give to the byte.
"""

from __future__ import annotations

import dataclasses
import difflib
from typing import NamedTuple

from ansible_collections.gpufleet.serving.plugins.module_utils._model import ModelError, ModelShape
from ansible_collections.gpufleet.serving.plugins.module_utils._model_config import shape_from_config

AICONFIGURATOR = "github.com/ai-dynamo/aiconfigurator 095f58a51c4c, model_configs/{}"
INFERENCE_SIM = "github.com/inference-sim/inference-sim f90a1e3a6787, model_configs/{}"
PUBLISHED = "dimensions as published, held against the announced size of the weights"


class UnknownModelError(ModelError):
    """The catalogue does not hold this hub id."""


class Row(NamedTuple):
    """One configuration. stored_bytes is None where no announced size was at hand."""

    names: tuple[str, ...]
    family: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    tied: bool
    positions: int
    stored_bytes: int | None
    source: str
    dtype: str = "bfloat16"
    sliding_window: int | None = None
    quantization: dict | None = None


LLAMA, MISTRAL, QWEN2, QWEN3, PHI3 = "llama", "mistral", "qwen2", "qwen3", "phi3"
ARCHITECTURES = {
    LLAMA: "LlamaForCausalLM",
    MISTRAL: "MistralForCausalLM",
    QWEN2: "Qwen2ForCausalLM",
    QWEN3: "Qwen3ForCausalLM",
    PHI3: "Phi3ForCausalLM",
}

FP8_BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}
FP8_TENSORS = {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}
FP8_CHANNELS = {
    "quant_method": "compressed-tensors",
    "config_groups": {
        "group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"}}
    },
    "ignore": ["lm_head"],
}

# fmt: off
ROWS = (
    # layers, hidden, intermediate, heads, kv_heads, head_dim, vocabulary, tied, positions
    Row(("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-8B", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),
        LLAMA, 32, 4096, 14336, 32, 8, 128, 128256, False, 131072,
        16060522496, AICONFIGURATOR.format("meta-llama--Meta-Llama-3.1-8B_config.json")),
    Row(("meta-llama/Llama-3.1-70B-Instruct", "meta-llama/Llama-3.1-70B", "meta-llama/Llama-3.3-70B-Instruct",
         "deepseek-ai/DeepSeek-R1-Distill-Llama-70B"),
        LLAMA, 80, 8192, 28672, 64, 8, 128, 128256, False, 131072,
        141107412992, AICONFIGURATOR.format("meta-llama--Meta-Llama-3.1-70B_config.json")),
    Row(("meta-llama/Llama-3.1-405B-Instruct", "meta-llama/Llama-3.1-405B"),
        LLAMA, 126, 16384, 53248, 128, 8, 128, 128256, False, 131072,
        811706777600, AICONFIGURATOR.format("meta-llama--Meta-Llama-3.1-405B_config.json")),
    Row(("meta-llama/Meta-Llama-3-8B-Instruct", "meta-llama/Meta-Llama-3-8B"),
        LLAMA, 32, 4096, 14336, 32, 8, 128, 128256, False, 8192,
        16060522496, AICONFIGURATOR.format("meta-llama--Meta-Llama-3.1-8B_config.json")),
    Row(("meta-llama/Llama-3.2-1B-Instruct", "meta-llama/Llama-3.2-1B"),
        LLAMA, 16, 2048, 8192, 32, 8, 64, 128256, True, 131072,
        2471628800, PUBLISHED),
    Row(("meta-llama/Llama-3.2-3B-Instruct", "meta-llama/Llama-3.2-3B"),
        LLAMA, 28, 3072, 8192, 24, 8, 128, 128256, True, 131072,
        6425499648, PUBLISHED),
    Row(("meta-llama/Llama-2-7b-chat-hf", "meta-llama/Llama-2-7b-hf"),
        LLAMA, 32, 4096, 11008, 32, 32, 128, 32000, False, 4096,
        None, INFERENCE_SIM.format("llama-2-7b-hf/config.json"), "float16"),
    Row(("codellama/CodeLlama-34b-Instruct-hf",),
        LLAMA, 48, 8192, 22016, 64, 8, 128, 32000, False, 16384,
        None, INFERENCE_SIM.format("codellama-34b-instruct-hf/config.json")),
    Row(("01-ai/Yi-34B",),
        LLAMA, 60, 7168, 20480, 56, 8, 128, 64000, False, 4096,
        None, INFERENCE_SIM.format("yi-34b/config.json")),
    Row(("TinyLlama/TinyLlama-1.1B-Chat-v1.0",),
        LLAMA, 22, 2048, 5632, 32, 4, 64, 32000, False, 2048,
        2200096768, PUBLISHED),
    Row(("mistralai/Mistral-7B-Instruct-v0.3", "mistralai/Mistral-7B-v0.3"),
        MISTRAL, 32, 4096, 14336, 32, 8, 128, 32768, False, 32768,
        14496047104, PUBLISHED),
    Row(("mistralai/Mistral-Nemo-Instruct-2407",),
        MISTRAL, 40, 5120, 14336, 32, 8, 128, 131072, False, 131072,
        24495564800, INFERENCE_SIM.format("mistral-nemo-instruct-2407/config.json")),
    Row(("mistralai/Mistral-Small-24B-Instruct-2501", "mistralai/Mistral-Small-24B-Base-2501"),
        MISTRAL, 40, 5120, 32768, 32, 8, 128, 131072, False, 32768,
        47144806400, PUBLISHED),
    Row(("Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B"),
        QWEN2, 24, 896, 4864, 14, 2, 64, 151936, True, 32768,
        988065536, PUBLISHED),
    Row(("Qwen/Qwen2.5-1.5B-Instruct",),
        QWEN2, 28, 1536, 8960, 12, 2, 128, 151936, True, 32768,
        3087428608, PUBLISHED),
    Row(("Qwen/Qwen2.5-3B-Instruct",),
        QWEN2, 36, 2048, 11008, 16, 2, 128, 151936, True, 32768,
        6171877376, PUBLISHED),
    Row(("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-Coder-7B-Instruct"),
        QWEN2, 28, 3584, 18944, 28, 4, 128, 152064, False, 32768,
        15231233024, INFERENCE_SIM.format("qwen2.5-7b-instruct/config.json")),
    Row(("Qwen/Qwen2.5-14B-Instruct",),
        QWEN2, 48, 5120, 13824, 40, 8, 128, 152064, False, 32768,
        29540067328, PUBLISHED),
    Row(("Qwen/Qwen2.5-32B-Instruct", "Qwen/Qwen2.5-Coder-32B-Instruct"),
        QWEN2, 64, 5120, 27648, 40, 8, 128, 152064, False, 32768,
        65527752704, PUBLISHED),
    Row(("Qwen/Qwen2.5-72B-Instruct",),
        QWEN2, 80, 8192, 29568, 64, 8, 128, 152064, False, 32768,
        145412407296, PUBLISHED),
    Row(("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",),
        QWEN2, 28, 1536, 8960, 12, 2, 128, 151936, False, 131072,
        3554176000, PUBLISHED),
    Row(("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B",),
        QWEN2, 48, 5120, 13824, 40, 8, 128, 152064, False, 131072,
        29540067328, PUBLISHED),
    Row(("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",),
        QWEN2, 64, 5120, 27648, 40, 8, 128, 152064, False, 131072,
        65527752704, PUBLISHED),
    Row(("Qwen/Qwen3-0.6B",),
        QWEN3, 28, 1024, 3072, 16, 8, 128, 151936, True, 40960,
        None, AICONFIGURATOR.format("Qwen--Qwen3-0.6B_config.json")),
    Row(("Qwen/Qwen3-1.7B",),
        QWEN3, 28, 2048, 6144, 16, 8, 128, 151936, True, 40960,
        None, AICONFIGURATOR.format("Qwen--Qwen3-1.7B_config.json")),
    Row(("Qwen/Qwen3-4B",),
        QWEN3, 36, 2560, 9728, 32, 8, 128, 151936, True, 40960,
        8044936192, PUBLISHED),
    Row(("Qwen/Qwen3-4B-Instruct-2507", "Qwen/Qwen3-4B-Thinking-2507"),
        QWEN3, 36, 2560, 9728, 32, 8, 128, 151936, True, 262144,
        8044936192, PUBLISHED),
    Row(("Qwen/Qwen3-8B",),
        QWEN3, 36, 4096, 12288, 32, 8, 128, 151936, False, 40960,
        16381470720, AICONFIGURATOR.format("Qwen--Qwen3-8B_config.json")),
    Row(("Qwen/Qwen3-14B",),
        QWEN3, 40, 5120, 17408, 40, 8, 128, 151936, False, 40960,
        29536614400, INFERENCE_SIM.format("qwen3-14b/config.json")),
    Row(("Qwen/Qwen3-32B",),
        QWEN3, 64, 5120, 25600, 64, 8, 128, 151936, False, 40960,
        65524246528, AICONFIGURATOR.format("Qwen--Qwen3-32B_config.json")),
    Row(("microsoft/Phi-3-mini-4k-instruct",),
        PHI3, 32, 3072, 8192, 32, 32, 96, 32064, False, 4096,
        7642159104, PUBLISHED, "bfloat16", 2047),
    Row(("microsoft/phi-4",),
        PHI3, 40, 5120, 17920, 40, 10, 128, 100352, False, 16384,
        29319014400, PUBLISHED),
    Row(("Qwen/Qwen3-32B-FP8",),
        QWEN3, 64, 5120, 25600, 64, 8, 128, 151936, False, 40960,
        None, AICONFIGURATOR.format("Qwen--Qwen3-32B-FP8_config.json"), quantization=FP8_BLOCKS),
    Row(("nvidia/Llama-3.1-70B-Instruct-FP8",),
        LLAMA, 80, 8192, 28672, 64, 8, 128, 128256, False, 131072,
        None, AICONFIGURATOR.format("nvidia--Llama-3.1-70B-Instruct-FP8_hf_quant_config.json"),
        quantization=FP8_TENSORS),
    Row(("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic",),
        LLAMA, 80, 8192, 28672, 64, 8, 128, 128256, False, 131072,
        None, "meta-llama/Llama-3.1-70B-Instruct, weights by llm-compressor's scheme FP8_DYNAMIC (a scale a channel)",
        quantization=FP8_CHANNELS),
)
# fmt: on

BY_NAME = {name: row for row in ROWS for name in row.names}


def config(row: Row) -> dict:
    """Return the row as the config.json that it stands for."""
    return {
        "architectures": [ARCHITECTURES[row.family]],
        "model_type": row.family,
        "num_hidden_layers": row.layers,
        "hidden_size": row.hidden,
        "intermediate_size": row.intermediate,
        "num_attention_heads": row.heads,
        "num_key_value_heads": row.kv_heads,
        "head_dim": row.head_dim,
        "vocab_size": row.vocabulary,
        "tie_word_embeddings": row.tied,
        "max_position_embeddings": row.positions,
        "sliding_window": row.sliding_window,
        "torch_dtype": row.dtype,
        "quantization_config": row.quantization,
    }


def lookup(name: str) -> Row:
    """Return the row of a hub id. Raises UnknownModelError with the nearest ids that the catalogue holds."""
    if name in BY_NAME:
        return BY_NAME[name]
    near = nearest(name)
    hint = f"nearest: {', '.join(near)}" if near else f"it holds {len(BY_NAME)} models, none with a similar name"
    raise UnknownModelError(
        f"the built-in catalogue has no model {name} ({hint}). "
        "Give a directory with its config.json and weights instead"
    )


def nearest(name: str, count: int = 3) -> list[str]:
    """Return up to `count` ids of the catalogue that look like `name`, the best first, whatever case and owner."""
    wanted = name.lower().split("/")[-1]
    short = {known.lower().split("/")[-1]: known for known in BY_NAME}
    return [short[match] for match in difflib.get_close_matches(wanted, short, n=count, cutoff=0.6)]


def shape(name: str) -> ModelShape:
    """Return the shape of a hub id. Raises UnknownModelError."""
    row = lookup(name)
    return dataclasses.replace(shape_from_config(config(row)), weight_bytes=row.stored_bytes, provenance="catalogue")
