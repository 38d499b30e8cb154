# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._benchmark import (
    BenchmarkError,
    Load,
    command,
    environment,
    read_result,
)

# recorded from vllm bench serve 0.32.0, without the times of single requests
REPORT = (Path(__file__).parent / "fixtures/benchmark/cpu-0.32.0.json").read_text(encoding="utf-8")
LOAD = Load(concurrency=4, prompt_tokens=100, output_tokens=20, num_prompts=16)
UNIT = {
    "name": "llama-0",
    "address": "fd00::11",
    "port": 8001,
    "engine_path": "/opt/gpufleet/engine/cuda-0.33.0",
    "model_path": "/var/lib/gpufleet/models/llama/0123",
    "config": {"served_model_name": "org/llama"},
    "engine_args": {},
}


def option(words, name):
    return words[words.index(f"--{name}") + 1]


def test_the_command_drives_the_load_at_the_engine_itself():
    words = command(UNIT, LOAD, "/run/folder", seed=7)
    assert words[:3] == ["/opt/gpufleet/engine/cuda-0.33.0/bin/vllm", "bench", "serve"]
    told = {name: option(words, name) for name in ("base-url", "tokenizer", "served-model-name", "seed", "result-dir")}
    assert told == {
        "base-url": "http://[fd00::11]:8001",
        "tokenizer": "/var/lib/gpufleet/models/llama/0123",
        "served-model-name": "org/llama",
        "seed": "7",
        "result-dir": "/run/folder",
    }
    numbers = ("random-input-len", "random-output-len", "num-prompts", "max-concurrency")
    assert [option(words, name) for name in numbers] == ["100", "20", "16", "4"]
    assert "--trust-remote-code" not in words


def test_a_tokenizer_of_its_own_is_the_tools_too():
    arguments = {"tokenizer": "/srv/tokenizer", "tokenizer_mode": "mistral", "trust_remote_code": True}
    words = command({**UNIT, "engine_args": arguments}, LOAD, "/run/folder", seed=7)
    assert option(words, "tokenizer") == "/srv/tokenizer"
    assert option(words, "tokenizer-mode") == "mistral"
    assert "--trust-remote-code" in words


def test_the_key_is_in_the_environment_and_nowhere_else():
    assert environment(UNIT, "s3cret", "/run/folder")["OPENAI_API_KEY"] == "s3cret"
    assert "s3cret" not in " ".join(command(UNIT, LOAD, "/run/folder", seed=7))


def test_a_recorded_report():
    assert read_result(REPORT, LOAD) == {
        "concurrency": 4,
        "prompt_tokens": 100,
        "output_tokens": 20,
        "num_prompts": 16,
        "requests_per_second": 39.039,
        "output_tokens_per_second": 780.8,
        "ttft_ms": {"p50": 34.68, "p99": 41.28},
        "tpot_ms": {"p50": 3.44, "p99": 5.62},
        "itl_ms": {"p50": 2.95, "p99": 9.4},
    }


def test_a_report_with_failures_is_no_figure():
    failed = json.dumps({**json.loads(REPORT), "completed": 12, "failed": 4})
    with pytest.raises(BenchmarkError, match="12 of 16 requests were answered"):
        read_result(failed, LOAD)


@pytest.mark.parametrize("text", ["", "[]", "{}", REPORT.replace("p99_itl_ms", "p95_itl_ms")])
def test_a_report_that_says_something_else(text):
    with pytest.raises(BenchmarkError, match="its report cannot be read"):
        read_result(text, LOAD)
