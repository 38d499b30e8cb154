# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of whole fleets; here the front door is the first server of the cluster."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests/fleet"))
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests/k3s"))

import pytest
from fixtures import fleet  # noqa: F401 - after the path to them
from harness import Fleet, FrontDoor


@pytest.fixture(scope="session")
def front_door(fleet: Fleet) -> FrontDoor:  # noqa: F811 - pytest's way of asking for it
    """The fleet's endpoint, with a client's key and the authority to trust."""
    (server,) = fleet.hosts["k3s_servers"]["hosts"].values()
    key = fleet.variables["gateway_keys"][0]["key"]
    return FrontDoor(f"https://{server['ansible_host']}/v1", key, str(fleet.secrets / "ca.crt"))
