# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host is what in the k3s cluster, and by which server it joins.

One server begins the cluster, once in its life; all others join. What is applied decides, so that neither a server that
is down nor one that was made anew begins a second cluster beside the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._devices import CUDA
from ._draft import Draft
from ._fleet import LOST, PLANNED, UNREACHABLE, Host

SERVER, AGENT, NONE = "server", "agent", "none"


def k3s_options(draft: Draft) -> dict[str, dict[str, Any]]:
    """Host -> the options of the role ``k3s`` there. A host that leaves the cluster has the role ``none``."""
    if not draft.settings.k3s_manage:
        return {}
    leaving = {
        host.name: _leaves(draft)
        for host in draft.fleet.hosts.values()
        if host.planned and _recorded(draft, host) and not _is_node(draft, host)
    }
    if not draft.kubernetes:
        return leaving
    begins = _beginner(draft)
    first = _reached(draft)
    if first is None:
        return {}
    nodes = {}
    for host in draft.fleet.hosts.values():
        if host.planned and _is_node(draft, host):
            nodes[host.name] = {
                "k3s_node_role": SERVER if host in _servers(draft) else AGENT,
                "k3s_node_name": host.name,
                "k3s_node_address": host.address,
                "k3s_server_address": "" if host == begins else _joins(draft, host, first),
                "k3s_server_host": host.name if host == begins else first.name,
                "k3s_gpus": _gpus(draft, host),
                "k3s_gpu_nodes": _gpu_nodes(draft) if host == draft.fleet.planned("k3s_servers")[0] else [],
            }
    return nodes | leaving


def k3s_nodes(draft: Draft) -> list[Host]:
    """The nodes of the cluster that is ours, with those that do not answer: they come back by themselves."""
    if not draft.settings.k3s_manage:
        return []
    known = [host for host in draft.fleet.hosts.values() if host.state in (PLANNED, UNREACHABLE)]
    return [host for host in known if _is_node(draft, host)]


def check_servers(draft: Draft) -> None:
    """Refuse to begin a cluster anew where its agents are there and no server of it is left."""
    if not draft.kubernetes or not draft.settings.k3s_manage or _reached(draft) is None:
        return
    joined = [host.name for host in draft.fleet.hosts.values() if _recorded(draft, host)]
    if joined and not any(_recorded(draft, server) for server in _servers(draft)):
        draft.findings.refuse(
            "cluster_without_servers",
            "k3s_servers",
            f"has no server of the cluster that {joined[0]} is in, so that a second cluster would begin beside it",
            "put a server of the cluster back into k3s_servers",
            f"or take the old nodes out of it first: playbooks/reset.yml --limit {','.join(joined)}",
        )


def _is_node(draft: Draft, host: Host) -> bool:
    return draft.kubernetes and bool(host.groups & {"k3s_servers", "k3s_agents"})


def _servers(draft: Draft) -> list[Host]:
    return [host for host in draft.fleet.hosts.values() if "k3s_servers" in host.groups and host.state != LOST]


def _recorded(draft: Draft, host: Host) -> Mapping[str, Any]:
    """What is applied of k3s on a host; empty where it is no node."""
    options = draft.applied.options(host.name, "k3s")
    return options if options.get("k3s_node_role") in (SERVER, AGENT) else {}


def _beginner(draft: Draft) -> Host | None:
    """The server that began the cluster or will; None where it is gone, and the others carry on."""
    servers = _servers(draft)
    known = [host for host in servers if _recorded(draft, host)]
    if known:
        return next((host for host in known if _recorded(draft, host).get("k3s_server_address") == ""), None)
    return next((host for host in servers if host.planned), None)


def _reached(draft: Draft) -> Host | None:
    """The server by which nodes join: the first that is in the cluster and answers, else the one that begins it."""
    planned = draft.fleet.planned("k3s_servers")
    known = [host for host in planned if _recorded(draft, host)]
    begins = _beginner(draft)
    if begins in known:
        return begins
    return next(iter(known or planned), None)


def _joins(draft: Draft, host: Host, first: Host) -> str:
    """The address of the server that a node joins by: the one that it has, as long as that is one.

    A server whose etcd has data passes it over, so that the last one of a cluster may name itself.
    """
    before = _recorded(draft, host).get("k3s_server_address")
    addresses = [server.address for server in (first, *_servers(draft)) if server != host]
    return before if before in addresses else next(iter(addresses), host.address)


def _gpus(draft: Draft, host: Host) -> int:
    return len(host.devices) if draft.fleet.accelerator(host) == CUDA else 0


def _gpu_nodes(draft: Draft) -> list[dict[str, Any]]:
    """The nodes with GPUs and how many each has, for the server that shows them to Kubernetes."""
    nodes = [host for host in draft.fleet.planned("gpu_nodes") if _is_node(draft, host)]
    return [{"name": host.name, "count": count} for host in nodes if (count := _gpus(draft, host))]


def _leaves(draft: Draft) -> dict[str, Any]:
    """The options of a host that leaves: by which server it is taken out, none where the whole cluster goes."""
    staying = _reached(draft) if draft.kubernetes else None
    return {"k3s_node_role": NONE, "k3s_server_host": staying.name if staying else ""}
