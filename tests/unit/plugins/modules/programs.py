# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a module as a program of its own, with this Python and with the oldest that hosts may have."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import ansible
import pytest
from ansible_collections.gpufleet.serving.tests.unit.plugins.module_utils.gpu_recordings import INTERPRETERS

__all__ = ["INTERPRETERS", "fails", "run", "succeeds"]


def run(interpreter: str, module: ModuleType, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a module with options and return what it printed."""
    collections, controller = Path(module.__file__).parents[5], Path(ansible.__file__).parents[1]
    process = subprocess.run(
        [interpreter, module.__file__],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": options}),
        env={**os.environ, "PYTHONPATH": f"{collections}:{controller}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "requires a minimum of Python" in process.stdout:
        pytest.skip(f"this ansible-core has left {interpreter} behind")
    return process


def succeeds(interpreter: str, module: ModuleType, **options: Any) -> dict[str, Any]:
    """Return the answer of a module that must not fail."""
    process = run(interpreter, module, **options)
    assert process.returncode == 0, process.stdout + process.stderr
    return json.loads(process.stdout)


def fails(interpreter: str, module: ModuleType, **options: Any) -> str:
    """Return the message of a module that must fail."""
    process = run(interpreter, module, **options)
    assert process.returncode == 1, process.stdout + process.stderr
    return json.loads(process.stdout)["msg"]
