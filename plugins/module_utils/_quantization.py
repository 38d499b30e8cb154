# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the weights of a checkpoint are stored, read from its `quantization_config`, and how many bytes that takes.

The producers write the same few formats in many dialects. Here each format has one word, whatever wrote it: `fp8`,
`int8`, `int4`, `mxfp4`, `nvfp4`, `nf4` and the blocks of GGUF. Any other method keeps the engine's name for it and is
not sized.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from dataclasses import dataclass

FP8 = "fp8"
INT8, INT4, MXFP4, MXFP8, NVFP4, NF4 = "int8", "int4", "mxfp4", "mxfp8", "nvfp4", "nf4"

TENSOR, CHANNEL, BLOCK, GROUP = "tensor", "channel", "block", "group"
GRANULARITIES = frozenset({TENSOR, CHANNEL, BLOCK, GROUP})
"""What one scale covers: a weight, an output row, a rectangle, or some neighbours in a row."""


@dataclass(frozen=True)
class Format:
    """One way of storing an element. bits: of an element. scale_bytes: of one scale. group: neighbours that share a
    scale where the format fixes it. source: where the sizes are defined."""

    bits: float
    scale_bytes: float
    group: int | None = None
    source: str = ""


FORMATS = {
    FP8: Format(8, 4, source="vLLM 0.33, layers/quantization/fp8.py: float32 scales"),
    INT8: Format(8, 4, source="vLLM 0.33, compressed_tensors/schemes: float32 scales"),
    INT4: Format(4, 2, source="vLLM 0.33, auto_awq.py, auto_gptq.py: scales in the dtype of the activations"),
    MXFP4: Format(4, 1, 32, source="OCP Microscaling Formats 1.0: one byte of exponent for 32 elements"),
    MXFP8: Format(8, 1, 32, source="OCP Microscaling Formats 1.0"),
    NVFP4: Format(4, 1, 16, source="vLLM 0.33, quantization/modelopt.py: an fp8 scale for 16 elements"),
    NF4: Format(4, 4, 64, source="bitsandbytes, functional.quantize_4bit: a float32 absmax for 64 elements"),
    "gguf_q4_0": Format(4, 2, 32, source="github.com/ggml-org/llama.cpp, ggml/src/ggml-common.h"),
    "gguf_q8_0": Format(8, 2, 32, source="github.com/ggml-org/llama.cpp, ggml/src/ggml-common.h"),
    "gguf_q4_k": Format(4, 16, 256, source="github.com/ggml-org/llama.cpp, ggml/src/ggml-common.h"),
    "gguf_q5_k": Format(5, 16, 256, source="github.com/ggml-org/llama.cpp, ggml/src/ggml-common.h"),
    "gguf_q6_k": Format(6, 18, 256, source="github.com/ggml-org/llama.cpp, ggml/src/ggml-common.h"),
}

GROUP_SCALE_BYTES = 2
"""A scale of a group of integers has the dtype of the activations."""

GGUF = "gguf"
"""Beginning of the words of GGUF, whose embedding and output head are stored like the other weights."""


