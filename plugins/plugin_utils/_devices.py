# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Devices: what one host offers to serve with, as devices of a few kinds.

They come from what the host answered (``gpu_info``), from what the inventory states (``fleet_gpus``), or, on CPU hosts,
from ``fleet_cpu_devices`` and ``fleet_cpu_kv_gib``. Where a host and its inventory disagree, it is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from ..module_utils import _gpu_catalogue
from ._findings import Findings
from ._reading import Reader, shown
from ._text import GIB, listing

CUDA, CPU = "cuda", "cpu"

CATALOGUE = {model.key: model for model in _gpu_catalogue.CATALOGUE}
OLDEST_CAPABILITY = _gpu_catalogue.MINIMUM_COMPUTE_CAPABILITY
MOST_DEVICES = 1024
"""Devices of one host that are believed; the largest machines sold have a few dozen."""

STATE_REMEDIES = {
    "gpu_lost": "reset or replace the GPU, or reboot the host: it fell off the bus",
    "driver_mismatch": "reboot the host: the loaded driver and its libraries are of different versions",
    "hung": "look for Xid lines in the host's kernel log, then reboot it: its driver does not answer",
    "unreadable": "run nvidia-smi on the host and read what it prints",
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


Offer = tuple[list[Kind], list[Device]]
"""The kinds of a host's devices, and the devices."""


def offered(reader: Reader, answer: Reader | None, findings: Findings) -> Offer | None:
    """What a host of gpu_nodes offers; None where that cannot be told, which has then been refused.

    reader: the host as the inventory describes it. answer: what ``gpu_info`` returned, None where nobody asked.
    """
    stated = _stated_gpus(reader, findings)
    seen = _seen_gpus(reader.path, answer, findings) if answer else []
    if stated is None or seen is None:
        return None
    gpus = _reconciled(reader.path, stated, seen, answer, findings)
    if gpus is None:
        return None
    return _gpu_devices(reader.path, gpus, findings) if gpus else _cpu_devices(reader, findings)


def common(known: Kind | None, kind: Kind) -> Kind:
    """One kind for the devices of one key: with the memory of the smallest, so that a replica fits on any of them."""
    return kind if known is None or kind.memory_bytes < known.memory_bytes else known


@dataclass(frozen=True, slots=True)
class _Gpu:
    """One board.

    candidates: the keys that its PCI id can mean. memory_bytes: as the host's driver tells, None without one. slices:
    of a board in MIG mode, the slices that programs use in place of it; None where it is used as a whole.
    """

    index: int
    uuid: str | None = None
    key: str | None = None
    candidates: tuple[str, ...] = ()
    name: str | None = None
    memory_bytes: int | None = None
    compute_capability: tuple[int, ...] = ()
    slices: tuple[_Slice, ...] | None = None
    lost: bool = False

    @property
    def shown(self) -> str:
        return self.key or " or ".join(self.candidates) or self.name or f"GPU {self.index}"


@dataclass(frozen=True, slots=True)
class _Slice:
    uuid: str | None
    profile: str | None
    memory_bytes: int | None


def _stated_gpus(reader: Reader, findings: Findings) -> list[str] | None:
    """The catalogue keys of fleet_gpus, one a GPU; None where one is no key."""
    keys: list[str] = []
    known = True
    for path, item in reader.each("fleet_gpus"):
        entry = Reader(item, path, findings, ("model", "count"))
        key, count = entry.text("model"), entry.integer("count", 1, most=MOST_DEVICES)
        if key in CATALOGUE:
            keys += [key] * (count or 1)
            continue
        known = False
        guess = _gpu_catalogue.nearest_key(key) if key else None
        findings.refuse(
            "unknown_gpu_key",
            entry.at("model"),
            f"is {shown(key)}, which the catalogue does not hold" if key else "is not given",
            f"did you mean {guess}?" if guess else f"use one of {', '.join(sorted(CATALOGUE))}",
        )
    return keys[:MOST_DEVICES] if known else None


def _seen_gpus(name: str, answer: Reader, findings: Findings) -> list[_Gpu] | None:
    """The boards that the host answered; None where its driver is in no state to be planned with."""
    gpus = [_seen_gpu(Reader(item, path, findings)) for path, item in answer.each("gpus")]
    state = "gpu_lost" if any(gpu.lost for gpu in gpus) else answer.text("state", "ok")
    if state in ("ok", "no_gpu", "no_driver"):
        return gpus
    reason = answer.text("state_reason", pattern="(?s).+")
    findings.refuse(
        "gpu_state",
        name,
        f"its GPUs cannot be used: {state}" + (f", {reason}" if reason else ""),
        STATE_REMEDIES.get(state or "", "repair the GPU driver of the host"),
        f"or take {name} out of gpu_nodes",
    )
    return None


def _seen_gpu(reader: Reader) -> _Gpu:
    in_slices = str(reader.get("mig_mode")).lower() in ("enabled", "true")
    return _Gpu(
        index=reader.integer("index", 0, least=0, most=MOST_DEVICES) or 0,
        uuid=reader.text("uuid"),
        key=reader.text("key"),
        candidates=tuple(key for key in reader.texts("candidates") if key in CATALOGUE),
        name=reader.text("name"),
        memory_bytes=_usable(reader) if reader.get("source") != "pci" else None,
        compute_capability=_capability(reader.text("compute_capability", pattern="[0-9]{1,3}[.][0-9]{1,3}")),
        slices=tuple(_seen_slices(reader)) if in_slices else None,
        lost=reader.flag("lost"),
    )


def _seen_slices(reader: Reader) -> Iterator[_Slice]:
    for path, item in reader.each("mig_devices"):
        told = Reader(item, path, reader.findings)
        yield _Slice(told.text("uuid"), told.text("profile"), _usable(told))


def _usable(reader: Reader) -> int | None:
    """What a CUDA program sees of a device, in bytes. Of a slice that is all that its driver tells."""
    usable, total_mib = reader.number("usable_gib", most=2**20), reader.integer("memory_mib", most=2**30)
    if usable is not None:
        return int(usable * GIB)
    return total_mib * 2**20 if total_mib is not None else None


def _capability(text: str | None) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")) if text else ()


def _reconciled(
    name: str, stated: list[str], seen: list[_Gpu], answer: Reader | None, findings: Findings
) -> list[_Gpu] | None:
    """The GPUs of a host, from what the inventory states and what the host answers; None where the two disagree."""
    if stated and seen:
        return _agreed(name, stated, seen, findings)
    if stated and answer and answer.get("state") in ("no_gpu", "ok"):
        _refuse_disagreement(name, stated, seen, findings)
        return None
    return seen or [_Gpu(index, key=key) for index, key in enumerate(stated)]


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


def _gpu_devices(name: str, gpus: list[_Gpu], findings: Findings) -> Offer | None:
    kinds: dict[str, Kind] = {}
    devices: list[Device] = []
    for gpu in sorted(gpus, key=lambda gpu: gpu.index):
        kind = _gpu_kind(name, gpu, findings)
        parts = _parts(name, gpu, kind, findings) if kind else None
        if parts is None:
            return None
        for device, its_kind in parts:
            kinds[its_kind.key] = common(kinds.get(its_kind.key), its_kind)
            devices.append(device)
    twice = sorted(device for device, count in Counter(device.id for device in devices).items() if count > 1)
    if twice:
        findings.refuse("gpu_state", name, f"tells {listing(twice)} twice", "run nvidia-smi -L on the host")
        return None
    return list(kinds.values()), devices


def _gpu_kind(name: str, gpu: _Gpu, findings: Findings) -> Kind | None:
    """What a whole board is worth to the planner; None where nobody can say, or the engine cannot use it."""
    model = CATALOGUE.get(gpu.key or (gpu.candidates[0] if len(gpu.candidates) == 1 else ""))
    memory = gpu.memory_bytes or (int(model.usable_gib * GIB) if model else None)
    if memory is None:
        findings.refuse(
            "unknown_gpu",
            name,
            f"has a GPU that is {gpu.shown} by its PCI id, and no driver that tells more",
            "state it with fleet_gpus, or install the NVIDIA driver",
        )
        return None
    capability = _capability(model.compute_capability) if model else gpu.compute_capability
    if capability and capability < OLDEST_CAPABILITY:
        findings.refuse(
            "gpu_too_old",
            name,
            f"has {gpu.shown} of compute capability {_dotted(capability)}, for which the engine holds no code",
            f"use GPUs of compute capability {_dotted(OLDEST_CAPABILITY)} or newer",
            f"or take {name} out of gpu_nodes",
        )
        return None
    if model is None:
        findings.warn(
            "unknown_gpu",
            name,
            f"has {gpu.shown}, which the catalogue does not hold: it is planned by the memory that its driver tells",
            "watch the first start of its engines",
        )
    return Kind(model.key if model else gpu.shown, CUDA, memory, capability)


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _parts(name: str, gpu: _Gpu, whole: Kind, findings: Findings) -> list[tuple[Device, Kind]] | None:
    """The devices of a board: itself, or its slices, which are of a kind named after board and profile."""
    if gpu.slices is None:
        return [(Device(gpu.uuid or str(gpu.index), gpu.index, whole.key), whole)]
    if not gpu.slices:
        findings.warn(
            "mig_without_slices",
            name,
            f"GPU {gpu.index} is in MIG mode and has no slices: nothing is placed on it",
            f"make slices, or switch MIG off (nvidia-smi -i {gpu.index} -mig 0)",
        )
    parts = []
    for part in gpu.slices:
        if part.uuid is None or part.memory_bytes is None:
            findings.refuse(
                "unknown_gpu",
                name,
                f"has a slice of GPU {gpu.index} of which its driver tells no {'memory' if part.uuid else 'name'}",
                f"switch MIG off (nvidia-smi -i {gpu.index} -mig 0), or take {name} out of gpu_nodes",
            )
            return None
        key = f"{whole.key}/{part.profile or f'{part.memory_bytes // 2**20}MiB'}"
        kind = Kind(key, CUDA, part.memory_bytes, whole.compute_capability, sliced=True)
        parts.append((Device(part.uuid, gpu.index, key), kind))
    return parts


def _cpu_devices(reader: Reader, findings: Findings) -> Offer | None:
    if reader.get("fleet_cpu_kv_gib") is None:
        findings.refuse(
            "no_devices",
            reader.path,
            "is in gpu_nodes and has neither GPUs nor fleet_cpu_kv_gib",
            "let the host be asked, or state its GPUs: fleet_gpus: [{model: H100-SXM-80GB, count: 8}]",
            "for a CPU host give fleet_cpu_kv_gib: the KV cache of each rank in GiB",
            "or take it out of gpu_nodes",
        )
        return None
    count = reader.integer("fleet_cpu_devices", 1, most=MOST_DEVICES) or 1
    granted = reader.number("fleet_cpu_kv_gib", most=2**20)
    if granted is None:
        return None
    if granted != int(granted):
        reader.wrong("fleet_cpu_kv_gib", granted, "", "give whole GiB: the engine takes no fractions")
        return None
    kind = Kind(f"cpu-{int(granted)}gib", CPU, int(granted) * GIB)
    return [kind], [Device(f"cpu:{index}", index, kind.key) for index in range(count)]
