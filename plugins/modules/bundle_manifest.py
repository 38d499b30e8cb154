#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seal a bundle, or hold it against its manifest."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_manifest
short_description: Seals a bundle, or holds it against its manifest
version_added: 0.1.0
description:
  - A bundle is one directory with all that a fleet needs from outside. Its C(manifest.json) lists every file with its
    size and sha256, C(components.cdx.json) names what it is made of (CycloneDX 1.6), C(licences) holds the licences
    that came with wheels.
  - Works where it runs, which is the controller for P(gpufleet.serving.bundle#role).
options:
  path:
    description: The bundle.
    type: path
    required: true
  models:
    description: The sets of weights in it, for the list of components.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the model.
        type: str
        required: true
      source:
        description: Where it came from, a directory or a repository on a hub.
        type: str
        required: true
      content_id:
        description: Identity of the content, as M(gpufleet.serving.model_info) returns it.
        type: str
        required: true
      source_kind:
        description: What O(models[].source) is.
        type: str
        choices: [controller, hub]
      path:
        description: Where the model shall lie on hosts.
        type: path
  state:
    description:
      - V(sealed) writes licences, components and, last of all, the manifest.
      - V(verified) reads the whole bundle and fails where a file is missing, changed or not in the manifest.
    type: str
    choices: [sealed, verified]
    required: true
requirements:
  - cyclonedx-python-lib >= 11 to seal
author:
  - The gpufleet authors (@gpufleet)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
"""

EXAMPLES = r"""
- name: Hold a bundle against its manifest
  gpufleet.serving.bundle_manifest:
    path: /srv/bundle
    state: verified
  delegate_to: localhost
"""

RETURN = r"""
written:
  description: Files that were written anew.
  returned: success
  type: list
  elements: str
  sample: [/srv/bundle/manifest.json]
"""

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.gpufleet.serving.plugins.module_utils._bundle import faults, seal
from ansible_collections.gpufleet.serving.plugins.module_utils._components import IMPORT_ERROR, LIBRARY
from ansible_collections.gpufleet.serving.plugins.module_utils._content import ContentError

SHOWN = 5


def main() -> None:
    """Run the module."""
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "models": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": text,
                    "source": text,
                    "content_id": text,
                    "source_kind": {"type": "str", "choices": ["controller", "hub"]},
                    "path": {"type": "path"},
                },
            },
            "state": {"type": "str", "choices": ["sealed", "verified"], "required": True},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]
    written: list[str] = []
    try:
        if module.params["state"] == "verified":
            found = faults(path)
            if found:
                more = f" (and {len(found) - SHOWN} more)" if len(found) > SHOWN else ""
                module.fail_json(
                    msg=f"{path} is not as it was bundled: {'; '.join(found[:SHOWN])}{more}. Bring it here again, "
                    "or run bundle.yml anew where there is a way out"
                )
        elif IMPORT_ERROR:
            module.fail_json(
                msg=missing_required_lib(LIBRARY, reason="to say what a bundle is made of"), exception=IMPORT_ERROR
            )
        elif not module.check_mode:
            written = seal(path, module.params["models"])
    except ContentError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(changed=bool(written), written=written)


if __name__ == "__main__":
    main()
