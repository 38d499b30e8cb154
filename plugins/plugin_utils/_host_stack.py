# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which driver, fabric manager and container toolkit a GPU host gets, or why it can have none.

``solve`` is pure: what fits together stands in ``_host_stack_rules``, what the host is in a ``Machine``, what is wanted
in a ``Wish``. A driver that works and that this collection did not install is kept and checked, never replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from . import _host_stack_rules as rules
from ._findings import Findings
from ._host_stack_rules import Branch, Engine, Generation, Offer, Platform, Wanted
from ._text import counted, listing

PRESENT = "present"
"""The route of a driver that somebody else installed."""
KERNEL_RELEASE = re.compile(r"[0-9][^-]*-[0-9.]+-(.+)")
"""A kernel of Debian or Ubuntu by its release: version, build, flavour."""
ROUTES = (rules.UBUNTU, rules.NVIDIA)
"""The routes that can be asked for by name."""

ENROL = (
    "enrol the key that DKMS signs modules with: run 'mokutil --import /var/lib/dkms/mok.pub' on the host, give a "
    "password, reboot, confirm it on the console (DKMS makes the key at its first build, or by 'dkms generate_mok')",
    "or switch Secure Boot off in the host's firmware",
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU of the host: its key or name, and its compute capability, None where nobody knows."""

    name: str
    capability: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Driver:
    """The driver that a host has. ours: this collection installed it. origin: its package, for messages."""

    version: str
    works: bool
    ours: bool = False
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class Machine:
    """What a host is.

    os, release: of os-release; architecture and kernel: of uname. secure_boot: None where the firmware has none or
    nobody told. key_enrolled: whether the firmware trusts the key that DKMS signs with.
    """

    name: str
    os: str | None
    release: str | None
    architecture: str | None
    gpus: tuple[Gpu, ...]
    kernel: str | None = None
    nvswitch: bool = False
    secure_boot: bool | None = None
    key_enrolled: bool = False
    driver: Driver | None = None

    @property
    def fabric(self) -> str:
        if not self.nvswitch:
            return rules.NO_FABRIC
        newest = max((gpu.capability for gpu in self.gpus if gpu.capability), default=(0, 0))
        return rules.NVLINK5 if newest >= rules.NVLINK5_CAPABILITY else rules.NVSWITCH


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to run, and what an operator, the lock or the host's own record fixes of the way there.

    vllm, torch, cuda: versions; cuda decides where it is given. route, driver_version: None leaves them to the rules.
    """

    vllm: str | None = None
    torch: str | None = None
    cuda: str | None = None
    manage: bool = True
    route: str | None = None
    driver_version: str | None = None
    container_toolkit: bool = False
    container_toolkit_version: str | None = None


@dataclass(frozen=True, slots=True)
class Package:
    """A package and the glob that its version must match; empty where any will do."""

    name: str
    version: str = ""
    kernel_only: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {"kernel_only": self.kernel_only, "name": self.name, "version": self.version}


@dataclass(frozen=True, slots=True)
class Stack:
    """What a host gets.

    driver_version: to the last digit; the branch alone where the repository keeps no old versions; of a present driver
    its own. oldest_driver: below it the engine does not start. repository: folder of NVIDIA's repository, empty where
    the distribution's is used. also_held: further packages that stand still with the driver. reasons: why it is so.
    """

    route: str
    driver_version: str
    oldest_driver: str
    fabric: str
    build: str = ""
    repository: str = ""
    module_stream: str = ""
    packages: tuple[Package, ...] = ()
    also_held: tuple[str, ...] = ()
    container_toolkit_version: str = ""
    reasons: tuple[str, ...] = ()

    @property
    def managed(self) -> bool:
        return self.route != PRESENT

    def as_dict(self) -> dict[str, Any]:
        return {
            "also_held": list(self.also_held),
            "build": self.build,
            "container_toolkit_version": self.container_toolkit_version,
            "driver_version": self.driver_version,
            "fabric": self.fabric,
            "module_stream": self.module_stream,
            "oldest_driver": self.oldest_driver,
            "packages": [package.as_dict() for package in self.packages],
            "reasons": list(self.reasons),
            "repository": self.repository,
            "route": self.route,
        }


def solve(machine: Machine, wish: Wish, findings: Findings) -> Stack | None:
    """The stack of a host; None where it was refused, which ``findings`` then says."""
    engine, cuda = _needs(wish)
    oldest = _oldest_driver(cuda, machine, findings)
    if oldest is None or not _drives(machine, engine, findings):
        return None
    kept = _kept(machine, wish)
    if kept:
        return _keep(machine, wish, kept, oldest, cuda, findings)
    platform = _platform(machine, findings)
    return _choose(machine, wish, platform, oldest, cuda, findings) if platform else None


def release_key(os: str | None, release: str | None) -> tuple[str, str]:
    """Distribution and release as the rules name them: the RHEL family by its major version."""
    if os in rules.RHEL_FAMILY:
        return "rhel", (release or "").split(".")[0]
    return os or "", release or ""


def version_key(version: str) -> tuple[int, ...]:
    """A driver's version to compare by.

    >>> version_key("580.65.06") < version_key("580.178.04")
    True
    """
    return tuple(int(part) for part in version.split(".") if part.isdecimal())


def _needs(wish: Wish) -> tuple[Engine, str]:
    """The engine whose needs count, and the CUDA that it is built for: that of a release unknown here is the newest."""
    for engine in rules.ENGINES:
        if wish.vllm == engine.vllm or (wish.vllm is None and wish.torch == engine.torch):
            return engine, wish.cuda or engine.cuda
    newest = rules.ENGINES[-1]
    return newest, wish.cuda or newest.cuda


def _oldest_driver(cuda: str, machine: Machine, findings: Findings) -> str | None:
    major = int(cuda.split(".")[0]) if cuda.split(".")[0].isdecimal() else 0
    if major in rules.OLDEST_DRIVERS:
        return rules.OLDEST_DRIVERS[major]
    findings.refuse(
        "unknown_cuda",
        machine.name,
        f"is to run CUDA {cuda}, and no driver is known for it",
        f"use CUDA {listing(str(known) for known in sorted(rules.OLDEST_DRIVERS))}",
    )
    return None


def _drives(machine: Machine, engine: Engine, findings: Findings) -> bool:
    """Whether engine and open kernel modules know every GPU of the host."""
    old = {gpu.name: gpu for gpu in machine.gpus if gpu.capability and gpu.capability < engine.oldest_capability}
    for name, gpu in sorted(old.items()):
        generation = _generation(gpu)
        findings.refuse(
            "gpu_too_old",
            machine.name,
            f"has {name}{f' ({generation.name})' if generation else ''} of compute capability "
            f"{_dotted(gpu.capability)}: vllm {engine.vllm} holds no code for it, "
            "and the open kernel modules do not drive it",
            f"use GPUs of compute capability {_dotted(engine.oldest_capability)} or newer",
            f"or take {machine.name} out of gpu_nodes",
        )
    return not old


def _generation(gpu: Gpu) -> Generation | None:
    return next((known for known in rules.GENERATIONS if gpu.capability in known.capabilities), None)


def _dotted(version: tuple[int, ...] | None) -> str:
    return ".".join(map(str, version or ()))


def _kept(machine: Machine, wish: Wish) -> Driver | None:
    """The driver that is not ours to change: a working one from elsewhere, and any where nothing is to be managed."""
    driver = machine.driver
    if not wish.manage:
        return driver or Driver("", works=False)
    return driver if driver and driver.works and not driver.ours else None


def _keep(machine: Machine, wish: Wish, driver: Driver, oldest: str, cuda: str, findings: Findings) -> Stack | None:
    """A driver that somebody else looks after: left as it is, where it will do."""
    packaged = f" ({driver.origin})" if driver.origin else ""
    if not driver.version:
        findings.refuse(
            "no_driver",
            machine.name,
            "has no NVIDIA driver, and gpu_host_manage is false",
            f"install a driver of {oldest} or newer",
            "or set gpu_host_manage: true, and it is installed",
        )
        return None
    if version_key(driver.version) < version_key(oldest):
        findings.refuse(
            "driver_too_old",
            machine.name,
            f"has driver {driver.version}{packaged}, and CUDA {cuda} needs {oldest} or newer",
            "upgrade the driver where it came from, or remove its packages and run again with gpu_host_manage: true",
        )
        return None
    if wish.manage:
        findings.warn(
            "driver_of_others",
            machine.name,
            f"has driver {driver.version}{packaged}, which this collection did not install: "
            "it is checked and left as it is",
            "set gpu_host_manage: false to say that this is meant",
            "or remove its packages and run again: the host then gets a pinned driver",
        )
    return Stack(
        route=PRESENT,
        driver_version=driver.version,
        oldest_driver=oldest,
        fabric=machine.fabric,
        reasons=(f"driver {driver.version} is there and is not ours to change",),
    )


def _platform(machine: Machine, findings: Findings) -> Platform | None:
    os, release = release_key(machine.os, machine.release)
    for platform in rules.PLATFORMS:
        if (platform.os, platform.release, platform.architecture) == (os, release, machine.architecture):
            return platform
    seen = " ".join(filter(None, (machine.os, machine.release, machine.architecture))) or "an unknown system"
    same = [platform for platform in rules.PLATFORMS if (platform.os, platform.release) == (os, release)]
    known = sorted({f"{platform.os} {platform.release}" for platform in rules.PLATFORMS})
    why = f": {same[0].note}" if same and same[0].note else ""
    findings.refuse(
        "unknown_platform",
        machine.name,
        f"runs {seen}, for which no driver packages are known{why}",
        f"use {listing(f'{platform.os} {platform.release} on {platform.architecture}' for platform in same)}"
        if same
        else f"use one of {', '.join(known)}",
        f"or install a driver by hand and set gpu_host_manage: false for {machine.name}",
    )
    return None


@dataclass(frozen=True, slots=True)
class _Problem:
    """Why one offer will not do."""

    code: str
    reason: str
    remedies: tuple[str, ...]


def _choose(
    machine: Machine, wish: Wish, platform: Platform, oldest: str, cuda: str, findings: Findings
) -> Stack | None:
    """The first offer that fits; where none does, what stands against the last, which could replace all before it."""
    offers = [offer for offer in platform.offers if wish.route in (None, offer.route.name)]
    if not offers:
        _refuse_route(machine, wish, platform, oldest, cuda, findings)
        return None
    problems: list[tuple[Offer, _Problem]] = []
    for offer in offers:
        branch, problem = _branch(wish, offer, oldest, cuda, platform)
        problem = problem or _obstacle(machine, offer)
        if branch and not problem:
            passed = [f"not by the route {other.route.name}: {why.reason}" for other, why in problems]
            return _assemble(machine, wish, platform, offer, branch, oldest, tuple(passed))
        if problem:
            problems.append((offer, problem))
    _offer, last = problems[-1]
    findings.refuse(last.code, machine.name, last.reason, *last.remedies)
    return None


def _refuse_route(machine: Machine, wish: Wish, platform: Platform, oldest: str, cuda: str, findings: Findings) -> None:
    system = f"{platform.os} {platform.release}"
    known = listing(offer.route.name for offer in platform.offers)
    if platform.archive and wish.route == platform.os:
        findings.refuse(
            "driver_too_old",
            machine.name,
            f"would get {system}'s own driver {platform.archive.version}, and CUDA {cuda} needs {oldest} or newer",
            f"set fleet_driver_route: {known}, or leave it out",
        )
        return
    findings.refuse(
        "unknown_route",
        machine.name,
        f"is to get its driver by the route {wish.route}, which {system} does not have",
        f"set fleet_driver_route to {known}, or leave it out",
    )


def _branch(
    wish: Wish, offer: Offer, oldest: str, cuda: str, platform: Platform
) -> tuple[Branch | None, _Problem | None]:
    """The driver's branch and release: as it was fixed, else the longest maintained that the route has."""
    wanted = wish.driver_version
    number = version_key(wanted)[0] if wanted and version_key(wanted) else None
    system = f"{platform.os} {platform.release}"
    if wanted and (number not in offer.branches or not all(part.isdecimal() for part in wanted.split("."))):
        note = f" ({platform.note})" if platform.note else ""
        return None, _Problem(
            "no_such_branch",
            f"is to get driver {wanted}, and the route {offer.route.name} of {system} has the branches "
            f"{listing(map(str, offer.branches))}{note}",
            (
                f"set fleet_driver_version to a version of those, such as {_branches(offer)[0].version}",
                "or leave it out, and take the host out of host_stack.json",
            ),
        )
    branch = next(branch for branch in _branches(offer) if number in (None, branch.number))
    if wanted and len(version_key(wanted)) > 1:
        branch = replace(branch, version=wanted)
    if version_key(branch.version) < version_key(oldest):
        return None, _Problem(
            "driver_too_old",
            f"is to get driver {branch.version}, and CUDA {cuda} needs {oldest} or newer",
            (f"set fleet_driver_version to {_branches(offer)[0].version}, or leave it out",),
        )
    return branch, None


def _branches(offer: Offer) -> list[Branch]:
    """The branches of an offer, the longest maintained first."""
    return [branch for branch in rules.BRANCHES if branch.number in offer.branches]


def _obstacle(machine: Machine, offer: Offer) -> _Problem | None:
    """What of the host itself stands against an offer."""
    route = offer.route
    if machine.fabric not in route.fabrics:
        return _Problem(
            "no_fabric_packages",
            f"has GPUs joined by NVLink 5 switches, and the route {route.name} has no subnet manager (nvlsm) for them",
            (f"set fleet_driver_route: {rules.NVIDIA}, or leave it out",),
        )
    if route.build == rules.DKMS and machine.secure_boot and not machine.key_enrolled:
        return _Problem(
            "secure_boot",
            f"boots with Secure Boot, and the kernel modules of the route {route.name} are built on the host (DKMS), "
            "signed with a key that its firmware does not trust: it would come up without a driver",
            ENROL,
        )
    return None


def _assemble(
    machine: Machine,
    wish: Wish,
    platform: Platform,
    offer: Offer,
    branch: Branch,
    oldest: str,
    passed: tuple[str, ...],
) -> Stack:
    route = offer.route
    words = {
        "branch": str(branch.number),
        "suffix": f"-{branch.number}" if branch.number < rules.FIRST_WITHOUT_SUFFIX else "",
        "kernel": machine.kernel or "generic",
        "flavour": kernel_flavour(machine.kernel, platform),
    }
    glob = f"{branch.version}-*" if route.exact else f"{branch.number}.*"
    packages = [
        *_packages(route.driver, machine, words, glob),
        *_packages(route.fabrics[machine.fabric], machine, words, glob),
    ]
    toolkit = (wish.container_toolkit_version or rules.CONTAINER_TOOLKIT) if wish.container_toolkit else ""
    if toolkit:
        packages += [Package(name, f"{toolkit}-*") for name in rules.TOOLKIT_PACKAGES]
    return Stack(
        route=route.name,
        build=route.build,
        driver_version=branch.version if route.exact else str(branch.number),
        oldest_driver=oldest,
        fabric=machine.fabric,
        repository=offer.repository or "",
        module_stream=route.stream.format(**words) if route.stream else "",
        packages=tuple(packages),
        also_held=tuple(name.format(**words) for name in route.also_held),
        container_toolkit_version=toolkit,
        reasons=(*passed, *_reasons(machine, offer, branch)),
    )


def _packages(wanted: tuple[Wanted, ...], machine: Machine, words: dict[str, str], glob: str) -> Iterator[Package]:
    for item in wanted:
        if machine.architecture in item.architectures:
            yield Package(item.name.format(**words), glob if item.follows_driver else "", item.kernel_only)


def _reasons(machine: Machine, offer: Offer, branch: Branch) -> Iterator[str]:
    yield f"branch {branch.number} is the {branch.kind} branch until {branch.ends} and runs CUDA {branch.cuda}"
    if offer.route.build == rules.SIGNED:
        yield "its kernel modules come signed by the distribution, so Secure Boot and new kernels are no trouble"
    open_only = {gpu.name for gpu in machine.gpus if _needs_open_modules(gpu)}
    if open_only:
        yield f"{listing(sorted(open_only))} runs on open kernel modules only"
    if machine.fabric != rules.NO_FABRIC:
        manager = "fabric manager and NVLink subnet manager" if machine.fabric == rules.NVLINK5 else "fabric manager"
        yield f"{counted(len(machine.gpus), 'GPU')} on NVSwitches need the {manager} of exactly the driver's version"


def _needs_open_modules(gpu: Gpu) -> bool:
    generation = _generation(gpu)
    return generation is not None and rules.PROPRIETARY not in generation.modules


def kernel_flavour(kernel: str | None, platform: Platform) -> str:
    """The series of a kernel, as packages that follow it are named.

    ``6.1.0-38-cloud-amd64`` is of ``cloud-amd64``, ``6.8.0-90-generic`` of ``generic``. The same flavour of a kernel
    newer than an Ubuntu release's own is of the hardware enablement series, ``generic-hwe-24.04``.
    """
    match = KERNEL_RELEASE.fullmatch(kernel or "")
    if not match:
        return platform.flavour
    flavour, own = match[1], platform.general_kernel
    if flavour in ("generic", "lowlatency") and own and not (kernel or "").startswith(f"{own}."):
        return f"{flavour}-hwe-{platform.release}"
    return flavour
