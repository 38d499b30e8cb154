# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import math
import pathlib

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._roofline import MODERN
from ansible_collections.gpufleet.serving.tests.accuracy import throughput, throughput_rows, throughput_runs
from ansible_collections.gpufleet.serving.tests.accuracy.throughput_rows import (
    BURST,
    CLOSED,
    OPEN,
    SERIAL_V0,
    SERIAL_V1,
    LeftOutError,
    Models,
    case_of,
    gpu_of,
    host_side,
    plain_name,
)

DATA = pathlib.Path(throughput.__file__).parent / "data"
CONFIGURATIONS = DATA / "model_configs.json"

ROW = {
    "id": "made-up",
    "source": "github:somebody/something results.csv",
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "quantization": None,
    "dtype": "bf16",
    "gpu": "NVIDIA H100 SXM 80GB",
    "gpu_count": 1,
    "tp": 1,
    "pp": 1,
    "dp": 1,
    "engine": "vLLM",
    "engine_version": "0.20.0",
    "input_tokens": 1000,
    "output_tokens": 300,
    "dataset": "random",
    "request_rate": "inf",
    "max_concurrency": 32,
    "output_tok_per_s": 3000.0,
    "tpot_ms_mean": 10.0,
    "note": "",
}


@pytest.fixture(scope="module")
def models():
    return Models(CONFIGURATIONS)


def case(models, **changes):
    return case_of(ROW | changes, models)


GPUS = {
    "NVIDIA H100 SXM5 80GB": "H100-SXM-80GB",
    "NVIDIA H100": "H100-SXM-80GB",
    "H100 PCIe": "H100-PCIE-80GB",
    "NVIDIA H100 NVL 94GB": "H100-NVL-94GB",
    "NVIDIA H200 SXM 141GB": "H200-SXM-141GB",
    "NVIDIA B200 192GB": "B200-SXM-180GB",
    "NVIDIA A100-SXM4-80GB": "A100-SXM-80GB",
    "A100 40GB SXM": "A100-SXM-40GB",
    "NVIDIA H20 96GB": "H20-SXM-96GB",
    "L40S": "L40S-48GB",
    "NVIDIA GeForce RTX 4090": "RTX-4090-24GB",
    "RTX 5060 Ti 16GB": "RTX-5060-TI-16GB",
    "RTX 6000 Ada": "RTX-6000-ADA-48GB",
    "Tesla T4": "T4-16GB",
    "AMD Instinct MI300X": None,
    "": None,
}


@pytest.mark.parametrize(("name", "key"), GPUS.items(), ids=repr)
def test_a_gpu_in_any_spelling(name, key):
    found = gpu_of(name)
    assert (found.key if found else None) == key


NAMES = {
    "meta-llama/Meta-Llama-3.1-70B-Instruct": "llama-3.1-70b",
    "RedHatAI/Llama-3.1-70B-Instruct-quantized.w4a16": "llama-3.1-70b",
    "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8": "qwen3-235b-a22b",
    "mistralai/Mistral-7B-v0.1": "mistral-7b",
    "deepseek-ai/DeepSeek-R1-0528": "deepseek-r1",
    "Qwen2.5-7B (bf16)": "qwen2.5-7b",
    "": "",
}


@pytest.mark.parametrize(("name", "plain"), NAMES.items(), ids=repr)
def test_a_model_without_its_maker_and_its_storage(name, plain):
    assert plain_name(name) == plain


STORED = {
    "as made": ("openai/gpt-oss-120b", None, None, "mxfp4"),
    "a stated 16-bit copy of an FP8 configuration": ("Qwen/Qwen3-235B-A22B-Instruct-2507", None, "bf16", None),
    "FP8 by its maker": ("deepseek-ai/DeepSeek-R1", None, "bf16", "fp8"),
    "by the name alone": ("Qwen/Qwen3-32B-AWQ", None, None, "int4"),
    "nvfp4": ("nvidia/Qwen3-8B-NVFP4", "nvfp4", None, "nvfp4"),
    "a dialect": ("meta-llama/Llama-3.1-8B-Instruct", "fp8-dynamic", None, "fp8"),
}


@pytest.mark.parametrize(("model", "stated", "dtype", "word"), STORED.values(), ids=STORED)
def test_how_weights_are_stored(models, model, stated, dtype, word):
    assert models.shape({"model": model, "quantization": stated, "dtype": dtype}).quantization == word


def test_mixtures_in_nvfp4_keep_attention_in_16_bits(models):
    shape = models.shape({"model": "MiniMaxAI/MiniMax-M2.5", "quantization": "nvfp4"})
    assert "*self_attn*" in shape.quantization_ignored


LEFT_OUT = {
    "an unknown model": ({"model": "acme/none-of-those-1B"}, "model not known: acme/none-of-those-1B"),
    "no model": ({"model": None}, "model not known"),
    "an unknown GPU": ({"gpu": "AMD Instinct MI300X"}, "GPU not known: AMD Instinct MI300X"),
    "no GPU": ({"gpu": None}, "GPU not known"),
    "another engine": ({"engine": "SGLang"}, "engine is SGLang"),
    "no lengths": ({"output_tokens": None}, "lengths not stated"),
    "no load": ({"max_concurrency": None, "request_rate": None}, "load not stated"),
    "nothing measured": ({"output_tok_per_s": None, "tpot_ms_mean": None}, "neither throughput nor time"),
    "eager": ({"note": "ENFORCE-EAGER server"}, "without CUDA graphs"),
    "several steps at once": ({"note": "multi-step scheduling"}, "multi-step"),
    "speculation": ({"id": "x_spec-mtp_1"}, "speculative decoding"),
    "attention in parallel": ({"model": "openai/gpt-oss-120b", "dp": 2}, "data parallel attention"),
    "sizes that do not divide": ({"tp": 3}, "model not sized"),
    "mixed formats": ({"quantization": "qat-mixed-int2-4-8"}, "quantisation not told"),
}


