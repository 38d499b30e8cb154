# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an architecture fixes beyond its config.json, by the architecture's name.

Sources: what a missing field means, the models' configuration classes (transformers 5.23,
models/<family>/configuration_<family>.py); which weights a layer has, the engine's own classes (vLLM 0.33,
model_executor/models).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ansible_collections.gpufleet.serving.plugins.module_utils._model import CHUNKED, FULL, GQA, LINEAR, MLA, SLIDING

PER_HEAD, PER_LAYER = "head", "layer"
"""Over what the norms of query and key run: each head, or all heads at once."""

GATED_DELTA, KIMI_DELTA = "gated_delta", "kimi_delta"
"""The two kinds of linear attention."""


@dataclass(frozen=True)
class ExpertNames:
    """What a checkpoint calls the parts of a mixture of experts: the block, its router, its experts' three weights
    (gate, up, down; two where there is no gate), and its shared experts."""

    block: str = "mlp"
    router: str = "gate"
    weights: tuple[str, ...] = ("gate_proj", "up_proj", "down_proj")
    shared: str = "shared_experts"
    stacked: bool = False


@dataclass(frozen=True)
class Family:
    """What an architecture fixes beyond its config.json.

    query_bias: biases of the query, key and value projections; None where `attention_bias` of config.json decides.
    output_bias: the output projection has a bias wherever those have one. own_head_dim: `head_dim` is free (otherwise
    hidden_size / num_attention_heads). fused: the checkpoint keeps query, key and value, and gate and up, in one
    weight each. optional_kv_heads: without num_key_value_heads every head has its own. sliding_window: the window where
    config.json does not name one. window_switch: a window counts only with `use_sliding_window`.

    norms: norms of the hidden state in a layer. qk_norm: over what query and key are normed, where they are. gated:
    the feed-forward part has a gate beside its up projection. tied: embedding and head are one weight where
    config.json does not say. root: what the names of the layers begin with; head: the name of the output head.
    layer_cycle: the kinds of layers in order, repeated, where config.json does not list them. attention: "gqa" or
    "mla". linear: the kind of linear attention. experts: the names of the mixture, None where there is none;
    expert_width: the field of config.json with the width of one expert; router_bias and expert_bias; shared_gate: the
    shared expert has a gate of its own. sinks: a learnt logit a head. mlp: the name of
    a dense feed-forward part. rotary_tables: tables of positions.
    """

    query_bias: bool | None = False
    output_bias: bool = False
    qk_norm: str | None = None
    own_head_dim: bool = True
    fused: bool = False
    mlp_bias: bool = False
    optional_kv_heads: bool = False
    sliding_window: int | None = None
    window_switch: bool = False
    norms: int = 2
    gated: bool = True
    tied: bool = False
    root: str = "model"
    head: str = "lm_head"
    layer_cycle: tuple[str, ...] = ()
    attention: str = GQA
    linear: str | None = None
    experts: ExpertNames | None = None
    expert_width: str = "moe_intermediate_size"
    router_bias: bool = False
    expert_bias: bool = False
    shared_gate: bool = False
    sinks: bool = False
    mlp: str = "mlp"
    rotary_tables: int = 1


LLAMA = Family(query_bias=None, output_bias=True, mlp_bias=True, optional_kv_heads=True)
MISTRAL = Family(sliding_window=4096)
QWEN2 = Family(query_bias=True, own_head_dim=False, window_switch=True)
QWEN3 = Family(query_bias=None, qk_norm=PER_HEAD, window_switch=True)
QWEN2_MOE = dataclasses.replace(QWEN2, experts=ExpertNames(shared="shared_expert"), shared_gate=True)
QWEN3_MOE = dataclasses.replace(QWEN3, experts=ExpertNames())
QWEN3_NEXT = Family(
    query_bias=None, qk_norm=PER_HEAD, linear=GATED_DELTA, layer_cycle=(LINEAR, LINEAR, LINEAR, FULL),
    experts=ExpertNames(shared="shared_expert"), shared_gate=True,
)  # fmt: skip
QWEN35 = dataclasses.replace(QWEN3_NEXT, experts=None, root="model.language_model")
QWEN35_MOE = dataclasses.replace(QWEN3_NEXT, root="model.language_model")
OLMO2 = Family(query_bias=None, qk_norm=PER_LAYER, optional_kv_heads=True)
GEMMA = Family(tied=True, query_bias=None)
GEMMA2 = dataclasses.replace(GEMMA, norms=4, sliding_window=4096, layer_cycle=(SLIDING, FULL))
GEMMA3 = dataclasses.replace(GEMMA2, qk_norm=PER_HEAD, layer_cycle=(SLIDING,) * 5 + (FULL,), rotary_tables=2)
GEMMA4 = dataclasses.replace(GEMMA3, root="model.language_model", experts=ExpertNames("", "router.proj", stacked=True))
DEEPSEEK = Family(query_bias=None, attention=MLA, experts=ExpertNames())
GLM4_MOE = Family(query_bias=None, qk_norm=PER_HEAD, experts=ExpertNames())
MIXTRAL_EXPERTS = ExpertNames("block_sparse_moe", "gate", ("w1", "w3", "w2"))
MIXTRAL = Family(experts=MIXTRAL_EXPERTS, expert_width="intermediate_size")
MINIMAX_M2 = dataclasses.replace(MIXTRAL, qk_norm=PER_LAYER)
LLAMA4 = Family(
    query_bias=None, root="language_model.model", head="language_model.lm_head", layer_cycle=(CHUNKED,) * 3 + (FULL,),
    experts=ExpertNames("feed_forward", "router", shared="shared_expert", stacked=True),
    expert_width="intermediate_size", mlp="feed_forward",
)  # fmt: skip
GPT_OSS = Family(
    query_bias=None, output_bias=True, sinks=True, layer_cycle=(SLIDING, FULL), router_bias=True, expert_bias=True,
    experts=ExpertNames(router="router", stacked=True), expert_width="intermediate_size",
)  # fmt: skip
NEMOTRON_H = Family(
    norms=1, gated=False, root="backbone", mlp="mixer",
    experts=ExpertNames("mixer", "gate", ("up_proj", "down_proj"), "shared_experts"),
)  # fmt: skip
KIMI_LINEAR = dataclasses.replace(DEEPSEEK, linear=KIMI_DELTA, experts=MIXTRAL_EXPERTS)
NESTED, NESTED_HEAD = "language_model.model", "language_model.lm_head"
IN_LANGUAGE_MODEL = "model.language_model"
"""What models of several parts put before the names of their language model."""

