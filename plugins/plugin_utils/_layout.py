# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which layout each model gets: the fewest devices that meet its workload, or a refusal that says what would.

An applied layout that still fits is kept, so that a new host or a better idea never moves what runs. Everything here is
about one model; several share a fleet by the order in which ``_seating`` asks for them.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from ..module_utils._model import ModelShape
from ._capacity import Fit, fit, replicas_wanted
from ._devices import CPU, Kind
from ._executor import RAY, executor
from ._findings import Findings
from ._fleet import Fleet
from ._memory import as_served
from ._parallelism import (
    layouts,
    spanning,
    tensor_sizes,
    why_not_context,
    why_not_data,
    why_not_pipeline,
    why_not_tensor,
)
from ._placement import Space
from ._remedies import refuse_size
from ._search import AppliedLayouts, RunnerUp, alike, kept, ranked, runners_up
from ._settings import Settings
from ._text import counted, listing
from ._weights import Layout
from ._wishes import Model

MOST_HOSTS = 16
"""Hosts of one replica that are tried: 128 GPUs."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A model's layout, with the kinds of devices that take it in order of preference, and why it was chosen.

    runners_up: the next best, as they stood when all replicas were still to be placed.
    """

    model: Model
    shape: ModelShape
    max_model_len: int
    fits: tuple[Fit, ...]
    reason: str
    runners_up: tuple[RunnerUp, ...] = ()

    @property
    def best(self) -> Fit:
        return self.fits[0]

    @property
    def replicas(self) -> int:
        """Replicas that the workload needs, if all get the preferred kind."""
        return replicas_wanted(self.model, self.best.carries)


def context_length(model: Model, shape: ModelShape, findings: Findings) -> int | None:
    """The longest request, in tokens: as wished, else what the model was made for; None where the wish is refused."""
    longest = shape.max_position_embeddings
    if model.max_model_len is None or model.max_model_len <= longest:
        return model.max_model_len or longest
    stretched = model.engine_env.get("VLLM_ALLOW_LONG_MAX_MODEL_LEN") == "1" or "hf_overrides" in model.engine_args
    if stretched:
        return model.max_model_len
    findings.refuse(
        "context_too_long",
        model.name,
        f"max_model_len is {model.max_model_len}, and the model was made for {longest} tokens",
        f"set max_model_len to {longest} at most",
        "or stretch its positions with engine_args: {hf_overrides: ...}",
    )
    return None


def check_wished_layout(model: Model, shape: ModelShape, fleet: Fleet, findings: Findings) -> bool:
    """Whether the model can be cut as the operator wishes, on any devices. What cannot be is refused."""
    most = max((len(host.devices) for host in fleet.hosts.values()), default=1)
    tensor = model.tensor_parallel_size
    obstacle = why_not_tensor(shape, tensor) if tensor else None
    if obstacle:
        legal = ", ".join(map(str, tensor_sizes(shape, max(most, 8))))
        findings.refuse(
            "tensor_parallel_does_not_divide",
            model.name,
            obstacle,
            f"set tensor_parallel_size to one of {legal}, or to auto",
            *_pipeline_instead(shape, tensor),
        )
        return False
    obstacle = why_not_pipeline(shape, model.pipeline_parallel_size or 1)
    if obstacle:
        findings.refuse(
            "pipeline_parallel_too_large", model.name, obstacle, "lower pipeline_parallel_size, or set it to auto"
        )
        return False
    obstacles = [
        why_not_context(model, shape, size) for size in ([tensor] if tensor else tensor_sizes(shape, max(most, 8)))
    ]
    if all(obstacles):
        findings.refuse(
            "decode_context_parallel_not_possible",
            model.name,
            obstacles[-1] or "",
            "lower decode_context_parallel_size, or leave it out: every rank then keeps the tokens of its heads whole",
        )
        return False
    obstacle = why_not_data(model, shape, _wished(model))
    if obstacle:
        allowed = ["or say engine_args: {enable_expert_parallel: true}"] if shape.num_experts else []
        findings.refuse(
            "data_parallel_not_possible",
            model.name,
            obstacle,
            "leave data_parallel_size out and use replica_count: the gateway spreads the requests over replicas",
            *allowed,
        )
        return False
    return True


def _wished(model: Model) -> Layout:
    return Layout(model.tensor_parallel_size or 1, model.pipeline_parallel_size or 1, model.data_parallel_size or 1)


