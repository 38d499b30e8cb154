#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put a tree of nginx files in force beside a site's own, or take it away."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_tree
short_description: Put a tree of nginx files in force beside a site's own
version_added: "0.1.0"
description:
  - Writes the files to a folder of their own under C(/etc/nginx), has C(nginx -t) test them with everything else that
    nginx reads, switches to them by renaming one include in C(/etc/nginx/conf.d), reloads nginx and waits until the
    running nginx tells that it has them.
  - Files that nginx refuses never take effect, and the module fails with nginx's words. Files that it accepts but
    cannot run, as when another program holds a port, are taken back.
  - A reload that an interrupted run left out is made up for. An nginx that does not run is not started.
  - Two runs that meet on a host wait for each other.
options:
  state:
    description: Whether the tree is in force or gone with everything that this module wrote.
    type: str
    choices: [present, absent]
    default: present
  files:
    description:
      - The files, texts by name, a name without a folder. nginx reads those whose name ends in C(.conf), in the order
        of their names, inside its C(http) block.
      - In a file's text C(@tree@) stands for the folder that the files will lie in.
    type: dict
    default: {}
  secret_files:
    description:
      - More such files, which only root may read and which are shown nowhere, in a difference, nginx's words or the
        host's journal neither.
    type: dict
    default: {}
  probe:
    description:
      - A URL at which the files make nginx answer C(@tree@) and nothing else. Required when O(state=present).
    type: str
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Tells whether the tree would change; nginx tests nothing then.
    support: full
  diff_mode:
    description: Shows each file that changes, except secret ones.
    support: full
seealso:
  - module: gpufleet.serving.nginx_drain
"""

EXAMPLES = r"""
- name: Answer on port 8080
  gpufleet.serving.nginx_tree:
    files:
      hello.conf: |
        server {
            listen 127.0.0.1:8080;
            location = /tree { return 200 "@tree@\n"; }
        }
    probe: http://127.0.0.1:8080/tree

- name: Be gone
  gpufleet.serving.nginx_tree:
    state: absent
"""

RETURN = r"""
folder:
  description: The folder of the tree that is in force, or would be.
  type: str
  returned: when O(state=present)
  sample: /etc/nginx/gpufleet/3f8a0c5be912
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils._nginx_tree import (
    PROBE_FILE,
    SystemNginx,
    Tree,
    TreeError,
    TreeFile,
    TreeKeeper,
    differences,
)


def wanted_tree(params: dict[str, Any]) -> Tree:
    """The tree that the options describe; raises TreeError for names that are no file names or stand there twice."""
    files = [TreeFile(name, content) for name, content in params["files"].items()]
    files += [TreeFile(name, content, secret=True) for name, content in params["secret_files"].items()]
    files.append(TreeFile(PROBE_FILE, params["probe"] + "\n"))
    names = [file.name for file in files]
    for name in names:
        if "/" in name or name.startswith(".") or names.count(name) > 1:
            raise TreeError(f"'{name}' must be the name of one file, without a folder and not '{PROBE_FILE}'.")
    return Tree.of(files)


def keep(module: AnsibleModule) -> dict[str, Any]:
    """Bring about what the options say and return the module's answer."""
    tree = wanted_tree(module.params) if module.params["state"] == "present" else None
    binary = module.get_bin_path("nginx", opt_dirs=["/usr/sbin"])
    keeper = TreeKeeper(SystemNginx(module.run_command, binary))
    before = keeper.in_force()
    answer: dict[str, Any] = {"folder": str(keeper.folder(tree))} if tree else {}
    if module._diff:
        answer["diff"] = differences(before, tree)
    if module.check_mode:
        return dict(answer, changed=before != tree if tree else keeper.exists())
    if tree and not binary:
        raise TreeError("nginx is not installed on this host. Install the distribution's package first.")
    if not tree and not keeper.exists():
        return dict(answer, changed=False)
    with keeper.locked():
        return dict(answer, changed=keeper.put(tree) if tree else keeper.remove())


def main() -> None:
    """Run as Ansible runs it."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "files": {"type": "dict", "default": {}},
            # as a whole: a text of many lines, quoted inside a larger option, is not recognised when that is logged
            "secret_files": {"type": "dict", "default": {}, "no_log": True},
            "probe": {"type": "str"},
        },
        required_if=[("state", "present", ("probe",))],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**keep(module))
    except TreeError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
