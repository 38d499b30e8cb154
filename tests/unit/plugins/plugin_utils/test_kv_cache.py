# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils import _model_catalogue
from ansible_collections.gpufleet.serving.plugins.plugin_utils._kv_cache import Rules, cache_layout, token_bytes
from ansible_collections.gpufleet.serving.plugins.plugin_utils._text import GIB
from hypothesis import given
from hypothesis import strategies as st

OLMO, GPT_OSS = "allenai/Olmo-3-7B-Instruct", "openai/gpt-oss-120b"
QWEN_9B, QWEN_27B, QWEN_35B = "Qwen/Qwen3.5-9B", "Qwen/Qwen3.5-27B", "Qwen/Qwen3.5-35B-A3B"
KIMI = "moonshotai/Kimi-Linear-48B-A3B-Instruct"


def layout(name, ranks=1, stages=None, **rules):
    shape = _model_catalogue.shape(name)
    return cache_layout(shape, ranks, stages or (shape.num_hidden_layers,), Rules(**rules))


# What start-up logs printed: GiB of KV cache, and the requests of a length that it holds at once.
PRINTED = {
    "windows, 0.11.2": (OLMO, {"in_flight": 8192}, 28.02, 32768, 3.29),
    "windows, four ranks, 0.10.1.1": (GPT_OSS, {"ranks": 4, "in_flight": 2048}, 45.32, 16384, 284.25),
    "windows, two ranks, 0.15.1": (GPT_OSS, {"ranks": 2, "in_flight": 8192}, 77.93, 131072, 32.56),
    "states, 0.18.0": (QWEN_9B, {}, 15.85, 8192, 51.74),
    "states, four ranks, 0.19.0": (QWEN_9B, {"ranks": 4}, 15.36, 32768, 57.74),
    "states of a mixture": (QWEN_35B, {}, 15.58, 8192, 70.27),
    "states with drafts, 0.25.1": (QWEN_27B, {"draft_tokens": 3, "draft_layers": 1}, 80.17, 262144, 4.54),
    "states in two pages, 8-bit cache, 0.27.1": (QWEN_27B, {"item_bytes": 1, "state_blocks": 2}, 5.42, 163840, 1.01),
    "latents and states": (KIMI, {"ranks": 2}, 2.30, 120000, 2.48),
    "heads alone, 0.22.0": ("Qwen/Qwen3-8B", {"ranks": 2}, 4.11, 8192, 7.31),
    "heads alone, 0.26": ("Qwen/Qwen3-Coder-30B-A3B-Instruct", {}, 13.84, 131072, 1.15),
    "fewer layers with attention than layers": (
        "nvidia/Llama-3_3-Nemotron-Super-49B-v1",
        {"ranks": 4},
        49 / 1024,
        1024,
        1,
    ),
}


