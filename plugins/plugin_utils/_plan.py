# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: from wishes, machines, shapes and what is applied to what runs where, or to the reasons why not.

``plan`` is pure: the same input gives the same plan, in whatever order the hosts come. It raises nothing for anything that
an operator can write: every mistake becomes a refusal, and all of them are found in one run. A plan with a refusal has no
shares and no steps, so that nothing can be carried out by halves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ._applied import Applied, AppliedReplica, read_applied
from ._capacity import Fit, meets_workload
from ._devices import LOST, UNREACHABLE, Fleet, Host, check_lost, check_reached, read_fleet
from ._findings import Finding, Findings
from ._flag_check import check_cpu_pipeline, check_known
from ._layout import AppliedLayouts, Choice, choose, model_tier, warn_if_small
from ._memory import Layout, RankMemory
from ._placement import Seat, Space, keep
from ._reading import plain
from ._shapes import Weights, read_shapes
from ._share import Bill, build, digest
from ._steps import Placed, Transition, compare, steps, transition, waves
from ._text import counted, gib, listing, natural_key, rounded_gib
from ._units import executor, model_path, unit
from ._wishes import Model, Settings, read_models, read_settings

SCHEMA = 1


def plan(
    models: Any,
    hosts: Any,
    shapes: Any,
    previous: Any = None,
    settings: Any = None,
) -> dict[str, Any]:
    """Plan the fleet.

    models: fleet_models as written. hosts: the machines and what they answered. shapes: what model_info says of each
    model. previous: what is applied. settings: see ``_wishes.Settings``. Any of them may be wrong in any way.
    Returns the plan as plain, JSON-able data with sorted keys.
    """
    findings = Findings()
    given = {
        "fleet_models": models,
        "hosts": hosts,
        "shapes": shapes,
        "previous": previous,
        "settings": settings,
    }
    data = {name: plain(value, name, findings) for name, value in given.items()}
    wished = read_settings(data["settings"], findings)
    draft = Draft(
        settings=wished,
        models=read_models(data["fleet_models"], wished, findings),
        fleet=read_fleet(data["hosts"], wished, findings),
        findings=findings,
    )
    draft.applied = read_applied(data["previous"], _silent(draft.fleet, data["previous"]), findings)
    draft.weights = read_shapes(data["shapes"], draft.models, findings)
    _check_whole(draft, data["hosts"])
    _place(draft)
    return _assemble(draft)


@dataclass(slots=True)
class Draft:
    """A plan in the making."""

    settings: Settings
    models: tuple[Model, ...]
    fleet: Fleet
    findings: Findings
    applied: Applied = field(default_factory=Applied)
    weights: dict[str, Weights] = field(default_factory=dict)
    choices: dict[str, Choice] = field(default_factory=dict)
    seats: dict[str, Seat] = field(default_factory=dict)
    left_alone: dict[str, AppliedReplica] = field(default_factory=dict)

    def replicas_of(self, model: Model) -> list[AppliedReplica]:
        """The applied replicas of a model by index; of a name that is on two hosts, the live one."""
        by_name: dict[str, AppliedReplica] = {}
        for replica in self.applied.replicas:
            if replica.model == model.name and (replica.name not in by_name or replica.live):
                by_name[replica.name] = replica
        return sorted(by_name.values(), key=lambda replica: replica.index)

    def model_seats(self, model: str) -> list[Seat]:
        return [seat for name, seat in self.seats.items() if name.rpartition("-")[0] == model]


def _silent(fleet: Fleet, previous: Any) -> list[str]:
    """Hosts whose part of the previous plan is known from its last copy only: they do not answer, or have left."""
    last = previous.get("plan") if isinstance(previous, dict) else None
    last_hosts = last.get("hosts") if isinstance(last, dict) else None
    left = [name for name in last_hosts if name not in fleet.hosts] if isinstance(last_hosts, dict) else []
    return left + [host.name for host in fleet.hosts.values() if host.state in (UNREACHABLE, LOST)]


