# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the scenarios that test a whole fleet. MOLECULE_SCENARIO_DIRECTORY says which."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from harness import Fleet, FrontDoor

SCENARIO = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The scenario's own inventory, as converge.yml applied it, in a folder of the same name."""
    inventory = yaml.safe_load((SCENARIO / "inventory/hosts.yml").read_text(encoding="utf-8"))["all"]
    return Fleet(
        folder=tmp_path_factory.mktemp("inventories") / "inventory",
        hosts=inventory["children"],
        variables=inventory["vars"],
        secrets=SCENARIO / "inventory/.secrets",
    )


@pytest.fixture(scope="session")
def front_door(fleet: Fleet) -> FrontDoor:
    """The fleet's endpoint, with a client's key and the authority to trust."""
    gateway = next(iter(fleet.hosts["gateways"]["hosts"].values()))
    key = fleet.variables["gateway_keys"][0]["key"]
    return FrontDoor(f"https://{gateway['ansible_host']}/v1", key, str(fleet.secrets / "ca.crt"))
