# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say on the controller who takes the fleet's lock; the module of the same name documents and does the rest."""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import uuid
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

MODULE = "gpufleet.serving.fleet_lock"
MACHINE_ID = Path("/etc/machine-id")


class ActionModule(ActionBase):
    """Runs the module as this run, and once more where the lock's holder was a run of this machine that has died."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Take the lock or give it back; the result is the module's."""
        super().run(tmp, task_vars)
        # a task runs in a child of the process that is the run
        arguments = {"owner": owner(), "controller": controller(), "pid": os.getppid()} | self._task.args
        result = self._execute_module(MODULE, module_args=arguments, task_vars=task_vars)
        if result.get("failed") and was_left_behind(result.get("holder"), arguments["controller"]):
            arguments["dead_pids"] = [result["holder"]["pid"]]
            result = self._execute_module(MODULE, module_args=arguments, task_vars=task_vars)
        if result.get("note"):
            Display().warning(result["note"])
        return result


def owner() -> str:
    """The person at this machine: ``user@host``."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def controller() -> str:
    """A name for this machine that no other has, even one of the same host name."""
    try:
        identity = MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        identity = ""
    digest = hashlib.sha256((identity or f"{uuid.getnode():012x}").encode()).hexdigest()
    return f"{socket.gethostname()}/{digest[:8]}"


def was_left_behind(holder: dict[str, Any] | None, this_controller: str) -> bool:
    """Whether the holder was a run on this machine whose process is no more. Of other machines nothing is known."""
    return holder is not None and holder["controller"] == this_controller and not is_running(holder["pid"])


def is_running(pid: int) -> bool:
    """Whether a process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # it runs, and is somebody else's
        return True
    return True
