# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from replicas import files, pids


@pytest.fixture
def unchanged(host: Any) -> Iterator[None]:
    """The test changes no file and ends no process."""
    before = pids(host), files(host)
    yield
    assert (pids(host), files(host)) == before
