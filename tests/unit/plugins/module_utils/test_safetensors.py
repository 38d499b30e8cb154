# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import re

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._safetensors import (
    INDEX_NAME,
    SafetensorsError,
    TensorHeader,
    read_header,
    read_headers,
    read_index,
    total_bytes,
    weight_files,
)
from ansible_collections.gpufleet.serving.tests.unit.checkpoints import (
    PARAMETERS,
    TENSORS,
    header,
    write_checkpoint,
    write_safetensors,
)


def length(count):
    return count.to_bytes(8, "little")


def entry(text):
    return length(len(text)) + text.encode()


def test_header_is_read_without_the_data(tmp_path):
    path = tmp_path / "model.safetensors"
    write_safetensors(path, {"a": ("BF16", (3, 4)), "b": ("F32", ()), "c": ("F8_E4M3", (0, 7))})
    assert read_header(str(path)) == {
        "a": TensorHeader("BF16", (3, 4), 24),
        "b": TensorHeader("F32", (), 4),
        "c": TensorHeader("F8_E4M3", (0, 7), 0),
    }


WHOLE, DATA_BYTES = header({"a": ("BF16", (3, 4))})

FAILURES = {
    "empty": (b"", "0 bytes, too short for a safetensors file: copy it again"),
    "half a length": (b"\x01\x02", "2 bytes, too short for a safetensors file: copy it again"),
    "text": (
        b"version https://git-lfs.github.com/spec/v1",
        "announces a header of 2336927755350992246 bytes, the format allows 100000000: "
        "not a safetensors file, or overwritten",
    ),
    "header cut": (
        WHOLE[:40],
        f"announces a header of {len(WHOLE) - 8} bytes, the whole file has 40: truncated, copy it again",
    ),
    "data cut": (
        WHOLE + bytes(DATA_BYTES - 1),
        "its tensors take 24 bytes, the file holds 23: truncated, copy it again",
    ),
    "data left over": (
        WHOLE + bytes(DATA_BYTES + 3),
        "its tensors take 24 bytes, the file holds 27: it has bytes that no tensor owns",
    ),
    "header of zeros": (
        length(4) + bytes(4),
        "its header is not JSON (Expecting value: line 1 column 1 (char 0)): not a safetensors file, or overwritten",
    ),
    "header not UTF-8": (
        length(1) + b"\xff",
        "its header is not JSON ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte): "
        "not a safetensors file, or overwritten",
    ),
    "header a list": (entry("[]"), "its header is a JSON list, not an object"),
    "entry a number": (entry('{"a": 7}'), "the header's entry for tensor a cannot be read: 7"),
    "unknown dtype": (
        entry('{"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 1]}}'),
        "the header's entry for tensor a cannot be read: {'dtype': 'X9', 'shape': [1], 'data_offsets': [0, 1]}",
    ),
    "shape and bytes differ": (
        entry('{"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 3]}}') + bytes(3),
        "tensor a (BF16, shape [2]) does not fit its bytes 0 to 3",
    ),
    "shape of words": (
        entry('{"a": {"dtype": "BF16", "shape": ["2"], "data_offsets": [0, 4]}}') + bytes(4),
        "the header's entry for tensor a cannot be read: {'dtype': 'BF16', 'shape': ['2'], 'data_offsets': [0, 4]}",
    ),
}


@pytest.mark.parametrize(("content", "message"), FAILURES.values(), ids=FAILURES)
def test_broken_file_is_named_with_what_is_wrong(tmp_path, content, message):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(SafetensorsError, match=f"^{re.escape(f'{path}: {message}')}$"):
        read_header(str(path))


def test_every_prefix_of_a_file_is_refused(tmp_path):
    """A copy that broke off anywhere is noticed."""
    whole = WHOLE + bytes(DATA_BYTES)
    path = tmp_path / "model.safetensors"
    path.write_bytes(whole)
    assert read_header(str(path))
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(SafetensorsError, match="too short|truncated"):
            read_header(str(path))


