# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say who a process is, and which process listens on which port, from /proc alone.

``root`` stands for ``/``. Without root's rights the processes of others cannot be told: they are None.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.gpufleet.serving.plugins.module_utils._sysfs import read_text

LISTENING = "0A"
"""State TCP_LISTEN in /proc/net/tcp (include/net/tcp_states.h)."""

_SOCKET = re.compile(r"socket:\[(\d+)\]")
_UNIT = re.compile(r"([^/]+\.(?:service|scope))(?:/|$)")


@dataclass(frozen=True)
class Process:
    """A process: its program's name, the systemd unit that it belongs to, and the user's number."""

    pid: int
    name: str | None
    unit: str | None
    uid: int | None


@dataclass(frozen=True)
class Listener:
    """A TCP port that somebody listens on, and who does; ``process`` is None where that is hidden."""

    port: int
    process: Process | None


def describe(root: Path, pid: int) -> Process:
    """Return what /proc tells of a process; of one that is gone, its number alone."""
    folder = root / "proc" / str(pid)
    status = dict(line.split(":", 1) for line in (read_text(folder / "status") or "").splitlines() if ":" in line)
    uids = status.get("Uid", "").split()
    return Process(
        pid=pid,
        name=read_text(folder / "comm") or None,
        unit=_unit(read_text(folder / "cgroup") or ""),
        uid=int(uids[0]) if uids else None,
    )


def listeners(root: Path) -> tuple[Listener, ...]:
    """Return the listening TCP ports of the host, each once."""
    inodes = dict(_listening(root))
    holders = _holders(root, set(inodes))
    found: dict[int, Listener] = {}
    for inode, port in sorted(inodes.items(), key=lambda item: item[1]):
        pid = holders.get(inode)
        if port not in found or found[port].process is None:
            found[port] = Listener(port, describe(root, pid) if pid is not None else None)
    return tuple(found.values())


def _unit(cgroups: str) -> str | None:
    """The innermost unit of a path in /proc/<pid>/cgroup: of the unified hierarchy, or systemd's own of version 1."""
    for line in cgroups.splitlines():
        _number, controllers, path = line.split(":", 2)
        if controllers in ("", "name=systemd"):
            units = _UNIT.findall(path)
            if units:
                return units[-1]
    return None


def _listening(root: Path) -> Iterable[tuple[str, int]]:
    for family in ("tcp", "tcp6"):
        for line in (read_text(root / "proc/net" / family) or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == LISTENING:
                yield fields[9], int(fields[1].rpartition(":")[2], 16)


def _holders(root: Path, wanted: set[str]) -> dict[str, int]:
    """The first process that has each socket open, by the socket's inode."""
    holders: dict[str, int] = {}
    for folder in sorted((root / "proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        for inode in _sockets(folder / "fd"):
            if inode in wanted:
                holders.setdefault(inode, int(folder.name))
    return holders


def _sockets(folder: Path) -> Iterable[str]:
    try:
        names = list(folder.iterdir())
    except OSError:
        return
    for name in names:
        try:
            match = _SOCKET.fullmatch(str(name.readlink()))
        except OSError:
            continue
        if match:
            yield match[1]
