# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a whole draft, beyond what one host or one model can be wrong about."""

from __future__ import annotations

import math
from collections.abc import Callable

from ._capacity import FEW_REQUESTS, ROUNDING, Fit
from ._cluster import check_other_side, weights_wanted
from ._devices import CPU
from ._draft import Draft
from ._executor import RAY
from ._flag_check import check_cpu_pipeline, check_files, check_known, check_needed, warn_of_unreckoned
from ._fleet import LOST, NO_ANSWER, REFUSED, UNREACHABLE, Host
from ._k3s_nodes import check_servers
from ._text import counted, did_you_mean, gib, listing
from ._units import model_path
from ._wishes import Model


def check(draft: Draft) -> None:
    """Everything below, in order."""
    checks: tuple[Callable[[Draft], None], ...] = (
        _no_devices,
        _silent_hosts,
        _lost_hosts,
        _left_hosts,
        check_other_side,
        check_servers,
        _ports,
        _front_door,
        _disks,
        _flags,
        _crossings,
        _executors,
        _workloads,
    )
    for one in checks:
        one(draft)


def _no_devices(draft: Draft) -> None:
    """Some host must offer a device. One that was refused has been told why already."""
    servers = [host for host in draft.fleet.hosts.values() if "gpu_nodes" in host.groups]
    if servers and not draft.fleet.kinds and not any(host.state == REFUSED for host in servers):
        reached = any(host.planned for host in servers)
        draft.findings.refuse(
            "no_devices",
            "gpu_nodes",
            f"has {listing(host.name for host in servers)}, and none of them "
            + ("has a device that can be used" if reached else "can be reached"),
            "add a host with GPUs, or one with fleet_cpu_kv_gib" if reached else "bring one back",
        )


def _silent_hosts(draft: Draft) -> None:
    """A host that does not answer stops the run, unless the operator goes on without it."""
    for host in draft.fleet.hosts.values():
        if host.state != UNREACHABLE:
            continue
        replicas = listing(replica.name for replica in draft.applied.on(host.name)) or "nothing that is known of"
        if draft.settings.allow_unreachable:
            draft.findings.warn(
                NO_ANSWER,
                host.name,
                f"does not answer; left there as it is: {replicas}",
                "run again when it is back",
            )
        else:
            draft.findings.refuse(
                NO_ANSWER,
                host.name,
                f"does not answer; there is {replicas}",
                "bring it back",
                "or say fleet_allow_unreachable=true, to go on and leave it as it is",
                f"or fleet_lost_hosts: [{host.name}], to serve its replicas elsewhere",
            )


def _lost_hosts(draft: Draft) -> None:
    """fleet_lost_hosts names hosts of the fleet that do not answer."""
    hosts, findings = draft.fleet.hosts, draft.findings
    known = sorted({*hosts, *draft.applied.last_hosts})
    for name in draft.settings.lost_hosts:
        if name not in known:
            findings.refuse(
                "lost_host_unknown",
                "fleet_lost_hosts",
                f"names {name}, which is no host of the fleet",
                did_you_mean(name, known),
            )
        elif name in hosts and hosts[name].answers:
            findings.refuse(
                "lost_host_answers",
                name,
                "is named by fleet_lost_hosts, and it answers: its replicas would run twice",
                "take it out of fleet_lost_hosts",
                "or take it out of gpu_nodes, to have its replicas drained and moved",
            )
        elif name in hosts and hosts[name].state == LOST and draft.applied.on(name):
            findings.warn(
                "host_lost",
                name,
                f"is given up; elsewhere now: {listing(replica.name for replica in draft.applied.on(name))}",
                "before it comes back into the network, run reset.yml on it: its units start by themselves",
            )


def _left_hosts(draft: Draft) -> None:
    """What runs on a host that left the inventory is out of reach, and named."""
    for name in draft.applied.last_hosts:
        if name not in draft.fleet.hosts:
            draft.findings.warn(
                "host_left",
                name,
                "was in the last plan and has left the inventory: what it runs was not removed",
                f"put it back into the inventory, then: ansible-playbook gpufleet.serving.reset --limit {name} "
                f"-e fleet_confirm_reset={draft.settings.inventory_name}",
            )


