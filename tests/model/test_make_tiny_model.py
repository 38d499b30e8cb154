# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tiny model is whole, readable, and the same everywhere."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import make_tiny_model


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return make_tiny_model.files()


@pytest.fixture(scope="module")
def header(files: dict[str, bytes]) -> dict[str, dict]:
    data = files["model.safetensors"]
    (length,) = struct.unpack("<Q", data[:8])
    tensors = json.loads(data[8 : 8 + length])
    assert tensors.pop("__metadata__") == {"format": "pt"}
    return tensors | {"data": {"bytes": len(data) - 8 - length, "header": length}}


def test_bytes_are_the_same_on_every_machine(files):
    digest = hashlib.sha256(b"".join(files[name] for name in sorted(files))).hexdigest()
    assert digest == "323a69a97c1b0faf3e17f50aa2fd0fd6dfa5502ae352efd66e77e5f2b9b8ecc3"


def test_tensors_fill_the_file_without_gap_or_overlap(header):
    data = header.pop("data")
    offset = 0
    for tensor in sorted(header.values(), key=lambda tensor: tensor["data_offsets"]):
        begin, end = tensor["data_offsets"]
        elements = 1
        for size in tensor["shape"]:
            elements *= size
        assert (begin, end) == (offset, offset + 2 * elements)
        offset = end
    assert offset == data["bytes"]
    assert data["header"] % 8 == 0


def test_shapes_are_those_that_config_announces(files, header):
    config = json.loads(files["config.json"])
    heads, kv_heads, size = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    hidden = config["hidden_size"]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}.self_attn."
        assert header[prefix + "q_proj.weight"]["shape"] == [heads * size, hidden]
        assert header[prefix + "k_proj.weight"]["shape"] == [kv_heads * size, hidden]
        assert header[prefix + "o_proj.weight"]["shape"] == [hidden, heads * size]
    assert header["lm_head.weight"]["shape"] == [config["vocab_size"], hidden]
    assert heads % 2 == kv_heads % 2 == config["num_hidden_layers"] % 2 == 0, "two ranks of either kind must divide it"


def test_tokenizer_is_a_byte_level_bpe_of_the_announced_size(files):
    config = json.loads(files["config.json"])
    tokenizer = json.loads(files["tokenizer.json"])
    vocabulary = tokenizer["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(config["vocab_size"]))
    assert all(letter in vocabulary for letter in make_tiny_model.byte_letters().values())
    assert all(left + right in vocabulary for left, right in tokenizer["model"]["merges"])
    special = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    assert special["<|end|>"] == config["eos_token_id"]


def test_only_words_can_be_said(files):
    tokenizer = make_tiny_model.Tokenizer.learn()
    words = [token for token, number in tokenizer.vocabulary.items() if number in tokenizer.speakable()]
    assert len(words) > 20
    assert all(word.startswith("\u0120") and word[1:].isalpha() for word in words)
    assert json.loads(files["config.json"])["eos_token_id"] not in tokenizer.speakable()


@pytest.mark.parametrize(("value", "bits"), [(1.0, 0x3F80), (-2.0, 0xC000), (0.0, 0x0000), (1 / 3, 0x3EAA)])
def test_bfloat16(value, bits):
    assert make_tiny_model.bfloat16(value) == bits


def test_everybody_may_read_what_is_written(tmp_path):
    before = os.umask(0o077)
    try:
        written = make_tiny_model.write(tmp_path)
    finally:
        os.umask(before)
    assert sorted(written) == sorted(path.name for path in tmp_path.iterdir())
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}


def test_leaves_alone_what_is_in_place(tmp_path):
    make_tiny_model.write(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert make_tiny_model.write(tmp_path) == ["config.json"]
