# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts as they are, held against hosts as a plan needs them: what stands in the way, how much, and what to do.

Pure. A finding is ``blocking`` where serving would fail or a replica would not start, a ``warning`` where it works and
should not stay so, and a ``note`` where a run of site.yml puts it right by itself, or the host cannot be otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ._devices import CUDA, STATE_REMEDIES
from ._findings import Findings
from ._fleet import NO_ANSWER
from ._host_stack import PRESENT, version_key
from ._host_stack_rules import DKMS, NO_FABRIC
from ._reading import Reader, plain
from ._report import Section
from ._text import GIB, counted, gib, listing, natural_key
from ._xids import XIDS

BLOCKING, WARNING, NOTE = "blocking", "warning", "note"
SEVERITIES = (BLOCKING, WARNING, NOTE)

OLDEST_PYTHON = (3, 11)
"""The oldest Python that the engine's wheels are for (metadata of vllm 0.33.0)."""
OLDEST_GLIBC = (2, 34)
"""The oldest C library that the engine's locks are resolved for."""
ENOUGH_FILES = 65535
"""Open files below which vLLM warns at its start (vllm 0.33, utils/system_utils.py)."""
ENOUGH_SHM_BYTES = GIB
"""Shared memory for the ranks of a replica to exchange data; 64 MiB, a container's default, ends in NCCL errors."""
RANK_MEMORY_BYTES = 4 * GIB
"""Host memory that one rank on a GPU takes: libraries, CUDA context, pinned buffers. An estimate."""
LEAST_DISK_BYTES = 2 * GIB
"""Free disk below which nothing can be installed."""
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - it is named to the operator
HARMLESS_MIB = 256
"""GPU memory that somebody else may hold: the engine leaves 8 % of a GPU to others, and its own start takes most."""
FABRIC_READY, FABRIC_WELL = "Completed", "Success"
NOUVEAU = "nouveau drives the GPUs"
OUR_UNITS = "gpufleet-"
FRONT_DOOR = "nginx"
"""The program that holds the front door's ports."""


@dataclass(frozen=True, slots=True)
class Flaw:
    """One finding about one host."""

    host: str
    severity: str
    check: str
    seen: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Subject:
    """One host under judgement: what the plan has for it, and what it answered."""

    name: str
    plan: Reader
    facts: Reader
    machine: Reader
    state: Reader
    stack: Reader | None
    replicas: tuple[Mapping[str, Any], ...]
    front_door_ports: tuple[int, ...]
    perimeter: Reader

    @property
    def computes_on_gpus(self) -> bool:
        return self.plan.get("accelerator") == CUDA or self.facts.items("gpus") != []

    @property
    def managed(self) -> bool:
        """Whether a run of site.yml brings the driver to its stack."""
        return self.stack is not None and self.stack.text("route") != PRESENT

    @property
    def contained(self) -> bool:
        return self.part("kernel").get("container") is not None

    @property
    def world(self) -> int:
        return sum(len(replica["ranks"]) for replica in self.replicas)

    def part(self, name: str) -> Reader:
        return Reader(self.state.mapping(name), f"{self.name}.{name}", self.state.findings)

    def gpus(self) -> Iterator[Reader]:
        for path, item in self.state.each("gpus"):
            yield Reader(item, path, self.state.findings)


Check = Callable[[Subject], Iterator[tuple[str, str, str]]]
"""What is wrong of one kind: severity, what was seen, what to do."""


def preflight(plan: Mapping[str, Any], hosts: Any) -> dict[str, Any]:
    """Hold every host that answered against a plan, and name those that should have answered.

    hosts: as ``fleet_hosts`` gives them, with ``facts`` and ``preflight``. Returns ``findings``, the worst first, how
    many there are of each severity, and ``checked`` and ``unchecked``, the names of hosts that could and could not be
    held against it.
    """
    known = plain(hosts, "hosts", Findings())
    told = {name: host for name, host in known.items() if host.get("facts") and host.get("preflight")}
    checked = sorted(set(told) & set(plan["hosts"]), key=natural_key)
    flaws = [*_silent(plan), *(flaw for name in checked for flaw in _judge(_subject(plan, name, told[name])))]
    flaws.sort(key=lambda flaw: (SEVERITIES.index(flaw.severity), natural_key(flaw.host)))
    return {
        "checked": checked,
        "counts": {severity: sum(flaw.severity == severity for flaw in flaws) for severity in SEVERITIES},
        "findings": [asdict(flaw) for flaw in flaws],
        "unchecked": sorted(set(plan["hosts"]) - set(checked), key=natural_key),
    }


