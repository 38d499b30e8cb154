# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._gpu_catalogue import CATALOGUE
from ansible_collections.gpufleet.serving.plugins.module_utils._model_config import shape_from_config
from ansible_collections.gpufleet.serving.plugins.plugin_utils._devices import CPU, CUDA, Kind
from ansible_collections.gpufleet.serving.plugins.plugin_utils._roofline import (
    MODERN,
    Constants,
    HostSide,
    Step,
    gpu_seconds,
    rates_of,
    step_seconds,
    work_of,
)
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.fleets import LLAMA_8B, LLAMA_70B
from hypothesis import given, settings
from hypothesis import strategies as st

BARE = Constants(1, 1, 1, 1, 1, 0, 0, 0, 0, 0)
"""Every rate at its peak and nothing besides, so that steps can be reckoned by hand."""

MIXTRAL = LLAMA_8B | {
    "architectures": ["MixtralForCausalLM"],
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 32000,
}
LATENT = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "num_hidden_layers": 4,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "vocab_size": 129280,
    "max_position_embeddings": 163840,
    "torch_dtype": "bfloat16",
    "first_k_dense_replace": 4,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
}


def gpu(key="H100-SXM-80GB"):
    return Kind(key, CUDA, 80 * 2**30)


def h100():
    rates = rates_of(gpu())
    assert rates is not None
    return rates


def work(config=LLAMA_8B, tensor=1, pipeline=1, **changes):
    return work_of(shape_from_config(config | changes), tensor, pipeline)


def test_the_bytes_of_a_step_are_those_of_the_checkpoint():
    llama = work()
    held = sum(part.size for part in llama.dense) + llama.head.size
    embedding = 128256 * 4096 * 2
    assert held == 16060522496 - embedding
    assert sum(part.weights for part in llama.dense) == pytest.approx(
        32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    )


def test_one_decoding_sequence_waits_for_memory():
    """Weights and 1,000 tokens of KV cache (128 KiB each) over 3.35 TB/s, to 1 % of arithmetic on top."""
    seconds = gpu_seconds(work(), h100(), Step(1, 1000), BARE)
    assert seconds == pytest.approx((15009847296 + 1000 * 131072) / 3.35e12, rel=0.01)


def test_a_long_prompt_waits_for_arithmetic():
    """Two operations a weight and token, and four times width times tokens seen, over 989 TFLOPS."""
    step = Step(0, 0, prefill=8192, behind=4096, prompts=1)
    dense = 2 * 8192 * 6979321856
    attention = 8192 * 4096 * 4 * 4096 * 32
    assert gpu_seconds(work(), h100(), step, BARE) == pytest.approx((dense + attention) / 989e12, rel=0.02)


def test_tied_weights_are_read_as_head():
    assert work(tie_word_embeddings=True).head == work().head


def test_few_tokens_touch_few_experts():
    mixtral = work(MIXTRAL)
    (experts,) = mixtral.experts
    one_token = gpu_seconds(mixtral, h100(), Step(1, 1), BARE)
    many = gpu_seconds(mixtral, h100(), Step(64, 1), BARE)
    dense = (sum(part.size for part in mixtral.dense) + mixtral.head.size) / 3.35e12
    assert one_token == pytest.approx(dense + 2 * experts.one.size / 3.35e12, rel=0.01)
    assert many == pytest.approx(dense + 8 * experts.one.size / 3.35e12, rel=0.02)


def test_expert_parallelism_reads_the_same_share_of_each_expert():
    shape = shape_from_config(MIXTRAL)
    (divided,), (whole,) = work_of(shape, 4).experts, work_of(shape, 4, expert_parallel_size=4).experts
    assert divided == whole


def test_a_window_bounds_what_is_read():
    mistral = work(LLAMA_8B | {"architectures": ["MistralForCausalLM"], "sliding_window": 4096})
    (part,) = mistral.attention
    assert part.reach == 4096
    assert gpu_seconds(mistral, h100(), Step(8, 100000)) == gpu_seconds(mistral, h100(), Step(8, 4096))


def test_key_value_heads_are_copied_and_latents_kept_whole():
    grouped = [work(LLAMA_70B, tensor).attention[0].size for tensor in (1, 8, 16)]
    assert grouped == [80 * 2 * 8 * 128 * 2, 80 * 2 * 128 * 2, 80 * 2 * 128 * 2]
    latent = [work(LATENT, tensor).attention[0].size for tensor in (1, 8)]
    assert latent == [4 * 576 * 2] * 2


def test_an_indexer_looks_at_everything_for_few_tokens():
    sparse = LATENT | {"architectures": ["DeepseekV32ForCausalLM"], "index_n_heads": 64, "index_head_dim": 128}
    attended, index = work(sparse).attention
    assert attended.reach == 2048
    assert index.size == 4 * 132
    assert index.reach == float("inf")