@dataclass(frozen=True)
class Storage:
    """How one weight is stored: `bits` an element, and `scale_bytes` for every `rows` x `columns` of them (0: all
    there are). zero_bits: of the zero point beside a scale. whole_groups: a rank can hold whole groups only. tiled:
    kernels of experts want whole tiles, to which the engine pads them."""

    bits: float
    scale_bytes: float = 0
    rows: int = 0
    columns: int = 0
    zero_bits: float = 0
    whole_groups: bool = False
    tiled: bool = False

    @property
    def block(self) -> tuple[int, int] | None:
        """The rectangle of a scale where it covers several rows: a rank can hold whole ones only."""
        return (self.rows, self.columns) if self.rows > 1 else None

    def bytes_of(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of a weight of this shape, its scales included; the last two extents are the matrix."""
        return self.matrix_bytes(shape) + self.scales_bytes(shape)

    def matrix_bytes(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of the elements alone."""
        elements = 1
        for extent in shape:
            elements *= extent
        return int(elements * self.bits / 8)

    def scales_bytes(self, shape: tuple[int, ...]) -> int:
        """Return the bytes of scales and zero points."""
        return int(self._scales(shape) * (self.scale_bytes + self.zero_bits / 8))

    def _scales(self, shape: tuple[int, ...]) -> int:
        if not self.scale_bytes or not shape:
            return 0
        scales = -(-shape[-1] // self.columns) if self.columns else 1
        if len(shape) > 1:
            scales *= -(-shape[-2] // self.rows) if self.rows else 1
        for extent in shape[:-2]:
            scales *= extent
        return scales


def plain(item_bytes: int) -> Storage:
    """Return the storage of weights that are not quantised."""
    return Storage(bits=8 * item_bytes)


@dataclass(frozen=True)
class Quantization:
    """One way of storing weights.

    word: a word of FORMATS, or the engine's name of another method. granularity: what one scale covers. block: its
    rows and columns, for "block" and "group". zeros: a zero point stands beside each scale. ignored: modules left as
    they were, as the checkpoint names them (names, globs, or "re:" and a regular expression). overrides: modules that
    are stored in another format, each a pattern and that format's word. kv_cache_dtype: "fp8" where the checkpoint
    asks for an 8-bit KV cache, which the engine then uses unless told otherwise.
    """

    word: str
    granularity: str | None = None
    block: tuple[int, int] | None = None
    ignored: tuple[str, ...] = ()
    kv_cache_dtype: str | None = None
    zeros: bool = False
    overrides: tuple[tuple[str, str], ...] = ()


def storage(
    word: str, granularity: str | None = None, block: tuple[int, int] | None = None, zeros: bool = False
) -> Storage:
    """Return the storage of a weight in a format of FORMATS. Raises KeyError for any other word."""
    stored = FORMATS[word]
    if stored.group:
        return Storage(stored.bits, stored.scale_bytes, 1, stored.group, tiled=word == MXFP4)
    if granularity == GROUP and block:
        return Storage(stored.bits, GROUP_SCALE_BYTES, 1, block[1], stored.bits if zeros else 0, whole_groups=True)
    rows, columns = {TENSOR: (0, 0), CHANNEL: (1, 0), BLOCK: block or (0, 0)}.get(granularity or TENSOR, (0, 0))
    return Storage(stored.bits, stored.scale_bytes, rows, columns, stored.bits if zeros else 0)


def parse(config: dict) -> Quantization:
    """Return what a `quantization_config`, or a whole hf_quant_config.json, says."""
    nested = config.get("quantization")
    modelopt = nested if isinstance(nested, dict) else config
    algorithm = modelopt.get("quant_algo")
    if algorithm is not None:
        return _modelopt(str(algorithm).upper(), modelopt)
    method = str(config.get("quant_method", "")).lower().replace("_", "-")
    reader = READERS.get(method)
    return reader(config) if reader else Quantization(word=method.replace("-", "_") or "unnamed")


ROOTS = re.compile(r"^(model\.language_model|language_model\.model|language_model|backbone)\.(?=layers\.|lm_head)")
"""What exporters put before the layers of the language model."""


def ignores(patterns: tuple[str, ...] | list[str], module: str) -> bool:
    """Say whether a module, such as `model.layers.0.mlp.down_proj`, is left unquantised by these patterns."""
    return first_match(tuple(patterns), module) is not None


def first_match(patterns: tuple[str, ...], module: str) -> int | None:
    """Return which of a checkpoint's names of modules means this one, wherever its exporter hung the language model;
    None where none does. A name means its own module and those inside it, a glob or an expression whole names."""
    names, expressions = _compiled(patterns)
    found = []
    for own in dict.fromkeys((module, _rooted(module))):
        parts = own.split(".")
        found += [names[name] for name in (".".join(parts[:end]) for end in range(1, len(parts) + 1)) if name in names]
        found += [position for position, expression in expressions if expression.match(own)]
    return min(found, default=None)


@functools.lru_cache(maxsize=256)
def _compiled(patterns: tuple[str, ...]) -> tuple[dict[str, int], tuple[tuple[int, re.Pattern], ...]]:
    """The place of each plain name, and the expressions with theirs: lists of thousands are common."""
    names: dict[str, int] = {}
    expressions = []
    for position, pattern in enumerate(patterns):
        if pattern.startswith("re:"):
            expressions.append((position, re.compile(pattern[3:])))
            continue
        for wanted in dict.fromkeys((pattern, _rooted(pattern))):
            names.setdefault(wanted, position)
            if any(sign in wanted for sign in "*?["):
                expressions.append((position, re.compile(fnmatch.translate(wanted))))
                expressions.append((position, re.compile(fnmatch.translate(wanted + ".*"))))
    return names, tuple(expressions)


def _rooted(name: str) -> str:
    found = ROOTS.match(name)
    if not found:
        return name
    rest = name[found.end() :]
    return rest if rest.startswith("lm_head") else f"model.{rest}"


def _native(config: dict) -> Quantization:
    ignored = tuple(config.get("modules_to_not_convert") or config.get("ignored_layers") or ())
    block = config.get("weight_block_size")
    if block is None:
        return Quantization(FP8, TENSOR, None, ignored)
    rows, columns = block
    return Quantization(FP8, BLOCK, (int(rows), int(columns)), ignored)


def _by_channel(config: dict) -> Quantization:
    """Meta's own FP8, whose scales cover an output row each."""
    return Quantization(FP8, CHANNEL, None, tuple(config.get("modules_to_not_convert") or ()))


def _integers(config: dict) -> Quantization:
    """AWQ, GPTQ and AutoRound: integers in groups of a row."""
    bits, group = config.get("bits", config.get("w_bit", 4)), config.get("group_size", config.get("q_group_size", 128))
    ignored = tuple(config.get("modules_to_not_convert") or ())
    word = {4: INT4, 8: INT8}.get(bits, f"int{bits}")
    zeros = bool(config.get("zero_point", not config.get("sym", True)))
    if not isinstance(group, int) or group < 1:
        return Quantization(word, CHANNEL, None, ignored, zeros=zeros)
    return Quantization(word, GROUP, (1, group), ignored, zeros=zeros)


def _bitsandbytes(config: dict) -> Quantization:
    ignored = tuple(config.get("llm_int8_skip_modules") or ())
    if config.get("load_in_8bit") or config.get("_load_in_8bit"):
        return Quantization(INT8, CHANNEL, None, ignored)
    return Quantization(NF4, GROUP, (1, 64), ignored)


def _microscaling(config: dict) -> Quantization:
    return Quantization(MXFP4, GROUP, (1, 32), tuple(config.get("modules_to_not_convert") or ()))


MODELOPT_WORDS = {
    "FP8": (FP8, TENSOR, None),
    "FP8_PER_CHANNEL_PER_TOKEN": (FP8, CHANNEL, None),
    "FP8_PB_WO": (FP8, BLOCK, (128, 128)),
    "NVFP4": (NVFP4, GROUP, (1, 16)),
    "W4A16_NVFP4": (NVFP4, GROUP, (1, 16)),
    "MXFP8": (MXFP8, GROUP, (1, 32)),
    "MXFP4": (MXFP4, GROUP, (1, 32)),
}
"""ModelOpt's quant_algo to a format. Source: vLLM 0.33, transformers_utils/model_arch_config_convertor.py."""

MIXED = "modelopt_mixed"


def _modelopt(algorithm: str, config: dict) -> Quantization:
    ignored = tuple(config.get("ignore") or config.get("exclude_modules") or ())
    cache = config.get("kv_cache_scheme") or config.get("kv_cache_quant_algo")
    kv_cache_dtype = FP8 if _is_float8(cache) or str(cache).upper() == "FP8" else None
    layers = config.get("quantized_layers")
    if algorithm == "MIXED_PRECISION" and isinstance(layers, dict):
        return Quantization(MIXED, None, None, ignored, kv_cache_dtype, overrides=_by_module(layers))
    word, granularity, block = MODELOPT_WORDS.get(algorithm, (algorithm.lower(), None, None))
    return Quantization(word, granularity, block, ignored, kv_cache_dtype)


EXPERT_NUMBER = re.compile(r"\.experts\.\d+\.")


def _by_module(layers: dict) -> tuple[tuple[str, str], ...]:
    """The format of each module of a mixed checkpoint; the experts of a layer are one module here."""
    found = {}
    for module, stored in layers.items():
        word = MODELOPT_WORDS.get(str(stored.get("quant_algo")).upper(), ("unnamed", None, None))[0]
        found[EXPERT_NUMBER.sub(".experts.", module)] = word
    return tuple(found.items())


def _compressed_tensors(config: dict) -> Quantization:
    ignored = tuple(config.get("ignore") or ())
    kv_cache_dtype = FP8 if config.get("kv_cache_scheme") else None
    groups = list((config.get("config_groups") or {}).values())
    if len(groups) == 1 and groups[0].get("targets") == ["Linear"]:
        word, granularity, block, zeros = _compressed_group(groups[0].get("weights") or {})
        return Quantization(word, granularity, block, ignored, kv_cache_dtype, zeros)
    overrides = []
    for group in groups:
        word = _compressed_group(group.get("weights") or {})[0]
        overrides += [("*" if target == "Linear" else target, word) for target in group.get("targets") or ()]
    overrides.sort(key=lambda override: override[0] == "*")
    known = overrides and all(word in FORMATS for _pattern, word in overrides)
    return Quantization(
        "compressed-tensors", None, None, ignored, kv_cache_dtype, overrides=tuple(overrides) if known else ()
    )


COMPRESSED_WORDS = {"float8": FP8, "int8": INT8, "int4": INT4}


def _compressed_group(weights: dict) -> tuple[str, str | None, tuple[int, int] | None, bool]:
    """The format of one group of modules: its word, granularity, block, and whether it has zero points."""
    bits, kind, granularity = weights.get("num_bits"), weights.get("type"), weights.get("strategy")
    size = weights.get("group_size") or 128
    if kind == "float" and bits == 4:
        return (MXFP4, GROUP, (1, 32), False) if size == 32 else (NVFP4, GROUP, (1, 16), False)
    word = COMPRESSED_WORDS.get(f"{kind}{bits}")
    if word is None or granularity not in GRANULARITIES:
        return "compressed-tensors", None, None, False
    zeros = kind == "int" and weights.get("symmetric") is False
    if granularity == BLOCK:
        rows, columns = weights["block_structure"]
        return word, BLOCK, (rows, columns), zeros
    return word, granularity, (1, size) if granularity == GROUP else None, zeros


def _is_float8(scheme: object) -> bool:
    return isinstance(scheme, dict) and scheme.get("num_bits") == 8 and scheme.get("type") == "float"


READERS = {
    "fp8": _native,
    "fbgemm-fp8": _by_channel,
    "compressed-tensors": _compressed_tensors,
    "awq": _integers,
    "gptq": _integers,
    "auto-round": _integers,
    "inc": _integers,
    "bitsandbytes": _bitsandbytes,
    "mxfp4": _microscaling,
}
"""What reads the configuration of each method."""


MADE_WHILE_LOADING = {
    FP8: Quantization(FP8, TENSOR),
    "fp8_per_tensor": Quantization(FP8, TENSOR),
    "fp8_per_channel": Quantization(FP8, CHANNEL),
    "fp8_per_block": Quantization(FP8, BLOCK, (128, 128)),
    "int8_per_channel_weight_only": Quantization(INT8, CHANNEL),
    "mxfp8": Quantization(MXFP8, GROUP, (1, 32)),
    "experts_int8": Quantization(INT8, CHANNEL, None, (r"re:(?!.*\.experts\.).*",)),
}
"""What the engine makes of 16-bit weights while it loads them, by its word (vLLM 0.33, config/quantization.py)."""

CHECKPOINT_WORDS = frozenset(
    {"awq", "auto_awq", "awq_marlin", "gptq", "auto_gptq", "gptq_marlin", "inc", "compressed-tensors", "fbgemm_fp8"}
    | {"modelopt", "modelopt_fp4", "modelopt_mxfp8", "modelopt_mixed", "mxfp4", "gpt_oss_mxfp4", "moe_wna16", "quark"}
)
"""The engine's words that only say how a checkpoint is stored already."""