def _ports(draft: Draft) -> None:
    """The engines' block must not start at a port that a gateway on the same host listens on. Pods have their own."""
    if draft.kubernetes:
        return
    settings, engines = draft.settings, draft.fleet.planned("gpu_nodes")
    gateways = draft.fleet.planned("gateways")
    if gateways and not any("gateways" in host.groups for host in engines):
        return
    ports = {"fleet_gateway_port": settings.gateway_port, "fleet_gateway_metrics_port": settings.gateway_metrics_port}
    for name, port in ports.items():
        if port == settings.engine_port:
            draft.findings.refuse(
                "port_clash",
                name,
                f"is {port}, and so is fleet_engine_port, on a host that is gateway and engine at once",
                "give the gateway another port, or the engines another block (8000 by default)",
            )
        for host in gateways or engines:
            on_host = [replica for replica in draft.applied.on(host.name) if replica.live]
            held = [replica.name for replica in on_host if (replica.host, replica.port) == (host.name, port)]
            if held and not settings.allow_restart:
                draft.findings.refuse(
                    "port_clash",
                    name,
                    f"is {port}, where {listing(held)} serves on {host.name}",
                    "give the gateway another port",
                    "or say fleet_allow_restart=true, to have the replica restarted on another",
                )


def _front_door(draft: Draft) -> None:
    """A host at least can be the front door: one of the group of gateways, or one that serves."""
    stated = [host.name for host in draft.fleet.hosts.values() if "gateways" in host.groups]
    heads = [draft.fleet.hosts[replica.host] for replica in draft.left_alone.values()]
    if not stated and heads and not any(draft.all_seats()) and not any(host.planned for host in heads):
        draft.findings.refuse(
            "no_gateway",
            "gateways",
            "is empty, and no host that serves can be reached, so that there is no front door",
            "bring a host back, or put one that answers into the group gateways",
        )
    if stated and not draft.fleet.planned("gateways"):
        draft.findings.refuse(
            "no_gateway",
            "gateways",
            f"has {listing(stated)}, and none of them can be reached",
            "bring one back, or put another host into the group",
        )


def _disks(draft: Draft) -> None:
    """Weights that are not yet on a host must find room there."""
    wanted: dict[str, dict[str, int]] = {}
    seated = ((host, model) for _name, model, seat in draft.all_seats() for host in seat.hosts)
    for host, model in weights_wanted(draft) if draft.kubernetes else seated:
        weights = draft.weights[model.name]
        path = model_path(model, weights, draft.settings)
        if model.source.kind != "host" and path not in _stored_on(draft, host):
            wanted.setdefault(host, {})[path] = weights.weight_bytes
    root = draft.settings.model_store_root
    for name, sizes in wanted.items():
        free, needed = _free_below(draft.fleet.hosts[name], root), sum(sizes.values())
        if free is not None and free < needed:
            draft.findings.refuse(
                "disk_too_small",
                name,
                f"has {gib(free)} free at {root}, and the weights planned there take {gib(needed)}",
                "free some space there, or mount a larger disk at that place",
            )


def _stored_on(draft: Draft, host: str) -> set[str]:
    """Where weights already lie on a host."""
    stored = draft.applied.options(host, "model_store").get("model_store_models")
    entries = stored if isinstance(stored, list) else []
    return {str(entry.get("path")) for entry in entries if isinstance(entry, dict)}


def _free_below(host: Host, path: str) -> int | None:
    """Free bytes where a path lies, from the nearest folder that was asked about; None where none was."""
    above = [folder for folder in host.free_disk if path == folder or path.startswith(folder.rstrip("/") + "/")]
    return host.free_disk[max(above, key=len)] if above else None


def _flags(draft: Draft) -> None:
    """The further flags of every model, against the engine variant that it gets, or would get."""
    offered = sorted({kind.accelerator for kind in draft.fleet.kinds.values()}, reverse=True)
    for model in draft.models:
        choice = draft.choices.get(model.name)
        warn_of_unreckoned(model, draft.findings)
        check_needed(model, draft.findings)
        check_files(model, draft.findings)
        if choice:
            check_cpu_pipeline(model, choice.best.layout, choice.best.kind.accelerator, draft.findings)
        if choice or offered:
            check_known(model, choice.best.kind.accelerator if choice else offered[0], draft.settings, draft.findings)


