#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take upstream servers out of an nginx tree's pools, or put them back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_drain
short_description: Take upstream servers out of nginx's pools, or put them back
version_added: "0.1.0"
description:
  - Marks servers C(down) in every upstream of the tree that M(gpufleet.serving.nginx_tree) put in force, tests,
    switches and reloads as that module does, and returns when the running nginx sends them nothing new. Streams that
    run go on to their end.
  - The next run of M(gpufleet.serving.nginx_tree) puts its own files in force again, without such marks.
options:
  servers:
    description: The servers as V(address:port). Those that are in no upstream are left alone.
    type: list
    elements: str
    required: true
  state:
    description: V(down) takes the servers out, V(up) puts them back.
    type: str
    choices: [down, up]
    required: true
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Tells whether a mark would change.
    support: full
  diff_mode:
    description: Shows the upstreams that change.
    support: full
seealso:
  - module: gpufleet.serving.nginx_tree
"""

EXAMPLES = r"""
- name: Send nothing new to one engine
  gpufleet.serving.nginx_drain:
    servers: ["10.0.0.11:8000"]
    state: down
  delegate_to: gateway-1
"""

RETURN = r"""
servers:
  description: Which of the servers the gateway has.
  type: list
  elements: str
  returned: success
  sample: ["10.0.0.11:8000"]
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils._nginx_tree import (
    SystemNginx,
    TreeError,
    TreeKeeper,
    differences,
)


def drain(module: AnsibleModule) -> dict[str, Any]:
    """Set the marks and return the module's answer."""
    keeper = TreeKeeper(SystemNginx(module.run_command, module.get_bin_path("nginx", opt_dirs=["/usr/sbin"])))
    nothing = {"changed": False, "servers": []}
    if not keeper.exists():
        return nothing
    with keeper.locked():
        before = keeper.in_force()
        if before is None:
            return nothing
        after = before.marked(module.params["servers"], module.params["state"] == "down")
        answer: dict[str, Any] = {
            "servers": [server for server in before.servers() if server in module.params["servers"]]
        }
        if module._diff:
            answer["diff"] = differences(before, after)
        return dict(answer, changed=before != after if module.check_mode else keeper.put(after))


def main() -> None:
    """Run as Ansible runs it."""
    module = AnsibleModule(
        argument_spec={
            "servers": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["down", "up"], "required": True},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**drain(module))
    except TreeError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
