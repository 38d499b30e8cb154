# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import signal
import time

from ansible_collections.gpufleet.serving.plugins.module_utils import _command
from ansible_collections.gpufleet.serving.plugins.module_utils._command import Outcome, first_lines, run_bounded


def test_what_a_program_prints_and_how_it_ends():
    outcome = run_bounded(["sh", "-c", "echo out; echo err >&2; exit 3"], timeout_s=5)
    assert outcome == Outcome(rc=3, stdout="out\n", stderr="err\n")
    assert outcome.text == "out\nerr"


def test_the_program_sees_the_c_locale_and_no_input():
    assert run_bounded(["sh", "-c", 'echo "$LC_ALL"; cat'], timeout_s=5).stdout == "C\n"


def test_bytes_that_are_no_text_are_replaced():
    assert run_bounded(["printf", r"a\377b"], timeout_s=5).stdout == "a\ufffdb"


def test_a_program_that_is_not_there(tmp_path):
    assert run_bounded([str(tmp_path / "none")], timeout_s=5) == Outcome(rc=None, missing=True)


def test_a_file_that_may_not_be_run(tmp_path):
    (tmp_path / "data").write_text("no program")
    assert run_bounded([str(tmp_path / "data")], timeout_s=5).missing


def test_a_hanging_program_dies_with_its_children(tmp_path):
    pid_file = tmp_path / "pid"
    outcome = run_bounded(["sh", "-c", f"trap '' TERM; sleep 60 & echo $! > {pid_file}; wait"], timeout_s=0.3)
    assert outcome == Outcome(rc=None, timed_out=True)
    assert _ends(int(pid_file.read_text()))


def test_a_descendant_that_keeps_the_pipes_is_not_waited_for(tmp_path):
    pid_file = tmp_path / "pid"
    started = time.monotonic()
    outcome = run_bounded(["sh", "-c", f"setsid sh -c 'echo $$ > {pid_file}; exec sleep 60' & sleep 60"], timeout_s=0.5)
    try:
        assert outcome.timed_out
        assert time.monotonic() - started < 0.5 + _command.REAP_SECONDS + 1
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGKILL)


def test_a_program_that_cannot_be_killed_is_left_behind(monkeypatch):
    """A process in state D takes the signal only once the kernel lets go of it: here, it never gets it."""
    survivors = []
    monkeypatch.setattr(_command.os, "killpg", lambda group, _signal: survivors.append(group))
    started = time.monotonic()
    outcome = run_bounded(["sleep", "60"], timeout_s=0.2)
    monkeypatch.undo()
    try:
        assert outcome.timed_out
        assert 0.2 + _command.REAP_SECONDS <= time.monotonic() - started < 0.2 + _command.REAP_SECONDS + 1
    finally:
        os.killpg(survivors[0], signal.SIGKILL)


def _ends(pid: int, within_s: float = 5) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_first_lines_end_at_the_line_that_is_enough_and_so_does_the_program(tmp_path):
    pid_file = tmp_path / "pid"
    script = f"echo $$ > {pid_file}; echo one; echo two; echo three; sleep 60"
    assert first_lines(["sh", "-c", script], lambda line: line == "two", most=100, timeout_s=10) == ["one", "two"]
    assert _ends(int(pid_file.read_text()))


def test_no_more_lines_than_wanted_are_read_of_a_program_that_never_stops():
    assert first_lines(["yes"], lambda _line: False, most=3, timeout_s=10) == ["y", "y", "y"]


def test_first_lines_of_a_program_that_ends_are_all():
    assert first_lines(["printf", "a\nb"], lambda _line: False, most=100, timeout_s=10) == ["a", "b"]


def test_a_program_that_is_silent_for_too_long_is_killed_and_what_it_said_kept(tmp_path):
    started = time.monotonic()
    assert first_lines(["sh", "-c", "echo a; sleep 60"], lambda _line: False, most=9, timeout_s=0.5) == ["a"]
    assert time.monotonic() - started < 0.5 + _command.REAP_SECONDS + 1
    assert first_lines([str(tmp_path / "none")], lambda _line: False, most=9, timeout_s=1) == []


def test_an_environment_of_its_own_takes_the_place_of_this_one(monkeypatch):
    monkeypatch.setenv("INHERITED", "yes")
    outcome = run_bounded(["sh", "-c", 'echo "$INHERITED$OWN$LC_ALL"'], timeout_s=5, env={"OWN": "o"})
    assert outcome.stdout == "oC\n"
