# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seats for all models: what runs keeps its seat, then each model in turn takes what it still needs.

Models are served in the order of their priority, larger replicas first, so that small ones do not break up the hosts
that large ones need.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ._applied import AppliedReplica
from ._basis import rest
from ._capacity import Carried, Fit, is_wanted
from ._draft import Draft, replica_name
from ._findings import Findings
from ._fleet import UNREACHABLE
from ._layout import choose
from ._placement import Hosts, Ports, Seat, Space, keep
from ._search import AppliedLayouts
from ._text import counted, gib, listing
from ._weights import Layout
from ._wishes import Model


def seat_all(draft: Draft, applied: Mapping[str, AppliedLayouts] | None = None) -> Space:
    """Decide the layout of every model and the seat of every replica; refuse what finds none. Returns what is left.

    applied: model -> its layouts at present, where the applied replicas do not tell them.
    """
    draft.left_alone = _left_alone(draft)
    first_ports = Ports(draft.settings.engine_port, draft.settings.master_port)
    space = Space(draft.fleet, first_ports, _gateway_ports(draft))
    layouts = _applied_layouts(draft) if applied is None else applied
    for model in draft.models:
        _choose(draft, model, space, layouts)
    chosen = [model for model in draft.models if model.name in draft.choices]
    chosen.sort(key=lambda model: (-model.priority, -draft.choices[model.name].best.layout.world))
    for model in chosen:
        _keep_seats(draft, model, space)
    for model in chosen:
        if not draft.seats_of(model):
            _choose(draft, model, space, layouts)
        _take_seats(draft, model, space)
    return space


def _left_alone(draft: Draft) -> dict[str, AppliedReplica]:
    """The replicas of wished models on hosts of which one at least does not answer."""
    wished = {model.name for model in draft.models}
    silent = {host.name for host in draft.fleet.hosts.values() if host.state == UNREACHABLE}
    replicas = draft.applied.replicas
    return {replica.name: replica for replica in replicas if silent & set(replica.hosts) and replica.model in wished}


def _gateway_ports(draft: Draft) -> dict[str, set[int]]:
    """The ports that engines leave free on every host that is, or may become, a front door."""
    gateways = draft.fleet.planned("gateways") or draft.fleet.planned("gpu_nodes")
    return {host.name: {draft.settings.gateway_port, draft.settings.gateway_metrics_port} for host in gateways}


def _applied_layouts(draft: Draft) -> dict[str, AppliedLayouts]:
    """The layouts in which each model's replicas run at present, and on which kinds of device."""
    found: dict[str, set[tuple[Layout, str]]] = {}
    for replica in draft.applied.replicas:
        host = draft.fleet.hosts.get(replica.host)
        for device in host.devices if host else ():
            if device.id in replica.devices or str(device.index) in replica.devices:
                found.setdefault(replica.model, set()).add((replica.layout, device.key))
    return {model: frozenset(layouts) for model, layouts in found.items()}


def _choose(draft: Draft, model: Model, space: Space, layouts: Mapping[str, AppliedLayouts]) -> None:
    if model.name not in draft.weights:
        return
    shape = draft.weights[model.name].shape
    applied = layouts.get(model.name, frozenset())
    findings = Findings()
    choice = choose(model, shape, draft.fleet, space, applied, draft.settings, findings)
    if choice:
        draft.choices[model.name] = rest(draft, choice, list(_runs_at_present(draft, model).values()))
    elif not _rests(draft, model):
        draft.findings.take(findings)


def _rests(draft: Draft, model: Model) -> bool:
    """Whether a model can go on with the replicas that are left alone, on hosts that do not answer."""
    return 0 < len(draft.alone_of(model)) >= (model.replica_count or 1)


def _keep_seats(draft: Draft, model: Model, space: Space) -> None:
    """Replicas that run and still fit stay where they are."""
    choice, seats = draft.choices[model.name], draft.seats.setdefault(model.name, {})
    carried, next_index = Carried(), 0
    for index, replica in _runs_at_present(draft, model).items():
        carried += choice.best.carries * (index - next_index)
        next_index = index + 1
        if not is_wanted(model, index, carried):
            return
        seat = None
        if replica.name not in draft.left_alone:
            seat = keep(space, choice.fits, replica.devices_by_host, replica.ports)
        if seat:
            seats[index] = seat
        carried += (seat.fit if seat else choice.best).carries


