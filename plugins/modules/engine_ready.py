#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until an engine has made one real token."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_ready
short_description: Wait until a vLLM unit has made one real token
version_added: "0.1.0"
description:
  - Asks the engine for one token until it gives one. Its health path is no proof; an engine whose kernels cannot be
    compiled is healthy and answers its first request with an error.
  - Stops early where waiting is in vain, as when the unit has failed, dies again and again, or refuses the request; and
    then tells the unit's state and the last lines of its journal.
options:
  unit:
    description: The engine's systemd unit.
    type: str
    required: true
  address:
    description: The address that the engine binds.
    type: str
    required: true
  port:
    description: The port that the engine binds.
    type: int
    required: true
  model:
    description: The model's served name.
    type: str
    required: true
  key:
    description: The engine's API key.
    type: str
    required: true
  timeout:
    description: Seconds to wait in all.
    type: float
    default: 1800
  interval:
    description: Seconds between two tries.
    type: float
    default: 2
  max_restarts:
    description: How often the unit may die and be restarted by systemd while it is waited for.
    type: int
    default: 2
  guard_record:
    description:
      - The file in which the guard of the unit notes what happens. With it a wait also ends where the hosts of the
        replica do not meet, with the words of the guard, and where the guard holds the engine back after failures.
    type: path
  meeting_timeout:
    description: Seconds within which the hosts of the replica must have met, before any of them loads weights.
    type: float
    default: 120
  journal_lines:
    description: How many lines of the unit's journal a failure tells.
    type: int
    default: 40
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Waits in check mode as well; a completion changes nothing.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Wait for a token
  gpufleet.serving.engine_ready:
    unit: gpufleet-llama-0.service
    address: 10.0.0.11
    port: 8000
    model: llama
    key: "{{ serve_engine_key }}"
    timeout: 900
"""

RETURN = r"""
seconds:
  description: How long it took.
  type: float
  returned: success
  sample: 61.4
tokens:
  description: How many tokens came.
  type: int
  returned: success
  sample: 1
model:
  description: The model that answered, by its served name.
  type: str
  returned: success
  sample: llama
unit_state:
  description: The unit as systemd saw it when waiting was given up.
  type: str
  returned: failure
  sample: gpufleet-llama-0.service is activating (auto-restart), last result exit-code, exit status 1
journal:
  description: The last lines of the unit's journal.
  type: list
  elements: str
  returned: failure
