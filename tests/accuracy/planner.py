# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the planner importable under its own name, straight from this checkout, with the standard library alone."""

from __future__ import annotations

import importlib.util
import pathlib
import sys
import types

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ("ansible_collections", "ansible_collections.gpufleet", "ansible_collections.gpufleet.serving")


def register() -> None:
    """Let ``ansible_collections.gpufleet.serving`` mean this checkout, unless Ansible has seen to that."""
    try:
        known = importlib.util.find_spec(PACKAGES[-1])
    except (ImportError, ValueError):
        known = None
    if known is not None:
        return
    for name in PACKAGES:
        package = types.ModuleType(name)
        package.__path__ = [str(CHECKOUT)] if name == PACKAGES[-1] else []
        sys.modules[name] = package