def _runs_at_present(draft: Draft, model: Model) -> dict[int, AppliedReplica]:
    """The applied replicas of a model by index; of one that is on two hosts, the live one."""
    by_index: dict[int, AppliedReplica] = {}
    for replica in draft.applied.replicas:
        if replica.model == model.name and (replica.index not in by_index or replica.live):
            by_index[replica.index] = replica
    return dict(sorted(by_index.items()))


def _take_seats(draft: Draft, model: Model, space: Space) -> None:
    """Seats for the replicas that have none yet."""
    choice, seats = draft.choices[model.name], draft.seats.setdefault(model.name, {})
    before = {index: replica.hosts for index, replica in _runs_at_present(draft, model).items()}
    searches = [(fit, space.search(fit)) for fit in choice.fits]
    carried, index = Carried(), 0
    while is_wanted(model, index, carried):
        if replica_name(model, index) in draft.left_alone:
            carried += choice.best.carries
        else:
            seat = seats.get(index) or _take_seat(space, searches, before.get(index))
            if seat is None:
                _refuse(draft, model, index, space)
                return
            seats[index] = seat
            carried += seat.fit.carries
        index += 1


def _take_seat(space: Space, searches: list[tuple[Fit, Iterator[Hosts]]], before: Hosts | None) -> Seat | None:
    """A seat on the hosts of before if they have room, else on the first that have; the preferred kind of device
    first."""
    for fit, found in searches:
        hosts = before if before is not None and space.has_room(before, fit) else next(found, None)
        if hosts is not None:
            return space.take(hosts, fit)
    return None


def _refuse(draft: Draft, model: Model, seated: int, space: Space) -> None:
    """Some replicas found no devices: say what is wanted, how many found room, and what would help."""
    choice = draft.choices[model.name]
    best, wanted = choice.best, max(choice.replicas, seated + 1)
    apart = space.apart(best)
    if apart:
        _refuse_apart(draft, model, apart, space)
        return
    short = [
        host.name
        for host in draft.fleet.planned("gpu_nodes")
        if host.memory_bytes is not None and host.memory_bytes < best.memory.host_bytes
    ]
    if short:
        remedies = [f"give {listing(short)} more RAM: a replica takes {gib(best.memory.host_bytes)}"]
    else:
        remedies = [f"add hosts with {(wanted - seated) * best.layout.world} x {best.kind.key} in all"]
    if seated:
        remedies.append(f"or set replica_count: {seated}")
    others = [other.name for other in draft.models if other is not model and draft.seats_of(other)]
    if others:
        remedies.append(f"or take devices from {listing(others)}: models of higher priority are placed first")
    draft.findings.refuse(
        "not_enough_memory" if short else "not_enough_devices",
        model.name,
        f"needs {counted(wanted, 'replica')} of {counted(best.layout.local, 'device')} in {_hosts_each(best.layout)} "
        f"({' or '.join(fit.kind.key for fit in choice.fits)}), and there is room for {seated}",
        *remedies,
    )


def _hosts_each(layout: Layout) -> str:
    return "one host each" if layout.nnodes == 1 else f"each of {layout.nnodes} hosts"


def _refuse_apart(draft: Draft, model: Model, hosts: Hosts, space: Space) -> None:
    """Hosts have the devices for a replica, and no network in common: name two that are apart, and what each has."""
    first = hosts[0]
    other = next((host for host in hosts[1:] if not space.fabrics.shared_by((first, host))), hosts[-1])
    draft.findings.refuse(
        "no_common_network",
        model.name,
        f"a replica takes {listing(hosts)} together, and {first} and {other} share no subnet in which each has an "
        f"address of its own: {first} has {space.fabrics.described(first)}; {other} has "
        f"{space.fabrics.described(other)}",
        f"give {first} and {other} addresses in one subnet, on an interface that leads from one to the other",
        "or name that interface on both hosts: fleet_fabric_interface, where it looks like one of containers",
    )