def _check_whole(draft: Draft, hosts: Any) -> None:
    """What concerns the fleet as a whole."""
    settings, fleet, findings = draft.settings, draft.fleet, draft.findings
    check_lost(hosts, fleet, settings, draft.applied.last_hosts, findings)
    left_alone = {
        host.name: [replica.name for replica in draft.applied.on(host.name)]
        for host in fleet.hosts.values()
        if host.state == UNREACHABLE
    }
    check_reached(fleet, settings, left_alone, findings)
    for name in draft.applied.last_hosts:
        if name not in fleet.hosts:
            findings.warn(
                "host_left",
                name,
                "was in the last plan and has left the inventory: what runs there was not removed",
                f"to remove it: ansible-playbook gpufleet.serving.reset -i {name}, "
                f"-e fleet_confirm_reset={settings.inventory_name}",
            )
    _check_tier(draft)
    _check_ports(draft)


def _check_tier(draft: Draft) -> None:
    settings, fleet, findings = draft.settings, draft.fleet, draft.findings
    kubernetes = [host.name for host in fleet.hosts.values() if "k3s_servers" in host.groups]
    if settings.tier == 5 and not kubernetes:
        findings.refuse(
            "tier_too_high",
            "fleet_tier",
            "is 5, which is Kubernetes, and the inventory has no group k3s_servers",
            "set fleet_tier to auto",
        )
    if kubernetes and settings.tier in (None, 5):
        findings.refuse(
            "not_yet",
            "k3s_servers",
            f"has {listing(kubernetes)}, and Kubernetes (tier 5) is not yet available",
            "take the group out of the inventory, or set fleet_tier to 4",
        )
    if draft.applied.last_tier == 5 and not settings.allow_tier_change:
        findings.refuse(
            "tier_change",
            "fleet_tier",
            "the fleet runs on Kubernetes (tier 5), and this plan would take it off",
            "say fleet_allow_tier_change=true",
        )


def _check_ports(draft: Draft) -> None:
    """The engines' block starts at a port that a gateway on the same host wants for itself."""
    settings = draft.settings
    for name, port in (
        ("fleet_gateway_port", settings.gateway_port),
        ("fleet_gateway_metrics_port", settings.gateway_metrics_port),
    ):
        both = [host for host in draft.fleet.planned("gpu_nodes") if "gateways" in host.groups]
        if port == settings.engine_port and (both or not draft.fleet.planned("gateways")):
            draft.findings.refuse(
                "port_clash",
                name,
                f"is {port}, and so is fleet_engine_port, on a host that is gateway and engine at once",
                "give the gateway another port, or the engines another block (8000 by default)",
            )


def _gateway_ports(draft: Draft) -> dict[str, set[int]]:
    """The ports that engines leave free: on every host that is, or may become, a front door."""
    gateways = draft.fleet.planned("gateways") or draft.fleet.planned("gpu_nodes")
    return {host.name: {draft.settings.gateway_port, draft.settings.gateway_metrics_port} for host in gateways}


def _place(draft: Draft) -> None:
    """Choose layouts and seats: what runs keeps its seat, then every model takes what it still needs."""
    draft.left_alone = {
        replica.name: replica
        for replica in draft.applied.replicas
        if _is_unreachable(draft.fleet, replica.host) and any(model.name == replica.model for model in draft.models)
    }
    space = Space(draft.fleet, draft.settings.engine_port, _gateway_ports(draft))
    models = [model for model in draft.models if model.name in draft.weights]
    layouts = _applied_layouts(draft)
    for model in models:
        _choose(draft, model, space, layouts)
    models = [model for model in models if model.name in draft.choices]
    models.sort(key=lambda model: (-model.priority, -draft.choices[model.name].best.layout.world))
    for model in models:
        _keep_seats(draft, model, space)
    for model in models:
        if not draft.model_seats(model.name):
            _choose(draft, model, space, layouts)
        _take_seats(draft, model, space)
        _check_workload(draft, model)
    _check_disks(draft)


