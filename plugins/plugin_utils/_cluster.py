# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tier 5: the models as pods on Kubernetes, and what each of its nodes is told.

The layouts are those of the other tiers. The fewest pods of every model get seats as replicas do, which proves that
there is room for them; then the remaining devices are dealt out, and that is how far each model may scale.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ._applied import Applied
from ._draft import Draft
from ._fleet import Host
from ._placement import Space
from ._pods import Pods, pod_options
from ._reading import is_whole
from ._search import AppliedLayouts
from ._seating import seat_all
from ._steps import RESTART_REMEDY, Held
from ._text import counted, listing
from ._weights import layout_of
from ._wishes import Model

GROUPS = ("k3s_servers", "k3s_agents")
NODE_PORTS = range(30800, 32768)
"""Where Kubernetes opens ports on every node (30000 to 32767), without those that others usually pick by hand."""
LONGEST_NAME = 43
"""A Service's name has 63 characters at most, and the chart's is ``vllm-<name>-engine-service``."""
NODE_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
SCALES = ("min_replicas", "max_replicas")
"""What of a model's options changes without touching a pod that runs."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is to hand the models over. number: how many servers did so one after another; the highest that is
    recorded is of the one that did it last, also where another one comes back with what it handed over before."""

    server: str
    number: int


@dataclass(frozen=True, slots=True)
class Cluster:
    """What runs on Kubernetes. turn: the host that hands it over. servers: those that answer. nodes: these and the
    agents that answer, with their addresses.

    models: the entries of ``vllm_stack_models`` in force, of which ``held`` are still as applied. diff: the models that
    a run adds, removes, changes (``restarted``) and leaves alone.
    """

    turn: Turn
    servers: tuple[str, ...]
    nodes: Mapping[str, str]
    models: tuple[dict[str, Any], ...]
    pods: Mapping[str, Pods]
    held: tuple[Held, ...]
    diff: Mapping[str, list[str]]

    def options(self) -> dict[str, Any]:
        """The share of the role ``vllm_stack``, which is the server's alone."""
        return {
            "vllm_stack_models": list(self.models),
            "vllm_stack_nodes": [
                {"name": node, "address": address, "models": self._models_on(node)}
                for node, address in self.nodes.items()
            ],
            "vllm_stack_servers": list(self.servers),
            "vllm_stack_turn": self.turn.number,
        }

    def _models_on(self, node: str) -> list[str]:
        return [entry["name"] for entry in self.models if node in self.pods[entry["name"]].nodes]

    def stored_on(self, host: str) -> tuple[list[Model], list[str]]:
        """The models whose weights a node gets, and the paths of older ones that pods still read there."""
        held = {item.replica for item in self.held}
        here = [pods for pods in self.pods.values() if host in pods.nodes and pods.model.source.kind != "hub"]
        kept = [entry["source"] for entry in self.models if entry["name"] in held and entry["source_kind"] == "store"]
        return [pods.model for pods in here], kept if here else []

    def gateway_models(self, default: str) -> list[dict[str, Any]]:
        """Each model with the port that it has on every node."""
        return [
            {
                "name": entry["name"],
                "served_model_name": entry["config"]["served_model_name"],
                "default": entry["name"] == default,
                "upstreams": [
                    {
                        "replica": f"{entry['name']}-{number}",
                        "address": address,
                        "port": entry["node_port"],
                        "weight": 1,
                    }
                    for number, address in enumerate(self.nodes.values())
                ],
            }
            for entry in sorted(self.models, key=lambda entry: str(entry["name"]))
        ]


def seat_pods(draft: Draft) -> None:
    """Decide each model's layout, and its fewest and most pods; refuse what finds no room."""
    _check(draft)
    without = replace(draft, applied=Applied())
    space = seat_all(without, _applied_layouts(draft))
    for model in draft.models:
        if model.name in draft.choices and draft.seats_of(model):
            _check_model(draft, model)
    for name, most in _deal(draft, space).items():
        choice = draft.choices[name]
        keys = {fit.kind.key for fit in choice.fits}
        nodes = [host.name for host in _hosts(draft) if _takes_a_pod(host, keys, choice.best.layout.local)]
        least = len(draft.seats[name])
        draft.pods[name] = Pods(choice.model, choice.fits, choice.max_model_len, least, most, tuple(nodes))


