#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take or give back the lock on a fleet, on one of its hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_lock
short_description: Keep two people from changing a fleet at once
version_added: "0.1.0"
description:
  - Takes or gives back a lock that lies on the host, under C(/run), so that it does not outlive a boot.
  - An action plugin of the same name fills in who takes it, and takes over a lock that an earlier run of the same
    controller left behind when it died.
  - The lock belongs to one run. Taking it twice in a run is fine; giving back somebody else's does nothing.
  - The module never reports a change, as a lock for the time of a run changes nothing that the host does.
options:
  state:
    description: V(present) takes the lock, V(absent) gives it back.
    type: str
    choices: [present, absent]
    default: present
  purpose:
    description: What the lock is taken for, for whoever finds it.
    type: str
    default: ""
  break_lock:
    description: Whether to take the lock from whoever holds it.
    type: bool
    default: false
  path:
    description: The lock's file.
    type: path
    default: /run/gpufleet/lock.json
  owner:
    description: Who runs. The action plugin's default is the user and the machine that Ansible runs on.
    type: str
  controller:
    description: The machine that Ansible runs on, told apart from every other. Filled in by the action plugin.
    type: str
  pid:
    description: The process of the run on its controller. Filled in by the action plugin.
    type: int
  dead_pids:
    description:
      - Processes of O(controller) that no longer run. A lock that one of them holds is taken over.
        Filled in by the action plugin.
    type: list
    elements: int
    default: []
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Tells who holds the lock, takes nothing, gives nothing back and does not fail.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Keep a second person from running at once
  gpufleet.serving.fleet_lock:
    purpose: site.yml
    break_lock: "{{ fleet_break_lock | default(false) }}"

- name: Give the lock back
  gpufleet.serving.fleet_lock:
    state: absent
"""

RETURN = r"""
held:
  description: Whether this run holds the lock now.
  type: bool
  returned: always
holder:
  description: Who holds the lock now; null for nobody.
  type: dict
  returned: always
  contains:
    owner:
      description: Who runs.
      type: str
    controller:
      description: The machine that runs Ansible.
      type: str
    pid:
      description: The process on that machine.
      type: int
    purpose:
      description: What the lock was taken for.
      type: str
    since:
      description: When, in seconds since 1970 by the host's clock.
      type: int
  sample: {owner: ada@laptop, controller: laptop/3f9c0d21, pid: 4711, purpose: site.yml, since: 1790000000}
note:
  description: What happened, in words; empty when nothing worth telling did.
  type: str
  returned: always
"""

import contextlib
import fcntl
import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule


class LockHeld(Exception):
    """Somebody else holds the lock; the text says who, since when, and what to do."""


@dataclass(frozen=True)
class Holder:
    """Who holds the lock: one run (``pid``) on one ``controller``. ``since``: seconds since 1970, the host's clock."""

    owner: str
    controller: str
    pid: int
    purpose: str
    since: int

    def is_same_run(self, other: Holder) -> bool:
        """Whether both are one run, whatever it does just now."""
        return (self.owner, self.controller, self.pid) == (other.owner, other.controller, other.pid)

    def describe(self, now: int) -> str:
        """Who, for what, since when and how long, in words."""
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.since))
        purpose = f" for {self.purpose}" if self.purpose else ""
        age = age_in_words(now - self.since)
        return f"{self.owner}{purpose} since {since} ({age}; process {self.pid} on {self.controller})"


def age_in_words(seconds: int) -> str:
    """An age to its largest unit, such as ``3 hours``."""
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = seconds // length
            return f"{count} {unit}" if count == 1 else f"{count} {unit}s"
    return "less than a minute"


class LockFile:
    """The lock's file. All reading and writing happens under ``exclusively``, so that no two runs do it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def exclusively(self) -> Iterator[None]:
        """Keep every other process of the host away from the lock's folder, which is made where it is missing."""
        self.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def holder(self) -> Holder | None:
        """Who holds the lock. A file that names nobody holds nothing: runs write theirs in one piece."""
        try:
            return Holder(**json.loads(self.path.read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def write(self, holder: Holder) -> None:
        """Make ``holder`` the holder; a reader sees the old file or the new one, whole."""
        draft = self.path.with_name(self.path.name + ".new")
        draft.write_text(json.dumps(asdict(holder), sort_keys=True) + "\n", encoding="utf-8")
        draft.chmod(0o644)
        draft.replace(self.path)

    def remove(self) -> None:
        """Leave nobody the holder."""
        self.path.unlink()


def take(lock: LockFile, run: Holder, dead_pids: list[int], break_lock: bool) -> str:
    """Make ``run`` the holder and say what was worth telling. Raises LockHeld when somebody else is."""
    holder = lock.holder()
    if holder is not None and holder.is_same_run(run):
        return ""
    if holder is None:
        note = ""
    elif holder.controller == run.controller and holder.pid in dead_pids:
        note = f"Took over the lock of {holder.describe(run.since)}: that process has ended."
    elif break_lock:
        note = f"Broke the lock of {holder.describe(run.since)}."
    else:
        raise LockHeld(
            f"On {platform.node()} the fleet is locked by {holder.describe(run.since)}. "
            "Wait until that run has ended. If it cannot end any more, run again with -e fleet_break_lock=true."
        )
    lock.write(run)
    return note


def give_back(lock: LockFile, run: Holder) -> str:
    """Remove the lock if ``run`` holds it, and say so if somebody else does."""
    holder = lock.holder()
    if holder is None:
        return ""
    if not holder.is_same_run(run):
        return f"Left the lock of {holder.describe(run.since)} alone."
    lock.remove()
    return ""


def look(lock: LockFile, run: Holder) -> str:
    """Say who holds the lock if ``run`` could not take it."""
    holder = lock.holder()
    if holder is None or holder.is_same_run(run):
        return ""
    return (
        f"On {platform.node()} the fleet is locked by {holder.describe(run.since)}; "
        "a run that changes something would stop here."
    )


def answer(lock: LockFile, run: Holder, note: str) -> dict[str, Any]:
    """What the module returns."""
    holder = lock.holder()
    return {
        "changed": False,
        "held": holder is not None and holder.is_same_run(run),
        "holder": asdict(holder) if holder else None,
        "note": note,
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "purpose": {"type": "str", "default": ""},
            "break_lock": {"type": "bool", "default": False},
            "path": {"type": "path", "default": "/run/gpufleet/lock.json"},
            "owner": {"type": "str"},
            "controller": {"type": "str"},
            "pid": {"type": "int"},
            "dead_pids": {"type": "list", "elements": "int", "default": []},
        },
        supports_check_mode=True,
    )
    module.fail_on_missing_params(["owner", "controller", "pid"])
    wanted = module.params
    run = Holder(wanted["owner"], wanted["controller"], wanted["pid"], wanted["purpose"], int(time.time()))
    lock = LockFile(Path(wanted["path"]))
    if module.check_mode:
        module.exit_json(**answer(lock, run, look(lock, run)))
    with lock.exclusively():
        try:
            if wanted["state"] == "present":
                note = take(lock, run, wanted["dead_pids"], wanted["break_lock"])
            else:
                note = give_back(lock, run)
        except LockHeld as held:
            module.fail_json(msg=str(held), **answer(lock, run, ""))
        module.exit_json(**answer(lock, run, note))


if __name__ == "__main__":
    main()
