# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is applied: the previous plan, put together from the files that the roles left on the hosts.

A host that does not answer is known from the last copy of the whole plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ._findings import Findings
from ._fleet import Fleet
from ._measured import Measured, UnreadableError, read_measured
from ._placement import Ports
from ._reading import Reader, is_whole
from ._text import natural_key
from ._units_by_host import UnitsByHost
from ._weights import Layout, layout_of

ROLES = ("gpu_host", "engine", "model_store", "perimeter", "k3s", "serve", "vllm_stack", "gateway")
"""The roles whose options come from the plan, in the order in which they run."""


@dataclass(frozen=True, slots=True)
class AppliedReplica(UnitsByHost):
    """One replica as it was last put onto its hosts.

    units: host -> the options of its unit there, word for word, the head's first; empty for a stray. active: systemd
    runs it on every host. live: active, and its port answers. measured: what was measured of it under these options, if
    anything.
    """

    name: str
    model: str
    units: dict[str, dict[str, Any]]
    active: bool = False
    live: bool = False
    measured: Measured | None = None

    @property
    def devices(self) -> tuple[str, ...]:
        """Those of the head."""
        return tuple(self.unit["devices"])

    @property
    def devices_by_host(self) -> dict[str, list[str]]:
        return {host: unit["devices"] for host, unit in self.units.items()}

    @property
    def port(self) -> int:
        return int(self.unit["port"])

    @property
    def ports(self) -> Ports:
        return Ports(self.port, self.unit.get("group", {}).get("master_port"))

    @property
    def layout(self) -> Layout:
        return layout_of(self.unit["config"])

    @property
    def index(self) -> int:
        return int(self.name.rpartition("-")[2])


@dataclass(frozen=True)
class Applied:
    """The previous state of the fleet.

    roles: host -> role -> its options. replicas: the recorded replicas of every host, in natural order of their hosts.
    strays: host -> replicas that are there and stand in no record, as an interrupted run leaves them, and whether they
    are live. last_hosts: the hosts of the last plan, of which some may have left the inventory, each with the devices
    that it had (``id``, ``key``, ``usable_gib``). basis: model -> the measured figures that the last plan's number of
    replicas rested on, as ``_basis`` reads them.
    """

    roles: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    replicas: tuple[AppliedReplica, ...] = ()
    strays: dict[str, dict[str, bool]] = field(default_factory=dict)
    last_hosts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    last_tier: int | None = None
    basis: dict[str, Any] = field(default_factory=dict)

    def on(self, host: str) -> list[AppliedReplica]:
        """The replicas that have a unit on a host."""
        return self._by_host.get(host, [])

    @cached_property
    def _by_host(self) -> dict[str, list[AppliedReplica]]:
        found: dict[str, list[AppliedReplica]] = {}
        for replica in self.replicas:
            for host in replica.hosts:
                found.setdefault(host, []).append(replica)
        return found

    def options(self, host: str, role: str) -> dict[str, Any]:
        return self.roles.get(host, {}).get(role, {})


def read_applied(value: Any, fleet: Fleet, findings: Findings) -> Applied:
    """The previous plan from plain data: ``{"hosts": {host: {"roles", "replicas", "measured"}}, "plan": last}``.

    The part of hosts that do not answer, or have left the inventory, is taken from the last copy of the plan.
    """
    previous = Reader({} if value is None else value, "previous", findings)
    last_plan = Reader(previous.mapping("plan"), "the last plan", findings)
    last_hosts = {
        name: _devices(host) for name, host in sorted(last_plan.mapping("hosts").items(), key=_by_name) if name
    }
    silent = [name for name in last_hosts if name not in fleet.hosts or not fleet.hosts[name].planned]
    answers, last_shares = previous.mapping("hosts"), last_plan.mapping("shares")
    roles: dict[str, dict[str, dict[str, Any]]] = {}
    replicas: list[AppliedReplica] = []
    strays: dict[str, dict[str, bool]] = {}
    for name in sorted({*answers, *silent}, key=natural_key):
        answer = Reader(answers.get(name, {}), f"what is applied on {name}", findings)
        running = answer.mapping("replicas")
        roles[name] = _recorded(answer) if name in answers else _remembered(last_shares.get(name))
        recorded = list(_replicas(name, roles[name], running, answer.mapping("measured"), findings))
        replicas += recorded
        unrecorded = sorted(set(running) - {replica.name for replica in recorded}, key=natural_key)
        strays[name] = {replica: _says(running[replica], "live") for replica in unrecorded}
    tier, basis = last_plan.integer("tier", most=5), last_plan.mapping("basis")
    return Applied(roles, _joined(replicas), strays, last_hosts, tier, basis)


def _recorded(answer: Reader) -> dict[str, dict[str, Any]]:
    """The options of each role, from what a host answered."""
    parts = answer.mapping("roles").items()
    return _options({role: part.get("options") for role, part in parts if isinstance(part, dict)})


