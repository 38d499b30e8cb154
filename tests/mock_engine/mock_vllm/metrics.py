# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's metrics, under the names that vLLM 0.32 and 0.33 use."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from .kv_cache import BLOCK_TOKENS, KvCache

_SECONDS = (0.001, 0.01, 0.1, 0.5, 1.0, 2.5, 10.0, 60.0)
_TOKENS = (1.0, 8.0, 64.0, 512.0, 4096.0)


@dataclass
class Histogram:
    """A Prometheus histogram."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0
    count: int = 0

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts = self.counts or [0] * len(self.bounds)
        self.counts = [count + (value <= bound) for count, bound in zip(self.counts, self.bounds)]
        self.total += value
        self.count += 1

    def lines(self, name: str, labels: str) -> list[str]:
        """The samples in Prometheus' text format."""
        counts = self.counts or [0] * len(self.bounds)
        buckets = [f'{name}_bucket{{{labels},le="{bound}"}} {count}' for bound, count in zip(self.bounds, counts)]
        return [
            *buckets,
            f'{name}_bucket{{{labels},le="+Inf"}} {self.count}',
            f"{name}_sum{{{labels}}} {self.total}",
            f"{name}_count{{{labels}}} {self.count}",
        ]


@dataclass
class Metrics:
    """What one engine counts."""

    model_name: str
    cache: KvCache
    running: int = 0
    waiting: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    finished: Counter[str] = field(default_factory=Counter)
    time_to_first_token: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    inter_token_latency: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    e2e_latency: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    queue_time: Histogram = field(default_factory=lambda: Histogram(_SECONDS))
    iteration_tokens: Histogram = field(default_factory=lambda: Histogram(_TOKENS))

    def render(self) -> str:
        """All samples in Prometheus' text format."""
        labels = f'engine="0",model_name="{self.model_name}"'
        cache = (
            f'block_size="{BLOCK_TOKENS}",engine="0",kv_cache_size_tokens="{self.cache.tokens}",'
            f'num_gpu_blocks="{self.cache.blocks}"'
        )
        gauges = {
            "num_requests_running": self.running,
            "num_requests_waiting": self.waiting,
            "kv_cache_usage_perc": 0.0,
        }
        counters = {
            "prompt_tokens_total": self.prompt_tokens,
            "generation_tokens_total": self.generation_tokens,
            "num_preemptions_total": 0,
        }
        histograms = {
            "time_to_first_token_seconds": self.time_to_first_token,
            "inter_token_latency_seconds": self.inter_token_latency,
            "e2e_request_latency_seconds": self.e2e_latency,
            "request_queue_time_seconds": self.queue_time,
            "iteration_tokens_total": self.iteration_tokens,
        }
        lines = ["# TYPE vllm:cache_config_info gauge", f"vllm:cache_config_info{{{cache}}} 1.0"]
        for kind, samples in (("gauge", gauges), ("counter", counters)):
            for name, value in samples.items():
                lines += [f"# TYPE vllm:{name} {kind}", f"vllm:{name}{{{labels}}} {float(value)}"]
        lines.append("# TYPE vllm:request_success_total counter")
        for reason in ("abort", "error", "length", "stop"):
            lines.append(
                f'vllm:request_success_total{{{labels},finished_reason="{reason}"}} {float(self.finished[reason])}'
            )
        for name, histogram in histograms.items():
            lines += [f"# TYPE vllm:{name} histogram", *histogram.lines(f"vllm:{name}", labels)]
        return "\n".join(lines) + "\n"