def _pipeline_instead(shape: ModelShape, ranks: int | None) -> list[str]:
    """Another way of using as many devices, where there is one."""
    tensors = [size for size in tensor_sizes(shape, ranks or 1) if ranks and ranks % size == 0]
    if not ranks or not tensors or why_not_pipeline(shape, ranks // tensors[-1]):
        return []
    return [
        f"for {ranks} devices say tensor_parallel_size: {tensors[-1]}, pipeline_parallel_size: {ranks // tensors[-1]}"
    ]


def choose(
    model: Model,
    checkpoint: ModelShape,
    fleet: Fleet,
    space: Space,
    applied: AppliedLayouts,
    settings: Settings,
    findings: Findings,
) -> Choice | None:
    """The layout of a model on the free devices of ``space``; None where it was refused."""
    shape = as_served(checkpoint, model)
    max_model_len = context_length(model, shape, findings)
    possible = check_wished_layout(model, shape, fleet, findings)
    if max_model_len is None or not possible or not fleet.kinds:
        return None
    candidates = _candidates(model, shape, fleet, max_model_len, applied)
    if not candidates:
        _refuse_world(model, fleet, findings)
        return None
    fitting = [candidate for candidate in candidates if candidate.fits]
    if not fitting:
        refuse_size(model, shape, candidates, max_model_len, findings)
        return None
    bounded = [candidate for candidate in fitting if _tier_allows(model, candidate, settings, fleet)]
    if not bounded:
        _refuse_tier(model, fitting, settings, fleet, findings)
        return None
    ranking = ranked(model, bounded, space)
    best = kept(ranking, applied)
    fits = (best.fit, *(other.fit for other in ranking if other is not best and alike(other.fit, best.fit)))
    others = runners_up(ranking, best)
    return Choice(model, shape, max_model_len, fits, _reason(model, best.fit, applied, others), others)


def _candidates(
    model: Model, shape: ModelShape, fleet: Fleet, max_model_len: int, applied: AppliedLayouts
) -> list[Fit]:
    """Layouts inside one host and those that are applied; where none of them fits, over as few hosts as do."""
    found = []
    for kind in fleet.kinds.values():
        most = 1 if kind.sliced else most_in_one_host(fleet, kind)
        inside = layouts(model, shape, most)
        runs = (layout for layout, key in _in_order(applied) if key == kind.key and layout.nnodes > 1)
        spread = (layout for layout in runs if layout in spanning(model, shape, layout.local, layout.nnodes))
        found += [fit(model, shape, kind, layout, max_model_len) for layout in (*inside, *spread)]
    if any(candidate.fits for candidate in found):
        return found
    return found + _over_hosts(model, shape, fleet, max_model_len)


def _in_order(applied: AppliedLayouts) -> list[tuple[Layout, str]]:
    return sorted(applied, key=lambda runs: (astuple(runs[0]), runs[1]))


def _over_hosts(model: Model, shape: ModelShape, fleet: Fleet, max_model_len: int) -> list[Fit]:
    """Layouts over the fewest hosts that hold the model; those whose layers are cut between hosts only where nothing
    else holds it. All that were tried where none does."""
    tried: list[Fit] = []
    for crosses in (False, True):
        for nnodes in range(2, MOST_HOSTS + 1):
            fits = [
                fit(model, shape, kind, layout, max_model_len)
                for kind in fleet.kinds.values()
                if not kind.sliced and _hosts_with(fleet, kind) >= nnodes
                for layout in spanning(model, shape, most_in_one_host(fleet, kind), nnodes)
                if layout.crosses is crosses
            ]
            if any(candidate.fits for candidate in fits):
                return fits
            tried += fits
    return tried


def _hosts_with(fleet: Fleet, kind: Kind) -> int:
    hosts = fleet.planned("gpu_nodes")
    return sum(any(device.key == kind.key for device in host.devices) for host in hosts)


def most_in_one_host(fleet: Fleet, kind: Kind) -> int:
    """The most devices of a kind in one host, free or not."""
    hosts = fleet.planned("gpu_nodes")
    return max((sum(device.key == kind.key for device in host.devices) for host in hosts), default=0)


def _reason(model: Model, best: Fit, applied: AppliedLayouts, others: tuple[RunnerUp, ...]) -> str:
    """Why this layout, in words."""
    world = best.layout.world
    devices = "one device" if world == 1 else f"{world} devices"
    holds = f"{counted(best.requests, 'request')} at once"
    if best.layout.nnodes > 1:
        holds += "; " + _why_executor(model, best.layout)
    if model.tensor_parallel_size and model.pipeline_parallel_size:
        return f"{best.layout} as asked for; a replica holds {holds}"
    if (best.layout, best.kind.key) in applied:
        return f"{devices} of {best.kind.key} a replica, as applied; it holds {holds}"
    nothing_else = "" if others else ", the only layout that fits"
    return f"{devices} of {best.kind.key} a replica{nothing_else}, {_goal(model)}; a replica holds {holds}"


def _why_executor(model: Model, layout: Layout) -> str:
    if executor(model, layout) == RAY:
        return "executor ray as asked for: each replica has a Ray cluster of its own"
    return f"executor mp: the engine spans {layout.nnodes} hosts by itself, and needs no Ray"


def _goal(model: Model) -> str:
    workload = model.workload
    goals = []
    if workload.concurrent_requests:
        goals.append(f"{counted(workload.concurrent_requests, 'request')} at once to hold")
    if workload.requests_per_second:
        goals.append(f"{workload.requests_per_second:g} a second to serve")
    return f"with {listing(goals)}" if goals else "with no workload stated"


def needed_tier(model: Model, candidate: Fit, fleet: Fleet) -> int:
    """The tier that a model needs with this layout."""
    return model_tier(candidate.layout, replicas_wanted(model, candidate.carries), bool(fleet.planned("gateways")))


def model_tier(layout: Layout, replicas: int, gateways: bool) -> int:
    """1: one device. 2: several of one host. 3: several hosts. 4: several replicas, or a gateway of its own."""
    if replicas > 1 or gateways:
        return 4
    if layout.nnodes > 1:
        return 3
    return 1 if layout.world == 1 else 2


def _tier_allows(model: Model, candidate: Fit, settings: Settings, fleet: Fleet) -> bool:
    return settings.tier is None or needed_tier(model, candidate, fleet) <= settings.tier


def _refuse_tier(model: Model, fitting: list[Fit], settings: Settings, fleet: Fleet, findings: Findings) -> None:
    easiest = min(fitting, key=lambda candidate: (needed_tier(model, candidate, fleet), candidate.layout.world))
    tier, wanted = needed_tier(model, easiest, fleet), replicas_wanted(model, easiest.carries)
    causes = []
    if wanted > 1:
        causes.append(f"{wanted} replicas")
    if fleet.planned("gateways"):
        causes.append("a gateways group")
    if easiest.layout.world > 1:
        causes.append(f"{easiest.layout.world} devices of {easiest.kind.key} a replica{_on_hosts(easiest.layout)}")
    findings.refuse(
        "tier_too_low",
        model.name,
        f"fleet_tier is {settings.tier}, and it needs tier {tier}: {listing(causes)}",
        f"set fleet_tier to {tier}, or to auto",
        *(["or set replica_count: 1"] if wanted > 1 else []),
    )


def _on_hosts(layout: Layout) -> str:
    return f" on {layout.nnodes} hosts" if layout.nnodes > 1 else ""


def _refuse_world(model: Model, fleet: Fleet, findings: Findings) -> None:
    """The wished sizes take more devices than the hosts of any one kind have, or cannot be spread over them evenly."""
    most, host = max((len(host.devices), host.name) for host in fleet.planned("gpu_nodes"))
    sliced = ", and MIG slices cannot work together" if any(kind.sliced for kind in fleet.kinds.values()) else ""
    only_cpu = all(kind.accelerator == CPU for kind in fleet.kinds.values())
    wish = _wished(model)
    hosts = counted(max(_hosts_with(fleet, kind) for kind in fleet.kinds.values()), "host")
    findings.refuse(
        "cpu_ranks" if only_cpu else "not_enough_devices",
        model.name,
        f"{wish} takes {wish.world} devices of one kind, in one host or evenly in several with whole stages each; the "
        f"fleet has {hosts} of one kind, and the largest host ({host}) has {counted(most, 'device')}{sliced}",
        *([f"set fleet_cpu_devices to {wish.world} on a host with the cores for it"] if only_cpu else []),
        "add hosts of the same kind, or lower tensor_parallel_size or pipeline_parallel_size, or set them to auto",
    )
