# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the engine lays out its KV cache: pages of layers, groups of layers, and the blocks that a request takes.

The rules are vLLM 0.33's (v1/kv_cache_interface.py, v1/core/kv_cache_planning.py, platforms/interface.py):

- a layer keeps a page for every block of tokens: keys and values of a rank's heads, a latent vector, or a state;
- layers of one kind share a block table. Where a model has layers of several kinds they are put in groups of equal
  length, and all groups draw from one pool of blocks, whose size is a page of each layer of a group;
- with decode context parallelism the ranks of a stage deal the tokens of layers that keep everything out among
  themselves, so a block holds that many times the tokens;
- pages have one size: a smaller one holds more tokens, and where a layer keeps a state, blocks of tokens are made as
  large as it;
- a request takes the blocks of every group: all of its tokens, those of a window, or the pages of a state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from ..module_utils._model import CHUNKED, DTYPE_BYTES, FULL, LINEAR, MAMBA, MLA, NO_ATTENTION, SLIDING, ModelShape
from ..module_utils._model_families import FAMILIES, KIMI_DELTA

STATE = "state"
STATE_BYTES = 4
"""The recurrent part of a state is float32 (config.json's mamba_ssm_dtype and mamba_ssm_cache_dtype of the models)."""

INDEX_SCALE_BYTES = 4
"""Beside each key of the sparse-attention indexer stands a float32 scale; the key itself has a byte an element
(vLLM 0.33, v1/attention/backends/mla/indexer.py)."""

PACKED_LATENT_BYTES = 656
"""A token of sparse latent attention in an 8-bit cache: 512 bytes, 4 scales, 64 elements of 16 bits
(vLLM 0.33, v1/attention/backends/mla/flashmla_sparse.py)."""

STATE_ALIGNMENT, LATENT_ALIGNMENT = 16, 64
"""Tokens of which blocks are made when they grow to the size of a state, in models with heads and with latents."""

NEARLY_EQUAL = 1.5
"""Kinds of layers whose numbers differ by less than this factor are put in groups of the larger number."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What differs between versions of the engine, and what the operator chose.

    grouped: layers with a window give back what lies behind it; otherwise they keep everything. in_flight: tokens that
    steps under way may hold beyond a window. context_ranks: ranks that each keep a part of the tokens.
    state_blocks: of one request, for each group of layers with a state.
    draft_tokens: speculated at once. draft_layers: layers of the model's own that draft them, and keep what they read.
    """

    item_bytes: int = 2
    block_tokens: int = 16
    grouped: bool = True
    in_flight: int = 2048
    context_ranks: int = 1
    state_blocks: int = 1
    draft_tokens: int = 0
    draft_layers: int = 0


