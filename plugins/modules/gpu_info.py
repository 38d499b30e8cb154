#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell the GPUs of a host, the state that they are in, and what the host itself is."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_info
short_description: Tell the NVIDIA GPUs of a host and what the host is
version_added: "0.1.0"
description:
  - Reads the GPUs through C(nvidia-smi) and, where that does not work, from the PCI bus, and says in one word which
    state they are in. A missing, mismatched or hanging driver and a GPU that fell off the bus are states, never
    failures.
  - Reads what planning needs to know of the host besides. Memory, its cgroup limit, processors, NUMA nodes, free disk,
    network interfaces.
  - Needs no privileges, but sees more with them. Root alone can tell the NVSwitches of a B200 baseboard before a driver
    is there. Network facts need C(ip) of iproute2.
  - Changes nothing.
options:
  paths:
    description: Directories whose free disk to tell. One that does not exist is measured at its nearest parent.
    type: list
    elements: path
    default: []
  timeout:
    description:
      - Seconds that each call of C(nvidia-smi), C(ip) and C(getent) may take. One that takes longer is killed, and left
        behind if it cannot be killed.
      - After the first hanging C(nvidia-smi) no other is started.
    type: float
    default: 20
  nvidia_smi:
    description: Path of C(nvidia-smi), where it is neither on E(PATH) nor in the usual places.
    type: path
  sysroot:
    description: Directory below which C(/proc), C(/sys) and C(/etc/os-release) are read. For recordings of other hosts.
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
notes:
  - GPUs that are given to virtual machines (kernel driver C(vfio-pci)) are left out.
"""

EXAMPLES = r"""
- name: Read the GPUs, and the disk that weights will need
  gpufleet.serving.gpu_info:
    paths:
      - /var/lib/gpufleet/models
  register: seen

- name: Stop where a GPU is not usable
  ansible.builtin.assert:
    that: seen.state == 'ok'
    fail_msg: "{{ inventory_hostname }}: {{ seen.state_reason }}"

- name: Name GPUs by UUID
  ansible.builtin.debug:
    msg: "{{ seen.gpus | map(attribute='uuid') | join(',') }}"
"""

RETURN = r"""
state:
  description:
    - The state of the host's GPUs, the first that holds.
    - V(hung), C(nvidia-smi) gave no answer in time.
    - V(driver_mismatch), the loaded kernel module and the user-space driver are of different versions.
    - V(no_gpu), the host has no NVIDIA GPU of its own.
    - V(no_driver), it has, and no working driver for them. RV(gpus) are told by their PCI ids.
    - V(gpu_lost), the driver works and cannot use one of the GPUs, which has RV(gpus[].lost) true.
    - V(unreadable), C(nvidia-smi) printed something that this module does not know.
    - V(ok), the driver tells of every GPU.
  type: str
  returned: always
  sample: ok
state_reason:
  description: What was seen and what to do about it, in one line. Empty where RV(state) is V(ok).
  type: str
  returned: always
  sample: >-
    NVIDIA GPUs without a working driver: 0000:18:00.0 (nvidia-smi is not installed). Install the NVIDIA driver (580 or
    newer), or load the installed one (modprobe nvidia).