def cluster_of(draft: Draft) -> Cluster | None:
    """What runs on Kubernetes, from a finished draft; None in the other tiers, and where no server answers."""
    servers = draft.fleet.planned("k3s_servers")
    if not draft.kubernetes or not servers:
        return None
    before, ports = applied_models(draft.applied), _node_ports(draft)
    models, held = [], []
    for name, pods in draft.pods.items():
        wanted = pod_options(pods, draft.weights[name], ports[name], draft.settings)
        changes = [] if name not in before else _changes(before[name], wanted)
        if changes and not draft.settings.allow_restart:
            held.append(Held(name, f"its pods would change: {listing(changes)}", RESTART_REMEDY))
            wanted = before[name]
        models.append(wanted)
    nodes = {host.name: host.address for host in _hosts(draft)}
    names = tuple(server.name for server in servers)
    turn = _turn(last_turn(draft.applied), names)
    return Cluster(turn, names, nodes, tuple(models), draft.pods, tuple(held), _compare(before, models))


def applied_models(applied: Applied) -> dict[str, dict[str, Any]]:
    """The models that run on Kubernetes, as they were last handed over, by name."""
    last = last_turn(applied)
    entries = applied.options(last.server, "vllm_stack")["vllm_stack_models"] if last else []
    return {
        entry["name"]: entry
        for entry in entries
        if isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("config"), dict)
    }


def last_turn(applied: Applied) -> Turn | None:
    """Which server handed the models over last; None where none did."""
    turns = []
    for host, roles in applied.roles.items():
        given = roles.get("vllm_stack", {})
        if isinstance(given.get("vllm_stack_models"), list) and given["vllm_stack_models"]:
            number = given.get("vllm_stack_turn")
            turns.append(Turn(host, number if is_whole(number) else 1))
    return max(turns, key=lambda turn: (turn.number, turn.server), default=None)


def _turn(last: Turn | None, servers: Sequence[str]) -> Turn:
    """The server that did it last goes on, as long as it answers; so what it handed over lies in one place."""
    if last is None:
        return Turn(servers[0], 1)
    return last if last.server in servers else Turn(servers[0], last.number + 1)


