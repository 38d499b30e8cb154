# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._driver_step import (
    driver_replaced,
    driver_step,
    fabric_fault,
)

NEW, OLD = "580.178.04", "580.95.05"


def state(loaded=None, module=NEW, nouveau=False, container=None, replicas=()):
    return {
        "driver": {"loaded": loaded, "module": module, "nouveau": nouveau},
        "kernel": {"container": container},
        "replicas": list(replicas),
    }


STEPS = {
    "runs": (state(NEW), "never", "nothing", "580.178.04 is loaded"),
    "installed on a bare host": (state(), "never", "load", "installed and not loaded"),
    "nouveau": (state(nouveau=True), "auto", "reboot", "nouveau"),
    "nouveau, no reboot": (state(nouveau=True), "never", "stop", "gpu_host_reboot: auto"),
    "drift": (state(OLD), "auto", "reboot", f"{OLD} is loaded, and {NEW} is installed"),
    "drift, no reboot": (state(OLD), "never", "stop", "reboot the host"),
    "drift while a replica serves": (
        state(OLD, replicas=["gpufleet-tiny-0.service"]),
        "auto",
        "stop",
        "gpufleet-tiny-0.service runs: drain",
    ),
    "no module": (state(module=None), "auto", "stop", "dkms status"),
    "container": (state(container="podman"), "auto", "skip", "container (podman)"),
    "container with a driver of its machine": (state(NEW, module=None, container="lxc"), "auto", "skip", "lxc"),
    "runs while a replica serves": (state(NEW, replicas=["gpufleet-x-0.service"]), "never", "nothing", "is loaded"),
}


@pytest.mark.parametrize(("told", "reboot", "action", "words"), STEPS.values(), ids=STEPS)
def test_the_step(told, reboot, action, words):
    step = driver_step(told, reboot)
    assert step["action"] == action
    assert words in step["reason"]


def fabric(active=True, version=NEW, gpu=("Completed", "Success"), unit="active (running)"):
    return {
        "driver": {"loaded": NEW},
        "fabric_manager": {"active": active, "state": unit, "version": version},
        "gpus": [{"pci_address": "0000:18:00.0", "fabric_state": gpu[0], "fabric_status": gpu[1]}],
    }


FABRICS = {
    "ready": (fabric(), ""),
    "A100, which does not register": (fabric(gpu=(None, None)), ""),
    "not started": (fabric(active=False, unit="failed (failed)"), "nvidia-fabricmanager is failed (failed)"),
    "another version": (fabric(version=OLD), f"version {OLD}, and the driver of {NEW}"),
    "joining": (fabric(gpu=("In Progress", None)), "0000:18:00.0 In Progress"),
    "joined badly": (fabric(gpu=("Completed", "Failure")), "0000:18:00.0 Completed Failure"),
}


@pytest.mark.parametrize(("told", "words"), FABRICS.values(), ids=FABRICS)
def test_when_the_fabric_is_ready(told, words):
    fault = fabric_fault(told, "nvswitch")
    assert (words in fault) if words else fault == ""
    assert fabric_fault(told, "none") == ""


def test_what_a_stack_would_replace():
    installed = [
        {"name": "nvidia-driver-cuda", "version": "580.95.05-1"},
        {"name": "nvidia-modprobe", "version": "580.178.04-1"},
        {"name": "nvidia-driver-pinning-580", "version": "580-1"},
        {"name": "nvidia-driver-libs", "version": "535.261.03-1"},
    ]
    stack = {
        "packages": [
            {"name": "nvidia-driver-cuda", "version": "580.178.04-*"},
            {"name": "nvidia-modprobe", "version": "580.178.04-*"},
            {"name": "nvidia-driver-pinning-580", "version": ""},
        ]
    }
    replaced = driver_replaced({"driver": {"packages": installed}}, stack)
    assert replaced == ["nvidia-driver-cuda 580.95.05-1 by 580.178.04-*"]
