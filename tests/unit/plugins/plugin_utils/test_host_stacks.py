# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver stacks of a fleet: in the plan, in the shares, in the lock file, and what keeps them as they are."""

from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._explain import table
from ansible_collections.gpufleet.serving.plugins.plugin_utils._host_stacks import lock_file
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils import fleets
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.test_share import faults

DEBIAN = {"os": {"id": "debian", "version_id": "12"}, "architecture": "x86_64", "kernel": "6.1.0-38-amd64"}
STATE = {"kernel": {"container": None, "secure_boot": None, "key_enrolled": None, "headers": True}, "driver": {}}


def gpu_host(driver=None, system=DEBIAN, count=1, **words):
    """A host that was asked: bare, or with a driver that works."""
    gpus = [fleets.gpu(index, compute_capability="9.0") for index in range(count)]
    if driver is None:
        gpus = [gpu | {"source": "pci", "uuid": None, "memory_mib": None, "usable_gib": None} for gpu in gpus]
    facts = fleets.facts(*gpus, state="ok" if driver else "no_driver", **system) | {"driver_version": driver}
    return fleets.host(1, facts=facts, preflight=STATE, reachable=True, **words)


def plan(host, previous=None, **settings):
    return fleets.planned(
        models=[fleets.model()],
        hosts={"gpu1": host},
        shapes={"tiny": fleets.shape()},
        settings=fleets.PUBLIC | settings,
        previous=previous,
    )


def stack(made):
    assert made["refusals"] == []
    return made["hosts"]["gpu1"]["stack"]


def test_a_bare_host_gets_a_driver_before_all_else():
    made = plan(gpu_host())
    assert (stack(made)["route"], stack(made)["driver_version"]) == ("nvidia", "580.178.04")
    shares = made["shares"]["gpu1"]
    assert next(iter(shares)) == "gpu_host"
    assert shares["gpu_host"]["gpu_host_stack"] == stack(made)
    assert faults("gpu_host", json.loads(json.dumps(shares["gpu_host"]))) == []
    assert "Drivers\n" in table(made) and "debian12/x86_64" in table(made)


def test_a_host_that_nobody_asked_or_without_gpus_has_none():
    unasked = fleets.planned(
        models=[fleets.model()],
        hosts={"gpu1": fleets.gpu_host(1, count=1), "cpu1": fleets.cpu_host(2)},
        shapes={"tiny": fleets.shape()},
        settings=fleets.PUBLIC,
    )
    assert [host["stack"] for host in unasked["hosts"].values()] == [None, None]
    assert "Drivers\n" not in table(unasked)


def test_a_driver_of_somebody_elses_is_checked_and_warned_of():
    made = plan(gpu_host(driver="580.95.05"))
    assert stack(made)["route"] == "present"
    assert "driver_of_others" in [warning["code"] for warning in made["warnings"]]
    meant = plan(gpu_host(driver="580.95.05", gpu_host_manage=False))
    assert "driver_of_others" not in [warning["code"] for warning in meant["warnings"]]


def test_a_driver_that_we_installed_stays_ours():
    before = plan(gpu_host())
    after = plan(gpu_host(driver="580.178.04"), previous=fleets.applied(before))
    assert stack(after) == stack(before)
    assert after["shares"]["gpu1"]["gpu_host"] == before["shares"]["gpu1"]["gpu_host"]
    assert after["warnings"] == before["warnings"]


def test_what_is_applied_outlives_newer_tables():
    before = plan(gpu_host(fleet_driver_version="580.95.05"))
    after = plan(gpu_host(driver="580.95.05"), previous=fleets.applied(before))
    assert stack(after)["driver_version"] == "580.95.05"


def test_the_lock_file_comes_before_what_is_applied_and_the_inventory_before_both():
    before = plan(gpu_host(fleet_driver_version="580.95.05"))
    locked = lock_file(before)["hosts"] | {"other": {"route": "nvidia"}}
    assert locked["gpu1"]["driver_version"] == "580.95.05"
    assert locked["gpu1"]["packages"]["nvidia-driver-cuda"] == "580.95.05-*"
    assert stack(plan(gpu_host(), host_stacks=locked))["driver_version"] == "580.95.05"
    newer = {"gpu1": locked["gpu1"] | {"driver_version": "595.91.07"}}
    idle = fleets.applied(before, live=False)
    assert stack(plan(gpu_host(driver="580.95.05"), idle, host_stacks=newer))["driver_version"] == "595.91.07"
    asked = gpu_host(driver="580.95.05", fleet_driver_version="580.178.04")
    assert stack(plan(asked, idle, host_stacks=newer))["driver_version"] == "580.178.04"


def test_a_lock_that_is_nonsense_is_refused_by_its_place():
    made = plan(gpu_host(), host_stacks={"gpu1": {"driver_version": 580}})
    assert made["refusals"][0]["subject"] == "host_stack.json.gpu1.driver_version"
    old = plan(gpu_host(), host_stacks={"gpu1": {"driver_version": "570.10.01"}})
    assert [refusal["code"] for refusal in old["refusals"]] == ["no_such_branch"]
    assert "host_stack.json" in " ".join(old["refusals"][0]["remedies"])


def test_a_present_driver_is_not_locked():
    assert lock_file(plan(gpu_host(driver="580.95.05"))) == {"hosts": {}}


def test_the_lock_keeps_hosts_that_nobody_asked_and_forgets_those_that_left():
    former = {"gpu1": {"route": "nvidia", "driver_version": "580.95.05"}, "gone": {"route": "nvidia"}}
    unasked = plan(fleets.gpu_host(1, count=1))
    assert lock_file(unasked, former) == {"hosts": {"gpu1": former["gpu1"]}}
    assert lock_file(unasked) == {"hosts": {}}


def test_a_driver_is_not_changed_under_a_replica_that_serves():
    before = plan(gpu_host(fleet_driver_version="580.95.05"))
    asked = gpu_host(driver="580.95.05", fleet_driver_version="580.178.04")
    waiting = plan(asked, fleets.applied(before))
    assert stack(waiting) == stack(before)
    (warning,) = [warning for warning in waiting["warnings"] if warning["code"] == "stack_waits"]
    assert "from driver 580.95.05 to 580.178.04, and tiny-0 serves" in warning["reason"]
    assert stack(plan(asked, fleets.applied(before, live=False)))["driver_version"] == "580.178.04"


def test_a_new_kernel_is_no_reason_to_wait():
    before = plan(gpu_host())
    rebooted = gpu_host(driver="580.178.04", system=DEBIAN | {"kernel": "6.1.0-39-amd64"})
    after = plan(rebooted, fleets.applied(before))
    assert "linux-headers-6.1.0-39-amd64" in [package["name"] for package in stack(after)["packages"]]


def test_hosts_of_kubernetes_get_the_container_toolkit():
    assert stack(plan(gpu_host(fleet_container_toolkit=True)))["container_toolkit_version"]
    assert not stack(plan(gpu_host()))["container_toolkit_version"]


@pytest.mark.parametrize(
    ("system", "code"), [({"os": {"id": "fedora", "version_id": "42"}}, "unknown_platform"), ({}, None)]
)
def test_what_the_solver_refuses_the_plan_refuses(system, code):
    secure = {"secure_boot": True} if code is None else {}
    host = gpu_host(system=DEBIAN | system) | {"preflight": STATE | {"kernel": STATE["kernel"] | secure}}
    made = plan(host)
    assert [refusal["code"] for refusal in made["refusals"]] == [code or "secure_boot"]
    assert made["shares"] == {}