def _compare(before: Mapping[str, Any], models: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The models by what happens to them."""
    after = {entry["name"]: entry for entry in models}
    return {
        "added": [name for name in after if name not in before],
        "removed": [name for name in before if name not in after],
        "restarted": [name for name in after if name in before and before[name] != after[name]],
        "untouched": [name for name in after if before.get(name) == after[name]],
    }


def _hosts(draft: Draft) -> list[Host]:
    """The nodes that answer, in natural order."""
    return [host for host in draft.fleet.hosts.values() if host.planned and host.groups.intersection(GROUPS)]


def _takes_a_pod(host: Host, keys: set[str], ranks: int) -> bool:
    """Whether a pod finds devices on a node with nothing else on it."""
    return any(sum(device.key == key for device in host.devices) >= ranks for key in keys)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [word for word in sorted({*before, *after} - {*SCALES}) if before.get(word) != after.get(word)]


def _applied_layouts(draft: Draft) -> dict[str, AppliedLayouts]:
    found = {}
    for name, entry in applied_models(draft.applied).items():
        layout = layout_of({**entry["config"], "nnodes": entry.get("nodes", 1)})
        found[name] = frozenset({(layout, str(entry.get("device")))})
    return found


def _node_ports(draft: Draft) -> dict[str, int]:
    """Each model's port on every node: the one that it has, else the lowest that no model has."""
    before = {name: entry.get("node_port") for name, entry in applied_models(draft.applied).items()}
    free = (port for port in NODE_PORTS if port not in before.values())
    return {name: before.get(name) or next(free) for name in draft.pods}


def _deal(draft: Draft, space: Space) -> dict[str, int]:
    """The most pods of each model, all of them together within the fleet's devices.

    First those that the operator states. What is left goes to the others in turns, one pod at a time. Replicas that
    span nodes are not scaled.
    """
    most = {model.name: len(draft.seats_of(model)) for model in _in_turn(draft)}
    for model in _in_turn(draft):
        wanted = model.max_replica_count or 0
        while most[model.name] < wanted and _takes_one(draft, space, model):
            most[model.name] += 1
        if most[model.name] < wanted:
            _refuse_most(draft, model, most[model.name])
    growing = [model for model in _in_turn(draft) if model.max_replica_count is None and not _spans(draft, model)]
    while growing:
        growing = [model for model in growing if _takes_one(draft, space, model)]
        for model in growing:
            most[model.name] += 1
    return most


def _in_turn(draft: Draft) -> list[Model]:
    seated = [model for model in draft.models if draft.seats_of(model)]
    return sorted(seated, key=lambda model: -model.priority)


def _spans(draft: Draft, model: Model) -> bool:
    return draft.choices[model.name].best.layout.nnodes > 1


def _takes_one(draft: Draft, space: Space, model: Model) -> bool:
    for fit in draft.choices[model.name].fits:
        hosts = next(space.search(fit), None)
        if hosts is not None:
            space.take(hosts, fit)
            return True
    return False


def _refuse_most(draft: Draft, model: Model, room: int) -> None:
    best = draft.choices[model.name].best
    wanted = model.max_replica_count or 0
    draft.findings.refuse(
        "not_enough_devices",
        model.name,
        f"max_replica_count is {wanted}, and beside the other models there is room for {counted(room, 'replica')} of "
        f"{counted(best.layout.world, 'device')}",
        f"set max_replica_count to {room} at most, or to auto",
        f"or add nodes with {(wanted - room) * best.layout.world} x {best.kind.key} in all",
    )


def _check(draft: Draft) -> None:
    """What Kubernetes asks of hosts and of the front door."""
    servers = [host for host in draft.fleet.hosts.values() if "k3s_servers" in host.groups]
    if not any(host.planned for host in servers):
        draft.findings.refuse(
            "no_server",
            "k3s_servers",
            f"has {listing(host.name for host in servers)}, and none of them can be reached",
            "bring one back",
        )
    if len(servers) % 2 == 0:
        draft.findings.refuse(
            "even_servers",
            "k3s_servers",
            f"has {len(servers)} hosts, and etcd stands no more failures with them than with {len(servers) - 1}",
            "keep one, three or five servers",
        )
    for host in draft.fleet.hosts.values():
        if "gpu_nodes" in host.groups and not host.groups.intersection(GROUPS):
            draft.findings.refuse(
                "not_in_cluster",
                host.name,
                "is in gpu_nodes and no node of the cluster",
                "put it into k3s_agents too, or take it out of gpu_nodes",
            )
        if host.groups.intersection(GROUPS) and not (NODE_NAME.fullmatch(host.name) and len(host.name) <= 63):
            draft.findings.refuse(
                "bad_node_name",
                host.name,
                "cannot be the name of a node",
                "name it in the inventory with a to z, 0 to 9, dashes and dots, 63 characters at most",
            )


def _check_model(draft: Draft, model: Model) -> None:
    """What Kubernetes asks of a model."""
    least = len(draft.seats_of(model))
    if len(model.name) > LONGEST_NAME:
        draft.findings.refuse(
            "name_too_long",
            model.name,
            f"has {len(model.name)} characters, and its objects on Kubernetes take {LONGEST_NAME} at most",
            "give it a shorter name; served_model_name may stay",
        )
    if model.max_replica_count is not None and model.max_replica_count < least:
        draft.findings.refuse(
            "too_few_replicas",
            model.name,
            f"max_replica_count is {model.max_replica_count}, and it needs {least} at least",
            f"set max_replica_count to {least} or more, or to auto",
        )
    if _spans(draft, model) and model.max_replica_count not in (None, least):
        draft.findings.refuse(
            "group_not_scaled",
            model.name,
            f"max_replica_count is {model.max_replica_count}, and replicas that span nodes are not scaled",
            f"set max_replica_count to {least}, or leave it out and say replica_count",
        )
    if any(fit.kind.sliced for fit in draft.choices[model.name].fits):
        draft.findings.refuse(
            "sliced_on_kubernetes",
            model.name,
            "would run on MIG slices, which pods are not given yet",
            "take the GPUs of the nodes out of MIG mode, or set fleet_tier to 4",
        )


def check_other_side(draft: Draft) -> None:
    """Moving between systemd and Kubernetes must be allowed; settings that only one side knows stand there alone."""
    findings, allowed = draft.findings, draft.settings.allow_tier_change
    if draft.kubernetes and draft.applied.replicas and not allowed:
        _refuse_move(draft, f"the fleet runs under systemd ({listing(r.name for r in draft.applied.replicas)})")
    there = draft.applied.last_tier == 5 or bool(applied_models(draft.applied))
    if not draft.kubernetes and there and not allowed:
        _refuse_move(draft, "the fleet runs on Kubernetes (tier 5)")
    if draft.settings.tier == 5 and not draft.kubernetes:
        findings.refuse(
            "tier_too_high",
            "fleet_tier",
            "is 5, which is Kubernetes, and the inventory has no group k3s_servers",
            "set fleet_tier to auto, or to 4",
        )
    for model in [] if draft.kubernetes else draft.models:
        if model.max_replica_count is not None:
            findings.refuse(
                "only_on_kubernetes",
                model.name,
                f"max_replica_count is {model.max_replica_count}, and without Kubernetes nothing scales by itself",
                "leave it out and say replica_count, or add a group k3s_servers",
            )


def _refuse_move(draft: Draft, seen: str) -> None:
    draft.findings.refuse(
        "tier_change",
        "fleet_tier",
        f"{seen}, and this plan would take it off",
        "say fleet_allow_tier_change=true: what runs there is drained and removed first",
    )


def weights_wanted(draft: Draft) -> Iterator[tuple[str, Model]]:
    """Every node that gets weights, with the model."""
    for pods in draft.pods.values():
        if pods.model.source.kind != "hub":
            yield from ((node, pods.model) for node in pods.nodes)
