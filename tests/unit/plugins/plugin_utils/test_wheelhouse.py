# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for pip serves wheels from a folder; everything else is real."""

from __future__ import annotations

import hashlib
import stat
import sys
import tarfile

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils import _wheelhouse as wheelhouse
from ansible_collections.gpufleet.serving.plugins.plugin_utils._wheelhouse import FetchError, Pip, fetch, pack

PIP = '''#!{python}
"""Serves name-version.whl from {source}, and from {source}/index for those who give an index. Notes its calls."""
import pathlib, re, shutil, sys
source, arguments = pathlib.Path({source!r}), sys.argv[1:]
with open(source / "calls", "a") as calls:
    print(*arguments, file=calls)
sources = [source] + [source / "index" for argument in arguments if argument.startswith("--extra-index-url=")]
folder, lock = (arguments[arguments.index(option) + 1] for option in ("--dest", "--requirement"))
found = []
for name, version in re.findall(r"^(\\S+)==([^\\s\\\\]+)", open(lock).read(), re.M):
    wheels = [wheel for place in sources if (wheel := place / f"{{name}}-{{version}}.whl").exists()]
    if not wheels:
        sys.exit(f"WARNING: never mind\\nERROR: No matching distribution found for {{name}}=={{version}}")
    found.append(wheels[0])
for wheel in found:
    shutil.copy(wheel, folder)
'''


