# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What it takes to have the installed driver running: nothing, loading its module, or a reboot; and when the fabric is
ready.

``state`` is what ``preflight_info`` answered after the packages were installed.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ._host_stack_rules import NO_FABRIC
from ._preflight import FABRIC_READY, FABRIC_WELL
from ._text import listing

NOTHING, LOAD, REBOOT, STOP, SKIP = "nothing", "load", "reboot", "stop", "skip"
NEVER = "never"
NOT_SAID = (None, "N/A", "")
"""What GPUs say of a fabric that they do not register with: those before H100 do not."""


@dataclass(frozen=True, slots=True)
class Step:
    """action: ``nothing``, ``load`` (modprobe is enough), ``reboot``, ``skip`` (the host cannot load modules) or
    ``stop``, where a reboot is needed and not allowed. reason: why, in a sentence."""

    action: str
    reason: str


def driver_step(state: Mapping[str, Any], reboot: str = NEVER) -> dict[str, str]:
    """The next step. ``reboot``: ``auto`` where the host may be rebooted, which it never is while a replica runs."""
    return asdict(_allowed(_needed(state), state["replicas"], reboot))


def _needed(state: Mapping[str, Any]) -> Step:
    driver, kernel = state["driver"], state["kernel"]
    loaded, ready = driver["loaded"], driver["module"]
    if kernel["container"]:
        return Step(SKIP, f"the host is a container ({kernel['container']}): kernel modules are the machine's below it")
    if driver["nouveau"]:
        return Step(REBOOT, "nouveau drives the GPUs and gives them back at a boot only")
    if ready is None:
        return Step(
            STOP,
            "no NVIDIA kernel module is there for the running kernel: see 'dkms status' and /var/lib/dkms/nvidia; if a "
            "newer kernel is installed, reboot into it",
        )
    if loaded is None:
        return Step(LOAD, f"kernel module {ready} is installed and not loaded")
    if loaded != ready:
        return Step(REBOOT, f"kernel module {loaded} is loaded, and {ready} is installed: programs that start now fail")
    return Step(NOTHING, f"kernel module {loaded} is loaded")


def _allowed(step: Step, replicas: list[str], reboot: str) -> Step:
    if step.action != REBOOT:
        return step
    if replicas:
        return Step(STOP, f"{step.reason}; a reboot has to wait while {listing(replicas)} runs: drain and stop it")
    if reboot == NEVER:
        return Step(STOP, f"{step.reason}; reboot the host, or say gpu_host_reboot: auto and the role does")
    return step


def fabric_fault(state: Mapping[str, Any], fabric: str) -> str:
    """Why GPUs on NVSwitches cannot speak to each other yet; empty where they can, or are on none."""
    if fabric == NO_FABRIC:
        return ""
    manager, loaded = state["fabric_manager"], state["driver"]["loaded"]
    if not manager["active"]:
        return f"nvidia-fabricmanager is {manager['state']}"
    if manager["version"] and loaded and manager["version"] != loaded:
        return f"nvidia-fabricmanager is of version {manager['version']}, and the driver of {loaded}"
    waiting = [
        f"{gpu['pci_address']} {' '.join(filter(None, (gpu['fabric_state'], gpu['fabric_status'])))}"
        for gpu in state["gpus"]
        if gpu["fabric_state"] not in NOT_SAID
        and (gpu["fabric_state"] != FABRIC_READY or gpu["fabric_status"] not in (*NOT_SAID, FABRIC_WELL))
    ]
    return f"GPUs have not joined the fabric: {listing(waiting)}" if waiting else ""


def driver_replaced(state: Mapping[str, Any], stack: Mapping[str, Any]) -> list[str]:
    """The installed packages of a driver that a stack would replace, with both versions."""
    wanted = {package["name"]: package["version"] for package in stack["packages"] if package["version"]}
    return [
        f"{package['name']} {package['version']} by {wanted[package['name']]}"
        for package in state["driver"]["packages"]
        if package["name"] in wanted and not fnmatch.fnmatchcase(package["version"], wanted[package["name"]])
    ]
