# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan as a document: from a finished draft to plain data.

Its keys: ``schema``, ``id`` (a hash of the shares alone), ``tier``, ``refusals`` and ``warnings``; ``models``,
``replicas``, ``hosts``, ``gateways`` and ``endpoint``, which say what runs where; ``perimeter``, who may reach which
port; ``steps``, ``held``, ``diff`` and ``waves``, which say how to get there; ``measured``, the figures of replicas
that run as they are in the plan, and ``basis``, the measured figures that the number of replicas rests on; and
``shares``, the options of every role on every host.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..module_utils._measured_fact import unit_id
from ._capacity import Fit
from ._cluster import Cluster, cluster_of
from ._draft import Draft, replica_name
from ._executor import UNI, executor
from ._findings import Finding
from ._fleet import UNREACHABLE, Host
from ._interval import Interval
from ._k3s_nodes import k3s_nodes, k3s_options
from ._layout import model_tier
from ._memory import RankMemory
from ._perimeter import Perimeter, perimeter
from ._share import Bill, build, digest
from ._steps import Placed, Transition, compare, steps, transition, waves
from ._text import natural_key, rounded_gib
from ._units import units
from ._weights import layout_of
from ._wishes import Model

SCHEMA = 1


def document(draft: Draft) -> dict[str, Any]:
    """The plan as plain data; without shares, steps and held replicas where anything was refused."""
    refused = bool(draft.findings.refusals)
    target = _target(draft)
    reachable = [host.name for host in draft.fleet.hosts.values() if host.planned]
    change = transition(target, draft.applied, reachable, draft.settings.allow_restart)
    cluster = cluster_of(draft)
    gateways = _gateways(draft, change)
    walls = _perimeter(draft, change, gateways)
    shares = {} if refused else build(_bill(draft, target, change, gateways, cluster, walls))
    domains = {host.name: host.failure_domain for host in draft.fleet.hosts.values()}
    tiers = [tier for model in draft.models if (tier := _tier(draft, model))]
    held = frozenset(held.replica for held in change.held)
    subnets = {name: seat.fabric.subnet for name, _of, seat in draft.all_seats() if seat.fabric}
    return {
        "basis": dict(sorted(draft.basis.items())),
        "diff": _difference(change, cluster),
        "endpoint": _endpoint(draft, gateways),
        "gateways": list(gateways),
        "held": [] if refused else [item.as_dict() for item in (*change.held, *(cluster.held if cluster else ()))],
        "hosts": _hosts(draft, change, shares),
        "id": digest(shares),
        "measured": _measured(draft, change),
        "models": [_model(draft, model) for model in draft.models],
        "perimeter": walls.as_dict(),
        "refusals": _in_order(draft.findings.refusals),
        "replicas": [
            _replica(draft, name, placed, name in held, subnets.get(name)) for name, placed in change.in_force.items()
        ],
        "schema": SCHEMA,
        "shares": shares,
        "steps": [] if refused else [step.as_dict() for step in steps(change, domains)],
        "tier": max(tiers, default=None),
        "warnings": _in_order(draft.findings.warnings),
        "waves": waves(change, [host for host, roles in shares.items() if "serve" in roles]),
    }


def _difference(change: Transition, cluster: Cluster | None) -> dict[str, list[str]]:
    """What a run does to each replica, and on Kubernetes to each model."""
    pods = cluster.diff if cluster else {}
    return {word: sorted([*names, *pods.get(word, [])], key=natural_key) for word, names in compare(change).items()}


def _measured(draft: Draft, change: Transition) -> dict[str, dict[str, Any]]:
    """What was measured of each replica whose settings stay as they are, by its name."""
    return {
        replica.name: replica.measured.as_dict()
        for replica in draft.applied.replicas
        if replica.measured and replica.name in change.in_force
        if unit_id(change.in_force[replica.name].unit) == unit_id(replica.unit)
    }


