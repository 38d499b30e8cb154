# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils import _model_catalogue
from ansible_collections.gpufleet.serving.plugins.module_utils._model import ShardingError
from ansible_collections.gpufleet.serving.plugins.module_utils._model_tensors import tensors
from ansible_collections.gpufleet.serving.plugins.plugin_utils._text import GIB
from ansible_collections.gpufleet.serving.plugins.plugin_utils._weights import (
    EXPERT_TILES,
    HOPPER_TILES,
    MIB,
    Holding,
    Layout,
    holding,
    stage_weights,
)

GPU = Holding(paged=True, tiles=EXPERT_TILES)
HOPPER = Holding(paged=True, tiles=HOPPER_TILES)

# What start-up logs print for one rank, in GiB.
PRINTED = {
    "tables of 131,072 positions": ("meta-llama/Llama-3.1-8B-Instruct", Layout(), GPU, 14.9889),
    "tied": ("Qwen/Qwen3-4B", Layout(), GPU, 7.5552),
    "pages of 2 MiB": ("Qwen/Qwen2.5-14B-Instruct", Layout(), GPU, 27.5681),
    "pages of two ranks": ("deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", Layout(2), GPU, 13.9476),
    "pages of four ranks": ("Qwen/Qwen2.5-32B-Instruct", Layout(4), GPU, 15.39),
    "eight ranks": ("Qwen/Qwen3-32B", Layout(8), GPU, 7.6871),
    "biases": ("Qwen/Qwen2.5-7B-Instruct", Layout(2), GPU, 7.1217),
    "a mixture": ("Qwen/Qwen3-30B-A3B-Instruct-2507", Layout(), GPU, 56.9342),
    "8 bits in blocks, whole experts": (
        "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", Layout(8), dataclasses.replace(GPU, expert_parallel_size=8), 27.7183,
    ),
    "8 bits of integers": ("neuralmagic/Meta-Llama-3.1-70B-Instruct-quantized.w8a8", Layout(), GPU, 67.7229),
    "4 bits of integers": ("Qwen/Qwen2.5-Coder-32B-Instruct-AWQ", Layout(), GPU, 18.1425),
    "4 bits in tiles of Marlin": ("openai/gpt-oss-120b", Layout(), GPU, 65.9651),
    "the same on four ranks": ("openai/gpt-oss-120b", Layout(4), GPU, 17.2217),
    "the same on two of Hopper": ("openai/gpt-oss-120b", Layout(2), HOPPER, 32.98),
    "the same on one of Hopper": ("openai/gpt-oss-20b", Layout(), HOPPER, 13.47),
    "linear attention and an encoder": ("Qwen/Qwen3.5-9B", Layout(), GPU, 17.66),
    "the same on four ranks, in part": ("Qwen/Qwen3.5-9B", Layout(4), GPU, 4.52),
    "experts, linear attention, an encoder": ("Qwen/Qwen3.5-35B-A3B", Layout(), GPU, 65.53),
    "a model without its head": ("Qwen/Qwen3-Embedding-8B", Layout(), GPU, 14.11),
    "an encoder of pictures": ("Qwen/Qwen2-VL-2B-Instruct", Layout(), GPU, 4.1513),
    "draft layers": ("Qwen/Qwen3.8-27B-FP8", Layout(), dataclasses.replace(GPU, drafts=True), 28.95),
    "adapters": ("Qwen/Qwen3-8B", Layout(2), dataclasses.replace(GPU, lora_rank=16, lora_count=1), 7.70),
}  # fmt: skip


@pytest.mark.parametrize(("name", "layout", "held", "printed"), PRINTED.values(), ids=PRINTED)
def test_weights_as_start_up_logs_print_them(name, layout, held, printed):
    found = max(stage_weights(_model_catalogue.shape(name), layout, held)) / GIB
    assert found == pytest.approx(printed, rel=0.004)


