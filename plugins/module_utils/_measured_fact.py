# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The local fact that keeps what was measured on a host: a file of JSON, one entry a replica.

::

    {"replicas": {"llama-0": {
        "unit_id": "9f3c...",                        the settings that the figures were measured under
        "measured_at": "2026-01-31T12:00:00Z",
        "kv_blocks": 27102, "block_size": 16, "kv_tokens": 433632, "kv_gib": 37.81, "weights_gib": 15.27,
        "predicted": {"kv_blocks": 26800, ...},      the planner's figures under the same names
        "benchmark": {"measured_at": ..., "requests_per_second": 3.1, ...}}}}

A figure that nobody knows is left out. Measured figures hold for the settings that they were measured under, and no
longer: an entry whose ``unit_id`` is another than the unit's is thrown away by whoever writes next.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MEASURED = "etc/ansible/facts.d/gpufleet_measured.fact"

# where a replica is, which says nothing about what it can do
PLACE_OPTIONS = ("name", "address", "port", "devices", "group")

Replicas = dict[str, dict[str, Any]]


class FactError(Exception):
    """The fact file cannot be read; the text says why."""


def unit_id(unit: Mapping[str, Any]) -> str:
    """A hash of all settings of a replica's unit that its figures depend on: of everything but its place.

    ``unit``: an entry of ``serve_units`` as it was recorded. The planner and the hosts get the same hash of it.
    """
    settings = {name: value for name, value in unit.items() if name not in PLACE_OPTIONS}
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def now() -> str:
    """This moment in UTC, as a fact states it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def with_figures(replicas: Replicas, name: str, unit: str, told: Mapping[str, Any], at: str) -> Replicas:
    """The entries with what a replica's engine told now. The same figures leave its entry as it is.

    ``unit``: its ``unit_id``. ``told``: figures by name, ``predicted`` among them. What the engine does not tell any
    more, since its first lines have left the journal, stays known for as long as its settings are the same.
    """
    before = replicas.get(name, {})
    if before.get("unit_id") != unit:
        return {**replicas, name: {"unit_id": unit, "measured_at": at, **told}}
    after = {**before, **told}
    return {**replicas, name: after if after == before else {**after, "measured_at": at}}


def with_benchmark(replicas: Replicas, name: str, unit: str, figures: Mapping[str, Any], at: str) -> Replicas:
    """The entries with a replica's benchmark, in the place of an older one."""
    before = replicas.get(name, {})
    kept = before if before.get("unit_id") == unit else {"unit_id": unit}
    return {**replicas, name: {**kept, "benchmark": {**figures, "measured_at": at}}}


def of_present(replicas: Replicas, present: Iterable[str]) -> Replicas:
    """The entries of replicas that are still there."""
    names = set(present)
    return {name: entry for name, entry in replicas.items() if name in names}


def read_fact(path: Path) -> Replicas:
    """The entries of a fact file by replica; none where there is no file. Raises FactError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise FactError(f"{path}: {error}") from error
    replicas = content.get("replicas") if isinstance(content, dict) else None
    if not isinstance(replicas, dict) or not all(isinstance(entry, dict) for entry in replicas.values()):
        raise FactError(f"{path}: not what the collection writes: no mapping of replicas")
    return replicas


def fact_text(replicas: Replicas) -> str:
    """The file that holds these entries; empty where there is nothing to hold."""
    return json.dumps({"replicas": replicas}, indent=4, sort_keys=True) + "\n" if replicas else ""