def _in_order(findings: list[Finding]) -> list[dict[str, Any]]:
    """Findings as data, those about one thing side by side."""
    ordered = sorted(findings, key=lambda finding: (natural_key(finding.subject), finding))
    return [finding.as_dict() for finding in ordered]


def _target(draft: Draft) -> dict[str, Placed]:
    """What the plan aims at: the units of each seat, and what is left alone as it was applied. Pods have no units."""
    if draft.kubernetes:
        return {}
    target = {name: Placed(replica.units) for name, replica in draft.left_alone.items()}
    for name, model, seat in draft.all_seats():
        choice, weights = draft.choices[model.name], draft.weights[model.name]
        target[name] = Placed(
            units(name, choice, weights, seat, draft.fleet, draft.settings, draft.ray_ports.get(name))
        )
    return target


def _gateways(draft: Draft, change: Transition) -> tuple[str, ...]:
    """The front door: the hosts of the group, else the host that has it already, else the first that serves; on
    Kubernetes the first server."""
    group = draft.fleet.planned("gateways") or (draft.fleet.planned("k3s_servers")[:1] if draft.kubernetes else [])
    if group:
        return tuple(host.name for host in group)
    serving = {placed.host for placed in change.in_force.values() if placed.host in change.reachable}
    before = {host for host in serving if draft.applied.options(host, "gateway").get("gateway_models")}
    return tuple(sorted(before or serving, key=natural_key)[:1])


def _perimeter(draft: Draft, change: Transition, gateways: tuple[str, ...]) -> Perimeter:
    """Who may reach what. Hosts that do not answer are let in as before: they come back by themselves."""
    silent = [host for host in draft.fleet.hosts.values() if host.state == UNREACHABLE]
    doors = gateways + tuple(host.name for host in silent if "gateways" in host.groups)
    replicas = [placed.units for placed in change.in_force.values()]
    return perimeter(replicas, doors, draft.fleet, draft.settings, k3s_nodes(draft))


def _bill(
    draft: Draft,
    target: Mapping[str, Placed],
    change: Transition,
    gateways: tuple[str, ...],
    cluster: Cluster | None,
    walls: Perimeter,
) -> Bill:
    seated = {name for name, _model, _seat in draft.all_seats()}
    return Bill(
        models=draft.models,
        weights=draft.weights,
        in_force=change.in_force,
        fresh=frozenset(name for name, placed in change.in_force.items() if name in seated and placed == target[name]),
        traffic=_traffic(draft),
        gateways=gateways,
        fleet=draft.fleet,
        applied=draft.applied,
        settings=draft.settings,
        stacks=draft.stacks,
        cluster=cluster,
        nodes=k3s_options(draft),
        perimeter=walls,
    )


def _traffic(draft: Draft) -> dict[str, int]:
    """How many requests a replica gets for each one of the model's smallest: 1, unless its devices hold more."""
    weights = {}
    for model in draft.models:
        smallest = min((seat.fit.requests for seat in draft.seats_of(model)), default=1)
        for index, seat in draft.seats.get(model.name, {}).items():
            weights[replica_name(model, index)] = max(1, round(seat.fit.requests / max(1, smallest)))
    return weights


def _endpoint(draft: Draft, gateways: tuple[str, ...]) -> dict[str, Any] | None:
    if not gateways:
        return None
    host, settings = draft.fleet.hosts[gateways[0]], draft.settings
    return {"address": host.address, "host": host.name, "port": settings.gateway_port, "scheme": settings.scheme}


def _tier(draft: Draft, model: Model) -> int | None:
    layouts = [replica.layout for replica in draft.alone_of(model)]
    if model.name in draft.choices:
        layouts.append(draft.choices[model.name].best.layout)
    if not layouts:
        return None
    if draft.kubernetes:
        return 5
    largest = max(layouts, key=lambda layout: (layout.nnodes, layout.world))
    return model_tier(largest, draft.replica_count(model), bool(draft.fleet.planned("gateways")))