def sections(result: Mapping[str, Any]) -> Iterator[Section]:
    """The outcome in one table, one row a finding."""
    counts = ", ".join(f"{count} {severity}" for severity, count in result["counts"].items() if count)
    hosts = counted(len(result["checked"]), "host")
    unchecked = f"; not checked: {listing(result['unchecked'])}" if result["unchecked"] else ""
    yield Section(
        "Preflight",
        f"{hosts} checked, {counts or 'nothing found'}{unchecked}",
        headers=("severity", "host", "check", "what was seen, and what to do") if result["findings"] else (),
        rows=[
            (finding["severity"], finding["host"], finding["check"], f"{finding['seen']} -> {finding['remedy']}")
            for finding in result["findings"]
        ],
    )


def _silent(plan: Mapping[str, Any]) -> Iterator[Flaw]:
    """The hosts that do not answer: the planner knows what is there, and whether the operator goes on without them."""
    for severity, findings in ((BLOCKING, plan["refusals"]), (WARNING, plan["warnings"])):
        for finding in findings:
            if finding["code"] == NO_ANSWER:
                yield Flaw(finding["subject"], severity, "answer", finding["reason"], ", ".join(finding["remedies"]))


def _subject(plan: Mapping[str, Any], name: str, host: Mapping[str, Any]) -> Subject:
    findings = Findings()
    planned = Reader(plan["hosts"][name], name, findings)
    facts = Reader(host["facts"], name, findings)
    stack = planned.mapping("stack")
    gateway = plan["shares"].get(name, {}).get("gateway", {}) if plan["shares"] else {}
    ports = [gateway.get("gateway_listen_port"), gateway.get("gateway_metrics_port")]
    return Subject(
        name=name,
        plan=planned,
        facts=facts,
        machine=Reader(facts.mapping("host"), name, findings),
        state=Reader(host["preflight"], name, findings),
        stack=Reader(stack, name, findings) if stack else None,
        replicas=tuple(replica for replica in plan["replicas"] if replica["head"] == name),
        front_door_ports=tuple(port for port in ports if port) if gateway.get("gateway_models") else (),
        perimeter=Reader(plan["shares"].get(name, {}).get("perimeter", {}), name, findings),
    )


def _judge(subject: Subject) -> Iterator[Flaw]:
    for name, check in CHECKS.items():
        for severity, seen, remedy in check(subject):
            yield Flaw(subject.name, severity, name, seen, remedy)


def _driver(subject: Subject) -> Iterator[tuple[str, str, str]]:
    """The driver as a whole: there, new enough, and the same in kernel and user space."""
    if not subject.computes_on_gpus:
        return
    state = subject.facts.text("state", "ok") or "ok"
    driver, version = subject.part("driver"), subject.facts.text("driver_version")
    if state in STATE_REMEDIES:
        yield BLOCKING, _what_was_seen(subject) or f"its GPUs are {state}", STATE_REMEDIES[state]
        return
    if state == "no_driver":
        yield from _no_driver(subject)
        return
    oldest = subject.stack.text("oldest_driver") if subject.stack else None
    if version and oldest and version_key(version) < version_key(oldest):
        remedy = "site.yml upgrades it" if subject.managed else f"install a driver of {oldest} or newer"
        yield NOTE if subject.managed else BLOCKING, f"driver {version}, and the engine needs {oldest}", remedy
    ready = driver.text("module")
    if version and ready and ready != version:
        yield (
            WARNING,
            f"driver {version} is loaded, and {ready} is installed for the next boot: new programs may not find it",
            "hold the driver's packages against upgrades, and reboot when no replica serves",
        )
    persistenced = Reader(driver.mapping("persistenced"), subject.name, Findings())
    if not persistenced.flag("active") and not subject.managed and not subject.contained:
        yield WARNING, "nvidia-persistenced does not run", "enable it: systemctl enable --now nvidia-persistenced"


def _what_was_seen(subject: Subject) -> str:
    """The first sentence of the reason that the host gives; what to do comes in its others."""
    return (subject.facts.text("state_reason") or "").split(". ")[0].removesuffix(".")


