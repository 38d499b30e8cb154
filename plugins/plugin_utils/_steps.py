# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is applied to what is planned: which replicas are held, and the changes in their order.

A live replica is never changed unless that is allowed: it is *held*, as it was applied, with its devices and its port.
What needs those waits, and is held as well. So the plan that is in force may differ from the one aimed at, and every
role can simply converge to its share.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ._applied import Applied, AppliedReplica
from ._executor import ray_block
from ._text import listing, natural_key
from ._units_by_host import UnitsByHost

RESTART_REMEDY = "say fleet_allow_restart=true: it is then drained, and restarted one failure domain after another"


MOST_DIFFERENCES = 3
"""Changed settings that one sentence names."""


@dataclass(frozen=True, slots=True)
class Placed(UnitsByHost):
    """A replica's units by host, the head's first."""

    units: dict[str, dict[str, Any]]

    @property
    def needs(self) -> list[tuple[str, str]]:
        """What no other unit of a host may have: its devices, at the head its ports, and everywhere those for Ray."""
        group = self.unit.get("group", {})
        ports = [self.unit["port"], group.get("master_port")]
        return [
            *((host, f"device {device}") for host, unit in self.units.items() for device in unit["devices"]),
            *((self.host, f"port {port}") for port in ports if port is not None),
            *((host, f"port {port}") for host in self.units for port in ray_block(group.get("ray_port"))),
        ]


