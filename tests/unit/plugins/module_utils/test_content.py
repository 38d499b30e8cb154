# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import threading

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils import _content
from ansible_collections.gpufleet.serving.plugins.module_utils._content import (
    ContentError,
    Damage,
    FileRecord,
    content_id,
    hash_cache,
    read_manifest,
    sha256_of,
    write_durably,
    write_manifest,
)
from hypothesis import given
from hypothesis import strategies as st

A = FileRecord("a.json", 3, "aa")
B = FileRecord("b/c.jinja", 4, "bb")


@pytest.fixture
def hashed(monkeypatch):
    """The paths that were really hashed, in order."""
    paths = []

    def counting(path):
        paths.append(path)
        return sha256_of(path)

    monkeypatch.setattr(_content, "sha256_of", counting)
    return paths


@pytest.mark.parametrize("size", [0, 1, _content.CHUNK_BYTES, _content.CHUNK_BYTES + 1])
def test_sum_of_a_file(tmp_path, size):
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)
    assert sha256_of(str(path)) == hashlib.sha256(b"x" * size).hexdigest()


def test_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 10)
    fstat = os.fstat

    def growing(handle):
        status = fstat(handle)
        with open(path, "ab") as stream:
            stream.write(b"y")
        return status

    monkeypatch.setattr(_content.os, "fstat", growing)
    message = f"{path}: changed while it was read: wait until nothing writes to it any more"
    with pytest.raises(ContentError, match=f"^{re.escape(message)}$"):
        sha256_of(str(path))


def test_content_id_is_spelt_out():
    text = b"a.json\x003\x00aa\nb/c.jinja\x004\x00bb\n"
    assert content_id([A, B]) == content_id([B, A]) == "sha256:" + hashlib.sha256(text).hexdigest()


def test_content_id_needs_every_sum():
    with pytest.raises(ContentError, match=r"^a\.json: its sha256 is needed for a content id$"):
        content_id([FileRecord("a.json", 3)])


RECORDS = st.lists(
    st.builds(FileRecord, st.text(min_size=1, max_size=8), st.integers(0, 2**40), st.text("0123456789abcdef")),
    min_size=1,
    unique_by=lambda record: record.path,
)


@given(RECORDS, st.randoms())
def test_content_id_depends_on_the_content_alone(records, random):
    shuffled = random.sample(records, len(records))
    assert content_id(shuffled) == content_id(records)
    first = records[0]
    for other in (
        FileRecord(first.path, first.size + 1, first.sha256),
        FileRecord(first.path, first.size, (first.sha256 or "") + "0"),
    ):
        assert content_id([other, *records[1:]]) != content_id(records)


def test_cache_spares_the_second_reading(tmp_path, hashed):
    path, cache = tmp_path / "weights", tmp_path / "cache" / "sums.json"
    path.write_bytes(b"one")
    for _ in range(2):
        with hash_cache(str(cache)) as sums:
            assert sums.sha256(str(path)) == hashlib.sha256(b"one").hexdigest()
    assert hashed == [str(path)]
    assert stat.S_IMODE(cache.stat().st_mode) == 0o600


def test_cache_notices_other_bytes(tmp_path, hashed):
    path, cache = tmp_path / "weights", tmp_path / "sums.json"
    path.write_bytes(b"one")
    with hash_cache(str(cache)) as sums:
        sums.sha256(str(path))
    status = path.stat()
    for change in (
        lambda: os.utime(path, ns=(0, status.st_mtime_ns + 1)),
        lambda: path.write_bytes(b"longer"),
        lambda: os.replace(_copy(path, tmp_path / "other"), path),
    ):
        change()
        with hash_cache(str(cache)) as sums:
            assert sums.sha256(str(path)) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(hashed) == 4


def _copy(path, to):
    to.write_bytes(path.read_bytes()[:-1] + b"!")
    os.utime(to, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    return to


@pytest.mark.parametrize("text", ["", "{", "[]", '{"/weights": "sum"}'])
def test_broken_cache_counts_as_empty(tmp_path, hashed, text):
    path, cache = tmp_path / "weights", tmp_path / "sums.json"
    path.write_bytes(b"one")
    cache.write_text(text)
    with hash_cache(str(cache)) as sums:
        sums.sha256(str(path))
    assert len(hashed) == 1
    assert list(json.loads(cache.read_text())) == [str(path)] or "/weights" not in cache.read_text()


def test_interrupted_run_keeps_the_sums_that_it_has(tmp_path, hashed):
    path, cache = tmp_path / "weights", tmp_path / "sums.json"
    path.write_bytes(b"one")
    with pytest.raises(KeyboardInterrupt), hash_cache(str(cache)) as sums:
        sums.sha256(str(path))
        raise KeyboardInterrupt
    with hash_cache(str(cache)) as sums:
        sums.sha256(str(path))
    assert len(hashed) == 1


def test_two_that_need_the_same_sum_compute_it_once(tmp_path, hashed):
    path, cache = tmp_path / "weights", str(tmp_path / "sums.json")
    path.write_bytes(b"one")
    inside = threading.Barrier(2)

    def read():
        inside.wait()
        with hash_cache(cache) as sums:
            sums.sha256(str(path))

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert hashed == [str(path)]


def test_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_durably(str(path), "old", mode=0o640)
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("old", 0o640)

    def broken(handle):
        raise OSError("no space")

    monkeypatch.setattr(_content.os, "fsync", broken)
    with pytest.raises(OSError, match="no space"):
        write_durably(str(path), "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.fixture
def verified(tmp_path):
    """A directory with two files and the manifest of them."""
    (tmp_path / "b").mkdir()
    (tmp_path / "a.json").write_text("aaa")
    (tmp_path / "b" / "c.jinja").write_text("bbbb")
    write_manifest(str(tmp_path), [B, A], content_id([A, B]))
    return tmp_path


def test_manifest_is_read_back(verified):
    manifest = read_manifest(str(verified))
    assert manifest.content_id == content_id([A, B])
    assert list(manifest.files) == ["a.json", "b/c.jinja"]
    assert list(manifest.damages(str(verified))) == []
    assert manifest.trusts(str(verified), "a.json")
    assert not manifest.trusts(str(verified), "other.json")


DAMAGES = {
    "missing": (lambda path: path.unlink(), "missing"),
    "shorter": (lambda path: path.write_text("a"), "1 bytes, verified with 3"),
    "touched": (lambda path: os.utime(path, (0, 0)), "changed since it was verified"),
}


@pytest.mark.parametrize(("change", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named(verified, change, reason):
    change(verified / "a.json")
    manifest = read_manifest(str(verified))
    assert list(manifest.damages(str(verified))) == [Damage("a.json", reason)]
    assert not manifest.trusts(str(verified), "a.json")
    assert manifest.trusts(str(verified), "b/c.jinja")


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"content_id": "sha256:0"}', '{"content_id": 1, "files": [7]}'])
def test_manifest_that_cannot_be_read_is_none(tmp_path, text):
    if text is not None:
        (tmp_path / _content.MANIFEST).write_text(text)
    assert read_manifest(str(tmp_path)) is None
