# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch the wheels of a lock on the controller; the module of the same name documents it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.gpufleet.serving.plugins.plugin_utils._wheelhouse import COMPLETE, FetchError, Pip, fetch, pack

ARGUMENTS = {
    "lock": {"type": "path", "required": True},
    "path": {"type": "path", "required": True},
    "python_version": {"type": "str", "required": True},
    "machine": {"type": "str", "required": True},
    "glibc": {"type": "str", "required": True},
    "local_index": {"type": "str", "default": ""},
    "pip": {"type": "list", "elements": "str", "default": []},
    "pip_options": {"type": "list", "elements": "str", "default": []},
    "archive": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    """Works on the controller alone, whatever host the task is for, and tells how far it is."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fetch, or in check mode tell whether there is anything to fetch."""
        _validated, arguments = self.validate_argument_spec(ARGUMENTS)
        folder = Path(arguments["path"])
        result = {"path": str(folder), "changed": not (folder / COMPLETE).exists()}
        if self._task.check_mode:
            return result
        try:
            result["changed"] = fetch(
                Path(arguments["lock"]).read_text(encoding="utf-8"),
                folder,
                Pip(
                    command=arguments["pip"] or [sys.executable, "-m", "pip"],
                    python_version=arguments["python_version"],
                    machine=arguments["machine"],
                    glibc=arguments["glibc"],
                    options=arguments["pip_options"],
                ),
                arguments["local_index"],
                lambda progress: Display().display(f"{folder.name}: {progress}"),
            )
            if arguments["archive"]:
                result["archive"] = str(pack(folder))
        except (FetchError, OSError, ValueError) as error:
            return {**result, "failed": True, "msg": str(error)}
        return result
