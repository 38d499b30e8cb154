# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ranks onto devices: which hosts, which of their devices and which ports each replica gets.

What runs stays where it is. The rest is placed on hosts in natural order, filling one before the next. A replica that
one host cannot hold gets several that share a network, those with the most room first, so that as many replicas as
possible find their hosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ._capacity import Fit
from ._devices import Device
from ._fabric import Fabric, Fabrics, Reach
from ._fleet import Fleet

LAST_PORT = 65535
GROUP_PORTS = 16
"""Ports of a replica over several hosts at its head: one where the hosts meet before each start, and above it those at
which the engines of successive starts meet (the guard's EPOCH_PORTS)."""

Hosts = tuple[str, ...]
"""The hosts of one replica in the order of its ranks, the head first."""


@dataclass(frozen=True, slots=True)
class Ports:
    """What a replica listens on at its head: for requests, and for its other hosts where it has some, ``GROUP_PORTS``
    from ``master`` on."""

    http: int
    master: int | None = None

    @property
    def at_head(self) -> set[int]:
        """All of them."""
        return {self.http, *_block(self.master)}


@dataclass(frozen=True, slots=True)
class Seat:
    """Where one replica runs. ``devices``: host -> those that it gets there, hosts and devices in rank order.

    fabric: what its hosts speak over, None where it has but one.
    """

    devices: Mapping[str, tuple[Device, ...]]
    ports: Ports
    fit: Fit
    fabric: Fabric | None = None

    @property
    def hosts(self) -> Hosts:
        return tuple(self.devices)

    @property
    def head(self) -> str:
        return self.hosts[0]


