# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the memory limit that a host or container as a whole lives under, with cgroups v1, v2 or both.

The cgroup asked is that of process 1, not that of the caller: a limit on the login session says nothing about services.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ansible_collections.gpufleet.serving.plugins.module_utils._sysfs import read_text

_MOUNT = re.compile(
    r"^\d+ \d+ \S+ (?P<root>\S+) (?P<point>\S+) .* - (?P<type>cgroup2?) \S+ (?P<options>\S+)$", re.MULTILINE
)
_HIERARCHICAL_LIMIT = re.compile(r"^hierarchical_memory_limit (\d+)$", re.MULTILINE)


@dataclass(frozen=True)
class CgroupMount:
    """A mounted cgroup hierarchy: which part of it (``shown``) is seen at which directory (``point``)."""

    shown: PurePosixPath
    point: PurePosixPath

    def directories(self, cgroup: PurePosixPath) -> list[PurePosixPath]:
        """Return the visible directories of a cgroup and of all its ancestors, innermost first.

        A container may see its cgroup named as the host names it while the mount shows only that cgroup: then the mount
        point is all there is.
        """
        try:
            inside = self.point / cgroup.relative_to(self.shown)
        except ValueError:
            inside = self.point
        return [inside, *(parent for parent in inside.parents if self.point in (parent, *parent.parents))]


def memory_limit(root: Path, memory_total_bytes: int) -> int | None:
    """Return the limit in bytes; None where there is none below the memory that the host has.

    v1 has no word for "no limit" and writes almost 2**63.
    """
    mounts = read_text(root / "proc/self/mountinfo") or ""
    cgroups = read_text(root / "proc/1/cgroup") or ""
    limits = [*_v1_limits(root, mounts, cgroups), *_v2_limits(root, mounts, cgroups)]
    return min((limit for limit in limits if limit < memory_total_bytes), default=None)


def _v1_limits(root: Path, mounts: str, cgroups: str) -> list[int]:
    # The kernel itself tells the least limit of a v1 cgroup and its ancestors, with those that a container cannot see.
    directories = _directories(mounts, "cgroup", "memory", cgroups)
    statistics = (read_text(_below(root, directory) / "memory.stat") for directory in directories)
    return [int(match[1]) for match in map(_HIERARCHICAL_LIMIT.search, filter(None, statistics)) if match]


def _v2_limits(root: Path, mounts: str, cgroups: str) -> list[int]:
    directories = _directories(mounts, "cgroup2", "", cgroups)
    values = (read_text(_below(root, directory) / "memory.max") for directory in directories)
    return [int(value) for value in values if value and value.isdecimal()]


def _directories(mounts: str, kind: str, controller: str, cgroups: str) -> list[PurePosixPath]:
    mount = _mount(mounts, kind, controller)
    cgroup = _cgroup(cgroups, controller)
    return mount.directories(cgroup) if mount and cgroup else []


def _mount(mounts: str, kind: str, controller: str) -> CgroupMount | None:
    for match in _MOUNT.finditer(mounts):
        if match["type"] == kind and (not controller or controller in match["options"].split(",")):
            return CgroupMount(shown=PurePosixPath(match["root"]), point=PurePosixPath(match["point"]))
    return None


def _cgroup(cgroups: str, controller: str) -> PurePosixPath | None:
    """Find the path in /proc/<pid>/cgroup: ``N:controllers:path`` for v1, ``0::path`` for v2 (no controllers)."""
    for line in cgroups.splitlines():
        _hierarchy, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return PurePosixPath(path)
    return None


def _below(root: Path, absolute: PurePosixPath) -> Path:
    return root / absolute.relative_to("/")
