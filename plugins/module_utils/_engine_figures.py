# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What memory a running vLLM got, in its own figures: its metrics tell the KV blocks, its first lines the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

# One sample an engine; the labels are the fields of vLLM's CacheConfig. kv_cache_size_tokens is among them since 0.32.
CACHE_SAMPLE = re.compile(r"^vllm:cache_config_info\{(?P<labels>.*)\}\s", re.MULTILINE)
LABEL = re.compile(r'(?P<name>\w+)="(?P<value>(?:[^"\\]|\\.)*)"')

# What the engine writes on its way up. Every amount is in GiB (2**30), the old ones that say GB too.
# 0.33: "Model loading took 15.27 GiB memory and 3.1 seconds"; until 0.7: "Loading model weights took 14.9888 GB"
WEIGHTS_LINE = re.compile(r"(?:Model loading|Loading model weights) took (\d+(?:\.\d+)?) Gi?B")
# GPU: "Available KV cache memory: 37.81 GiB"; CPU: "Explicitly set (1.0/16.09) GiB for KV cache on node 0."
KV_MEMORY_LINE = re.compile(
    r"(?:Available KV cache memory: |Explicitly set \()(\d+(?:\.\d+)?)(?: Gi?B|/\d+(?:\.\d+)?\) GiB for KV cache)"
)
# "GPU KV cache size: 89,040 tokens", and CPU, XPU or "GPU + host" in the place of GPU
KV_TOKENS_LINE = re.compile(r"KV cache size: ([\d,]+) tokens")
# the engine of 0.10 and before: "# GPU blocks: 27102, # CPU blocks: 2048", "# cuda blocks: ..."
KV_BLOCKS_LINE = re.compile(r"# (?:GPU|CUDA|cuda) blocks: (\d+)")
# written once the server listens, whatever the engine; nothing about memory comes after it
STARTED_LINE = re.compile(r"Application startup complete")


@dataclass(frozen=True)
class Figures:
    """What one replica's engine has; None where it does not tell.

    kv_blocks, block_size (tokens of a block), kv_tokens: of the KV cache as the scheduler sees it. kv_gib, weights_gib:
    GiB on one rank, the least and the most that any rank tells.
    """

    kv_blocks: int | None = None
    block_size: int | None = None
    kv_tokens: int | None = None
    kv_gib: float | None = None
    weights_gib: float | None = None

    @property
    def known(self) -> dict[str, Any]:
        """The figures that were told, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def read_figures(metrics: str, lines: Sequence[str]) -> Figures:
    """The figures of an engine from the text of its ``/metrics`` and the lines of its start-up; either may be empty."""
    caches = [dict(LABEL.findall(labels)) for labels in CACHE_SAMPLE.findall(metrics)]
    return Figures(
        kv_blocks=_least(_labels(caches, "num_gpu_blocks") or _numbers(KV_BLOCKS_LINE, lines)),
        block_size=_least(_labels(caches, "block_size")),
        kv_tokens=_least(_labels(caches, "kv_cache_size_tokens") or _numbers(KV_TOKENS_LINE, lines)),
        kv_gib=min(_amounts(KV_MEMORY_LINE, lines), default=None),
        weights_gib=max(_amounts(WEIGHTS_LINE, lines), default=None),
    )


def started(line: str) -> bool:
    """Whether this is the line after which an engine tells nothing of its memory any more."""
    return STARTED_LINE.search(line) is not None


def _labels(samples: Iterable[dict[str, str]], name: str) -> list[int]:
    """A label's values as numbers. An engine that has not made its cache yet says ``None``."""
    return [int(sample[name]) for sample in samples if sample.get(name, "").isdigit()]


def _numbers(pattern: re.Pattern[str], lines: Iterable[str]) -> list[int]:
    return [int(found.group(1).replace(",", "")) for found in map(pattern.search, lines) if found]


def _amounts(pattern: re.Pattern[str], lines: Iterable[str]) -> list[float]:
    return [float(found.group(1)) for found in map(pattern.search, lines) if found]


def _least(values: Sequence[int]) -> int | None:
    return min(values, default=None)
