#!/usr/bin/env python3
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a tiny Llama that real vLLM loads and serves: 2.6 million random weights and a real tokenizer.

    make_tiny_model.py FOLDER

The files are the same, byte for byte, on every machine and Python; those already in place are left alone. Written with
the standard library alone, since the weights need neither training nor a framework: a safetensors file is a JSON header
and bytes, and a byte-level BPE is a list of merges.

The weights are random but for one thing. The first dimension of the hidden state is the same positive number for every
token, no layer adds to it, and the output layer weighs it so that the model only ever says whole words: it never ends
early and never breaks a character in two, whatever the prompt.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import re
import struct
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HIDDEN = 256
INTERMEDIATE = 512
LAYERS = 4
HEADS = 4
KV_HEADS = 2
HEAD_DIM = 64
VOCABULARY = 384

SPECIALS = ["<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]

# What stands for the space in a byte-level BPE.
SPACE = "\u0120"

# What the merges are learned from.
TEXT = """
A replica is a copy of the model that answers alone. Tensor parallelism splits every layer over several devices of one
host, pipeline parallelism gives each host some of the layers, and the front door spreads requests over the replicas.
The planner reads the inventory and the devices, works out what fits where, and says why; the roles apply the plan,
and nothing else decides. A request comes in through the gateway, waits for a place in the batch, and leaves as a
stream of tokens. When a worker dies its engine ends and starts again; when a host is lost the others answer. Weights
are read once, the cache holds what was said before, and the watchdog asks for one token now and then to see that the
engine still speaks.
"""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def byte_letters() -> dict[int, str]:
    """The letter that stands for each byte in a byte-level BPE: itself where it prints, else one above U+0100."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


def learn_merges(text: str, count: int) -> list[tuple[str, str]]:
    """Learn ``count`` merges of byte-pair encoding from a text.

    Of pairs that are equally frequent the one that begins a word comes first, then the one that sorts first.
    """
    letters = byte_letters()
    words = Counter(
        tuple(letters[byte] for byte in word.encode()) for word in re.findall(r" ?[A-Za-z]+| ?[^\sA-Za-z]+|\s+", text)
    )
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, times in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += times
        best = min(pairs, key=lambda pair: (-pairs[pair], pair[0][0] != SPACE, pair))
        merges.append(best)
        words = Counter({merge_word(word, best): times for word, times in words.items()})
    return merges


def merge_word(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    """Join every occurrence of the pair in a word."""
    merged: list[str] = []
    for letter in word:
        if merged and (merged[-1], letter) == pair:
            merged[-1] += letter
        else:
            merged.append(letter)
    return tuple(merged)


@dataclass(frozen=True)
class Tokenizer:
    """A byte-level BPE tokenizer."""

    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]

    @classmethod
    def learn(cls) -> Tokenizer:
        """Learn one of the wanted size from TEXT."""
        merges = learn_merges(" ".join(TEXT.split()), VOCABULARY - 256 - len(SPECIALS))
        tokens = [*SPECIALS, *byte_letters().values(), *("".join(pair) for pair in merges)]
        return cls({token: number for number, token in enumerate(tokens)}, merges)

    def speakable(self) -> set[int]:
        """The tokens that the model may say: the words of TEXT that are one token each, with the space before them."""
        words = {SPACE + word for word in re.findall(r"[A-Za-z]+", TEXT)}
        return {number for token, number in self.vocabulary.items() if token in words}

    def document(self) -> dict[str, Any]:
        """The content of tokenizer.json."""
        byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        return {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": self.vocabulary[token], "content": token, **flags} for token in SPECIALS],
            "normalizer": None,
            "pre_tokenizer": byte_level,
            "post_processor": byte_level,
            "decoder": byte_level,
            "model": {
                "type": "BPE",
                "dropout": None,
                "unk_token": None,
                "continuing_subword_prefix": None,
                "end_of_word_suffix": None,
                "fuse_unk": False,
                "byte_fallback": False,
                "ignore_merges": False,
                "vocab": self.vocabulary,
                "merges": [list(pair) for pair in self.merges],
            },
        }


def bfloat16(value: float) -> int:
    """The 16 bits of the bfloat16 nearest to zero from ``value``."""
    return int(struct.unpack("<I", struct.pack("<f", value))[0]) >> 16


class Weights:
    """Random tensors in bfloat16, drawn from one seeded generator."""

    def __init__(self) -> None:
        self._random = random.Random(20)  # noqa: S311  (nothing here is secret)
        self.tensors: dict[str, tuple[list[int], bytearray]] = {}

    def matrix(self, name: str, rows: int, columns: int) -> None:
        """Add a matrix that keeps the size of what it is applied to: uniform, of variance 1 / columns."""
        bound = math.sqrt(3 / columns)
        values = [bfloat16(bound * (byte - 127.5) / 127.5) for byte in range(256)]
        drawn = self._random.randbytes(rows * columns)
        data = bytearray(2 * rows * columns)
        data[0::2] = drawn.translate(bytes(value & 0xFF for value in values))
        data[1::2] = drawn.translate(bytes(value >> 8 for value in values))
        self.tensors[name] = ([rows, columns], data)

    def ones(self, name: str, size: int) -> None:
        """Add a vector of ones: the weight of a norm."""
        self.tensors[name] = ([size], bytearray(struct.pack("<H", bfloat16(1.0)) * size))

    def set(self, name: str, row: int, column: int, value: float) -> None:
        """Overwrite one element of a matrix."""
        (_, columns), data = self.tensors[name]
        struct.pack_into("<H", data, 2 * (row * columns + column), bfloat16(value))

    def safetensors(self) -> bytes:
        """The content of a safetensors file: length of the header, header, data in the header's order."""
        header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset = 0
        for name, (shape, data) in sorted(self.tensors.items()):
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + len(data)]}
            offset += len(data)
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + b"".join(data for _, (_, data) in sorted(self.tensors.items()))


