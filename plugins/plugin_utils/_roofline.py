# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long one step of the engine takes, from what it reads, what it multiplies and what its ranks tell each other.

A step runs the model once over a batch: some sequences that each get one more token, and some tokens of prompts. Its
kernels run one after another, so that their times add up; each kernel is bound by memory or by arithmetic:

- dense weights (attention, feed-forward, shared experts, routers) are read once a step, whatever the batch;
- of routed experts those are read that at least one token of the batch chooses;
- the KV cache is read once for each decoding sequence, as far back as each layer looks;
- every token takes two operations a weight, and prompts the square of their length in attention;
- with tensor parallelism two all-reduces a layer carry the hidden states of the batch between the ranks;
- small kernels, launches and synchronisation take a time a layer that no size explains, and the scheduler a time a
  step and a sequence, which recent engines spend while the GPU works.

Left out, because no public measurement lets it be told apart: power limits, speculative decoding, prefix caching,
encoders of pictures, the arithmetic of linear attention, and collisions of expert parallelism.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from ..module_utils._gpu_catalogue import by_key, parse_mig_profile
from ..module_utils._model import (
    BOTH,
    CHUNKED,
    DTYPE_BYTES,
    LINEAR,
    MAMBA,
    MLA,
    NO_ATTENTION,
    SLIDING,
    SPARSE,
    ModelShape,
)
from ..module_utils._model_tensors import Tensor, tensors
from ..module_utils._quantization import FORMATS, FP8, INT8, MXFP4, MXFP8, NVFP4
from ._devices import CUDA, Kind

GIGA, TERA = 1e9, 1e12

PCIE_BYTES = {(7, 0): 15.75e9, (8, 0): 31.5e9, (9, 0): 63e9}
"""Bytes a second in one direction of 16 lanes, by the oldest compute capability that has them: PCIe 3 on Volta and
Turing, 4 on Ampere and Ada, 5 since Hopper. Source: the GPUs' data sheets; 128b/130b coding taken off."""

MIG_SLICES = 7
"""Compute slices of a GPU that can be divided (NVIDIA MIG user guide)."""

SPARSE_ATTENTION_TOKENS = 2048
"""Tokens that a layer with an indexer attends to. Source: index_topk in config.json of DeepSeek V3.2 and GLM 5."""

STATE_ITEM_BYTES = 4
"""The states of linear attention are kept as float32 (vLLM 0.33, layers/mamba/mamba_utils.py)."""

INDEX_SCALE_BYTES = 4
"""Beside each key of the indexer (vLLM 0.33, layers/sparse_attn_indexer.py)."""

NARROW = {
    (FORMATS[word].bits, FORMATS[word].scale_bytes): int(FORMATS[word].bits)
    for word in (FP8, INT8, MXFP8, MXFP4, NVFP4)
}
"""Storage that is multiplied as it is, where the device can: bits of an element and bytes of a scale -> bits of the
operands. All else is widened to 16 bits first."""

FULL_REACH = float("inf")


@dataclass(frozen=True, slots=True)
class Constants:
    """What no data sheet says. Shares are of the peak rate; times are in seconds.

    All values are fitted by tests/accuracy/fit_capacity.py to public benchmarks; docs/sizing.md says how well.

    memory: of memory bandwidth, in kernels that read weights or KV cache. gemm, experts, attention: of the arithmetic
    rate in dense layers, in routed experts and in attention over prompts. link: of the rate of NVLink or PCIe in an
    all-reduce. layer, sparse_layer: small kernels of every layer, and besides of one with routed experts. hop: one
    all-reduce over PCIe, whatever it carries (over NVLink it is within ``layer``). step, sequence: the host's work for
    a step, and for each sequence in it.
    """

    memory: float = 0.85
    gemm: float = 0.84
    experts: float = 0.19
    attention: float = 0.48
    link: float = 0.21
    layer: float = 47e-6
    sparse_layer: float = 47e-6
    hop: float = 53e-6
    step: float = 1.4e-3
    sequence: float = 50e-6


FITTED = Constants()


@dataclass(frozen=True, slots=True)
class HostSide:
    """What of the engine's host side decides speed.

    overlapped: it prepares a step while the GPU works on the one before (asynchronous scheduling, the default since
    vLLM 0.14). slowness: its time, in multiples of that of vLLM since 0.8.
    """

    overlapped: bool = True
    slowness: float = 1.0