@dataclass(frozen=True, slots=True)
class _Page:
    """What one layer keeps for a block. kind: FULL, SLIDING, CHUNKED or STATE."""

    kind: str
    tokens: int
    size: int


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that share a block table: their kind, the tokens of a block, and how many lie on each stage."""

    kind: str
    tokens: int
    layers: tuple[int, ...]

    def request_blocks(self, tokens: int, shape: ModelShape, rules: Rules) -> int:
        """Blocks of one request of ``tokens``."""
        if self.kind == STATE:
            return rules.state_blocks + rules.draft_tokens
        if self.kind == SLIDING:
            in_window = (shape.sliding_window or 1) - 1 + rules.in_flight
            return _blocks(min(in_window, tokens), self.tokens) + 1
        if self.kind == CHUNKED:
            return _blocks(min(shape.attention_chunk_size + rules.in_flight, tokens), self.tokens)
        return _blocks(tokens, self.tokens)


@dataclass(frozen=True, slots=True, eq=False)
class Cache:
    """The layout of the cache on the ranks of a replica; one object for one layout, so that it compares by identity.

    block_bytes: of one block, for each stage. block_tokens: that a rank's block holds where everything is kept.
    """

    shape: ModelShape
    rules: Rules
    block_bytes: tuple[int, ...]
    block_tokens: int
    groups: tuple[Group, ...]

    def request_blocks(self, tokens: int) -> int:
        """Blocks of one request of ``tokens``, over all groups."""
        return sum(group.request_blocks(tokens, self.shape, self.rules) for group in self.groups)

    def tokens(self, blocks: int) -> int:
        """Tokens that so many blocks hold: in models of one kind of layers to the block, else of longest requests."""
        if len(self.groups) == 1 and self.groups[0].kind != STATE:
            return blocks * self.groups[0].tokens
        most = self.shape.max_position_embeddings
        return int(blocks / max(1, self.request_blocks(most)) * most)

    def longest(self, blocks: int) -> int:
        """Tokens of the longest request that fits into so many blocks."""
        keeping = sum(group.kind == FULL for group in self.groups)
        if not keeping:
            return self.shape.max_position_embeddings if self.request_blocks(2**40) <= blocks else 0
        high = (blocks // keeping) * max(group.tokens for group in self.groups)
        low = 0
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.request_blocks(middle) <= blocks else (low, middle - 1)
        return low // self.groups[0].tokens * self.groups[0].tokens if len(self.groups) == 1 else low


@lru_cache(maxsize=4096)
def cache_layout(shape: ModelShape, tensor_parallel_size: int, stage_layers: tuple[int, ...], rules: Rules) -> Cache:
    """The layout of the cache where each stage holds so many layers."""
    pages = _pages(shape, tensor_parallel_size, rules)
    if not pages:
        return Cache(shape, rules, (1,) * len(stage_layers), rules.block_tokens, ())
    kinds = {page.kind for page in pages.values()}
    stages = _stage_of_layers(stage_layers, rules.draft_layers)
    if len(kinds) == 1:
        (kind,) = kinds
        sizes = [0] * len(stage_layers)
        for layer, page in pages.items():
            sizes[stages[layer]] += page.size
        counts = tuple(sum(stages[layer] == stage for layer in pages) for stage in range(len(stage_layers)))
        groups = _dealt_out([Group(kind, rules.block_tokens, counts)], rules)
        return Cache(shape, rules, tuple(max(1, size) for size in sizes), rules.block_tokens, groups)
    pages = _of_one_size(shape, pages, tensor_parallel_size, rules)
    groups = _grouped(pages, stages, len(stage_layers))
    size = max(page.size for page in pages.values())
    widest = tuple(max(group.layers[stage] for group in groups) for stage in range(len(stage_layers)))
    tokens = max((group.tokens for group in groups if group.kind == FULL), default=rules.block_tokens)
    return Cache(shape, rules, tuple(max(1, count * size) for count in widest), tokens, _dealt_out(groups, rules))


def _dealt_out(groups: Sequence[Group], rules: Rules) -> tuple[Group, ...]:
    """The groups with the tokens that a block holds on all ranks that share it; a state stands whole on each."""
    return tuple(
        replace(group, tokens=group.tokens * rules.context_ranks) if group.kind == FULL else group for group in groups
    )


def _pages(shape: ModelShape, tensor_parallel_size: int, rules: Rules) -> dict[int, _Page]:
    """The page of each layer that has one."""
    found = {}
    for layer in range(shape.num_hidden_layers):
        kind = shape.layer_type(layer)
        if kind in (LINEAR, MAMBA):
            found[layer] = _Page(STATE, 0, _state_bytes(shape, kind, tensor_parallel_size, rules))
        elif kind != NO_ATTENTION:
            kept = kind if rules.grouped else FULL
            size = rules.block_tokens * token_bytes(shape, layer, tensor_parallel_size, rules.item_bytes)
            found[layer] = _Page(kept, rules.block_tokens, size)
    attending = [page for page in found.values() if page.kind == FULL]
    for draft in range(rules.draft_layers if attending else 0):
        found[shape.num_hidden_layers + draft] = attending[-1]
    if not rules.grouped and {page.kind for page in found.values()} == {FULL} and shape.sliding_window:
        kinds = {shape.layer_type(layer) for layer in found}
        if kinds == {SLIDING}:
            return {layer: replace(page, kind=SLIDING) for layer, page in found.items()}
    return found


def token_bytes(shape: ModelShape, layer: int, tensor_parallel_size: int, item_bytes: int) -> int:
    """Bytes that a layer keeps of one token on one rank.

    With more ranks than key-value heads each rank keeps one head, and several keep the same. A latent vector stands
    whole on every rank, and so does the key of an indexer.
    """
    if shape.attention == MLA:
        latent = (shape.kv_lora_rank + shape.qk_rope_head_dim) * item_bytes
        if not shape.index_n_heads:
            return latent
        latent = PACKED_LATENT_BYTES if item_bytes == 1 else latent
        return latent + shape.index_head_dim + INDEX_SCALE_BYTES
    heads = max(1, shape.key_value_heads(layer) // tensor_parallel_size)
    return heads * 2 * shape.head_width(layer) * item_bytes


def _state_bytes(shape: ModelShape, kind: str, tensor_parallel_size: int, rules: Rules) -> int:
    """Bytes of the state of one layer on one rank: what its convolution looks back at, and the recurrent part.

    Source: vLLM 0.33, model_executor/layers/mamba/mamba_utils.py.
    """
    item = DTYPE_BYTES[shape.dtype]
    if kind == MAMBA:
        heads = _share(shape.mamba_num_heads, tensor_parallel_size)
        groups = _share(shape.mamba_n_groups, tensor_parallel_size)
        channels = heads * shape.mamba_head_dim + 2 * groups * shape.mamba_state_size
        kept = shape.mamba_conv_kernel_dim - 1 + rules.draft_tokens
        return channels * kept * item + heads * shape.mamba_head_dim * shape.mamba_state_size * STATE_BYTES
    keys = _share(shape.linear_num_key_heads, tensor_parallel_size) * shape.linear_key_head_dim
    heads = _share(shape.linear_num_value_heads, tensor_parallel_size)
    values = heads * shape.linear_value_head_dim
    channels = 3 * values if FAMILIES[shape.architecture].linear == KIMI_DELTA else 2 * keys + values
    kept = shape.linear_conv_kernel_dim - 1 + rules.draft_tokens
    return channels * kept * item + values * shape.linear_key_head_dim * STATE_BYTES


def _share(units: int, ranks: int) -> int:
    return max(1, -(-units // ranks))


def _of_one_size(
    shape: ModelShape, pages: dict[int, _Page], tensor_parallel_size: int, rules: Rules
) -> dict[int, _Page]:
    """All pages in one size: blocks grow to the largest state, and pages that remain smaller hold more tokens."""
    state = max((page.size for page in pages.values() if page.kind == STATE), default=0)
    keeping = {layer: page for layer, page in pages.items() if page.kind != STATE}
    if state and keeping:
        per_token = max(page.size // page.tokens for page in keeping.values())
        step = max(LATENT_ALIGNMENT if shape.attention == MLA else STATE_ALIGNMENT, rules.block_tokens)
        tokens = max(rules.block_tokens, _blocks(state, step * per_token) * step)
        keeping = {
            layer: replace(page, tokens=tokens, size=page.size // page.tokens * tokens)
            for layer, page in keeping.items()
        }
    largest = max([page.size for page in keeping.values()] + [state])
    return {layer: _grown(keeping.get(layer, page), largest) for layer, page in pages.items()}


def _grown(page: _Page, size: int) -> _Page:
    """The page with more tokens where its own size divides the wanted one, else padded to it."""
    if page.kind != STATE and size % page.size == 0:
        return replace(page, tokens=page.tokens * (size // page.size), size=size)
    return replace(page, size=size)


def _grouped(pages: dict[int, _Page], stages: Sequence[int], stage_count: int) -> tuple[Group, ...]:
    """Groups of equal length, each of layers of one kind; the layers of a kind are dealt out in turn."""
    kinds: dict[tuple[str, int], list[int]] = {}
    for layer, page in pages.items():
        kinds.setdefault((page.kind, page.tokens), []).append(layer)
    smallest = min(len(layers) for layers in kinds.values())
    largest = max(len(layers) for layers in kinds.values())
    length = largest if largest < smallest * NEARLY_EQUAL else smallest
    groups = []
    for (kind, tokens), layers in kinds.items():
        number = _blocks(len(layers), length)
        for first in range(number):
            dealt = [stages[layer] for layer in layers[first::number]]
            groups.append(Group(kind, tokens, tuple(dealt.count(stage) for stage in range(stage_count))))
    return tuple(groups)


def _stage_of_layers(stage_layers: tuple[int, ...], draft_layers: int) -> tuple[int, ...]:
    """The stage of each layer; layers that draft lie on the last."""
    own = tuple(stage for stage, count in enumerate(stage_layers) for _layer in range(count))
    return own + (len(stage_layers) - 1,) * draft_layers


def _blocks(tokens: int, block_tokens: int) -> int:
    return -(-tokens // block_tokens)
