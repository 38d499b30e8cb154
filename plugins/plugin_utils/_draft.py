# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan in the making: everything that is known, and what has been decided so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ._applied import Applied, AppliedReplica
from ._findings import Findings
from ._fleet import Fleet
from ._layout import Choice
from ._placement import Seat
from ._pods import Pods
from ._settings import Settings
from ._shapes import Weights
from ._wishes import Model


@dataclass(slots=True)
class Draft:
    """The four inputs, checked; then, model by model, the layout, and the seat of each replica.

    left_alone: replicas on hosts that do not answer, which count and are not touched. seats: model -> replica's index
    -> its seat; on Kubernetes the seats only prove that the fewest pods find room. pods: model -> how many of its pods
    there may be on Kubernetes, and where. basis: model -> the measured figures that its number of replicas rests on.
    stacks: host -> its driver stack, where it has GPUs and was asked. ray_ports: replica -> the first of its ports for
    Ray, of those that run over it.
    """

    settings: Settings
    models: tuple[Model, ...]
    fleet: Fleet
    weights: dict[str, Weights]
    applied: Applied
    findings: Findings
    choices: dict[str, Choice] = field(default_factory=dict)
    left_alone: dict[str, AppliedReplica] = field(default_factory=dict)
    seats: dict[str, dict[int, Seat]] = field(default_factory=dict)
    pods: dict[str, Pods] = field(default_factory=dict)
    basis: dict[str, dict[str, Any]] = field(default_factory=dict)
    stacks: dict[str, dict[str, Any]] = field(default_factory=dict)
    ray_ports: dict[str, int] = field(default_factory=dict)

    @property
    def kubernetes(self) -> bool:
        """Whether the fleet runs on Kubernetes (tier 5): it has servers for that, and the tier is not bounded lower."""
        servers = any("k3s_servers" in host.groups for host in self.fleet.hosts.values())
        return servers and self.settings.tier in (None, 5)

    @property
    def default_model(self) -> Model | None:
        """The model that answers on /v1: the one marked, else the first."""
        return next((model for model in self.models if model.default), self.models[0] if self.models else None)

    def seats_of(self, model: Model) -> list[Seat]:
        return list(self.seats.get(model.name, {}).values())

    def alone_of(self, model: Model) -> list[AppliedReplica]:
        return [replica for replica in self.left_alone.values() if replica.model == model.name]

    def replica_count(self, model: Model) -> int:
        """Replicas that the model will have: seated, or left alone."""
        return len(self.seats_of(model)) + len(self.alone_of(model))

    def all_seats(self) -> Iterator[tuple[str, Model, Seat]]:
        """Every seat with its replica's name and model."""
        for model in self.models:
            for index, seat in self.seats.get(model.name, {}).items():
                yield replica_name(model, index), model, seat


def replica_name(model: Model, index: int) -> str:
    """The name of a replica: that of its model, and its number."""
    return f"{model.name}-{index}"
