# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what a host is: system, processors, memory and its limit, disks, network.

``root`` stands for ``/``, so that a recording of another host can be read; ``run`` calls a program within a time
limit. Sizes are in bytes. What cannot be read is None or empty: a fact less is no reason to fail.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.serving.plugins.module_utils._cgroup import memory_limit
from ansible_collections.gpufleet.serving.plugins.module_utils._command import Outcome
from ansible_collections.gpufleet.serving.plugins.module_utils._sysfs import read_text

Run = Callable[[list[str]], Outcome]

BYTES_PER_KIB = 1024


def read_host(root: Path, run: Run, paths: Iterable[str]) -> dict[str, Any]:
    """Return the facts of the host as the module documents them under ``host``."""
    memory = _memory(root)
    hostname = read_text(root / "proc/sys/kernel/hostname") or platform.node()
    interfaces = parse_interfaces(run(["ip", "-json", "addr", "show"]).stdout)
    default_interface = _default_interface(run)
    return {
        "hostname": hostname,
        "kernel": read_text(root / "proc/sys/kernel/osrelease") or platform.release(),
        "architecture": platform.machine(),
        "os": read_os(root),
        "python_version": platform.python_version(),
        "glibc": _glibc(),
        "cpu": read_cpu(root),
        "memory_total_bytes": memory.get("MemTotal"),
        "memory_available_bytes": memory.get("MemAvailable"),
        "cgroup_memory_limit_bytes": memory_limit(root, memory.get("MemTotal", 0)),
        "numa_nodes": read_numa_nodes(root),
        "disks": {path: measure_disk(path) for path in paths},
        "interfaces": interfaces,
        "default_interface": default_interface,
        "default_address": first_address(interfaces, default_interface),
        "fqdn_address": _own_address(run, hostname),
    }


def read_os(root: Path) -> dict[str, str | None]:
    """Return id, version and name of the distribution from os-release (``/etc`` first, as os-release(5) says)."""
    text = read_text(root / "etc/os-release") or read_text(root / "usr/lib/os-release") or ""
    values = {
        key: value.strip("\"'")
        for key, separator, value in (line.partition("=") for line in text.splitlines())
        if separator
    }
    return {"id": values.get("ID"), "version_id": values.get("VERSION_ID"), "name": values.get("PRETTY_NAME")}


def read_cpu(root: Path) -> dict[str, Any]:
    """Return the processors of /proc/cpuinfo; only x86 tells of ``physical`` cores and ``sockets``, else None."""
    text = read_text(root / "proc/cpuinfo") or ""
    processors = [dict(_cpuinfo_pairs(block)) for block in text.split("\n\n") if block.startswith("processor")]
    cores = {(cpu.get("physical id"), cpu.get("core id")) for cpu in processors if "core id" in cpu}
    sockets = {cpu["physical id"] for cpu in processors if "physical id" in cpu}
    first = processors[0] if processors else {}
    return {
        "model": first.get("model name"),
        "logical": len(processors),
        "physical": len(cores) or None,
        "sockets": len(sockets) or None,
        "flags_avx512": "avx512f" in first.get("flags", "").split(),
    }


def read_numa_nodes(root: Path) -> list[dict[str, int]]:
    """Return the NUMA nodes by number, with how many logical CPUs and how much memory each has."""
    nodes = []
    for path in (root / "sys/devices/system/node").glob("node[0-9]*"):
        memory = re.search(r"MemTotal:\s+(\d+) kB", read_text(path / "meminfo") or "")
        nodes.append(
            {
                "id": int(path.name[len("node") :]),
                "cpus": count_cpu_list(read_text(path / "cpulist") or ""),
                "memory_bytes": int(memory[1]) * BYTES_PER_KIB if memory else 0,
            }
        )
    return sorted(nodes, key=lambda node: node["id"])


def count_cpu_list(text: str) -> int:
    """Count the CPUs of a kernel CPU list.

    >>> count_cpu_list("0-3,8,10-11")
    7
    """
    count = 0
    for part in filter(None, text.split(",")):
        first, dash, last = part.partition("-")
        count += int(last) - int(first) + 1 if dash else 1
    return count


def measure_disk(path: str) -> dict[str, Any]:
    """Return free (to a service user) and total bytes of the disk of ``path``, or of its nearest parent there is."""
    measured_at = next(parent for parent in (Path(path), *Path(path).parents) if os.path.exists(parent))
    usage = os.statvfs(measured_at)
    return {
        "free_bytes": usage.f_bavail * usage.f_frsize,
        "total_bytes": usage.f_blocks * usage.f_frsize,
        "measured_at": str(measured_at),
    }


def parse_interfaces(text: str) -> list[dict[str, Any]]:
    """Parse ``ip -json addr show`` into interfaces with their addresses, the loopback left out."""
    return [
        {
            "name": link["ifname"],
            "state": link.get("operstate", "UNKNOWN").lower(),
            "mtu": link.get("mtu"),
            "mac": link.get("address"),
            "addresses": [
                {"address": entry["local"], "prefix": entry["prefixlen"], "family": entry["family"]}
                for entry in link.get("addr_info", [])
                if "local" in entry
            ],
        }
        for link in _json_list(text)
        if link.get("ifname") and link.get("link_type") != "loopback"
    ]


def parse_default_interface(text: str) -> str | None:
    """Parse ``ip -json route show default`` into the interface of the route that the kernel prefers."""
    routes = [route for route in _json_list(text) if route.get("dev")]
    return min(routes, key=lambda route: route.get("metric", 0))["dev"] if routes else None


def first_address(interfaces: list[dict[str, Any]], name: str | None) -> str | None:
    """Return the first address of an interface, IPv4 before IPv6: what the kernel speaks from by default."""
    addresses = [entry for interface in interfaces if interface["name"] == name for entry in interface["addresses"]]
    return next((entry["address"] for entry in sorted(addresses, key=lambda entry: entry["family"])), None)


def _memory(root: Path) -> dict[str, int]:
    pairs = re.findall(r"^(\w+):\s+(\d+) kB$", read_text(root / "proc/meminfo") or "", re.MULTILINE)
    return {name: int(kib) * BYTES_PER_KIB for name, kib in pairs}


def _cpuinfo_pairs(block: str) -> Iterable[tuple[str, str]]:
    for line in block.splitlines():
        name, _colon, value = line.partition(":")
        yield name.strip(), value.strip()


def _glibc() -> str | None:
    try:
        library, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").split()
    except (ValueError, OSError):
        return None
    return version if library == "glibc" else None


def _default_interface(run: Run) -> str | None:
    outputs = (run(["ip", "-json", family, "route", "show", "default"]).stdout for family in ("-4", "-6"))
    return next(filter(None, map(parse_default_interface, outputs)), None)


def _own_address(run: Run, hostname: str) -> str | None:
    words = run(["getent", "ahosts", hostname]).stdout.split()
    return words[0] if words else None


def _json_list(text: str) -> list[dict[str, Any]]:
    try:
        value = json.loads(text or "[]")
    except ValueError:
        return []
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