def _hosts(draft: Draft, change: Transition, shares: Mapping[str, Any]) -> dict[str, Any]:
    used: dict[str, set[str]] = {}
    for placed in change.in_force.values():
        for host, unit in placed.units.items():
            used.setdefault(host, set()).update(unit["devices"])
    return {
        name: _host(draft, host, used.get(name, set()), list(shares.get(name, {})))
        for name, host in draft.fleet.hosts.items()
    }


def _host(draft: Draft, host: Host, used: set[str], roles: list[str]) -> dict[str, Any]:
    return {
        "accelerator": draft.fleet.accelerator(host),
        "address": host.address,
        "devices": [{"free": device["id"] not in used, **device} for device in _devices(draft, host)],
        "failure_domain": host.failure_domain,
        "groups": sorted(host.groups),
        "roles": roles,
        "stack": draft.stacks.get(host.name),
        "state": host.state,
    }


def _devices(draft: Draft, host: Host) -> list[dict[str, Any]]:
    """The devices of a host; of one that does not answer, those of the last plan."""
    if host.state == UNREACHABLE:
        return draft.applied.last_hosts.get(host.name, [])
    kinds = draft.fleet.kinds
    return [
        {"id": device.id, "key": device.key, "usable_gib": rounded_gib(kinds[device.key].memory_bytes)}
        for device in host.devices
    ]


def _model(draft: Draft, model: Model) -> dict[str, Any]:
    choice, pods = draft.choices.get(model.name), draft.pods.get(model.name)
    fits = _fits_in_use(draft, model)
    layout = fits[0].layout if fits else None
    return {
        "accelerator": fits[0].kind.accelerator if fits else None,
        "capacity": _capacity(draft, model, fits),
        "data_parallel_size": layout.data_parallel_size if layout else None,
        "decode_context_parallel_size": model.decode_context_parallel_size,
        "default": model is draft.default_model,
        "device_key": fits[0].kind.key if fits else None,
        "distributed_executor_backend": executor(model, layout) if layout else None,
        "fits_requests": min((fit.requests for fit in fits), default=None),
        "max_replicas": pods.maximum if pods else None,
        "max_model_len": choice.max_model_len if choice else model.max_model_len,
        "memory": [_memory(fit, stage) for fit in fits for stage in fit.memory.stages],
        "min_replicas": pods.minimum if pods else None,
        "name": model.name,
        "nnodes": layout.nnodes if layout else None,
        "pipeline_parallel_size": layout.pipeline_parallel_size if layout else None,
        "reason": choice.reason if choice else _why_without_layout(draft, model),
        "replica_count": None if draft.kubernetes else draft.replica_count(model),
        "revision": model.revision,
        "runners_up": [other.as_dict() for other in choice.runners_up] if choice else [],
        "served_model_name": model.served_model_name,
        "source": model.source.place,
        "tensor_parallel_size": layout.tensor_parallel_size if layout else None,
        "tier": _tier(draft, model),
    }


def _capacity(draft: Draft, model: Model, fits: list[Fit]) -> dict[str, Any] | None:
    """What the model's replicas serve: each on the preferred kind of device in use, and all together; None where
    there is neither an estimate nor a measurement of all of them."""
    used = [seat.fit for seat in draft.seats_of(model)] + fits[:1] * len(draft.alone_of(model))
    rates = [rate for fit in used if (rate := fit.reported)]
    if not rates or len(rates) < len(used):
        return None
    best = fits[0]
    total = Interval(*(sum(getattr(rate, end) for rate in rates) for end in ("low", "likely", "high")))
    return {
        "estimate": best.measured is None,
        "measured": best.measured is not None,
        "replicas": len(rates),
        "requests_per_second": best.reported.as_dict() if best.reported else None,
        "source": best.measured.source if best.measured else "estimate",
        "speed": best.speed.as_dict() if best.speed else None,
        "total_requests_per_second": total.as_dict(),
    }