def _is_unreachable(fleet: Fleet, host: str) -> bool:
    return host in fleet.hosts and fleet.hosts[host].state == UNREACHABLE


def _applied_layouts(draft: Draft) -> dict[str, AppliedLayouts]:
    """The layouts and kinds of device on which each model's replicas run at present."""
    found: dict[str, set[tuple[Layout, str]]] = {}
    for replica in draft.applied.replicas:
        host = draft.fleet.hosts.get(replica.host)
        kinds = {device.key for device in host.devices if device.id in replica.devices} if host else set()
        found.setdefault(replica.model, set()).update((replica.layout, kind) for kind in kinds)
    return {model: AppliedLayouts(frozenset(layouts)) for model, layouts in found.items()}


def _choose(draft: Draft, model: Model, space: Space, layouts: Mapping[str, AppliedLayouts]) -> None:
    choice = choose(
        model,
        draft.weights[model.name].shape,
        draft.fleet,
        space,
        layouts.get(model.name, AppliedLayouts()),
        draft.settings,
        draft.findings,
    )
    if choice:
        draft.choices[model.name] = choice


def _wanted(model: Model, index: int, held: int) -> bool:
    """Whether a model needs a replica of this index, when those before it hold so many requests at once."""
    if model.replica_count is not None:
        return index < model.replica_count
    return held < (model.workload.concurrent_requests or 1)


def _keep_seats(draft: Draft, model: Model, space: Space) -> None:
    """Replicas that run and still fit stay where they are."""
    choice = draft.choices[model.name]
    held, next_index = 0, 0
    for replica in draft.replicas_of(model):
        held += (replica.index - next_index) * choice.best.requests
        next_index = replica.index + 1
        if not _wanted(model, replica.index, held):
            return
        seat = None
        if replica.name not in draft.left_alone:
            seat = keep(space, choice.fits, replica.host, replica.devices, replica.port)
        if seat:
            draft.seats[replica.name] = seat
        held += (seat.fit if seat else choice.best).requests


def _take_seats(draft: Draft, model: Model, space: Space) -> None:
    """Seats for the replicas that have none yet."""
    choice = draft.choices[model.name]
    before = {replica.name: replica.host for replica in draft.replicas_of(model)}
    searches = [(fit, space.search(fit)) for fit in choice.fits]
    held, index = 0, 0
    while _wanted(model, index, held):
        name = f"{model.name}-{index}"
        if name in draft.left_alone:
            held += choice.best.requests
        else:
            seat = draft.seats.get(name) or _take_seat(space, searches, before.get(name))
            if seat is None:
                _refuse_space(draft, model, index)
                return
            draft.seats[name] = seat
            held += seat.fit.requests
        index += 1


def _take_seat(space: Space, searches: list[tuple[Fit, Iterator[str]]], before: str | None) -> Seat | None:
    """A seat on the host of before if it has room, else on the first that has; the preferred kind of device first."""
    for fit, hosts in searches:
        host = before if before is not None and space.has_room(before, fit) else next(hosts, None)
        if host is not None:
            return space.take(host, fit)
    return None


def _refuse_space(draft: Draft, model: Model, seated: int) -> None:
    """Some replicas found no devices. Says which kinds are wanted, how many are missing, and who has them."""
    choice = draft.choices[model.name]
    world, wanted = choice.best.layout.world, choice.replicas
    kinds = listing(fit.kind.key for fit in choice.fits)
    short = [host for host in draft.fleet.planned("gpu_nodes") if _is_short_of_memory(host, choice.best)]
    remedies = [f"add hosts with {(wanted - seated) * world} x {choice.best.kind.key} in all"]
    if short:
        remedies = [
            f"give {listing(host.name for host in short)} more RAM: a replica takes {gib(choice.best.memory.host_bytes)}"
        ]
    if seated:
        remedies.append(f"or set replica_count: {seated}")
    others = [other.name for other in draft.models if other.name != model.name and draft.model_seats(other.name)]
    if others:
        remedies.append(f"or take devices from {listing(others)}; the model with the higher priority is placed first")
    draft.findings.refuse(
        "not_enough_memory" if short else "not_enough_devices",
        model.name,
        f"needs {counted(wanted, 'replica')} of {counted(world, 'device')} in one host each ({kinds}), "
        f"and there is room for {seated}",
        *remedies,
    )