@dataclass(frozen=True, slots=True)
class Held:
    """A replica that stays as it is, or does not come yet, and why."""

    replica: str
    reason: str
    remedy: str = RESTART_REMEDY

    def as_dict(self) -> dict[str, str]:
        return {"replica": self.replica, "reason": self.reason, "remedy": self.remedy}


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a run, on all hosts of its replica at once."""

    action: str
    replica: str
    hosts: tuple[str, ...]
    live: bool
    reason: str

    def as_dict(self) -> dict[str, Any]:
        return {
            "action": self.action,
            "hosts": list(self.hosts),
            "live": self.live,
            "reason": self.reason,
            "replica": self.replica,
        }


@dataclass(frozen=True, slots=True)
class Transition:
    """How the fleet gets from the applied state to the one in force.

    in_force: replica -> its units by host after the run. former: replica -> what is applied of it at present.
    leftovers: applied replicas, and strays, that the run removes. reachable: hosts on which anything can be done.
    """

    in_force: dict[str, Placed]
    former: dict[str, AppliedReplica]
    leftovers: tuple[AppliedReplica, ...]
    held: tuple[Held, ...]
    reachable: frozenset[str]

    def changed(self, name: str) -> bool:
        """Whether a replica that was applied before is another one after the run."""
        before, after = self.former.get(name), self.in_force[name]
        return before is not None and before.units != after.units

    def moved(self, name: str) -> bool:
        """Whether it is on other hosts than before, none of them the same."""
        before = self.former.get(name)
        return before is not None and not set(before.hosts) & set(self.in_force[name].hosts)

    def interrupts(self, name: str) -> bool:
        """Whether the run stops a serving replica and starts it again in its place."""
        return self.changed(name) and not self.moved(name) and self.former[name].live


def transition(
    target: Mapping[str, Placed], applied: Applied, reachable: Iterable[str], allow_restart: bool
) -> Transition:
    """What of ``target`` can be put in force at once, and what is held."""
    reachable = frozenset(reachable)
    former = _former(target, applied)
    held = {} if allow_restart else _held(target, former, reachable)
    in_force = {name: placed for name, placed in target.items() if name not in held}
    for name in held:
        if name in former:
            in_force[name] = Placed(former[name].units)
    return Transition(
        in_force=dict(sorted(in_force.items(), key=lambda item: natural_key(item[0]))),
        former=former,
        leftovers=tuple(_leftovers(in_force, applied, reachable)),
        held=tuple(held[name] for name in sorted(held, key=natural_key)),
        reachable=reachable,
    )


def _former(target: Mapping[str, Placed], applied: Applied) -> dict[str, AppliedReplica]:
    """One applied replica a name: that on the planned host if there are several, else a live one, else the first."""
    former: dict[str, AppliedReplica] = {}
    for replica in applied.replicas:
        rank = _closeness(replica, target)
        if replica.name not in former or rank > _closeness(former[replica.name], target):
            former[replica.name] = replica
    return former


def _closeness(replica: AppliedReplica, target: Mapping[str, Placed]) -> tuple[bool, bool]:
    planned = target.get(replica.name)
    return (planned is not None and bool(set(planned.hosts) & set(replica.hosts)), replica.live)


def _held(
    target: Mapping[str, Placed], former: Mapping[str, AppliedReplica], reachable: frozenset[str]
) -> dict[str, Held]:
    """Live replicas that would change, and then, again and again, whatever needs what a held one keeps."""
    live = {name: before for name, before in former.items() if before.live and reachable.issuperset(before.hosts)}
    held = {
        name: Held(name, f"it serves, and {difference(before, target[name])}")
        for name, before in live.items()
        if name in target and before.units != target[name].units
    }
    wanted = {need: name for name, placed in target.items() for need in placed.needs}
    pending = list(held)
    while pending:
        holder = pending.pop()
        for host, thing in _needs(former[holder]) if holder in former else ():
            waiting = wanted.get((host, thing))
            if waiting is not None and waiting not in held:
                held[waiting] = Held(waiting, f"waits for {thing} of {host}, which {holder} keeps")
                pending.append(waiting)
    return held


def difference(before: AppliedReplica, after: Placed) -> str:
    """What is another than before, in words."""
    if before.hosts != after.hosts:
        return f"it would move from {listing(before.hosts)} to {listing(after.hosts)}"
    pairs = ((before.units[host], after.units[host]) for host in before.hosts)
    changes = list(dict.fromkeys(change for pair in pairs for change in _differences(*pair)))
    more = f"; and {len(changes) - MOST_DIFFERENCES} more" if len(changes) > MOST_DIFFERENCES else ""
    return f"its unit would change: {'; '.join(changes[:MOST_DIFFERENCES])}{more}"


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(set(before) | set(after)):
        old, new = before.get(key), after.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new)
        elif old != new:
            yield f"{key} from {_value(old)} to {_value(new)}"


def _value(value: Any) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _leftovers(in_force: Mapping[str, Placed], applied: Applied, reachable: frozenset[str]) -> Iterator[AppliedReplica]:
    """Replicas, or their parts, on hosts where the run leaves none of that name."""
    for replica in applied.replicas:
        left = {host: unit for host, unit in replica.units.items() if host in reachable}
        left = {host: unit for host, unit in left.items() if not _is_at(in_force, replica.name, host)}
        if left:
            yield replace(replica, units=left)
    for host, strays in applied.strays.items():
        for name, live in strays.items():
            if host in reachable and not _is_at(in_force, name, host):
                yield AppliedReplica(name, name.rpartition("-")[0], {host: {}}, live, live)


def _is_at(in_force: Mapping[str, Placed], name: str, host: str) -> bool:
    return name in in_force and host in in_force[name].hosts


def steps(change: Transition, failure_domains: Mapping[str, str]) -> list[Change]:
    """The changes in their order: removals, starts, restarts of what does not serve, restarts of what does.

    Whatever serves is drained first. Live replicas are restarted one failure domain after another, and a start that
    needs what such a restart frees comes behind it. ``failure_domains``: host -> its rack, or itself.
    """
    moving_out = [left for left in change.leftovers if left.live and left.name in change.in_force]
    order = list(_removals([left for left in change.leftovers if left not in moving_out], change))
    kept_until_restart = {need for left in moving_out for need in _needs(left)} | {
        need for name in change.in_force if change.interrupts(name) for need in _needs(change.former[name])
    }
    late: list[Change] = []
    for name, placed in change.in_force.items():
        if name in change.former and not change.moved(name):
            continue
        start = Change(
            "start",
            name,
            placed.hosts,
            False,
            "is new" if name not in change.former else f"comes from {listing(change.former[name].hosts)}",
        )
        (late if kept_until_restart & set(placed.needs) else order).append(start)
    for name, placed in change.in_force.items():
        if change.changed(name) and not change.moved(name) and not change.former[name].live:
            order.append(Change("restart", name, placed.hosts, False, difference(change.former[name], placed)))
    order += _live_restarts(change, moving_out, failure_domains)
    return order + late


def _needs(replica: AppliedReplica) -> list[tuple[str, str]]:
    return Placed(replica.units).needs if replica.unit else []


def _removals(leftovers: Iterable[AppliedReplica], change: Transition) -> Iterator[Change]:
    for left in leftovers:
        reason = "is planned elsewhere" if left.name in change.in_force else "is no longer planned"
        if left.live:
            yield Change("drain", left.name, left.hosts, True, reason)
        yield Change("remove", left.name, left.hosts, left.live, reason)


def _live_restarts(
    change: Transition, moving_out: list[AppliedReplica], failure_domains: Mapping[str, str]
) -> Iterator[Change]:
    interrupted = [change.former[name] for name in change.in_force if change.interrupts(name)]
    by_domain: dict[str, list[AppliedReplica]] = {}
    for replica in sorted(
        interrupted + moving_out, key=lambda replica: (natural_key(replica.host), natural_key(replica.name))
    ):
        by_domain.setdefault(failure_domains.get(replica.host, replica.host), []).append(replica)
    for domain in sorted(by_domain, key=natural_key):
        for replica in by_domain[domain]:
            if replica in moving_out:
                yield from _removals([replica], change)
                continue
            after = change.in_force[replica.name]
            for action, hosts in (("drain", replica.hosts), ("stop", replica.hosts), ("start", after.hosts)):
                yield Change(action, replica.name, hosts, True, difference(replica, after))


def compare(change: Transition) -> dict[str, list[str]]:
    """The replicas that a run adds, removes, moves and restarts, and those that it leaves alone."""
    found: dict[str, list[str]] = {"added": [], "moved": [], "removed": [], "restarted": [], "untouched": []}
    for name in change.in_force:
        if name not in change.former:
            found["added"].append(name)
        elif change.moved(name):
            found["moved"].append(name)
        else:
            found["restarted" if change.changed(name) else "untouched"].append(name)
    gone = {left.name for left in change.leftovers} | set(change.former)
    found["removed"] = sorted(gone - set(change.in_force), key=natural_key)
    return found


def waves(change: Transition, serving: Iterable[str]) -> dict[str, Any]:
    """The hosts with the role ``serve``: those that can be changed together, and those that take turns.

    A host takes its turn when the run takes a live replica from it that comes back, there or elsewhere. The hosts of
    one replica take their turn together: ``serial`` is a list of turns, each a list of hosts.
    """
    hosts = [host for host in sorted(serving, key=natural_key) if host in change.reachable]
    moving_out = [left.hosts for left in change.leftovers if left.live and left.name in change.in_force]
    interrupted = [
        change.former[name].hosts + (change.in_force[name].hosts if change.interrupts(name) else ())
        for name in change.in_force
        if change.changed(name) and change.former[name].live
    ]
    turns = _joined([set(hosts) & set(those) for those in moving_out + interrupted])
    taking_turns = set().union(*turns)
    return {
        "serial": sorted((sorted(turn, key=natural_key) for turn in turns), key=lambda turn: natural_key(turn[0])),
        "together": [host for host in hosts if host not in taking_turns],
    }


def _joined(sets: Iterable[set[str]]) -> list[set[str]]:
    """The same hosts in sets that have none in common."""
    found: list[set[str]] = []
    for those in filter(None, sets):
        touching = [other for other in found if other & those]
        found = [other for other in found if not other & those] + [those.union(*touching)]
    return found
