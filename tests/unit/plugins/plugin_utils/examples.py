# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example inventories, read as Ansible reads them, and their plans."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.manager import VariableManager
from ansible_collections.gpufleet.serving.plugins.module_utils import _model_catalogue
from ansible_collections.gpufleet.serving.plugins.plugin_utils import _inventory
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils.fleets import CONTENT, planned, shape

REPOSITORY = Path(__file__).resolve().parents[4]
INVENTORIES = REPOSITORY / "inventories"
NAMES = sorted(path.name for path in INVENTORIES.iterdir() if (path / "hosts.yml").is_file())


@cache
def inputs(name: str) -> dict[str, Any]:
    """The planner's inputs for an example inventory that nobody has contacted."""
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[str(INVENTORIES / name)])
    variables = VariableManager(loader=loader, inventory=inventory)
    hostvars = {host.name: variables.get_vars(host=host, include_hostvars=False) for host in inventory.get_hosts()}
    groups = {group: [host.name for host in inventory.groups[group].get_hosts()] for group in inventory.groups}
    shared = hostvars[next(iter(hostvars))]
    models = shared["fleet_models"]
    return {
        "models": models,
        "hosts": _inventory.fleet_hosts(hostvars, groups),
        "shapes": {model["name"]: _shape(model) for model in models},
        "settings": {
            "inventory_name": name,
            "tier": shared.get("fleet_tier", "auto"),
            "gateway_key_names": [key["name"] for key in shared.get("gateway_keys", [])],
            "gateway_public": shared.get("gateway_public", False),
        },
    }


def _shape(model: dict[str, Any]) -> dict[str, Any]:
    """The shape of a catalogue's model; none where the inventory gives one; else that of the tiny model of the demo."""
    source = model["source"]
    if "shape" in model:
        return {"shape": None, "content_id": None, "weight_bytes": None, "error": None}
    if source.startswith(("controller:", "/")):
        return shape()
    known = _model_catalogue.shape(source)
    return {"shape": known.to_dict(), "content_id": None, "weight_bytes": known.weight_bytes, "error": None}


@cache
def example(name: str) -> dict[str, Any]:
    """The plan of an example inventory, accepted by the checker."""
    return planned(**inputs(name))


__all__ = ["CONTENT", "NAMES", "REPOSITORY", "example", "inputs"]
