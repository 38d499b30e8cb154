#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what of a host can stand in the way of serving."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_info
short_description: Tell what of a host can stand in the way of serving
version_added: "0.2.0"
description:
  - Reads the state of driver, fabric manager and GPUs, what the kernel log says of them, who uses them, Secure Boot,
    limits, shared memory, time, listening ports and the engine's Python. P(gpufleet.serving.preflight#filter)
    judges it.
  - Never fails for what it finds or cannot find, and changes nothing. Every program is called within a time limit.
  - Without root's rights the kernel log and other users' processes may stay hidden.
options:
  python:
    description: The Python that engines are to run on.
    type: str
    default: python3
  timeout:
    description: Seconds that each call of a program may take.
    type: float
    default: 20
  programs:
    description: Directories in which programs are looked for before E(PATH). For recordings of other hosts.
    type: list
    elements: path
    default: []
  sysroot:
    description:
      - Directory below which C(/proc), C(/sys), C(/run), C(/lib/modules) and C(/dev/shm) are read. For recordings of
        other hosts.
    type: path
    default: /
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Reads in check mode as well.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
seealso:
  - module: gpufleet.serving.gpu_info
"""

EXAMPLES = r"""
- name: Look at the host
  gpufleet.serving.preflight_info:
  register: state

- name: Name what uses its GPUs
  ansible.builtin.debug:
    msg: "{{ state.gpu_processes | map(attribute='name') | list }}"
"""

RETURN = r"""
driver:
  description: The NVIDIA driver.
  type: dict
  returned: always
  contains:
    loaded:
      description: Version of the kernel module that is loaded. Null without one.
      type: str
      sample: 580.178.04
    module:
      description: Version of the kernel module that lies ready for the running kernel. Null without one.
      type: str
      sample: 580.178.04
    nouveau:
      description: Whether the nouveau driver is loaded.
      type: bool
      sample: false
    packages:
      description: The driver's packages that are installed, with C(name) and C(version).
      type: list
      elements: dict
      sample: [{name: nvidia-driver-cuda, version: 580.178.04-1}]
    persistenced:
      description: The persistence daemon, as RV(fabric_manager) without its version.
      type: dict
      sample: {active: true, enabled: true, installed: true, state: active (running)}
fabric_manager:
  description: The fabric manager.
  type: dict
  returned: always
  contains:
    installed:
      description: Whether systemd knows its unit.
      type: bool
      sample: true
    active:
      description: Whether the unit is active.
      type: bool
      sample: true
    enabled:
      description: Whether the unit starts at boot.
      type: bool
      sample: true
    state:
      description: systemd's state and finer state of the unit.
      type: str
      sample: active (running)
    version:
      description: The version that the program says of itself. Null where it is not installed.
      type: str
      sample: 580.178.04
gpus:
  description: The GPUs that the driver tells of. What it or the board does not tell is null.
  type: list
  elements: dict
  returned: always
  contains:
    pci_address:
      description: PCI address as in sysfs.
      type: str
      sample: "0000:18:00.0"
    link_width:
      description: PCIe lanes in use.
      type: int
      sample: 16
    link_width_max:
      description: PCIe lanes that board and slot have.
      type: int
      sample: 16
    ecc_volatile:
      description: Uncorrectable memory errors since the driver was loaded.
      type: int
      sample: 0
    ecc_aggregate:
      description: Uncorrectable memory errors ever.
      type: int
      sample: 0
    rows_pending:
      description: Whether a defective row of memory waits for a reset of the GPU to be replaced.
      type: bool
      sample: false
    rows_failed:
      description: Whether a defective row could not be replaced.
      type: bool
      sample: false
    recovery_action:
      description: What the driver asks for to get the GPU well again. Null where it asks for nothing.
      type: str
      sample: null
    fabric_state:
      description: How far the GPU's registration with the NVSwitch fabric is. V(Completed) is ready.
      type: str
      sample: Completed
    fabric_status:
      description: How that registration went.
      type: str
      sample: Success
    nvlinks:
      description: How many NVLinks the GPU has.
      type: int
      sample: 18
    nvlinks_up:
      description: How many of them have a bandwidth.
      type: int
      sample: 18
