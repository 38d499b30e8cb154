# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which of the layouts that fit is the best, and what speaks against the others.

Layouts are compared goal by goal, and the first goal in which two differ decides. The goals, in their order, are the
fields of ``Score``: first what serves at all, then the workload, then the fewest devices, then the most requests a
second. Hosts stand before the devices, since every further one can fail; pipeline stages do as well, because they only
pay where tensor parallelism cannot reach.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ._capacity import Fit, meets_workload, replicas_wanted
from ._devices import CPU
from ._placement import Space
from ._text import counted
from ._weights import Layout
from ._wishes import Model

AppliedLayouts = frozenset[tuple[Layout, str]]
"""The layouts in which a model's replicas run at present, each with the key of its devices' kind."""

MOST_RUNNERS_UP = 3


@dataclass(frozen=True, slots=True, order=True)
class Score:
    """How far a layout is from each goal; smaller is better.

    on_cpu: it runs on CPUs. short: too few devices are free for all replicas. unmet: all replicas together do not carry
    the workload. hosts: of one replica. stages: of its pipeline. devices: of all replicas. slowness: minus the requests
    a second of all replicas, as adopted or estimated, 0 where nobody knows. ranks: of one replica. copies: of its
    attention. memory_bytes, key: of the devices, so that the smallest is taken, and always the same.
    """

    on_cpu: bool
    short: bool
    unmet: bool
    hosts: int
    stages: int
    devices: int
    slowness: float
    ranks: int
    copies: int
    memory_bytes: int
    key: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A layout that fits, with the replicas of it that are wanted and its score."""

    fit: Fit
    replicas: int
    score: Score

    @property
    def runs_as(self) -> tuple[Layout, str]:
        return self.fit.layout, self.fit.kind.key


@dataclass(frozen=True, slots=True)
class RunnerUp:
    """A layout that was not chosen, and what spoke against it."""

    candidate: Candidate
    behind: str

    def as_dict(self) -> dict[str, Any]:
        """The layout as the plan holds it; requests_per_second: of all its replicas, null where nobody knows."""
        fit, score = self.candidate.fit, self.candidate.score
        return {
            "behind": self.behind,
            "data_parallel_size": fit.layout.data_parallel_size,
            "device_key": fit.kind.key,
            "devices": score.devices,
            "fits_requests": fit.requests,
            "nnodes": fit.layout.nnodes,
            "pipeline_parallel_size": fit.layout.pipeline_parallel_size,
            "replica_count": self.candidate.replicas,
            "requests_per_second": round(-score.slowness, 2) if score.slowness else None,
            "tensor_parallel_size": fit.layout.tensor_parallel_size,
        }


def ranked(model: Model, fits: Sequence[Fit], space: Space) -> list[Candidate]:
    """The layouts, the best first. ``space``: the devices that are free."""
    return sorted((_scored(model, fit, fits, space) for fit in fits), key=lambda candidate: candidate.score)


def kept(candidates: Sequence[Candidate], applied: AppliedLayouts) -> Candidate:
    """The applied layout, unless there are too few devices for it and enough for another; else the best."""
    best = candidates[0]
    runs = next((candidate for candidate in candidates if candidate.runs_as in applied), best)
    return runs if runs.score.short <= best.score.short else best


def alike(other: Fit, best: Fit) -> bool:
    """Another kind of device that takes the same layout: replicas of one model may differ in their GPUs."""
    return other.layout == best.layout and other.kind.accelerator == best.kind.accelerator


def runners_up(candidates: Iterable[Candidate], chosen: Candidate) -> tuple[RunnerUp, ...]:
    """The best of those that were not chosen, with the first goal in which each is behind."""
    others = [candidate for candidate in candidates if candidate is not chosen]
    return tuple(RunnerUp(other, _behind(other, chosen)) for other in others[:MOST_RUNNERS_UP])


def _scored(model: Model, fit: Fit, fits: Iterable[Fit], space: Space) -> Candidate:
    wanted = replicas_wanted(model, fit.carries)
    free = sum(space.slots(other, wanted) for other in fits if alike(other, fit))
    together = (fit.carries * wanted).per_second
    score = Score(
        on_cpu=fit.kind.accelerator == CPU,
        short=free < wanted,
        unmet=not meets_workload(model, fit.carries, wanted),
        hosts=fit.layout.nnodes,
        stages=fit.layout.pipeline_parallel_size,
        devices=wanted * fit.layout.world,
        slowness=-together if math.isfinite(together) else 0.0,
        ranks=fit.layout.world,
        copies=fit.layout.data_parallel_size,
        memory_bytes=fit.kind.memory_bytes,
        key=fit.kind.key,
    )
    return Candidate(fit, wanted, score)


def _behind(other: Candidate, chosen: Candidate) -> str:
    """What speaks against a layout, beside the chosen one: the first goal in which the two differ."""
    theirs, ours = other.score, chosen.score
    if theirs < ours:
        return "would be chosen for a new fleet; the applied layout is kept"
    goals = (field.name for field in dataclasses.fields(Score))
    goal = next(goal for goal in goals if getattr(theirs, goal) != getattr(ours, goal))
    return {
        "on_cpu": "runs on CPUs",
        "short": f"too few devices are free for {counted(other.replicas, 'replica')} of {theirs.ranks}",
        "unmet": f"{counted(other.replicas, 'replica')} of it do not carry the workload",
        "hosts": f"spreads each replica over {counted(theirs.hosts, 'host')}, of which any can fail",
        "stages": f"cuts the model into {theirs.stages} stages, which wait for one another",
        "devices": f"takes {theirs.devices} devices in all, the chosen one {ours.devices}",
        "slowness": f"serves {_rate(theirs)} requests/s in all, the chosen one {_rate(ours)}",
        "ranks": f"takes {theirs.ranks} devices a replica for the same",
        "copies": f"copies attention {theirs.copies} times for the same",
    }.get(goal, "takes other devices for the same")


def _rate(score: Score) -> str:
    return f"{-score.slowness:.3g}" if score.slowness else "nobody knows how many"
