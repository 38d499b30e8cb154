#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch Debian packages with all that they depend on."""

from __future__ import annotations

DOCUMENTATION = r"""
module: deb_repository
short_description: Fetches Debian packages with all that they depend on
version_added: 0.1.0
description:
  - Has apt fetch packages and everything that they depend on into a folder, as if nothing were installed, and makes a
    flat repository of it, packed into one file beside the folder. Nothing is installed.
  - A second run asks apt again and fetches only what has a newer version.
options:
  packages:
    description: Names of packages.
    type: list
    elements: str
    required: true
  path:
    description: The folder. Made if missing; packages in it that are not wanted are removed.
    type: path
    required: true
author:
  - The gpufleet authors (@gpufleet)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: none
  diff_mode:
    support: none
  platform:
    platforms: debian
"""

EXAMPLES = r"""
- name: Fetch nginx for hosts without a way out
  gpufleet.serving.deb_repository:
    packages: [nginx]
    path: /var/cache/gpufleet/debs
"""

RETURN = r"""
archive:
  description: The file that packages and index are packed into.
  returned: success
  type: str
  sample: /var/cache/gpufleet/debs.tar
count:
  description: How many packages there are.
  returned: success
  type: int
  sample: 164
"""

import os
import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils._deb_repository import (
    INDEX,
    PackageError,
    fetch,
    index,
    pack,
)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "required": True},
            "path": {"type": "path", "required": True},
        },
    )
    folder = module.params["path"].rstrip("/")
    archive = folder + ".tar"
    try:
        before = _text(os.path.join(folder, INDEX))
        fetch(module.params["packages"], folder)
        after = index(folder)
        changed = after != before or not os.path.exists(archive)
        if changed:
            pack(folder, after, archive)
    except PackageError as error:
        module.fail_json(msg=f"{error}: look at the sources of apt on this host, which needs a way out to bundle")
    except subprocess.CalledProcessError as error:
        module.fail_json(msg=f"{' '.join(error.cmd)}: {error.stderr}: remove that file and run again")
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(changed=changed, archive=archive, count=after.count("\nFilename: "))


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError:
        return ""


if __name__ == "__main__":
    main()