def _is_short_of_memory(host: Host, fit: Fit) -> bool:
    return host.memory_bytes is not None and host.memory_bytes < fit.memory.host_bytes


def _check_workload(draft: Draft, model: Model) -> None:
    """Warns where the replicas hold fewer requests than the workload has."""
    choice, seats = draft.choices[model.name], draft.model_seats(model.name)
    warn_if_small(model, choice, draft.findings)
    if seats and not meets_workload(model, min(seat.fit.requests for seat in seats), len(seats) + _alone(draft, model)):
        draft.findings.warn(
            "workload_not_met",
            model.name,
            f"{counted(len(seats), 'replica')} hold {sum(seat.fit.requests for seat in seats)} requests at once, "
            f"and the workload has {model.workload.concurrent_requests}: the others wait their turn",
            "set replica_count: auto, or tensor_parallel_size: auto, or a smaller workload",
        )
    if model.workload.requests_per_second and not model.workload.concurrent_requests and model.replica_count is None:
        draft.findings.warn(
            "rate_not_used",
            model.name,
            "requests_per_second alone does not say how many requests there are at once",
            "state concurrent_requests: the rate times the seconds that one request takes",
        )


def _alone(draft: Draft, model: Model) -> int:
    return sum(replica.model == model.name for replica in draft.left_alone.values())


def _check_disks(draft: Draft) -> None:
    """Weights that are not yet on a host must find room there."""
    wanted: dict[str, dict[str, int]] = {}
    for name, seat in draft.seats.items():
        model = draft.choices[name.rpartition("-")[0]].model
        weights = draft.weights[model.name]
        path = model_path(model, weights, draft.settings)
        if model.source.kind != "host" and path not in _stored_paths(draft.applied, seat.host):
            wanted.setdefault(seat.host, {})[path] = weights.weight_bytes or 0
    for name, sizes in wanted.items():
        host, needed = draft.fleet.hosts[name], sum(sizes.values())
        free = _free_below(host, draft.settings.model_store_root)
        if free is not None and free < needed:
            draft.findings.refuse(
                "disk_too_small",
                name,
                f"has {gib(free)} free for {draft.settings.model_store_root}, and the weights planned there take {gib(needed)}",
                "free some, or put the store on a larger disk: model_store_root",
            )


def _stored_paths(applied: Applied, host: str) -> set[str]:
    """Where weights already lie on a host."""
    stored = applied.options(host, "model_store").get("model_store_models")
    return {entry.get("path") for entry in stored if isinstance(entry, dict)} if isinstance(stored, list) else set()


def _free_below(host: Host, path: str) -> int | None:
    """Free bytes where a path lies, from the nearest folder that was asked about; None where none was."""
    above = [folder for folder in host.free_disk if path == folder or path.startswith(folder.rstrip("/") + "/")]
    return host.free_disk[max(above, key=len)] if above else None


def _assemble(draft: Draft) -> dict[str, Any]:
    """The plan as data, from what was placed; without shares and steps where anything was refused."""
    target = _target(draft)
    _check_flags(draft)
    reachable = [host.name for host in draft.fleet.hosts.values() if host.planned]
    change = transition(target, draft.applied, reachable, draft.settings.allow_restart)
    gateways = _gateways(draft, change)
    refused = bool(draft.findings.refusals)
    shares = {} if refused else build(_bill(draft, target, change, gateways))
    domains = {host.name: host.failure_domain for host in draft.fleet.hosts.values()}
    serving = [host for host, roles in shares.items() if "serve" in roles]
    return {
        "diff": compare(change),
        "endpoint": _endpoint(draft, gateways),
        "gateways": list(gateways),
        "held": [] if refused else [held.as_dict() for held in change.held],
        "hosts": {name: _host(draft, host, change, shares) for name, host in draft.fleet.hosts.items()},
        "id": digest(shares),
        "models": [_model(draft, model) for model in draft.models],
        "refusals": _in_order(draft.findings.refusals),
        "replicas": [_replica(draft, name, placed, change) for name, placed in change.in_force.items()],
        "schema": SCHEMA,
        "shares": shares,
        "steps": [] if refused else [step.as_dict() for step in steps(change, domains)],
        "tier": max((tier for tier in (_tier(draft, model) for model in draft.models) if tier), default=None),
        "warnings": _in_order(draft.findings.warnings),
        "waves": waves(change, serving),
    }


