# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan made of PCI ids, and the one made again once a driver gave the GPUs their names: what differs but the names.

Nothing may: an operator has seen the first plan, and units are written from the second.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Plan = Mapping[str, Any]


def plan_differences(before: Plan, after: Plan) -> list[str]:
    """Everything in which two plans differ but the names of GPUs, one sentence each."""
    return [*_devices(before, after), *_replicas(before, after)]


def _devices(before: Plan, after: Plan) -> Iterator[str]:
    for name, host in before["hosts"].items():
        planned = [device["key"] for device in host["devices"]]
        found = [device["key"] for device in after["hosts"].get(name, {"devices": []})["devices"]]
        if planned != found:
            yield f"{name} was planned with {_census(planned)}, and its driver tells {_census(found)}."


def _replicas(before: Plan, after: Plan) -> Iterator[str]:
    planned, made = _units(before), _units(after)
    for name in sorted(set(planned) | set(made)):
        if name not in made:
            yield f"{name} was planned and is not any more."
        elif name not in planned:
            yield f"{name} was not planned."
        else:
            words = [word for word in sorted(planned[name]) if planned[name][word] != made[name].get(word)]
            for word in words:
                yield f"{name}: {word} was {planned[name][word]} and is {made[name].get(word)}."


def _units(plan: Plan) -> dict[str, dict[str, Any]]:
    """Each unit with its host, its devices by their place on the host."""
    found = {}
    for host, roles in plan["shares"].items():
        places = {device["id"]: place for place, device in enumerate(plan["hosts"][host]["devices"])}
        for unit in roles.get("serve", {}).get("serve_units", []):
            devices = [places.get(device, device) for device in unit["devices"]]
            found[f"{unit['name']} on {host}"] = {**unit, "devices": devices}
    return found


def _census(keys: list[str]) -> str:
    counts = {key: keys.count(key) for key in dict.fromkeys(keys)}
    return ", ".join(f"{count} x {key}" for key, count in counts.items()) or "no GPU"
