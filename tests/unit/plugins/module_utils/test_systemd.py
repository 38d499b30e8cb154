# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._systemd import (
    SystemdError,
    journal_tail,
    parse_unit,
    start_lines,
    unit_states,
)

RUNNING = """\
Id=gpufleet-tiny-0.service
LoadState=loaded
ActiveState=active
SubState=running
Result=success
MainPID=812
NRestarts=0
ExecMainStatus=0
UnitFileState=enabled
"""
LOOPING = """\
Id=gpufleet-tiny-1.service
LoadState=loaded
ActiveState=activating
SubState=auto-restart
Result=exit-code
MainPID=0
NRestarts=3
ExecMainStatus=1
UnitFileState=disabled
"""
ABSENT = """\
Id=gpufleet-tiny-2.service
LoadState=not-found
ActiveState=inactive
SubState=dead
Result=success
MainPID=0
NRestarts=0
ExecMainStatus=0
UnitFileState=
"""


def answering(status, output="", error=""):
    """A stand-in for run_command that notes what it was asked."""
    asked = []

    def run(command):
        asked.append(command)
        return status, output, error

    return run, asked


def test_all_units_are_asked_for_at_once():
    run, asked = answering(0, "\n".join([RUNNING, LOOPING, ABSENT]))
    names = ["gpufleet-tiny-0.service", "gpufleet-tiny-1.service", "gpufleet-tiny-2.service"]
    states = unit_states(names, run)
    assert list(states) == names
    assert len(asked) == 1 and asked[0][-4:] == ["--", *names]
    assert states[names[0]].running and states[names[0]].enabled and states[names[0]].main_pid == 812
    assert not states[names[1]].running and not states[names[1]].enabled and states[names[1]].restarts == 3


def test_no_unit_asks_nothing():
    run, asked = answering(0)
    assert unit_states([], run) == {}
    assert asked == []


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (RUNNING, "gpufleet-tiny-0.service is active (running)"),
        (
            LOOPING,
            "gpufleet-tiny-1.service is activating (auto-restart), 3 automatic restarts, "
            "last result exit-code, exit status 1",
        ),
        (
            ABSENT,
            "gpufleet-tiny-2.service is inactive (dead), unit file not-found, last result success, exit status 0",
        ),
    ],
)
def test_a_state_in_words(block, words):
    assert str(parse_unit(block)) == words


def test_a_host_without_systemd():
    run, _asked = answering(1, error="System has not been booted with systemd as init system (PID 1). Can't operate.\n")
    with pytest.raises(SystemdError, match="exit status 1: System has not been booted with systemd"):
        unit_states(["gpufleet-tiny-0.service"], run)


def test_an_old_systemd_that_leaves_a_property_out():
    with pytest.raises(SystemdError, match="did not tell NRestarts"):
        parse_unit(RUNNING.replace("NRestarts=0\n", ""))


def test_the_journal_or_why_not():
    run, asked = answering(0, "one\ntwo\n")
    assert journal_tail("u.service", 40, run) == "one\ntwo"
    assert asked == [["journalctl", "--unit=u.service", "--lines=40", "--no-pager", "--output=cat"]]
    assert journal_tail("u.service", 40, answering(1, error="no access\n")[0]) == "(journalctl: no access)"


def on_path(monkeypatch, folder, script):
    """Put a journalctl of our own in front of the host's."""
    program = folder / "journalctl"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_what_a_unit_wrote_since_it_started(monkeypatch, tmp_path):
    on_path(monkeypatch, tmp_path, 'for word; do echo "$word"; done; echo ready; echo request; sleep 60')
    run, asked = answering(0, "7d1f4e\n")
    lines = start_lines("u.service", lambda line: line == "ready", run)
    assert lines == ["--no-pager", "--output=cat", "_SYSTEMD_INVOCATION_ID=7d1f4e", "ready"]
    assert asked == [["systemctl", "show", "--property=InvocationID", "--value", "--", "u.service"]]


@pytest.mark.parametrize(("status", "told"), [(0, "\n"), (1, "")], ids=["never started", "no systemd"])
def test_a_unit_without_a_start_wrote_nothing(status, told):
    assert start_lines("u.service", bool, answering(status, told)[0]) == []
