# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rows of the catalogue: the config.json of widely used open models, reduced to what decides sizes.

`source` says where a configuration was read. PUBLISHED ones are the dimensions of the model's card; their parameter
counts are held against the announced ones by the unit tests.
"""

from __future__ import annotations

from typing import Any, NamedTuple

AICONFIGURATOR = "github.com/ai-dynamo/aiconfigurator 095f58a51c4c, model_configs/{}"
INFERENCE_SIM = "github.com/inference-sim/inference-sim f90a1e3a6787, model_configs/{}"
PUBLISHED = "dimensions as published, held against the announced size of the weights"


class Row(NamedTuple):
    """One configuration and the hub ids that share it. stored_bytes: of the weights, as the checkpoint's index or the
    hub's count of parameters announces them; None where no announced size was at hand."""

    names: tuple[str, ...]
    config: dict[str, Any]
    source: str
    stored_bytes: int | None = None


LLAMA, MISTRAL, QWEN2, QWEN3, PHI3 = (
    "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Phi3ForCausalLM"
)  # fmt: skip
GEMMA1, GEMMA2, GEMMA3_TEXT, OLMO2, OLMO3 = (
    "GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "Olmo2ForCausalLM", "Olmo3ForCausalLM"
)  # fmt: skip

FP8_BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}
FP8_TENSORS = {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}


def _compressed(weights: dict[str, Any], *ignore: str) -> dict[str, Any]:
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head", *ignore],
    }


FP8_CHANNELS = _compressed({"num_bits": 8, "type": "float", "strategy": "channel"})
INT8_CHANNELS = _compressed({"num_bits": 8, "type": "int", "strategy": "channel"})
INT4_GROUPS = _compressed({"num_bits": 4, "type": "int", "strategy": "group", "group_size": 128})
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}


