# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole module over a systemctl that prints what a test wrote down, a small k3s and a process that runs."""

from __future__ import annotations

import os
import platform
import subprocess
import time

import pytest
from ansible_collections.gpufleet.serving.plugins.modules import k3s_info
from ansible_collections.gpufleet.serving.tests.unit.plugins.modules.programs import INTERPRETERS, fails, succeeds

THIS_PYTHON = INTERPRETERS[0].values[0]
STAMP = "0123456789abcdef"
GONE = {"LoadState": "not-found", "ActiveState": "inactive", "SubState": "dead", "MainPID": "0"}
OTHERS = {"Result": "success", "NRestarts": "0", "ExecMainStatus": "0", "UnitFileState": "enabled"}


@pytest.fixture
def systemctl(tmp_path, monkeypatch):
    """A function that has systemctl tell of k3s' two units; what it is not given does not exist."""
    told = tmp_path / "told"
    program = tmp_path / "systemctl"
    program.write_text(f"#!/bin/sh\ncat {told}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def tell(**units):
        blocks = []
        for name in ("k3s", "k3s-agent"):
            words = {"Id": f"{name}.service", **OTHERS, **GONE, **units.get(name.replace("-", "_"), {})}
            blocks.append("".join(f"{word}={value}\n" for word, value in words.items()))
        told.write_text("\n".join(blocks))

    tell()
    return tell


@pytest.fixture
def running():
    """The number of a process that was started with a stamp."""
    with subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"], "GPUFLEET_STAMP": STAMP}) as process:
        yield str(process.pid)
        process.kill()


def k3s(tmp_path, text):
    binary = tmp_path / "k3s"
    binary.write_text(f"#!/bin/sh\n{text}\n")
    binary.chmod(0o755)
    return str(binary)


def active(pid):
    return {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "MainPID": pid}


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_an_agent_that_runs(interpreter, tmp_path, systemctl, running):
    systemctl(k3s_agent=active(running))
    settings = tmp_path / "data/agent/etc/containerd/config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text("[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'nvidia']\n")
    binary = k3s(tmp_path, "echo 'k3s version v1.35.7+k3s1 (0a1b2c3d)'")
    seen = succeeds(interpreter, k3s_info, binary=binary, data_dir=str(tmp_path / "data"), _ansible_check_mode=True)
    assert (seen["changed"], seen["role"], seen["active"], seen["stamp"]) == (False, "agent", True, STAMP)
    assert (seen["version"], seen["runtimes"], seen["machine"]) == ("v1.35.7+k3s1", ["nvidia"], platform.machine())
    assert seen["managed"] is False


def test_one_that_is_starting_tells_what_it_was_started_with(tmp_path, systemctl, running):
    systemctl(k3s=active(running) | {"ActiveState": "activating", "SubState": "start"})
    seen = succeeds(THIS_PYTHON, k3s_info, binary=k3s(tmp_path, "exit 1"), data_dir=str(tmp_path))
    assert (seen["role"], seen["active"], seen["stamp"]) == ("server", False, STAMP)


def test_a_host_without_k3s(tmp_path, systemctl):
    seen = succeeds(THIS_PYTHON, k3s_info, binary=str(tmp_path / "none"), data_dir=str(tmp_path))
    told = {word: seen[word] for word in ("version", "role", "active", "stamp", "runtimes")}
    assert told == {"version": None, "role": None, "active": False, "stamp": None, "runtimes": []}


def test_a_process_that_ended_meanwhile_tells_nothing(tmp_path, systemctl):
    systemctl(k3s=active("4194305"))
    seen = succeeds(THIS_PYTHON, k3s_info, binary=str(tmp_path / "none"), data_dir=str(tmp_path))
    assert (seen["active"], seen["stamp"]) == (True, None)


def test_a_binary_that_hangs_is_given_up(tmp_path, systemctl):
    begun = time.monotonic()
    seen = succeeds(THIS_PYTHON, k3s_info, binary=k3s(tmp_path, "sleep 60"), data_dir=str(tmp_path), timeout=1)
    assert seen["version"] is None
    assert time.monotonic() - begun < 30


def test_a_host_without_systemd_is_told_so(tmp_path, systemctl):
    (tmp_path / "systemctl").write_text("#!/bin/sh\necho 'System has not been booted with systemd' >&2\nexit 1\n")
    said = fails(THIS_PYTHON, k3s_info, binary=str(tmp_path / "none"), data_dir=str(tmp_path))
    assert "k3s needs systemd" in said
    assert "has not been booted with systemd" in said