"""

import json
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils._engine import Engine
from ansible_collections.gpufleet.serving.plugins.module_utils._openai import (
    Completion,
    CompletionError,
    stream_completion,
)
from ansible_collections.gpufleet.serving.plugins.module_utils._systemd import (
    SystemdError,
    UnitState,
    journal_tail,
    unit_states,
)

# the first request of all compiles kernels: give it minutes before it is asked again
LONGEST_ANSWER_S = 300.0
# an engine that answers this often in a row with HTTP 500 is broken, not slow
BROKEN_ANSWERS = 5
OVERLOADED = (408, 429)


class NotReady(Exception):
    """The engine is not ready and waiting longer is in vain."""


@dataclass(frozen=True)
class Patience:
    """How long to wait in all, how long between two tries, how many deaths of the unit to bear, and how long its hosts
    may take to meet."""

    timeout_s: float
    interval_s: float
    restarts: int
    meeting_s: float = 120.0


Note = tuple[str, str]
"""What a guard notes: the state, and its reason."""
SILENT_NOTE: Note = ("", "")


def read_note(path: Path | None) -> Note:
    """The note in a guard's record; an empty one where there is none."""
    try:
        told = json.loads(path.read_text(encoding="utf-8")) if path else {}
        return str(told["state"]), str(told["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        return SILENT_NOTE


@dataclass
class Wait:
    """One wait for an engine. ``ask(timeout_s)`` tries for a token; ``look()`` asks systemd for the unit; ``note()``
    reads what its guard notes."""

    ask: Callable[[float], Completion]
    look: Callable[[], UnitState]
    patience: Patience
    note: Callable[[], Note] = lambda: SILENT_NOTE
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def for_token(self) -> tuple[Completion, float]:
        """The first completion and the seconds that it took. Raises NotReady and SystemdError."""
        begun = self.clock()
        restarts_before = self.look().restarts
        broken_answers = 0
        while True:
            left = self.patience.timeout_s - (self.clock() - begun)
            answer = self._ask(min(max(left, self.patience.interval_s), LONGEST_ANSWER_S))
            self._check(self.look(), restarts_before, answered=isinstance(answer, Completion))
            if isinstance(answer, Completion):
                return answer, self.clock() - begun
            self._check_note(self.clock() - begun)
            broken_answers = broken_answers + 1 if answer.status == 500 else 0
            if _is_final(answer.status) or broken_answers == BROKEN_ANSWERS:
                raise NotReady(f"it serves and refuses the request: {answer}")
            if left <= 0:
                raise NotReady(f"no token within {self.patience.timeout_s:g} s; the last answer was: {answer}")
            self.sleep(self.patience.interval_s)

    def _ask(self, timeout_s: float) -> Completion | CompletionError:
        try:
            return self.ask(timeout_s)
        except CompletionError as error:
            return error

    def _check_note(self, waited_s: float) -> None:
        state, reason = self.note()
        if state in ("waiting", "quarantined"):
            raise NotReady(f"it is held back: {reason}")
        if state == "meeting" and waited_s >= self.patience.meeting_s:
            raise NotReady(f"its hosts have not met within {self.patience.meeting_s:g} s: {reason}")

    def _check(self, state: UnitState, restarts_before: int, answered: bool) -> None:
        if state.active in ("inactive", "failed"):
            raise NotReady("the unit does not run")
        deaths = state.restarts - restarts_before + (state.sub == "auto-restart")
        if deaths > self.patience.restarts:
            raise NotReady("the unit dies and is restarted again and again")
        if answered and not state.running:
            raise NotReady("another program answers at its port")


def _is_final(status: int | None) -> bool:
    return status is not None and 400 <= status < 500 and status not in OVERLOADED


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "model": {"type": "str", "required": True},
            "key": {"type": "str", "required": True, "no_log": True},
            "timeout": {"type": "float", "default": 1800},
            "interval": {"type": "float", "default": 2},
            "max_restarts": {"type": "int", "default": 2},
            "guard_record": {"type": "path"},
            "meeting_timeout": {"type": "float", "default": 120},
            "journal_lines": {"type": "int", "default": 40},
        },
        supports_check_mode=True,
    )
    wanted = module.params
    url = Engine(wanted["address"], wanted["port"]).url
    body = {"model": wanted["model"], "prompt": "Once", "max_tokens": 1, "temperature": 0}
    wait = Wait(
        ask=lambda timeout_s: stream_completion(url + "/v1", body, key=wanted["key"], timeout_s=timeout_s),
        look=lambda: unit_states([wanted["unit"]], module.run_command)[wanted["unit"]],
        patience=Patience(wanted["timeout"], wanted["interval"], wanted["max_restarts"], wanted["meeting_timeout"]),
        note=lambda: read_note(Path(wanted["guard_record"]) if wanted["guard_record"] else None),
    )
    try:
        completion, seconds = wait.for_token()
    except SystemdError as error:
        module.fail_json(msg=f"{platform.node()}: {error}")
    except NotReady as error:
        state = wait.look()
        journal = journal_tail(wanted["unit"], wanted["journal_lines"], module.run_command)
        module.fail_json(
            msg=(
                f"{platform.node()}: {wanted['unit']} is not ready at {url}: {error}.\n{state}.\n"
                f"The last lines of its journal (more: journalctl -u {wanted['unit']}):\n{journal}"
            ),
            unit_state=str(state),
            journal=journal.splitlines(),
        )
    module.exit_json(changed=False, seconds=round(seconds, 1), tokens=completion.events, model=wanted["model"])


if __name__ == "__main__":
    main()
