# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what of a host can stand in the way of serving: driver, fabric, GPUs, kernel log, limits, ports and the rest.

``root`` stands for ``/``, so that a recording of another host can be read; ``run`` calls a program within a time limit.
What cannot be read is None or empty: this module tells, and the controller's ``_preflight`` judges.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.serving.plugins.module_utils._command import Outcome
from ansible_collections.gpufleet.serving.plugins.module_utils._kernel_log import parse_xids, read_kernel_log
from ansible_collections.gpufleet.serving.plugins.module_utils._nvidia_health import (
    GpuHealth,
    GpuProcess,
    parse_health,
    parse_nvlinks,
)
from ansible_collections.gpufleet.serving.plugins.module_utils._processes import Listener, describe, listeners
from ansible_collections.gpufleet.serving.plugins.module_utils._sysfs import kernel_module_version, read_text

Run = Callable[[list[str]], Outcome]

PERSISTENCED = "nvidia-persistenced.service"
FABRIC_MANAGER = "nvidia-fabricmanager.service"
REPLICAS = "gpufleet-*.service"

DKMS_KEY = "var/lib/dkms/mok.pub"
"""The certificate that DKMS signs modules with, as Debian, Ubuntu and EPEL package it."""
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
"""The UEFI variable: four bytes of attributes, then one that is 1 where Secure Boot is on (UEFI specification, 3.3)."""
CONTAINER_MARKS = ("run/systemd/container", "run/.containerenv", ".dockerenv")
"""Files that container managers leave; the first names its kind (systemd's Container Interface)."""

DRIVER_PACKAGES = (
    "nvidia-driver*",
    "nvidia-headless*",
    "nvidia-utils*",
    "nvidia-kernel-*",
    "nvidia-dkms*",
    "nvidia-smi",
    "kmod-nvidia*",
)
"""Packages that say by their version where a driver came from."""
PACKAGE_QUERIES = (
    ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package} ${Version}\n", *DRIVER_PACKAGES],
    ["rpm", "--query", "--all", "--queryformat=installed %{NAME} %{VERSION}-%{RELEASE}\n", *DRIVER_PACKAGES],
)

_LIMITS = {"nofile": "Max open files", "memlock": "Max locked memory"}
_FABRIC_VERSION = re.compile(r"Fabric Manager version is\s*:\s*(\S+)")
_VERSION_SCRIPT = "import sys; print('%d.%d.%d' % sys.version_info[:3])"


def read_preflight(root: Path, run: Run, python: str) -> dict[str, Any]:
    """Return everything, as the module documents it."""
    gpus, links = read_gpus(run)
    log = read_kernel_log(run)
    return {
        "driver": read_driver(root, run),
        "fabric_manager": read_fabric_manager(run),
        "gpu_processes": [_gpu_process(root, gpu, process) for gpu in gpus for process in gpu.processes],
        "gpus": [{**gpu.as_dict(), **_links(links.get(index))} for index, gpu in enumerate(gpus)],
        "kernel": read_kernel(root, run),
        "kernel_log": None if log is None else [asdict(error) for error in parse_xids(log)],
        "limits": read_limits(root),
        "listeners": [_listener(listener) for listener in listeners(root)],
        "python": read_python(run, python),
        "replicas": read_replicas(run),
        "shm": read_shm(root),
        "time_synchronised": read_time(run),
    }


def read_gpus(run: Run) -> tuple[tuple[GpuHealth, ...], dict[int, tuple[int, int]]]:
    """Return the GPUs that the driver tells of, and the NVLinks of each; a hanging nvidia-smi is not called again."""
    outcome = run(["nvidia-smi", "-q", "-x"])
    gpus = parse_health(outcome.stdout)
    links = parse_nvlinks(run(["nvidia-smi", "nvlink", "-s"]).stdout) if gpus else {}
    return gpus, links


def read_driver(root: Path, run: Run) -> dict[str, Any]:
    """Return the driver as it is loaded, as it is installed, and the state of what belongs to it."""
    return {
        "loaded": kernel_module_version(root),
        "module": run(["modinfo", "--field=version", "nvidia"]).stdout.strip() or None,
        "nouveau": (root / "sys/module/nouveau").is_dir(),
        "packages": read_packages(run),
        "persistenced": _unit(run, PERSISTENCED),
    }


def read_packages(run: Run) -> list[dict[str, str]]:
    """Return the packages of a driver that are installed, by the package manager that there is."""
    for argv in PACKAGE_QUERIES:
        outcome = run(argv)
        if not outcome.missing:
            rows = [line.split() for line in outcome.stdout.splitlines()]
            return [{"name": row[1], "version": row[2]} for row in rows if len(row) == 3 and row[0] == "installed"]
    return []