gpus:
  description: The GPUs by index.
  type: list
  elements: dict
  returned: always
  contains:
    index:
      description:
        - The driver's number of the GPU. Where the driver does not list it, the next free number in the order of PCI
          addresses.
      type: int
      sample: 0
    uuid:
      description: The driver's name for the GPU, which stays the same across reboots. Null without a driver.
      type: str
      sample: GPU-513536b6-7d19-9063-b049-1e69664bb298
    name:
      description: The product name as the driver prints it, or as it would for the board that the PCI id means.
      type: str
      sample: NVIDIA H100 80GB HBM3
    key:
      description: The model's key in the collection's catalogue. Null where it does not know the GPU or cannot decide.
      type: str
      sample: H100-SXM-80GB
    candidates:
      description: The catalogue keys that the PCI id can mean, where it can mean several. Otherwise empty.
      type: list
      elements: str
      sample: []
    source:
      description: Whether the C(driver) told of the GPU, or C(pci) ids alone.
      type: str
      sample: driver
    memory_mib:
      description: The driver's C(memory.total) in MiB. Null without a driver.
      type: int
      sample: 81559
    memory_used_mib:
      description: MiB in use.
      type: int
      sample: 4
    usable_gib:
      description:
        - GiB that a CUDA program is given, to which C(gpu_memory_utilization) applies. The driver's figure less what
          the driver is known to keep of this model, or the catalogue's figure where there is no driver.
      type: float
      sample: 79.18
    compute_capability:
      description: CUDA compute capability, by the driver or the catalogue.
      type: str
      sample: "9.0"
    mig_mode:
      description: Whether MIG is switched on. Null where the GPU cannot do it or nobody tells.
      type: bool
      sample: false
    mig_devices:
      description: The MIG slices, which programs use in place of the whole GPU.
      type: list
      elements: dict
      contains:
        index:
          description: The driver's number of the slice on its GPU.
          type: int
          sample: 0
        uuid:
          description: The driver's name for the slice.
          type: str
          sample: MIG-264aac46-78a8-5ba5-b310-98568efd5090
        profile:
          description: The slice's profile.
          type: str
          sample: 3g.20gb
        memory_mib:
          description:
            - The slice's memory in MiB, all of which a CUDA program is given. Null where the driver does not tell.
          type: int
          sample: 20096
        usable_gib:
          description: The same in GiB.
          type: float
          sample: 19.62
      sample: []
    ecc:
      description: Whether memory is protected by ECC. Null where the GPU cannot do it.
      type: bool
      sample: true
    driver_version:
      description: Version of the driver that told of the GPU.
      type: str
      sample: 580.95.05
    persistence:
      description: Whether the driver stays initialised when nobody uses the GPU.
      type: bool
      sample: true
    lost:
      description: Whether the driver cannot use the GPU, which is then not to be planned with.
      type: bool
      sample: false
    pci_address:
      description: PCI address as in sysfs.
      type: str
      sample: "0000:18:00.0"
    pci_device:
      description: PCI device id. Null where the bus is not visible.
      type: str
      sample: "2330"
    pci_subsystem:
      description: PCI subsystem as vendor and device.
      type: str
      sample: "10de:16c1"
    kernel_driver:
      description: The kernel driver that holds the GPU. Null where none does.
      type: str
      sample: nvidia
    numa_node:
      description: The NUMA node that the GPU is attached to. Null where the host does not tell.
      type: int
      sample: 0
driver_version:
  description:
    - Version of the NVIDIA driver, or of its loaded kernel module where only that is known. Null without either.
  type: str
  returned: always
  sample: 580.95.05
cuda_version:
  description: The newest CUDA that the driver runs. Null without a working driver.
  type: str
  returned: always
  sample: "13.0"
nvlink:
  description:
    - Whether any two GPUs are joined by NVLink. Null where nobody can tell (a bridge shows only through the driver).
  type: bool
  returned: always
  sample: true
nvswitch:
  description: Whether the GPUs sit on NVSwitches, so that they need the fabric manager.
  type: bool
  returned: always
  sample: true
