# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machines: what each host of the inventory offers, as devices of a few kinds.

A host's devices come from what it answered (``gpu_info``), from what the inventory states (``fleet_gpus``), or, on CPU
hosts, from ``fleet_cpu_devices`` and ``fleet_cpu_kv_gib``. Where a host and its inventory disagree, it is refused.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from ..module_utils import _gpu_catalogue
from ._findings import Findings
from ._reading import Reader, shown
from ._text import GIB, listing, natural_key
from ._wishes import Settings

CUDA, CPU = "cuda", "cpu"

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
    }
)
PLANNED, UNREACHABLE, LOST, REFUSED = "planned", "unreachable", "lost", "refused"

MOST_DEVICES = 1024
"""Devices of one host that are believed; the largest machines sold have a few dozen."""

GPU_REMEDIES = {
    "gpu_lost": "reset or replace the GPU, or reboot the host: it fell off the bus",
    "driver_mismatch": "reboot the host: the loaded driver and its libraries are of different versions",
    "hung": "look for Xid lines in the host's kernel log, then reboot it: its driver does not answer",
    "unreadable": "run nvidia-smi on the host and read what it prints",
    "no_driver": "install the NVIDIA driver, or state the GPUs with fleet_gpus",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """Devices that are alike, so that the ranks of one replica may share them.

    memory_bytes: on a GPU, what a CUDA program sees of it (below the driver's total, which is below the figure on the
    box); on a CPU host, the KV space that the inventory grants each rank. sliced: a MIG slice, which can be no part of
    a larger replica, since slices have no path to each other.
    """

    key: str
    accelerator: str
    memory_bytes: int
    compute_capability: tuple[int, ...] = ()
    sliced: bool = False


@dataclass(frozen=True, slots=True)
class Device:
    """One device as the engine names it. id: a GPU's or slice's UUID, an index in text, or ``cpu:<number>``."""

    id: str
    index: int
    key: str


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of the inventory.

    answers: whether it answered when it was asked, None where nobody asked.
    memory_bytes: of a CPU host, what its processes may use (the smaller of RAM and cgroup limit), None where nobody
    looked. free_disk: path -> bytes. state: planned, unreachable, lost or refused; what is planned goes on planned
    hosts only.
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
    )
    if not host.planned or "gpu_nodes" not in host.groups:
        return host
    found, devices = _devices(reader, answer if facts is not None else None, findings)
    if devices is None:
        return replace(host, state=REFUSED)
    for kind in found:
        kinds[kind.key] = _common(kinds.get(kind.key), kind)
    return replace(host, devices=tuple(devices))


def _common(known: Kind | None, kind: Kind) -> Kind:
    """One kind for the devices of one key: with the memory of the smallest, so that a replica fits on any of them."""
    return kind if known is None or kind.memory_bytes < known.memory_bytes else known


def _state(name: str, reader: Reader, settings: Settings) -> str:
    if name in settings.lost_hosts:
        return LOST
    return UNREACHABLE if reader.get("reachable") is False else PLANNED


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


Offer = tuple[list[Kind], list[Device] | None]
"""The kinds of a host's devices, and the devices; None in their place where they cannot be told."""
NOTHING_TOLD: Offer = ([], None)


def _devices(reader: Reader, answer: Reader | None, findings: Findings) -> Offer:
    """What a host of gpu_nodes offers."""
    stated = _stated_gpus(reader, findings)
    seen = _seen_gpus(reader.path, answer, findings) if answer else []
    if stated is None or seen is None:
        return NOTHING_TOLD
    gpus = _reconciled(reader.path, stated, seen, answer, findings)
    if gpus is None:
        return NOTHING_TOLD
    return _gpu_devices(reader.path, gpus, findings) if gpus else _cpu_devices(reader, findings)


@dataclass(frozen=True, slots=True)
class _Gpu:
    """One board. memory_bytes: as the host's driver tells, None on a host without one."""

    index: int
    uuid: str | None
    key: str | None
    candidates: tuple[str, ...]
    name: str | None
    memory_bytes: int | None
    slices: tuple[dict[str, Any], ...]
    sliced: bool

    @property
    def shown(self) -> str:
        return self.key or " or ".join(self.candidates) or self.name or f"GPU {self.index}"


