# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let every test find the collection by its full name, in a plain checkout too."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

COLLECTIONS = Path(__file__).resolve().parents[1] / ".ansible" / "collections"


def _importable() -> bool:
    try:
        return importlib.util.find_spec("ansible_collections.gpufleet.serving") is not None
    except ModuleNotFoundError:
        return False


if not _importable():
    sys.path.insert(0, str(COLLECTIONS))
    importlib.invalidate_caches()
    if not _importable():
        raise pytest.UsageError(
            f"gpufleet.serving cannot be imported: {COLLECTIONS} does not lead to this checkout. Type 'make link'."
        )