def _no_driver(subject: Subject) -> Iterator[tuple[str, str, str]]:
    reason = _what_was_seen(subject) or "no driver works"
    if subject.managed and subject.stack:
        yield NOTE, reason, f"site.yml installs driver {subject.stack.text('driver_version')}"
    else:
        yield BLOCKING, reason, "install a driver, or set gpu_host_manage: true"
    if subject.part("driver").flag("nouveau") and subject.managed:
        yield NOTE, NOUVEAU, "site.yml switches it off, and the host has to reboot (gpu_host_reboot: auto)"
    elif subject.part("driver").flag("nouveau"):
        yield BLOCKING, NOUVEAU, "blacklist it, rebuild the initramfs and reboot"


def _fabric(subject: Subject) -> Iterator[tuple[str, str, str]]:
    """On NVSwitches, CUDA works only once the fabric manager of exactly the driver's version has joined every GPU."""
    fabric = subject.stack.text("fabric") if subject.stack else None
    if fabric in (None, NO_FABRIC) and not subject.facts.flag("nvswitch"):
        return
    manager = subject.part("fabric_manager")
    loaded, version = subject.facts.text("driver_version"), manager.text("version")
    bare = subject.facts.text("state") == "no_driver"
    severity = NOTE if subject.managed and bare else BLOCKING
    if not manager.flag("installed") or not manager.flag("active"):
        state = manager.text("state") if manager.flag("installed") else "not installed"
        remedy = "site.yml installs and starts it" if subject.managed else "install and start nvidia-fabricmanager"
        yield severity, f"the fabric manager is {state}: CUDA would fail with error 802", remedy
    if version and loaded and version != loaded and not bare:
        remedy = f"install nvidia-fabricmanager {loaded}, hold it, and restart it"
        yield BLOCKING, f"fabric manager {version} with driver {loaded}: they must be of one version", remedy
    for gpu in subject.gpus():
        state, status = gpu.text("fabric_state"), gpu.text("fabric_status")
        if state and (state != FABRIC_READY or (status and status != FABRIC_WELL)):
            yield (
                BLOCKING,
                f"GPU {gpu.text('pci_address')} has not joined the fabric: {state}{f', {status}' if status else ''}",
                "look at 'journalctl -u nvidia-fabricmanager'; restart the unit, then reboot",
            )


def _memory_errors(subject: Subject) -> Iterator[tuple[str, str, str]]:
    for gpu in subject.gpus():
        address = gpu.text("pci_address")
        if gpu.flag("rows_failed"):
            yield BLOCKING, f"GPU {address} has a defective row that cannot be replaced", "have the board replaced"
        elif gpu.flag("rows_pending"):
            yield WARNING, f"GPU {address} waits for a reset to replace a defective row", "drain and reset or reboot"
        elif gpu.integer("ecc_volatile", 0, least=0):
            count = counted(gpu.integer("ecc_volatile") or 0, "uncorrectable memory error")
            yield WARNING, f"GPU {address} had {count} since its driver was loaded", "watch it, and reset it when idle"
        if gpu.text("recovery_action"):
            yield BLOCKING, f"GPU {address} asks for a recovery: {gpu.text('recovery_action')}", "drain, then do that"


def _xid(subject: Subject) -> Iterator[tuple[str, str, str]]:
    well = subject.facts.text("state") == "ok"
    for path, item in subject.state.each("kernel_log"):
        error = Reader(item, path, subject.state.findings)
        number, place = error.integer("number", 0, least=0) or 0, error.text("pci_address") or "a GPU"
        times = f" ({error.integer('count', 1)} times)" if (error.integer("count", 1) or 1) > 1 else ""
        if error.flag("nvswitch"):
            fatal = "Fatal" in (error.text("text") or "") and "Non-fatal" not in (error.text("text") or "")
            remedy = "look at the fabric manager's log, reboot, and have the baseboard checked if it comes again"
            yield BLOCKING if fatal else WARNING, f"NVSwitch {place}: SXid {number}{times} since boot", remedy
        elif number in XIDS:
            known = XIDS[number]
            severity = BLOCKING if known.lasting or not well else WARNING
            yield severity, f"{place}: Xid {number}{times} since boot, {known.meaning}", known.remedy
    if subject.state.get("kernel_log") is None and subject.computes_on_gpus:
        yield WARNING, "the kernel log cannot be read, so that nobody knows of Xid errors", "run as root (become: true)"


