# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program of the host within a time limit that holds even when the program cannot be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Callable

REAP_SECONDS = 1.0
"""How long a killed program may take to die before it is left behind: one stuck in the kernel (state D) never does."""


@dataclass(frozen=True)
class Outcome:
    """What became of a program. ``rc`` is None when it ran out of time or was not there to be run."""

    rc: int | None
    stdout: str = ""
    stderr: str = ""
    timed_out: bool = False
    missing: bool = False

    @property
    def text(self) -> str:
        """Both outputs, stdout first: some programs print their complaints there."""
        return "\n".join(part for part in (self.stdout.strip(), self.stderr.strip()) if part)


def run_bounded(argv: list[str], timeout_s: float, env: Mapping[str, str] | None = None) -> Outcome:
    """Run a program in the C locale, without input, for at most ``timeout_s`` seconds and one more to kill it.

    It gets a process group of its own, which is killed whole. A process that does not die is not waited for: the kernel
    reaps it when it can. ``env``: its environment in the place of this process's own.
    """
    try:
        # run_command of Ansible's modules waits for ever for a program that hangs
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**(os.environ if env is None else env), "LC_ALL": "C"},
            start_new_session=True,
            text=True,
            errors="replace",
        )
    except OSError:
        return Outcome(rc=None, missing=True)
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _abandon(process)
        return Outcome(rc=None, timed_out=True)
    return Outcome(rc=process.returncode, stdout=stdout, stderr=stderr)


def first_lines(argv: list[str], enough: Callable[[str], bool], most: int, timeout_s: float) -> list[str]:
    """What a program prints up to the line that is ``enough``, ``most`` lines at most; then it is killed.

    What it printed until then where it runs out of time; nothing where it cannot be run.
    """
    lines: list[str] = []
    with _printing(argv, timeout_s) as output:
        for line in output:
            lines.append(line.rstrip("\n"))
            if len(lines) == most or enough(lines[-1]):
                break
    return lines


@contextmanager
def _printing(argv: list[str], timeout_s: float) -> Iterator[Iterator[str]]:
    """A program's lines as it prints them. It is killed at the end, or when its time is up."""
    try:
        # run_command of Ansible's modules keeps all that a program ever prints
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LC_ALL": "C"},
            start_new_session=True,
            text=True,
            errors="replace",
        )
    except OSError:
        yield iter(())
        return
    timer = threading.Timer(timeout_s, _kill, [process])
    timer.start()
    try:
        yield iter(process.stdout or ())
    finally:
        timer.cancel()
        _abandon(process)


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _abandon(process: subprocess.Popen[str]) -> None:
    _kill(process)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=REAP_SECONDS)
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()
