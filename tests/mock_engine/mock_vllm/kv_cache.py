# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The KV cache that the real engine would make on a CPU, and the lines in which it tells of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .settings import Behaviour, Settings

BLOCK_TOKENS = 128
_ITEM_BYTES = 2
_BLOCKS_OF_AN_UNKNOWN_MODEL = 4096
_WORDS = ("num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim")


@dataclass(frozen=True)
class KvCache:
    """Blocks of ``BLOCK_TOKENS`` tokens, in ``space_gib`` of memory a rank."""

    blocks: int
    space_gib: float

    @property
    def tokens(self) -> int:
        """Tokens that it holds."""
        return self.blocks * BLOCK_TOKENS

    def lines(self, settings: Settings, behaviour: Behaviour) -> list[str]:
        """What the engine writes of its memory on its way up, in the words of vLLM 0.32."""
        concurrency = self.tokens / settings.max_model_len
        told = [f"Model loading took {behaviour.weights_gib:.2f} GiB memory and 0.100000 seconds"]
        return [
            *(told if behaviour.weights_gib else []),
            f"Explicitly set ({self.space_gib}/16.0) GiB for KV cache on node 0.",
            f"CPU KV cache size: {self.tokens:,} tokens, "
            f"Maximum concurrency for {settings.max_model_len:,} tokens per request: {concurrency:.2f}x",
        ]


def kv_cache(settings: Settings, behaviour: Behaviour, environment: Mapping[str, str]) -> KvCache:
    """The KV cache of full attention in bfloat16: of the stage with the most layers, one rank's heads."""
    space_gib = float(environment.get("VLLM_CPU_KVCACHE_SPACE") or 0)
    config = json.loads((Path(settings.model) / "config.json").read_text(encoding="utf-8"))
    if behaviour.kv_blocks:
        return KvCache(behaviour.kv_blocks, space_gib)
    if not space_gib or any(word not in config for word in _WORDS):
        return KvCache(_BLOCKS_OF_AN_UNKNOWN_MODEL, space_gib)
    return KvCache(int(space_gib * 2**30) // _block_bytes(settings, config), space_gib)


def _block_bytes(settings: Settings, config: dict[str, Any]) -> int:
    layers = math.ceil(config["num_hidden_layers"] / settings.pipeline_parallel_size)
    heads = max(1, config["num_key_value_heads"] // settings.tensor_parallel_size)
    return layers * heads * BLOCK_TOKENS * 2 * int(config["head_dim"]) * _ITEM_BYTES