@pytest.mark.parametrize("shards", [1, 3])
def test_all_tensors_of_a_model(tmp_path, shards):
    write_checkpoint(tmp_path, shards)
    tensors = read_headers(str(tmp_path), weight_files(str(tmp_path)))
    assert {name: tensor.shape for name, tensor in tensors.items()} == TENSORS
    assert total_bytes(tensors) == 2 * PARAMETERS


def test_index_decides_which_files_count(tmp_path):
    write_checkpoint(tmp_path, shards=2)
    write_safetensors(tmp_path / "consolidated.safetensors", {"x": ("BF16", (1,))})
    write_safetensors(tmp_path / "adapter.safetensors", {"x": ("BF16", (1,))})
    assert weight_files(str(tmp_path)) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def test_without_index_mistrals_own_format_does_not_count(tmp_path):
    write_checkpoint(tmp_path)
    write_safetensors(tmp_path / "consolidated.safetensors", {"x": ("BF16", (1,))})
    assert weight_files(str(tmp_path)) == ["model.safetensors"]


NO_WEIGHTS = {
    "nothing": ([], "holds no *.safetensors file: copy the weights here"),
    "pickled": (
        ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"],
        "holds weights only as pytorch_model-00001-of-00002.bin and others, a format that can run code when it is "
        "loaded: convert them to safetensors",
    ),
    "one pickle": (
        ["model.pt"],
        "holds weights only as model.pt, a format that can run code when it is loaded: convert them to safetensors",
    ),
    "Mistral's own": (
        ["consolidated.safetensors"],
        "holds only consolidated.safetensors (Mistral's own format): add the Hugging Face files model*.safetensors",
    ),
}


@pytest.mark.parametrize(("names", "message"), NO_WEIGHTS.values(), ids=NO_WEIGHTS)
def test_no_weights(tmp_path, names, message):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(SafetensorsError, match=f"^{re.escape(f'{tmp_path}: {message}')}$"):
        weight_files(str(tmp_path))


def test_missing_shards_are_named(tmp_path):
    write_checkpoint(tmp_path, shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    message = (
        f"{tmp_path}: model.safetensors.index.json names 3 files, 1 of them missing: model-00002-of-00003.safetensors."
        " Copy them here"
    )
    with pytest.raises(SafetensorsError, match=f"^{re.escape(message)}$"):
        weight_files(str(tmp_path))


def test_tensor_in_two_files(tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        write_safetensors(tmp_path / name, {"x": ("BF16", (1,))})
    message = f"{tmp_path}: tensor x is in b.safetensors and in another file too"
    with pytest.raises(SafetensorsError, match=f"^{re.escape(message)}$"):
        read_headers(str(tmp_path), ["a.safetensors", "b.safetensors"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON object with a weight_map from tensor to file name"),
        ("[]", "no JSON object with a weight_map from tensor to file name"),
        ('{"weight_map": ["a"]}', "no JSON object with a weight_map from tensor to file name"),
        ('{"weight_map": {}}', "its weight_map must name files of the same directory, and at least one"),
        ('{"weight_map": {"x": "../a"}}', "its weight_map must name files of the same directory, and at least one"),
        ('{"weight_map": {"x": ""}}', "its weight_map must name files of the same directory, and at least one"),
        ('{"weight_map": {"x": 7}}', "its weight_map must name files of the same directory, and at least one"),
    ],
)
def test_broken_index(tmp_path, text, message):
    path = tmp_path / INDEX_NAME
    path.write_text(text)
    with pytest.raises(SafetensorsError, match=f"^{re.escape(f'{path}: {message}')}$"):
        read_index(str(path))


def test_index_is_read(tmp_path):
    path = tmp_path / INDEX_NAME
    path.write_text(json.dumps({"metadata": {}, "weight_map": {"x": "model-00001-of-00001.safetensors"}}))
    assert read_index(str(path)) == {"x": "model-00001-of-00001.safetensors"}