# Bytes that the indexes of checkpoints, or the hub's listings of their files, announce; some round to 0.1 GB.
STORED = {
    "openai/gpt-oss-20b": 13.76e9,
    "openai/gpt-oss-120b": 65.25e9,
    "Qwen/Qwen3-32B-AWQ": 19.33e9,
    "Qwen/Qwen2.5-7B-Instruct-AWQ": 5.57e9,
    "Qwen/Qwen3-235B-A22B-FP8": 236.4e9,
    "moonshotai/Kimi-K2-Thinking": 594e9,
    "nvidia/Qwen3.6-27B-NVFP4": 19.62 * GIB,
}


@pytest.mark.parametrize(("name", "stored"), STORED.items(), ids=STORED)
def test_quantised_weights_have_the_size_of_their_files(name, stored):
    assert sum(tensor.stored_bytes for tensor in tensors(_model_catalogue.shape(name))) == pytest.approx(
        stored, rel=0.004
    )


def test_only_large_weights_lie_in_pages_of_their_own():
    """Of a layer of Qwen2.5 14B only the down projection, of 135 MiB, ends in the middle of a page; embedding and
    head, of 1,485 MiB, do too."""
    shape = _model_catalogue.shape("Qwen/Qwen2.5-14B-Instruct")
    (plain,), (paged,) = stage_weights(shape, Layout()), stage_weights(shape, Layout(), Holding(paged=True))
    assert (paged - plain - shape.rotary_elements * 2) // MIB == shape.num_hidden_layers + 2


def test_whole_experts_need_no_width_that_divides():
    shape = _model_catalogue.shape("Qwen/Qwen3-235B-A22B-FP8")
    with pytest.raises(ShardingError, match="cuts the fp8 blocks of 128"):
        stage_weights(shape, Layout(8))
    cut = sum(stage_weights(shape, Layout(4), Holding(expert_parallel_size=4)))
    assert cut == pytest.approx(sum(stage_weights(shape, Layout(4))), rel=0.001)


def test_quantised_latent_projections_are_kept_in_16_bits_as_well():
    shape = _model_catalogue.shape("deepseek-ai/DeepSeek-R1")
    whole = dataclasses.replace(shape, quantization_ignored=("*.kv_b_proj",))
    copies = 61 * (128 // 8) * (128 + 128) * 512 * 2
    paged, plain = (stage_weights(shape, Layout(8), held)[0] for held in (GPU, Holding()))
    paged_whole, plain_whole = (stage_weights(whole, Layout(8), held)[0] for held in (GPU, Holding()))
    assert (paged - plain) - (paged_whole - plain_whole) == copies


HOLDINGS = {
    "nothing said": ({}, (8, 0), Layout(4), GPU),
    "Hopper": ({}, (9, 0), Layout(4), HOPPER),
    "whole experts": (
        {"enable_expert_parallel": True}, (8, 0), Layout(4), dataclasses.replace(GPU, expert_parallel_size=4),
    ),
    "whole experts over copies": (
        {"enable_expert_parallel": True}, (8, 0), Layout(4, data_parallel_size=2),
        dataclasses.replace(GPU, expert_parallel_size=8),
    ),
    "adapters": (
        {"enable_lora": True, "max_loras": 4}, (8, 0), Layout(4), dataclasses.replace(GPU, lora_rank=16, lora_count=4),
    ),
    "drafts": ({"speculative_config": '{"method": "mtp"}'}, (8, 0), Layout(4), dataclasses.replace(GPU, drafts=True)),
    "drafts of another model": ({"speculative_config": {"method": "eagle3"}}, (8, 0), Layout(4), GPU),
    "no JSON": ({"speculative_config": "mtp"}, (8, 0), Layout(4), GPU),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "capability", "layout", "expected"), HOLDINGS.values(), ids=HOLDINGS)
def test_how_ranks_hold_weights(arguments, capability, layout, expected):
    assert holding(arguments, capability, layout) == expected
