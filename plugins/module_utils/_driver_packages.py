# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which packages a driver consists of on a host, whether they are of one version, and how they are held there."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

DRIVER_NAMES = (
    "nvidia-*",
    "libnvidia-*",
    "libcuda1",
    "libcudadebugger1",
    "libnvcuvid1",
    "libnvoptix1",
    "libnvsdm*",
    "firmware-nvidia-*",
    "kmod-nvidia-*",
    "xserver-xorg-video-nvidia*",
)
"""Names of packages that a driver's packages pull in, whose versions must not part from its own."""

OF_THEIR_OWN = ("nvidia-settings", "nvidia-prime")
"""Packages with such names whose versions follow no driver."""
DRIVER_VERSION = re.compile(r"\d{3}\.")
"""How a driver's version begins, and no toolkit's: 580.178.04, but 1.19.1 and 2025.10.12."""

LOCK_BEGIN = "# gpufleet: the NVIDIA driver's packages, begin"
LOCK_END = "# gpufleet: the NVIDIA driver's packages, end"

_EPOCH = re.compile(r"^\d+:")


@dataclass(frozen=True)
class Installed:
    """An installed package; ``version`` with epoch and revision as the package manager writes it."""

    name: str
    version: str
    held: bool = False

    @property
    def upstream(self) -> str:
        """The version of what is packaged: ``3:580.178.04-1.el9`` and ``580.178.04-0ubuntu1`` are of 580.178.04."""
        return _EPOCH.sub("", self.version).split("-")[0]


def parse_dpkg(text: str) -> dict[str, Installed]:
    """Parse rows of name, wanted state, state and version, as ``DPKG_FORMAT`` asks for them."""
    rows = (line.split("\t") for line in text.splitlines())
    return {
        row[0]: Installed(row[0], row[3], held=row[1] == "hold")
        for row in rows
        if len(row) == 4 and row[2] == "installed"
    }


def parse_rpm(text: str, lock: str) -> dict[str, Installed]:
    """Parse rows of name and version; ``lock`` is dnf's list of locked versions."""
    locked = set(locked_entries(lock))
    rows = (line.split("\t") for line in text.splitlines())
    return {
        row[0]: Installed(row[0], row[1], held=lock_entry(row[0], row[1]) in locked) for row in rows if len(row) == 2
    }


def lock_entry(name: str, version: str) -> str:
    """A package as dnf's versionlock names it.

    >>> lock_entry("nvidia-driver-cuda", "3:580.178.04-1.el9")
    'nvidia-driver-cuda-3:580.178.04-1.el9.*'
    """
    return f"{name}-{version}.*"


def locked_entries(text: str) -> list[str]:
    """The entries of our part of dnf's list."""
    lines = text.splitlines()
    if LOCK_BEGIN not in lines or LOCK_END not in lines:
        return []
    return lines[lines.index(LOCK_BEGIN) + 1 : lines.index(LOCK_END)]


def with_locks(text: str, entries: Iterable[str]) -> str:
    """dnf's list with our part as given, at its end; without entries, without our part."""
    lines = text.splitlines()
    if LOCK_BEGIN in lines and LOCK_END in lines:
        del lines[lines.index(LOCK_BEGIN) : lines.index(LOCK_END) + 1]
    ours = sorted(entries)
    if ours:
        lines += [LOCK_BEGIN, *ours, LOCK_END]
    return "".join(f"{line}\n" for line in lines)


def faults(wanted: Mapping[str, str], installed: Mapping[str, Installed]) -> list[str]:
    """What is not as it should be, one sentence each. ``wanted``: name -> glob of its version, or empty for any."""
    found = []
    for name, glob in wanted.items():
        package = installed.get(name)
        if package is None:
            found.append(f"{name} is not installed.")
        elif glob and not fnmatch.fnmatchcase(_EPOCH.sub("", package.version), glob):
            found.append(f"{name} is installed as {package.version}, and {glob} is wanted.")
    found += [f"{name} is of another driver, {installed[name].version}." for name in strays(wanted, installed)]
    versions = _versions(wanted, installed)
    if len(set(versions.values())) > 1:
        told = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        found.append(f"The driver's packages are of several versions ({told}): they work only with their like.")
    return found


def strays(wanted: Mapping[str, str], installed: Mapping[str, Installed]) -> list[str]:
    """What came with another driver and stayed: installed packages of a driver, in none of the versions wanted of it.

    No package manager moves them by itself, because their dependencies allow any version.
    """
    globs = [glob for glob in wanted.values() if DRIVER_VERSION.match(glob)]
    return sorted(
        name
        for name, package in installed.items()
        if globs
        and name not in wanted
        and _is_of_a_driver(package)
        and not any(fnmatch.fnmatchcase(_EPOCH.sub("", package.version), glob) for glob in globs)
    )


def driver_version(wanted: Mapping[str, str], installed: Mapping[str, Installed]) -> str | None:
    """The one version that the driver's packages have; None where none is there or they differ."""
    versions = set(_versions(wanted, installed).values())
    return versions.pop() if len(versions) == 1 else None


def to_hold(wanted: Mapping[str, str], also: Iterable[str], installed: Mapping[str, Installed]) -> list[str]:
    """The packages that must stand still: the driver's, whatever came with them in its version, and ``also``."""
    version = driver_version(wanted, installed)
    companions = [
        name for name, package in installed.items() if package.upstream == version and _is_of_a_driver(package)
    ]
    pinned = [name for name, glob in wanted.items() if glob]
    return sorted({name for name in (*companions, *pinned, *also) if name in installed})


def _versions(wanted: Mapping[str, str], installed: Mapping[str, Installed]) -> dict[str, str]:
    """The version of each of the driver's own packages: those whose wanted version begins with a driver's branch."""
    return {
        name: installed[name].upstream
        for name, glob in wanted.items()
        if name in installed and DRIVER_VERSION.match(glob)
    }


def _is_of_a_driver(package: Installed) -> bool:
    """Whether a package belongs to a driver, by its name and by how its version begins."""
    named = any(fnmatch.fnmatchcase(package.name, glob) for glob in DRIVER_NAMES) and package.name not in OF_THEIR_OWN
    return named and DRIVER_VERSION.match(package.upstream) is not None
