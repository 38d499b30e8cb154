# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The network that the hosts of one replica speak over: one subnet, and on each host one interface and one address.

A name resolves to 127.0.1.1 on half of all machines, and every machine with containers has a bridge of the same subnet
that leads nowhere. So neither a host's name nor its first interface is asked: the hosts must share a subnet, each with
an address of its own.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ._reading import Reader
from ._text import listing, natural_key

INTERFACE_NAME = re.compile(r"[A-Za-z0-9_.:@-]{1,15}")
"""What the kernel allows (15 characters) and an environment variable needs no quotes for."""
INSIDE_ONE_HOST = re.compile(r"(?:br-|cali|cilium|cni|docker|dummy|flannel|kube-|lo|lxc|lxd|podman|veth|virbr|vnet)")
"""How interfaces begin that containers and virtual machines of one host speak over."""


@dataclass(frozen=True, slots=True)
class Network:
    """One address of a host, with its interface and subnet."""

    interface: str
    address: str
    subnet: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a host is reached by the others of its group; interface: None where nobody looked or said."""

    address: str
    interface: str | None = None


@dataclass(frozen=True, slots=True)
class Fabric:
    """What the hosts of a group have in common. subnet: None where nobody looked. places: by host."""

    subnet: str | None
    places: Mapping[str, Place]


@dataclass(frozen=True, slots=True)
class Reach:
    """How others reach a host: the address of its engines, and its networks, None where it was not asked.

    interface: the one that the inventory names, if any.
    """

    address: str
    networks: tuple[Network, ...] | None
    interface: str | None = None


def networks(machine: Reader, fabric_interface: str | None) -> tuple[Network, ...]:
    """The networks that a host may share with others: of the named interface, else of all that leave the host."""
    found = []
    for path, item in machine.each("interfaces"):
        told = Reader(item, path, machine.findings)
        name = told.text("name")
        if name is None or not INTERFACE_NAME.fullmatch(name):
            continue
        leaves = told.get("state") != "down" and not INSIDE_ONE_HOST.match(name)
        if name == fabric_interface or (fabric_interface is None and leaves):
            addresses = told.get("addresses")
            found += [network for each in _addresses(addresses) if (network := _network(name, each))]
    return tuple(found)


def _addresses(stated: Any) -> list[Any]:
    return stated if isinstance(stated, list) else []


def _network(interface: str, stated: Any) -> Network | None:
    try:
        found = ipaddress.ip_interface(f"{stated['address']}/{stated['prefix']}")
    except (ValueError, TypeError, KeyError):
        return None
    if found.is_loopback or found.is_link_local:
        return None
    return Network(interface, str(found.ip), str(found.network))


class Fabrics:
    """Which hosts of a fleet share which subnets."""

    def __init__(self, reaches: Mapping[str, Reach]) -> None:
        self._reaches = reaches
        members: dict[str | None, list[str]] = {}
        for name in reaches:
            for subnet in self._subnets(name):
                members.setdefault(subnet, []).append(name)
        self._members = {subnet: names for subnet, names in members.items() if self._is_shared(subnet, names)}

    def each(self) -> Iterable[Sequence[str]]:
        """The hosts of each shared subnet, the subnet first that most of them have their engines' address in."""
        order = sorted(self._members, key=lambda subnet: (-self._primaries(subnet), natural_key(subnet or "")))
        return [self._members[subnet] for subnet in order]

    def common(self, hosts: Sequence[str]) -> Fabric | None:
        """What these hosts have in common, that of their engines' addresses first; None where it is nothing."""
        subnets = self.shared_by(hosts)
        if not subnets:
            return None
        best = min(subnets, key=lambda subnet: (-self._primaries(subnet, hosts), natural_key(subnet or "")))
        return Fabric(best, {host: self._place(host, best) for host in hosts})

    def shared_by(self, hosts: Iterable[str]) -> list[str | None]:
        """The subnets that all of these hosts are in."""
        wanted = set(hosts)
        return [subnet for subnet, names in self._members.items() if wanted <= set(names)]

    def described(self, host: str) -> str:
        """A host's networks, for a sentence."""
        found = self._reaches[host].networks
        if found is None:
            return "networks that nobody looked at"
        return listing(f"{each.address} on {each.interface} ({each.subnet})" for each in found) or "no network"

    def _subnets(self, host: str) -> list[str | None]:
        found = self._reaches[host].networks
        return [None] if found is None else list(dict.fromkeys(network.subnet for network in found))

    def _is_shared(self, subnet: str | None, hosts: Sequence[str]) -> bool:
        """A subnet in which two hosts have the same address is one of each host's own."""
        counts = Counter(self._place(host, subnet).address for host in hosts)
        return max(counts.values()) == 1

    def _place(self, host: str, subnet: str | None) -> Place:
        reach = self._reaches[host]
        if subnet is None:
            return Place(reach.address, reach.interface)
        within = [network for network in reach.networks or () if network.subnet == subnet]
        best = next((network for network in within if network.address == reach.address), within[0])
        return Place(best.address, best.interface)

    def _primaries(self, subnet: str | None, hosts: Iterable[str] | None = None) -> int:
        """Hosts whose engines' address is in this subnet."""
        among = self._members[subnet] if hosts is None else hosts
        return sum(self._place(host, subnet).address == self._reaches[host].address for host in among)
