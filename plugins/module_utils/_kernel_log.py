# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find in the kernel's log what NVIDIA's driver reported since the host booted: Xid errors, and GPUs that fell off.

Monitoring tools may never see these: an Xid does not clear, and a GPU that is off the bus answers nobody.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ansible_collections.gpufleet.serving.plugins.module_utils._command import Outcome

Run = Callable[[list[str]], Outcome]

FELL_OFF = 79
"""Xid of a GPU that has fallen off the bus."""
LONGEST_TEXT = 160
"""Characters of a line that are kept."""

_XID = re.compile(r"NVRM: Xid \(PCI:(?P<address>[0-9a-f:.]+)\): (?P<number>\d+),?\s*(?P<text>.*)", re.IGNORECASE)
_SXID = re.compile(r"SXid \(PCI:(?P<address>[0-9a-f:.]+)\): (?P<number>\d+),?\s*(?P<text>.*)", re.IGNORECASE)
_OFF_THE_BUS = "fallen off the bus"
_ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}(?:\.\d)?", re.IGNORECASE)


@dataclass(frozen=True)
class XidError:
    """An Xid that was reported ``count`` times for one device; ``text`` is of the last time.

    nvswitch: whether it is one of NVSwitch (SXid), which has numbers of its own.
    """

    number: int
    pci_address: str
    count: int
    text: str
    nvswitch: bool = False


def read_kernel_log(run: Run) -> str | None:
    """Return the kernel's messages since boot, from the journal or else the ring buffer; None where neither tells."""
    for argv in (["journalctl", "--dmesg", "--boot", "--no-pager", "--output=cat"], ["dmesg"]):
        outcome = run(argv)
        if outcome.rc == 0 and outcome.stdout.strip():
            return outcome.stdout
    return None


def parse_xids(text: str) -> tuple[XidError, ...]:
    """Return each Xid of each device once, in the order in which they first came."""
    found: dict[tuple[int, str, bool], XidError] = {}
    for error in _errors(text.splitlines()):
        key = (error.number, error.pci_address, error.nvswitch)
        before = found[key].count if key in found else 0
        found[key] = XidError(error.number, error.pci_address, before + 1, error.text, error.nvswitch)
    return tuple(found.values())


def _errors(lines: Iterable[str]) -> Iterable[XidError]:
    for line in lines:
        xid, sxid = _XID.search(line), _SXID.search(line)
        match = xid or sxid
        if match:
            text = match["text"].strip()[:LONGEST_TEXT]
            yield XidError(int(match["number"]), _address(match["address"]), 1, text, sxid is not None and xid is None)
            continue
        if "NVRM:" in line and _OFF_THE_BUS in line:
            address = _ADDRESS.search(line)
            yield XidError(FELL_OFF, _address(address[0]) if address else "", 1, line.strip()[:LONGEST_TEXT])


def _address(text: str) -> str:
    """The address with its function, which the driver's messages leave out."""
    return text if not text or "." in text else f"{text}.0"