def read_fabric_manager(run: Run) -> dict[str, Any]:
    """Return the state of the fabric manager's unit, and the version that the program itself says."""
    version = _FABRIC_VERSION.search(run(["nv-fabricmanager", "--version"]).text)
    return {**_unit(run, FABRIC_MANAGER), "version": version[1] if version else None}


def read_kernel(root: Path, run: Run) -> dict[str, Any]:
    """Return what decides on kernel modules: container or not, Secure Boot and whose key, headers."""
    release = read_text(root / "proc/sys/kernel/osrelease") or ""
    secure_boot = _secure_boot(root)
    return {
        "container": _container(root),
        "headers": bool(release) and (root / "lib/modules" / release / "build").exists(),
        "key_enrolled": _key_enrolled(root, run) if secure_boot else None,
        "secure_boot": secure_boot,
    }


def read_limits(root: Path) -> dict[str, int | None]:
    """Return the hard limits of process 1, above which no service comes; None where there is none, as for ``nofile``
    and bytes of ``memlock``."""
    lines = (read_text(root / "proc/1/limits") or "").splitlines()
    limits: dict[str, int | None] = {}
    for name, title in _LIMITS.items():
        values = [line[len(title) :].split() for line in lines if line.startswith(title)]
        limits[name] = int(values[0][1]) if values and values[0][1].isdecimal() else None
    return limits


def read_shm(root: Path) -> dict[str, int] | None:
    """Return size and free bytes of /dev/shm; None where there is none."""
    try:
        usage = os.statvfs(root / "dev/shm")
    except OSError:
        return None
    return {"free_bytes": usage.f_bavail * usage.f_frsize, "total_bytes": usage.f_blocks * usage.f_frsize}


def read_replicas(run: Run) -> list[str]:
    """Return the units of replicas that run or are about to."""
    argv = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating,reloading", REPLICAS]
    return sorted(line.split()[0] for line in run(argv).stdout.splitlines() if line.split())


def read_time(run: Run) -> bool | None:
    """Return whether the clock is kept by a time server; None where nobody tells."""
    told = run(["timedatectl", "show", "--property=NTPSynchronized", "--value"]).stdout.strip()
    return {"yes": True, "no": False}.get(told)


def read_python(run: Run, python: str) -> dict[str, str | None]:
    """Return the version of the Python that engines are to run on; None where it is not there."""
    outcome = run([python, "-c", _VERSION_SCRIPT])
    return {"program": python, "version": outcome.stdout.strip() or None if outcome.rc == 0 else None}


def _unit(run: Run, name: str) -> dict[str, Any]:
    """The state of a unit, which need not exist."""
    outcome = run(["systemctl", "show", "--property=LoadState,ActiveState,SubState,UnitFileState", "--", name])
    told = dict(line.split("=", 1) for line in outcome.stdout.splitlines() if "=" in line)
    return {
        "active": told.get("ActiveState") == "active",
        "enabled": told.get("UnitFileState") == "enabled",
        "installed": told.get("LoadState") == "loaded",
        "state": f"{told.get('ActiveState', 'unknown')} ({told.get('SubState', 'unknown')})",
    }


def _container(root: Path) -> str | None:
    for mark in CONTAINER_MARKS:
        if (root / mark).exists():
            return (read_text(root / mark) or "").split("\n")[0].strip() or "container"
    return None


def _secure_boot(root: Path) -> bool | None:
    try:
        return (root / SECURE_BOOT).read_bytes()[-1:] == b"\x01"
    except OSError:
        return None


def _key_enrolled(root: Path, run: Run) -> bool:
    """Whether the firmware trusts DKMS's key; mokutil says so in words, and its exit code has changed."""
    key = root / DKMS_KEY
    return key.exists() and "is already enrolled" in run(["mokutil", "--test-key", str(key)]).text


def _gpu_process(root: Path, gpu: GpuHealth, process: GpuProcess) -> dict[str, Any]:
    known = describe(root, process.pid)
    return {
        "memory_mib": process.memory_mib,
        "name": known.name or process.name,
        "pci_address": gpu.pci_address,
        "pid": process.pid,
        "uid": known.uid,
        "unit": known.unit,
    }


def _links(counted: tuple[int, int] | None) -> dict[str, int | None]:
    up, total = counted or (None, None)
    return {"nvlinks": total, "nvlinks_up": up}


def _listener(listener: Listener) -> dict[str, Any]:
    process = listener.process
    return {
        "loopback": listener.loopback,
        "name": process.name if process else None,
        "pid": process.pid if process else None,
        "port": listener.port,
        "unit": process.unit if process else None,
    }
