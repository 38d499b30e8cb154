# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils import _engine_flags as engine_flags

ENGINES = [("cpu", "0.31.0"), ("cpu", "0.32.0"), ("cuda", "0.33.0")]

# the engine's own words that a plan is written in, and what a unit cannot do without (vLLM, engine/arg_utils.py)
INDISPENSABLE = {
    *("model", "served_model_name", "host", "port", "max_model_len", "dtype", "quantization", "shutdown_timeout"),
    *("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "distributed_executor_backend"),
    *("gpu_memory_utilization", "max_num_seqs", "max_num_batched_tokens", "kv_cache_dtype", "compilation_config"),
    *("nnodes", "node_rank", "master_addr", "master_port", "headless", "enable_auto_tool_choice", "trust_remote_code"),
}


@pytest.mark.parametrize(("variant", "version"), ENGINES)
def test_the_words_of_a_plan_are_known(variant, version):
    assert engine_flags.known(variant, version) >= INDISPENSABLE


@pytest.mark.parametrize(("variant", "version"), ENGINES)
def test_flags_are_in_the_spelling_of_the_module(variant, version):
    known = engine_flags.known(variant, version)
    assert known == {engine_flags.normalised(flag) for flag in known}
    assert "help" not in known
    assert not {flag for flag in known if f"no_{flag}" in known}


def test_versions_differ():
    assert engine_flags.known("cuda", "0.33.0") - engine_flags.known("cpu", "0.32.0") == {
        "monokernel",
        "reasoning_effort_map",
        "sleep_mode_backend",
        "watchdog_config",
    }


@pytest.mark.parametrize(
    ("written", "flag"),
    [("--max-model-len", "max_model_len"), ("max-model-len", "max_model_len"), (" max_model_len", "max_model_len")],
)
def test_spellings(written, flag):
    assert engine_flags.normalised(written) == flag


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("max_model_length", "max_model_len"),
        ("--tensor-paralel-size", "tensor_parallel_size"),
        ("enable_auto_tool_choise", "enable_auto_tool_choice"),
        ("xyzzy", None),
    ],
)
def test_nearest(written, meant):
    assert engine_flags.nearest(written, "cuda", "0.33.0") == meant


@pytest.mark.parametrize(("variant", "version"), ENGINES)
def test_parsers_are_recorded_with_every_engine(variant, version):
    parsers = engine_flags.parsers(variant, version)
    assert set(parsers) == {"tool_call_parser", "reasoning_parser"} <= engine_flags.known(variant, version)
    assert parsers["tool_call_parser"] >= {"llama3_json", "hermes", "openai"}
    assert parsers["reasoning_parser"] >= {"deepseek_r1", "qwen3"}


@pytest.mark.parametrize(("variant", "version"), ENGINES)
def test_an_engine_lacks_what_its_parser_does_not_tell(variant, version):
    options = {f"--{flag.replace('_', '-')}" for flag in engine_flags.known(variant, version)} | {"--of-its-own"}
    assert engine_flags.lacking(options, variant, version) == []
    gone = options - {"--max-model-len", "--tensor-parallel-size"}
    assert engine_flags.lacking(gone, variant, version) == ["max_model_len", "tensor_parallel_size"]


def test_nothing_is_asked_of_an_engine_that_nothing_is_recorded_of():
    assert engine_flags.lacking([], "cpu", "9.0.0") == []


def test_recorded_versions_are_told():
    assert engine_flags.recorded("cpu") == ["0.31.0", "0.32.0"]
    assert engine_flags.recorded("tpu") == []


@pytest.mark.parametrize(
    ("variant", "version", "text"),
    [
        ("cpu", "0.33.0", "no flags are recorded for vLLM 0.33.0 (cpu); known: 0.31.0, 0.32.0"),
        ("tpu", "0.33.0", "no flags are recorded for vLLM 0.33.0 (tpu); known: none"),
    ],
)
def test_an_unrecorded_engine_is_refused(variant, version, text):
    with pytest.raises(engine_flags.UnrecordedEngine) as refused:
        engine_flags.known(variant, version)
    assert str(refused.value) == text
