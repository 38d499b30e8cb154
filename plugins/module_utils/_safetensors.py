# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a set of safetensors files holds, read from their headers alone.

A file opens with an unsigned 64-bit little-endian length, then that many bytes of JSON that name every tensor with
its dtype, shape and place in the rest of the file. The headers of a 140 GB model are a few MB, so everything here is
cheap, and no tensor is ever read. Format: https://huggingface.co/docs/safetensors (section "Format").
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

INDEX_NAME = "model.safetensors.index.json"

LENGTH_BYTES = 8
HEADER_LIMIT_BYTES = 100_000_000
"""The format's own limit on the header; a larger length means that the file is no safetensors file."""

DTYPE_BITS = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64,
    "F32": 32, "I32": 32, "U32": 32,
    "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "I8": 8, "U8": 8, "BOOL": 8,
    "F4": 4,
}  # fmt: skip
"""Bits an element by the format's dtype names."""


class SafetensorsError(ValueError):
    """A file, or a set of files, that cannot be what its name says; the message names the file and what was seen."""


@dataclass(frozen=True)
class TensorHeader:
    """One tensor as a header describes it: dtype by the format's name, shape in elements, size in bytes."""

    dtype: str
    shape: tuple[int, ...]
    size_bytes: int

    @property
    def elements(self) -> int:
        count = 1
        for extent in self.shape:
            count *= extent
        return count


def read_header(path: str) -> dict[str, TensorHeader]:
    """Return the tensors of one file by name.

    Raises SafetensorsError where the file is truncated, its header is too large or no JSON object, an entry
    contradicts itself, or the tensors do not fill the file; OSError where it cannot be read.
    """
    file_bytes = os.path.getsize(path)
    with open(path, "rb") as stream:
        prefix = stream.read(LENGTH_BYTES)
        if len(prefix) < LENGTH_BYTES:
            raise SafetensorsError(f"{path}: {file_bytes} bytes, too short for a safetensors file: copy it again")
        header_bytes = int.from_bytes(prefix, "little")
        if header_bytes > HEADER_LIMIT_BYTES:
            raise SafetensorsError(
                f"{path}: announces a header of {header_bytes} bytes, the format allows {HEADER_LIMIT_BYTES}: "
                "not a safetensors file, or overwritten"
            )
        data_bytes = file_bytes - LENGTH_BYTES - header_bytes
        if data_bytes < 0:
            raise SafetensorsError(
                f"{path}: announces a header of {header_bytes} bytes, the whole file has {file_bytes}: "
                "truncated, copy it again"
            )
        text = stream.read(header_bytes)
    tensors = {name: _entry(path, name, entry) for name, entry in _parse(path, text).items() if name != "__metadata__"}
    _check_extent(path, tensors, data_bytes)
    return {name: tensor for name, (tensor, end) in tensors.items()}


def _parse(path: str, text: bytes) -> dict:
    try:
        header = json.loads(text.decode("utf-8"))
    except ValueError as error:
        raise SafetensorsError(
            f"{path}: its header is not JSON ({error}): not a safetensors file, or overwritten"
        ) from None
    if not isinstance(header, dict):
        raise SafetensorsError(f"{path}: its header is a JSON {type(header).__name__}, not an object")
    return header


def _entry(path: str, name: str, entry: Any) -> tuple[TensorHeader, int]:
    """Return the tensor and the offset of its end in the data."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        bits = DTYPE_BITS[dtype]
        tensor = TensorHeader(dtype, shape, end - begin)
        whole = begin >= 0 and all(extent >= 0 for extent in shape) and (end - begin) * 8 == tensor.elements * bits
    except (KeyError, TypeError, ValueError):
        raise SafetensorsError(f"{path}: the header's entry for tensor {name} cannot be read: {entry!r}") from None
    if not whole:
        raise SafetensorsError(
            f"{path}: tensor {name} ({dtype}, shape {list(shape)}) does not fit its bytes {begin} to {end}"
        )
    return tensor, end


def _check_extent(path: str, tensors: dict[str, tuple[TensorHeader, int]], data_bytes: int) -> None:
    """Tensors fill the data without gaps, so the last end is the size of the data."""
    announced = max((end for tensor, end in tensors.values()), default=0)
    if announced != data_bytes:
        fault = "truncated, copy it again" if announced > data_bytes else "it has bytes that no tensor owns"
        raise SafetensorsError(f"{path}: its tensors take {announced} bytes, the file holds {data_bytes}: {fault}")


def read_index(path: str) -> dict[str, str]:
    """Return {tensor name: file name} from a `model.safetensors.index.json`."""
    with open(path, "rb") as stream:
        text = stream.read()
    try:
        weight_map = json.loads(text.decode("utf-8"))["weight_map"]
        plain = all(isinstance(file, str) and file == os.path.basename(file) != "" for file in weight_map.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SafetensorsError(f"{path}: no JSON object with a weight_map from tensor to file name") from None
    if not weight_map or not plain:
        raise SafetensorsError(f"{path}: its weight_map must name files of the same directory, and at least one")
    return weight_map


def weight_files(directory: str) -> list[str]:
    """Return the names of the safetensors files that an engine loads from `directory`, sorted.

    With an index these are the files that it names; without, every `*.safetensors` except Mistral's own
    `consolidated*.safetensors`, which hold the same weights a second time under other names.

    Raises SafetensorsError where there are none, or where a file that the index names is missing.
    """
    present = sorted(os.listdir(directory))
    if INDEX_NAME in present:
        named = sorted(set(read_index(os.path.join(directory, INDEX_NAME)).values()))
        missing = [name for name in named if not os.path.isfile(os.path.join(directory, name))]
        if missing:
            raise SafetensorsError(
                f"{directory}: {INDEX_NAME} names {len(named)} files, {len(missing)} of them missing: "
                f"{', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}. Copy them here"
            )
        return named
    found = [name for name in present if name.endswith(".safetensors")]
    usable = [name for name in found if not name.startswith("consolidated")]
    if usable:
        return usable
    raise SafetensorsError(f"{directory}: {_why_no_weights(found, present)}")


def _why_no_weights(safetensors: list[str], present: list[str]) -> str:
    if safetensors:
        return (
            f"holds only {', '.join(safetensors)} (Mistral's own format): add the Hugging Face files model*.safetensors"
        )
    pickled = [name for name in present if name.endswith((".bin", ".pt", ".pth"))]
    if pickled:
        return (
            f"holds weights only as {pickled[0]}{' and others' if len(pickled) > 1 else ''}, a format that can run "
            "code when it is loaded: convert them to safetensors"
        )
    return "holds no *.safetensors file: copy the weights here"


def read_headers(directory: str, names: list[str]) -> dict[str, TensorHeader]:
    """Return the tensors of several files of one directory by name; a tensor in two files is refused."""
    tensors: dict[str, TensorHeader] = {}
    for name in names:
        for tensor, header in read_header(os.path.join(directory, name)).items():
            if tensor in tensors:
                raise SafetensorsError(f"{directory}: tensor {tensor} is in {name} and in another file too")
            tensors[tensor] = header
    return tensors


def total_bytes(tensors: Mapping[str, TensorHeader]) -> int:
    """Return the size of all tensors in bytes: what the index calls `total_size`."""
    return sum(tensor.size_bytes for tensor in tensors.values())