MODERN = HostSide()


@dataclass(frozen=True, slots=True)
class Rates:
    """What one device does in a second at its peak: bytes of memory, operations by bits of the weights, bytes to its
    neighbours in one direction. nvlink: the neighbours are reached over NVLink."""

    memory: float
    flops: tuple[tuple[int, float], ...]
    link: float
    nvlink: bool

    def multiplying(self, bits: int) -> float:
        """Operations a second with operands of so many bits; of 16 where the device has no narrow ones."""
        return dict(self.flops).get(bits, self.flops[-1][1])


def rates_of(kind: Kind) -> Rates | None:
    """The peak rates of a device; None where the catalogue does not know it, and for CPUs.

    A MIG slice has its share of both: of arithmetic by its compute slices, of memory bandwidth likewise.
    """
    key, _separator, profile = kind.key.partition("/")
    model = by_key(key)
    if kind.accelerator != CUDA or model is None:
        return None
    mig = parse_mig_profile(profile) if profile else None
    share = mig.compute_slices / MIG_SLICES if mig else 1.0
    widths = ((4, model.fp4_tflops), (8, model.fp8_tflops), (16, model.fp16_tflops))
    capability = tuple(int(part) for part in model.compute_capability.split("."))
    pcie = max(oldest for oldest in PCIE_BYTES if oldest <= capability)
    joined = model.nvlink is not None and model.nvlink.built_in
    return Rates(
        memory=model.memory_bandwidth_gb_s * GIGA * share,
        flops=tuple((bits, tflops * TERA * share) for bits, tflops in widths if tflops),
        # data sheets count both directions of NVLink
        link=model.nvlink.bandwidth_gb_s / 2 * GIGA if model.nvlink and joined else PCIE_BYTES[pcie],
        nvlink=joined,
    )


@dataclass(frozen=True, slots=True)
class Matrices:
    """Weights that are read and multiplied together: their bytes, their number, and the bits that they are
    multiplied with."""

    size: float
    weights: float
    bits: int


@dataclass(frozen=True, slots=True)
class Experts:
    """The routed experts of all sparse layers on one rank: of ``count`` a token takes ``chosen``. one: the matrices of
    one expert, summed over the layers."""

    count: int
    chosen: int
    one: Matrices


@dataclass(frozen=True, slots=True)
class Attention:
    """Layers that look back alike, summed over them: bytes of KV cache a token, operations a pair of tokens in prompts
    and in decoding, and how many tokens they reach back at most."""

    size: float
    prefill: float
    decode: float
    reach: float = FULL_REACH


@dataclass(frozen=True, slots=True)
class Work:
    """What running a model over a token means for one rank, summed over all stages of its pipeline.

    state: bytes of states that a sequence reads and writes in a step.
    """

    layers: int
    sparse_layers: int
    hidden: int
    tensor_parallel_size: int
    pipeline_parallel_size: int
    dense: tuple[Matrices, ...]
    head: Matrices
    experts: tuple[Experts, ...]
    attention: tuple[Attention, ...]
    state: float


@dataclass(frozen=True, slots=True)
class Step:
    """One batch: ``decoding`` sequences with ``context`` tokens behind each, and ``prefill`` tokens of prompts that
    look back at ``behind`` tokens on average and finish ``prompts`` prompts. Averages, so that none need be whole."""

    decoding: float
    context: float
    prefill: float = 0.0
    behind: float = 0.0
    prompts: float = 0.0

    @property
    def tokens(self) -> float:
        return self.decoding + self.prefill


def step_seconds(work: Work, rates: Rates, side: HostSide, step: Step, constants: Constants = FITTED) -> float:
    """Seconds from one step to the next. A pipeline has as many batches in flight as stages, each a part of all."""
    gpu = gpu_seconds(work, rates, step, constants)
    host = side.slowness * (constants.step + constants.sequence * step.decoding)
    return max(gpu, host) if side.overlapped else gpu + host


