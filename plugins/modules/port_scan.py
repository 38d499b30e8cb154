#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Try which TCP ports of other hosts answer."""

from __future__ import annotations

DOCUMENTATION = r"""
module: port_scan
short_description: Try which TCP ports of other hosts answer
version_added: "0.2.0"
description:
  - Connects to each port once and closes the connection again. Sends nothing and changes nothing.
options:
  targets:
    description: The ports to try.
    type: list
    elements: dict
    required: true
    suboptions:
      address:
        description: IP address of the host.
        type: str
        required: true
      port:
        description: TCP port.
        type: int
        required: true
  timeout:
    description: Seconds that each port gets. Above one second, a lost packet is sent again.
    type: float
    default: 2.5
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Tries in check mode as well.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: See whether an engine can be reached from here
  gpufleet.serving.port_scan:
    targets: [{address: 10.0.0.11, port: 8000}]
  delegate_to: localhost
  register: scan
"""

RETURN = r"""
tried:
  description: Every target, in the order in which they were given.
  type: list
  elements: dict
  returned: always
  contains:
    address:
      description: IP address of the host.
      type: str
      sample: 10.0.0.11
    port:
      description: TCP port.
      type: int
      sample: 8000
    state:
      description:
        - V(answers) where a connection came about, V(refuses) where the host said that nothing listens, V(silent) where
          nothing came back in time.
      type: str
      sample: silent
    source:
      description: The address that this host speaks from towards that one. Null where no route leads there.
      type: str
      sample: 10.0.0.1
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils._ports import try_ports


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "targets": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "address": {"type": "str", "required": True},
                    "port": {"type": "int", "required": True},
                },
            },
            "timeout": {"type": "float", "default": 2.5},
        },
        supports_check_mode=True,
    )
    targets = [(target["address"], target["port"]) for target in module.params["targets"]]
    module.exit_json(changed=False, tried=[asdict(tried) for tried in try_ports(targets, module.params["timeout"])])


if __name__ == "__main__":
    main()
