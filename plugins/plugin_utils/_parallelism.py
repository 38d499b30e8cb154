# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ways of cutting a replica are legal: tensor parallel by the heads, pipeline parallel by the layers.

The engine's rules (vLLM 0.33, config/model.py verify_with_parallel_config, layers/linear.py): the attention heads
divide by the tensor parallel size; the key-value heads divide by it, or it by them; the columns of the feed-forward
layers divide by it; a pipeline has at most one stage a layer, and the model must know pipelines.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from ..module_utils._model import ModelShape, ShardingError
from ._memory import Layout, stage_weights
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


def tensor_sizes(shape: ModelShape, most: int) -> list[int]:
    """The legal tensor parallel sizes up to ``most``."""
    return [size for size in range(1, most + 1) if why_not_tensor(shape, size) is None]


def layouts(model: Model, shape: ModelShape, devices: int) -> Iterator[Layout]:
    """The legal layouts of at most ``devices`` ranks that the wishes leave open, tensor parallel ones first.

    Stages inside a host are for models whose heads do not divide as far as the devices go: within one host tensor
    parallelism answers sooner.
    """
    fixed_tensor, fixed_pipeline = model.tensor_parallel_size, model.pipeline_parallel_size
    for pipeline in [fixed_pipeline] if fixed_pipeline else range(1, devices + 1):
        if why_not_pipeline(shape, pipeline):
            continue
        for tensor in [fixed_tensor] if fixed_tensor else tensor_sizes(shape, devices // pipeline):
            if tensor * pipeline <= devices and why_not_tensor(shape, tensor) is None:
                yield Layout(tensor, pipeline)
