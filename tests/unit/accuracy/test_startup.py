# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest
from ansible_collections.gpufleet.serving.tests.accuracy import fit_memory, models, startup
from ansible_collections.gpufleet.serving.tests.accuracy.report import percentile

ACCURACY = pathlib.Path(startup.__file__).parent
LOGS, CONFIGS = ACCURACY / "data" / "vllm_startup_logs.jsonl", ACCURACY / "data" / "model_configs.json"

KEYS = {
    "rows", "weights_median", "weights_p90", "kv_gib_median", "kv_gib_p90", "kv_tokens_median", "kv_tokens_p90",
    "false_fits", "fit_rows", "false_refusals", "refusal_rows", "coverage",
}  # fmt: skip

GOOD = {
    "id": "good", "model": "Qwen/Qwen3-8B", "gpu": "A100-SXM4-40GB", "gpu_count": 1, "tp": 1, "vllm_version": "0.9.2",
    "max_model_len": 40960, "gpu_memory_utilization": 0.9, "weights_gib_per_gpu": 15.2683,
    "kv_cache_gib_per_gpu": 18.69, "kv_cache_tokens": 136080, "fits": True, "max_num_batched_tokens": 2048,
    "model_config_key": "Qwen/Qwen3-8B", "quantization_scheme": "bf16", "gpu_total_gib": 39.49,
}  # fmt: skip


