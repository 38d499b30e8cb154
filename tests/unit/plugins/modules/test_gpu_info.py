# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole module, run as Ansible runs it on a host: as a program of its own, with this Python and with the oldest."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import ansible
import pytest
import yaml
from ansible_collections.gpufleet.serving.plugins.modules import gpu_info
from ansible_collections.gpufleet.serving.tests.unit.plugins.module_utils.gpu_recordings import (
    INTERPRETERS,
    build_root,
    install_nvidia_smi,
)

COLLECTIONS = Path(gpu_info.__file__).parents[5]
ANSIBLE = Path(ansible.__file__).parents[1]


@pytest.fixture
def run_module(tmp_path):
    """Run the module on a recorded host and return its answer."""

    def run(interpreter, case, on_path=True, **options):
        root = build_root(case, tmp_path / "root")
        (root / "etc").mkdir()
        (root / "etc/os-release").write_text("ID=debian\n")
        install_nvidia_smi(case, tmp_path / "bin")
        arguments = {"sysroot": str(root), **options}
        if not on_path:
            arguments["nvidia_smi"] = str(tmp_path / "bin/nvidia-smi")
        process = subprocess.run(
            [interpreter, gpu_info.__file__],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            env={
                "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}" if on_path else os.environ["PATH"],
                "PYTHONPATH": f"{COLLECTIONS}:{ANSIBLE}",
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if "requires a minimum of Python" in process.stdout:
            pytest.skip(f"this ansible-core has left {interpreter} behind")
        assert process.returncode == 0, process.stdout + process.stderr
        return json.loads(process.stdout)

    return run


CASES = {
    "hgx_h100": ("ok", 8),
    "hgx_b200": ("ok", 8),
    "a100_40_mig": ("ok", 2),
    "l40s": ("ok", 4),
    "rtx4090": ("ok", 4),
    "bare_h100": ("no_driver", 8),
    "no_driver": ("no_driver", 1),
    "no_gpu": ("no_gpu", 0),
    "lost_no_handle": ("gpu_lost", 4),
    "lost_row": ("gpu_lost", 4),
    "mismatch": ("driver_mismatch", 1),
    "unreadable": ("unreadable", 1),
}


@pytest.mark.parametrize(("case", "expected"), CASES.items(), ids=CASES)
@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_a_recorded_host(interpreter, case, expected, run_module):
    answer = run_module(interpreter, case)
    assert (answer["state"], len(answer["gpus"])) == expected
    assert answer["changed"] is False
    assert (answer["state_reason"] == "") == (answer["state"] == "ok")


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_a_hang_does_not_hang_the_play(interpreter, run_module):
    started = time.monotonic()
    answer = run_module(interpreter, "hung", timeout=0.5)
    assert answer["state"] == "hung"
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_what_the_host_is(interpreter, run_module, tmp_path):
    host = run_module(interpreter, "l40s", paths=[str(tmp_path / "weights")])["host"]
    assert host["os"]["id"] == "debian"
    assert host["disks"][str(tmp_path / "weights")]["measured_at"] == str(tmp_path)
    assert all(name != "lo" for name in (interface["name"] for interface in host["interfaces"]))


def test_a_given_program(run_module):
    this_python = INTERPRETERS[0].values[0]
    assert run_module(this_python, "l40s", on_path=False)["state"] == "ok"


def test_check_mode(run_module):
    this_python = INTERPRETERS[0].values[0]
    assert run_module(this_python, "l40s", _ansible_check_mode=True)["state"] == "ok"


def documented(contents):
    """Return the names that RETURN documents, those inside lists and dictionaries with them."""
    return {name: documented(entry["contains"]) if "contains" in entry else None for name, entry in contents.items()}


def test_what_is_returned_is_what_is_documented(run_module):
    answer = run_module(INTERPRETERS[0].values[0], "a100_40_mig")
    names = documented(yaml.safe_load(gpu_info.RETURN))
    assert set(answer) - {"changed", "invocation", "warnings"} == set(names)
    assert set(answer["host"]) == set(names["host"])
    for gpu in answer["gpus"]:
        assert set(gpu) == set(names["gpus"])
    for device in answer["gpus"][0]["mig_devices"]:
        assert set(device) == set(names["gpus"]["mig_devices"])
