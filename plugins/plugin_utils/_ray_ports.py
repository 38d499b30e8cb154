# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ports of Ray clusters: each replica that runs over Ray has a block of its own, the same on each of its hosts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ._draft import Draft
from ._executor import RAY, RAY_PORTS, executor, ray_block
from ._placement import LAST_PORT
from ._text import listing


def ray_ports(draft: Draft) -> dict[str, int]:
    """Replica -> the first port of its block, of all that run over Ray; refuses where none is free.

    A block that is applied is kept; the others are the lowest that are free on all hosts of their replica.
    """
    wanted = {name: seat.hosts for name, model, seat in draft.all_seats() if executor(model, seat.fit.layout) == RAY}
    before = {replica.name: replica for replica in draft.applied.replicas if replica.hosts == wanted.get(replica.name)}
    kept = {name: port for name, replica in before.items() if (port := replica.unit["group"].get("ray_port"))}
    taken = _taken(draft)
    found: dict[str, int] = {}
    for name in sorted(wanted, key=lambda name: name not in kept):
        port = next((port for port in _candidates(draft, kept.get(name)) if _is_free(port, wanted[name], taken)), None)
        if port is None:
            _refuse(draft, name, wanted[name])
            continue
        found[name] = port
        _take(taken, wanted[name], ray_block(port))
    return found


def _candidates(draft: Draft, kept: int | None) -> Iterator[int]:
    blocks = range(draft.settings.ray_port, LAST_PORT + 2 - RAY_PORTS, RAY_PORTS)
    if kept is not None and kept in blocks:
        yield kept
    yield from blocks


def _taken(draft: Draft) -> dict[str, set[int]]:
    """Host -> the ports of everything else that the fleet has there."""
    taken: dict[str, set[int]] = {}
    for host in draft.fleet.hosts:
        _take(taken, (host,), (draft.settings.gateway_port, draft.settings.gateway_metrics_port))
    for _name, _model, seat in draft.all_seats():
        _take(taken, (seat.head,), seat.ports.at_head)
    for replica in draft.left_alone.values():
        _take(taken, (replica.host,), replica.ports.at_head)
        _take(taken, replica.hosts, ray_block(replica.unit.get("group", {}).get("ray_port")))
    return taken


def _take(taken: dict[str, set[int]], hosts: Iterable[str], ports: Iterable[int]) -> None:
    ports = set(ports)
    for host in hosts:
        taken.setdefault(host, set()).update(ports)


def _is_free(port: int, hosts: Iterable[str], taken: dict[str, set[int]]) -> bool:
    block = set(ray_block(port))
    return all(block.isdisjoint(taken.get(host, ())) for host in hosts)


def _refuse(draft: Draft, name: str, hosts: Iterable[str]) -> None:
    draft.findings.refuse(
        "no_free_ports",
        name,
        f"runs over Ray, and from fleet_ray_port {draft.settings.ray_port} on no {RAY_PORTS} ports in a row are free "
        f"on {listing(hosts)}",
        "lower fleet_ray_port (20000 by default)",
    )