class Source:
    """Where the stand-in has its wheels from."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "index").mkdir(parents=True)
        self.program = folder / "pip"
        self.program.write_text(PIP.format(python=sys.executable, source=str(folder)))
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)

    def wheel(self, name, version, place=".", content=None):
        """Put a wheel up; give its line of a lock."""
        content = content or f"{name} {version}".encode()
        (self.folder / place / f"{name}-{version}.whl").write_bytes(content)
        return f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(content).hexdigest()}\n"

    def pip(self, **further):
        return Pip(command=[str(self.program)], python_version="3.11", machine="x86_64", glibc="2.34", **further)

    @property
    def calls(self):
        calls = self.folder / "calls"
        return calls.read_text().splitlines() if calls.exists() else []


@pytest.fixture
def source(tmp_path):
    return Source(tmp_path / "source")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "cpu-1.0"


def names(folder):
    return sorted(wheel.name for wheel in folder.glob("*.whl"))


DIGEST = "0" * 64

BAD_LINES = {
    "an index": "--index-url https://example.org/simple\n",
    "a URL": f"a @ https://example.org/a.whl --hash=sha256:{DIGEST}\n",
    "a range": f"a>=1 --hash=sha256:{DIGEST}\n",
    "no hash": "a==1\n",
    "a short hash": "a==1 --hash=sha256:00\n",
    "another hash": f"a==1 --hash=md5:{DIGEST}\n",
    "a marker": f"a==1 ; python_version < '3.12' --hash=sha256:{DIGEST}\n",
    "a link behind the hashes": f"a==1 --hash=sha256:{DIGEST} --find-links /somewhere\n",
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
def test_a_lock_that_could_bring_something_else_is_refused(line):
    with pytest.raises(ValueError, match="a lock has lines of the form"):
        wheelhouse.parse_lock(line)


def test_a_lock_is_read():
    two_hashes = f"a==1.0 \\\n    --hash=sha256:{DIGEST} \\\n    --hash=sha256:{'f' * 64}\n"
    a, b = wheelhouse.parse_lock(f"# why\n{two_hashes}b-c==2.0+cpu --hash=sha256:{DIGEST}\n")
    assert (a.name, a.version, a.hashes, a.is_local) == ("a", "1.0", {DIGEST, "f" * 64}, False)
    assert (b.name, b.version, b.hashes, b.is_local) == ("b-c", "2.0+cpu", {DIGEST}, True)
    assert a.text.count("\n") == 3 and str(b) == "b-c==2.0+cpu"


def test_platforms_are_spelt_out_down_to_the_oldest():
    platforms = wheelhouse.platforms("x86_64", "2.34")
    assert platforms[0] == "manylinux_2_34_x86_64"
    assert "manylinux_2_17_x86_64" in platforms
    assert platforms[-4:] == ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]


def test_a_wheelhouse_is_fetched_once(source, folder):
    lock = source.wheel("a", "1") + source.wheel("b", "2")
    assert fetch(lock, folder, source.pip()) is True
    assert names(folder) == ["a-1.whl", "b-2.whl"]
    assert fetch(lock, folder, source.pip()) is False
    assert len(source.calls) == 1


def test_pip_is_called_for_the_hosts_python_and_for_nothing_but_the_lock(source, folder):
    fetch(source.wheel("a", "1"), folder, source.pip(options=["--index-url=https://mirror.example/simple"]))
    (call,) = source.calls
    assert set(call.split()) >= {
        *("--no-deps", "--require-hashes", "--only-binary=:all:"),
        *("--implementation=cp", "--python-version=3.11", "--platform=manylinux_2_34_x86_64"),
        "--index-url=https://mirror.example/simple",
    }
    assert "--extra-index-url" not in call


def test_an_interrupted_fetch_goes_on(source, folder, monkeypatch):
    monkeypatch.setattr(wheelhouse, "WHEELS_PER_CALL", 2)
    lock = "".join(source.wheel(name, "1") for name in "abcd")
    (source.folder / "c-1.whl").rename(source.folder / "away")
    with pytest.raises(FetchError):
        fetch(lock, folder, source.pip())
    assert names(folder) == ["a-1.whl", "b-1.whl"]
    (source.folder / "away").rename(source.folder / "c-1.whl")
    (folder / "a-1.whl").write_bytes(b"half")
    (folder / "z-9.whl").write_bytes(b"of another lock")
    told = []
    assert fetch(lock, folder, source.pip(), report=told.append) is True
    assert names(folder) == ["a-1.whl", "b-1.whl", "c-1.whl", "d-1.whl"]
    assert told[-1] == "4 of 4 wheels, 0 MB"
    # b was there already
    assert len(told) == 2


def test_a_wheel_that_is_to_be_had_needs_no_index(source, folder):
    lock = source.wheel("torch", "2.13.0+cpu") + source.wheel("a", "1")
    fetch(lock, folder, source.pip(), local_index="https://unreachable.example")
    assert all("--extra-index-url" not in call for call in source.calls)


def test_only_local_versions_are_asked_of_the_index(source, folder):
    lock = source.wheel("a", "1") + source.wheel("torch", "2.13.0+cpu", place="index")
    fetch(lock, folder, source.pip(), local_index="https://cpu.example")
    assert names(folder) == ["a-1.whl", "torch-2.13.0+cpu.whl"]
    with_index = [call for call in source.calls if "--extra-index-url=https://cpu.example" in call]
    assert len(with_index) == 1 and len(source.calls) == 3
    # and first, before a gigabyte of others
    assert source.calls.index(with_index[0]) == 1


def lock_of_nothing(name, version):
    return f"{name}=={version} --hash=sha256:{DIGEST}\n"


FAILURES = {
    "missing": (
        lock_of_nothing("a", "1"),
        "pip could not fetch a==1: ERROR: No matching distribution found for a==1\n"
        "Look at pip's sources (pip config list), then run again: it goes on where it was.",
    ),
    "local": (
        lock_of_nothing("torch", "2.13.0+cpu"),
        "pip could not fetch torch==2.13.0+cpu: ERROR: No matching distribution found for torch==2.13.0+cpu\n"
        "No public index has torch==2.13.0+cpu. Set engine_torch_cpu_index to an index that has it and that the"
        " controller reaches, or put its wheel into a folder that pip's find-links names.",
    ),
    "many": (
        "".join(lock_of_nothing(name, "1") for name in "abcde"),
        "pip could not fetch a==1, b==1, c==1 and 2 more: ERROR: No matching distribution found for a==1\n"
        "Look at pip's sources (pip config list), then run again: it goes on where it was.",
    ),
}


@pytest.mark.parametrize(("lock", "text"), FAILURES.values(), ids=FAILURES)
def test_failures_are_explained(source, folder, lock, text):
    with pytest.raises(FetchError) as failed:
        fetch(lock, folder, source.pip(), local_index="https://cpu.example")
    assert str(failed.value) == text
    assert not (folder / wheelhouse.COMPLETE).exists()


def test_a_wheel_with_another_hash_is_not_taken(source, folder):
    lock = source.wheel("a", "1")
    source.wheel("a", "1", content=b"forged")
    with pytest.raises(FetchError, match="pip was content, but .* still lacks a==1"):
        fetch(lock, folder, source.pip())
    assert names(folder) == []


def test_no_pip(folder, tmp_path):
    with pytest.raises(FetchError, match="cannot be run: .* Name pip in engine_pip"):
        fetch(lock_of_nothing("a", "1"), folder, Pip(["/nowhere/pip"], "3.11", "x86_64", "2.34"))
    bare = tmp_path / "bare"
    bare.write_text("#!/bin/sh\necho '/usr/bin/python3: No module named pip' >&2\nexit 1\n")
    bare.chmod(0o755)
    with pytest.raises(FetchError, match="has no pip. Install pip beside Ansible"):
        fetch(lock_of_nothing("a", "1"), folder, Pip([str(bare)], "3.11", "x86_64", "2.34"))


def test_a_hung_pip_is_not_waited_for(folder, tmp_path):
    hung = tmp_path / "hung"
    hung.write_text("#!/bin/sh\nexec sleep 60\n")
    hung.chmod(0o755)
    with pytest.raises(FetchError, match="pip took more than 0 s. Run again"):
        fetch(lock_of_nothing("a", "1"), folder, Pip([str(hung)], "3.11", "x86_64", "2.34", timeout_s=0.2))


def test_wheels_are_packed_once(source, folder):
    fetch(source.wheel("a", "1") + source.wheel("b", "2"), folder, source.pip())
    archive = pack(folder)
    assert archive == folder.with_name("cpu-1.0.tar")
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["a-1.whl", "b-2.whl"]
    packed = archive.stat()
    assert pack(folder).stat().st_mtime_ns == packed.st_mtime_ns
