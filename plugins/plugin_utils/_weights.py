# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes of weights on each rank, as the engine holds them and as its log counts them.

Beyond the checkpoint's own bytes, divided by the ranks, the engine keeps tables of rotary positions, the padding that
its kernels of 4-bit experts want, copies of the latent projections of quantised models, adapters and draft layers
where they are asked for; and its allocator gives large weights whole pages. Each is small, and together they are what
lies between "parameters x bytes" and the log (2 % and more on models whose layers are no multiple of 2 MiB).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ..module_utils._model import DTYPE_BYTES, MLA, ModelShape
from ..module_utils._model_tensors import Tensor, draft_tensors, tensors
from ..module_utils._quantization import plain

MIB = 2**20
LARGE_BYTES, PAGE_BYTES, KEPT_BYTES, UNIT_BYTES = 10 * MIB, 2 * MIB, 1 * MIB, 512
"""PyTorch's allocator: a request from 10 MiB on gets a segment of its own in pages of 2 MiB, and keeps what is left of
it up to 1 MiB; smaller ones are cut from shared segments in units of 512 bytes. Source: PyTorch 2.14,
c10/cuda/CUDACachingAllocator.cpp (kMinLargeAlloc, kRoundLarge, kSmallSize, kMinBlockSize)."""

EXPERT_TILES = (256, 128)
HOPPER, HOPPER_TILES = (9, 0), (256, 64)
"""Multiples to which hidden state and width of MXFP4 experts are padded: Marlin's, and those of the Triton kernels on
Hopper. Source: vLLM 0.33, fused_moe/oracle/mxfp4.py; start-up logs of gpt-oss on A100, GB10, H100 and H200."""

LORA_RANK, LORA_COUNT = 16, 1
"""The engine's defaults for adapters (vLLM 0.33, config/lora.py)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one replica is cut: tensor parallel inside each stage, stages of layers one after another.

    With data parallelism an engine has so many copies of everything but its routed experts, which are spread over all
    ranks; each copy has a KV cache and a scheduler of its own. nnodes: hosts that the ranks are spread over evenly.
    """

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    nnodes: int = 1

    @property
    def world(self) -> int:
        """Ranks, and so devices, of one replica."""
        return self.tensor_parallel_size * self.pipeline_parallel_size * self.data_parallel_size

    @property
    def local(self) -> int:
        """Ranks on each host."""
        return self.world // self.nnodes

    @property
    def crosses(self) -> bool:
        """Whether the ranks that share each layer are on several hosts."""
        return self.nnodes > 1 and self.local % self.tensor_parallel_size > 0

    def __str__(self) -> str:
        stages = f"pipeline_parallel_size {self.pipeline_parallel_size}"
        copies = f" x data_parallel_size {self.data_parallel_size}" if self.data_parallel_size > 1 else ""
        hosts = f" over {self.nnodes} hosts" if self.nnodes > 1 else ""
        return f"tensor_parallel_size {self.tensor_parallel_size} x {stages}{copies}{hosts}"


def layout_of(config: Mapping[str, Any]) -> Layout:
    """The layout that a unit's settings name."""
    sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size", "nnodes")
    return Layout(*(config.get(size) or 1 for size in sizes))


@dataclass(frozen=True, slots=True)
class Holding:
    """How ranks hold weights, beside the layout.

    expert_parallel_size: ranks over which whole experts are spread; 1 where each expert is cut. tiles: see
    EXPERT_TILES. paged: weights lie in the pages of PyTorch's allocator, as on GPUs. lora_rank, lora_count: of
    adapters, 0 without. drafts: the layers that draft tokens are loaded.
    """

    expert_parallel_size: int = 1
    tiles: tuple[int, int] = (1, 1)
    paged: bool = False
    lora_rank: int = 0
    lora_count: int = 0
    drafts: bool = False


PLAIN = Holding()
"""The checkpoint's own bytes, divided."""


def holding(arguments: Mapping[str, Any], capability: tuple[int, ...], layout: Layout) -> Holding:
    """How GPUs of a compute capability hold weights under an engine's arguments."""
    lora = arguments.get("enable_lora") is True
    together = layout.tensor_parallel_size * layout.data_parallel_size
    return Holding(
        expert_parallel_size=together if arguments.get("enable_expert_parallel") is True else 1,
        tiles=HOPPER_TILES if capability == HOPPER else EXPERT_TILES,
        paged=True,
        lora_rank=_whole(arguments.get("max_lora_rank"), LORA_RANK) if lora else 0,
        lora_count=_whole(arguments.get("max_loras"), LORA_COUNT) if lora else 0,
        drafts=drafts_itself(arguments),
    )