def _crossings(draft: Draft) -> None:
    """Warns of layers that are cut between hosts: whatever the model does then waits for a network."""
    for choice in draft.choices.values():
        layout = choice.best.layout
        if layout.crosses:
            draft.findings.warn(
                "tensor_parallel_over_hosts",
                choice.model.name,
                f"tensor_parallel_size {layout.tensor_parallel_size} is more than the {counted(layout.local, 'rank')} "
                f"of each of its {layout.nnodes} hosts, so that every layer waits for the network between them",
                f"set tensor_parallel_size to {layout.local} at most and let pipeline_parallel_size span the hosts, "
                "where the model allows it",
                "or use hosts with more devices",
            )


def _executors(draft: Draft) -> None:
    """Ray is for replicas over several hosts with GPUs, in tiers 1 to 4."""
    for model in draft.models:
        choice = draft.choices.get(model.name)
        if model.distributed_executor_backend != RAY or choice is None:
            continue
        subject = f"{model.name}: distributed_executor_backend"
        if draft.kubernetes:
            draft.findings.refuse(
                "ray_on_kubernetes",
                subject,
                "is ray, and the pods of a replica find one another without it",
                "say auto or mp",
            )
        elif choice.best.layout.nnodes == 1:
            draft.findings.warn(
                "ray_not_needed",
                subject,
                "is ray, and a replica takes the devices of one host alone: it runs without",
                "say auto or mp",
            )
        elif choice.best.kind.accelerator == CPU:
            draft.findings.warn(
                "ray_on_cpu",
                subject,
                "is ray, and the engine refuses that on CPUs unless a platform plugin of yours teaches it",
                "say auto or mp",
            )


def _workloads(draft: Draft) -> None:
    for model in draft.models:
        if model.name in draft.choices:
            _workload(draft, model)


def _workload(draft: Draft, model: Model) -> None:
    """Warns where the replicas hold fewer requests at once than there will be, or hardly any."""
    seats, workload = draft.seats_of(model), model.workload
    each = draft.choices[model.name].best.carries
    carried = sum((seat.fit.carries for seat in seats), start=each * len(draft.alone_of(model)))
    held = carried.at_once
    if workload.concurrent_requests is not None and seats and held < workload.concurrent_requests:
        draft.findings.warn(
            "workload_not_met",
            model.name,
            f"its replicas hold {held} requests at once, and its workload has {workload.concurrent_requests}: "
            "the others wait their turn",
            "set replica_count, tensor_parallel_size and pipeline_parallel_size to auto, or state a smaller workload",
        )
    if workload.concurrent_requests is None and held < FEW_REQUESTS:
        draft.findings.warn(
            "few_requests",
            model.name,
            f"no workload is stated, and what is planned holds {held} of its longest requests at once",
            "state workload: {concurrent_requests: ...}, and more devices are used where they are needed",
        )
    if workload.requests_per_second and carried.per_second < workload.requests_per_second * (1 - ROUNDING):
        draft.findings.warn(
            "rate_not_met",
            model.name,
            f"its replicas serve about {carried.per_second:.3g} requests a second, and its workload has "
            f"{workload.requests_per_second:g}: a queue would grow",
            "set replica_count to auto, or state a smaller workload",
            "or say what a replica serves, where it was measured: per_replica_requests_per_second",
        )
    if workload.requests_per_second and math.isinf(carried.per_second) and seats:
        draft.findings.warn(
            "rate_not_used",
            model.name,
            f"{workload.requests_per_second:g} requests a second are wished for, and how many a replica serves is not "
            "estimated here: " + _why_no_estimate(model, draft.choices[model.name].best),
            "say what a replica serves: per_replica_requests_per_second",
            "or state concurrent_requests: the rate times the seconds that one request takes",
        )


def _why_no_estimate(model: Model, fit: Fit) -> str:
    if model.workload.tokens_per_request is None:
        return "prompt_tokens and output_tokens are not stated"
    if model.engine_args.get("enforce_eager") is True:
        return "the engine runs without CUDA graphs (enforce_eager)"
    if fit.layout.crosses:
        return "the speed of the network between its hosts is not known"
    return f"the speed of {fit.kind.key} is not known"