def test_states_are_read_and_written_whatever_the_length():
    hybrid = LLAMA_8B | {
        "architectures": ["Qwen3NextForCausalLM"],
        "head_dim": 128,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 32,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
    }
    qwen = work(hybrid)
    assert qwen.state == 24 * 32 * 128 * 128 * 4 * 2
    assert sum(part.size for part in qwen.attention) == 8 * 2 * 8 * 128 * 2


FORMATS = {
    "fp8 is multiplied as it is where the chip can": ({"quant_method": "fp8"}, "H100-SXM-80GB", 8),
    "and widened where it cannot": ({"quant_method": "fp8"}, "A100-SXM-80GB", 16),
    "nvfp4 on Blackwell": ({"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}, "B200-SXM-180GB", 4),
    "nvfp4 on Hopper": ({"quant_algo": "NVFP4", "exclude_modules": ["lm_head"]}, "H100-SXM-80GB", 16),
    "integers of four bits": ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "B200-SXM-180GB", 16),
}


@pytest.mark.parametrize(("quantization", "key", "bits"), FORMATS.values(), ids=FORMATS)
def test_formats_and_the_operations_that_they_get(quantization, key, bits):
    shape = shape_from_config(LLAMA_8B | {"quantization_config": quantization})
    heaviest = max(work_of(shape, 1).dense, key=lambda part: part.weights)
    rates = rates_of(gpu(key))
    assert rates is not None
    assert rates.multiplying(heaviest.bits) == dict(rates.flops)[bits]


def test_ranks_pay_for_their_links():
    one, two = work(), work(tensor=2)
    over_pcie = rates_of(gpu("L40S-48GB"))
    assert over_pcie is not None
    assert not over_pcie.nvlink
    step = Step(1, 1)
    assert gpu_seconds(two, h100(), step) < gpu_seconds(one, h100(), step)
    waits = gpu_seconds(two, over_pcie, step) - gpu_seconds(two, over_pcie, step, Constants(hop=0))
    assert waits == pytest.approx(64 * Constants().hop)
    prompt = Step(0, 0, prefill=8192, behind=1, prompts=1)
    carried = 64 * 8192 * 4096 * 2
    moved = gpu_seconds(two, over_pcie, prompt) - gpu_seconds(two, over_pcie, prompt, Constants(link=1e9))
    assert moved == pytest.approx(carried / (31.5e9 * Constants().link), rel=0.01)


def test_stages_hand_over_once():
    step = Step(64, 1)
    handed = gpu_seconds(work(pipeline=3), h100(), step, BARE) - gpu_seconds(work(), h100(), step, BARE)
    assert handed == pytest.approx(2 * 64 * 4096 * 2 / 450e9)


def test_the_host_works_beside_the_gpu_or_after_it():
    llama, step = work(), Step(8, 100)
    gpus = gpu_seconds(llama, h100(), step)
    host = Constants().step + 8 * Constants().sequence
    assert step_seconds(llama, h100(), MODERN, step) == max(gpus, host)
    assert step_seconds(llama, h100(), HostSide(False, 2.0), step) == pytest.approx(gpus + 2 * host)


def test_rates_of_every_gpu_and_of_nothing_else():
    assert all(rates_of(gpu(model.key)) for model in CATALOGUE)
    assert rates_of(gpu("GTX-480")) is None
    assert rates_of(Kind("cpu-1gib", CPU, 2**30)) is None


def test_a_mig_slice_has_its_share():
    whole, part = h100(), rates_of(Kind("H100-SXM-80GB/3g.40gb", CUDA, 40 * 2**30, sliced=True))
    assert part is not None
    assert part.memory == pytest.approx(whole.memory * 3 / 7)
    assert part.multiplying(16) == pytest.approx(whole.multiplying(16) * 3 / 7)


@settings(deadline=None)
@given(
    decoding=st.floats(0, 1024),
    context=st.floats(0, 1e6),
    prefill=st.floats(0, 16384),
    slower=st.floats(0.1, 1.0),
    share=st.sampled_from(["memory", "gemm", "experts", "attention", "link"]),
    config=st.sampled_from([LLAMA_8B, MIXTRAL, LATENT]),
    tensor=st.sampled_from([1, 2, 4]),
)
def test_more_to_do_or_less_to_do_it_with_never_takes_less(decoding, context, prefill, slower, share, config, tensor):
    model, rates = work(config, tensor), h100()
    step = Step(decoding, context, prefill, prefill / 2, 1)
    seconds = gpu_seconds(model, rates, step)
    assert seconds >= gpu_seconds(model, rates, Step(decoding / 2, context, prefill, prefill / 2, 1))
    assert seconds >= gpu_seconds(model, rates, Step(decoding, context / 2, prefill, prefill / 2, 1))
    assert seconds >= gpu_seconds(model, rates, Step(decoding, context, prefill / 2, prefill / 2, 1))
    lower = replace(Constants(), **{share: getattr(Constants(), share) * slower})
    assert gpu_seconds(model, rates, step, lower) >= seconds
    less = replace(rates, memory=rates.memory * slower)
    assert gpu_seconds(model, less, step) >= seconds