def _whole(value: Any, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default


def speculation(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """The engine's speculative_config, which may be JSON in text; empty where there is none."""
    given = arguments.get("speculative_config")
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except ValueError:
            given = None
    return given if isinstance(given, Mapping) else {}


def drafts_itself(arguments: Mapping[str, Any]) -> bool:
    """Whether the model's own draft layers are loaded."""
    return "mtp" in str(speculation(arguments).get("method", "")).lower()


def stage_layers(layers: int, stages: int) -> tuple[int, ...]:
    """Layers of each pipeline stage.

    What does not divide goes one layer each to the stages before the last, which also holds the output head.
    Source: vLLM 0.33, distributed/utils.py get_pp_indices.

    >>> stage_layers(30, 4)
    (7, 8, 8, 7)
    """
    each, rest = divmod(layers, stages)
    extra = range(stages - 1 - rest, stages - 1)
    return tuple(each + (stage in extra) for stage in range(stages))


def stage_weights(shape: ModelShape, layout: Layout, held: Holding = PLAIN) -> tuple[int, ...]:
    """Bytes of weights on each rank of each stage. Raises ShardingError where they cannot be divided."""
    parts = _parts(shape, layout.tensor_parallel_size, held)
    stages, last = [], layout.pipeline_parallel_size - 1
    first_layer = 0
    for stage, count in enumerate(stage_layers(shape.num_hidden_layers, layout.pipeline_parallel_size)):
        total = sum(parts.layers[first_layer : first_layer + count]) + parts.everywhere
        first_layer += count
        if stage == 0:
            total += parts.first
        if stage == last:
            total += parts.last
        if stage == last != 0 and shape.tie_word_embeddings:
            total += parts.embedding
        stages.append(total)
    return tuple(stages)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Bytes on one rank: of what the first stage holds beside its layers (of which the embedding), of each layer, of
    what the last stage holds, and of what every rank has."""

    first: int
    embedding: int
    layers: tuple[int, ...]
    last: int
    everywhere: int


@lru_cache(maxsize=4096)
def _parts(shape: ModelShape, tensor_parallel_size: int, held: Holding) -> _Parts:
    design = _design(shape)
    sizes = [_held_bytes(layer, shape, tensor_parallel_size, held) for layer in design.designs]
    ends = {"embedding": 0, "vision": 0, "last": 0}
    for tensor in design.ends:
        part = tensor.part if tensor.part in ends else "last"
        ends[part] += _held_bytes((tensor,), shape, tensor_parallel_size, held)
    drafted = tuple(draft_tensors(shape)) if held.drafts else ()
    return _Parts(
        first=ends["embedding"] + ends["vision"],
        embedding=ends["embedding"],
        layers=tuple(sizes[number] for number in design.layers),
        last=ends["last"] + _held_bytes(drafted, shape, tensor_parallel_size, held),
        everywhere=shape.rotary_elements * DTYPE_BYTES[shape.dtype] if held.paged else 0,
    )


def _held_bytes(weights: Iterable[Tensor], shape: ModelShape, tensor_parallel_size: int, held: Holding) -> int:
    """Bytes on one rank of the weights of one layer."""
    modules: dict[str, int] = {}
    total = 0
    for number, tensor in enumerate(weights):
        extents = tensor.shape_on_rank(tensor_parallel_size, held.expert_parallel_size, held.tiles)
        stored = tensor.known_storage
        module = tensor.fused or str(number)
        modules[module] = modules.get(module, 0) + stored.matrix_bytes(extents)
        total += stored.scales_bytes(extents)
        if held.lora_rank and tensor.linear and not tensor.experts:
            total += held.lora_count * held.lora_rank * sum(extents) * DTYPE_BYTES[shape.dtype]
        if held.paged and shape.attention == MLA and tensor.quantized and ".kv_b_proj." in tensor.name:
            total += plain(DTYPE_BYTES[shape.dtype]).bytes_of(extents)
    return total + sum(_allocated(size) if held.paged else size for size in modules.values())


def _allocated(size: int) -> int:
    """The bytes that PyTorch's allocator counts for a weight of this size."""
    if size < LARGE_BYTES:
        return -(-size // UNIT_BYTES) * UNIT_BYTES
    segment = -(-size // PAGE_BYTES) * PAGE_BYTES
    return segment if segment - size <= KEPT_BYTES else size


@dataclass(frozen=True, slots=True)
class _Design:
    """A model's weights without repetition: the layers that differ, which of them each layer is, and both ends."""

    designs: tuple[tuple[Tensor, ...], ...]
    layers: tuple[int, ...]
    ends: tuple[Tensor, ...]


@lru_cache(maxsize=256)
def _design(shape: ModelShape) -> _Design:
    layers: list[list[Tensor]] = [[] for _layer in range(shape.num_hidden_layers)]
    ends: list[Tensor] = []
    for tensor in tensors(shape):
        if tensor.layer is None:
            ends.append(replace(tensor, name=""))
        else:
            layers[tensor.layer].append(_nameless(tensor))
    numbers: dict[tuple[Tensor, ...], int] = {}
    which = tuple(numbers.setdefault(tuple(layer), len(numbers)) for layer in layers)
    return _Design(tuple(numbers), which, tuple(ends))


def _nameless(tensor: Tensor) -> Tensor:
    """The weight without the number of its layer, so that layers that are alike compare equal."""
    number = f".layers.{tensor.layer}."
    return replace(
        tensor, name=tensor.name.replace(number, ".", 1), fused=tensor.fused.replace(number, ".", 1), layer=None
    )
