# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils import _model_catalogue
from ansible_collections.gpufleet.serving.plugins.module_utils._model import ModelShape
from ansible_collections.gpufleet.serving.plugins.module_utils._model_config import shape_from_config
from ansible_collections.gpufleet.serving.plugins.plugin_utils._parallelism import (
    layouts,
    tensor_sizes,
    why_not_context,
    why_not_pipeline,
    why_not_tensor,
)
from ansible_collections.gpufleet.serving.plugins.plugin_utils._weights import Layout
from ansible_collections.gpufleet.serving.plugins.plugin_utils._wishes import Model, Source
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.fleets import LLAMA_8B, TINY


def model(**options):
    return Model("m", Source("host", "/m"), "m", **options)


SIX_HEADS = {
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "hidden_size": 384,
    "intermediate_size": 768,
    "vocab_size": 768,
}


def shape(**changes):
    return shape_from_config(TINY | changes)


@pytest.mark.parametrize(
    ("changes", "sizes"),
    [
        ({}, [1, 2, 4]),
        (SIX_HEADS, [1, 3, 6]),
        # heads divide by 4, key-value heads neither by 4 nor 4 by them
        (SIX_HEADS | {"num_attention_heads": 12, "num_key_value_heads": 6}, [1, 2, 3, 6, 12]),
        # and so does the vocabulary, which is padded to 64 rows and to no more
        (SIX_HEADS | {"vocab_size": 512}, [1]),
        # the columns of the feed-forward layers count too
        ({"intermediate_size": 510}, [1, 2]),
    ],
)
def test_heads_key_value_heads_and_columns_decide_the_tensor_sizes(changes, sizes):
    assert tensor_sizes(shape(**changes), 16) == sizes


def test_the_reason_names_the_number_that_does_not_divide():
    assert why_not_tensor(shape(), 3) == "tensor_parallel_size 3 does not divide its 4 attention heads"
    assert (
        why_not_tensor(shape(intermediate_size=510), 4)
        == "tensor_parallel_size 4 does not divide intermediate_size (510)"
    )
    assert why_not_tensor(shape(), 2) is None


def test_blocks_of_fp8_scales_stay_whole():
    blocks = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    assert "fp8 blocks of 128" in why_not_tensor(shape(intermediate_size=640, quantization_config=blocks), 2)


@pytest.mark.parametrize(
    ("changes", "stages", "reason"),
    [
        ({}, 4, None),
        ({}, 5, "pipeline_parallel_size 5 is more than its 4 layers"),
        ({"supports_pipeline": False}, 1, None),
        ({"supports_pipeline": False}, 2, "the engine has no pipeline parallelism for LlamaForCausalLM"),
    ],
)
def test_a_pipeline_has_a_layer_a_stage_and_a_model_that_knows_it(changes, stages, reason):
    given = ModelShape.from_dict(shape().to_dict() | changes)
    assert why_not_pipeline(given, stages) == reason


@pytest.mark.parametrize(
    ("wishes", "devices", "expected"),
    [
        ({}, 1, {(1, 1)}),
        ({}, 4, {(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (1, 3), (1, 4)}),
        ({"tensor_parallel_size": 2}, 4, {(2, 1), (2, 2)}),
        ({"pipeline_parallel_size": 2}, 4, {(1, 2), (2, 2)}),
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, 4, {(2, 2)}),
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 2}, 3, set()),
        ({"tensor_parallel_size": 3}, 8, set()),
    ],
)
def test_layouts_are_all_that_the_wishes_leave_open(wishes, devices, expected):
    found = set(layouts(model(**wishes), shape(), devices))
    assert found == {Layout(tensor, pipeline) for tensor, pipeline in expected}


def test_key_value_heads_are_copied_where_there_are_more_ranks():
    assert tensor_sizes(shape_from_config(LLAMA_8B), 32) == [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize(
    ("name", "context_ranks", "tensor", "words"),
    [
        ("deepseek-ai/DeepSeek-R1", 8, 8, None),
        ("deepseek-ai/DeepSeek-R1", 4, 8, None),
        ("deepseek-ai/DeepSeek-R1", 3, 8, "does not divide tensor_parallel_size 8"),
        ("meta-llama/Llama-3.1-8B", 1, 1, None),
        ("meta-llama/Llama-3.1-8B", 2, 16, None),
        ("meta-llama/Llama-3.1-8B", 2, 8, "tensor_parallel_size 16 or more with its 8 key-value heads, and it is 8"),
        ("Qwen/Qwen2.5-0.5B", 2, 14, "does not divide its 7 attention heads a key-value head"),
        ("openai/gpt-oss-20b", 2, 16, "some of its layers have a window"),
    ],
)
def test_tokens_are_dealt_out_among_ranks_that_would_keep_the_same(name, context_ranks, tensor, words):
    """Source: vLLM 0.33, config/model.py verify_with_parallel_config."""
    why = why_not_context(model(decode_context_parallel_size=context_ranks), _model_catalogue.shape(name), tensor)
    assert (why is None) if words is None else (words in why)


def test_layers_that_draft_keep_every_token_on_every_rank():
    drafting = model(decode_context_parallel_size=2, engine_args={"speculative_config": {"method": "mtp"}})
    assert "draft" in why_not_context(drafting, _model_catalogue.shape("deepseek-ai/DeepSeek-R1"), 8)
