# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The identity of a set of files: their sha256, the id of the whole, and a manifest that saves hashing them again.

Weights are large: a sum is computed once where they come from (and cached by size, time and inode) and once where they
arrive. After that the manifest beside them answers from size and modification time alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

MANIFEST = ".gpufleet-manifest.json"
CHUNK_BYTES = 4 * 2**20


class ContentError(Exception):
    """Files that are not what they should be; the message names them."""


@dataclass(frozen=True, order=True)
class FileRecord:
    """One file of a set: its path inside the set with "/", its size in bytes, and the sums in hex that are known of it.

    git_sha1 is the id that git gives the file's content, which is all that a hub tells of a small file.
    """

    path: str
    size: int
    sha256: str | None = None
    git_sha1: str | None = None


@dataclass(frozen=True)
class Damage:
    """A file that is not as its manifest says, and in what way."""

    path: str
    reason: str


def sha256_of(path: str) -> str:
    """Return the sha256 of a file in hex. Raises ContentError where the file changes meanwhile."""
    return _sum_of(path, hashlib.sha256())


def git_sha1_of(path: str) -> str:
    """Return the id in hex that git gives a file's content. Raises ContentError where the file changes meanwhile."""
    return _sum_of(path, hashlib.sha1(b"blob %d\0" % os.path.getsize(path)))  # noqa: S324 - git's choice


def _sum_of(path: str, digest: Any) -> str:
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with open(path, "rb", buffering=0) as stream:
        before = os.fstat(stream.fileno())
        while True:
            count = stream.readinto(buffer)
            if not count:
                break
            digest.update(buffer[:count])
        after = os.fstat(stream.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ContentError(f"{path}: changed while it was read: wait until nothing writes to it any more")
    return digest.hexdigest()


def content_id(files: Iterable[FileRecord]) -> str:
    """Return "sha256:<hex>" over path, size and sha256 of every file, whatever the order and the times of the files."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path.encode()):
        if file.sha256 is None:
            raise ContentError(f"{file.path}: its sha256 is needed for a content id")
        digest.update(f"{file.path}\0{file.size}\0{file.sha256}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def write_durably(path: str, text: str, mode: int = 0o644) -> None:
    """Put `text` into a file whole or not at all, and onto the disk before returning."""
    directory = os.path.dirname(path)
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=os.path.basename(path) + ".")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_directory(directory)


def sync_directory(path: str) -> None:
    """Bring the names in a directory onto the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: str) -> None:
    """Bring the bytes of a file onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class HashCache:
    """The sha256 of files by real path, believed while size, modification time and inode are the same."""

    def __init__(self, known: dict[str, list]) -> None:
        self.known = known
        self.changed = False

    def sha256(self, path: str) -> str:
        """Return the sha256 of a file in hex, computed only where it is not known."""
        real = os.path.realpath(path)
        status = os.stat(real)
        key = [status.st_size, status.st_mtime_ns, status.st_ino]
        known = self.known.get(real)
        if known and known[:3] == key:
            return known[3]
        digest = sha256_of(real)
        self.known[real] = [*key, digest]
        self.changed = True
        return digest


@contextmanager
def hash_cache(path: str) -> Iterator[HashCache]:
    """Open the cache in a file, locked against other processes, so that two that need the same sums compute them once.

    What is new is kept at the end, also of an interrupted run. A cache that cannot be read counts as empty.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(path + ".lock", "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cache = HashCache(_read_cache(path))
        try:
            yield cache
        finally:
            if cache.changed:
                write_durably(path, json.dumps(cache.known, sort_keys=True), mode=0o600)


def _read_cache(path: str) -> dict[str, list]:
    try:
        with open(path, encoding="utf-8") as stream:
            known = json.load(stream)
    except (OSError, ValueError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {key: entry for key, entry in known.items() if isinstance(entry, list) and len(entry) == 4}


@dataclass(frozen=True)
class Manifest:
    """What a directory held when its content was verified: {path: (size, mtime_ns, sha256)} and the id of the whole."""

    content_id: str
    files: dict[str, tuple[int, int, str]]

    def trusts(self, directory: str, path: str) -> bool:
        """Say whether a file is listed and has the size and the time that it had when its sum was computed."""
        return path in self.files and self._difference(directory, path) is None

    def damages(self, directory: str) -> Iterator[Damage]:
        """Yield every listed file that is missing or has another size or time."""
        for path in sorted(self.files):
            reason = self._difference(directory, path)
            if reason:
                yield Damage(path, reason)

    def _difference(self, directory: str, path: str) -> str | None:
        size, mtime_ns, _sha256 = self.files[path]
        try:
            status = os.stat(os.path.join(directory, path))
        except FileNotFoundError:
            return "missing"
        if status.st_size != size:
            return f"{status.st_size} bytes, verified with {size}"
        if status.st_mtime_ns != mtime_ns:
            return "changed since it was verified"
        return None


def read_manifest(directory: str) -> Manifest | None:
    """Return the manifest in a directory, None where there is none that can be read."""
    try:
        with open(os.path.join(directory, MANIFEST), encoding="utf-8") as stream:
            plain = json.load(stream)
        files = {file["path"]: (file["size"], file["mtime_ns"], file["sha256"]) for file in plain["files"]}
        return Manifest(plain["content_id"], files)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_manifest(directory: str, files: Iterable[FileRecord], identity: str) -> None:
    """Record verified files of `directory`, each with its sha256 and its present time, as content `identity`."""
    entries = [
        {
            "path": file.path,
            "size": file.size,
            "sha256": file.sha256,
            "mtime_ns": os.stat(os.path.join(directory, file.path)).st_mtime_ns,
        }
        for file in sorted(files, key=lambda file: file.path)
    ]
    plain = {"content_id": identity, "files": entries}
    write_durably(os.path.join(directory, MANIFEST), json.dumps(plain, indent=1, sort_keys=True) + "\n")