@pytest.mark.parametrize(("changes", "reason"), LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_is_left_out_and_why(models, changes, reason):
    with pytest.raises(LeftOutError, match=reason):
        case(models, **changes)


LOADS = {
    "clients": ({}, CLOSED),
    "a rate": ({"max_concurrency": None, "request_rate": "4.0"}, OPEN),
    "all at once": ({"max_concurrency": None, "num_prompts": 500}, BURST),
}


@pytest.mark.parametrize(("changes", "load"), LOADS.values(), ids=LOADS)
def test_loads(models, changes, load):
    found = case(models, **changes)
    assert found.load == load
    assert throughput_runs.predict(found).tokens_per_second > 0


SIDES = {
    "0.20.0": MODERN,
    "nightly-5b8c": MODERN,
    "v0.11.0": SERIAL_V1,
    "0.6.3.post2.dev308": SERIAL_V0,
    None: SERIAL_V1,
}


@pytest.mark.parametrize(("version", "side"), SIDES.items(), ids=repr)
def test_the_host_side_by_version(version, side):
    assert host_side({"engine_version": version}) == side


def test_the_host_side_by_year():
    assert host_side({"note": "vLLM version not stated (2024)"}) == SERIAL_V0


DERIVED = {
    "stated": ({}, 3000.0),
    "requests/s": ({"output_tok_per_s": None, "req_per_s": 9}, 2700.0),
    "all tokens/s": ({"output_tok_per_s": None, "total_tok_per_s": 13000}, 3000.0),
    "TTFT and TPOT": ({"output_tok_per_s": None, "ttft_ms_mean": 10}, 32 * 300 / 3.0),
}


@pytest.mark.parametrize(("way", "changes", "value"), [(way, *found) for way, found in DERIVED.items()], ids=DERIVED)
def test_where_throughput_comes_from(models, way, changes, value):
    found = case(models, **changes)
    assert found.derived == way
    assert found.tokens_per_second == pytest.approx(value)


def test_replicas_share_the_load(models):
    found = case(models, dp=4, gpu_count=4)
    assert (found.concurrency, found.tokens_per_second) == (8, 750)


def test_flags_in_notes_count(models):
    found = case(models, note="TP8 + expert parallel, max-num-seqs 64, max-num-batched-tokens 4096")
    assert (found.server.sequences, found.server.batch_tokens) == (64, 4096)


def test_a_smaller_board_of_the_same_name(models):
    whole = case(models, gpu="NVIDIA A100", tp=2, note="")
    small = case(models, gpu="NVIDIA A100", tp=2, note="ALCF Polaris nodes are 40GB")
    long = {"tp": 1, "input_tokens": 60000, "gpu": "NVIDIA A100"}
    assert whole.server.rates == small.server.rates
    assert case(models, **long).server.sequences > case(models, **long, note="nodes of 40GB").server.sequences


def test_the_last_requests_cost_time(models):
    endless = throughput_runs.predict(case(models))
    short = throughput_runs.predict(case(models, num_prompts=64))
    uneven = throughput_runs.predict(case(models, num_prompts=64, dataset="ShareGPT"))
    assert endless.tokens_per_second > short.tokens_per_second > uneven.tokens_per_second


def test_the_yardsticks_know_no_losses(models):
    found = case(models)
    real, roofline, bandwidth = (
        estimate(found).tokens_per_second
        for estimate in (throughput_runs.predict, throughput_runs.roofline_bound, throughput_runs.bandwidth_bound)
    )
    assert real < roofline < bandwidth


def test_factors_are_the_same_in_both_directions():
    assert throughput.factor([math.log(2), -math.log(2), None], 0.5) == pytest.approx(2)
    assert throughput.factor([], 0.5) is None


def judged(tmp_path, *lines):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return throughput.judge(path, CONFIGURATIONS)


def test_a_file_of_which_nothing_can_be_used(tmp_path):
    report, figures = judged(tmp_path, "{broken", "[1, 2]", ROW | {"model": "acme/x-1B"}, "", '"text"')
    assert figures["capacity_rows"] == 0
    assert figures["tok_factor_median"] is None
    assert sum(figures["capacity_left_out"].values()) == 4
    assert any("model not known: acme/x-1B" in line for line in report)


ODD = [
    {"tp": None, "gpu_count": 2},
    {"tp": "2"},
    {"pp": None, "dp": None},
    {"max_concurrency": "32", "request_rate": 0},
    {"num_prompts": 500.0},
    {"input_tokens": "many"},
    {"tp": [1]},
    {"note": None, "engine_version": 20},
    {"quantization": 8},
    {"output_tok_per_s": "NaN"},
]


@pytest.mark.parametrize("changes", ODD, ids=repr)
def test_odd_rows_are_used_or_counted(tmp_path, changes):
    _report, figures = judged(tmp_path, ROW | changes)
    assert figures["capacity_rows"] + sum(figures["capacity_left_out"].values()) == 1


def test_the_published_rows():
    report, figures = throughput.judge(DATA / "vllm_throughput.jsonl", CONFIGURATIONS)
    assert figures["capacity_rows"] + sum(figures["capacity_left_out"].values()) == 1283
    assert figures["capacity_rows"] > 1100
    assert figures["tok_factor_median"] < 1.2
    assert figures["tok_factor_p90"] < 1.6
    assert figures["tpot_factor_median"] < 1.2
    assert figures["tpot_factor_p90"] < 2.0
    assert figures["capacity_coverage"] > 0.9
    assert any("bandwidth alone" in line for line in report)
    assert throughput_rows.ADDED.is_file()
