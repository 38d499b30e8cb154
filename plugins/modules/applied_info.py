#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what the collection's roles have applied on this host, and which replicas serve."""

from __future__ import annotations

DOCUMENTATION = r"""
module: applied_info
short_description: Tell what is applied on a host and which replicas serve
version_added: "0.1.0"
description:
  - Reads what each role recorded under C(/etc/ansible/facts.d), finds the replicas that the role C(serve) made on the
    host, and asks systemd and each replica's port how they are. Changes nothing.
  - A replica counts as there as long as one of its files is, so that a removal that was interrupted is seen.
options:
  plan:
    description: Whether to read the copy of the last applied plan too, which the front-door host keeps.
    type: bool
    default: false
  timeout:
    description: Seconds that a replica's port gets to answer.
    type: float
    default: 5
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Reads in check mode as well.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Read what is applied
  gpufleet.serving.applied_info:
    plan: true
  register: applied
"""

RETURN = r"""
roles:
  description: What each role recorded as applied, by role.
  type: dict
  returned: always
  sample:
    serve:
      share: 0f3d1c2b4a59
      options: {serve_gateways: [edge], serve_units: []}
replicas:
  description: The replicas on this host, by name.
  type: dict
  returned: always
  contains:
    unit:
      description: The replica's systemd unit.
      type: str
      sample: gpufleet-llama-0.service
    installed:
      description: Whether systemd knows the unit; not so where only other files of the replica are left.
      type: bool
    active:
      description: Whether the unit is active.
      type: bool
    substate:
      description: systemd's finer state, such as V(running), V(auto-restart) or V(dead).
      type: str
    enabled:
      description: Whether the unit starts at boot.
      type: bool
    main_pid:
      description: The unit's main process, or V(0).
      type: int
    n_restarts:
      description: How often systemd has restarted the unit by itself since it was last started by hand.
      type: int
    address:
      description: The address that the engine binds, or null where its settings are gone.
      type: str
    port:
      description: The port that the engine binds, or null where its settings are gone.
      type: int
    server:
      description: Address and port as a gateway names a server, or null.
      type: str
      sample: 10.0.0.11:8000
    answers:
      description: Whether this host takes the replica's requests. Of several hosts of a replica the first alone does.
      type: bool
    health:
      description:
        - V(ok) when the port answers well, V(busy) when it does not answer in time, V(refused) when nothing listens,
          which is so until an engine is ready, V(failing) when it answers with an error, and V(unknown) when the unit
          is not active or its port not known.
      type: str
    live:
      description:
        - Whether clients may be served here, so that a restart would be felt. The unit is active and its health is
          V(ok) or V(busy), as a saturated engine can be slow to answer.
      type: bool
    guard:
      description:
        - What the guard that runs the engine noted last. C(state) is V(meeting) while hosts of the replica are missing,
          V(starting), V(serving), V(running) on a host that takes no requests itself, V(failed), V(waiting) or
          V(quarantined) after failures, or V(stopped); C(reason) says more; C(epoch) counts the starts of its hosts
          together. Null before the first start.
      type: dict
      sample: {state: serving, reason: epoch 3, epoch: 3}
measured:
  description:
    - What was measured of each replica, by its name, as M(gpufleet.serving.engine_figures) and
      M(gpufleet.serving.engine_benchmark) put it together. Empty where nothing was.
  type: dict
  returned: always
  sample:
    llama-0:
      unit_id: 9f3c1d2b4a59
      measured_at: "2026-01-31T12:00:00Z"
      kv_blocks: 27102
      block_size: 16
plan:
  description: The copy of the last applied plan; null when there is none or it was not asked for.
  type: dict
  returned: always
problems:
  description: Files that could not be understood, one sentence each with the remedy.
  type: list
  elements: str
  returned: always
"""

import json
import platform
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils._engine import Engine
from ansible_collections.gpufleet.serving.plugins.module_utils._measured_fact import (
    MEASURED,
    FactError,
    Replicas,
    read_fact,
)
from ansible_collections.gpufleet.serving.plugins.module_utils._systemd import (
    Run,
    SystemdError,
    UnitState,
    unit_states,
)

FACTS = "etc/ansible/facts.d"
PLAN = "var/lib/gpufleet/plan.json"
SETTINGS = "etc/gpufleet/serve"
GUARDED = "var/cache/gpufleet"
UNITS = "etc/systemd/system"

FACT_FILE = re.compile(r"gpufleet_(?P<role>[a-z][a-z0-9_]*)\.fact")
UNIT_FILE = re.compile(r"gpufleet-(?P<replica>.+)\.service")
SETTINGS_FILE = re.compile(r"(?P<replica>.+)\.(?:yaml|env|json)")
# the first line of a unit that the role serve wrote
UNIT_MARK = "# gpufleet.serving: replica "
# the role writes the settings with one key a line
LISTEN_SETTING = re.compile(r"^(?P<key>host|port): *['\"]?(?P<value>[^'\"\n]+)['\"]?$", re.MULTILINE)