def _nvfp4(*exclude: str) -> dict[str, Any]:
    return {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head", *exclude]}


def _dense(
    names: str,
    architecture: str,
    layers: int,
    hidden: int,
    intermediate: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    vocabulary: int,
    tied: bool,
    positions: int,
    stored_bytes: int | None,
    source: str = PUBLISHED,
    **more: Any,
) -> Row:
    config = {
        "architectures": [architecture],
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
        "max_position_embeddings": positions,
        "torch_dtype": "bfloat16",
    }
    return Row(tuple(names.split()), {**config, **more}, source, stored_bytes)


# fmt: off
DENSE = (
    # layers, hidden, intermediate, heads, kv_heads, head_dim, vocabulary, tied, positions, stored bytes
    _dense("meta-llama/Llama-3.1-8B-Instruct meta-llama/Llama-3.1-8B meta-llama/Meta-Llama-3.1-8B-Instruct "
           "meta-llama/Meta-Llama-3.1-8B deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
           LLAMA, 32, 4096, 14336, 32, 8, 128, 128256, False, 131072,
           16060522496, AICONFIGURATOR.format("meta-llama--Meta-Llama-3.1-8B_config.json")),
    _dense("meta-llama/Llama-3.1-70B-Instruct meta-llama/Llama-3.1-70B meta-llama/Llama-3.3-70B-Instruct "
           "meta-llama/Meta-Llama-3.1-70B-Instruct deepseek-ai/DeepSeek-R1-Distill-Llama-70B",
           LLAMA, 80, 8192, 28672, 64, 8, 128, 128256, False, 131072,
           141107412992, AICONFIGURATOR.format("meta-llama--Meta-Llama-3.1-70B_config.json")),
    _dense("meta-llama/Llama-3.1-405B-Instruct meta-llama/Llama-3.1-405B",
           LLAMA, 126, 16384, 53248, 128, 8, 128, 128256, False, 131072,
           811706777600, AICONFIGURATOR.format("meta-llama--Meta-Llama-3.1-405B_config.json")),
    _dense("meta-llama/Meta-Llama-3-8B-Instruct meta-llama/Meta-Llama-3-8B",
           LLAMA, 32, 4096, 14336, 32, 8, 128, 128256, False, 8192,
           16060522496, AICONFIGURATOR.format("meta-llama--Meta-Llama-3.1-8B_config.json")),
    _dense("meta-llama/Meta-Llama-3-70B-Instruct meta-llama/Meta-Llama-3-70B",
           LLAMA, 80, 8192, 28672, 64, 8, 128, 128256, False, 8192, 141107412992),
    _dense("meta-llama/Llama-3.2-1B-Instruct meta-llama/Llama-3.2-1B",
           LLAMA, 16, 2048, 8192, 32, 8, 64, 128256, True, 131072, 2471628800),
    _dense("meta-llama/Llama-3.2-3B-Instruct meta-llama/Llama-3.2-3B",
           LLAMA, 28, 3072, 8192, 24, 8, 128, 128256, True, 131072, 6425499648),
    _dense("meta-llama/Llama-2-7b-chat-hf meta-llama/Llama-2-7b-hf",
           LLAMA, 32, 4096, 11008, 32, 32, 128, 32000, False, 4096,
           None, INFERENCE_SIM.format("llama-2-7b-hf/config.json"), torch_dtype="float16"),
    _dense("meta-llama/Llama-2-13b-chat-hf meta-llama/Llama-2-13b-hf",
           LLAMA, 40, 5120, 13824, 40, 40, 128, 32000, False, 4096, None, torch_dtype="float16"),
    _dense("meta-llama/Llama-2-70b-chat-hf meta-llama/Llama-2-70b-hf meta-llama/Llama-2-70b",
           LLAMA, 80, 8192, 28672, 64, 8, 128, 32000, False, 4096, None, torch_dtype="float16"),
    _dense("codellama/CodeLlama-34b-Instruct-hf",
           LLAMA, 48, 8192, 22016, 64, 8, 128, 32000, False, 16384,
           None, INFERENCE_SIM.format("codellama-34b-instruct-hf/config.json")),
    _dense("01-ai/Yi-34B",
           LLAMA, 60, 7168, 20480, 56, 8, 128, 64000, False, 4096,
           None, INFERENCE_SIM.format("yi-34b/config.json")),
    _dense("deepseek-ai/deepseek-coder-33b-instruct",
           LLAMA, 62, 7168, 19200, 56, 8, 128, 32256, False, 16384, None),
    _dense("TinyLlama/TinyLlama-1.1B-Chat-v1.0",
           LLAMA, 22, 2048, 5632, 32, 4, 64, 32000, False, 2048, 2200096768),
    _dense("HuggingFaceTB/SmolLM2-1.7B-Instruct",
           LLAMA, 24, 2048, 8192, 32, 32, 64, 49152, True, 8192, None),
    _dense("lmsys/vicuna-13b-v1.5", LLAMA, 40, 5120, 13824, 40, 40, 128, 32000, False, 4096, None),
    _dense("mistralai/Mistral-7B-Instruct-v0.3 mistralai/Mistral-7B-v0.3",
           MISTRAL, 32, 4096, 14336, 32, 8, 128, 32768, False, 32768, 14496047104, sliding_window=None),
    _dense("mistralai/Mistral-7B-Instruct-v0.2",
           MISTRAL, 32, 4096, 14336, 32, 8, 128, 32000, False, 32768, 14483464192, sliding_window=None),
    _dense("mistralai/Mistral-Nemo-Instruct-2407",
           MISTRAL, 40, 5120, 14336, 32, 8, 128, 131072, False, 131072,
           24495564800, INFERENCE_SIM.format("mistral-nemo-instruct-2407/config.json"), sliding_window=None),
    _dense("mistralai/Mistral-Small-24B-Instruct-2501 mistralai/Mistral-Small-24B-Base-2501",
           MISTRAL, 40, 5120, 32768, 32, 8, 128, 131072, False, 32768, 47144806400, sliding_window=None),
    _dense("mistralai/Mistral-Large-Instruct-2407 mistralai/Mistral-Large-Instruct-2411",
           MISTRAL, 88, 12288, 28672, 96, 8, 128, 32768, False, 131072, None, sliding_window=None),
    _dense("mistralai/Devstral-Small-2505", MISTRAL, 40, 5120, 32768, 32, 8, 128, 131072, False, 131072,
           47144806400, sliding_window=None),
    _dense("Qwen/Qwen2.5-0.5B-Instruct Qwen/Qwen2.5-0.5B Qwen/Qwen2.5-Coder-0.5B-Instruct Qwen/Qwen2-0.5B-Instruct",
           QWEN2, 24, 896, 4864, 14, 2, 64, 151936, True, 32768, 988065536),
    _dense("Qwen/Qwen2.5-1.5B-Instruct Qwen/Qwen2.5-Coder-1.5B-Instruct Qwen/Qwen2-1.5B-Instruct",
           QWEN2, 28, 1536, 8960, 12, 2, 128, 151936, True, 32768, 3087428608),
    _dense("Qwen/Qwen2.5-Math-1.5B-Instruct", QWEN2, 28, 1536, 8960, 12, 2, 128, 151936, True, 4096, 3087428608),
    _dense("Qwen/Qwen2.5-3B-Instruct Qwen/Qwen2.5-Coder-3B-Instruct",
           QWEN2, 36, 2048, 11008, 16, 2, 128, 151936, True, 32768, 6171877376),
    _dense("Qwen/Qwen2.5-7B-Instruct Qwen/Qwen2.5-Coder-7B-Instruct Qwen/Qwen2-7B-Instruct Qwen/Qwen2.5-7B",
           QWEN2, 28, 3584, 18944, 28, 4, 128, 152064, False, 32768,
           15231233024, INFERENCE_SIM.format("qwen2.5-7b-instruct/config.json")),
    _dense("Qwen/Qwen2.5-14B-Instruct Qwen/Qwen2.5-Coder-14B-Instruct Qwen/Qwen2.5-14B",
           QWEN2, 48, 5120, 13824, 40, 8, 128, 152064, False, 32768, 29540067328),
    _dense("Qwen/Qwen2.5-32B-Instruct Qwen/Qwen2.5-Coder-32B-Instruct",
           QWEN2, 64, 5120, 27648, 40, 8, 128, 152064, False, 32768, 65527752704),
    _dense("Qwen/QwQ-32B", QWEN2, 64, 5120, 27648, 40, 8, 128, 152064, False, 40960, 65527752704),
    _dense("Qwen/Qwen2.5-72B-Instruct Qwen/Qwen2-72B-Instruct",
           QWEN2, 80, 8192, 29568, 64, 8, 128, 152064, False, 32768, 145412407296),
    _dense("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
           QWEN2, 28, 1536, 8960, 12, 2, 128, 151936, False, 131072, 3554176000),
    _dense("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
           QWEN2, 28, 3584, 18944, 28, 4, 128, 152064, False, 131072, 15231233024),
    _dense("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B",
           QWEN2, 48, 5120, 13824, 40, 8, 128, 152064, False, 131072, 29540067328),
    _dense("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
           QWEN2, 64, 5120, 27648, 40, 8, 128, 152064, False, 131072, 65527752704),
    _dense("Qwen/Qwen3-0.6B Qwen/Qwen3-Embedding-0.6B",
           QWEN3, 28, 1024, 3072, 16, 8, 128, 151936, True, 40960,
           None, AICONFIGURATOR.format("Qwen--Qwen3-0.6B_config.json")),
    _dense("Qwen/Qwen3-1.7B",
           QWEN3, 28, 2048, 6144, 16, 8, 128, 151936, True, 40960,
           None, AICONFIGURATOR.format("Qwen--Qwen3-1.7B_config.json")),
    _dense("Qwen/Qwen3-4B", QWEN3, 36, 2560, 9728, 32, 8, 128, 151936, True, 40960, 8044936192),
    _dense("Qwen/Qwen3-4B-Instruct-2507 Qwen/Qwen3-4B-Thinking-2507",
           QWEN3, 36, 2560, 9728, 32, 8, 128, 151936, True, 262144, 8044936192),
    _dense("Qwen/Qwen3-8B deepseek-ai/DeepSeek-R1-0528-Qwen3-8B",
           QWEN3, 36, 4096, 12288, 32, 8, 128, 151936, False, 40960,
           16381470720, AICONFIGURATOR.format("Qwen--Qwen3-8B_config.json")),
    _dense("Qwen/Qwen3-Embedding-8B Qwen/Qwen3-Reranker-8B",
           QWEN3, 36, 4096, 12288, 32, 8, 128, 151665, True, 40960, None),
    _dense("Qwen/Qwen3-Embedding-4B Qwen/Qwen3-Reranker-4B",
           QWEN3, 36, 2560, 9728, 32, 8, 128, 151665, True, 40960, None),
    _dense("Qwen/Qwen3-14B",
           QWEN3, 40, 5120, 17408, 40, 8, 128, 151936, False, 40960,
           29536614400, INFERENCE_SIM.format("qwen3-14b/config.json")),
    _dense("Qwen/Qwen3-32B",
           QWEN3, 64, 5120, 25600, 64, 8, 128, 151936, False, 40960,
           65524246528, AICONFIGURATOR.format("Qwen--Qwen3-32B_config.json")),
    _dense("microsoft/Phi-3-mini-4k-instruct",
           PHI3, 32, 3072, 8192, 32, 32, 96, 32064, False, 4096, 7642159104, sliding_window=2047),
    _dense("microsoft/Phi-3-mini-128k-instruct microsoft/Phi-3.5-mini-instruct",
           PHI3, 32, 3072, 8192, 32, 32, 96, 32064, False, 131072, 7642159104),
    _dense("microsoft/Phi-3-medium-4k-instruct", PHI3, 40, 5120, 17920, 40, 10, 128, 32064, False, 4096, None),
    _dense("microsoft/phi-4", PHI3, 40, 5120, 17920, 40, 10, 128, 100352, False, 16384, 29319014400),
    _dense("microsoft/Phi-4-mini-instruct", PHI3, 32, 3072, 8192, 24, 8, 128, 200064, True, 131072, None,
           partial_rotary_factor=0.75),
    _dense("google/gemma-2b-it", GEMMA1, 18, 2048, 16384, 8, 1, 256, 256000, True, 8192, None),
    _dense("google/gemma-7b-it", GEMMA1, 28, 3072, 24576, 16, 16, 256, 256000, True, 8192, None),
    _dense("google/gemma-2-2b-it", GEMMA2, 26, 2304, 9216, 8, 4, 256, 256000, True, 8192, None),
    _dense("google/gemma-2-9b-it", GEMMA2, 42, 3584, 14336, 16, 8, 256, 256000, True, 8192, None),
    _dense("google/gemma-2-27b-it", GEMMA2, 46, 4608, 36864, 32, 16, 128, 256000, True, 8192, None),
    _dense("google/gemma-3-1b-it", GEMMA3_TEXT, 26, 1152, 6912, 4, 1, 256, 262144, True, 32768, None,
           sliding_window=512),
    _dense("google/gemma-3-270m-it", GEMMA3_TEXT, 18, 640, 2048, 4, 1, 256, 262144, True, 32768, None,
           sliding_window=512),
    _dense("allenai/OLMo-2-1124-7B-Instruct", OLMO2, 32, 4096, 11008, 32, 32, 128, 100352, False, 4096, None),
    _dense("allenai/OLMo-2-1124-13B-Instruct", OLMO2, 40, 5120, 13824, 40, 40, 128, 100352, False, 4096, None),
    _dense("allenai/OLMo-2-0325-32B-Instruct", OLMO2, 64, 5120, 27648, 40, 8, 128, 100352, False, 4096, None),
    _dense("allenai/Olmo-3-7B-Instruct allenai/Olmo-3-7B-Think",
           OLMO3, 32, 4096, 11008, 32, 32, 128, 100278, False, 65536, None, sliding_window=4096),
    _dense("allenai/Olmo-3-32B-Think", OLMO3, 64, 5120, 27648, 40, 8, 128, 100278, False, 65536, None,
           sliding_window=4096),
    _dense("ibm-granite/granite-3.3-8b-instruct ibm-granite/granite-3.1-8b-instruct",
           "GraniteForCausalLM", 40, 4096, 12800, 32, 8, 128, 49159, True, 131072, None),
    # the same in other formats
    _dense("Qwen/Qwen3-32B-FP8",
           QWEN3, 64, 5120, 25600, 64, 8, 128, 151936, False, 40960,
           None, AICONFIGURATOR.format("Qwen--Qwen3-32B-FP8_config.json"), quantization_config=FP8_BLOCKS),
    _dense("Qwen/Qwen3-8B-FP8", QWEN3, 36, 4096, 12288, 32, 8, 128, 151936, False, 40960, None,
           quantization_config=FP8_BLOCKS),
    _dense("Qwen/Qwen3-14B-FP8", QWEN3, 40, 5120, 17408, 40, 8, 128, 151936, False, 40960, None,
           quantization_config=FP8_BLOCKS),
    _dense("Qwen/Qwen3-32B-AWQ", QWEN3, 64, 5120, 25600, 64, 8, 128, 151936, False, 40960, None,
           quantization_config=AWQ),
    _dense("Qwen/Qwen2.5-72B-Instruct-AWQ", QWEN2, 80, 8192, 29696, 64, 8, 128, 152064, False, 32768, None,
           quantization_config=AWQ),
    _dense("Qwen/Qwen2.5-32B-Instruct-AWQ Qwen/Qwen2.5-Coder-32B-Instruct-AWQ",
           QWEN2, 64, 5120, 27648, 40, 8, 128, 152064, False, 32768, None, quantization_config=AWQ),
    _dense("Qwen/Qwen2.5-14B-Instruct-AWQ", QWEN2, 48, 5120, 13824, 40, 8, 128, 152064, False, 32768, None,
           quantization_config=AWQ),
    _dense("Qwen/Qwen2.5-7B-Instruct-AWQ", QWEN2, 28, 3584, 18944, 28, 4, 128, 152064, False, 32768, None,
           quantization_config=AWQ),
    _dense("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", QWEN2, 28, 3584, 18944, 28, 4, 128, 152064, False, 32768, None,
           quantization_config=GPTQ),
    _dense("nvidia/Llama-3.1-70B-Instruct-FP8",
           LLAMA, 80, 8192, 28672, 64, 8, 128, 128256, False, 131072,
           None, AICONFIGURATOR.format("nvidia--Llama-3.1-70B-Instruct-FP8_hf_quant_config.json"),
           quantization_config=FP8_TENSORS),
    _dense("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic neuralmagic/Meta-Llama-3.1-70B-Instruct-FP8-dynamic",
           LLAMA, 80, 8192, 28672, 64, 8, 128, 128256, False, 131072,
           None, "meta-llama/Llama-3.1-70B-Instruct, weights by llm-compressor's scheme FP8_DYNAMIC",
           quantization_config=FP8_CHANNELS),
    _dense("neuralmagic/Meta-Llama-3.1-70B-Instruct-quantized.w8a8 RedHatAI/Meta-Llama-3.1-70B-Instruct-quantized.w8a8",
           LLAMA, 80, 8192, 28672, 64, 8, 128, 128256, False, 131072,
           None, "meta-llama/Llama-3.1-70B-Instruct, weights by llm-compressor's scheme W8A8",
           quantization_config=INT8_CHANNELS),
    _dense("neuralmagic/Meta-Llama-3.1-8B-Instruct-quantized.w4a16 RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16",
           LLAMA, 32, 4096, 14336, 32, 8, 128, 128256, False, 131072,
           None, "meta-llama/Llama-3.1-8B-Instruct, weights by llm-compressor's scheme W4A16",
           quantization_config=INT4_GROUPS),
    _dense("neuralmagic/Meta-Llama-3.1-8B-Instruct-FP8 RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8",
           LLAMA, 32, 4096, 14336, 32, 8, 128, 128256, False, 131072, None,
           quantization_config={"quant_method": "fp8", "ignored_layers": ["lm_head"]}),
    _dense("meta-llama/Llama-3.1-405B-Instruct-FP8 meta-llama/Meta-Llama-3.1-405B-Instruct-FP8",
           LLAMA, 126, 16384, 53248, 128, 8, 128, 128256, False, 131072,
           None, "the model's card: attention and the first and last layer are left in bfloat16",
           quantization_config={"quant_method": "fbgemm_fp8", "modules_to_not_convert": [
               "lm_head", "re:.*self_attn.*", "model.layers.0", "model.layers.125"]}),
)
# fmt: on

YARN_40 = {"factor": 40, "original_max_position_embeddings": 4096, "type": "yarn"}
YARN_32 = {"factor": 32.0, "original_max_position_embeddings": 4096, "type": "yarn"}
THREE_DIMENSIONS = {"mrope_section": [11, 11, 10], "rope_type": "default", "partial_rotary_factor": 0.25}
LATENT = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}


