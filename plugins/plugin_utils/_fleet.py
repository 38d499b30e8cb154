# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines: each host of the inventory, where it is reached, its state, and the devices that it offers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ._devices import Device, Kind, common, offered
from ._fabric import Network, networks
from ._findings import Findings
from ._reading import Reader, is_whole, shown
from ._settings import Settings
from ._text import listing, natural_key

GROUPS = ("gpu_nodes", "gateways", "k3s_servers", "k3s_agents")
HOST_WORDS = frozenset(
    {
        "groups",
        "address",
        "reachable",
        "facts",
        "fleet_gpus",
        "fleet_cpu_devices",
        "fleet_cpu_kv_gib",
        "fleet_rack",
        "fleet_fabric_interface",
        "fleet_rdma_devices",
        "fleet_driver_route",
        "fleet_driver_version",
        "fleet_container_toolkit",
        "fleet_open_ports",
        "gpu_host_manage",
        "perimeter_manage",
        "preflight",
    }
)
RDMA_DEVICE = re.compile(r"[A-Za-z0-9_.-]+(?::[0-9]+)?")
"""A device of /sys/class/infiniband, with a port of it or without."""
PLANNED, UNREACHABLE, LOST, REFUSED = "planned", "unreachable", "lost", "refused"
NO_ANSWER = "host_unreachable"
"""The code of what a plan has to say about a host that does not answer."""


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of the inventory.

    answers: whether it answered when it was asked, None where nobody asked. memory_bytes: of a CPU host, what its
    processes may use (the smaller of RAM and cgroup limit), None where nobody looked. free_disk: path -> bytes.
    networks: those that it may share with others, None where nobody looked. fabric_interface: the one of them that the
    inventory names. rdma_devices: those that NCCL shall use, none where that is its own choice. default_address: the
    one that it speaks from beyond its networks. perimeter: whether the collection keeps its firewall. open_ports: ports
    of others there, which the firewall leaves alone. state: planned, unreachable, lost or refused; what is planned goes
    on planned hosts only.
    """

    name: str
    groups: frozenset[str]
    address: str
    failure_domain: str
    state: str = PLANNED
    answers: bool | None = None
    devices: tuple[Device, ...] = ()
    memory_bytes: int | None = None
    free_disk: dict[str, int] = field(default_factory=dict)
    networks: tuple[Network, ...] | None = None
    fabric_interface: str | None = None
    rdma_devices: tuple[str, ...] = ()
    default_address: str | None = None
    perimeter: bool = True
    open_ports: tuple[int, ...] = ()

    @property
    def planned(self) -> bool:
        return self.state == PLANNED


@dataclass(frozen=True, slots=True)
class Fleet:
    """All hosts, in natural order, and the kinds of their devices by key."""

    hosts: dict[str, Host]
    kinds: dict[str, Kind]

    def planned(self, group: str) -> list[Host]:
        return [host for host in self.hosts.values() if host.planned and group in host.groups]

    def accelerator(self, host: Host) -> str | None:
        return self.kinds[host.devices[0].key].accelerator if host.devices else None


def read_fleet(value: Any, settings: Settings, findings: Findings) -> Fleet:
    """All hosts, and a refusal for each that cannot be planned. ``value``: the plain ``hosts`` of the filter."""
    if not isinstance(value, dict):
        findings.refuse("bad_value", "hosts", "is no mapping of hosts", "give every host of the fleet's groups")
        value = {}
    kinds: dict[str, Kind] = {}
    hosts = {name: _read_host(name, value[name], settings, kinds, findings) for name in sorted(value, key=natural_key)}
    if not any("gpu_nodes" in host.groups for host in hosts.values()):
        findings.refuse("no_hosts", "gpu_nodes", "has no hosts", "put the servers into the inventory's group gpu_nodes")
    _check_told_apart(hosts.values(), findings)
    return Fleet(hosts, kinds)


def _read_host(name: str, value: Any, settings: Settings, kinds: dict[str, Kind], findings: Findings) -> Host:
    reader = Reader(value, name or "a host without a name", findings, HOST_WORDS)
    facts = reader.get("facts") if isinstance(reader.get("facts"), dict) else None
    answer = Reader(facts or {}, name, findings)
    machine = Reader(answer.mapping("host"), name, findings)
    host = Host(
        name=name,
        groups=frozenset(reader.texts("groups")) & frozenset(GROUPS),
        address=_address(reader, machine, facts is not None, findings),
        failure_domain=reader.text("fleet_rack") or name,
        state=_state(name, reader, settings),
        answers=reader.get("reachable") if isinstance(reader.get("reachable"), bool) else None,
        memory_bytes=_memory(machine),
        free_disk=_free_disk(machine),
        networks=networks(machine, reader.text("fleet_fabric_interface")) if facts is not None else None,
        fabric_interface=reader.text("fleet_fabric_interface"),
        rdma_devices=_rdma_devices(reader),
        default_address=machine.text("default_address"),
        perimeter=reader.flag("perimeter_manage", default=True),
        open_ports=_open_ports(reader),
    )
    if not host.planned or "gpu_nodes" not in host.groups:
        return host
    offer = offered(reader, answer if facts is not None else None, findings)
    if offer is None:
        return replace(host, state=REFUSED)
    for kind in offer[0]:
        kinds[kind.key] = common(kinds.get(kind.key), kind)
    return replace(host, devices=tuple(offer[1]))


def _state(name: str, reader: Reader, settings: Settings) -> str:
    if name in settings.lost_hosts:
        return LOST
    return UNREACHABLE if reader.get("reachable") is False else PLANNED


def _rdma_devices(reader: Reader) -> tuple[str, ...]:
    named = reader.texts("fleet_rdma_devices")
    for name in named:
        if not RDMA_DEVICE.fullmatch(name):
            reader.wrong(
                "fleet_rdma_devices", name, "", "name devices as ibdev2netdev does, such as mlx5_0 or mlx5_0:1"
            )
    return tuple(name for name in named if RDMA_DEVICE.fullmatch(name))


def _memory(machine: Reader) -> int | None:
    limits = [machine.integer("memory_total_bytes"), machine.integer("cgroup_memory_limit_bytes")]
    return min((limit for limit in limits if limit is not None), default=None)


def _free_disk(machine: Reader) -> dict[str, int]:
    disks = machine.mapping("disks")
    free = {
        path: Reader(disk, path, machine.findings).integer("free_bytes", least=0)
        for path, disk in disks.items()
        if disk
    }
    return {path: amount for path, amount in free.items() if amount is not None}


def _address(reader: Reader, machine: Reader, asked: bool, findings: Findings) -> str:
    """Where the fleet reaches the host's engines: its fabric, its stated address, its own default, or its name."""
    fabric = reader.text("fleet_fabric_interface")
    if fabric and asked:
        return _interface_address(fabric, reader, machine, findings)
    address = reader.text("address") or machine.text("default_address")
    if asked and not _binds(address):
        findings.refuse(
            "no_address",
            reader.path,
            f"has no address that an engine can bind: {shown(address)}",
            "give it fleet_address, an IP address that the gateways reach",
        )
    return address or reader.path