def make_weights(speakable: set[int]) -> Weights:
    """All tensors of the model, under the names that LlamaForCausalLM reads."""
    weights = Weights()
    weights.matrix("model.embed_tokens.weight", VOCABULARY, HIDDEN)
    weights.matrix("lm_head.weight", VOCABULARY, HIDDEN)
    weights.ones("model.norm.weight", HIDDEN)
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        weights.matrix(f"{prefix}self_attn.q_proj.weight", HEADS * HEAD_DIM, HIDDEN)
        weights.matrix(f"{prefix}self_attn.k_proj.weight", KV_HEADS * HEAD_DIM, HIDDEN)
        weights.matrix(f"{prefix}self_attn.v_proj.weight", KV_HEADS * HEAD_DIM, HIDDEN)
        weights.matrix(f"{prefix}self_attn.o_proj.weight", HIDDEN, HEADS * HEAD_DIM)
        weights.matrix(f"{prefix}mlp.gate_proj.weight", INTERMEDIATE, HIDDEN)
        weights.matrix(f"{prefix}mlp.up_proj.weight", INTERMEDIATE, HIDDEN)
        weights.matrix(f"{prefix}mlp.down_proj.weight", HIDDEN, INTERMEDIATE)
        weights.ones(f"{prefix}input_layernorm.weight", HIDDEN)
        weights.ones(f"{prefix}post_attention_layernorm.weight", HIDDEN)
        for name, columns in (("self_attn.o_proj", HEADS * HEAD_DIM), ("mlp.down_proj", INTERMEDIATE)):
            for column in range(columns):
                weights.set(f"{prefix}{name}.weight", 0, column, 0.0)
    for token in range(VOCABULARY):
        weights.set("model.embed_tokens.weight", token, 0, 1.0)
        weights.set("lm_head.weight", token, 0, 32.0 if token in speakable else -32.0)
    return weights


def config() -> dict[str, Any]:
    """The content of config.json."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 4096,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 0,
        "eos_token_id": 1,
    }


def files() -> dict[str, bytes]:
    """Every file of the model, by name."""
    tokenizer = Tokenizer.learn()
    documents = {
        "config.json": config(),
        "generation_config.json": {"bos_token_id": 0, "eos_token_id": 1},
        "tokenizer.json": tokenizer.document(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIALS[0],
            "eos_token": SPECIALS[1],
            "pad_token": SPECIALS[1],
            "model_max_length": 4096,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    }
    texts = {name: (json.dumps(document, indent=2) + "\n").encode() for name, document in documents.items()}
    return texts | {"model.safetensors": make_weights(tokenizer.speakable()).safetensors()}


def write(folder: Path) -> list[str]:
    """Bring the files into the folder, each whole or not at all, readable by everybody; return those written."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, content in files().items():
        path = folder / name
        if path.is_file() and path.read_bytes() == content:
            continue
        partial = path.with_suffix(".partial")
        partial.write_bytes(content)
        partial.chmod(0o644)
        os.replace(partial, path)
        written.append(name)
    return written


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} FOLDER")
    for name in write(Path(sys.argv[1])):
        print(f"{sys.argv[1]}/{name}")
