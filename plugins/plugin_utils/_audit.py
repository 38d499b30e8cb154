# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet's ports as others see them, held against who may reach them.

Pure. ``targets`` says what is to be tried, ``audit`` judges what came of it, by the address that each try came from.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ._perimeter import TCP
from ._report import Item, Section
from ._text import counted, listing, natural_key

EXPOSED, BLOCKED, UNGUARDED = "exposed", "blocked", "unguarded"
VERDICTS = {
    EXPOSED: "answers, and should not",
    BLOCKED: "is silent, and a host of the fleet needs it",
    UNGUARDED: "nothing listens there now, and nothing would keep others out",
}
"""What an audit can find at a port. The first two are faults."""
ANSWERS, REFUSES, SILENT = "answers", "refuses", "silent"
OUR_UNITS = "gpufleet-"
ENGINE_NAMES = re.compile(r"(?i)vllm\b|ray::|raylet$|gcs_server$")
"""Programs of an engine, whoever started them: vLLM and Ray name their processes so."""


@dataclass(frozen=True, slots=True)
class Target:
    """A port to try: on which host it is, where, what is planned there, and who listens, where anybody does."""

    host: str
    address: str
    port: int
    purpose: str | None
    process: str | None


def audit_targets(plan: Mapping[str, Any], hosts: Mapping[str, Any], scanner: str = "") -> list[dict[str, Any]]:
    """The addresses and ports that a scanner is to try: ``{address, port}`` each, those of its own host left out.

    hosts: as ``fleet_hosts`` gives them. A host is tried where the fleet reaches it and where the controller does.
    """
    return [
        {"address": target.address, "port": target.port} for target in _targets(plan, hosts) if target.host != scanner
    ]


def audit(plan: Mapping[str, Any], hosts: Mapping[str, Any], scans: Mapping[str, Any], outside: str) -> dict[str, Any]:
    """What is wrong with the fleet's ports.

    scans: scanner -> what ``port_scan`` answered there, or anything else where it did not run. outside: the scanner
    that is no host of the fleet. Returns ``findings``, the worst first; ``faults``, how many of them are faults;
    ``tried``, the ports that were; and ``not_outside``, the hosts that the outside scanner belongs to after all.
    """
    targets = {(target.address, target.port): target for target in _targets(plan, hosts)}
    seen: dict[tuple[str, str, int], dict[str, Any]] = {}
    tried = 0
    for scanner in sorted(scans, key=natural_key):
        for result in _tried(scans[scanner]):
            target = targets[result["address"], result["port"]]
            tried += 1
            verdict = _verdict(plan, target, result)
            if verdict:
                finding = seen.setdefault((verdict, target.host, target.port), _finding(verdict, target))
                finding["from"] = sorted({*finding["from"], scanner}, key=natural_key)
    order = list(VERDICTS)
    findings = sorted(
        seen.values(), key=lambda item: (order.index(item["verdict"]), natural_key(item["host"]), item["port"])
    )
    return {
        "faults": sum(finding["verdict"] != UNGUARDED for finding in findings),
        "findings": findings,
        "not_outside": _homes(hosts, plan, scans.get(outside)),
        "tried": tried,
    }


def sections(result: Mapping[str, Any]) -> Iterator[Section]:
    """The outcome in one table, one row a finding."""
    yield Section(
        "Audit",
        f"{counted(result['tried'], 'port')} tried, {counted(result['faults'], 'fault')}",
        headers=("host", "port", "found", "from", "what is there") if result["findings"] else (),
        rows=[
            (
                finding["host"],
                str(finding["port"]),
                finding["verdict"],
                listing(finding["from"], limit=2),
                finding["process"] or finding["purpose"],
            )
            for finding in result["findings"]
        ],
        items=[
            Item(f"{verdict}: {meaning}")
            for verdict, meaning in VERDICTS.items()
            if any(finding["verdict"] == verdict for finding in result["findings"])
        ],
    )


def _targets(plan: Mapping[str, Any], hosts: Mapping[str, Any]) -> Iterator[Target]:
    for name in sorted(plan["hosts"], key=natural_key):
        described = hosts.get(name) or {}
        listeners = _listeners(described)
        purposes = {
            door["first_port"]: door["purpose"]
            for door in _tcp_doors(plan)
            if door["host"] == name and door["first_port"] == door["last_port"]
        }
        ports = sorted({*purposes, *(port for port, listener in listeners.items() if _is_engine(listener))})
        for address in _addresses(plan["hosts"][name]["address"], described.get("address")):
            for port in ports:
                yield Target(name, address, port, purposes.get(port), _process(listeners.get(port)))


def _listeners(described: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
    """Who listens on a host where others can reach it, by port."""
    told = (described.get("preflight") or {}).get("listeners") or []
    return {listener["port"]: listener for listener in told if not listener.get("loopback")}


def _is_engine(listener: Mapping[str, Any]) -> bool:
    ours = (listener.get("unit") or "").startswith(OUR_UNITS)
    return ours or ENGINE_NAMES.match(listener.get("name") or "") is not None


def _process(listener: Mapping[str, Any] | None) -> str | None:
    if not listener or not listener.get("name"):
        return None
    return f"{listener['name']} ({listener.get('unit') or 'of no unit'}, pid {listener.get('pid')})"


def _addresses(*texts: str | None) -> list[str]:
    """Those that are IP addresses, each once, the first first."""
    found: dict[str, None] = {}
    for text in texts:
        try:
            found[str(ipaddress.ip_address(text or ""))] = None
        except ValueError:
            continue
    return list(found)


def _tried(scan: Any) -> list[dict[str, Any]]:
    return scan.get("tried", []) if isinstance(scan, Mapping) else []


def _verdict(plan: Mapping[str, Any], target: Target, result: Mapping[str, Any]) -> str | None:
    allowed = _is_allowed(plan, target, result.get("source"))
    if allowed:
        return BLOCKED if result["state"] == SILENT and target.purpose else None
    if result["state"] == ANSWERS:
        return EXPOSED
    return UNGUARDED if result["state"] == REFUSES and target.purpose else None


def _tcp_doors(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Those that can be tried: over UDP a closed port is as silent as an open one."""
    return [door for door in plan["perimeter"]["doors"] if door.get("protocol", TCP) == TCP]


def _is_allowed(plan: Mapping[str, Any], target: Target, source: str | None) -> bool:
    """Whether the plan lets an address in at a port: by a door there, or as a member of the host's group."""
    doors = [
        door
        for door in _tcp_doors(plan)
        if door["host"] == target.host and door["first_port"] == target.port == door["last_port"]
    ]
    trusts = [trust for trust in plan["perimeter"]["trusts"] if trust["host"] == target.host]
    if source is None:
        return False
    address = ipaddress.ip_address(source)
    networks = [ipaddress.ip_network(given["address"]) for pair in doors + trusts for given in pair["sources"]]
    return any(address in network for network in networks if network.version == address.version)


def _finding(verdict: str, target: Target) -> dict[str, Any]:
    return {
        "from": [],
        "host": target.host,
        "port": target.port,
        "process": target.process,
        "purpose": target.purpose,
        "verdict": verdict,
    }


def _homes(hosts: Mapping[str, Any], plan: Mapping[str, Any], scan: Any) -> list[str]:
    """The hosts of the fleet from whose addresses a scan came."""
    sources = {result.get("source") for result in _tried(scan)}
    return [
        name
        for name in sorted(plan["hosts"], key=natural_key)
        if sources & set(_addresses(plan["hosts"][name]["address"], (hosts.get(name) or {}).get("address")))
    ]