def judged(tmp_path, *rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return startup.judge(path, CONFIGS)


@pytest.fixture(scope="module")
def whole():
    return startup.judge(LOGS, CONFIGS)


# The bars that were set for the start-up logs; what is missed, and why, stands in docs/sizing.md.
@pytest.mark.parametrize(
    ("figure", "most"),
    [
        ("weights_median", 0.006),
        ("weights_p90", 0.07),
        ("kv_tokens_median", 0.025),
        ("kv_tokens_p90", 0.12),
        ("kv_gib_median", 0.025),
        ("kv_gib_p90", 0.12),
        ("crossvalidated_kv_tokens_median", 0.025),
        ("crossvalidated_kv_tokens_p90", 0.12),
        ("false_fits", 3),
        ("false_refusals", 4),
        ("interval_width_median", 0.15),
    ],
)
def test_the_planner_is_as_accurate_as_its_documentation_says(whole, figure, most):
    _lines, figures = whole
    assert figures[figure] <= most


def test_nine_start_ups_of_ten_lie_in_the_interval(whole):
    assert whole[1]["coverage"] >= 0.90


def test_every_row_is_judged_or_named(whole):
    lines, figures = whole
    assert figures["rows"] == 123
    assert (figures["fit_rows"], figures["refusal_rows"], figures["kv_gib_rows"]) == (56, 16, 53)
    assert all(any(name in line for line in lines) for name in figures["left_out"])


def test_usual_formulas_are_printed_beside(whole):
    text = "\n".join(whole[0])
    assert "parameters x 2 bytes x 1.2" in text
    assert "KV from the hidden size" in text
    assert "cross-validated by source" in text


def test_one_good_row(tmp_path):
    _lines, figures = judged(tmp_path, GOOD)
    assert set(figures) >= KEYS
    assert (figures["rows"], figures["fit_rows"], figures["refusal_rows"], figures["coverage"]) == (1, 1, 0, 1.0)
    assert figures["weights_median"] < 0.001


ODD = {
    "broken JSON": ('{"id": "x", ', "line 1", "is no JSON"),
    "a list": ("[1, 2]", "line 1", "is a JSON list, not an object"),
    "a word": ('"row"', "line 1", "is a JSON str, not an object"),
    "no model": ({"id": "x"}, "x", "the row names no model"),
    "an unknown model": (GOOD | {"model": "me/new", "model_config_key": None}, "good me/new", "is in no configuration"),
    "a key of the future": (
        GOOD | {"model": "new", "model_config_key": "me/new"},
        "good new",
        "is in no configuration",
    ),
    "no ranks": (GOOD | {"tp": None, "gpu_count": None}, "good Qwen/Qwen3-8B", "states neither tp nor gpu_count"),
    "ranks that do not divide": (GOOD | {"tp": 3}, "good Qwen/Qwen3-8B", "does not divide"),
}


@pytest.mark.parametrize(("row", "name", "reason"), ODD.values(), ids=ODD)
def test_what_cannot_be_predicted_is_named_with_the_reason(tmp_path, row, name, reason):
    lines, figures = judged(tmp_path, row)
    assert reason in figures["left_out"][name]
    assert any(name in line and reason in line for line in lines)
    assert (figures["weights_median"], figures["kv_tokens_median"], figures["rows"]) == (None, None, 1)


STILL_PREDICTED = {
    "no version": {"vllm_version": None},
    "an odd version": {"vllm_version": "0.1.dev20051+g487ecf187.cu129"},
    "a version that is a number": {"vllm_version": 0.11},
    "an unknown GPU": {"gpu": "Imaginary X1"},
    "no GPU": {"gpu": None},
    "neither GPU nor memory": {"gpu": None, "gpu_total_gib": None},
    "no ranks, but GPUs": {"tp": None},
    "words for numbers": {"max_num_seqs": "many", "max_model_len": "long", "gpu_memory_utilization": "0.9"},
    "nothing about quantisation": {"quantization_scheme": None},
    "a format of the future": {"quantization_scheme": "int3-magic"},
    "an unknown dtype": {"dtype": "float8"},
    "exclusions that are a word": {"exclude_from": "kv"},
    "flags that are a list": {"extra_flags": ["enforce_eager"]},
    "everything missing": {"fits": None, "weights_gib_per_gpu": None, "kv_cache_gib_per_gpu": None},
}


@pytest.mark.parametrize("change", STILL_PREDICTED.values(), ids=STILL_PREDICTED)
def test_rows_with_less_are_predicted_with_what_they_have(tmp_path, change):
    _lines, figures = judged(tmp_path, GOOD | change)
    assert figures["left_out"] == {}


def test_a_file_of_one_unknown_model_and_broken_lines_goes_on_to_the_end(tmp_path):
    lines, figures = judged(tmp_path, "{", GOOD | {"model": "me/new", "model_config_key": "me/new"}, "", "nonsense")
    assert (figures["rows"], len(figures["left_out"])) == (3, 3)
    assert lines[0].endswith("3 rows, 0 predicted, 3 not")


def test_a_file_that_is_not_there_is_named(tmp_path):
    lines, _figures = startup.judge(tmp_path / "absent.jsonl", CONFIGS)
    assert "cannot be read" in lines[-1]


DIALECTS = {
    "awq": ("awq_marlin", None, "Qwen/Qwen2.5-7B", "int4"),
    "gptq": ("gptq", None, "Qwen/Qwen2.5-7B", "int4"),
    "compressed": ("compressed-tensors", "w4", "Qwen/Qwen2.5-7B", "int4"),
    "integers of 8 bits": ("w8a8 int8", None, "Qwen/Qwen2.5-7B", "int8"),
    "modelopt": ("modelopt_fp4", None, "Qwen/Qwen2.5-7B", "nvfp4"),
    "fp8": (None, "fp8", "Qwen/Qwen2.5-7B", "fp8"),
    "bitsandbytes": ("bitsandbytes", "bnb", "Qwen/Qwen2.5-7B", "nf4"),
    "GGUF": ("gguf Q8_0", "q8_0", "Qwen/Qwen2.5-7B", "gguf_q8_0"),
    "GGUF of mixed bits": ("gguf Q4_K_M", None, "Qwen/Qwen2.5-7B", "gguf_q4_k"),
    "nothing": (None, "bf16", "Qwen/Qwen2.5-7B", None),
    "the checkpoint's own": ("mxfp4", "mxfp4", "openai/gpt-oss-20b", "mxfp4"),
    "not told": (None, None, "openai/gpt-oss-20b", "mxfp4"),
}


@pytest.mark.parametrize(("quantization", "scheme", "model", "word"), DIALECTS.values(), ids=DIALECTS)
def test_formats_in_every_dialect(quantization, scheme, model, word):
    row = {"model": model, "quantization": quantization, "quantization_scheme": scheme}
    assert models.shape_of(row, {}).quantization == word


def test_the_very_model_is_preferred_to_the_relative_that_the_key_names():
    row = {"model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", "model_config_key": "Qwen/Qwen2.5-14B-Instruct"}
    assert models.shape_of(row, {}).max_position_embeddings == 131072
    other = {"model": "Qwen/Qwen3-8B", "model_config_key": "Qwen/Qwen2.5-14B-Instruct"}
    assert models.shape_of(other, {}).hidden_size == 5120


def test_configurations_of_ones_own():
    config = {
        "architectures": ["LlamaForCausalLM"], "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 96,
        "num_attention_heads": 4, "vocab_size": 320, "max_position_embeddings": 512, "torch_dtype": "float16",
    }  # fmt: skip
    assert models.shape_of({"model": "me/new"}, {"me/new": config}).hidden_size == 64
    with pytest.raises(models.UnknownModel, match="vocab_size is missing"):
        models.shape_of({"model": "me/new"}, {"me/new": {**config, "vocab_size": None}})


def test_refitted_constants_predict_what_the_planner_does_where_they_are_the_same():
    rows, _left_out = startup.outcomes(LOGS, startup.read_configs(CONFIGS))
    for _name, case, prediction in rows:
        moved = fit_memory.with_constants(case, prediction, fit_memory.Constants())
        if prediction.kv_gib:
            assert moved.kv_gib.likely == pytest.approx(prediction.kv_gib.likely, abs=0.01)
            assert moved.fits == prediction.fits


def test_percentiles_lie_between_neighbours():
    assert percentile([], 0.9) is None
    assert percentile([3.0], 0.9) == 3.0
    assert percentile([0.0, 1.0, 2.0], 0.9) == pytest.approx(1.8)


def test_the_program_needs_nothing_but_python(tmp_path):
    """As make calls it: from the checkout, isolated from every installed package."""
    found = tmp_path / "figures.json"
    command = [sys.executable, "-I", str(ACCURACY / "__main__.py"), "--logs", str(LOGS), "--json", str(found)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "the planner" in done.stdout
    assert set(json.loads(found.read_text())) >= KEYS
