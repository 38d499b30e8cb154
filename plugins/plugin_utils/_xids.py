# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Xid errors of NVIDIA's driver mean for a host that is to serve.

Source: NVIDIA, "GPU Deployment and Management: Xid Errors" (docs.nvidia.com/deploy/xid-errors), catalogue of the R580
time. Xids that name a program's own fault (13, 31, 32, 43, 45, 68) say nothing of the host and have no row.
"""

from __future__ import annotations

from dataclasses import dataclass

RESET = "stop what uses the GPU and reset it (nvidia-smi -r -i <GPU>), or reboot the host"
REBOOT = "reboot the host"
REPLACE = "run NVIDIA's field diagnostics and have the board replaced"
POWER_CYCLE = "power-cycle the host; if it comes again, check seating, power and cables, then have the board replaced"
CABLING = "look for further NVLink errors in the kernel log; reboot, and have the board or baseboard checked"


@dataclass(frozen=True, slots=True)
class Xid:
    """lasting: whether the GPU stays unusable until the remedy, even where the driver still answers for it."""

    meaning: str
    remedy: str
    lasting: bool = False


XIDS = {
    48: Xid("an uncorrectable memory error", RESET),
    61: Xid("its micro-controller stopped", RESET),
    62: Xid("its micro-controller halted", RESET),
    63: Xid("a defective row of memory was marked for replacement", RESET),
    64: Xid("a defective row of memory could not be replaced", REPLACE, lasting=True),
    74: Xid("an NVLink error", CABLING),
    79: Xid("it fell off the bus", POWER_CYCLE, lasting=True),
    92: Xid("many correctable memory errors", REPLACE),
    94: Xid("a memory error that was contained to one program", RESET),
    95: Xid("a memory error that was not contained", RESET, lasting=True),
    109: Xid("a context switch timed out", RESET),
    119: Xid("its system processor (GSP) did not answer", RESET),
    120: Xid("its system processor (GSP) failed", RESET),
    121: Xid("a link error between CPU and GPU", RESET),
    136: Xid("links could not be trained", CABLING),
    140: Xid("a memory error that was not recovered", RESET, lasting=True),
    143: Xid("its initialisation failed", REBOOT, lasting=True),
    145: Xid("an NVLink error", CABLING),
    149: Xid("an NVLink error", CABLING),
    154: Xid("it asks for a recovery", RESET),
}
