# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import dataclasses

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._openai import Completion, CompletionError
from ansible_collections.gpufleet.serving.plugins.module_utils._systemd import UnitState
from ansible_collections.gpufleet.serving.plugins.modules.engine_ready import NotReady, Patience, Wait, read_note

TOKEN = Completion("a", 1, 0.1, 0.1)
REFUSED = CompletionError("ConnectionRefusedError: refused")
RUNNING = UnitState("u.service", "loaded", "active", "running", "success", 812, 0, 0, True)
WAITING = dataclasses.replace(
    RUNNING, active="activating", sub="auto-restart", result="exit-code", main_pid=0, exit_status=1
)


def http(status):
    return CompletionError(f"HTTP {status}: no", status)


class Script:
    """A wait whose engine answers and whose unit looks as written; the last entry repeats. Time passes in sleeps."""

    def __init__(self, answers, states=(RUNNING,), timeout_s=60.0, note=("", "")):
        self.answers, self.states = list(answers), list(states)
        self.now, self.asked = 0.0, 0
        self.wait = Wait(
            self.ask,
            self.look,
            Patience(timeout_s, 2.0, 2, meeting_s=20.0),
            note=lambda: note,
            clock=lambda: self.now,
            sleep=self.sleep,
        )

    def sleep(self, seconds):
        self.now += seconds

    def look(self):
        return self.states.pop(0) if len(self.states) > 1 else self.states[0]

    def ask(self, timeout_s):
        assert timeout_s > 0
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, CompletionError):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("answers", "seconds"),
    [
        ([TOKEN], 0.0),
        ([REFUSED, REFUSED, TOKEN], 4.0),
        ([REFUSED, http(503), http(429), TOKEN], 6.0),
        ([http(500), http(500), TOKEN], 4.0),
    ],
)
def test_a_token_ends_the_wait(answers, seconds):
    script = Script(answers)
    assert script.wait.for_token() == (TOKEN, seconds)


@pytest.mark.parametrize(
    ("note", "text", "seconds"),
    [
        (("meeting", "a waits for b"), "its hosts have not met within 20 s: a waits for b", 20.0),
        (("quarantined", "6 failures"), "it is held back: 6 failures", 0.0),
        (("waiting", "3 failures"), "it is held back: 3 failures", 0.0),
        (("starting", ""), "no token within 60 s", 60.0),
    ],
)
def test_what_the_guard_notes_can_end_the_wait(note, text, seconds):
    script = Script([REFUSED], note=note)
    with pytest.raises(NotReady, match=text):
        script.wait.for_token()
    assert script.now == seconds


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"state": "meeting"}'])
def test_a_note_that_cannot_be_read_is_none(tmp_path, content):
    path = tmp_path / "guard.json"
    assert read_note(path) == read_note(None) == ("", "")
    path.write_text(content)
    assert read_note(path) == ("", "")
    path.write_text('{"state": "meeting", "reason": "alone"}')
    assert read_note(path) == ("meeting", "alone")


def test_a_restart_or_two_is_borne():
    restarted = dataclasses.replace(RUNNING, restarts=2)
    script = Script([REFUSED, REFUSED, TOKEN], [RUNNING, dataclasses.replace(WAITING, restarts=1), restarted])
    assert script.wait.for_token()[0] == TOKEN


@pytest.mark.parametrize(
    ("answers", "states", "text", "asked"),
    [
        ([REFUSED], [RUNNING], r"no token within 60 s; the last answer was: ConnectionRefusedError", 31),
        ([REFUSED], [RUNNING, dataclasses.replace(RUNNING, active="failed")], "the unit does not run", 1),
        ([REFUSED], [dataclasses.replace(RUNNING, active="inactive")], "the unit does not run", 1),
        ([REFUSED], [RUNNING, RUNNING, dataclasses.replace(WAITING, restarts=2)], "again and again", 2),
        ([REFUSED], [RUNNING, RUNNING, dataclasses.replace(RUNNING, restarts=3)], "again and again", 2),
        ([http(401)], [RUNNING], "it serves and refuses the request: HTTP 401", 1),
        ([http(404)], [RUNNING], "it serves and refuses the request: HTTP 404", 1),
        ([http(500)], [RUNNING], "it serves and refuses the request: HTTP 500", 5),
        ([TOKEN], [WAITING], "another program answers at its port", 1),
    ],
)
def test_waiting_in_vain_ends(answers, states, text, asked):
    script = Script(answers, states)
    with pytest.raises(NotReady, match=text):
        script.wait.for_token()
    assert script.asked == asked


def test_restarts_before_the_wait_do_not_count():
    script = Script([REFUSED, TOKEN], [dataclasses.replace(RUNNING, restarts=7)])
    assert script.wait.for_token()[0] == TOKEN
