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

LOOPBACK = re.compile(r"(?:0{16}FFFF0000)?[0-9A-F]{6}7F|0{24}01000000")
"""127.0.0.0/8, also as IPv6 maps it, and ::1, as /proc/net has them: words of 32 bits, each little-endian."""

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
    """A TCP port that somebody listens on, and who does; ``process`` is None where that is hidden.

    loopback: only the host itself can reach it.
    """

    port: int
    process: Process | None
    loopback: bool


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
    sockets = list(_listening(root))
    holders = _holders(root, {socket.inode for socket in sockets})
    reachable = {socket.port for socket in sockets if not socket.loopback}
    found: dict[int, Listener] = {}
    for socket in sorted(sockets, key=lambda socket: (socket.port, socket.loopback)):
        pid = holders.get(socket.inode)
        if socket.port not in found or found[socket.port].process is None:
            process = describe(root, pid) if pid is not None else None
            found[socket.port] = Listener(socket.port, process, socket.port not in reachable)
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


@dataclass(frozen=True)
class _Socket:
    """A listening socket, as a line of /proc/net/tcp or tcp6 has it."""

    inode: str
    port: int
    loopback: bool


def _listening(root: Path) -> Iterable[_Socket]:
    for family in ("tcp", "tcp6"):
        for line in (read_text(root / "proc/net" / family) or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == LISTENING:
                address, _colon, port = fields[1].rpartition(":")
                yield _Socket(fields[9], int(port, 16), LOOPBACK.fullmatch(address) is not None)


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
