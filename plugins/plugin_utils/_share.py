# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the plan to the options of each role on each host.

``build`` makes all shares, once, inside the planner; ``share`` hands one host its own. A share holds no secret and no
null. Its id is a hash of its options alone, so that another host's change does not touch it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..module_utils._address import is_address
from ._applied import ROLES, Applied
from ._cluster import Cluster
from ._fleet import UNREACHABLE, Fleet
from ._perimeter import Perimeter
from ._settings import Settings
from ._shapes import Weights
from ._steps import Placed
from ._text import natural_key
from ._units import model_path, without_nulls
from ._wishes import Model


class UnknownHostError(ValueError):
    """A host that the plan does not hold."""


def share(plan: Mapping[str, Any], host: str) -> dict[str, Any]:
    """The options of every role that has work on a host: ``{role: {option: value}}``; empty where none has.

    Raises UnknownHostError for a host that is in no group of the fleet.
    """
    if host not in plan["hosts"]:
        raise UnknownHostError(f"{host} is in no group of the fleet: add it to gpu_nodes or gateways")
    roles: dict[str, Any] = plan["shares"].get(host, {})
    return roles


def canonical(value: Any) -> str:
    """JSON with one spelling: keys sorted, no blanks, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 over canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode("ascii")).hexdigest()


def with_id(role: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """A role's options with the id of its share."""
    plain = without_nulls(options)
    return {**plain, f"{role}_share_id": digest(plain)}


