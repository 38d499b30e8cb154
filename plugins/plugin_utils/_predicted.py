# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan predicts for each replica, under the names under which its engine's own figures are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Plan = Mapping[str, Any]


def predicted(plan: Plan, host: str) -> list[dict[str, Any]]:
    """What is predicted for each replica on a host, with its name; see ``prediction``."""
    there = (replica for replica in plan["replicas"] if replica["head"] == host)
    return [{"name": replica["name"], **figures} for replica in there if (figures := prediction(plan, replica))]


def prediction(plan: Plan, replica: Mapping[str, Any]) -> dict[str, Any]:
    """What is predicted for one of the plan's replicas; nothing for a held one, which runs as it did before.

    What is likely, that is, and not what is promised. kv_blocks, block_size (tokens), kv_tokens: of the whole replica.
    kv_gib, weights_gib: GiB on one rank, the least of the KV cache and the most of the weights that any rank has.
    """
    first = replica["ranks"][0]
    devices = {device["id"]: device["key"] for device in plan["hosts"][first["host"]]["devices"]}
    ranks = [
        row
        for model in plan["models"]
        if model["name"] == replica["model"]
        for row in model["memory"]
        if row["device_key"] == devices.get(first["device"])
    ]
    if replica["held"] or not ranks:
        return {}
    return {
        "kv_blocks": min(row["likely_kv_blocks"] for row in ranks),
        "block_size": ranks[0]["block_size"],
        "kv_tokens": min(row["likely_kv_tokens"] for row in ranks),
        "kv_gib": min(round(row["kv_gib"] + row["margin_gib"], 2) for row in ranks),
        "weights_gib": max(row["weights_gib"] for row in ranks),
    }
