# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranks onto devices: which host, which of its devices and which port each replica gets.

What runs stays where it is. The rest is placed on hosts in natural order, filling one before the next. A replica stays
inside one host; several hosts a replica would take a second host from ``Space`` where one is not enough.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ._capacity import Fit
from ._devices import Device
from ._fleet import Fleet

LAST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one replica runs. ``devices`` stand in rank order."""

    host: str
    devices: tuple[Device, ...]
    port: int
    fit: Fit


class Space:
    """The devices, ports and RAM that are still free. It only ever shrinks."""

    def __init__(self, fleet: Fleet, first_port: int, taken_ports: dict[str, set[int]]) -> None:
        self._first_port = first_port
        self._ports = {host: set(ports) for host, ports in taken_ports.items()}
        self._memory = {host.name: host.memory_bytes for host in fleet.hosts.values() if host.planned}
        self._free: dict[str, dict[str, list[Device]]] = {key: {} for key in fleet.kinds}
        for host in fleet.planned("gpu_nodes"):
            for device in host.devices:
                self._free[device.key].setdefault(host.name, []).append(device)
        self._order = {key: list(hosts) for key, hosts in self._free.items()}

    def slots(self, fit: Fit, enough: int) -> int:
        """Replicas that the free devices take, counted up to ``enough``."""
        world, found = fit.layout.world, 0
        for host, devices in self._free[fit.kind.key].items():
            by_memory = self._by_memory(host, fit)
            found += min(len(devices) // world, by_memory) if by_memory is not None else len(devices) // world
            if found >= enough:
                return enough
        return found

    def _by_memory(self, host: str, fit: Fit) -> int | None:
        """Replicas that the RAM of a CPU host takes; None where it does not matter or nobody looked."""
        needed, there = fit.memory.host_bytes, self._memory.get(host)
        return there // needed if needed and there is not None else None

    def has_room(self, host: str, fit: Fit) -> bool:
        devices = self._free[fit.kind.key].get(host, ())
        enough = len(devices) >= fit.layout.world and self._by_memory(host, fit) != 0
        return enough and self._port(host) is not None

    def search(self, fit: Fit) -> Iterator[str]:
        """Hosts with room for one more, each for as long as it has room.

        Room only shrinks, so that a host once passed by need not be looked at again.
        """
        for host in self._order[fit.kind.key]:
            while self.has_room(host, fit):
                yield host

    def free_ids(self, host: str, key: str) -> dict[str, Device]:
        """The free devices of a host by id, and by index too, as plans made before the driver told call them."""
        devices = self._free.get(key, {}).get(host, [])
        return {str(device.index): device for device in devices} | {device.id: device for device in devices}

    def take(self, host: str, fit: Fit, devices: Sequence[Device] | None = None, port: int | None = None) -> Seat:
        """Seat a replica on a host that has room.

        It gets the given devices, or the first free ones, and the given port if that is free, else the lowest that is.
        """
        free = self._free[fit.kind.key][host]
        taken = tuple(devices if devices is not None else free[: fit.layout.world])
        listens = self._port(host, port)
        if listens is None:
            raise ValueError(f"{host} has no room")
        self._free[fit.kind.key][host] = [device for device in free if device not in taken]
        memory = self._memory[host]
        if memory is not None:
            self._memory[host] = memory - fit.memory.host_bytes
        self._ports.setdefault(host, set()).add(listens)
        return Seat(host, taken, listens, fit)

    def _port(self, host: str, wished: int | None = None) -> int | None:
        """The wished port if it is free and in the engines' block, else the lowest that is; None where none is."""
        block, taken = range(self._first_port, LAST_PORT + 1), self._ports.get(host, set())
        if wished is not None and wished in block and wished not in taken:
            return wished
        return next((port for port in block if port not in taken), None)


def keep(space: Space, fits: Iterable[Fit], host: str, device_ids: Sequence[str], port: int) -> Seat | None:
    """Leave a replica where it runs, if one of ``fits`` is what it runs as and all its devices are there and free."""
    for fit in fits:
        there = space.free_ids(host, fit.kind.key)
        devices = [there[name] for name in device_ids if name in there]
        if len(set(devices)) == len(device_ids) == fit.layout.world and space.has_room(host, fit):
            return space.take(host, fit, devices, port)
    return None
