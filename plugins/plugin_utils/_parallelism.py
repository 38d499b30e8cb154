# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ways of cutting a replica are legal: tensor parallel by the heads, pipeline parallel by the layers.

The engine's rules (vLLM 0.33, config/model.py verify_with_parallel_config, layers/linear.py): the attention heads
divide by the tensor parallel size; the key-value heads divide by it, or it by them; the columns of the feed-forward
layers divide by it; a pipeline has at most one stage a layer, and the model must know pipelines; the tokens of the KV
cache can be dealt out among ranks that would otherwise keep the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache

from ..module_utils._model import CHUNKED, MLA, SLIDING, ModelShape, ShardingError
from ._weights import Layout, drafts_itself, stage_weights
from ._wishes import Model


@lru_cache(maxsize=4096)
def why_not_tensor(shape: ModelShape, tensor_parallel_size: int) -> str | None:
    """Why the model cannot be cut into this many ranks a stage, in the engine's terms; None where it can."""
    heads = shape.num_attention_heads
    if heads % tensor_parallel_size:
        return f"tensor_parallel_size {tensor_parallel_size} does not divide its {heads} attention heads"
    try:
        stage_weights(shape, Layout(tensor_parallel_size))
    except ShardingError as error:
        return str(error)
    return None


def why_not_pipeline(shape: ModelShape, pipeline_parallel_size: int) -> str | None:
    """Why the model cannot be cut into this many stages; None where it can."""
    if pipeline_parallel_size == 1:
        return None
    if not shape.supports_pipeline:
        return f"the engine has no pipeline parallelism for {shape.architecture}"
    if pipeline_parallel_size > shape.num_hidden_layers:
        return f"pipeline_parallel_size {pipeline_parallel_size} is more than its {shape.num_hidden_layers} layers"
    return None


def why_not_data(model: Model, shape: ModelShape, layout: Layout) -> str | None:
    """Why an engine cannot have so many copies of the model's attention; None where it can.

    Copies pay where routed experts are spread over all of them. A copy of a whole model is a replica, which the front
    door knows.
    """
    if layout.data_parallel_size == 1:
        return None
    size = f"data_parallel_size {layout.data_parallel_size}"
    if not shape.num_experts:
        return f"{size} is for routed experts, and it has none"
    if model.engine_args.get("enable_expert_parallel") is not True:
        return f"{size} spreads routed experts, which engine_args do not allow"
    if layout.pipeline_parallel_size > 1:
        return f"{size} does not go together with pipeline_parallel_size {layout.pipeline_parallel_size}"
    return None


def why_not_context(model: Model, shape: ModelShape, tensor_parallel_size: int) -> str | None:
    """Why the ranks of a stage cannot deal the KV cache's tokens out among themselves as wished; None where they can.

    Only ranks that would keep the same keys and values can: with latent attention all of a stage, otherwise those
    beyond the number of key-value heads. Source: vLLM 0.33, config/parallel.py, config/model.py and
    v1/core/kv_cache_coordinator.py.
    """
    context_ranks = model.decode_context_parallel_size
    if context_ranks == 1:
        return None
    size = f"decode_context_parallel_size {context_ranks}"
    kinds = {shape.layer_type(layer) for layer in range(shape.num_hidden_layers)}
    if kinds & {SLIDING, CHUNKED}:
        return f"{size} is for layers that attend to everything, and some of its layers have a window"
    if drafts_itself(model.engine_args):
        return f"{size} with layers that draft tokens is not known to this planner: each rank keeps theirs whole"
    if tensor_parallel_size % context_ranks:
        return f"{size} does not divide tensor_parallel_size {tensor_parallel_size}"
    if shape.attention == MLA:
        return None
    heads = shape.num_key_value_heads
    if context_ranks * heads > tensor_parallel_size:
        return (
            f"{size} needs ranks that keep the same, tensor_parallel_size {context_ranks * heads} or more with its "
            f"{heads} key-value heads, and it is {tensor_parallel_size}"
        )
    if shape.num_attention_heads // heads % context_ranks:
        return f"{size} does not divide its {shape.num_attention_heads // heads} attention heads a key-value head"
    return None


def tensor_sizes(shape: ModelShape, most: int) -> list[int]:
    """The legal tensor parallel sizes up to ``most``."""
    return [size for size in range(1, most + 1) if why_not_tensor(shape, size) is None]


def layouts(model: Model, shape: ModelShape, devices: int) -> Iterator[Layout]:
    """The legal layouts of at most ``devices`` ranks that the wishes leave open."""
    for pipeline in _open(model.pipeline_parallel_size, devices):
        if why_not_pipeline(shape, pipeline):
            continue
        for tensor in _open(model.tensor_parallel_size, devices // pipeline):
            if why_not_tensor(shape, tensor) or why_not_context(model, shape, tensor):
                continue
            for data in _open(model.data_parallel_size, devices // (pipeline * tensor)):
                layout = Layout(tensor, pipeline, data)
                if layout.world <= devices and why_not_data(model, shape, layout) is None:
                    yield layout


def spanning(model: Model, shape: ModelShape, devices: int, nnodes: int) -> Iterator[Layout]:
    """The legal layouts over so many hosts of ``devices`` each that the wishes leave open, larger than one host.

    A host has whole stages, or a stage has whole hosts, and all have as many ranks. Copies of attention stay in one
    host.
    """
    for layout in layouts(model, shape, devices * nnodes):
        spread = replace(layout, nnodes=nnodes)
        even = layout.world % nnodes == 0 and layout.data_parallel_size == 1
        if even and layout.world > devices and (not spread.crosses or layout.tensor_parallel_size % spread.local == 0):
            yield spread


def _open(wished: int | None, most: int) -> Iterable[int]:
    """The sizes to try: the wished one, or all that there is room for."""
    return [wished] if wished else range(1, most + 1)