def _links(subject: Subject) -> Iterator[tuple[str, str, str]]:
    for gpu in subject.gpus():
        address = gpu.text("pci_address")
        width, most = gpu.integer("link_width"), gpu.integer("link_width_max")
        if width and most and width < most:
            yield WARNING, f"GPU {address} uses {width} of {most} PCIe lanes", "reseat the board; check riser and slot"
        up, links = gpu.integer("nvlinks_up", 0, least=0) or 0, gpu.integer("nvlinks", 0, least=0) or 0
        if 0 < up < links or (links and not up and subject.facts.flag("nvlink")):
            yield WARNING, f"GPU {address} has {up} of {links} NVLinks up", "reboot; if it stays, check bridge or board"


def _foreign(subject: Subject) -> Iterator[tuple[str, str, str]]:
    """Processes on GPUs that no replica of the collection started, on planned GPUs and on others."""
    planned = _planned_addresses(subject)
    for path, item in subject.state.each("gpu_processes"):
        process = Reader(item, path, subject.state.findings)
        unit, address = process.text("unit") or "", process.text("pci_address")
        if unit.startswith(OUR_UNITS):
            continue
        memory = process.integer("memory_mib", least=0)
        harms = address in planned and (memory is None or memory > HARMLESS_MIB)
        held = f", {memory} MiB" if memory is not None else ""
        who = f"{process.text('name') or 'a process'} (process {process.integer('pid')}, {unit or 'of no unit'}{held})"
        use = f"{who} uses GPU {address}" + (", which a replica is to have" if address in planned else "")
        stop = f"stop it: systemctl stop {unit}" if unit.endswith(".service") else "stop it"
        yield BLOCKING if harms else WARNING, use, f"{stop}; or take the host out of gpu_nodes"


def _planned_addresses(subject: Subject) -> set[str]:
    """The PCI addresses of the GPUs that replicas are to have, whole or in slices."""
    used = {str(rank["device"]) for replica in subject.replicas for rank in replica["ranks"]}
    found = set()
    for path, item in subject.facts.each("gpus"):
        gpu = Reader(item, path, subject.facts.findings)
        slices = {part.get("uuid") for part in gpu.items("mig_devices") if isinstance(part, dict)}
        if used & {gpu.text("uuid"), str(gpu.integer("index", least=0)), *slices}:
            found.add(gpu.text("pci_address") or "")
    return found


def _disk(subject: Subject) -> Iterator[tuple[str, str, str]]:
    if not subject.replicas:
        return
    short: dict[str, int] = {}
    for path, disk in subject.machine.mapping("disks").items():
        told = Reader(disk or {}, path, Findings())
        free = told.integer("free_bytes", least=0)
        if free is not None and free < LEAST_DISK_BYTES:
            short[told.text("measured_at") or path] = free
    for place, free in short.items():
        yield BLOCKING, f"{place} has {gib(free)} free", "make room, or put engines and weights elsewhere"


def _memory(subject: Subject) -> Iterator[tuple[str, str, str]]:
    """Memory of the host. On CPU hosts it is the devices' own, and the planner's to reckon with."""
    limits = [subject.machine.integer(name) for name in ("memory_total_bytes", "cgroup_memory_limit_bytes")]
    total, need = min((limit for limit in limits if limit), default=None), subject.world * RANK_MEMORY_BYTES
    if subject.computes_on_gpus and total is not None and total < need:
        ranks = counted(subject.world, "rank")
        yield WARNING, f"has {gib(total)} of memory for {ranks}, which take about {gib(need)}", "add memory"


def _shared_memory(subject: Subject) -> Iterator[tuple[str, str, str]]:
    total = subject.part("shm").integer("total_bytes", least=0)
    several = any(len(replica["ranks"]) > 1 for replica in subject.replicas)
    if subject.computes_on_gpus and total is not None and total < ENOUGH_SHM_BYTES and several:
        seen = f"{SHARED_MEMORY} has {gib(total)}, and ranks exchange data through it"
        yield WARNING, seen, f"mount it larger: mount -o remount,size=8g {SHARED_MEMORY}"


def _limits(subject: Subject) -> Iterator[tuple[str, str, str]]:
    files = subject.part("limits").integer("nofile", least=0)
    if files is not None and files < ENOUGH_FILES and subject.replicas:
        where = "its container allows" if subject.contained else "process 1 has a hard limit of"
        remedy = "raise the container's limit" if subject.contained else "set DefaultLimitNOFILE=1048576 in system.conf"
        severity = NOTE if subject.contained else WARNING
        yield severity, f"{where} {files} open files, and an engine wants {ENOUGH_FILES}", remedy


