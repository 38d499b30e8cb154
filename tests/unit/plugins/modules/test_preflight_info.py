# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole module on recorded hosts, with this Python and with the oldest."""

from __future__ import annotations

import time

import pytest
import yaml
from ansible_collections.gpufleet.serving.plugins.modules import preflight_info
from ansible_collections.gpufleet.serving.tests.unit.plugins.module_utils.host_recordings import lay_out
from ansible_collections.gpufleet.serving.tests.unit.plugins.modules.programs import INTERPRETERS, succeeds

THIS_PYTHON = INTERPRETERS[0].values[0]


@pytest.fixture
def ask(tmp_path):
    """Lay a recorded host out and return what the module answers there."""

    def answer(case, interpreter=THIS_PYTHON, timeout=20, _check=False, **changes):
        lay_out(case, tmp_path / "host", **changes)
        options = {
            "sysroot": str(tmp_path / "host/root"),
            "programs": [str(tmp_path / "host/bin")],
            "timeout": timeout,
            "_ansible_check_mode": _check,
        }
        answer = succeeds(interpreter, preflight_info, **options)
        assert answer["changed"] is False
        return answer

    return answer


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_a_host_on_nvswitches(interpreter, ask):
    answer = ask("hgx_h100", interpreter)
    versions = {answer["driver"]["loaded"], answer["driver"]["module"], answer["fabric_manager"]["version"]}
    assert versions == {"580.95.05"}
    assert answer["driver"]["packages"][0] == {"name": "nvidia-driver-cuda", "version": "580.95.05-1"}
    assert answer["fabric_manager"]["active"] and answer["driver"]["persistenced"]["enabled"]
    assert [(gpu["nvlinks_up"], gpu["nvlinks"], gpu["fabric_state"]) for gpu in answer["gpus"]] == [
        (18, 18, "Completed")
    ] * 8
    assert answer["gpus"][1]["pci_address"] == "0000:2a:00.0"
    assert (answer["kernel_log"], answer["gpu_processes"], answer["time_synchronised"]) == ([], [], True)
    assert answer["limits"] == {"memlock": None, "nofile": 1048576}
    assert answer["kernel"] == {"container": None, "headers": True, "key_enrolled": None, "secure_boot": None}


def test_somebody_elses_process_is_named(ask):
    (process,) = ask("l40s")["gpu_processes"]
    assert process == {
        "memory_mib": 8192,
        "name": "jupyter-lab",
        "pci_address": "0000:21:00.0",
        "pid": 4711,
        "uid": 1000,
        "unit": "user@1000.service",
    }


def test_a_bare_host(ask):
    answer = ask("bare_h100", headers=False, nouveau=True, secure_boot=True)
    assert (answer["gpus"], answer["driver"]["loaded"], answer["driver"]["nouveau"]) == ([], None, True)
    assert (answer["fabric_manager"]["installed"], answer["fabric_manager"]["version"]) == (False, None)
    assert answer["kernel"] == {"container": None, "headers": False, "key_enrolled": False, "secure_boot": True}


def test_secure_boot_that_is_off_and_a_container(ask):
    kernel = ask("bare_h100", secure_boot=False, container="podman\n")["kernel"]
    assert (kernel["secure_boot"], kernel["container"]) == (False, "podman")


def test_xids(ask):
    log = ask("lost_no_handle")["kernel_log"]
    assert [(error["number"], error["pci_address"]) for error in log] == [(79, "0000:a1:00.0"), (31, "0000:25:00.0")]


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_a_hanging_nvidia_smi_is_called_once(interpreter, ask):
    started = time.monotonic()
    assert ask("hung", interpreter, timeout=0.5)["gpus"] == []
    assert time.monotonic() - started < 10


def test_check_mode(ask):
    assert ask("l40s", _check=True)["gpus"][1]["link_width"] == 8


def documented(contents):
    return {name: documented(entry["contains"]) if "contains" in entry else None for name, entry in contents.items()}


def test_what_is_returned_is_what_is_documented(ask):
    answer = ask("l40s")
    names = documented(yaml.safe_load(preflight_info.RETURN))
    assert set(answer) - {"changed", "invocation"} == set(names)
    for part in ("driver", "fabric_manager", "kernel", "limits"):
        assert set(answer[part]) == set(names[part])
    for part in ("gpus", "gpu_processes"):
        assert set(answer[part][0]) == set(names[part])
