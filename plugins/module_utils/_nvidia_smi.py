# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the GPUs through nvidia-smi: strict parsers of its outputs, and a reader that names every way to fail.

The manual page promises no stable text, so a parser takes what it knows and refuses the rest. ``[N/A]`` and its kin
are None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from xml.etree import ElementTree

from ansible_collections.gpufleet.serving.plugins.module_utils._command import Outcome

QUERY_FIELDS = (
    "index",
    "uuid",
    "name",
    "pci.bus_id",
    "driver_version",
    "memory.total",
    "memory.used",
    "compute_cap",
    "mig.mode.current",
    "persistence_mode",
    "ecc.mode.current",
)
QUERY_ARGUMENTS = ("--query-gpu=" + ",".join(QUERY_FIELDS), "--format=csv,noheader,nounits")

OK = "ok"
NO_GPU = "no_gpu"
NO_DRIVER = "no_driver"
GPU_LOST = "gpu_lost"
DRIVER_MISMATCH = "driver_mismatch"
HUNG = "hung"
UNREADABLE = "unreadable"

# Exit codes: "RETURN VALUE" of the nvidia-smi manual page; 18 is NVML_ERROR_LIB_RM_VERSION_MISMATCH of nvml.h.
RC_OK = 0
RC_NOT_FOUND = 6
RC_DRIVER_NOT_LOADED = 9
RC_NO_LIBRARY = 12
RC_INFOROM_CORRUPT = 14
RC_GPU_LOST = 15
RC_VERSION_MISMATCH = 18

_NO_VALUE = re.compile(r"N/A|ERR!|\[.*\]|")
_FAULT = re.compile(r"ERR!|\[(?:GPU is lost|Unknown Error|GPU requires reset)\]", re.IGNORECASE)
_NO_HANDLE = re.compile(
    r"Unable to determine the device handle for gpu\s*"
    r"(?P<address>[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.\d):\s*(?P<why>.*)",
    re.IGNORECASE,
)
_INFOROM_WARNING = re.compile(r"WARNING: infoROM is corrupted at gpu (?P<address>\S+)", re.IGNORECASE)
_LISTED_GPU = re.compile(r"GPU (?P<index>\d+): .* \(UUID: (?P<uuid>GPU-[^)]+)\)")
_LISTED_MIG = re.compile(r"\s+MIG (?P<profile>\S+)\s+Device\s+(?P<index>\d+): \(UUID: (?P<uuid>MIG-[^)]+)\)")
_CUDA_VERSION = re.compile(r"^CUDA(?: UMD)? Version\s*:\s*(\d+\.\d+)", re.MULTILINE)
_LIBRARY_VERSION = re.compile(r"NVML library version: (\S+)")
_ANSI_ESCAPE = re.compile(r"\x1b\[[0-9;]*m")
_NVLINK_CELL = re.compile(r"NV\d+")


class NvidiaSmiError(Exception):
    """nvidia-smi did not do its work; ``state`` is one of the named states, the text says what was seen."""

    def __init__(self, state: str, detail: str) -> None:
        super().__init__(detail)
        self.state = state


@dataclass(frozen=True)
class MigDevice:
    """A MIG slice; ``memory_mib`` is what a program in it is given."""

    index: int
    uuid: str
    profile: str
    memory_mib: int | None = None


@dataclass(frozen=True)
class DriverGpu:
    """A GPU as the driver tells. Memory in MiB; ``lost`` when the driver can no longer talk to it."""

    index: int
    pci_address: str
    uuid: str | None = None
    name: str | None = None
    driver_version: str | None = None
    memory_mib: int | None = None
    memory_used_mib: int | None = None
    compute_capability: str | None = None
    mig_mode: bool | None = None
    persistence: bool | None = None
    ecc: bool | None = None
    lost: bool = False
    mig_devices: tuple[MigDevice, ...] = ()


