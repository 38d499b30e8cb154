# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vllm bench serve``: real requests to a real port, and a report in the words of the real tool.

It stands in for the tool where a test is about what runs it. Its prompts are words and its times are those of the mock.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import sys
import time
import urllib.parse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_EVENT = b"data: "
_END = b"[DONE]"


@dataclass
class Answer:
    """One request: the times of its events in seconds since it was sent, or why it failed."""

    events_s: list[float] = field(default_factory=list)
    error: str = ""


def bench(arguments: Sequence[str]) -> int:
    """Run the command line; returns the exit status, which is 0 even where every request failed."""
    asked = _parse(arguments)
    trial = _ask(asked) if asked.ready_check_timeout_sec else Answer()
    if trial.error:
        print(f"ValueError: Initial test run failed. Error: {trial.error}", file=sys.stderr)
        return 1
    begun = time.monotonic()
    with ThreadPoolExecutor(asked.max_concurrency) as pool:
        answers = list(pool.map(lambda _number: _ask(asked), range(asked.num_prompts)))
    report = _report(asked, answers, time.monotonic() - begun)
    (Path(asked.result_dir) / asked.result_filename).write_text(json.dumps(report), encoding="utf-8")
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="vllm bench serve")
    for word in ("base-url", "served-model-name", "result-dir", "result-filename"):
        parser.add_argument(f"--{word}", required=True)
    for number in ("random-input-len", "random-output-len", "num-prompts", "max-concurrency"):
        parser.add_argument(f"--{number}", type=int, required=True)
    parser.add_argument("--ready-check-timeout-sec", type=int, default=0)
    return parser.parse_known_args(arguments)[0]


def _ask(asked: argparse.Namespace) -> Answer:
    url = urllib.parse.urlsplit(asked.base_url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    body = {
        "model": asked.served_model_name,
        "prompt": " ".join(["word"] * asked.random_input_len),
        "max_tokens": asked.random_output_len,
        "stream": True,
    }
    headers = {"Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}"}
    begun = time.monotonic()
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            return Answer(error=answer.reason)
        lines = (line for line in answer if line.startswith(_EVENT) and not line.startswith(_EVENT + _END))
        return Answer([time.monotonic() - begun for _line in lines])
    except OSError as error:
        return Answer(error=str(error))
    finally:
        connection.close()


def _report(asked: argparse.Namespace, answers: Sequence[Answer], duration_s: float) -> dict[str, Any]:
    whole = [answer.events_s for answer in answers if not answer.error]
    tokens = sum(map(len, whole))
    gaps = [later - earlier for events in whole for earlier, later in zip(events, events[1:])]
    times = {"ttft": [events[0] for events in whole], "tpot": gaps, "itl": gaps}
    return {
        "num_prompts": asked.num_prompts,
        "max_concurrency": asked.max_concurrency,
        "duration": duration_s,
        "completed": len(whole),
        "failed": len(answers) - len(whole),
        "total_output_tokens": tokens,
        "request_throughput": len(whole) / duration_s,
        "output_throughput": tokens / duration_s,
        **{
            f"p{percent}_{name}_ms": 1000 * _percentile(values, percent)
            for name, values in times.items()
            for percent in (50, 99)
        },
    }


def _percentile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else 0.0
