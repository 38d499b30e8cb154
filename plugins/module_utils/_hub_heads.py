# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model on a hub as a directory that takes no room: files of the right names and sizes, with nothing in them but the
configuration and the headers of the weights. So whatever reads a model's directory reads the hub too.

A commit never changes, so such a directory is made once. It keeps the hub's sums in a file of its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

from ansible_collections.gpufleet.serving.plugins.module_utils._content import FileRecord
from ansible_collections.gpufleet.serving.plugins.module_utils._hub import HubError, Repository
from ansible_collections.gpufleet.serving.plugins.module_utils._model_directory import CONFIG, QUANTIZATION_CONFIG
from ansible_collections.gpufleet.serving.plugins.module_utils._safetensors import (
    HEADER_LIMIT_BYTES,
    INDEX_NAME,
    LENGTH_BYTES,
    weight_files,
)

LISTING = ".gpufleet-hub.json"
COMMIT = re.compile(r"[0-9a-f]{40}")
READ_WHOLE = (CONFIG, QUANTIZATION_CONFIG, INDEX_NAME)
FIRST_BYTES = 2**18
"""Read of each file of weights at once; most headers are smaller."""
READERS = 8


def heads(repository: Repository, cache: str) -> str:
    """Return the directory for a repository at its revision, made below `cache` where it is not there.

    A commit that is there already is not asked for. Raises HubError and SafetensorsError.
    """
    known = _directory(cache, repository, repository.revision)
    if COMMIT.fullmatch(repository.revision) and os.path.isdir(known):
        return known
    commit, files = repository.listing()
    directory = _directory(cache, repository, commit)
    if not os.path.isdir(directory):
        _make(replace(repository, revision=commit), files, directory)
    return directory


def listed(directory: str, names: list[str]) -> tuple[str, list[FileRecord]]:
    """Return the commit of such a directory, and the files of these names with the sums that the hub tells."""
    with open(os.path.join(directory, LISTING), encoding="utf-8") as stream:
        plain = json.load(stream)
    files = {entry["path"]: FileRecord(**entry) for entry in plain["files"]}
    return plain["commit"], [files[name] for name in names]


def _directory(cache: str, repository: Repository, commit: str) -> str:
    return os.path.join(cache, repository.name.replace("/", "--"), commit)


def _make(repository: Repository, files: list[FileRecord], directory: str) -> None:
    """Put the directory into its place whole or not at all."""
    parent = os.path.dirname(directory)
    os.makedirs(parent, mode=0o700, exist_ok=True)
    unfinished = tempfile.mkdtemp(dir=parent)
    try:
        for file in files:
            _check(file)
            _reserve(os.path.join(unfinished, file.path), file.size)
        sizes = {file.path: file.size for file in files}
        for name in sizes.keys() & set(READ_WHOLE):
            _write(os.path.join(unfinished, name), repository.read(name))
        with ThreadPoolExecutor(READERS) as pool:
            names = weight_files(unfinished)
            for name, header in zip(names, pool.map(lambda name: _header(repository, name, sizes[name]), names)):
                _write(os.path.join(unfinished, name), header)
        _write(
            os.path.join(unfinished, LISTING),
            json.dumps({"commit": repository.revision, "files": [asdict(file) for file in files]}).encode(),
        )
        if not os.path.isdir(directory):
            os.rename(unfinished, directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _check(file: FileRecord) -> None:
    """Raises HubError for a path that leads out of its directory."""
    if os.path.isabs(file.path) or os.path.normpath(file.path) != file.path or file.path.startswith(".."):
        raise HubError(
            f"the hub lists a file {file.path!r}, which is no path inside a directory: do not use this model"
        )


def _reserve(path: str, size: int) -> None:
    """Make a file of a size that takes no room."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as stream:
        stream.truncate(size)


def _write(path: str, content: bytes) -> None:
    """Put bytes at the beginning of a file, and leave the rest."""
    with open(path, "r+b" if os.path.exists(path) else "wb") as stream:
        stream.write(content)


def _header(repository: Repository, name: str, size: int) -> bytes:
    """Return the head of a file of weights: the length of its header, and the header."""
    head = repository.read(name, 0, min(FIRST_BYTES, size)) if size else b""
    needed = LENGTH_BYTES + int.from_bytes(head[:LENGTH_BYTES], "little")
    if len(head) < needed <= min(size, HEADER_LIMIT_BYTES):
        head += repository.read(name, len(head), needed)
    return head[:needed]