def _sparse(**fields: Any) -> dict[str, Any]:
    return {"tie_word_embeddings": False, "torch_dtype": "bfloat16", **fields}


QWEN3_MOE = _sparse(
    architectures=["Qwen3MoeForCausalLM"], head_dim=128, vocab_size=151936, num_experts=128, num_experts_per_tok=8,
    max_position_embeddings=40960,
)  # fmt: skip
QWEN3_30B = {
    **QWEN3_MOE, "num_hidden_layers": 48, "hidden_size": 2048, "intermediate_size": 6144, "moe_intermediate_size": 768,
    "num_attention_heads": 32, "num_key_value_heads": 4,
}  # fmt: skip
QWEN3_235B = {
    **QWEN3_MOE, "num_hidden_layers": 94, "hidden_size": 4096, "intermediate_size": 12288,
    "moe_intermediate_size": 1536, "num_attention_heads": 64, "num_key_value_heads": 4,
}  # fmt: skip
QWEN3_480B = {
    **QWEN3_MOE, "num_hidden_layers": 62, "hidden_size": 6144, "intermediate_size": 8192, "num_experts": 160,
    "moe_intermediate_size": 2560, "num_attention_heads": 96, "num_key_value_heads": 8,
    "max_position_embeddings": 262144,
}  # fmt: skip
LONG = {"max_position_embeddings": 262144}
IN_FP8_BLOCKS = {"quantization_config": FP8_BLOCKS}

