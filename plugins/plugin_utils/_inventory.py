# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory and the modules' answers say about each host, in the planner's words.

Ansible keeps this in ``hostvars``; the planner wants plain data. Nothing here decides anything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from ._bundle import weights_folder

FLEET_GROUPS = ("gpu_nodes", "gateways", "k3s_servers", "k3s_agents")
INVENTORY_WORDS = (
    "fleet_gpus",
    "fleet_cpu_devices",
    "fleet_cpu_kv_gib",
    "fleet_rack",
    "fleet_fabric_interface",
    "fleet_rdma_devices",
    "fleet_driver_route",
    "fleet_driver_version",
    "fleet_container_toolkit",
    "fleet_open_ports",
    "gpu_host_manage",
    "perimeter_manage",
)
HOST_ANSWERS = ("roles", "replicas", "measured")
"""What of applied_info's answer is about the host that gave it."""
CONTROLLER_PREFIX = "controller:"


def fleet_hosts(hostvars: Mapping[str, Any], groups: Mapping[str, Iterable[str]]) -> dict[str, dict[str, Any]]:
    """Every host of the fleet's groups: its groups, address, inventory words, and what it answered.

    ``reachable`` is null for a host that was not asked. ``facts`` is the whole return of ``gpu_info``, ``preflight``
    that of ``preflight_info``, or null.
    """
    membership: dict[str, list[str]] = {}
    for group in FLEET_GROUPS:
        for host in groups.get(group, ()):
            membership.setdefault(str(host), []).append(group)
    return {host: _host(hostvars[host], membership[host]) for host in sorted(membership)}


def applied(hostvars: Mapping[str, Any], hosts: Iterable[str]) -> dict[str, Any]:
    """The previous plan as the hosts hold it: what applied_info says of each, and the newest copy of the whole plan."""
    answers = {host: hostvars[host].get("survey_applied") for host in hosts}
    told = {host: answer for host, answer in answers.items() if isinstance(answer, Mapping) and "roles" in answer}
    copies = [answer["plan"] for _host, answer in sorted(told.items()) if answer.get("plan")]
    return {
        "hosts": {host: {word: answer[word] for word in HOST_ANSWERS} for host, answer in told.items()},
        "plan": copies[0] if copies else None,
    }


def to_contact(hosts: Mapping[str, Mapping[str, Any]], contact: str) -> list[str]:
    """The hosts to ask. ``auto``: the GPU nodes whose devices the inventory does not state."""
    if contact == "never":
        return []
    if contact == "always":
        return sorted(hosts)
    return sorted(
        name
        for name, host in hosts.items()
        if "gpu_nodes" in host["groups"] and not host["fleet_gpus"] and host["fleet_cpu_kv_gib"] is None
    )


def shape_requests(
    models: Any, hosts: Mapping[str, Mapping[str, Any]], inventory_dir: str, bundle: str = ""
) -> list[dict[str, Any]]:
    """Where each model's shape is read: {name, on, path | hub and revision}.

    A source is a hub id, an absolute path on the hosts (read on the first GPU node that answers) or
    ``controller:<directory>``, relative to the inventory; with a bundle, that is the model's folder in it. What is no
    such thing is the planner's to refuse.
    """
    answering = [name for name, host in sorted(hosts.items()) if host["reachable"] and "gpu_nodes" in host["groups"]]
    requests = []
    for model in models if isinstance(models, list) else []:
        name, source = (model.get("name"), model.get("source")) if isinstance(model, Mapping) else (None, None)
        if not isinstance(name, str) or not isinstance(source, str):
            continue
        if source.startswith(CONTROLLER_PREFIX):
            path = weights_folder(bundle, name) if bundle else controller_path(source, inventory_dir)
            requests.append({"name": name, "on": "localhost", "path": path})
        elif not source.startswith("/"):
            revision = model.get("revision")
            requests.append(
                {"name": name, "on": "localhost", "hub": source} | ({"revision": revision} if revision else {})
            )
        elif answering:
            requests.append({"name": name, "on": answering[0], "path": source})
    return requests


def controller_path(source: str, inventory_dir: str) -> str:
    """``controller:<directory>`` as an absolute path on the controller."""
    directory = source.removeprefix(CONTROLLER_PREFIX)
    return directory if directory.startswith("/") else f"{inventory_dir.rstrip('/')}/{directory}"


def shapes(answers: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The answers of ``model_info`` by model name, with ``error`` where it had none."""
    return {
        answer["item"]["name"]: {
            "shape": answer.get("shape"),
            "content_id": answer.get("content_id"),
            "weight_bytes": (answer.get("shape") or {}).get("weight_bytes"),
            "error": None if answer.get("shape") else str(answer.get("msg", "model_info gave no answer")),
        }
        for answer in answers
    }


def _host(variables: Mapping[str, Any], groups: list[str]) -> dict[str, Any]:
    answer, state = variables.get("survey_gpu_info"), variables.get("survey_preflight")
    if not isinstance(answer, Mapping):
        answer = None
    return {
        "groups": groups,
        "address": _address(variables),
        "reachable": None if answer is None else not answer.get("unreachable"),
        "facts": answer if answer is not None and "host" in answer else None,
        "preflight": state if isinstance(state, Mapping) and "kernel" in state else None,
        **{word: variables.get(word) for word in INVENTORY_WORDS},
    }


def _address(variables: Mapping[str, Any]) -> str | None:
    stated = variables.get("fleet_address")
    if stated:
        return str(stated)
    reached_by = variables.get("ansible_host")
    try:
        return str(ipaddress.ip_address(str(reached_by)))
    except ValueError:
        return None
