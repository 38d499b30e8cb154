# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: from wishes, machines, shapes and what is applied to what runs where, or to the reasons why not.

``plan`` is pure: the same input gives the same plan, in whatever order the hosts come. It raises nothing for anything
that an operator can write: every mistake becomes a refusal, and all of them are found in one run. A plan with a refusal
has no shares and no steps, so that nothing can be carried out by halves.
"""

from __future__ import annotations

from typing import Any

from ._applied import read_applied
from ._checks import check
from ._cluster import seat_pods
from ._document import document
from ._draft import Draft
from ._findings import Findings
from ._fleet import read_fleet
from ._host_stacks import solve_stacks
from ._ray_ports import ray_ports
from ._reading import plain
from ._seating import seat_all
from ._settings import read_settings
from ._shapes import read_shapes
from ._wishes import read_models


def plan(models: Any, hosts: Any, shapes: Any, previous: Any = None, settings: Any = None) -> dict[str, Any]:
    """Plan the fleet. Returns plain, JSON-able data; see ``_document`` for its keys.

    models: fleet_models, as the operator wrote it. hosts: host -> its groups, its address, what the inventory says of
    it and what ``gpu_info`` and ``preflight_info`` answered. shapes: model -> what ``model_info`` says of it.
    previous: what is applied. settings: see ``_settings.Settings``. Each may be wrong in any way.
    """
    findings = Findings()
    wishes = plain(settings, "settings", findings)
    draft = _draft(wishes, models, hosts, shapes, previous, findings)
    if draft.kubernetes:
        seat_pods(draft)
    else:
        seat_all(draft)
        draft.ray_ports = ray_ports(draft)
    check(draft)
    return document(draft)


def _draft(wishes: Any, models: Any, hosts: Any, shapes: Any, previous: Any, findings: Findings) -> Draft:
    """The inputs, checked. Each is read where the operator's mistakes can still be named by their place."""
    settings = read_settings(wishes, findings)
    wished = read_models(plain(models, "fleet_models", findings), settings, findings)
    described = plain(hosts, "hosts", findings)
    fleet = read_fleet(described, settings, findings)
    applied = read_applied(plain(previous, "previous", findings), fleet, findings)
    return Draft(
        settings=settings,
        models=wished,
        fleet=fleet,
        weights=read_shapes(plain(shapes, "shapes", findings), wished, findings),
        applied=applied,
        findings=findings,
        stacks=solve_stacks(described, fleet, applied, settings, findings),
    )
