# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put together what the driver, the PCI bus and the catalogue know of a host's GPUs, and name the state they are in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.serving.plugins.module_utils._gpu_catalogue import (
    MIB_PER_GIB,
    NVIDIA_VENDOR,
    GpuModel,
    identify,
    usable_gib,
)
from ansible_collections.gpufleet.serving.plugins.module_utils._nvidia_smi import (
    DRIVER_MISMATCH,
    GPU_LOST,
    HUNG,
    NO_DRIVER,
    NO_GPU,
    OK,
    DriverGpu,
    DriverReading,
    MigDevice,
)
from ansible_collections.gpufleet.serving.plugins.module_utils._sysfs import PciGpu

PASSED_THROUGH = "vfio-pci"
"""The kernel driver of a GPU that is given to a virtual machine: it is no longer this host's."""

OLDEST_DRIVER_BRANCH = 580
"""The oldest driver branch that runs CUDA 13, which the engine's wheels are built for."""

NVIDIA_DRIVER = f"the NVIDIA driver ({OLDEST_DRIVER_BRANCH} or newer)"
FIND_XID = "Look for 'Xid' and 'NVRM' in the kernel log (journalctl -k)"


@dataclass(frozen=True)
class Hardware:
    """What the kernel shows, driver or not; ``kernel_module`` is the version of the NVIDIA module that is loaded."""

    gpus: tuple[PciGpu, ...] = ()
    nvswitch: bool = False
    kernel_module: str | None = None

    @property
    def own_gpus(self) -> tuple[PciGpu, ...]:
        """The GPUs that are the host's own, not a virtual machine's."""
        return tuple(gpu for gpu in self.gpus if gpu.kernel_driver != PASSED_THROUGH)


def gpu_facts(hardware: Hardware, reading: DriverReading) -> dict[str, Any]:
    """Return ``gpus``, ``state``, ``state_reason`` and the facts of the driver as the module documents them."""
    lost = _lost(hardware, reading)
    state = _state(hardware, reading, lost)
    gpus = _gpus(hardware, reading, lost)
    return {
        "gpus": gpus,
        "state": state,
        "state_reason": _reason(state, hardware, reading, lost),
        "driver_version": next(
            (gpu["driver_version"] for gpu in gpus if gpu["driver_version"]), hardware.kernel_module
        ),
        "cuda_version": reading.cuda_version,
        "nvlink": _nvlink(hardware, reading),
        "nvswitch": hardware.nvswitch,
    }


def _lost(hardware: Hardware, reading: DriverReading) -> dict[str, str]:
    """Say what is wrong with each GPU that should be usable and is not, by PCI address.

    Only a driver that answers can lose a GPU.
    """
    if reading.state not in (OK, NO_GPU, GPU_LOST):
        return {}
    listed = {gpu.pci_address for gpu in reading.gpus}
    missing = {
        gpu.address: f"not listed by nvidia-smi, kernel driver {gpu.kernel_driver or 'none'}"
        for gpu in hardware.own_gpus
        if gpu.address not in listed
    }
    faulty = {gpu.pci_address: "nvidia-smi prints errors for it" for gpu in reading.gpus if gpu.lost}
    return {**missing, **faulty, **reading.lost}


def _state(hardware: Hardware, reading: DriverReading, lost: Mapping[str, str]) -> str:
    if reading.state == NO_DRIVER:
        return NO_DRIVER if hardware.own_gpus else NO_GPU
    if reading.state in (OK, NO_GPU):
        return GPU_LOST if lost else OK if reading.gpus else NO_GPU
    return reading.state


def _reason(state: str, hardware: Hardware, reading: DriverReading, lost: Mapping[str, str]) -> str:
    """Say in one line what was seen and what to do about it; nothing where all is well."""
    if state == OK:
        return ""
    if state == NO_GPU:
        return _no_gpu(hardware)
    if state == NO_DRIVER:
        return _no_driver(hardware, reading.detail)
    if state == GPU_LOST:
        seen = "; ".join(f"{address}: {fault}" for address, fault in sorted(lost.items())) or reading.detail
        return (
            f"The driver cannot use every GPU ({seen}). {FIND_XID}, reboot or power-cycle the host, and replace the "
            "board if it happens again."
        )
    if state == DRIVER_MISMATCH:
        return (
            f"The loaded NVIDIA kernel module is version {hardware.kernel_module or 'unknown'} and does not fit the "
            f"user-space driver ({reading.detail}). Reboot to load the installed module, and hold the driver's "
            "packages against upgrades."
        )
    if state == HUNG:
        return f"{reading.detail}: a GPU or its driver hangs. {FIND_XID} and reboot the host."
    return (
        f"nvidia-smi could not be read ({reading.detail}). Run it by hand as root; drivers of branch "
        f"{OLDEST_DRIVER_BRANCH} and newer are supported."
    )


