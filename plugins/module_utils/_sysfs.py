# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read from /sys and /proc which NVIDIA hardware the kernel sees, with or without a driver for it.

Every function takes the directory that stands for ``/``, so that a recording of another host can be read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpufleet.serving.plugins.module_utils._gpu_catalogue import NVIDIA_VENDOR

PCI_DEVICES = "sys/bus/pci/devices"
GPU_CLASSES = ("0300", "0302")
"""PCI classes of GPUs: VGA controller (boards with display outputs) and 3D controller (boards without), from
pci.ids."""

NVSWITCH_DEVICES = ("1af1", "22a3")
"""PCI device ids of the NVSwitches that hosts see: those of A100 and of H100 and H200 baseboards (pci.ids)."""

NVSWITCH_PROC = "proc/driver/nvidia-nvswitch/devices"
NVLINK5_MANAGEMENT_MARK = b"SW_MNG"
"""What the vital product data of the InfiniBand device holds through which hosts manage the NVSwitches of B200 and
B300."""

VERSION_PROC = "proc/driver/nvidia/version"
_KERNEL_MODULE_VERSION = re.compile(r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)?)\s", re.MULTILINE)


@dataclass(frozen=True)
class PciGpu:
    """A GPU on the PCI bus. Ids are four hex digits, ``subsystem`` is ``"vendor:device"``; unknown is None."""

    address: str
    device: str
    subsystem: str | None
    numa_node: int | None
    kernel_driver: str | None


def read_text(path: Path) -> str | None:
    """Return what a file of /proc or /sys holds, stripped; None where it is not there or not to be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def pci_gpus(root: Path) -> tuple[PciGpu, ...]:
    """Return the NVIDIA GPUs of the PCI bus by address, virtual functions left out: they are parts of a board."""
    return tuple(
        _pci_gpu(path)
        for path in _nvidia_devices(root)
        if _hex(path / "class")[:4] in GPU_CLASSES and not (path / "physfn").exists()
    )


def has_nvswitch(root: Path) -> bool:
    """Whether the GPUs sit on NVSwitches: by the driver's list, by PCI id, or by NVLink 5's management device."""
    return (
        any(_children(root / NVSWITCH_PROC))
        or any(_hex(path / "device") in NVSWITCH_DEVICES for path in _nvidia_devices(root))
        or any(_manages_nvlink5(path) for path in _children(root / "sys/class/infiniband"))
    )


def kernel_module_version(root: Path) -> str | None:
    """Return the version of the NVIDIA kernel module that is loaded now; None without one."""
    match = _KERNEL_MODULE_VERSION.search((read_text(root / VERSION_PROC) or "") + "\n")
    return match[1] if match else None


def _nvidia_devices(root: Path) -> list[Path]:
    return [path for path in _children(root / PCI_DEVICES) if _hex(path / "vendor") == NVIDIA_VENDOR]


def _pci_gpu(path: Path) -> PciGpu:
    board = _hex(path / "subsystem_vendor"), _hex(path / "subsystem_device")
    numa_node = int(read_text(path / "numa_node") or -1)
    driver = path / "driver"
    return PciGpu(
        address=path.name,
        device=_hex(path / "device"),
        subsystem=":".join(board) if all(board) else None,
        numa_node=numa_node if numa_node >= 0 else None,
        kernel_driver=driver.readlink().name if driver.is_symlink() else None,
    )


def _manages_nvlink5(infiniband_device: Path) -> bool:
    try:
        return NVLINK5_MANAGEMENT_MARK in (infiniband_device / "device" / "vpd").read_bytes()
    except OSError:
        return False


def _hex(path: Path) -> str:
    return (read_text(path) or "").removeprefix("0x")


def _children(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except OSError:
        return []