def gpu_seconds(work: Work, rates: Rates, step: Step, constants: Constants = FITTED) -> float:
    """Seconds that the GPUs of a replica work on one batch, through all stages."""
    seconds = sum(_matrix_seconds(part, step.tokens, rates, constants, constants.gemm) for part in work.dense)
    seconds += _matrix_seconds(work.head, step.decoding + step.prompts, rates, constants, constants.gemm)
    for experts in work.experts:
        touched = Matrices(
            experts.one.size * _distinct(experts, step.tokens),
            experts.one.weights * experts.chosen,
            experts.one.bits,
        )
        seconds += _matrix_seconds(touched, step.tokens, rates, constants, constants.experts)
    seconds += sum(_attention_seconds(part, step, rates, constants) for part in work.attention)
    seconds += step.decoding * work.state / (rates.memory * constants.memory)
    seconds += work.layers * constants.layer + work.sparse_layers * constants.sparse_layer
    return seconds + _link_seconds(work, rates, step, constants)


def _matrix_seconds(part: Matrices, tokens: float, rates: Rates, constants: Constants, share: float) -> float:
    """Reading overlaps with multiplying, though never fully: the two add up like the sides of a right angle."""
    reading = part.size / (rates.memory * constants.memory)
    multiplying = 2 * tokens * part.weights / (rates.multiplying(part.bits) * share)
    return float((reading**2 + multiplying**2) ** 0.5)


def _distinct(experts: Experts, tokens: float) -> float:
    """Experts that at least one of ``tokens`` chooses, if all are chosen alike."""
    return float(experts.count * (1 - (1 - experts.chosen / experts.count) ** tokens))


def _attention_seconds(part: Attention, step: Step, rates: Rates, constants: Constants) -> float:
    flops = rates.multiplying(16) * constants.attention
    seen = step.decoding * min(step.context, part.reach)
    decoding = max(seen * part.size / (rates.memory * constants.memory), seen * part.decode / flops)
    return decoding + step.prefill * min(step.behind, part.reach) * part.prefill / flops


def _link_seconds(work: Work, rates: Rates, step: Step, constants: Constants) -> float:
    ranks = work.tensor_parallel_size
    activations = step.tokens * work.hidden * DTYPE_BYTES["bfloat16"]
    # a ring all-reduce sends almost twice what each rank holds; between stages the states go once
    reduced = 2 * work.layers * activations * 2 * (ranks - 1) / ranks
    handed = (work.pipeline_parallel_size - 1) * activations
    hops = 2 * work.layers * (ranks > 1) + work.pipeline_parallel_size - 1
    return (reduced + handed) / (rates.link * constants.link) + (0 if rates.nvlink else hops * constants.hop)


@lru_cache(maxsize=4096)
def work_of(
    shape: ModelShape,
    tensor_parallel_size: int,
    pipeline_parallel_size: int = 1,
    expert_parallel_size: int = 1,
    kv_item_bytes: int = 2,
    context_ranks: int = 1,
) -> Work:
    """What running ``shape`` over a token means for one rank.

    ``kv_item_bytes``: of one key or value. ``context_ranks``: ranks that each keep a part of the tokens.

    With expert parallelism a rank holds whole experts, but fewer of them: per expert of the model it reads and
    multiplies the same share as when every expert is divided.

    Raises ShardingError where the weights cannot be divided by the tensor parallel size, and UnsupportedModelError
    where their format is not known.
    """
    ranks = tensor_parallel_size
    dense: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    routed: dict[int, list[float]] = defaultdict(lambda: [0.0, 0.0])
    head = embedding = Matrices(0.0, 0.0, 16)
    for tensor, count in _weights(shape):
        part = _matrices(tensor, ranks, expert_parallel_size)
        if tensor.part == "embedding":
            embedding = part
        elif tensor.part == "lm_head":
            head = part
        else:
            sums = (routed if tensor.experts else dense)[part.bits]
            sums[0] += part.size * count
            sums[1] += part.weights * count
    sparse = sum(shape.mlp_type(layer) in (SPARSE, BOTH) for layer in range(shape.num_hidden_layers))
    return Work(
        layers=shape.num_hidden_layers,
        sparse_layers=sparse,
        hidden=shape.hidden_size,
        tensor_parallel_size=ranks,
        pipeline_parallel_size=pipeline_parallel_size,
        dense=tuple(Matrices(size, weights, bits) for bits, (size, weights) in dense.items()),
        head=embedding if shape.tie_word_embeddings else head,
        experts=tuple(
            Experts(
                shape.num_experts,
                shape.num_experts_per_tok,
                Matrices(size / shape.num_experts, weights / shape.num_experts, bits),
            )
            for bits, (size, weights) in routed.items()
        ),
        attention=_attention(shape, ranks, kv_item_bytes, context_ranks),
        state=_state_bytes(shape, ranks),
    )