gpu_processes:
  description: Processes that hold memory of a GPU.
  type: list
  elements: dict
  returned: always
  contains:
    pid:
      description: Its number.
      type: int
      sample: 4711
    name:
      description: Its program.
      type: str
      sample: python3
    unit:
      description: The systemd unit that it belongs to. Null where that is hidden.
      type: str
      sample: gpufleet-llama-8b-0.service
    uid:
      description: Its user's number. Null where that is hidden.
      type: int
      sample: 997
    memory_mib:
      description: MiB of the GPU that it holds. Null where the driver does not tell.
      type: int
      sample: 74012
    pci_address:
      description: The GPU.
      type: str
      sample: "0000:18:00.0"
kernel:
  description: What decides on kernel modules.
  type: dict
  returned: always
  contains:
    container:
      description: The kind of container that the host is. Null where it is none.
      type: str
      sample: null
    headers:
      description: Whether the headers of the running kernel are installed.
      type: bool
      sample: true
    secure_boot:
      description: Whether the host boots with Secure Boot. Null where its firmware knows no such thing.
      type: bool
      sample: false
    key_enrolled:
      description: Whether the firmware trusts the key that DKMS signs with. Null without Secure Boot.
      type: bool
      sample: null
kernel_log:
  description: Xid errors that the kernel reported since boot, each once a device. Null where the log cannot be read.
  type: list
  elements: dict
  returned: always
  contains:
    number:
      description: The Xid.
      type: int
      sample: 79
    nvswitch:
      description: Whether it is one of an NVSwitch (SXid), which has numbers of its own.
      type: bool
      sample: false
    pci_address:
      description: The device.
      type: str
      sample: "0000:18:00.0"
    count:
      description: How often it came.
      type: int
      sample: 1
    text:
      description: What the last one said.
      type: str
      sample: "pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
limits:
  description: The hard limits of process 1, above which no service comes. Null where there is none.
  type: dict
  returned: always
  contains:
    nofile:
      description: Open files.
      type: int
      sample: 1048576
    memlock:
      description: Bytes of locked memory.
      type: int
      sample: null
listeners:
  description:
    - The TCP ports that somebody listens on, with C(port), C(pid), C(name) and C(unit) of who does, and C(loopback),
      whether the host alone can reach it.
  type: list
  elements: dict
  returned: always
  sample: [{port: 22, pid: 812, name: sshd, unit: ssh.service, loopback: false}]
python:
  description: C(program), the Python that engines are to run on, and its C(version), null where it is not there.
  type: dict
  returned: always
  sample: {program: python3, version: 3.11.2}
replicas:
  description: The units of replicas that run or are about to.
  type: list
  elements: str
  returned: always
  sample: [gpufleet-llama-8b-0.service]
shm:
  description: C(total_bytes) and C(free_bytes) of /dev/shm. Null where there is none.
  type: dict
  returned: always
  sample: {total_bytes: 1082014631936, free_bytes: 1082014631936}
time_synchronised:
  description: Whether a time server keeps the clock. Null where nobody tells.
  type: bool
  returned: always
  sample: true
"""

import os
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils._command import Outcome, run_bounded
from ansible_collections.gpufleet.serving.plugins.module_utils._preflight import read_preflight

USUAL_PLACES = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/nvidia/bin"]
"""Where programs are looked for besides PATH: sshd's PATH for commands leaves out the sbin folders on some systems."""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "python": {"type": "str", "default": "python3"},
            "timeout": {"type": "float", "default": 20},
            "programs": {"type": "list", "elements": "path", "default": []},
            "sysroot": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    os.environ["PATH"] = os.pathsep.join([*module.params["programs"], os.environ.get("PATH", ""), *USUAL_PLACES])

    def run(argv: list[str]) -> Outcome:
        return run_bounded(argv, module.params["timeout"])

    state = read_preflight(Path(module.params["sysroot"]), run, module.params["python"])
    module.exit_json(changed=False, **state)


if __name__ == "__main__":
    main()