def _binds(address: str | None) -> bool:
    """Whether an engine can listen at this address, and only there."""
    try:
        return not ipaddress.ip_address(address or "").is_unspecified
    except ValueError:
        return False


def _interface_address(fabric: str, reader: Reader, machine: Reader, findings: Findings) -> str:
    interfaces = {
        interface["name"]: interface
        for interface in machine.items("interfaces")
        if isinstance(interface, dict) and isinstance(interface.get("name"), str)
    }
    usable = _usable_addresses(interfaces.get(fabric, {}).get("addresses"))
    if usable:
        return usable[0]
    others = [name for name, interface in interfaces.items() if _usable_addresses(interface.get("addresses"))]
    findings.refuse(
        "no_fabric_address",
        reader.at("fleet_fabric_interface"),
        f"is {fabric}, which " + ("has no address" if fabric in interfaces else "the host does not have"),
        f"name one that has an address: {listing(others) or 'the host has none'}",
        "or leave fleet_fabric_interface out",
    )
    return reader.path


def _open_ports(reader: Reader) -> tuple[int, ...]:
    """fleet_open_ports, sorted; what is no port is refused."""
    ports = set()
    for position, port in enumerate(reader.items("fleet_open_ports")):
        if is_whole(port) and 0 < port <= 65535:
            ports.add(port)
        else:
            reader.wrong(f"fleet_open_ports[{position}]", port, "the number of a TCP port, from 1 to 65535")
    return tuple(sorted(ports))


def _usable_addresses(stated: Any) -> list[str]:
    """The addresses that another host can reach, those of IPv4 first."""
    found = []
    for item in stated if isinstance(stated, list) else []:
        try:
            address = ipaddress.ip_address(item["address"])
        except (ValueError, TypeError, KeyError):
            continue
        if not (address.is_link_local or address.is_loopback):
            found.append(address)
    return [str(address) for address in sorted(found, key=lambda address: address.version)]


def _check_told_apart(hosts: Iterable[Host], findings: Findings) -> None:
    """Two names for one machine would use its devices twice."""
    by_address: dict[str, list[str]] = {}
    by_uuid: dict[str, list[str]] = {}
    for host in hosts:
        if host.state == LOST:
            continue
        by_address.setdefault(host.address, []).append(host.name)
        for device in host.devices:
            if device.id.startswith(("GPU-", "MIG-")):
                by_uuid.setdefault(device.id, []).append(host.name)
    for address, names in by_address.items():
        if len(names) > 1:
            findings.refuse(
                "same_host_twice",
                listing(names),
                f"have the same address {address}",
                "keep one name for each machine, or give each its fleet_address",
            )
    for uuid, names in by_uuid.items():
        if len(names) > 1:
            findings.refuse(
                "same_host_twice", listing(names), f"both tell GPU {uuid}", "keep one name for each machine"
            )