def _in_order(findings: list[Finding]) -> list[dict[str, Any]]:
    """Findings as data, those about one thing side by side."""
    ordered = sorted(findings, key=lambda finding: (natural_key(finding.subject), finding))
    return [finding.as_dict() for finding in ordered]


def _check_flags(draft: Draft) -> None:
    """The flags of every model, against the engine variant that it gets, or would get."""
    kinds = sorted((kind.accelerator for kind in draft.fleet.kinds.values()), reverse=True)
    for model in draft.models:
        choice = draft.choices.get(model.name)
        if choice:
            check_cpu_pipeline(model, choice.best.layout, choice.best.kind.accelerator, draft.findings)
        if choice or kinds:
            check_known(model, choice.best.kind.accelerator if choice else kinds[0], draft.settings, draft.findings)


def _target(draft: Draft) -> dict[str, Placed]:
    """What the plan aims at: a unit for each seat, and what is left alone as it was applied."""
    target = {name: Placed(replica.host, replica.unit) for name, replica in draft.left_alone.items()}
    for name, seat in draft.seats.items():
        choice = draft.choices[name.rpartition("-")[0]]
        weights = draft.weights[choice.model.name]
        target[name] = Placed(seat.host, unit(name, choice, weights, seat, draft.fleet, draft.settings))
    return target


def _gateways(draft: Draft, change: Transition) -> tuple[str, ...]:
    """The front door: the hosts of the group, else the host that has it already, else the first that serves."""
    group = draft.fleet.planned("gateways")
    if group:
        return tuple(host.name for host in group)
    stated = [host.name for host in draft.fleet.hosts.values() if "gateways" in host.groups]
    if stated:
        draft.findings.refuse(
            "no_gateway", "gateways", f"has {listing(stated)}, of which none answers", "bring one back, or name another"
        )
    serving = sorted(
        {placed.host for placed in change.in_force.values() if placed.host in change.reachable}, key=natural_key
    )
    before = [host for host in serving if draft.applied.options(host, "gateway").get("gateway_models")]
    return tuple((before or serving)[:1])


def _bill(draft: Draft, target: Mapping[str, Placed], change: Transition, gateways: tuple[str, ...]) -> Bill:
    return Bill(
        models=draft.models,
        weights=draft.weights,
        in_force=change.in_force,
        fresh=frozenset(
            name for name, placed in change.in_force.items() if name in draft.seats and placed == target[name]
        ),
        gateways=gateways,
        fleet=draft.fleet,
        applied=draft.applied,
        settings=draft.settings,
    )


def _endpoint(draft: Draft, gateways: tuple[str, ...]) -> dict[str, Any] | None:
    if not gateways:
        return None
    host = draft.fleet.hosts[gateways[0]]
    return {
        "address": host.address,
        "host": host.name,
        "port": draft.settings.gateway_port,
        "scheme": draft.settings.scheme,
    }


def _tier(draft: Draft, model: Model) -> int | None:
    if model.name not in draft.choices:
        return None
    seats = len(draft.model_seats(model.name)) + _alone(draft, model)
    return model_tier(draft.choices[model.name].best.layout.world, seats, bool(draft.fleet.planned("gateways")))