def _stated_gpus(reader: Reader, findings: Findings) -> list[str] | None:
    """The catalogue keys of fleet_gpus, one a GPU; None where one is no key."""
    keys: list[str] = []
    known = True
    for path, item in reader.each("fleet_gpus"):
        entry = Reader(item, path, findings, ("model", "count"))
        key, count = entry.text("model"), entry.integer("count", 1, most=MOST_DEVICES)
        if key is None or _gpu_catalogue.by_key(key) is None:
            guess = _gpu_catalogue.nearest_key(key) if key else None
            findings.refuse(
                "unknown_gpu_key",
                entry.at("model"),
                f"is {shown(key)}, which the catalogue does not hold" if key else "is not given",
                f"did you mean {guess}?" if guess else f"use one of {listing(sorted(CATALOGUE), len(CATALOGUE))}",
            )
            known = False
        else:
            keys += [key] * (count or 1)
    return keys[:MOST_DEVICES] if known else None


CATALOGUE = {model.key: model for model in _gpu_catalogue.CATALOGUE}


def _seen_gpus(name: str, answer: Reader, findings: Findings) -> list[_Gpu] | None:
    """The boards that the host answered; None where its driver is in no state to be planned with."""
    state = answer.text("state", "ok")
    gpus = [_seen_gpu(Reader(item, path, findings)) for path, item in answer.each("gpus")]
    lost = [
        gpu
        for gpu, (_path, item) in zip(gpus, answer.each("gpus"), strict=True)
        if isinstance(item, dict) and item.get("lost")
    ]
    if lost:
        state = "gpu_lost"
    if state in ("ok", "no_gpu") or (state == "no_driver" and gpus):
        return gpus
    if state == "no_driver":
        return []
    reason = answer.text("state_reason", pattern=r"(?s).+")
    findings.refuse(
        "gpu_state",
        name,
        f"its GPUs cannot be used: {state}" + (f", {reason}" if reason else ""),
        GPU_REMEDIES.get(state or "", "repair the GPU driver of the host"),
        f"or take {name} out of gpu_nodes",
    )
    return None


def _seen_gpu(reader: Reader) -> _Gpu:
    usable = reader.number("usable_gib", most=MOST_DEVICES)
    return _Gpu(
        index=reader.integer("index", 0, least=0, most=MOST_DEVICES) or 0,
        uuid=reader.text("uuid"),
        key=reader.text("key"),
        candidates=tuple(key for key in reader.texts("candidates") if key in CATALOGUE),
        name=reader.text("name"),
        memory_bytes=int(usable * GIB) if usable and reader.get("source") != "pci" else None,
        slices=tuple(item for item in reader.items("mig_devices") if isinstance(item, dict)),
        sliced=str(reader.get("mig_mode")).lower() in ("enabled", "true"),
    )


def _reconciled(
    name: str, stated: list[str], seen: list[_Gpu], answer: Reader | None, findings: Findings
) -> list[_Gpu] | None:
    """The GPUs of a host, from what the inventory states and what the host answers; None where the two disagree."""
    if stated and seen:
        return _agreed(name, stated, seen, findings)
    if stated and answer and answer.get("state") in ("no_gpu", "ok"):
        _refuse_disagreement(name, stated, seen, findings)
        return None
    return seen or [_Gpu(index, None, key, (), None, None, (), False) for index, key in enumerate(stated)]


def _agreed(name: str, stated: list[str], seen: list[_Gpu], findings: Findings) -> list[_Gpu] | None:
    """The boards with the keys that inventory and host agree upon; the inventory decides between candidates."""
    left = Counter(stated)
    left.subtract(gpu.key for gpu in seen if gpu.key)
    agreed = []
    for gpu in seen:
        key = gpu.key or next((candidate for candidate in gpu.candidates if left[candidate] > 0), None)
        if key and not gpu.key:
            left[key] -= 1
        agreed.append(replace(gpu, key=key))
    if any(left.values()) or any(gpu.key is None for gpu in agreed):
        _refuse_disagreement(name, stated, seen, findings)
        return None
    return agreed


def _refuse_disagreement(name: str, stated: list[str], seen: list[_Gpu], findings: Findings) -> None:
    findings.refuse(
        "gpus_disagree",
        name,
        f"fleet_gpus says {_census(stated)}, and the host has {_census(gpu.shown for gpu in seen)}",
        "correct fleet_gpus, or leave it out: the host tells its GPUs itself",
    )


def _census(keys: Iterable[str]) -> str:
    counts = Counter(keys)
    return ", ".join(f"{count} x {key}" for key, count in sorted(counts.items())) or "no GPU"


