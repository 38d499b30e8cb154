# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Eight recorded GPU servers, laid out on the test host and read there: preflight.yml and site.yml --check, whole."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.serving.tests.unit.plugins.module_utils.host_recordings import lay_out
from driver_host import CHECKOUT, NAME, REPOSITORY
from harness import Fleet, difference, snapshot

RECORDINGS = "/srv/recordings"
WELL = {"hgx-h100": "hgx_h100", "hgx-b200": "hgx_b200", "a100-mig": "a100_40_mig", "l40s": "l40s", "bare": "bare_h100"}
UNWELL = {"mismatch": "mismatch", "lost": "lost_no_handle", "hung": "hung"}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Lay every recorded host out on the test host."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, case in (WELL | UNWELL).items():
        changes = {"processes": []} if name == "l40s" else {}
        lay_out(case, folder / name, **changes)
    subprocess.run(["podman", "cp", f"{folder}/.", f"{NAME}:{RECORDINGS}"], check=True)


@pytest.fixture
def fleet(recordings, host, tmp_path):
    """A fleet of recorded hosts, all of them reached at the one test host's address."""
    fingerprint = host.file(f"{REPOSITORY}/fingerprint").content_string.strip()

    def fleet(*names: str) -> Fleet:
        hosts: dict[str, Any] = {
            name: {
                "ansible_host": "10.89.77.111",
                "fleet_address": f"10.1.1.{number}",
                "gpu_host_recording": f"{RECORDINGS}/{name}",
                "survey_recording": f"{RECORDINGS}/{name}",
            }
            for number, name in enumerate(names, 1)
        }
        model = {"name": "tiny", "source": f"controller:{CHECKOUT}/tests/model/tiny", "max_model_len": 1024}
        variables = {
            "fleet_models": [{**model, "replica_count": 2}],
            "gateway_keys": [{"name": "tests", "key": "not-a-secret-used-by-these-tests-alone"}],
            "gpu_host_driver_repository": f"file://{REPOSITORY}/cuda",
            "gpu_host_driver_key_fingerprints": [fingerprint],
            "gpu_host_container_repository": f"file://{REPOSITORY}/container",
            "gpu_host_container_key_fingerprints": [fingerprint],
            "survey_nvidia_smi_timeout": 6,
        }
        children = {"gpu_nodes": {"hosts": hosts}, "test_hosts": {"children": {"gpu_nodes": None}}}
        return Fleet(tmp_path / "inventory", children, variables, tmp_path / "secrets")

    return fleet


def found(folder: Path) -> dict[tuple[str, str], str]:
    """The findings that a run wrote down: host and check -> severity."""
    result = json.loads((folder / "preflight.json").read_text(encoding="utf-8"))
    return {(finding["host"], finding["check"]): finding["severity"] for finding in result["findings"]}


def test_preflight_of_eight_servers(fleet, tmp_path):
    before = snapshot([NAME])
    run = fleet(*WELL, *UNWELL).run("playbooks/preflight.yml").expect(2)
    assert difference(before, snapshot([NAME])) == {}
    assert found(tmp_path) == {
        ("hung", "driver"): "blocking",
        ("hung", "xid"): "blocking",
        ("lost", "driver"): "blocking",
        ("lost", "xid"): "blocking",
        ("mismatch", "driver"): "blocking",
        ("hgx-b200", "memory errors"): "warning",
        ("l40s", "links"): "warning",
        ("bare", "driver"): "note",
        ("bare", "fabric"): "note",
    }
    for words in (
        "Xid 79 (2 times) since boot, it fell off the bus -> power-cycle the host",
        "The loaded NVIDIA kernel module is version 580.173.02 and does not fit",
        "GPU 0000:41:00.0 uses 8 of 16 PCIe lanes",
        "site.yml installs driver 580.178.04",
    ):
        assert words in " ".join(run.words.split())


def test_preflight_passes_where_nothing_blocks(fleet, tmp_path):
    fleet("hgx-h100", "a100-mig").run("playbooks/preflight.yml").expect(0)
    assert found(tmp_path) == {}


def test_stacks_of_the_servers_that_are_well(fleet, tmp_path):
    made = fleet(*WELL)
    made.run("site.yml", "--check").expect(0)
    made.run("playbooks/plan.yml").expect(0)
    stacks = {name: host["stack"] for name, host in made.plan()["hosts"].items()}
    assert {name: (stack["route"], stack["driver_version"], stack["fabric"]) for name, stack in stacks.items()} == {
        "hgx-h100": ("present", "580.95.05", "nvswitch"),
        "hgx-b200": ("present", "610.57.04", "nvlink5"),
        "a100-mig": ("present", "580.95.05", "nvswitch"),
        "l40s": ("present", "595.71.05", "none"),
        "bare": ("nvidia", "580.178.04", "nvswitch"),
    }


def test_check_mode_says_what_a_bare_server_would_get_and_touches_nothing(fleet):
    before = snapshot([NAME])
    run = fleet("bare").run("site.yml", "--check").expect(0)
    assert difference(before, snapshot([NAME])) == {}
    for words in ("nvidia-driver-cuda 580.178.04-*", "nvidia-fabricmanager 580.178.04-*", "nvidia-driver-pinning-580"):
        assert words in run.words


def test_site_stops_at_servers_that_are_not_well_and_names_each(fleet):
    before = snapshot([NAME])
    run = fleet("hgx-h100", *UNWELL).run("site.yml", "--check").expect(2)
    assert difference(before, snapshot([NAME])) == {}
    for name in UNWELL:
        assert f"{name}: its GPUs cannot be used" in run.words
    assert "hgx-h100: its GPUs cannot be used" not in run.words


def test_a_process_of_somebody_elses_stops_site(fleet, tmp_path):
    folder = tmp_path / "busy"
    lay_out("l40s", folder)
    subprocess.run(["podman", "cp", str(folder), f"{NAME}:{RECORDINGS}/"], check=True)
    busy = fleet("busy")
    busy.variables["fleet_models"][0]["replica_count"] = 4
    run = busy.run("site.yml", "--check").expect(2)
    assert "jupyter-lab (process 4711, user@1000.service, 8192 MiB) uses GPU 0000:21:00.0" in run.words
    assert "No host was changed" in run.words
