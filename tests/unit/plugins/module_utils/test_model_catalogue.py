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
    # As the model cards and the papers of the models round them.
    "meta-llama/Llama-3.1-8B-Instruct": 8.03e9,
    "meta-llama/Llama-3.3-70B-Instruct": 70.6e9,
    "meta-llama/Llama-3.1-405B-Instruct": 406e9,
    "meta-llama/Llama-2-7b-hf": 6.74e9,
    "codellama/CodeLlama-34b-Instruct-hf": 33.7e9,
    "01-ai/Yi-34B": 34.4e9,
    "Qwen/Qwen3-0.6B": 0.596e9,
    "Qwen/Qwen3-1.7B": 1.72e9,
    "Qwen/Qwen3-32B-FP8": 32.8e9,
    "microsoft/phi-4": 14.7e9,
}


@pytest.mark.parametrize(("name", "parameters"), PARAMETERS.items())
def test_parameter_counts(name, parameters):
    assert shape(name).parameter_count == pytest.approx(parameters, rel=0.005)


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