def _time(subject: Subject) -> Iterator[tuple[str, str, str]]:
    if subject.state.get("time_synchronised") is False and not subject.contained:
        yield WARNING, "no time server keeps its clock", "enable chrony or systemd-timesyncd"


def _names(subject: Subject) -> Iterator[tuple[str, str, str]]:
    name = subject.machine.text("hostname")
    if name and not subject.machine.text("fqdn_address"):
        yield WARNING, f"its own name, {name}, resolves to nothing", f"add '127.0.1.1 {name}' to /etc/hosts, or to DNS"


def _ports(subject: Subject) -> Iterator[tuple[str, str, str]]:
    """Ports that the plan needs and somebody else has."""
    wanted = {replica["port"]: f"replica {replica['name']}" for replica in subject.replicas}
    wanted |= dict.fromkeys(subject.front_door_ports, "the front door")
    for path, item in subject.state.each("listeners"):
        listener = Reader(item, path, subject.state.findings)
        port, name, unit = listener.integer("port") or 0, listener.text("name"), listener.text("unit") or ""
        whose = wanted.get(port)
        ours = unit.startswith(OUR_UNITS) if whose != "the front door" else name == FRONT_DOOR
        if whose and name and not ours:
            yield (
                BLOCKING,
                f"port {port}, which {whose} is to have, is taken by {name} ({unit or 'of no unit'})",
                "stop it, or set another port (fleet_engine_port, fleet_gateway_port, fleet_gateway_metrics_port)",
            )


def _closed(subject: Subject) -> Iterator[tuple[str, str, str]]:
    """Ports of others that the perimeter closes along with those that engines choose for themselves."""
    doors = [Reader(door, path, subject.state.findings) for path, door in subject.perimeter.each("perimeter_doors")]
    left = subject.perimeter.items("perimeter_open_ports")
    for path, item in subject.state.each("listeners"):
        listener = Reader(item, path, subject.state.findings)
        port, name, unit = listener.integer("port") or 0, listener.text("name"), listener.text("unit") or ""
        if listener.flag("loopback") or unit.startswith(OUR_UNITS) or port in left:
            continue
        for door in doors:
            first, last = door.integer("first_port") or 0, door.integer("last_port") or 0
            if first < last and first <= port <= last:
                yield (
                    WARNING,
                    f"{name or 'somebody'} ({unit or 'of no unit'}) listens on port {port}, which other hosts do not "
                    f"reach under the perimeter: it is one of the {door.text('purpose')}",
                    f"if they need it, name it for this host: fleet_open_ports: [{port}]",
                )


def _python(subject: Subject) -> Iterator[tuple[str, str, str]]:
    """Interpreter and C library, where an engine is to run."""
    if not subject.replicas:
        return
    python = subject.part("python")
    version, program = python.text("version"), python.text("program")
    if version and version_key(version)[:2] < OLDEST_PYTHON:
        yield (
            BLOCKING,
            f"{program} is Python {version}, and the engine needs 3.11",
            "name a newer one: engine_python=python3.12 where the distribution has that (Enterprise Linux 9), or the "
            "path that one as an archive shall have (Ubuntu 22.04: engine_python_archive)",
        )
    glibc = subject.machine.text("glibc")
    if glibc and version_key(glibc) < OLDEST_GLIBC:
        yield BLOCKING, f"glibc {glibc}, and the engine needs 2.34", "use a newer release of the distribution"


def _modules(subject: Subject) -> Iterator[tuple[str, str, str]]:
    """What the build of kernel modules needs, and where none can be built."""
    if not subject.managed or subject.stack is None:
        return
    if subject.contained:
        yield (
            NOTE,
            f"the host is a container ({subject.part('kernel').text('container')}): it cannot load kernel modules",
            "install the driver on the machine below it; here its packages alone are installed",
        )
    elif subject.stack.text("build") == DKMS and not subject.part("kernel").flag("headers"):
        yield NOTE, "headers of the running kernel are missing", "site.yml installs them, to build the modules with"


CHECKS: dict[str, Check] = {
    "driver": _driver,
    "kernel modules": _modules,
    "fabric": _fabric,
    "memory errors": _memory_errors,
    "xid": _xid,
    "links": _links,
    "processes": _foreign,
    "disk": _disk,
    "memory": _memory,
    "shared memory": _shared_memory,
    "limits": _limits,
    "time": _time,
    "names": _names,
    "ports": _ports,
    "perimeter": _closed,
    "python": _python,
}
"""Every check by the name that the table shows, in the order of the table."""
