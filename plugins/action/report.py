# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print a text for a person; the module of the same name documents it."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display


class ActionModule(ActionBase):
    """Prints C(text) through Ansible's own display, so that callbacks and log files see it in order."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print the text; ``changed`` is always false."""
        _validated, arguments = self.validate_argument_spec({"text": {"type": "str", "required": True}})
        Display().display(arguments["text"].rstrip("\n"))
        return {"changed": False, "text": arguments["text"]}
