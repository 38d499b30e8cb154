# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's Prometheus, taken out of its package: installing it would start a service on this machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

CACHE = Path.home() / ".cache/gpufleet/prometheus"


@pytest.fixture(scope="session")
def prometheus_programs():
    """The folder with ``prometheus`` and ``promtool``; skips where the distribution has no such package."""
    folder = CACHE / "root/usr/bin"
    if not (folder / "promtool").is_file():
        if not shutil.which("apt-get"):
            pytest.skip("no Prometheus here, and no apt-get to fetch Debian's package with")
        CACHE.mkdir(parents=True, exist_ok=True)
        fetched = subprocess.run(["apt-get", "-q", "download", "prometheus"], cwd=CACHE, capture_output=True, text=True)
        packages = sorted(CACHE.glob("prometheus_*.deb"))
        if fetched.returncode or not packages:
            pytest.skip(f"no package prometheus: {fetched.stderr.strip()}")
        subprocess.run(["dpkg-deb", "--extract", packages[-1], CACHE / "root"], check=True)
    return folder