host:
  description: What the host is. A fact that cannot be read is null or empty.
  type: dict
  returned: always
  contains:
    hostname:
      description: The host's own name.
      type: str
      sample: gpu-01
    kernel:
      description: Kernel release.
      type: str
      sample: 6.1.0-38-amd64
    architecture:
      description: Machine architecture.
      type: str
      sample: x86_64
    os:
      description: The distribution's C(id), C(version_id) and full C(name).
      type: dict
      sample: {id: debian, version_id: "12", name: Debian GNU/Linux 12 (bookworm)}
    python_version:
      description: The Python that ran the module.
      type: str
      sample: 3.11.2
    glibc:
      description: Version of the GNU C library. Null on other libraries.
      type: str
      sample: "2.36"
    cpu:
      description:
        - The processors. C(model), C(logical) and C(physical) cores, C(sockets), and whether they have AVX-512
          (C(flags_avx512)). Null where the processor does not tell.
      type: dict
      sample: {model: Intel(R) Xeon(R) Platinum 8480+, logical: 224, physical: 112, sockets: 2, flags_avx512: true}
    memory_total_bytes:
      description: Memory of the machine, whatever a container may use of it.
      type: int
      sample: 2164029263872
    memory_available_bytes:
      description: Memory that programs could still get.
      type: int
      sample: 2113029263872
    cgroup_memory_limit_bytes:
      description:
        - The memory limit that the host as a whole lives under, as containers do. Null where there is none below the
          memory of the machine.
      type: int
      sample: null
    numa_nodes:
      description: NUMA nodes with C(id), number of logical C(cpus) and C(memory_bytes).
      type: list
      elements: dict
      sample:
        - {id: 0, cpus: 112, memory_bytes: 1082014631936}
        - {id: 1, cpus: 112, memory_bytes: 1082014631936}
    disks:
      description:
        - For each of O(paths), C(free_bytes) for users other than root, C(total_bytes), and C(measured_at), the
          directory that was measured.
      type: dict
      sample: {/var/lib/gpufleet/models: {free_bytes: 3298534883328, total_bytes: 3840755982336, measured_at: /var/lib}}
    interfaces:
      description:
        - Network interfaces except the loopback. C(name), C(state), C(mtu), C(mac), and C(addresses) with C(address),
          C(prefix) and C(family) (C(inet) or C(inet6)).
      type: list
      elements: dict
      sample:
        - name: eth0
          state: up
          mtu: 1500
          mac: 02:00:0a:59:01:15
          addresses: [{address: 10.89.1.21, prefix: 24, family: inet}]
    default_interface:
      description: The interface of the default route. Null without one.
      type: str
      sample: eth0
    default_address:
      description: The address that the host speaks from on its default route.
      type: str
      sample: 10.89.1.21
    fqdn_address:
      description: What the host's own name resolves to on the host. An address in 127.0.0.0/8 is Debian's habit.
      type: str
      sample: 127.0.1.1
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils import _sysfs
from ansible_collections.gpufleet.serving.plugins.module_utils._command import Outcome, run_bounded
from ansible_collections.gpufleet.serving.plugins.module_utils._gpu_facts import Hardware, gpu_facts
from ansible_collections.gpufleet.serving.plugins.module_utils._host import read_host
from ansible_collections.gpufleet.serving.plugins.module_utils._nvidia_smi import NvidiaSmi

USUAL_PLACES = ["/usr/local/bin", "/usr/local/nvidia/bin", "/opt/bin"]


def read_hardware(root: Path) -> Hardware:
    """Read what the kernel shows of NVIDIA below ``root``."""
    return Hardware(
        gpus=_sysfs.pci_gpus(root),
        nvswitch=_sysfs.has_nvswitch(root),
        kernel_module=_sysfs.kernel_module_version(root),
    )


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "paths": {"type": "list", "elements": "path", "default": []},
            "timeout": {"type": "float", "default": 20},
            "nvidia_smi": {"type": "path"},
            "sysroot": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    root = Path(module.params["sysroot"])
    program = module.params["nvidia_smi"] or module.get_bin_path("nvidia-smi", opt_dirs=USUAL_PLACES)

    def run(argv: list[str]) -> Outcome:
        return run_bounded(argv, module.params["timeout"])

    def nvidia_smi(*arguments: str) -> Outcome:
        return run([program, *arguments]) if program else Outcome(rc=None, missing=True)

    hardware = read_hardware(root)
    reading = NvidiaSmi(nvidia_smi).read(expected=[gpu.address for gpu in hardware.own_gpus])
    for warning in reading.warnings:
        module.warn(warning)
    host = read_host(root, run, module.params["paths"])
    if not host["interfaces"]:
        module.warn("No network interface could be read: install iproute2 (the program ip) on the host.")
    module.exit_json(changed=False, host=host, **gpu_facts(hardware, reading))


if __name__ == "__main__":
    main()
