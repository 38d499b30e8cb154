# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The driver stack of every GPU host of a fleet that was asked.

What decides on a host's driver, the first that says something: the inventory's words, the lock file beside it
(``host_stack.json``), what is applied on the host, the tables. So a host keeps its driver until somebody wants another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ._applied import Applied
from ._devices import CUDA
from ._findings import Findings
from ._fleet import Fleet, Host
from ._host_facts import capability, machine
from ._host_stack import PRESENT, ROUTES, Gpu, Stack, Wish, solve
from ._reading import Reader
from ._settings import Settings
from ._text import natural_key

KUBERNETES = frozenset({"k3s_servers", "k3s_agents"})
"""Groups whose hosts run containers."""
LOCKED = ("container_toolkit_version", "driver_version", "route")
"""What of a stack the lock file fixes; the rest follows from it."""


def solve_stacks(
    hosts: Any, fleet: Fleet, applied: Applied, settings: Settings, findings: Findings
) -> dict[str, dict[str, Any]]:
    """Host -> its stack, as the role gpu_host takes it. ``hosts``: the plain ``hosts`` of the plan's input.

    A host that does not tell its system has none.
    """
    lock = Reader(settings.host_stacks, "host_stack.json", findings)
    stacks = {}
    for host in fleet.planned("gpu_nodes"):
        if fleet.accelerator(host) != CUDA:
            continue
        reader = Reader(hosts[host.name], host.name, findings)
        if _tells_its_system(reader):
            before = applied.options(host.name, "gpu_host").get("gpu_host_stack")
            stack = _solve(host, reader, lock, before if isinstance(before, dict) else {}, settings, findings)
            if stack:
                stacks[host.name] = _unless_live(host, stack.as_dict(), before, applied, findings)
    return stacks


def lock_file(plan: Mapping[str, Any], former: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the lock file holds: what is fixed of each managed host's stack, and its packages for reading.

    former: the entries as they are. Of hosts that nobody asked they are kept; hosts that left are forgotten.
    """
    entries = {}
    for name, host in plan["hosts"].items():
        if host["stack"] is None and name in (former or {}):
            entries[name] = dict((former or {})[name])
        elif host["stack"] and host["stack"]["route"] != PRESENT:
            packages = {package["name"]: package["version"] for package in host["stack"]["packages"]}
            entries[name] = {**{word: host["stack"][word] for word in LOCKED}, "packages": packages}
    return {"hosts": {name: entries[name] for name in sorted(entries, key=natural_key)}}


def _tells_its_system(reader: Reader) -> bool:
    facts = Reader(reader.get("facts") or {}, reader.path, reader.findings)
    machine = Reader(facts.mapping("host"), reader.path, reader.findings)
    return bool(machine.mapping("os").get("id"))


def _solve(
    host: Host, reader: Reader, lock: Reader, before: Mapping[str, Any], settings: Settings, findings: Findings
) -> Stack | None:
    facts = Reader(reader.mapping("facts"), host.name, findings)
    state = Reader(reader.mapping("preflight"), host.name, findings)
    ours = before.get("route") in ROUTES
    return solve(
        machine(host.name, facts, state, _gpus(facts, host), ours),
        _wish(host, reader, Reader(lock.mapping(host.name), lock.at(host.name), findings), before, settings),
        findings,
    )


def _gpus(facts: Reader, host: Host) -> Iterator[Gpu]:
    """The GPUs as the host tells them, under the keys that the planner has settled on."""
    keys = {device.index: device.key.split("/")[0] for device in host.devices}
    for path, item in facts.each("gpus"):
        gpu = Reader(item, path, facts.findings)
        name = keys.get(gpu.integer("index", 0, least=0) or 0) or gpu.text("name") or "a GPU"
        yield Gpu(name, capability(gpu.text("compute_capability")))


def _wish(host: Host, reader: Reader, locked: Reader, before: Mapping[str, Any], settings: Settings) -> Wish:
    manage = reader.flag("gpu_host_manage", default=True)
    former = {word: before.get(word) or None for word in LOCKED} if before.get("route") in ROUTES else {}
    containers = bool(host.groups & KUBERNETES) or reader.flag("fleet_container_toolkit")
    route = reader.text("fleet_driver_route") or locked.text("route") or former.get("route")
    version = reader.text("fleet_driver_version") or locked.text("driver_version")
    return Wish(
        vllm=settings.engine_versions.get(CUDA),
        manage=manage,
        route=None if route == PRESENT else route,
        driver_version=version or former.get("driver_version"),
        container_toolkit=containers,
        container_toolkit_version=locked.text("container_toolkit_version", pattern=".*")
        or former.get("container_toolkit_version"),
    )


def _unless_live(
    host: Host, stack: dict[str, Any], before: Any, applied: Applied, findings: Findings
) -> dict[str, Any]:
    """The stack, or the applied one where it has another driver and a replica serves on the host."""
    live = [replica.name for replica in applied.on(host.name) if replica.live]
    if not live or not isinstance(before, dict) or all(before.get(word) == stack[word] for word in LOCKED):
        return stack
    findings.warn(
        "stack_waits",
        host.name,
        f"would go from driver {before.get('driver_version')} to {stack['driver_version']}, and {live[0]} serves on "
        "it: the driver stays as it is",
        f"stop the replicas of {host.name} and run again",
    )
    return before