@lru_cache(maxsize=256)
def _weights(shape: ModelShape) -> tuple[tuple[Tensor, int], ...]:
    """The weights that text goes through, those alike in all layers once, with their number."""
    alike = Counter(replace(tensor, name="", layer=None) for tensor in tensors(shape) if tensor.part != "vision")
    return tuple(alike.items())


def _matrices(tensor: Tensor, ranks: int, expert_parallel_size: int) -> Matrices:
    extents = tensor.shape_on_rank(ranks, expert_parallel_size)
    # norms and biases are read and added, not multiplied
    multiplied = len(extents) > (2 if tensor.experts else 1)
    size = tensor.bytes_on_rank(ranks, expert_parallel_size)
    return Matrices(size, math.prod(extents) if multiplied else 0, _multiplied_bits(tensor))


def _multiplied_bits(tensor: Tensor) -> int:
    """Bits of the operands that a weight is multiplied with, if the device has such operations."""
    stored = tensor.storage
    return NARROW.get((stored.bits, stored.scale_bytes), 16) if stored else 16


def _attention(shape: ModelShape, ranks: int, item_bytes: int, context_ranks: int) -> tuple[Attention, ...]:
    """The layers that look back, those alike together."""
    kinds = Counter(
        part for layer in range(shape.num_hidden_layers) for part in _layer(shape, layer, ranks, item_bytes)
    )
    return tuple(
        Attention(part.size * count / context_ranks, part.prefill * count, part.decode * count, part.reach)
        for part, count in kinds.items()
    )


def _layer(shape: ModelShape, layer: int, ranks: int, item_bytes: int) -> Iterator[Attention]:
    """How one layer looks back: not at all where it keeps a state, in two ways where an indexer finds the tokens."""
    kind = shape.layer_type(layer)
    if kind in (LINEAR, MAMBA, NO_ATTENTION):
        return
    reach = FULL_REACH
    if kind == SLIDING and shape.sliding_window:
        reach = shape.sliding_window
    if kind == CHUNKED and shape.attention_chunk_size:
        reach = shape.attention_chunk_size
    heads = shape.num_attention_heads / ranks
    if shape.attention == MLA:
        yield _latent(shape, heads, item_bytes, SPARSE_ATTENTION_TOKENS if shape.index_n_heads else reach)
        if shape.index_n_heads:
            # every rank has the whole indexer; it keeps one 8-bit key a token, with a scale
            pair = 2.0 * shape.index_n_heads * shape.index_head_dim
            yield Attention(shape.index_head_dim + INDEX_SCALE_BYTES, pair, pair)
        return
    width = shape.head_width(layer)
    kept = max(1.0, shape.key_value_heads(layer) / ranks)
    pair = 4.0 * heads * width
    yield Attention(2 * kept * width * item_bytes, pair, pair, reach)


def _latent(shape: ModelShape, heads: float, item_bytes: int, reach: float) -> Attention:
    """Latent attention. Prompts are attended to head by head; decoding multiplies with the latent vector itself, of
    which every rank keeps and reads a whole copy."""
    rotary = shape.qk_rope_head_dim
    return Attention(
        size=(shape.kv_lora_rank + rotary) * item_bytes,
        prefill=2 * heads * (shape.qk_nope_head_dim + rotary + shape.v_head_dim),
        decode=2 * heads * (2 * shape.kv_lora_rank + rotary),
        reach=reach,
    )


def _state_bytes(shape: ModelShape, ranks: int) -> float:
    """Bytes that a sequence's states are read and written with in a step, on one rank."""
    kinds = Counter(shape.layer_type(layer) for layer in range(shape.num_hidden_layers))
    linear = shape.linear_num_value_heads * shape.linear_key_head_dim * shape.linear_value_head_dim
    mamba = shape.mamba_num_heads * shape.mamba_head_dim * shape.mamba_state_size
    return 2 * STATE_ITEM_BYTES * (kinds[LINEAR] * linear + kinds[MAMBA] * mamba) / ranks