def _why_without_layout(draft: Draft, model: Model) -> str:
    return "left as it is, on hosts that do not answer" if draft.alone_of(model) else "refused"


def _fits_in_use(draft: Draft, model: Model) -> list[Fit]:
    """The kinds of device that the model's replicas are on, the preferred first."""
    choice = draft.choices.get(model.name)
    if choice is None:
        return []
    used = {seat.fit.kind.key for seat in draft.seats_of(model)}
    return [fit for fit in choice.fits if fit.kind.key in used] or [choice.best]


def _memory(fit: Fit, stage: RankMemory) -> dict[str, Any]:
    """Where the memory of one stage's ranks goes; they are all alike."""
    alike = fit.layout.tensor_parallel_size * fit.layout.data_parallel_size
    first = stage.stage * alike
    return {
        "activation_gib": rounded_gib(stage.activation.likely),
        "block_size": fit.memory.block_tokens,
        "device_gib": rounded_gib(stage.device),
        "device_key": fit.kind.key,
        "graphs_gib": rounded_gib(stage.graphs.likely),
        "kv_blocks": fit.memory.blocks,
        "kv_gib": rounded_gib(stage.kv.low),
        "kv_tokens": fit.memory.tokens,
        "likely_kv_blocks": fit.memory.likely_blocks,
        "likely_kv_tokens": fit.memory.cache.tokens(fit.memory.likely_blocks),
        "margin_gib": rounded_gib(stage.margin),
        "outside_gib": rounded_gib(stage.outside),
        "rank": str(first) if alike == 1 else f"{first}-{first + alike - 1}",
        "weights_gib": rounded_gib(stage.weights),
    }


def _replica(draft: Draft, name: str, placed: Placed, held: bool, subnet: str | None) -> dict[str, Any]:
    layout = layout_of(placed.unit["config"])
    tensor, pipeline = layout.tensor_parallel_size, layout.pipeline_parallel_size
    indexes = {host: _indexes(draft, host) for host in placed.hosts}
    devices = [(host, device) for host, unit in placed.units.items() for device in unit["devices"]]
    return {
        "address": placed.unit["address"],
        "executor": placed.unit["config"].get("distributed_executor_backend", UNI),
        "group": _group(placed, subnet) if layout.nnodes > 1 else None,
        "head": placed.host,
        "held": held,
        "index": int(name.rpartition("-")[2]),
        "model": placed.unit["model"],
        "name": name,
        "port": placed.unit["port"],
        "ranks": [
            {
                "device": device,
                "device_index": indexes[host].get(device),
                "host": host,
                "dp_rank": rank // (tensor * pipeline),
                "pp_rank": rank // tensor % pipeline,
                "rank": rank,
                "tp_rank": rank % tensor,
            }
            for rank, (host, device) in enumerate(devices)
        ],
    }


def _group(placed: Placed, subnet: str | None) -> dict[str, Any]:
    """The hosts of a replica that has several: between them, on these interfaces, every port is needed.

    subnet: null where nobody looked, and of a replica that stays as it was applied.
    """
    words = ("gloo_interface", "nccl_interfaces", "rdma_devices")
    groups = {host: unit["group"] for host, unit in placed.units.items()}
    return {
        "master_port": placed.unit["group"]["master_port"],
        "ray_port": placed.unit["group"].get("ray_port"),
        "members": [
            {
                "address": group["addresses"][group["node_rank"]],
                "host": host,
                "node_rank": group["node_rank"],
                **{word: group.get(word) for word in words},
            }
            for host, group in groups.items()
        ],
        "subnet": subnet,
    }


def _indexes(draft: Draft, name: str) -> dict[str, int]:
    """The index of each device of a host by its id."""
    host = draft.fleet.hosts[name]
    if host.state == UNREACHABLE:
        return {device["id"]: index for index, device in enumerate(_devices(draft, host))}
    return {device.id: device.index for device in host.devices}
