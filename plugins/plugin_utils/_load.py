# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which load a benchmark drives, and at which replica: as the operator says, else what the model's workload says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ._findings import Findings
from ._reading import Reader, plain
from ._settings import Settings
from ._text import counted, listing, natural_key
from ._wishes import Workload, read_models

DEFAULT_CONCURRENCY, DEFAULT_PROMPT_TOKENS, DEFAULT_OUTPUT_TOKENS = 16, 512, 128
"""A load for a model whose workload is not stated: short questions, a screenful of an answer."""
ROUNDS = 4
"""Times that every one of the concurrent requests is followed by another: the ends of a load, where fewer run at once,
then weigh little."""
FEWEST_PROMPTS = 16
WISHES = frozenset({"replica", "concurrency", "prompt_tokens", "output_tokens", "num_prompts", "time_limit"})


class LoadError(ValueError):
    """No load can be driven; the text says why and what would help."""


@dataclass(frozen=True, slots=True)
class Load:
    """``num_prompts`` requests, ``concurrency`` at once, at one replica.

    host: where it runs. unit: its options as they are applied. time_limit: in seconds.
    """

    replica: str
    host: str
    unit: dict[str, Any]
    concurrency: int
    prompt_tokens: int
    output_tokens: int
    num_prompts: int
    time_limit: int

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "words": self.words}

    @property
    def words(self) -> str:
        """What is going to happen."""
        return (
            f"Benchmark  {self.num_prompts} requests of {self.prompt_tokens} prompt and {self.output_tokens} output "
            f"tokens, {self.concurrency} at once, at {self.replica}\n"
            f"           ({self.unit['address']} port {self.unit['port']}, on {self.host}). It takes "
            f"{self.time_limit} s at most; clients are served meanwhile, more slowly."
        )


def benchmark_load(
    plan: Mapping[str, Any], applied: Mapping[str, Mapping[str, Any]], models: Any, wishes: Mapping[str, Any]
) -> Load:
    """The load that ``wishes`` ask for; what is absent, empty or 0 in them is chosen.

    applied: host -> what applied_info says of it. models: fleet_models, as written. wishes: ``WISHES``. The replica is
    the first of the default model that answers; concurrency its share of the model's concurrent requests.
    Raises LoadError.
    """
    findings = Findings()
    given = {word: value for word, value in wishes.items() if value not in (None, "", 0, "0")}
    asked = Reader(plain(given, "benchmark", findings), "benchmark", findings, WISHES)
    host, applied_unit = _replica(plan, applied, asked.text("replica"))
    # Ansible's own mappings cannot be copied
    unit = plain(applied_unit, "unit", findings)
    workload = _workload(models, unit["model"])
    concurrency = asked.integer("concurrency") or _share(workload, plan, unit["model"])
    longest = unit["config"].get("max_model_len") or math.inf
    prompt = asked.integer("prompt_tokens") or workload.prompt_tokens or _fitting(DEFAULT_PROMPT_TOKENS, longest)
    output = asked.integer("output_tokens") or workload.output_tokens or _fitting(DEFAULT_OUTPUT_TOKENS, longest)
    load = Load(
        replica=unit["name"],
        host=host,
        unit=unit,
        concurrency=concurrency,
        prompt_tokens=prompt,
        output_tokens=output,
        num_prompts=asked.integer("num_prompts") or max(FEWEST_PROMPTS, (1 + ROUNDS) * concurrency),
        time_limit=asked.integer("time_limit") or 600,
    )
    if prompt + output > longest:
        findings.refuse(
            "too_long",
            "benchmark",
            f"asks for {prompt} + {output} tokens a request, and max_model_len of {load.replica} is {longest}",
            "lower benchmark_prompt_tokens or benchmark_output_tokens",
        )
    if findings.refusals:
        raise LoadError(
            "; ".join(f"{each.subject} {each.reason}: {' '.join(each.remedies)}" for each in findings.refusals)
        )
    return load


def _replica(
    plan: Mapping[str, Any], applied: Mapping[str, Mapping[str, Any]], wished: str | None
) -> tuple[str, Mapping[str, Any]]:
    """The replica to ask, as it is applied, and its host."""
    running = {
        unit["name"]: (host, unit)
        for host, answer in applied.items()
        for unit in answer["roles"].get("serve", {}).get("options", {}).get("serve_units", [])
        if answer["replicas"].get(unit["name"], {}).get("live") is True
    }
    default = next((model["name"] for model in plan["models"] if model["default"]), None)
    candidates = [replica["name"] for replica in plan["replicas"] if replica["model"] == default]
    name = next((name for name in ([wished] if wished else candidates) if name in running), None)
    if name is None:
        others = listing(sorted(running, key=natural_key))
        remedy = (
            f"name one that does: benchmark_replica={others}" if others else "run site.yml, and look with verify.yml"
        )
        raise LoadError(
            f"{wished or f'no replica of {default}'} {'does not answer' if wished else 'answers'}: {remedy}"
        )
    return running[name]


def _workload(models: Any, name: str) -> Workload:
    """What is stated of a model's workload; of a model that left the inventory, nothing."""
    read = read_models(plain(models, "fleet_models", Findings()), Settings(), Findings())
    return next((model.workload for model in read if model.name == name), Workload())


def _share(workload: Workload, plan: Mapping[str, Any], model: str) -> int:
    """Of a model's concurrent requests, those that one replica gets."""
    replicas = sum(replica["model"] == model for replica in plan["replicas"])
    requests = workload.concurrent_requests
    return math.ceil(requests / max(1, replicas)) if requests else DEFAULT_CONCURRENCY


def _fitting(tokens: int, longest: float) -> int:
    """A default length, or a quarter of what the engine takes where that is less."""
    return int(max(1, min(tokens, longest // 4)))


def outcome(load: Mapping[str, Any], benchmark: Mapping[str, Any], clients: int) -> str:
    """What the load did, in words. ``load``: as ``Load.as_dict`` gives it. ``benchmark``: as the fact keeps it."""
    times = {"first token": "ttft_ms", "between tokens": "itl_ms"}
    lines = [
        f"{load['replica']}  {benchmark['requests_per_second']:g} requests/s, "
        f"{benchmark['output_tokens_per_second']:g} output tokens/s, with {benchmark['concurrency']} at once",
        *(
            f"  {words:<15} {benchmark[word]['p50']:g} ms in the median, {benchmark[word]['p99']:g} ms for 1 in 100"
            for words, word in times.items()
        ),
        f"  measured by     {benchmark['tool']}; kept on {load['host']} for the plan",
    ]
    if clients:
        lines.append(f"  When it began the engine held {counted(clients, 'request')} of clients: alone it can do more.")
    return "\n".join(lines)
