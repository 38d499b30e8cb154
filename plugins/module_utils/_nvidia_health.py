# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read how well GPUs are from nvidia-smi: memory errors, links, fabric, and who uses them.

``nvidia-smi -q -x`` carries nearly everything in one call; ``nvidia-smi nvlink -s`` has the links. What a board or a
driver does not tell is None.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any
from xml.etree import ElementTree

from ansible_collections.gpufleet.serving.plugins.module_utils._nvidia_smi import normalise_address

UNCORRECTABLE = ("sram_uncorrectable", "sram_uncorrectable_parity", "sram_uncorrectable_secded", "dram_uncorrectable")
"""Elements of ``ecc_errors`` that count errors which cost data: one figure for SRAM on older drivers, two on newer."""

_GPU_LINE = re.compile(r"GPU (?P<index>\d+):")
_LINK_LINE = re.compile(r"\s+Link \d+: (?P<state>.+)")
_BANDWIDTH = re.compile(r"[\d.]+ GB/s")


@dataclass(frozen=True)
class GpuProcess:
    """A process that holds memory of a GPU; ``memory_mib`` is None where the driver does not tell."""

    pid: int
    name: str
    memory_mib: int | None


@dataclass(frozen=True)
class GpuHealth:
    """How well one GPU is.

    link_width, link_width_max: PCIe lanes. ecc_*: uncorrectable errors since the driver was loaded, and ever.
    rows_pending: a defective row of memory waits for a reset to be replaced; rows_failed: it could not be.
    recovery_action: what the driver itself asks for, such as ``Reset`` or ``Reboot``. fabric_state: ``Completed`` once
    the GPU may speak over NVSwitches, and then fabric_status says how that went.
    """

    pci_address: str
    link_width: int | None = None
    link_width_max: int | None = None
    ecc_volatile: int | None = None
    ecc_aggregate: int | None = None
    rows_pending: bool | None = None
    rows_failed: bool | None = None
    recovery_action: str | None = None
    fabric_state: str | None = None
    fabric_status: str | None = None
    processes: tuple[GpuProcess, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, without the processes."""
        return {name: value for name, value in asdict(self).items() if name != "processes"}


def parse_health(text: str) -> tuple[GpuHealth, ...]:
    """Parse ``nvidia-smi -q -x``. Text that is no XML tells of no GPU."""
    try:
        gpus = ElementTree.fromstring(text.strip()).findall("gpu")  # noqa: S314 - written by the driver's own program
    except ElementTree.ParseError:
        return ()
    return tuple(_health(gpu) for gpu in gpus)


def parse_nvlinks(text: str) -> dict[int, tuple[int, int]]:
    """Parse ``nvidia-smi nvlink -s`` into how many links of each GPU are up, and how many there are, by index.

    A link is up that has a bandwidth; whatever else is printed of it, it is not.
    """
    counts: dict[int, tuple[int, int]] = {}
    index = -1
    for line in text.splitlines():
        gpu, link = _GPU_LINE.match(line), _LINK_LINE.match(line)
        if gpu:
            index = int(gpu["index"])
        elif link and index >= 0:
            up, total = counts.get(index, (0, 0))
            counts[index] = (up + bool(_BANDWIDTH.fullmatch(link["state"].strip())), total + 1)
    return counts


def _health(gpu: ElementTree.Element) -> GpuHealth:
    widths = "pci/pci_gpu_link_info/link_widths"
    return GpuHealth(
        pci_address=normalise_address(gpu.get("id", "0:00:00.0")),
        link_width=_number(gpu.findtext(f"{widths}/current_link_width")),
        link_width_max=_number(gpu.findtext(f"{widths}/max_link_width")),
        ecc_volatile=_errors(gpu.find("ecc_errors/volatile")),
        ecc_aggregate=_errors(gpu.find("ecc_errors/aggregate")),
        rows_pending=_yes(gpu.findtext("remapped_rows/remapped_row_pending")),
        rows_failed=_yes(gpu.findtext("remapped_rows/remapped_row_failure")),
        recovery_action=_word(gpu.findtext("gpu_recovery_action")),
        fabric_state=_word(gpu.findtext("fabric/state")),
        fabric_status=_word(gpu.findtext("fabric/status")),
        processes=tuple(map(_process, gpu.findall("processes/process_info"))),
    )


def _process(info: ElementTree.Element) -> GpuProcess:
    return GpuProcess(
        pid=_number(info.findtext("pid")) or 0,
        name=_word(info.findtext("process_name")) or "",
        memory_mib=_number(info.findtext("used_memory")),
    )


def _errors(counters: ElementTree.Element | None) -> int | None:
    """The sum of the counters that are numbers; None where none is."""
    if counters is None:
        return None
    counts = [_number(counters.findtext(name)) for name in UNCORRECTABLE]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _number(text: str | None) -> int | None:
    """The number that a value such as ``16x``, ``7 MiB`` or ``0`` begins with."""
    match = re.match(r"\d+", (text or "").strip())
    return int(match[0]) if match else None


def _yes(text: str | None) -> bool | None:
    return {"yes": True, "no": False}.get((text or "").strip().lower())


def _word(text: str | None) -> str | None:
    word = (text or "").strip()
    return word if word and word not in ("N/A", "None", "[N/A]") else None