def _gpu_devices(name: str, gpus: list[_Gpu], findings: Findings) -> Offer:
    kinds: dict[str, Kind] = {}
    devices: list[Device] = []
    for gpu in sorted(gpus, key=lambda gpu: gpu.index):
        kind = _gpu_kind(name, gpu, findings)
        if kind is None:
            return NOTHING_TOLD
        if gpu.sliced:
            _add_slices(name, gpu, kind, kinds, devices, findings)
        else:
            kinds[kind.key] = _common(kinds.get(kind.key), kind)
            devices.append(Device(gpu.uuid or str(gpu.index), gpu.index, kind.key))
    ids = Counter(device.id for device in devices)
    twice = sorted(device for device, count in ids.items() if count > 1)
    if twice:
        findings.refuse("gpu_state", name, f"tells {listing(twice)} twice", "run nvidia-smi -L on the host")
        return NOTHING_TOLD
    return list(kinds.values()), devices


def _gpu_kind(name: str, gpu: _Gpu, findings: Findings) -> Kind | None:
    """What a board is worth to the planner; None where nobody can say."""
    key = gpu.key or (gpu.candidates[0] if len(gpu.candidates) == 1 else None)
    model = CATALOGUE.get(key or "")
    if model and not model.runs_engine:
        findings.refuse(
            "gpu_too_old",
            name,
            f"has {model.key} of compute capability {model.compute_capability}, for which the engine holds no code",
            f"use GPUs of compute capability {'.'.join(map(str, _gpu_catalogue.MINIMUM_COMPUTE_CAPABILITY))} or newer",
            f"or take {name} out of gpu_nodes",
        )
        return None
    if model:
        capability = tuple(int(part) for part in model.compute_capability.split("."))
        return Kind(model.key, CUDA, gpu.memory_bytes or int(model.usable_gib * GIB), capability)
    if gpu.memory_bytes:
        findings.warn(
            "unknown_gpu",
            name,
            f"has {gpu.shown}, which the catalogue does not hold: it is planned by the memory that its driver tells",
            "watch the first start of its engines",
        )
        return Kind(gpu.shown, CUDA, gpu.memory_bytes)
    findings.refuse(
        "unknown_gpu",
        name,
        f"has a GPU that is {gpu.shown} by its PCI id, and no driver that tells more",
        "state it with fleet_gpus, or install the NVIDIA driver",
    )
    return None


def _add_slices(
    name: str, gpu: _Gpu, whole: Kind, kinds: dict[str, Kind], devices: list[Device], findings: Findings
) -> None:
    """MIG slices are devices of their own, each of a kind named after its board and profile."""
    if not gpu.slices:
        findings.warn(
            "mig_without_slices",
            name,
            f"GPU {gpu.index} is in MIG mode and has no slices: nothing is placed on it",
            f"make slices, or switch MIG off (nvidia-smi -i {gpu.index} -mig 0)",
        )
    for item in gpu.slices:
        reader = Reader(item, name, findings)
        uuid, memory_mib = reader.text("uuid"), reader.integer("memory_mib")
        if uuid and memory_mib:
            key = f"{whole.key}/{reader.text('profile') or f'{memory_mib}MiB'}"
            kind = Kind(key, CUDA, memory_mib * 2**20, whole.compute_capability, sliced=True)
            kinds[key] = _common(kinds.get(key), kind)
            devices.append(Device(uuid, gpu.index, key))


def _cpu_devices(reader: Reader, findings: Findings) -> Offer:
    count = reader.integer("fleet_cpu_devices", 1, most=MOST_DEVICES) or 1
    granted = reader.number("fleet_cpu_kv_gib", most=2**20)
    if granted is None:
        if reader.get("fleet_cpu_kv_gib") is None:
            findings.refuse(
                "no_devices",
                reader.path,
                "is in gpu_nodes and has neither GPUs nor fleet_cpu_kv_gib",
                "let the host be asked, or state its GPUs: fleet_gpus: [{model: H100-SXM-80GB, count: 8}]",
                "for a CPU host give fleet_cpu_kv_gib: the KV cache of each rank in GiB",
                "or take it out of gpu_nodes",
            )
        return NOTHING_TOLD
    if granted != int(granted):
        reader.wrong(
            "fleet_cpu_kv_gib", granted, "a whole number of GiB", "give whole GiB: the engine takes no fractions"
        )
        return NOTHING_TOLD
    kind = Kind(f"cpu-{int(granted)}gib", CPU, int(granted) * GIB)
    return [kind], [Device(f"cpu:{index}", index, kind.key) for index in range(count)]


def _check_told_apart(hosts: Iterable[Host], findings: Findings) -> None:
    """Two names for one machine would use its devices twice."""
    by_address: dict[str, list[str]] = {}
    by_uuid: dict[str, list[str]] = {}
    for host in hosts:
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