QWEN3_VISION = {
    "deepstack_visual_indexes": [8, 16, 24], "depth": 27, "hidden_size": 1152, "intermediate_size": 4304,
    "num_position_embeddings": 2304, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2,
}  # fmt: skip
SMALL_QWEN3_VISION = {
    **QWEN3_VISION, "deepstack_visual_indexes": [5, 11, 17], "depth": 24, "hidden_size": 1024,
    "intermediate_size": 4096,
}  # fmt: skip
PLAIN_QWEN3_VISION = {**QWEN3_VISION, "deepstack_visual_indexes": []}


def _qwen3_vl(vision: dict[str, Any], text: dict[str, Any], **more: Any) -> dict[str, Any]:
    sparse = "num_experts" in text
    return {
        **text,
        "architectures": ["Qwen3VLMoeForConditionalGeneration" if sparse else "Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl_moe" if sparse else "qwen3_vl",
        "vision_config": {**vision, "out_hidden_size": text["hidden_size"]},
        **LONG,
        **more,
    }


QWEN35 = {
    "architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5", "tie_word_embeddings": False,
    "dtype": "bfloat16", "attn_output_gate": True, "full_attention_interval": 4, "head_dim": 256,
    "linear_conv_kernel_dim": 4, "linear_key_head_dim": 128, "linear_num_key_heads": 16, "linear_value_head_dim": 128,
    "max_position_embeddings": 262144, "mtp_num_hidden_layers": 1, "vocab_size": 248320,
    "rope_parameters": THREE_DIMENSIONS,
}  # fmt: skip
QWEN35_MOE = {
    **QWEN35, "architectures": ["Qwen3_5MoeForConditionalGeneration"], "model_type": "qwen3_5_moe",
    "num_experts": 256, "num_experts_per_tok": 8, "num_key_value_heads": 2,
}  # fmt: skip


def _qwen35(base: dict[str, Any], vision: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    encoder = {
        **(vision or PLAIN_QWEN3_VISION),
        "deepstack_visual_indexes": [],
        "out_hidden_size": fields["hidden_size"],
    }
    return {**base, "vision_config": encoder, **fields}


QWEN35_27B = _qwen35(
    QWEN35, num_hidden_layers=64, hidden_size=5120, intermediate_size=17408, num_attention_heads=24,
    num_key_value_heads=4, linear_num_value_heads=48,
)  # fmt: skip
QWEN35_9B = _qwen35(
    QWEN35, num_hidden_layers=32, hidden_size=4096, intermediate_size=12288, num_attention_heads=16,
    num_key_value_heads=4, linear_num_value_heads=32,
)  # fmt: skip
QWEN35_35B = _qwen35(
    QWEN35_MOE, num_hidden_layers=40, hidden_size=2048, moe_intermediate_size=512, num_attention_heads=16,
    linear_num_value_heads=32, shared_expert_intermediate_size=512,
)  # fmt: skip
QWEN35_122B = _qwen35(
    QWEN35_MOE, num_hidden_layers=48, hidden_size=3072, moe_intermediate_size=1024, num_attention_heads=32,
    linear_num_value_heads=64, shared_expert_intermediate_size=1024,
)  # fmt: skip
QWEN35_397B = _qwen35(
    QWEN35_MOE, num_hidden_layers=60, hidden_size=4096, moe_intermediate_size=1024, num_attention_heads=32,
    num_experts=512, num_experts_per_tok=10, linear_num_value_heads=64, shared_expert_intermediate_size=1024,
)  # fmt: skip
QWEN35_MIXED = {
    "quant_algo": "MIXED_PRECISION",
    "quantized_layers": {
        "*.mlp.*": {"quant_algo": "W4A16_NVFP4"},
        "lm_head": {"quant_algo": "W4A16_NVFP4"},
        "*.linear_attn.*": {"quant_algo": "FP8"},
        "*.self_attn.*": {"quant_algo": "FP8"},
    },
    "kv_cache_quant_algo": "FP8",
}
QWEN3_NEXT = _sparse(
    architectures=["Qwen3NextForCausalLM"], num_hidden_layers=48, hidden_size=2048, intermediate_size=5120,
    num_attention_heads=16, num_key_value_heads=2, head_dim=256, vocab_size=151936, num_experts=512,
    num_experts_per_tok=10, moe_intermediate_size=512, shared_expert_intermediate_size=512, full_attention_interval=4,
    linear_num_key_heads=16, linear_num_value_heads=32, linear_key_head_dim=128, linear_value_head_dim=128,
    linear_conv_kernel_dim=4, partial_rotary_factor=0.25, max_position_embeddings=262144,
)  # fmt: skip

DEEPSEEK_V3 = _sparse(
    architectures=["DeepseekV3ForCausalLM"], num_hidden_layers=61, hidden_size=7168, intermediate_size=18432,
    num_attention_heads=128, num_key_value_heads=128, moe_intermediate_size=2048, n_routed_experts=256,
    n_shared_experts=1, num_experts_per_tok=8, first_k_dense_replace=3, q_lora_rank=1536, vocab_size=129280,
    max_position_embeddings=163840, num_nextn_predict_layers=1, rope_scaling=YARN_40, **LATENT,
    quantization_config=FP8_BLOCKS,
)  # fmt: skip
DEEPSEEK_V32 = {
    **DEEPSEEK_V3, "architectures": ["DeepseekV32ForCausalLM"], "index_n_heads": 64, "index_head_dim": 128,
}  # fmt: skip
DEEPSEEK_V2 = _sparse(
    architectures=["DeepseekV2ForCausalLM"], num_hidden_layers=60, hidden_size=5120, intermediate_size=12288,
    num_attention_heads=128, num_key_value_heads=128, moe_intermediate_size=1536, n_routed_experts=160,
    n_shared_experts=2, num_experts_per_tok=6, first_k_dense_replace=1, q_lora_rank=1536, vocab_size=102400,
    max_position_embeddings=163840, rope_scaling=YARN_40, **LATENT,
)  # fmt: skip
DEEPSEEK_V2_LITE = _sparse(
    architectures=["DeepseekV2ForCausalLM"], num_hidden_layers=27, hidden_size=2048, intermediate_size=10944,
    num_attention_heads=16, num_key_value_heads=16, moe_intermediate_size=1408, n_routed_experts=64,
    n_shared_experts=2, num_experts_per_tok=6, first_k_dense_replace=1, vocab_size=102400,
    max_position_embeddings=163840, rope_scaling=YARN_40, **LATENT,
)  # fmt: skip
KIMI_K2 = {
    **DEEPSEEK_V3, "num_attention_heads": 64, "num_key_value_heads": 64, "n_routed_experts": 384,
    "first_k_dense_replace": 1, "vocab_size": 163840, "max_position_embeddings": 131072,
    "num_nextn_predict_layers": 0, "rope_scaling": YARN_32,
}  # fmt: skip
KIMI_INT4 = _compressed(
    {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32},
    "re:.*self_attn.*", "re:.*shared_experts.*", r"re:.*mlp\.(gate|up|gate_up|down)_proj.*",
)  # fmt: skip
YARN_64 = {**YARN_32, "factor": 64.0}
KIMI_LINEAR = _sparse(
    architectures=["KimiLinearForCausalLM"], num_hidden_layers=27, hidden_size=2304, intermediate_size=9216,
    num_attention_heads=32, num_key_value_heads=32, moe_intermediate_size=1024, num_experts=256, num_shared_experts=1,
    num_experts_per_token=8, first_k_dense_replace=1, vocab_size=163840, model_max_length=1048576, **LATENT,
    linear_attn_config={
        "kda_layers": [1, 2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15, 17, 18, 19, 21, 22, 23, 25, 26],
        "num_heads": 32, "head_dim": 128, "short_conv_kernel_size": 4,
    },
)  # fmt: skip
GLM_5 = _sparse(
    architectures=["GlmMoeDsaForCausalLM"], num_hidden_layers=78, hidden_size=6144, intermediate_size=12288,
    num_attention_heads=64, num_key_value_heads=64, moe_intermediate_size=2048, n_routed_experts=256,
    n_shared_experts=1, num_experts_per_tok=8, first_k_dense_replace=3, kv_lora_rank=512, q_lora_rank=2048,
    qk_nope_head_dim=192, qk_rope_head_dim=64, v_head_dim=256, index_n_heads=32, index_head_dim=128,
    num_nextn_predict_layers=1, vocab_size=154880, max_position_embeddings=202752,
)  # fmt: skip
GLM_45 = _sparse(
    architectures=["Glm4MoeForCausalLM"], num_hidden_layers=92, hidden_size=5120, intermediate_size=12288,
    num_attention_heads=96, num_key_value_heads=8, head_dim=128, attention_bias=True, moe_intermediate_size=1536,
    n_routed_experts=160, n_shared_experts=1, num_experts_per_tok=8, first_k_dense_replace=3, vocab_size=151552,
    max_position_embeddings=131072, partial_rotary_factor=0.5, num_nextn_predict_layers=1,
)  # fmt: skip
GLM_45_AIR = {
    **GLM_45, "num_hidden_layers": 46, "hidden_size": 4096, "intermediate_size": 10944, "moe_intermediate_size": 1408,
    "n_routed_experts": 128, "first_k_dense_replace": 1, "use_qk_norm": False,
}  # fmt: skip
GPT_OSS_20B = {
    "architectures": ["GptOssForCausalLM"], "attention_bias": True, "num_hidden_layers": 24, "hidden_size": 2880,
    "intermediate_size": 2880, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
    "vocab_size": 201088, "num_local_experts": 32, "num_experts_per_tok": 4, "sliding_window": 128,
    "max_position_embeddings": 131072, "tie_word_embeddings": False, "dtype": "bfloat16", "rope_scaling": YARN_32,
    "quantization_config": {
        "quant_method": "mxfp4",
        "modules_to_not_convert": [
            "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"
        ],
    },
}  # fmt: skip
LLAMA_4_SCOUT = _sparse(
    architectures=["Llama4ForConditionalGeneration"], model_type="llama4", num_hidden_layers=48, hidden_size=5120,
    intermediate_size=8192, intermediate_size_mlp=16384, num_attention_heads=40, num_key_value_heads=8, head_dim=128,
    vocab_size=202048, num_local_experts=16, num_experts_per_tok=1, interleave_moe_layer_step=1,
    attention_chunk_size=8192, max_position_embeddings=10485760,
    vision_config={
        "hidden_size": 1408, "intermediate_size": 5632, "num_hidden_layers": 34, "patch_size": 14,
        "projector_output_dim": 4096,
    },
)  # fmt: skip
LLAMA_4_MAVERICK = {
    **LLAMA_4_SCOUT, "num_local_experts": 128, "interleave_moe_layer_step": 2, "max_position_embeddings": 1048576,
}  # fmt: skip
LLAMA_4_FP8 = {
    "quant_method": "fbgemm_fp8",
    "modules_to_not_convert": ["re:.*self_attn.*", "re:.*shared_expert.*", r"re:.*feed_forward\.(gate|up|down)_proj"],
}
MIXTRAL = _sparse(
    architectures=["MixtralForCausalLM"], num_hidden_layers=32, hidden_size=4096, intermediate_size=14336,
    num_attention_heads=32, num_key_value_heads=8, vocab_size=32000, num_local_experts=8, num_experts_per_tok=2,
    max_position_embeddings=32768,
)  # fmt: skip
MIXTRAL_22B = {
    **MIXTRAL, "num_hidden_layers": 56, "hidden_size": 6144, "intermediate_size": 16384, "num_attention_heads": 48,
    "max_position_embeddings": 65536,
}  # fmt: skip
MINIMAX_M2 = _sparse(
    architectures=["MiniMaxM2ForCausalLM"], num_hidden_layers=62, hidden_size=3072, intermediate_size=1536,
    num_attention_heads=48, num_key_value_heads=8, head_dim=128, vocab_size=200064, num_local_experts=256,
    num_experts_per_tok=8, max_position_embeddings=196608, rotary_dim=64,
    quantization_config={**FP8_BLOCKS, "modules_to_not_convert": ["gate", "e_score_correction_bias", "lm_head"]},
)  # fmt: skip
GEMMA3_VISION = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "patch_size": 14,
                 "image_size": 896}  # fmt: skip
GEMMA3 = {
    "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "vision_config": GEMMA3_VISION,
    "dtype": "bfloat16", "tie_word_embeddings": True, "vocab_size": 262208, "sliding_window": 1024, "head_dim": 256,
    "max_position_embeddings": 131072,
}  # fmt: skip
GEMMA3_4B = {
    **GEMMA3, "num_hidden_layers": 34, "hidden_size": 2560, "intermediate_size": 10240, "num_attention_heads": 8,
    "num_key_value_heads": 4,
}  # fmt: skip
GEMMA3_12B = {
    **GEMMA3, "num_hidden_layers": 48, "hidden_size": 3840, "intermediate_size": 15360, "num_attention_heads": 16,
    "num_key_value_heads": 8,
}  # fmt: skip
GEMMA3_27B = {
    **GEMMA3, "num_hidden_layers": 62, "hidden_size": 5376, "intermediate_size": 21504, "num_attention_heads": 32,
    "num_key_value_heads": 16, "head_dim": 128,
}  # fmt: skip
GEMMA4 = {
    "architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4", "dtype": "bfloat16",
    "tie_word_embeddings": True, "vocab_size": 262144, "sliding_window": 1024, "head_dim": 256,
    "global_head_dim": 512, "max_position_embeddings": 262144,
    "rope_parameters": {"partial_rotary_factor": 0.25, "rope_type": "proportional"},
    "vision_config": {
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "patch_size": 16,
        "position_embedding_size": 10240,
    },
}  # fmt: skip
GEMMA4_26B = {
    **GEMMA4, "enable_moe_block": True, "num_hidden_layers": 30, "hidden_size": 2816, "intermediate_size": 2112,
    "moe_intermediate_size": 704, "num_experts": 128, "top_k_experts": 8, "num_attention_heads": 16,
    "num_key_value_heads": 8, "num_global_key_value_heads": 2,
}  # fmt: skip
GEMMA4_31B = {
    **GEMMA4, "enable_moe_block": False, "num_hidden_layers": 60, "hidden_size": 5376, "intermediate_size": 21504,
    "num_attention_heads": 32, "num_key_value_heads": 16, "num_global_key_value_heads": 4,
}  # fmt: skip
PIXTRAL_VISION = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "patch_size": 14}
MISTRAL_SMALL_31 = _sparse(
    architectures=["Mistral3ForConditionalGeneration"], model_type="mistral3", num_hidden_layers=40, hidden_size=5120,
    intermediate_size=32768, num_attention_heads=32, num_key_value_heads=8, head_dim=128, vocab_size=131072,
    max_position_embeddings=131072, vision_config=PIXTRAL_VISION,
)  # fmt: skip
QWEN25_VISION = {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "patch_size": 14}
QWEN25_VL = _sparse(
    architectures=["Qwen2_5_VLForConditionalGeneration"], model_type="qwen2_5_vl", max_position_embeddings=128000,
    rope_scaling={"type": "mrope", "mrope_section": [16, 24, 24]}, vision_config=QWEN25_VISION,
)  # fmt: skip
QWEN25_7B_TEXT = {
    "num_hidden_layers": 28, "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064,
}  # fmt: skip
QWEN25_VL_3B = {
    **QWEN25_VL, "num_hidden_layers": 36, "hidden_size": 2048, "intermediate_size": 11008, "num_attention_heads": 16,
    "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip
QWEN25_VL_32B = {
    **QWEN25_VL, "num_hidden_layers": 64, "hidden_size": 5120, "intermediate_size": 27648, "num_attention_heads": 40,
    "num_key_value_heads": 8, "vocab_size": 152064, "vision_config": {**QWEN25_VISION, "intermediate_size": 3456},
}  # fmt: skip
QWEN25_VL_72B = {
    **QWEN25_VL, "num_hidden_layers": 80, "hidden_size": 8192, "intermediate_size": 29568, "num_attention_heads": 64,
    "num_key_value_heads": 8, "vocab_size": 152064, "vision_config": {**QWEN25_VISION, "intermediate_size": 3456},
}  # fmt: skip
QWEN2_VL = {
    **QWEN25_VL, "architectures": ["Qwen2VLForConditionalGeneration"], "model_type": "qwen2_vl",
    "max_position_embeddings": 32768, "vision_config": {"depth": 32, "embed_dim": 1280, "patch_size": 14},
}  # fmt: skip
QWEN2_VL_2B = {
    **QWEN2_VL, "num_hidden_layers": 28, "hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12,
    "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
}  # fmt: skip
CLIP_VISION = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "patch_size": 14}
LLAVA = _sparse(
    architectures=["LlavaForConditionalGeneration"], model_type="llava", vocab_size=32064, torch_dtype="float16",
    max_position_embeddings=4096, vision_config=CLIP_VISION,
)  # fmt: skip
NEMOTRON_H = _sparse(
    architectures=["NemotronHForCausalLM"], conv_kernel=4, head_dim=128, mamba_head_dim=64, n_groups=8,
    num_key_value_heads=2, max_position_embeddings=262144, ssm_state_size=128, n_shared_experts=1, vocab_size=131072,
)  # fmt: skip
NEMOTRON_NANO = {
    **NEMOTRON_H, "hidden_size": 2688, "intermediate_size": 1856, "mamba_num_heads": 64, "num_attention_heads": 32,
    "moe_intermediate_size": 1856, "moe_shared_expert_intermediate_size": 3712, "n_routed_experts": 128,
    "num_experts_per_tok": 6, "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
}  # fmt: skip
NEMOTRON_SUPER = {
    **NEMOTRON_H, "hidden_size": 4096, "intermediate_size": 2688, "mamba_num_heads": 128, "num_attention_heads": 32,
    "moe_intermediate_size": 2688, "moe_latent_size": 1024, "moe_shared_expert_intermediate_size": 5376,
    "n_routed_experts": 512, "num_experts_per_tok": 22, "num_nextn_predict_layers": 1,
    "hybrid_override_pattern": (
        "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME"
    ),
}  # fmt: skip


