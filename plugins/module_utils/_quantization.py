# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a checkpoint's weights are stored: `quantization_config` of config.json, or hf_quant_config.json.

Three producers write 8-bit floating point weights in three dialects ("fp8", compressed-tensors, ModelOpt), and all of
them become the word `fp8` here, with the granularity of its scales. Anything else keeps the engine's name for it.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass

FP8 = "fp8"

MODELOPT_METHODS = {
    "FP8": "modelopt",
    "FP8_PER_CHANNEL_PER_TOKEN": "modelopt",
    "FP8_PB_WO": "modelopt",
    "NVFP4": "modelopt_fp4",
    "MXFP8": "modelopt_mxfp8",
    "MIXED_PRECISION": "modelopt_mixed",
}
"""ModelOpt's quant_algo to the engine's name. Source: vLLM 0.33, transformers_utils/model_arch_config_convertor.py."""


@dataclass(frozen=True)
class Quantization:
    """One way of storing weights.

    word: "fp8", or the engine's name of another method. granularity: what one scale of an fp8 weight covers: "tensor",
    "channel" (an output row) or "block" (then `block` is its rows and columns). ignored: modules left as they were,
    as the checkpoint names them (names, globs, or "re:" and a regular expression). kv_cache_dtype: "fp8" where the
    checkpoint asks for an 8-bit KV cache, which the engine then uses unless told otherwise.
    """

    word: str
    granularity: str | None = None
    block: tuple[int, int] | None = None
    ignored: tuple[str, ...] = ()
    kv_cache_dtype: str | None = None


def parse(config: dict) -> Quantization:
    """Return what a `quantization_config`, or a whole hf_quant_config.json, says."""
    nested = config.get("quantization")
    modelopt = nested if isinstance(nested, dict) else config
    algorithm = modelopt.get("quant_algo")
    if algorithm is not None:
        return _modelopt(str(algorithm).upper(), modelopt)
    method = str(config.get("quant_method", "")).lower().replace("_", "-")
    if method == "fp8":
        return _native(config)
    if method == "compressed-tensors":
        return _compressed_tensors(config)
    return Quantization(word=method.replace("-", "_") or "unnamed")


def ignores(patterns: tuple[str, ...] | list[str], module: str) -> bool:
    """Say whether a module, such as `model.layers.0.mlp.down_proj`, is left unquantised by these patterns."""
    return any(_matches(pattern, module) for pattern in patterns)


def _matches(pattern: str, module: str) -> bool:
    if pattern.startswith("re:"):
        return re.match(pattern[3:], module) is not None
    return fnmatch.fnmatchcase(module, pattern) or module.startswith(pattern + ".")


def _native(config: dict) -> Quantization:
    ignored = tuple(config.get("modules_to_not_convert") or config.get("ignored_layers") or ())
    block = config.get("weight_block_size")
    if block is None:
        return Quantization(FP8, "tensor", None, ignored)
    rows, columns = block
    return Quantization(FP8, "block", (int(rows), int(columns)), ignored)


def _modelopt(algorithm: str, config: dict) -> Quantization:
    ignored = tuple(config.get("ignore") or config.get("exclude_modules") or ())
    cache = config.get("kv_cache_scheme") or config.get("kv_cache_quant_algo")
    kv_cache_dtype = FP8 if _is_float8(cache) or str(cache).upper() == "FP8" else None
    if algorithm == "FP8":
        return Quantization(FP8, "tensor", None, ignored, kv_cache_dtype)
    return Quantization(MODELOPT_METHODS.get(algorithm, algorithm.lower()), None, None, ignored, kv_cache_dtype)


def _compressed_tensors(config: dict) -> Quantization:
    ignored = tuple(config.get("ignore") or ())
    kv_cache_dtype = FP8 if config.get("kv_cache_scheme") else None
    groups = list((config.get("config_groups") or {}).values())
    only = groups[0] if len(groups) == 1 else {}
    weights = only.get("weights") or {}
    granularity = weights.get("strategy")
    if only.get("targets") == ["Linear"] and _is_float8(weights) and granularity in ("tensor", "channel", "block"):
        block = tuple(weights["block_structure"]) if granularity == "block" else None
        return Quantization(FP8, granularity, block, ignored, kv_cache_dtype)
    return Quantization("compressed-tensors", None, None, ignored, kv_cache_dtype)


def _is_float8(scheme: object) -> bool:
    return isinstance(scheme, dict) and scheme.get("num_bits") == 8 and scheme.get("type") == "float"