def _remembered(share: Any) -> dict[str, dict[str, Any]]:
    """The options of each role, from a host's share of the last plan."""
    return _options(share if isinstance(share, dict) else {})


def _options(roles: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Options without the ids of the shares that they came in."""
    return {
        role: {name: value for name, value in options.items() if name != f"{role}_share_id"}
        for role, options in sorted(roles.items())
        if isinstance(options, dict)
    }


def _by_name(item: tuple[str, Any]) -> tuple[tuple[int, int, str], ...]:
    return natural_key(item[0])


def _devices(host: Any) -> list[dict[str, Any]]:
    """The devices of a host of the last plan, as far as they can be read."""
    devices = host.get("devices") if isinstance(host, dict) else None
    wanted = {"id": str, "key": str, "usable_gib": int | float}
    return [
        {word: device[word] for word in wanted}
        for device in (devices if isinstance(devices, list) else [])
        if isinstance(device, dict) and all(isinstance(device.get(word), kind) for word, kind in wanted.items())
    ]


def _replicas(
    host: str,
    roles: dict[str, dict[str, Any]],
    running: dict[str, Any],
    measured: dict[str, Any],
    findings: Findings,
) -> Iterator[AppliedReplica]:
    units = roles.get("serve", {}).get("serve_units")
    for unit in units if isinstance(units, list) else []:
        if not _is_unit(unit):
            findings.warn(
                "applied_unreadable",
                host,
                "its record of a replica cannot be read and is taken as absent",
                "look at /etc/ansible/facts.d/gpufleet_serve.fact on the host",
            )
            continue
        state = running.get(unit["name"])
        figures = _measured(host, unit, measured.get(unit["name"]), findings)
        yield AppliedReplica(
            unit["name"], unit["model"], {host: unit}, _says(state, "active"), _says(state, "live"), figures
        )


def _joined(parts: list[AppliedReplica]) -> tuple[AppliedReplica, ...]:
    """The replicas, those over several hosts made whole from their hosts' parts."""
    groups: dict[tuple[str, tuple[str, ...]], list[AppliedReplica]] = {}
    for part in parts:
        groups.setdefault((part.name, tuple(part.unit.get("group", {}).get("hosts", part.hosts))), []).append(part)
    return tuple(_whole(hosts, members) for (_name, hosts), members in groups.items())


def _whole(hosts: tuple[str, ...], members: list[AppliedReplica]) -> AppliedReplica:
    """One replica of its hosts' parts; what a lost record leaves out is not there, and without its head it is dead."""
    first, *others = sorted(
        members, key=lambda member: hosts.index(member.host) if member.host in hosts else len(hosts)
    )
    return replace(
        first,
        units={member.host: member.unit for member in (first, *others)},
        active=len(members) == len(hosts) and all(member.active for member in members),
        live=first.live and first.host == hosts[0],
    )


def _measured(host: str, unit: dict[str, Any], entry: Any, findings: Findings) -> Measured | None:
    try:
        return read_measured(entry, unit) if entry is not None else None
    except UnreadableError as error:
        findings.warn(
            "measured_unreadable",
            host,
            f"what was measured of {unit['name']} cannot be read and is left out: {error}",
            "remove /etc/ansible/facts.d/gpufleet_measured.fact on the host; verify.yml writes it anew",
        )
        return None


def _says(state: Any, word: str) -> bool:
    return isinstance(state, dict) and state.get(word) is True


def _is_unit(unit: Any) -> bool:
    """Whether this is a unit as a share holds it, as far as the planner relies on it."""
    if not isinstance(unit, dict) or not isinstance(unit.get("config"), dict):
        return False
    name, model, index = unit.get("name"), unit.get("model"), str(unit.get("name")).rpartition("-")[2]
    named = (
        isinstance(model, str) and name == f"{model}-{index}" and index.isascii() and index.isdigit() and len(index) < 9
    )
    sizes = [unit["config"].get(f"{side}_parallel_size", 1) for side in ("tensor", "pipeline", "data")]
    nnodes, devices = unit["config"].get("nnodes", 1), unit.get("devices")
    return (
        named
        and is_whole(unit.get("port"))
        and 0 < unit["port"] <= 65535
        and all(isinstance(unit.get(key), str) for key in ("address", "engine_path", "model_path", "accelerator"))
        and isinstance(devices, list)
        and all(isinstance(device, str) for device in devices)
        and all(is_whole(size) and size > 0 for size in (*sizes, nnodes))
        and len(devices) * nnodes == math.prod(sizes)
        and (nnodes == 1 or _is_group(unit.get("group"), nnodes))
    )


def _is_group(group: Any, nnodes: int) -> bool:
    """Whether this names so many hosts and the port at which they meet."""
    hosts = group.get("hosts") if isinstance(group, dict) else None
    named = isinstance(hosts, list) and len(hosts) == nnodes and all(isinstance(host, str) for host in hosts)
    return named and is_whole(group.get("master_port"))
