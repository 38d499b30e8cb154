# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import re

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._model_catalogue import (
    BY_NAME,
    ROWS,
    UnknownModelError,
    lookup,
    nearest,
    shape,
)
from ansible_collections.gpufleet.serving.plugins.module_utils._model_tensors import tensors

ITEM_BYTES = 2

STORED = [row for row in ROWS if row.stored_bytes is not None]
IDS = [row.names[0] for row in STORED]


@pytest.mark.parametrize("row", STORED, ids=IDS)
def test_dimensions_give_the_announced_size_to_the_byte(row):
    sized = shape(row.names[0])
    assert sum(tensor.elements for tensor in tensors(sized)) * ITEM_BYTES == row.stored_bytes == sized.weight_bytes
    assert sized.parameter_count * ITEM_BYTES == row.stored_bytes


PARAMETERS = {
    # As the model cards, the papers of the models or the hub's count of their safetensors tell them.
    "meta-llama/Llama-3.1-8B-Instruct": 8.03e9,
    "meta-llama/Llama-3.3-70B-Instruct": 70.6e9,
    "meta-llama/Llama-3.1-405B-Instruct": 406e9,
    "meta-llama/Llama-2-7b-hf": 6.74e9,
    "meta-llama/Llama-2-13b-hf": 13.0e9,
    "meta-llama/Llama-2-70b-hf": 69.0e9,
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": 108.6e9,
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct": 401.6e9,
    "codellama/CodeLlama-34b-Instruct-hf": 33.7e9,
    "01-ai/Yi-34B": 34.4e9,
    "deepseek-ai/deepseek-coder-33b-instruct": 33.3e9,
    "mistralai/Mistral-Large-Instruct-2407": 122.6e9,
    "mistralai/Mistral-Small-3.2-24B-Instruct-2506": 24.0e9,
    "mistralai/Mixtral-8x7B-v0.1": 46.7e9,
    "mistralai/Mixtral-8x22B-v0.1": 140.6e9,
    "Qwen/Qwen3-0.6B": 0.596e9,
    "Qwen/Qwen3-1.7B": 1.72e9,
    "Qwen/Qwen3-32B-FP8": 32.8e9,
    "Qwen/Qwen3-30B-A3B": 30.53e9,
    "Qwen/Qwen3-235B-A22B": 235.09e9,
    "Qwen/Qwen3-Coder-480B-A35B-Instruct": 480.15e9,
    "Qwen/Qwen3-Next-80B-A3B-Instruct": 79.67e9,
    "Qwen/Qwen3-VL-2B-Instruct": 2.127e9,
    "Qwen/Qwen3-VL-235B-A22B-Instruct": 235.67e9,
    "Qwen/Qwen2.5-VL-3B-Instruct": 3.754622976e9,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8.292166656e9,
    "Qwen/Qwen2-VL-2B-Instruct": 2.208985600e9,
    "google/gemma-2b-it": 2.506172416e9,
    "google/gemma-7b-it": 8.537680896e9,
    "google/gemma-2-2b-it": 2.614341888e9,
    "google/gemma-2-9b-it": 9.241705984e9,
    "google/gemma-2-27b-it": 27.227128320e9,
    "google/gemma-3-1b-it": 0.999885952e9,
    "google/gemma-3-4b-it": 4.300079472e9,
    "google/gemma-3-12b-it": 12.187325040e9,
    "google/gemma-3-27b-it": 27.432406640e9,
    "microsoft/phi-4": 14.66e9,
    "microsoft/Phi-4-mini-instruct": 3.836e9,
    "allenai/OLMo-2-1124-7B-Instruct": 7.30e9,
    "allenai/OLMo-2-0325-32B-Instruct": 32.23e9,
    "openai/gpt-oss-20b": 20.91e9,
    "openai/gpt-oss-120b": 116.83e9,
    "deepseek-ai/DeepSeek-R1": 671.03e9,
    "deepseek-ai/DeepSeek-V2.5": 235.74e9,
    "deepseek-ai/DeepSeek-V2-Lite": 15.706e9,
    "moonshotai/Kimi-K2-Instruct": 1026.4e9,
    "moonshotai/Kimi-Linear-48B-A3B-Instruct": 49.12e9,
    "zai-org/GLM-4.5-Air": 106.85e9,
    "MiniMaxAI/MiniMax-M2": 228.7e9,
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": 31.6e9,
    "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-FP8": 120.7e9,
    "nvidia/Llama-3_3-Nemotron-Super-49B-v1": 49.87e9,
    "llava-hf/llava-1.5-7b-hf": 7.06e9,
}


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_parameter_counts(name, parameters):
    assert shape(name).parameter_count == pytest.approx(parameters, rel=0.002)


def test_every_row_is_sized_and_names_its_source():
    for name, row in BY_NAME.items():
        assert shape(name).provenance == "catalogue"
        assert row.source
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", name), name


def test_no_name_stands_twice():
    assert len(BY_NAME) == sum(len(row.names) for row in ROWS)


@pytest.mark.parametrize(
    ("name", "quantization", "granularity", "kv_cache_dtype"),
    [
        ("Qwen/Qwen3-32B-FP8", "fp8", "block", None),
        ("nvidia/Llama-3.1-70B-Instruct-FP8", "fp8", "tensor", "fp8"),
        ("RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic", "fp8", "channel", None),
        ("Qwen/Qwen3-32B", None, None, None),
    ],
)
def test_quantisation(name, quantization, granularity, kv_cache_dtype):
    sized = shape(name)
    assert (sized.quantization, sized.quantization_granularity) == (quantization, granularity)
    assert sized.kv_cache_dtype == kv_cache_dtype


def test_models_of_the_example_inventories_are_known():
    for name in ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Llama-3.1-70B-Instruct", "Qwen/Qwen2.5-72B-Instruct"):
        assert lookup(name).names


UNKNOWN = {
    "meta-llama/Llama-3.1-8b-Instruct": "nearest: meta-llama/Llama-3.1-8B-Instruct, ",
    "Qwen3-14B": "nearest: Qwen/Qwen3-14B, ",
    "me/zzzzzz": "it holds {count} models, none with a similar name",
}


@pytest.mark.parametrize(("name", "hint"), UNKNOWN.items())
def test_unknown_name_is_answered_with_the_nearest(name, hint):
    start = re.escape(f"the built-in catalogue has no model {name} ({hint.format(count=len(BY_NAME))}")
    end = re.escape("). Give a directory with its config.json and weights instead")
    with pytest.raises(UnknownModelError, match=f"^{start}.*{end}$"):
        shape(name)


def test_nearest_sees_neither_case_nor_owner():
    assert nearest("somebody/MISTRAL-7b-instruct-V0.3")[0] == "mistralai/Mistral-7B-Instruct-v0.3"