def _no_gpu(hardware: Hardware) -> str:
    if hardware.gpus:
        held = ", ".join(gpu.address for gpu in hardware.gpus)
        return (
            f"Every NVIDIA GPU is given to virtual machines ({held}, {PASSED_THROUGH}). Bind them to the nvidia driver."
        )
    return "No NVIDIA GPU is on the PCI bus. Check 'lspci -d 10de:', and that the boards are seated and powered."


def _no_driver(hardware: Hardware, detail: str) -> str:
    addresses = ", ".join(gpu.address for gpu in hardware.own_gpus)
    if any(gpu.kernel_driver == "nouveau" for gpu in hardware.own_gpus):
        remedy = f"Blacklist nouveau, which holds them, install {NVIDIA_DRIVER} and reboot."
    elif hardware.kernel_module:
        remedy = (
            f"The kernel module {hardware.kernel_module} is loaded: install the user-space driver of the same version."
        )
    else:
        remedy = f"Install {NVIDIA_DRIVER}, or load the installed one (modprobe nvidia)."
    return f"NVIDIA GPUs without a working driver: {addresses} ({detail}). {remedy}"


def _gpus(hardware: Hardware, reading: DriverReading, lost: Mapping[str, str]) -> list[dict[str, Any]]:
    """Join both views by PCI address. A GPU that the driver does not list is numbered after those that it does."""
    on_bus = {gpu.address: gpu for gpu in hardware.own_gpus}
    unlisted = sorted({*on_bus, *lost} - {gpu.pci_address for gpu in reading.gpus})
    first_free = max((gpu.index for gpu in reading.gpus), default=-1) + 1
    facts = [_gpu(gpu, on_bus.get(gpu.pci_address), "driver") for gpu in reading.gpus]
    for index, address in enumerate(unlisted, start=first_free):
        gpu = DriverGpu(index=index, pci_address=address, lost=address in lost)
        facts.append(_gpu(gpu, on_bus.get(address), "pci"))
    return sorted(facts, key=lambda gpu: gpu["index"])


def _gpu(gpu: DriverGpu, pci: PciGpu | None, source: str) -> dict[str, Any]:
    models = _models(pci, gpu)
    model = models[0] if len(models) == 1 else None
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name or (model.names[0] if model else None),
        "key": model.key if model else None,
        "candidates": [] if model else [candidate.key for candidate in models],
        "source": source,
        "memory_mib": gpu.memory_mib,
        "memory_used_mib": gpu.memory_used_mib,
        "usable_gib": _usable_gib(gpu.memory_mib, model),
        "compute_capability": gpu.compute_capability or (model.compute_capability if model else None),
        "mig_mode": gpu.mig_mode,
        "mig_devices": [_mig_device(device) for device in gpu.mig_devices],
        "ecc": gpu.ecc,
        "driver_version": gpu.driver_version,
        "persistence": gpu.persistence,
        "lost": gpu.lost,
        "pci_address": gpu.pci_address,
        "pci_device": pci.device if pci else None,
        "pci_subsystem": pci.subsystem if pci else None,
        "kernel_driver": pci.kernel_driver if pci else None,
        "numa_node": pci.numa_node if pci else None,
    }


def _models(pci: PciGpu | None, gpu: DriverGpu | None = None) -> tuple[GpuModel, ...]:
    return identify(
        name=gpu.name if gpu else None,
        vendor=NVIDIA_VENDOR,
        device=pci.device if pci else None,
        subsystem=pci.subsystem if pci else None,
        memory_mib=gpu.memory_mib if gpu else None,
    )


def _usable_gib(memory_mib: int | None, model: GpuModel | None) -> float | None:
    if memory_mib is not None:
        return usable_gib(memory_mib, model)
    return model.usable_gib if model else None


def _mig_device(device: MigDevice) -> dict[str, Any]:
    return {
        "index": device.index,
        "uuid": device.uuid,
        "profile": device.profile,
        "memory_mib": device.memory_mib,
        "usable_gib": round(device.memory_mib / MIB_PER_GIB, 2) if device.memory_mib is not None else None,
    }


def _nvlink(hardware: Hardware, reading: DriverReading) -> bool | None:
    """Say whether GPUs share NVLinks: as the driver tells, else as far as boards tell, which show no bridge."""
    if reading.nvlink is not None:
        return reading.nvlink
    if hardware.nvswitch:
        return True
    models = [model for gpu in hardware.own_gpus for model in _models(gpu)]
    if not models or any(model.nvlink and not model.nvlink.built_in for model in models):
        return None
    return len(hardware.own_gpus) > 1 and all(model.nvlink for model in models)
