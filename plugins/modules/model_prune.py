#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove models that nobody lists any more."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_prune
short_description: Removes models that nobody lists any more
version_added: 0.1.0
description:
  - Removes the directories that the model store made under its root, except those that are kept. These are named by a
    model and 12 hex digits of its content id, C(<root>/<model>/<12 hex digits>), with C(.partial) behind while a copy
    is under way.
  - Nothing else under the root is ever touched.
options:
  root:
    description: Root of the model store.
    type: path
    required: true
  keep:
    description: Directories that stay, with all that they hold or lie in.
    type: list
    elements: path
    required: true
  revisions:
    description: How many further sets of weights of each model stay, those that came last.
    type: int
    default: 0
author:
  - The gpufleet authors (@gpufleet)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: posix
"""

EXAMPLES = r"""
- name: Keep one model
  gpufleet.serving.model_prune:
    root: /var/lib/gpufleet/models
    keep:
      - /var/lib/gpufleet/models/llama/3f0b5e1c2d4a
"""

RETURN = r"""
removed:
  description: The directories that were removed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/var/lib/gpufleet/models/qwen/90ab12cd34ef]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils._model_store import prunable, prune


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "keep": {"type": "list", "elements": "path", "required": True},
            "revisions": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    root, keep = module.params["root"], module.params["keep"]
    try:
        removed = prunable(root, keep, module.params["revisions"])
        if not module.check_mode:
            prune(root, removed)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    module.exit_json(
        changed=bool(removed), removed=removed, diff={"before": "".join(f"{path}\n" for path in removed), "after": ""}
    )


if __name__ == "__main__":
    main()
