#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: wheelhouse
short_description: Fetch the wheels of a lock, on the controller
version_added: "0.1.0"
description:
  - Fetches every wheel that a lock names, with the hashes that the lock gives, for hosts whose Python need not be the
    controller's. Nothing is installed.
  - A wheelhouse is fetched once. An interrupted fetch goes on where it was. Two runs at once wait for each other.
  - Wheels come from where pip is configured to look.
  - Runs on the controller only, whatever host the task is for.
options:
  lock:
    description: File of requirements, each pinned and with its hashes, without markers, URLs and indexes.
    type: path
    required: true
  path:
    description: The wheelhouse, a folder that has this lock's wheels and nothing else.
    type: path
    required: true
  python_version:
    description: Major and minor version of the hosts' Python.
    type: str
    required: true
  machine:
    description: The hosts' machine, as C(uname -m) says it.
    type: str
    required: true
  glibc:
    description: The oldest glibc among the hosts.
    type: str
    required: true
  local_index:
    description:
      - Index for versions with a local label such as C(2.13.0+cpu), which no public index takes.
      - Asked only for those, and only where pip does not find them anyway.
    type: str
    default: ""
  pip:
    description: pip's command on the controller. Empty takes the pip of the Python that runs Ansible.
    type: list
    elements: str
    default: []
  pip_options:
    description: Further options of C(pip download).
    type: list
    elements: str
    default: []
  archive:
    description: Whether to pack the wheels into one file too, beside the folder, which hosts take faster.
    type: bool
    default: false
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Tells whether wheels are missing, and fetches none.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Fetch the wheels
  gpufleet.serving.wheelhouse:
    lock: "{{ playbook_dir }}/files/engine.txt"
    path: ~/.cache/wheels/engine
    python_version: "3.11"
    machine: x86_64
    glibc: "2.34"
    archive: true
  run_once: true
  register: wheels
"""

RETURN = r"""
path:
  description: The wheelhouse.
  type: str
  returned: always
  sample: /home/me/.cache/gpufleet/wheelhouse/cpu-0.32.0-py3.11-5ae1c9ee20f4
archive:
  description: The file that the wheels are packed into.
  type: str
  returned: when O(archive) is true, except in check mode
  sample: /home/me/.cache/gpufleet/wheelhouse/cpu-0.32.0-py3.11-5ae1c9ee20f4.tar
"""