class AppliedReader:
    """Reads one host. ``root`` is the folder that its file system hangs under; problems are gathered on the way."""

    def __init__(self, root: Path, run: Run, timeout_s: float) -> None:
        self.root = root
        self.run = run
        self.timeout_s = timeout_s
        self.problems: list[str] = []

    def roles(self) -> dict[str, Any]:
        """What each role recorded, by role name."""
        found = {}
        for path in self._files(FACTS):
            match = FACT_FILE.fullmatch(path.name) if path != self.root / MEASURED else None
            record = self._record(path) if match else None
            if match and record is not None:
                found[match.group("role")] = record
        return found

    def measured(self) -> Replicas:
        """What was measured of each replica."""
        try:
            return read_fact(self.root / MEASURED)
        except FactError as error:
            self._problem("what was measured", str(error), "Remove the file; verify.yml writes it anew.")
            return {}

    def plan(self) -> dict[str, Any] | None:
        """The copy of the last applied plan, if this host keeps one."""
        path = self.root / PLAN
        return self._record(path) if path.exists() else None

    def replicas(self) -> dict[str, dict[str, Any]]:
        """Each replica's unit, process, port and health, by replica name."""
        names = self.replica_names()
        if not names:
            return {}
        try:
            states = unit_states([f"gpufleet-{name}.service" for name in names], self.run)
        except SystemdError as error:
            self._problem("the replicas' units", str(error), "Look at systemd on this host.")
            states = {}
        with ThreadPoolExecutor(max_workers=len(names)) as pool:
            told = pool.map(lambda name: self._replica(name, states.get(f"gpufleet-{name}.service")), names)
            return dict(zip(names, told))

    def replica_names(self) -> list[str]:
        """The replicas of which any file is left, sorted."""
        units = [(path, UNIT_FILE.fullmatch(path.name)) for path in self._files(UNITS)]
        settings = [SETTINGS_FILE.fullmatch(path.name) for path in self._files(SETTINGS)]
        return sorted(
            {match.group("replica") for path, match in units if match and self._is_ours(path)}
            | {match.group("replica") for match in settings if match}
        )

    def _replica(self, name: str, state: UnitState | None) -> dict[str, Any]:
        address, port = self._listens(name)
        engine = Engine(address, port, self.timeout_s) if address and port else None
        health = engine.health() if engine and state and state.running else "unknown"
        return {
            "unit": f"gpufleet-{name}.service",
            "installed": state is not None and state.load != "not-found",
            "active": state is not None and state.running,
            "substate": state.sub if state else "unknown",
            "enabled": state is not None and state.enabled,
            "main_pid": state.main_pid if state else 0,
            "n_restarts": state.restarts if state else 0,
            "address": address,
            "port": port,
            "server": engine.server if engine else None,
            "answers": self._answers(name),
            "health": health,
            "guard": self._guard(name),
            "live": health in ("ok", "busy"),
        }

    def _guard(self, name: str) -> dict[str, Any] | None:
        """What the replica's guard notes about it; None where there is none yet."""
        try:
            told = json.loads((self.root / GUARDED / name / "guard.json").read_text(encoding="utf-8"))
            return {word: told[word] for word in ("state", "reason", "epoch")}
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _answers(self, name: str) -> bool:
        try:
            settings = json.loads((self.root / SETTINGS / f"{name}.json").read_text(encoding="utf-8"))
            return bool(settings["group"]["node_rank"] == 0)
        except (OSError, ValueError, KeyError, TypeError):
            return True

    def _listens(self, name: str) -> tuple[str | None, int | None]:
        path = self.root / SETTINGS / (name + ".yaml")
        try:
            told = {match.group("key"): match.group("value") for match in LISTEN_SETTING.finditer(path.read_text())}
            return told["host"], int(told["port"])
        except FileNotFoundError:
            return None, None
        except (OSError, ValueError, KeyError) as error:
            self._problem(path, f"no host and port to read ({error})", "The role serve writes it anew.")
            return None, None

    def _is_ours(self, path: Path) -> bool:
        try:
            with path.open(encoding="utf-8", errors="replace") as unit:
                return unit.readline().startswith(UNIT_MARK)
        except OSError:
            # a masked unit points to /dev/null and a link may lead nowhere: neither is a unit of the role
            return False

    def _files(self, folder: str) -> list[Path]:
        directory = self.root / folder
        return sorted(directory.iterdir()) if directory.is_dir() else []

    def _record(self, path: Path) -> dict[str, Any] | None:
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(record, dict):
                return record
            error: object = "not a JSON object"
        except (OSError, ValueError) as caught:
            error = caught
        self._problem(path, str(error), "Remove the file and run site.yml; what it recorded is then applied anew.")
        return None

    def _problem(self, subject: object, seen: str, remedy: str) -> None:
        self.problems.append(f"{platform.node()}: {subject}: {seen}. {remedy}")


def read_applied(reader: AppliedReader, with_plan: bool) -> dict[str, Any]:
    """The module's whole answer."""
    answer = {
        "roles": reader.roles(),
        "replicas": reader.replicas(),
        "measured": reader.measured(),
        "plan": reader.plan() if with_plan else None,
    }
    return dict(answer, problems=reader.problems)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "plan": {"type": "bool", "default": False},
            "timeout": {"type": "float", "default": 5},
        },
        supports_check_mode=True,
    )
    reader = AppliedReader(Path("/"), module.run_command, module.params["timeout"])
    module.exit_json(changed=False, **read_applied(reader, module.params["plan"]))


if __name__ == "__main__":
    main()
