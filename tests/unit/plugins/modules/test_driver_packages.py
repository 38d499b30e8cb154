# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole module over a dpkg and an apt-mark that keep their books in files."""

from __future__ import annotations

import os

import pytest
from ansible_collections.gpufleet.serving.plugins.modules import driver_packages
from ansible_collections.gpufleet.serving.tests.unit.plugins.modules.programs import INTERPRETERS, fails, succeeds

THIS_PYTHON = INTERPRETERS[0].values[0]
PACKAGES = [
    {"name": "nvidia-driver-cuda", "version": "580.178.04-*"},
    {"name": "nvidia-fabricmanager", "version": "580.178.04-*"},
    {"name": "nvidia-driver-pinning-580", "version": ""},
]
DPKG_QUERY = '#!/bin/sh\nexec cat "$BOOKS/packages"\n'
APT_MARK = """#!/bin/sh
[ "$1" = hold ] && from=install to=hold || { from=hold; to=install; }
shift
for name; do sed -i "s/^$name\t$from\t/$name\t$to\t/" "$BOOKS/packages"; done
"""


@pytest.fixture
def books(tmp_path, monkeypatch):
    """The file in which the programs keep what is installed."""
    for name, text in {"dpkg-query": DPKG_QUERY, "apt-mark": APT_MARK}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("BOOKS", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    packages = tmp_path / "packages"
    names = ("nvidia-driver-cuda", "nvidia-fabricmanager", "libcuda1")
    rows = [f"{name}\tinstall\tinstalled\t580.178.04-1\n" for name in names]
    packages.write_text("".join(rows) + "nvidia-driver-pinning-580\tinstall\tinstalled\t580-1\n")
    return packages


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_held_once_and_released_again(interpreter, books):
    held = ["libcuda1", "nvidia-driver-cuda", "nvidia-fabricmanager"]
    first = succeeds(interpreter, driver_packages, packages=PACKAGES)
    assert (first["changed"], first["driver_version"], first["held"]) == (True, "580.178.04", held)
    assert books.read_text().count("\thold\t") == 3
    assert succeeds(interpreter, driver_packages, packages=PACKAGES)["changed"] is False
    released = succeeds(interpreter, driver_packages, packages=PACKAGES, state="released")
    assert (released["changed"], released["held"]) == (True, [])
    assert "\thold\t" not in books.read_text()
    assert succeeds(interpreter, driver_packages, packages=PACKAGES, state="released")["changed"] is False


def test_check_mode_announces(books):
    announced = succeeds(THIS_PYTHON, driver_packages, packages=PACKAGES, _ansible_check_mode=True, _ansible_diff=True)
    assert announced["changed"] is True
    assert announced["diff"] == {"before": "", "after": "libcuda1\nnvidia-driver-cuda\nnvidia-fabricmanager\n"}
    assert "\thold\t" not in books.read_text()


def test_packages_of_two_versions_are_refused_and_check_mode_bears_them(books):
    books.write_text(books.read_text().replace("nvidia-fabricmanager\tinstall\tinstalled\t580.178.04-1", ""))
    refused = fails(THIS_PYTHON, driver_packages, packages=PACKAGES)
    assert "nvidia-fabricmanager is not installed." in refused
    borne = succeeds(THIS_PYTHON, driver_packages, packages=PACKAGES, _ansible_check_mode=True)
    assert (borne["changed"], borne["faults"]) == (True, ["nvidia-fabricmanager is not installed."])