def _block(group: int | None, multiple: float) -> dict[str, Any]:
    attention = {"n_heads_in_group": group} if group else {"no_op": True}
    return {"attention": attention, "ffn": {"ffn_mult": multiple}}


SUPER_49B_TAIL = (1.3125, 2.625, 2.625, 1.3125, 5.25, 1.3125, 2.625, 1.3125, 1.3125, 1.3125)
SUPER_49B_END = (
    1.3125, 1.0, 1.0, 1.3125, 1.0, 1.0, 1.0, 1.3125, 1.3125, 0.5, 0.5, 1.0, 1.0, 0.5, 0.5, 1.0, 0.5, 0.5
)  # fmt: skip
NEMOTRON_SUPER_49B = _sparse(
    architectures=["DeciLMForCausalLM"], num_hidden_layers=80, hidden_size=8192, num_attention_heads=64,
    vocab_size=128256, max_position_embeddings=131072,
    block_configs=[
        _block(8, 2.625), *[_block(8, 5.25)] * 5, *[_block(None, 2.625)] * 2, *[_block(8, 5.25)] * 3,
        _block(None, 3.28125), *[_block(8, 5.25)] * 30, *[_block(None, multiple) for multiple in SUPER_49B_TAIL],
        _block(8, 5.25), *[_block(None, multiple) for multiple in SUPER_49B_END], *[_block(8, 5.25)] * 9,
    ],
)  # fmt: skip