class Space:
    """The devices, ports and RAM that are still free, which only ever shrink, and the networks between hosts."""

    def __init__(self, fleet: Fleet, first_ports: Ports, taken_ports: Mapping[str, set[int]]) -> None:
        self._first_ports = first_ports
        self._ports = {host: set(ports) for host, ports in taken_ports.items()}
        self._memory = {host.name: host.memory_bytes for host in fleet.hosts.values() if host.planned}
        self._free: dict[str, dict[str, list[Device]]] = {key: {} for key in fleet.kinds}
        for host in fleet.planned("gpu_nodes"):
            for device in host.devices:
                self._free[device.key].setdefault(host.name, []).append(device)
        self._order = {key: list(hosts) for key, hosts in self._free.items()}
        self.fabrics = Fabrics(
            {
                host.name: Reach(host.address, host.networks, host.fabric_interface)
                for host in fleet.planned("gpu_nodes")
                if host.devices
            }
        )

    def slots(self, fit: Fit, enough: int) -> int:
        """Replicas that the free devices take, counted up to ``enough``."""
        if fit.layout.nnodes > 1:
            return max((self._groups(fit, hosts, enough) for hosts in self.fabrics.each()), default=0)
        found = 0
        for host in self._free[fit.kind.key]:
            found += self._shares(host, fit)
            if found >= enough:
                return enough
        return found

    def _groups(self, fit: Fit, hosts: Iterable[str], enough: int) -> int:
        """Groups that find their hosts among these: each takes a share of as many hosts as it has."""
        shares = [self._shares(host, fit) for host in hosts]
        groups = min(enough, sum(shares) // fit.layout.nnodes)
        while sum(min(share, groups) for share in shares) < groups * fit.layout.nnodes:
            groups -= 1
        return groups

    def _shares(self, host: str, fit: Fit) -> int:
        """Replicas, or shares of replicas over several hosts, that a host's free devices and RAM take."""
        by_devices = len(self._free[fit.kind.key].get(host, ())) // fit.layout.local
        needed, there = fit.memory.host_bytes, self._memory.get(host)
        return min(by_devices, there // needed) if needed and there is not None else by_devices

    def has_room(self, hosts: Hosts, fit: Fit) -> bool:
        """Whether these hosts, and no others, can take one more."""
        if len(hosts) != fit.layout.nnodes or not all(self._shares(host, fit) for host in hosts):
            return False
        return self._ports_at(hosts, None) is not None and (len(hosts) == 1 or self.fabrics.common(hosts) is not None)

    def search(self, fit: Fit) -> Iterator[Hosts]:
        """Hosts with room for one more, each for as long as they have room.

        Room only shrinks, so that a host once passed by need not be looked at again.
        """
        if fit.layout.nnodes > 1:
            while (group := self._group(fit)) is not None:
                yield group
            return
        for host in self._order[fit.kind.key]:
            while self.has_room((host,), fit):
                yield (host,)

    def _group(self, fit: Fit) -> Hosts | None:
        """Hosts of one network for one replica, in natural order; None where there are too few."""
        order = {host: place for place, host in enumerate(self._order[fit.kind.key])}
        for hosts in self.fabrics.each():
            roomy = sorted(
                (host for host in hosts if host in order and self._shares(host, fit)),
                key=lambda host: (-self._shares(host, fit), order[host]),
            )
            group = tuple(sorted(roomy[: fit.layout.nnodes], key=order.__getitem__))
            if self.has_room(group, fit):
                return group
        return None

    def apart(self, fit: Fit) -> Hosts:
        """The first hosts that together have the devices for one more, where they lack but a common network."""
        roomy = [host for host in self._order[fit.kind.key] if self._shares(host, fit)]
        return tuple(roomy[: fit.layout.nnodes]) if len(roomy) >= fit.layout.nnodes > 1 else ()

    def free_ids(self, host: str, key: str) -> dict[str, Device]:
        """The free devices of a host by id, and by index too, as plans made before the driver told call them."""
        devices = self._free.get(key, {}).get(host, [])
        return {str(device.index): device for device in devices} | {device.id: device for device in devices}

    def take(
        self,
        hosts: Hosts,
        fit: Fit,
        devices: Mapping[str, Sequence[Device]] | None = None,
        ports: Ports | None = None,
    ) -> Seat:
        """Seat a replica on hosts that have room.

        It gets the given devices, or the first free ones, and the given ports where they are free, else the lowest that
        are.
        """
        listens = self._ports_at(hosts, ports)
        if listens is None:
            raise ValueError(f"{hosts[0]} has no room")
        taken = {host: tuple(devices[host]) if devices else self._first_free(host, fit) for host in hosts}
        for host, those in taken.items():
            free = self._free[fit.kind.key]
            free[host] = [device for device in free[host] if device not in those]
            memory = self._memory[host]
            if memory is not None:
                self._memory[host] = memory - fit.memory.host_bytes
        self._ports.setdefault(hosts[0], set()).update(listens.at_head)
        return Seat(taken, listens, fit, self.fabrics.common(hosts) if len(hosts) > 1 else None)

    def _first_free(self, host: str, fit: Fit) -> tuple[Device, ...]:
        return tuple(self._free[fit.kind.key][host][: fit.layout.local])

    def _ports_at(self, hosts: Hosts, wished: Ports | None) -> Ports | None:
        """The wished ports of a head where they are free, else the lowest that are; None where too few are."""
        http = self._port(hosts[0], self._first_ports.http, wished.http if wished else None)
        if http is None or len(hosts) == 1:
            return None if http is None else Ports(http)
        master = self._master_port(hosts[0], wished.master if wished else None, http)
        return Ports(http, master) if master else None

    def _port(self, host: str, first: int, wished: int | None) -> int | None:
        """The wished port if it is free and in its block, else the lowest that is; None where none is."""
        block, taken = range(first, LAST_PORT + 1), self._ports.get(host, set())
        if wished is not None and wished in block and wished not in taken:
            return wished
        return next((port for port in block if port not in taken), None)

    def _master_port(self, host: str, wished: int | None, http: int) -> int | None:
        """The same for the first of the ports at which a group meets."""
        taken = self._ports.get(host, set()) | {http}
        starts = range(self._first_ports.master or LAST_PORT, LAST_PORT + 2 - GROUP_PORTS, GROUP_PORTS)
        candidates = [wished, *starts] if wished in starts else starts
        return next((port for port in candidates if port and not taken & set(_block(port))), None)


def _block(master: int | None) -> range:
    """The ports of a group from its first on; none without a group."""
    return range(master, master + GROUP_PORTS) if master else range(0)


def keep(space: Space, fits: Iterable[Fit], device_ids: Mapping[str, Sequence[str]], ports: Ports) -> Seat | None:
    """Leave a replica where it runs, if one of ``fits`` is what it runs as and all its devices are there and free."""
    hosts = tuple(device_ids)
    for fit in fits:
        devices = {host: _found(space.free_ids(host, fit.kind.key), device_ids[host]) for host in hosts}
        whole = all(len(set(found)) == len(device_ids[host]) == fit.layout.local for host, found in devices.items())
        if whole and space.has_room(hosts, fit):
            return space.take(hosts, fit, devices, ports)
    return None


def _found(there: Mapping[str, Device], names: Iterable[str]) -> list[Device]:
    return [there[name] for name in names if name in there]
