#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put an nftables table in force that rolls itself back unless it is confirmed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nft_table
short_description: Put an nftables table in force that rolls itself back unless it is confirmed
version_added: "0.2.0"
description:
  - Keeps one table, which no other program uses, beside whatever rules a host has. No other table is read or changed.
  - Rules come into force on trial. C(nft --check) judges them first, and they are loaded into a network namespace of
    their own, so that the kernel has taken them once before they count. The systemd timer
    C(gpufleet-perimeter-rollback.timer), which must be there, then runs before they are in force, and goes back to the
    confirmed rules, or to none, unless they are confirmed over a new connection.
  - Rules that are confirmed, and that the kernel still has as they were written, are left as they are.
options:
  table:
    description: Family and name of the table.
    type: str
    required: true
  folder:
    description: Folder of the files C(rules.nft), the confirmed rules, and C(trial.nft). It must exist.
    type: path
    required: true
  state:
    description:
      - V(trial) puts the rules in force until the timer runs out. V(confirmed) ends the trial and keeps them.
        V(absent) takes the table and its files away.
    type: str
    choices: [trial, confirmed, absent]
    default: trial
  rules:
    description: A file for C(nft --file) that makes the table anew. Required unless O(state=absent).
    type: str
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Tells whether the table would change. Where nft is installed, it judges the rules too.
    support: full
  diff_mode:
    description: Shows the confirmed rules beside the wanted ones.
    support: full
"""

EXAMPLES = r"""
- name: Try the rules
  gpufleet.serving.nft_table:
    table: inet gpufleet
    folder: /etc/gpufleet/perimeter
    rules: "{{ rules }}"
  register: trial

- name: See that the host still lets us in
  ansible.builtin.wait_for_connection:
    timeout: 30
  when: trial is changed

- name: Keep them
  gpufleet.serving.nft_table:
    table: inet gpufleet
    folder: /etc/gpufleet/perimeter
    rules: "{{ rules }}"
    state: confirmed
  when: trial is changed
"""

RETURN = r"""
table:
  description: The table as the kernel had it before, without counters. Null where it had none.
  type: str
  returned: success
"""

import os
import platform
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils._nft_table import NftTable, TableError

MISSING = 127
"""What a shell says of a program that is not there."""


def keep(module: AnsibleModule, table: NftTable) -> bool:
    """Bring about what the options say, except in check mode; whether that is a change. Raises TableError."""
    state, rules = module.params["state"], module.params["rules"]
    if state == "absent":
        left = table.exists()
        if left and not module.check_mode:
            table.remove()
        return left
    if not module.get_bin_path("nft", opt_dirs=["/usr/sbin"]):
        if module.check_mode:
            return True
        raise TableError("nft is not installed. Install the package nftables.")
    if state == "confirmed":
        return table.is_on_trial() if module.check_mode else table.confirm(rules)
    table.check(rules)
    changes = not table.stands(rules)
    if changes and not module.check_mode:
        table.begin(rules)
    return changes


def difference(table: NftTable, wanted: str) -> dict[str, str]:
    """The confirmed rules and the wanted ones."""
    confirmed = table.confirmed.read_text(encoding="utf-8") if table.confirmed.exists() else ""
    return {
        "before": confirmed,
        "after": wanted,
        "before_header": str(table.confirmed),
        "after_header": str(table.confirmed),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "table": {"type": "str", "required": True},
            "folder": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["trial", "confirmed", "absent"], "default": "trial"},
            "rules": {"type": "str"},
        },
        required_if=[("state", "trial", ("rules",)), ("state", "confirmed", ("rules",))],
        supports_check_mode=True,
    )

    # sshd's PATH for commands leaves out the sbin folders on some systems
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    module.run_command_environ_update = {"PATH": path, "LC_ALL": "C"}

    def run(command: list[str], given: str | None) -> tuple[int, str, str]:
        try:
            return tuple(module.run_command(command, data=given, handle_exceptions=False))
        except OSError as error:
            return MISSING, "", str(error)

    table = NftTable(module.params["table"], Path(module.params["folder"]), run)
    answer: dict[str, Any] = {"table": table.in_force()}
    if module._diff:
        answer["diff"] = difference(table, module.params["rules"] or "")
    try:
        module.exit_json(changed=keep(module, table), **answer)
    except TableError as error:
        module.fail_json(msg=f"{platform.node()}: {module.params['table']}: {error}")


if __name__ == "__main__":
    main()