@dataclass(frozen=True, slots=True)
class Bill:
    """Everything that the shares are made of.

    in_force: replica -> its units by host. fresh: the replicas whose unit is the planned one (the others are held or
    left alone as applied). traffic: replica -> its weight at the gateway. gateways: hosts of the front door.
    stacks: host -> its driver stack. perimeter: who may reach which port. cluster: what runs on Kubernetes, None in the
    other tiers. nodes: host -> what it is in the k3s cluster.
    """

    models: tuple[Model, ...]
    weights: Mapping[str, Weights]
    in_force: Mapping[str, Placed]
    fresh: frozenset[str]
    traffic: Mapping[str, int]
    gateways: tuple[str, ...]
    fleet: Fleet
    applied: Applied
    settings: Settings
    stacks: Mapping[str, Mapping[str, Any]]
    perimeter: Perimeter
    cluster: Cluster | None = None
    nodes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def units_on(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = {}
        for placed in self.in_force.values():
            for host, unit in placed.units.items():
                found.setdefault(host, []).append(unit)
        return found


def build(bill: Bill) -> dict[str, dict[str, dict[str, Any]]]:
    """``{host: {role: {option: value}}}``.

    A role has a share on a host where the plan gives it work, or where it was applied before: then with empty lists, so
    that it removes what it made. A host that does not answer keeps its last share.
    """
    units = bill.units_on()
    front = _gateway_models(bill)
    shares = {}
    for host in bill.fleet.hosts.values():
        if host.state == UNREACHABLE:
            options = _kept(bill, host.name)
        elif host.planned:
            options = _options(bill, host.name, units.get(host.name, []), front)
        else:
            continue
        roles = {role: with_id(role, options[role]) for role in ROLES if role in options}
        if roles:
            shares[host.name] = roles
    return shares


def _kept(bill: Bill, host: str) -> dict[str, dict[str, Any]]:
    """The last share of a host that does not answer. What runs on Kubernetes another server hands over by now."""
    options = bill.applied.roles.get(host, {})
    return {role: given for role, given in options.items() if role != "vllm_stack" or not bill.cluster}


def _options(
    bill: Bill, host: str, units: list[dict[str, Any]], front: list[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    before = set(bill.applied.roles.get(host, {})) | ({"serve"} if bill.applied.strays.get(host) else set())
    options: dict[str, dict[str, Any]] = {}
    if host in bill.stacks:
        options["gpu_host"] = {"gpu_host_stack": bill.stacks[host]}
    if units or "engine" in before:
        options["engine"] = _engine(units)
    pods, kept = bill.cluster.stored_on(host) if bill.cluster else ([], [])
    if units or pods or "model_store" in before:
        options["model_store"] = _model_store(bill, units, pods, kept)
        options["model_store"] |= _reached_at(bill.fleet.hosts[host].address) if units or pods else {}
        # pods read as root, and a host of the cluster need not have the engine's user
        options["model_store"] |= {"model_store_user": "root"} if pods or kept else {}
    walls = bill.perimeter if bill.fleet.hosts[host].perimeter else Perimeter()
    if (closed := walls.options(host))["perimeter_doors"] or "perimeter" in before:
        options["perimeter"] = closed
    if host in bill.nodes:
        options["k3s"] = dict(bill.nodes[host])
    if units or "serve" in before:
        options["serve"] = {
            "serve_units": units,
            "serve_gateways": list(bill.gateways),
        }
    if bill.cluster and host == bill.cluster.turn.server:
        options["vllm_stack"] = bill.cluster.options()
    elif "vllm_stack" in before:
        successor = bill.cluster.turn.server if bill.cluster else ""
        options["vllm_stack"] = {
            "vllm_stack_models": [],
            "vllm_stack_nodes": [],
            "vllm_stack_successor": successor,
        }
    if host in bill.gateways or "gateway" in before:
        options["gateway"] = _gateway(bill, host, front if host in bill.gateways else [])
    return options


def _engine(units: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    paths = sorted({unit["engine_path"] for unit in units})
    return {"engine_environments": [_environment(path) for path in paths]}


def _environment(path: str) -> dict[str, str]:
    """An environment's folder is named after its variant and version."""
    variant, _dash, version = path.rpartition("/")[2].partition("-")
    return {"variant": variant, "version": version, "path": path}


def _model_store(
    bill: Bill, units: Iterable[Mapping[str, Any]], pods: Iterable[Model], kept_for_pods: Iterable[str]
) -> dict[str, Any]:
    """Weights that the inventory lists are put in place; others that held units or pods still read are only kept.

    Where a held unit reads an earlier revision, the next one is brought already, so that its restart finds it there.
    """
    listed = {model.name: _stored(model, bill.weights[model.name], bill.settings) for model in bill.models}
    entries, kept = {model.name: listed[model.name] for model in pods}, set(kept_for_pods)
    for unit in units:
        name, path = unit["model"], unit["model_path"]
        if unit["name"] in bill.fresh or (name in listed and listed[name]["path"] == path):
            entries[name] = listed[name]
        else:
            kept.add(path)
            if name in listed and listed[name]["source_kind"] != "host":
                entries[name] = listed[name]
    paths = {entry["path"] for entry in entries.values()}
    return {
        "model_store_models": [entries[name] for name in sorted(entries)],
        "model_store_keep_paths": sorted(kept - paths),
    }


def _reached_at(address: str) -> dict[str, str]:
    """Where other hosts ask for weights; nowhere on a host that is known by its name alone."""
    return {"model_store_address": address} if is_address(address) else {}


def _stored(model: Model, weights: Weights, settings: Settings) -> dict[str, Any]:
    return {
        "name": model.name,
        "source_kind": model.source.kind,
        "source": model.source.place,
        "content_id": weights.content_id,
        "path": model_path(model, weights, settings),
    }


def _gateway(bill: Bill, host: str, models: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "gateway_models": models,
        "gateway_listen_port": bill.settings.gateway_port,
        "gateway_metrics_port": bill.settings.gateway_metrics_port,
        "gateway_metrics_address": bill.fleet.hosts[host].address,
    }


def _gateway_models(bill: Bill) -> list[dict[str, Any]]:
    """Each model with its replicas. A held replica is asked under the name that it still answers to."""
    default = next((model.name for model in bill.models if model.default), bill.models[0].name)
    if bill.cluster:
        return bill.cluster.gateway_models(default)
    by_model: dict[str, list[Placed]] = {}
    for placed in bill.in_force.values():
        by_model.setdefault(placed.unit["model"], []).append(placed)
    return [
        {
            "name": name,
            "served_model_name": by_model[name][0].unit["config"].get("served_model_name", name),
            "default": name == default,
            "upstreams": [
                {
                    "replica": placed.unit["name"],
                    "address": placed.unit["address"],
                    "port": placed.unit["port"],
                    "weight": bill.traffic.get(placed.unit["name"], 1),
                }
                for placed in sorted(by_model[name], key=lambda placed: natural_key(placed.unit["name"]))
            ],
        }
        for name in sorted(by_model)
    ]
