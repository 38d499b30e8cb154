#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the key that a package repository is signed with, if it is the one that is meant."""

from __future__ import annotations

DOCUMENTATION = r"""
module: signing_key
short_description: Bring a repository's signing key, pinned by fingerprint
version_added: "0.2.0"
description:
  - Fetches an OpenPGP key file and writes it down only if every key in it has a fingerprint that was given. Whoever can
    change the file on its server cannot make the host trust another key.
  - Needs no gpg on the host.
options:
  url:
    description: Where the key file is. C(file://) addresses work as well.
    type: str
    required: true
  dest:
    description: Where to write it. apt wants the ending C(.asc) for an armored file.
    type: path
    required: true
  fingerprints:
    description: The fingerprints of all keys that may be in it, 40 hex digits each; blanks and case do not matter.
    type: list
    elements: str
    required: true
  timeout:
    description: Seconds that the server gets to answer.
    type: int
    default: 30
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Fetches and checks the key, and writes nothing.
    support: full
  diff_mode:
    description: Shows the fingerprints before and after.
    support: full
"""

EXAMPLES = r"""
- name: Bring the key
  gpufleet.serving.signing_key:
    url: https://mirror.example.org/nvidia/3bf863cc.pub
    dest: /etc/apt/keyrings/gpufleet-nvidia.asc
    fingerprints: [EB69 3B30 35CD 5710 E231  E123 A4B4 6996 3BF8 63CC]
"""

RETURN = r"""
fingerprints:
  description: The fingerprints of the keys in the file.
  type: list
  elements: str
  returned: success
  sample: [EB693B3035CD5710E231E123A4B469963BF863CC]
"""

import os
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import fetch_url
from ansible_collections.gpufleet.serving.plugins.module_utils._openpgp import KeyFileError, fingerprints

LARGEST_KEY_FILE = 1024 * 1024
"""Bytes; a key with many signatures has some ten thousand."""


def normalised(fingerprint: str) -> str:
    """Return a fingerprint as 40 upper-case hex digits without blanks."""
    return "".join(fingerprint.split()).upper()


def fetch(module: AnsibleModule) -> bytes:
    """Return the key file."""
    url = module.params["url"]
    response, info = fetch_url(module, url, timeout=module.params["timeout"])
    # file:// has no status
    if response is None or info.get("status") not in (200, None, -1):
        module.fail_json(
            msg=f"{url} cannot be fetched: {info.get('msg', 'no answer')}. Check the address and the way there, or "
            "name a mirror."
        )
    return response.read(LARGEST_KEY_FILE)


def told(path: Path) -> list[str]:
    """Return the fingerprints of the key file that is there, for the difference."""
    try:
        return list(fingerprints(path.read_bytes()))
    except (OSError, KeyFileError):
        return []


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "dest": {"type": "path", "required": True},
            "fingerprints": {"type": "list", "elements": "str", "required": True},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    url, dest = module.params["url"], Path(module.params["dest"])
    content = fetch(module)
    try:
        seen = fingerprints(content)
    except KeyFileError as error:
        module.fail_json(msg=f"{url} is not to be trusted: {error}.")
    wanted = set(map(normalised, module.params["fingerprints"]))
    strangers = sorted(set(seen) - wanted)
    if strangers:
        module.fail_json(
            msg=f"{url} is not to be trusted: it holds the key {', '.join(strangers)}, and only "
            f"{', '.join(sorted(wanted))} may be there. If its owner has changed keys, look the new fingerprint up "
            "somewhere else before you give it."
        )
    before = told(dest)
    changed = not dest.exists() or dest.read_bytes() != content
    if changed and not module.check_mode:
        dest.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor, scratch = tempfile.mkstemp(dir=module.tmpdir)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        module.atomic_move(scratch, str(dest))
    if not module.check_mode or dest.exists():
        changed |= module.set_mode_if_different(str(dest), "0644", False)
    difference = {"before": "\n".join(before) + "\n", "after": "\n".join(seen) + "\n"}
    module.exit_json(changed=changed, fingerprints=list(seen), diff=difference)


if __name__ == "__main__":
    main()
