# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Try TCP ports of other hosts: what answers, what refuses, and what stays silent."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

ANSWERS, REFUSES, SILENT = "answers", "refuses", "silent"
MOST_AT_ONCE = 64


@dataclass(frozen=True)
class Tried:
    """One port and what came of it. ``source``: the address that this host speaks from towards it, where it has one."""

    address: str
    port: int
    state: str
    source: str | None


def try_ports(targets: Iterable[tuple[str, int]], timeout_s: float) -> list[Tried]:
    """Try to connect to each target once, many at a time, and send nothing."""
    with ThreadPoolExecutor(max_workers=MOST_AT_ONCE) as pool:
        return list(pool.map(lambda target: _try(target[0], target[1], timeout_s), targets))


def _try(address: str, port: int, timeout_s: float) -> Tried:
    source = _source(address)
    try:
        socket.create_connection((address, port), timeout=timeout_s).close()
    except ConnectionRefusedError:
        return Tried(address, port, REFUSES, source)
    except OSError:
        return Tried(address, port, SILENT, source)
    return Tried(address, port, ANSWERS, source)


def _source(address: str) -> str | None:
    """The address that the kernel would speak from; a datagram socket is bound to it without sending anything."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return None
        return str(probe.getsockname()[0])