@pytest.mark.parametrize(("name", "rules", "kv_gib", "length", "concurrency"), PRINTED.values(), ids=PRINTED)
def test_concurrency_as_start_up_logs_print_it(name, rules, kv_gib, length, concurrency):
    """The logs round the cache to 0.01 GiB and the concurrency to 0.01."""
    cache = layout(name, **rules)
    (block_bytes,) = cache.block_bytes
    each = cache.request_blocks(length)
    low, high = ((kv_gib + error) * GIB // block_bytes / each for error in (-0.005, 0.005))
    assert low - 0.02 <= concurrency <= high + 0.005


BLOCKS = {
    "Olmo 3: eight layers a group": (OLMO, {}, 8 * 16 * 2 * 32 * 128 * 2, 4),
    "gpt-oss on four ranks: eighteen": (GPT_OSS, {"ranks": 4}, 18 * 16 * 2 * 2 * 64 * 2, 2),
    "Llama 3.1 8B: all alike": ("meta-llama/Llama-3.1-8B", {}, 32 * 16 * 2 * 8 * 128 * 2, 1),
    "more ranks than heads": ("meta-llama/Llama-3.1-8B", {"ranks": 16}, 32 * 16 * 2 * 128 * 2, 1),
    "8-bit cache": ("meta-llama/Llama-3.1-8B", {"item_bytes": 1}, 32 * 16 * 2 * 8 * 128, 1),
    "DeepSeek: a latent": ("deepseek-ai/DeepSeek-R1", {}, 61 * 16 * 576 * 2, 1),
    "DeepSeek: the same latent on every rank": ("deepseek-ai/DeepSeek-R1", {"ranks": 8}, 61 * 16 * 576 * 2, 1),
    "with an indexer": ("deepseek-ai/DeepSeek-V3.2", {}, 61 * 16 * (576 * 2 + 128 + 4), 1),
    "with an indexer, 8-bit cache": ("deepseek-ai/DeepSeek-V3.2", {"item_bytes": 1}, 61 * 16 * (656 + 128 + 4), 1),
    "windows that keep everything": (OLMO, {"grouped": False}, 32 * 16 * 2 * 32 * 128 * 2, 1),
    "Gemma 4: wide heads in few layers": ("google/gemma-4-31B", {}, 10 * 16 * 2 * 16 * 256 * 2, 6),
}  # fmt: skip


@pytest.mark.parametrize(("name", "rules", "block_bytes", "groups"), BLOCKS.values(), ids=BLOCKS)
def test_bytes_of_a_block(name, rules, block_bytes, groups):
    cache = layout(name, **rules)
    assert (cache.block_bytes, len(cache.groups)) == ((block_bytes,), groups)


def test_pages_of_narrower_layers_hold_more_tokens():
    """Gemma 4's layers that attend to everything keep half as much of a token, so a page of them holds 32."""
    cache = layout("google/gemma-4-31B")
    assert {(group.kind, group.tokens) for group in cache.groups} == {("full_attention", 32), ("sliding_attention", 16)}
    assert cache.block_tokens == 32


@pytest.mark.parametrize(
    ("name", "ranks"),
    [("deepseek-ai/DeepSeek-R1", 8), ("meta-llama/Llama-3.1-8B", 32), (QWEN_9B, 16)],
)
def test_ranks_that_deal_the_tokens_out_keep_that_many_times_more(name, ranks):
    """Source: vLLM 0.33, v1/kv_cache_interface.py max_memory_usage_bytes; a state stands whole on each rank."""
    alone, dealt = (layout(name, ranks=ranks, context_ranks=number) for number in (1, 4))
    assert dealt.block_bytes == alone.block_bytes
    keeping = [
        (a.tokens, d.tokens) for a, d in zip(alone.groups, dealt.groups, strict=True) if a.kind == "full_attention"
    ]
    assert keeping and all(d == 4 * a for a, d in keeping)
    states = [(a, d) for a, d in zip(alone.groups, dealt.groups, strict=True) if a.kind == "state"]
    assert all(a == d for a, d in states)
    if not states:
        assert dealt.tokens(1000) == 4 * alone.tokens(1000)
        assert dealt.request_blocks(131072) == alone.request_blocks(131072 // 4)
        assert dealt.longest(1000) == 4 * alone.longest(1000)


def test_a_pipeline_divides_groups_among_its_stages():
    whole = layout(OLMO)
    halves = layout(OLMO, stages=(16, 16))
    assert halves.block_bytes == (whole.block_bytes[0] // 2,) * 2
    assert halves.request_blocks(32768) == whole.request_blocks(32768)


def test_a_chunk_is_kept_no_longer_than_it_lasts():
    cache = layout("meta-llama/Llama-4-Scout-17B-16E-Instruct", in_flight=8192)
    full, *chunks = (group.request_blocks(131072, cache.shape, cache.rules) for group in cache.groups[::-1])
    assert full == 131072 // 16
    assert set(chunks) == {(8192 + 8192) // 16}


@pytest.mark.parametrize(("ranks", "heads"), [(1, 8), (2, 4), (8, 1), (16, 1), (64, 1)])
def test_a_rank_keeps_its_heads(ranks, heads):
    assert token_bytes(_model_catalogue.shape("meta-llama/Llama-3.1-8B"), 0, ranks, 2) == heads * 2 * 128 * 2


@given(
    name=st.sampled_from([OLMO, GPT_OSS, QWEN_9B, KIMI, "Qwen/Qwen3-8B", "google/gemma-3-27b-it"]),
    blocks=st.integers(0, 10**6),
    in_flight=st.sampled_from([2048, 16384]),
)
def test_the_longest_request_just_fits(name, blocks, in_flight):
    cache = layout(name, in_flight=in_flight)
    longest = cache.longest(blocks)
    assert longest == 0 or cache.request_blocks(longest) <= blocks
    assert cache.request_blocks(longest + cache.block_tokens + 1) > blocks


@given(
    name=st.sampled_from([OLMO, GPT_OSS, QWEN_27B, KIMI]),
    tokens=st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)),
    drafts=st.integers(0, 4),
)
def test_longer_requests_take_no_fewer_blocks(name, tokens, drafts):
    cache = layout(name, draft_tokens=drafts)
    assert cache.request_blocks(min(tokens)) <= cache.request_blocks(max(tokens))


def test_layouts_are_made_once():
    shape = dataclasses.replace(_model_catalogue.shape(OLMO))
    assert cache_layout(shape, 1, (32,), Rules()) is cache_layout(shape, 1, (32,), Rules())
