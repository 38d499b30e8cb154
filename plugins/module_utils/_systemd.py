# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd tells of units, through the commands that every host with it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable

from ansible_collections.gpufleet.serving.plugins.module_utils._command import first_lines

# run(command) -> (exit status, standard output, standard error), as AnsibleModule.run_command
Run = Callable[[list[str]], tuple[int, str, str]]

PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "MainPID",
    "NRestarts",
    "ExecMainStatus",
    "UnitFileState",
)

MOST_START_LINES = 20_000
"""Lines of a unit's start that are looked at. Source: vLLM 0.32 writes 100, and fewer for each further rank."""


class SystemdError(Exception):
    """systemctl could not be asked."""


@dataclass(frozen=True)
class UnitState:
    """A unit as systemd sees it now. ``main_pid`` is 0 when it has no process; ``restarts`` counts automatic ones."""

    name: str
    load: str
    active: str
    sub: str
    result: str
    main_pid: int
    restarts: int
    exit_status: int
    enabled: bool

    @property
    def running(self) -> bool:
        return self.active == "active"

    def __str__(self) -> str:
        words = f"{self.name} is {self.active} ({self.sub})"
        if self.load != "loaded":
            words += f", unit file {self.load}"
        if self.restarts:
            words += f", {self.restarts} automatic restarts"
        if self.result != "success" or not self.running:
            words += f", last result {self.result}, exit status {self.exit_status}"
        return words


def unit_states(units: Sequence[str], run: Run) -> dict[str, UnitState]:
    """The state of each of ``units``, which need not exist. Raises SystemdError."""
    if not units:
        return {}
    status, output, error = run(["systemctl", "show", "--property=" + ",".join(PROPERTIES), "--", *list(units)])
    if status != 0:
        raise SystemdError(f"systemctl show: exit status {status}: {error.strip()}")
    return {state.name: state for state in map(parse_unit, output.strip().split("\n\n"))}


def parse_unit(block: str) -> UnitState:
    """One block of ``systemctl show``. Raises SystemdError when a property is missing."""
    told = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
    missing = [name for name in PROPERTIES if name not in told]
    if missing:
        raise SystemdError("systemctl show did not tell " + ", ".join(missing))
    return UnitState(
        name=told["Id"],
        load=told["LoadState"],
        active=told["ActiveState"],
        sub=told["SubState"],
        result=told["Result"],
        main_pid=int(told["MainPID"]),
        restarts=int(told["NRestarts"]),
        exit_status=int(told["ExecMainStatus"]),
        enabled=told["UnitFileState"] == "enabled",
    )


def journal_tail(unit: str, lines: int, run: Run) -> str:
    """The last lines that a unit wrote, or why they cannot be had."""
    status, output, error = run(["journalctl", "--unit=" + unit, f"--lines={lines}", "--no-pager", "--output=cat"])
    return output.rstrip() if status == 0 else f"(journalctl: {error.strip()})"


def start_lines(unit: str, enough: Callable[[str], bool], run: Run, timeout_s: float = 20.0) -> list[str]:
    """What a unit's processes wrote since its present start, up to the line that is ``enough``.

    Nothing where the journal has dropped it, or systemd tells no start. A unit that has run for months has written a
    journal that nobody wants to read to its end.
    """
    status, output, _error = run(["systemctl", "show", "--property=InvocationID", "--value", "--", unit])
    invocation = output.strip()
    if status != 0 or not invocation:
        return []
    argv = ["journalctl", "--no-pager", "--output=cat", f"_SYSTEMD_INVOCATION_ID={invocation}"]
    return first_lines(argv, enough, MOST_START_LINES, timeout_s)
