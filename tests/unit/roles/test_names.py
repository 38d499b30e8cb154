# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a task registers or sets hides a variable of the role that has the same name, for the rest of the run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir())


def made_by(tasks):
    """Names that tasks and those in their blocks register or set."""
    for task in tasks or []:
        for part in ("block", "rescue", "always"):
            yield from made_by(task.get(part))
        if "register" in task:
            yield task["register"]
        yield from set(task.get("ansible.builtin.set_fact", {})) - {"cacheable"}


def test_names_are_found_in_blocks_too():
    tasks = [{"block": [{"register": "a"}], "rescue": [{"ansible.builtin.set_fact": {"b": 1, "cacheable": True}}]}]
    assert list(made_by(tasks)) == ["a", "b"]


@pytest.mark.parametrize("role", NAMES)
def test_no_task_hides_a_variable_of_its_role(role):
    path = ROLES / role / "vars/main.yml"
    own = set(yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.exists() else set()
    for file in sorted((ROLES / role).glob("tasks/**/*.yml")) + sorted((ROLES / role).glob("handlers/*.yml")):
        hidden = own & set(made_by(yaml.safe_load(file.read_text(encoding="utf-8"))))
        assert not hidden, f"{file.relative_to(ROLES)} hides {sorted(hidden)} of {role}/vars/main.yml"
