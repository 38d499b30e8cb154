#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what k3s is and does on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: k3s_info
short_description: Tell what k3s is and does on a host
version_added: "0.2.0"
description:
  - Looks at k3s' binary, its unit and its process, at the runtimes that its containerd has, and whether the host has a
    default route, without which k3s does not start.
  - What a running k3s was started with stands in its environment, so that an interrupted run leaves nothing that lies.
options:
  binary:
    description: k3s itself.
    type: path
    default: /usr/local/bin/k3s
  data_dir:
    description: k3s' folder.
    type: path
    default: /var/lib/rancher/k3s
  timeout:
    description: Seconds that the binary gets to tell its version.
    type: int
    default: 20
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Changes nothing in any mode.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Look at k3s
  gpufleet.serving.k3s_info:
  register: state
"""

RETURN = r"""
version:
  description: Version of the binary. Null where there is none, or it does not tell.
  type: str
  returned: success
  sample: v1.35.7+k3s1
role:
  description: What the host is installed as. Null where k3s has no unit.
  type: str
  returned: success
  sample: agent
managed:
  description: Whether the role k3s brought it.
  type: bool
  returned: success
active:
  description: Whether systemd calls it active.
  type: bool
  returned: success
stamp:
  description: What the running or starting k3s was started with. Null where none does, or it does not tell.
  type: str
  returned: success
runtimes:
  description: The container runtimes in the settings that k3s made for containerd.
  type: list
  elements: str
  returned: success
  sample: [nvidia, runc]
default_route:
  description: Whether the host has a default route.
  type: bool
  returned: success
machine:
  description: What the host's programs are made for.
  type: str
  returned: success
  sample: x86_64
"""

import platform
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils import _k3s_host
from ansible_collections.gpufleet.serving.plugins.module_utils._command import run_bounded
from ansible_collections.gpufleet.serving.plugins.module_utils._systemd import SystemdError, UnitState, unit_states

DROP_INS = Path("/etc/systemd/system")
CONTAINERD = "agent/etc/containerd/config.toml"


def read(path: Path) -> bytes:
    """Return what a file holds; nothing where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def text(path: Path) -> str:
    """Return a file as text."""
    return read(path).decode("utf-8", "replace")


def node(states: dict[str, UnitState]) -> dict[str, Any]:
    """Return what the units tell: which kind of node is installed, whether it runs, and with what."""
    for role, unit in _k3s_host.UNITS.items():
        state = states[unit]
        if state.load == "loaded":
            return {
                "role": role,
                "active": state.running,
                "stamp": _k3s_host.stamp(read(Path(f"/proc/{state.main_pid}/environ"))) if state.main_pid else None,
            }
    return {"role": None, "active": False, "stamp": None}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "binary": {"type": "path", "default": "/usr/local/bin/k3s"},
            "data_dir": {"type": "path", "default": "/var/lib/rancher/k3s"},
            "timeout": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    try:
        states = unit_states(list(_k3s_host.UNITS.values()), module.run_command)
    except SystemdError as error:
        module.fail_json(msg=f"k3s needs systemd, and it does not tell of its units: {error}")
    told = run_bounded([module.params["binary"], "--version"], module.params["timeout"])
    module.exit_json(
        changed=False,
        version=_k3s_host.version(told.stdout),
        managed=any((DROP_INS / f"{unit}.d/gpufleet.conf").exists() for unit in _k3s_host.UNITS.values()),
        runtimes=_k3s_host.runtimes(text(Path(module.params["data_dir"]) / CONTAINERD)),
        default_route=_k3s_host.has_default_route(text(Path("/proc/net/route")), text(Path("/proc/net/ipv6_route"))),
        machine=platform.machine(),
        **node(states),
    )


if __name__ == "__main__":
    main()
