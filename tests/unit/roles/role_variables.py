# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A role's own defaults and variables, as Ansible itself templates them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROLES = Path(__file__).resolve().parents[3] / "roles"


def templar(role: str, plugins: Iterable[type], given: dict[str, Any]) -> Templar:
    """Ansible's templating over a role's variables. plugins: classes of filters that they use. given: what is set."""
    made = Templar(DataLoader())
    for plugin in plugins:
        made.environment.filters.update(
            {f"gpufleet.serving.{name}": function for name, function in plugin().filters().items()}
        )
    variables: dict[str, Any] = {}
    for place in ("defaults/main.yml", "vars/main.yml"):
        variables |= yaml.safe_load((ROLES / role / place).read_text(encoding="utf-8"))
    made.available_variables = _trusted(variables) | given
    return made


def _trusted(value: Any) -> Any:
    """As Ansible marks what it reads from a role."""
    if isinstance(value, dict):
        return {key: _trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_trusted(item) for item in value]
    return trust_as_template(value) if isinstance(value, str) else value
