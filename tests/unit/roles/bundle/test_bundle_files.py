# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pinned files come into a bundle once, from folders and from addresses; Ansible itself runs the tasks."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

PLAY = """
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.import_role:
        name: gpufleet.serving.bundle
        tasks_from: files
"""


@pytest.fixture
def collect(tmp_path):
    """Run the tasks over files; returns the exit code, what was printed, and what lies in the bundle."""
    (tmp_path / "play.yml").write_text(PLAY)

    def run(*files):
        given = {"bundle_path": str(tmp_path / "bundle"), "bundle_files": files}
        done = subprocess.run(
            [Path(sys.executable).parent / "ansible-playbook", "--extra-vars", json.dumps(given), "play.yml"],
            cwd=tmp_path,
            env={**os.environ, "ANSIBLE_NOCOLOR": "true", "ANSIBLE_LOCALHOST_WARNING": "false"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        there = sorted(path for path in (tmp_path / "bundle").rglob("*") if path.is_file())
        return done.returncode, " ".join((done.stdout + done.stderr).split()), there

    return run


@pytest.fixture
def site(tmp_path):
    """An address that serves the files of a folder, with that folder."""
    folder = tmp_path / "site"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_each_file_comes_once_under_its_own_name(tmp_path, collect, site):
    folder, address = site
    (folder / "k3s").write_bytes(b"a program")
    (tmp_path / "install.sh").write_bytes(b"an installer")
    files = (
        {"source": f"{address}/k3s", "sha256": digest(b"a program")},
        {"source": str(tmp_path / "install.sh"), "sha256": digest(b"an installer")},
    )
    status, words, there = collect(*files)
    assert status == 0, words
    kept = {path.name: path.read_bytes() for path in there}
    assert kept == {"k3s": b"a program", "install.sh": b"an installer"}
    assert {path.parent.name for path in there} == {file["sha256"][:12] for file in files}
    (folder / "k3s").unlink()
    status, words, _there = collect(*files)
    assert (status, "changed=0" in words) == (0, True), words


@pytest.mark.parametrize("place", ["address", "folder"])
def test_one_with_another_digest_is_refused(tmp_path, collect, site, place):
    folder, address = site
    (folder / "k3s").write_bytes(b"something else")
    source = f"{address}/k3s" if place == "address" else str(folder / "k3s")
    status, words, _there = collect({"source": source, "sha256": digest(b"a program")})
    assert status != 0
    assert digest(b"something else") in words
    assert digest(b"a program") in words