FAMILIES = {
    "LlamaForCausalLM": LLAMA,
    "MistralForCausalLM": MISTRAL,
    "Qwen2ForCausalLM": QWEN2,
    "Qwen3ForCausalLM": QWEN3,
    "Phi3ForCausalLM": Family(own_head_dim=False, fused=True, optional_kv_heads=True),
    "LlavaForConditionalGeneration": dataclasses.replace(LLAMA, root=NESTED, head=NESTED_HEAD),
    "Mistral3ForConditionalGeneration": dataclasses.replace(
        MISTRAL, sliding_window=None, root=NESTED, head=NESTED_HEAD
    ),
    "MixtralForCausalLM": MIXTRAL,
    "Qwen2MoeForCausalLM": QWEN2_MOE,
    "Qwen3MoeForCausalLM": QWEN3_MOE,
    "Qwen2VLForConditionalGeneration": QWEN2,
    "Qwen2_5_VLForConditionalGeneration": QWEN2,
    "Qwen3VLForConditionalGeneration": dataclasses.replace(QWEN3, root=IN_LANGUAGE_MODEL),
    "Qwen3VLMoeForConditionalGeneration": dataclasses.replace(
        QWEN3_MOE, experts=ExpertNames(stacked=True), root=IN_LANGUAGE_MODEL
    ),
    "Qwen3NextForCausalLM": QWEN3_NEXT,
    "Qwen3_5ForCausalLM": dataclasses.replace(QWEN35, root="model"),
    "Qwen3_5MoeForCausalLM": dataclasses.replace(QWEN35_MOE, root="model"),
    "Qwen3_5ForConditionalGeneration": QWEN35,
    "Qwen3_5MoeForConditionalGeneration": QWEN35_MOE,
    "Olmo2ForCausalLM": OLMO2,
    "Olmo3ForCausalLM": dataclasses.replace(OLMO2, sliding_window=4096, layer_cycle=(SLIDING,) * 3 + (FULL,)),
    "OlmoeForCausalLM": dataclasses.replace(OLMO2, experts=ExpertNames(), expert_width="intermediate_size"),
    "GemmaForCausalLM": GEMMA,
    "Gemma2ForCausalLM": GEMMA2,
    "Gemma3ForCausalLM": GEMMA3,
    "Gemma3ForConditionalGeneration": dataclasses.replace(GEMMA3, root="language_model.model"),
    "Gemma4ForCausalLM": dataclasses.replace(GEMMA4, root="model"),
    "Gemma4ForConditionalGeneration": GEMMA4,
    "DeepseekV2ForCausalLM": DEEPSEEK,
    "DeepseekV3ForCausalLM": DEEPSEEK,
    "DeepseekV32ForCausalLM": DEEPSEEK,
    "GlmMoeDsaForCausalLM": DEEPSEEK,
    "KimiK25ForConditionalGeneration": dataclasses.replace(DEEPSEEK, root=NESTED, head=NESTED_HEAD),
    "KimiLinearForCausalLM": KIMI_LINEAR,
    "Glm4MoeForCausalLM": GLM4_MOE,
    "MiniMaxM2ForCausalLM": MINIMAX_M2,
    "Llama4ForConditionalGeneration": LLAMA4,
    "GptOssForCausalLM": GPT_OSS,
    "DeciLMForCausalLM": LLAMA,
    "NemotronHForCausalLM": NEMOTRON_H,
    "GraniteForCausalLM": LLAMA,
}
"""Every architecture whose weights are known here. All of them implement the engine's pipeline parallelism."""
