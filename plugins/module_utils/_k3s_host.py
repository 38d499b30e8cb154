# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host tells of k3s: pure parsers of a version, a process' environment, containerd's settings and the routes."""

from __future__ import annotations

import re

UNITS = {"server": "k3s.service", "agent": "k3s-agent.service"}
"""What k3s' installer names the unit of each kind of node. Source: its install.sh."""
STAMP = "GPUFLEET_STAMP"
"""The variable by which a running k3s tells what it was started with."""
VERSION = re.compile(r"^k3s version (\S+)", re.MULTILINE)
RUNTIME = re.compile(r"^\s*\[[^\]]*\bruntimes\.['\"]?([A-Za-z0-9-]+)['\"]?\]\s*$", re.MULTILINE)
UP = 0x1
"""A flag of a route. Source: linux/route.h."""


def version(text: str) -> str | None:
    """The version in what ``k3s --version`` prints."""
    found = VERSION.search(text)
    return found.group(1) if found else None


def stamp(environment: bytes) -> str | None:
    """The stamp in a process' environment, as ``/proc/<pid>/environ`` holds it."""
    for entry in environment.split(b"\0"):
        name, _equals, value = entry.decode("utf-8", "replace").partition("=")
        if name == STAMP:
            return value
    return None


def runtimes(settings: str) -> list[str]:
    """The container runtimes in containerd's settings, of its formats 2 and 3."""
    return sorted(set(RUNTIME.findall(settings)))


def has_default_route(ipv4: str, ipv6: str) -> bool:
    """Whether there is a way to everywhere. ipv4: of ``/proc/net/route``; ipv6: of ``/proc/net/ipv6_route``."""
    for line in ipv4.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == fields[7] == "00000000" and int(fields[3], 16) & UP:
            return True
    for line in ipv6.splitlines():
        fields = line.split()
        if len(fields) > 9 and set(fields[0]) == {"0"} and fields[1] == "00" and fields[9] != "lo":
            return True
    return False