READ = AICONFIGURATOR.format
OTHERS = (
    Row(("Qwen/Qwen3-30B-A3B",), QWEN3_30B, READ("Qwen--Qwen3-30B-A3B_config.json")),
    Row(
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "Qwen/Qwen3-30B-A3B-Thinking-2507", "Qwen/Qwen3-Coder-30B-A3B-Instruct"),
        {**QWEN3_30B, **LONG},
        READ("Qwen--Qwen3-30B-A3B_config.json"),
    ),
    Row(("Qwen/Qwen3-30B-A3B-FP8",), {**QWEN3_30B, **IN_FP8_BLOCKS}, READ("Qwen--Qwen3-30B-A3B-FP8_config.json")),
    Row(
        ("Qwen/Qwen3-30B-A3B-Instruct-2507-FP8", "Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8"),
        {**QWEN3_30B, **LONG, **IN_FP8_BLOCKS},
        READ("Qwen--Qwen3-30B-A3B-FP8_config.json"),
    ),
    Row(("Qwen/Qwen3-235B-A22B",), QWEN3_235B, READ("Qwen--Qwen3-235B-A22B_config.json")),
    Row(("Qwen/Qwen3-235B-A22B-Instruct-2507",), {**QWEN3_235B, **LONG}, READ("Qwen--Qwen3-235B-A22B_config.json")),
    Row(("Qwen/Qwen3-235B-A22B-FP8",), {**QWEN3_235B, **IN_FP8_BLOCKS}, READ("Qwen--Qwen3-235B-A22B-FP8_config.json")),
    Row(
        ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "Qwen/Qwen3-235B-A22B-Thinking-2507-FP8"),
        {**QWEN3_235B, **LONG, **IN_FP8_BLOCKS},
        READ("Qwen--Qwen3-235B-A22B-FP8_config.json"),
    ),
    Row(
        ("nvidia/Qwen3-235B-A22B-NVFP4",),
        {**QWEN3_235B, "quantization_config": _nvfp4()},
        READ("nvidia--Qwen3-235B-A22B-NVFP4_hf_quant_config.json"),
    ),
    Row(
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct",), QWEN3_480B, READ("Qwen--Qwen3-Coder-480B-A35B-Instruct_config.json")
    ),
    Row(("Qwen/Qwen3-Coder-480B-A35B-Instruct-FP8",), {**QWEN3_480B, **IN_FP8_BLOCKS}, PUBLISHED),
    Row(("Qwen/Qwen3-Next-80B-A3B-Instruct", "Qwen/Qwen3-Next-80B-A3B-Thinking"), QWEN3_NEXT, PUBLISHED),
    Row(
        ("Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-Embedding-2B"),
        _qwen3_vl(
            SMALL_QWEN3_VISION,
            _dense("-", QWEN3, 28, 2048, 6144, 16, 8, 128, 151936, True, 262144, None).config,
        ),
        READ("Qwen--Qwen3-VL-2B-Instruct_config.json"),
    ),
    Row(
        ("Qwen/Qwen3-VL-4B-Instruct",),
        _qwen3_vl(
            SMALL_QWEN3_VISION,
            _dense("-", QWEN3, 36, 2560, 9728, 32, 8, 128, 151936, True, 262144, None).config,
        ),
        READ("Qwen--Qwen3-VL-4B-Instruct_config.json"),
    ),
    Row(
        ("Qwen/Qwen3-VL-8B-Instruct", "Qwen/Qwen3-VL-8B-Thinking"),
        _qwen3_vl(
            QWEN3_VISION,
            _dense("-", QWEN3, 36, 4096, 12288, 32, 8, 128, 151936, False, 262144, None).config,
        ),
        READ("Qwen--Qwen3-VL-8B-Instruct_config.json"),
    ),
    Row(
        ("Qwen/Qwen3-VL-32B-Instruct", "Qwen/Qwen3-VL-32B-Thinking"),
        _qwen3_vl(
            QWEN3_VISION,
            _dense("-", QWEN3, 64, 5120, 25600, 64, 8, 128, 151936, False, 262144, None).config,
            rope_scaling={"mrope_section": [24, 20, 20]},
        ),
        READ("Qwen--Qwen3-VL-32B-Instruct_config.json"),
    ),
    Row(
        ("Qwen/Qwen3-VL-30B-A3B-Instruct",),
        _qwen3_vl(QWEN3_VISION, QWEN3_30B),
        READ("Qwen--Qwen3-VL-30B-A3B-Instruct_config.json"),
    ),
    Row(
        ("Qwen/Qwen3-VL-235B-A22B-Instruct", "Qwen/Qwen3-VL-235B-A22B"),
        _qwen3_vl(QWEN3_VISION, QWEN3_235B),
        READ("Qwen--Qwen3-VL-235B-A22B-Instruct_config.json"),
    ),
    Row(
        ("Qwen/Qwen3.5-27B", "Qwen/Qwen3.6-27B", "Qwen/Qwen3.8-27B"),
        QWEN35_27B,
        READ("Qwen--Qwen3.5-27B_config.json"),
    ),
    Row(
        ("Qwen/Qwen3.5-27B-FP8", "Qwen/Qwen3.6-27B-FP8", "Qwen/Qwen3.8-27B-FP8"),
        {**QWEN35_27B, "quantization_config": {**FP8_BLOCKS, "modules_to_not_convert": ["lm_head", "*.in_proj_ba"]}},
        READ("Qwen--Qwen3.5-27B_config.json"),
    ),
    Row(("Qwen/Qwen3.5-9B",), QWEN35_9B, PUBLISHED),
    Row(("Qwen/Qwen3.5-35B-A3B", "Qwen/Qwen3.6-35B-A3B"), QWEN35_35B, READ("Qwen--Qwen3.5-35B-A3B_config.json")),
    Row(("Qwen/Qwen3.5-122B-A10B",), QWEN35_122B, READ("Qwen--Qwen3.5-122B-A10B_config.json")),
    Row(("Qwen/Qwen3.5-397B-A17B",), QWEN35_397B, READ("Qwen--Qwen3.5-397B-A17B_config.json")),
    Row(
        ("nvidia/Qwen3.6-27B-NVFP4",),
        {**QWEN35_27B, "quantization_config": QWEN35_MIXED},
        READ("nvidia--Qwen3.6-27B-NVFP4_config.json"),
    ),
    Row(
        ("nvidia/Qwen3.6-35B-A3B-NVFP4",),
        {**QWEN35_35B, "quantization_config": QWEN35_MIXED},
        READ("nvidia--Qwen3.6-35B-A3B-NVFP4_config.json"),
    ),
    Row(
        ("nvidia/Qwen3.5-122B-A10B-NVFP4",),
        {**QWEN35_122B, "quantization_config": _nvfp4("*.linear_attn*", "*.mlp.shared_expert*", "*.self_attn*")},
        READ("nvidia--Qwen3.5-122B-A10B-NVFP4_config.json"),
    ),
    Row(
        (
            "deepseek-ai/DeepSeek-R1",
            "deepseek-ai/DeepSeek-V3",
            "deepseek-ai/DeepSeek-R1-0528",
            "deepseek-ai/DeepSeek-V3-0324",
            "deepseek-ai/DeepSeek-V3.1",
        ),
        DEEPSEEK_V3,
        READ("deepseek-ai--DeepSeek-R1_config.json"),
    ),
    Row(
        ("deepseek-ai/DeepSeek-V3.2", "deepseek-ai/DeepSeek-V3.2-Exp"),
        DEEPSEEK_V32,
        READ("deepseek-ai--DeepSeek-V3.2_config.json"),
    ),
    Row(
        ("nvidia/DeepSeek-V3.1-NVFP4", "nvidia/DeepSeek-R1-NVFP4", "nvidia/DeepSeek-R1-FP4"),
        {
            **DEEPSEEK_V3,
            "quantization_config": _nvfp4("*.q_a_proj", "*.q_b_proj", "*.kv_a_proj_with_mqa", "*.kv_b_proj"),
        },
        READ("nvidia--DeepSeek-V3.1-NVFP4_hf_quant_config.json"),
    ),
    Row(
        ("deepseek-ai/DeepSeek-V2.5", "deepseek-ai/DeepSeek-V2-Chat", "deepseek-ai/DeepSeek-Coder-V2-Instruct"),
        DEEPSEEK_V2,
        PUBLISHED,
    ),
    Row(
        (
            "deepseek-ai/DeepSeek-V2-Lite",
            "deepseek-ai/DeepSeek-V2-Lite-Chat",
            "deepseek-ai/DeepSeek-Coder-V2-Lite-Instruct",
        ),
        DEEPSEEK_V2_LITE,
        INFERENCE_SIM.format("deepseek-v2-lite/config.json"),
    ),
    Row(("moonshotai/Kimi-K2-Instruct",), KIMI_K2, READ("moonshotai--Kimi-K2-Instruct_config.json")),
    Row(
        ("moonshotai/Kimi-K2-Instruct-0905",),
        {**KIMI_K2, **LONG, "rope_scaling": YARN_64},
        READ("moonshotai--Kimi-K2-Instruct_config.json"),
    ),
    Row(
        ("moonshotai/Kimi-K2-Thinking",),
        {**KIMI_K2, **LONG, "rope_scaling": YARN_64, "quantization_config": KIMI_INT4},
        PUBLISHED,
    ),
    Row(
        ("moonshotai/Kimi-K2.5", "moonshotai/Kimi-K2.6"),
        {
            **KIMI_K2,
            **LONG,
            "architectures": ["KimiK25ForConditionalGeneration"],
            "model_type": "kimi_k25",
            "rope_scaling": YARN_64,
            "quantization_config": KIMI_INT4,
            "vision_config": {"vt_hidden_size": 1152, "vt_intermediate_size": 4304, "vt_num_hidden_layers": 27},
        },
        READ("moonshotai--Kimi-K2.5_config.json"),
    ),
    Row(("moonshotai/Kimi-Linear-48B-A3B-Instruct",), KIMI_LINEAR, PUBLISHED),
    Row(("zai-org/GLM-5", "zai-org/GLM-5.1"), GLM_5, READ("zai-org--GLM-5_config.json")),
    Row(("zai-org/GLM-5.2",), {**GLM_5, "max_position_embeddings": 1048576}, READ("zai-org--GLM-5.2_config.json")),
    Row(
        ("zai-org/GLM-5-FP8", "zai-org/GLM-5.1-FP8"),
        {**GLM_5, **IN_FP8_BLOCKS},
        READ("zai-org--GLM-5-FP8_config.json"),
    ),
    Row(
        ("zai-org/GLM-5.2-FP8",),
        {**GLM_5, **IN_FP8_BLOCKS, "max_position_embeddings": 1048576},
        READ("zai-org--GLM-5.2-FP8_config.json"),
    ),
    Row(("zai-org/GLM-4.5",), GLM_45, PUBLISHED),
    Row(("zai-org/GLM-4.6", "zai-org/GLM-4.7"), {**GLM_45, "max_position_embeddings": 202752}, PUBLISHED),
    Row(("zai-org/GLM-4.5-Air",), GLM_45_AIR, PUBLISHED),
    Row(("openai/gpt-oss-20b",), GPT_OSS_20B, READ("openai--gpt-oss-20b_config.json")),
    Row(
        ("openai/gpt-oss-120b",),
        {**GPT_OSS_20B, "num_hidden_layers": 36, "num_local_experts": 128},
        READ("openai--gpt-oss-120b_config.json"),
    ),
    Row(
        ("meta-llama/Llama-4-Scout-17B-16E-Instruct", "meta-llama/Llama-4-Scout-17B-16E"),
        LLAMA_4_SCOUT,
        READ("meta-llama--Llama-4-Scout-17B-16E-Instruct_config.json"),
    ),
    Row(
        ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", "meta-llama/Llama-4-Maverick-17B-128E"),
        LLAMA_4_MAVERICK,
        READ("meta-llama--Llama-4-Maverick-17B-128E-Instruct_config.json"),
    ),
    Row(
        ("meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8",),
        {**LLAMA_4_MAVERICK, "quantization_config": LLAMA_4_FP8},
        PUBLISHED,
    ),
    Row(
        ("mistralai/Mixtral-8x7B-v0.1", "mistralai/Mixtral-8x7B-Instruct-v0.1"),
        MIXTRAL,
        READ("mistralai--Mixtral-8x7B-v0.1_config.json"),
    ),
    Row(
        ("mistralai/Mixtral-8x22B-v0.1", "mistralai/Mixtral-8x22B-Instruct-v0.1"),
        MIXTRAL_22B,
        READ("mistralai--Mixtral-8x22B-v0.1_config.json"),
    ),
    Row(
        ("MiniMaxAI/MiniMax-M2", "MiniMaxAI/MiniMax-M2.5", "MiniMaxAI/MiniMax-M2.7"),
        MINIMAX_M2,
        READ("MiniMaxAI--MiniMax-M2.5_config.json"),
    ),
    Row(
        ("nvidia/MiniMax-M2.5-NVFP4",),
        {**MINIMAX_M2, "quantization_config": _nvfp4("*.self_attn*")},
        READ("nvidia--MiniMax-M2.5-NVFP4_config.json"),
    ),
    Row(("google/gemma-3-4b-it",), GEMMA3_4B, PUBLISHED),
    Row(("google/gemma-3-12b-it",), GEMMA3_12B, PUBLISHED),
    Row(("google/gemma-3-27b-it",), GEMMA3_27B, PUBLISHED),
    Row(
        ("google/gemma-4-26B-A4B", "google/gemma-4-26B-A4B-it"),
        GEMMA4_26B,
        READ("google--gemma-4-26B-A4B_config.json"),
    ),
    Row(
        ("google/gemma-4-31B", "google/gemma-4-31B-it"), GEMMA4_31B, READ("nvidia--Gemma-4-31B-IT-NVFP4_config.json")
    ),
    Row(
        ("nvidia/Gemma-4-31B-IT-NVFP4",),
        {**GEMMA4_31B, "quantization_config": _nvfp4("*.self_attn*")},
        READ("nvidia--Gemma-4-31B-IT-NVFP4_config.json"),
    ),
    Row(
        ("nvidia/Gemma-4-26B-A4B-NVFP4",),
        {**GEMMA4_26B, "quantization_config": _nvfp4("*.self_attn*", "*.mlp*")},
        READ("nvidia--Gemma-4-26B-A4B-NVFP4_config.json"),
    ),
    Row(
        ("mistralai/Mistral-Small-3.1-24B-Instruct-2503", "mistralai/Mistral-Small-3.2-24B-Instruct-2506"),
        MISTRAL_SMALL_31,
        PUBLISHED,
    ),
    Row(("Qwen/Qwen2.5-VL-3B-Instruct",), QWEN25_VL_3B, PUBLISHED),
    Row(("Qwen/Qwen2.5-VL-7B-Instruct",), {**QWEN25_VL, **QWEN25_7B_TEXT}, PUBLISHED),
    Row(("Qwen/Qwen2.5-VL-32B-Instruct",), QWEN25_VL_32B, PUBLISHED),
    Row(("Qwen/Qwen2.5-VL-72B-Instruct",), QWEN25_VL_72B, PUBLISHED),
    Row(("Qwen/Qwen2-VL-2B-Instruct",), QWEN2_VL_2B, PUBLISHED),
    Row(("Qwen/Qwen2-VL-7B-Instruct",), {**QWEN2_VL, **QWEN25_7B_TEXT}, PUBLISHED),
    Row(
        ("llava-hf/llava-1.5-7b-hf",),
        {
            **LLAVA, "num_hidden_layers": 32, "hidden_size": 4096, "intermediate_size": 11008,
            "num_attention_heads": 32,
        },
        PUBLISHED,
    ),
    Row(
        ("llava-hf/llava-1.5-13b-hf",),
        {
            **LLAVA, "num_hidden_layers": 40, "hidden_size": 5120, "intermediate_size": 13824,
            "num_attention_heads": 40,
        },
        PUBLISHED,
    ),
    Row(
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",),
        NEMOTRON_NANO,
        READ("nvidia--NVIDIA-Nemotron-3-Nano-30B-A3B-BF16_config.json"),
    ),
    Row(
        ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-FP8",),
        {**NEMOTRON_SUPER, "quantization_config": FP8_TENSORS},
        READ("nvidia--NVIDIA-Nemotron-3-Super-120B-A12B-FP8_config.json"),
    ),
    Row(
        ("nvidia/Llama-3_3-Nemotron-Super-49B-v1", "nvidia/Llama-3_3-Nemotron-Super-49B-v1_5"),
        NEMOTRON_SUPER_49B,
        READ("nvidia--Llama-3_3-Nemotron-Super-49B-v1_config.json"),
    ),
)  # fmt: skip

ROWS = DENSE + OTHERS