@dataclass(frozen=True)
class QueryResult:
    """The answer to one query: GPUs, and why the driver had no handle for others, by PCI address."""

    gpus: tuple[DriverGpu, ...]
    lost: dict[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class DriverReading:
    """All that nvidia-smi told; ``state`` is OK or says how far it went, and ``detail`` what was seen then."""

    state: str
    detail: str = ""
    gpus: tuple[DriverGpu, ...] = ()
    lost: dict[str, str] = field(default_factory=dict)
    cuda_version: str | None = None
    nvlink: bool | None = None
    warnings: tuple[str, ...] = ()


def normalise_address(address: str) -> str:
    """Return a PCI address as sysfs writes it: ``00000000:1B:00.0`` becomes ``0000:1b:00.0``.

    >>> normalise_address("00010000:01:00.0")
    '10000:01:00.0'
    """
    domain, rest = address.strip().lower().split(":", 1)
    return f"{int(domain, 16):04x}:{rest}"


def parse_query(stdout: str, stderr: str = "") -> QueryResult:
    """Parse the CSV of ``QUERY_ARGUMENTS`` with the complaints that nvidia-smi mixes into it.

    Raises NvidiaSmiError (unreadable) on a line of ``stdout`` that is neither a row of known shape nor a known
    complaint.
    """
    lines = [line.strip() for line in stdout.splitlines() if line.strip()]
    complaints = [match for match in map(_NO_HANDLE.match, [*lines, *stderr.splitlines()]) if match]
    warnings = tuple(line for line in lines if _INFOROM_WARNING.match(line))
    rows = [line for line in lines if line not in warnings and not _NO_HANDLE.match(line)]
    return QueryResult(
        gpus=tuple(_parse_row(row) for row in rows),
        lost={normalise_address(match["address"]): match["why"].split(".")[0].strip() for match in complaints},
        warnings=warnings,
    )


def parse_list(text: str) -> dict[str, tuple[MigDevice, ...]]:
    """Parse ``nvidia-smi -L`` into the MIG slices of each GPU, by the GPU's UUID."""
    slices: dict[str, list[MigDevice]] = {}
    owner = ""
    for line in text.splitlines():
        gpu = _LISTED_GPU.match(line)
        mig = _LISTED_MIG.match(line)
        if gpu:
            owner = gpu["uuid"]
            slices[owner] = []
        elif mig and owner:
            slices[owner].append(MigDevice(index=int(mig["index"]), uuid=mig["uuid"], profile=mig["profile"]))
    return {uuid: tuple(devices) for uuid, devices in slices.items()}


def parse_mig_memory(text: str) -> dict[str, dict[int, int]]:
    """Parse ``nvidia-smi -q -x`` into the memory (MiB) of each MIG slice, by the GPU's UUID and the slice's index.

    Text that is no XML tells of no slice.
    """
    try:
        gpus = ElementTree.fromstring(text.strip()).findall("gpu")  # noqa: S314 - written by the driver's own program
    except ElementTree.ParseError:
        return {}
    return {gpu.findtext("uuid", ""): _mig_totals(gpu.findall("mig_devices/mig_device")) for gpu in gpus}


def parse_topology(text: str) -> bool | None:
    """Parse ``nvidia-smi topo -m``: whether any two GPUs share NVLinks; None where it shows no GPU."""
    rows = [line.split() for line in _ANSI_ESCAPE.sub("", text).splitlines() if re.match(r"GPU\d+\s", line)]
    return any(_NVLINK_CELL.fullmatch(cell) for row in rows for cell in row) if rows else None


def parse_cuda_version(text: str) -> str | None:
    """Parse ``nvidia-smi --version``: the newest CUDA that the driver runs ("CUDA UMD Version" from branch 610 on)."""
    match = _CUDA_VERSION.search(text)
    return match[1] if match else None


def failure(outcome: Outcome) -> NvidiaSmiError | None:
    """Say how a call of nvidia-smi failed; None where its output can be parsed."""
    seen = outcome.text.split("\n")[0] or f"exit code {outcome.rc} and no output"
    if outcome.timed_out:
        return NvidiaSmiError(HUNG, "nvidia-smi gave no answer in time")
    if outcome.missing:
        return NvidiaSmiError(NO_DRIVER, "nvidia-smi is not installed")
    if outcome.rc == RC_VERSION_MISMATCH or "version mismatch" in outcome.text:
        library = _LIBRARY_VERSION.search(outcome.text)
        return NvidiaSmiError(DRIVER_MISMATCH, f"installed library {library[1]}" if library else seen)
    if outcome.rc in (RC_DRIVER_NOT_LOADED, RC_NO_LIBRARY) or "couldn't communicate with the NVIDIA" in outcome.text:
        return NvidiaSmiError(NO_DRIVER, seen)
    if outcome.rc == RC_NOT_FOUND or "No devices were found" in outcome.text:
        return NvidiaSmiError(NO_GPU, "the driver found no device")
    if outcome.rc in (RC_OK, RC_INFOROM_CORRUPT) or _NO_HANDLE.search(outcome.text):
        return None
    if outcome.rc == RC_GPU_LOST or "GPU is lost" in outcome.text:
        return NvidiaSmiError(GPU_LOST, seen)
    return NvidiaSmiError(UNREADABLE, seen)


class NvidiaSmi:
    """Calls nvidia-smi through ``run``, which takes its arguments and returns what became of the call."""

    def __init__(self, run: Callable[..., Outcome]) -> None:
        self._run = run

    def read(self, expected: Iterable[str] = ()) -> DriverReading:
        """Read all that the driver tells. Never raises.

        ``expected`` are the PCI addresses that the kernel shows. Where one GPU without a handle makes nvidia-smi give
        up on the others, they are asked for one by one.
        """
        reading = DriverReading(state=OK)
        try:
            reading = self._read_gpus(reading, expected)
            reading = replace(reading, gpus=self._with_mig(reading.gpus))
            reading = replace(reading, cuda_version=parse_cuda_version(self._try("--version")))
            return replace(reading, nvlink=self._read_nvlink(reading.gpus))
        except NvidiaSmiError as error:
            return replace(reading, state=error.state, detail=str(error))

    def _read_gpus(self, reading: DriverReading, expected: Iterable[str]) -> DriverReading:
        found = self._query()
        gpus, lost = list(found.gpus), dict(found.lost)
        if lost:
            known = {gpu.pci_address for gpu in gpus} | set(lost)
            for address in sorted(set(expected) - known):
                single = self._query_one(address)
                gpus.extend(single.gpus)
                lost.update(single.lost)
        return replace(reading, gpus=tuple(gpus), lost=lost, warnings=found.warnings)

    def _query(self, *selection: str) -> QueryResult:
        outcome = self._call(*QUERY_ARGUMENTS, *selection)
        return parse_query(outcome.stdout, outcome.stderr)

    def _query_one(self, address: str) -> QueryResult:
        try:
            return self._query("-i", address)
        except NvidiaSmiError as error:
            if error.state == HUNG:
                raise
            return QueryResult(gpus=(), lost={address: str(error)})

    def _with_mig(self, gpus: tuple[DriverGpu, ...]) -> tuple[DriverGpu, ...]:
        if not any(gpu.mig_mode for gpu in gpus):
            return gpus
        listed = parse_list(self._call("-L").stdout)
        memory = parse_mig_memory(self._try("-q", "-x"))
        return tuple(
            replace(
                gpu,
                mig_devices=tuple(
                    replace(device, memory_mib=memory.get(gpu.uuid or "", {}).get(device.index))
                    for device in listed.get(gpu.uuid or "", ())
                ),
            )
            for gpu in gpus
        )

    def _read_nvlink(self, gpus: tuple[DriverGpu, ...]) -> bool | None:
        return parse_topology(self._try("topo", "-m")) if len(gpus) > 1 else False

    def _call(self, *arguments: str) -> Outcome:
        outcome = self._run(*arguments)
        error = failure(outcome)
        if error:
            raise error
        return outcome

    def _try(self, *arguments: str) -> str:
        """Call for something that is good to know: only a hang counts as a failure of the host."""
        try:
            return self._call(*arguments).stdout
        except NvidiaSmiError as error:
            if error.state == HUNG:
                raise
            return ""


def _parse_row(line: str) -> DriverGpu:
    cells = [cell.strip() for cell in line.split(",")]
    if len(cells) != len(QUERY_FIELDS):
        raise NvidiaSmiError(
            UNREADABLE, f"nvidia-smi printed {len(cells)} fields where {len(QUERY_FIELDS)} were asked: {line!r}"
        )
    row = dict(zip(QUERY_FIELDS, cells))
    index, address = _number(row, "index"), _value(row["pci.bus_id"])
    if index is None or address is None:
        raise NvidiaSmiError(GPU_LOST, f"nvidia-smi printed a GPU without index or PCI address: {line!r}")
    return DriverGpu(
        index=index,
        pci_address=normalise_address(address),
        uuid=_value(row["uuid"]),
        name=_value(row["name"]),
        driver_version=_value(row["driver_version"]),
        memory_mib=_number(row, "memory.total"),
        memory_used_mib=_number(row, "memory.used"),
        compute_capability=_value(row["compute_cap"]),
        mig_mode=_switch(row, "mig.mode.current"),
        persistence=_switch(row, "persistence_mode"),
        ecc=_switch(row, "ecc.mode.current"),
        lost=any(_FAULT.fullmatch(cell) for cell in cells),
    )


def _value(cell: str) -> str | None:
    return None if _NO_VALUE.fullmatch(cell) else cell


def _number(row: dict[str, str], name: str) -> int | None:
    value = _value(row[name])
    if value is None:
        return None
    if not value.isdecimal():
        raise NvidiaSmiError(UNREADABLE, f"nvidia-smi printed {value!r} as {name}, which is no number")
    return int(value)


def _switch(row: dict[str, str], name: str) -> bool | None:
    value = _value(row[name])
    if value is None:
        return None
    if value not in ("Enabled", "Disabled"):
        raise NvidiaSmiError(
            UNREADABLE, f"nvidia-smi printed {value!r} as {name}, which is neither Enabled nor Disabled"
        )
    return value == "Enabled"


def _mig_totals(devices: list[ElementTree.Element]) -> dict[int, int]:
    totals = {}
    for device in devices:
        index, total = device.findtext("index", ""), device.findtext("fb_memory_usage/total", "").split(" ")[0]
        if index.isdecimal() and total.isdecimal():
            totals[int(index)] = int(total)
    return totals
