# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role installs of the distribution for the Python that the engine is to run on."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

VARS = Path(__file__).parents[4] / "roles/engine/vars"


@pytest.mark.parametrize(
    ("family", "python", "packages"),
    [
        # Debian 12 and 13, Ubuntu 24.04
        ("Debian", "python3", ["python3", "python3-dev"]),
        ("Debian", "python3.12", ["python3.12", "python3.12-dev"]),
        # Ubuntu 22.04
        ("Debian", "/opt/python3.12/bin/python3.12", []),
        # Enterprise Linux 10
        ("RedHat", "python3", ["python3", "python3-devel"]),
        # Enterprise Linux 9, whose own is 3.9
        ("RedHat", "python3.12", ["python3.12", "python3.12-devel"]),
        ("RedHat", "/opt/python3.12/bin/python3.12", []),
    ],
)
def test_a_name_is_installed_with_its_headers_and_a_path_is_taken_as_it_is(family, python, packages):
    values = yaml.safe_load((VARS / f"{family}.yml").read_text())
    templates = {name: trust_as_template(text) if isinstance(text, str) else text for name, text in values.items()}
    templar = Templar(loader=DataLoader(), variables={**templates, "engine_python": python})
    wanted = templar.template(trust_as_template("{{ __engine_packages }}"))
    compiler = {"Debian": "g++", "RedHat": "gcc-c++"}[family]
    assert wanted[0] == compiler
    assert [package for package in wanted if "python" in package] == packages