def _host(draft: Draft, host: Host, change: Transition, shares: Mapping[str, Any]) -> dict[str, Any]:
    used = {
        device for placed in change.in_force.values() if placed.host == host.name for device in placed.unit["devices"]
    }
    return {
        "accelerator": draft.fleet.accelerator(host),
        "address": host.address,
        "devices": [
            {
                "free": device.id not in used,
                "id": device.id,
                "key": device.key,
                "usable_gib": rounded_gib(draft.fleet.kinds[device.key].memory_bytes),
            }
            for device in host.devices
        ],
        "failure_domain": host.failure_domain,
        "groups": sorted(host.groups),
        "roles": list(shares.get(host.name, {})),
        "state": host.state,
    }


def _model(draft: Draft, model: Model) -> dict[str, Any]:
    choice = draft.choices.get(model.name)
    seats = draft.model_seats(model.name)
    used = {seat.fit.kind.key for seat in seats}
    fits = [fit for fit in choice.fits if fit.kind.key in used] or [choice.best] if choice else []
    return {
        "accelerator": fits[0].kind.accelerator if fits else None,
        "default": model.default or not any(other.default for other in draft.models) and model is draft.models[0],
        "device_key": fits[0].kind.key if fits else None,
        "distributed_executor_backend": executor(fits[0].layout) if fits else None,
        "fits_requests": min((fit.requests for fit in fits), default=None),
        "max_model_len": choice.max_model_len if choice else model.max_model_len,
        "memory": [row for fit in fits for row in _memory_rows(fit)],
        "name": model.name,
        "pipeline_parallel_size": fits[0].layout.pipeline_parallel_size if fits else None,
        "reason": choice.reason if choice else "refused",
        "replica_count": len(seats) + _alone(draft, model),
        "revision": model.revision,
        "served_model_name": model.served_model_name,
        "source": model.source.place,
        "tensor_parallel_size": fits[0].layout.tensor_parallel_size if fits else None,
        "tier": _tier(draft, model),
    }


def _memory_rows(fit: Fit) -> list[dict[str, Any]]:
    """One row for the ranks of each stage, which are alike."""
    return [_memory_row(fit, stage) for stage in fit.memory.stages]


def _memory_row(fit: Fit, stage: RankMemory) -> dict[str, Any]:
    tensor = fit.layout.tensor_parallel_size
    first = stage.stage * tensor
    return {
        "activation_gib": rounded_gib(stage.activation),
        "block_size": fit.memory.block_tokens,
        "device_gib": rounded_gib(stage.device),
        "device_key": fit.kind.key,
        "graphs_gib": rounded_gib(stage.graphs),
        "kv_blocks": fit.memory.blocks,
        "kv_gib": rounded_gib(stage.kv),
        "kv_tokens": fit.memory.tokens,
        "margin_gib": rounded_gib(stage.margin),
        "outside_gib": rounded_gib(stage.outside),
        "rank": str(first) if tensor == 1 else f"{first}-{first + tensor - 1}",
        "weights_gib": rounded_gib(stage.weights),
    }


def _replica(draft: Draft, name: str, placed: Placed, change: Transition) -> dict[str, Any]:
    config = placed.unit["config"]
    tensor, pipeline = config.get("tensor_parallel_size", 1), config.get("pipeline_parallel_size", 1)
    host = draft.fleet.hosts.get(placed.host)
    indexes = {device.id: device.index for device in host.devices} if host else {}
    return {
        "address": placed.unit["address"],
        "executor": executor(Layout(tensor, pipeline)),
        "head": placed.host,
        "held": any(held.replica == name for held in change.held),
        "index": int(name.rpartition("-")[2]),
        "model": placed.unit["model"],
        "name": name,
        "port": placed.unit["port"],
        "ranks": [
            {
                "device": device,
                "device_index": indexes.get(device),
                "host": placed.host,
                "pp_rank": rank // tensor,
                "rank": rank,
                "tp_rank": rank % tensor,
            }
            for rank, device in enumerate(placed.unit["devices"])
        ],
    }
