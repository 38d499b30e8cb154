#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep models on a host whole."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_files
short_description: Keeps models on a host whole
version_added: 0.1.0
description:
  - Says which files of a model have not arrived yet, and puts a model into its place once all of them have.
  - Files arrive in a staging directory, the final path followed by C(.partial). They are verified there by sha256 and
    get a manifest (C(.gpufleet-manifest.json)); then the directory is renamed. So the final path holds a whole model or
    nothing.
  - Later runs believe the manifest by size and modification time, and read no weights again.
options:
  models:
    description: The models that should lie on the host.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the model, for people.
        type: str
        required: true
      path:
        description: Final directory of the model.
        type: path
        required: true
      source_kind:
        description: Where the model comes from. One that lies on the host already is none of this module's business.
        type: str
        choices: [controller, host, hub]
        default: controller
      source:
        description: Directory of the model on the controller, or its repository on the hub.
        type: str
      content_id:
        description: Identity of the content, as M(gpufleet.serving.model_info) returns it.
        type: str
  contents:
    description:
      - The files of each content id, as M(gpufleet.serving.model_info) returns them. Needed for models that are not
        complete.
    type: dict
    default: {}
  min_free_gib:
    description: GiB that shall stay free on the models' filesystem, counted in RV(space).
    type: float
    default: 0
  state:
    description:
      - V(verified) only looks, and hashes nothing.
      - V(present) verifies what has arrived and puts it into place. Fails where a file is missing or has another sum.
    type: str
    choices: [present, verified]
    default: present
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
- name: See what is missing
  gpufleet.serving.model_files:
    state: verified
    models:
      - name: llama
        path: /var/lib/gpufleet/models/llama/3f0b5e1c2d4a
        source: /srv/models/Llama-3.1-8B-Instruct
        content_id: "{{ llama.content_id }}"
    contents: "{{ {llama.content_id: llama.files} }}"
  register: store

- name: Put the model into its place once its files have arrived
  gpufleet.serving.model_files:
    models:
      - name: llama
        path: /var/lib/gpufleet/models/llama/3f0b5e1c2d4a
        source: /srv/models/Llama-3.1-8B-Instruct
        content_id: "{{ llama.content_id }}"
    contents: "{{ {llama.content_id: llama.files} }}"
"""

RETURN = r"""
incomplete:
  description: The models that are not in their places whole.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      type: str
      sample: llama
    path:
      description: Final directory.
      type: str
      sample: /var/lib/gpufleet/models/llama/3f0b5e1c2d4a
    source:
      description: Directory on the controller, or repository on the hub.
      type: str
      sample: /srv/models/Llama-3.1-8B-Instruct
    source_kind:
      description: V(controller) or V(hub).
      type: str
      sample: controller
    content_id:
      description: Identity of the content.
      type: str
      sample: sha256:3f0b5e1c...
    damaged:
      description: Files in place that are missing or have changed since they were verified, each with what happened.
      type: list
      elements: str
      sample: ["config.json: missing"]
    missing:
      description:
        - Paths, inside the model, of files that are neither in place nor staged. Empty while O(contents) lacks the
          model.
      type: list
      elements: str
      sample: [config.json]
transfers:
  description: Files to copy from the controller into the staging directories.
  returned: success
  type: list
  elements: dict
  contains:
    src:
      description: Path on the controller.
      type: str
      sample: /srv/models/Llama-3.1-8B-Instruct/config.json
    dest:
      description: Path on the host.
      type: str
      sample: /var/lib/gpufleet/models/llama/3f0b5e1c2d4a.partial/config.json
    size:
      description: Size in bytes.
      type: int
      sample: 855
downloads:
  description:
    - Files to fetch from the hub into the staging directories, by model, as M(gpufleet.serving.model_download) takes
      them.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the model.
      type: str
      sample: llama
    repository:
      description: The repository on the hub.
      type: str
      sample: meta-llama/Llama-3.1-8B-Instruct
    commit:
      description: Its commit.
      type: str
      sample: 0e9e39f249a16976918f6564b8830bc894c89659
    directory:
      description: The staging directory.
      type: str
      sample: /var/lib/gpufleet/models/llama/0e9e39f249a1.partial
    files:
      description: Path and size of each file.
      type: list
      elements: dict
      sample: [{path: config.json, size: 855}]
directories:
  description: Directories that the transfers need.
  returned: success
  type: list
  elements: str
  sample: [/var/lib/gpufleet/models/llama/3f0b5e1c2d4a.partial]
space:
  description: Room for the transfers, a filesystem each.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: A directory on the filesystem.
      type: str
      sample: /var/lib
    needed_bytes:
      description: What the transfers need, and what shall stay free.
      type: int
      sample: 21429231616
    available_bytes:
      description: What is free.
      type: int
      sample: 10737418240
hashed:
  description: How many files were hashed.
  returned: success
  type: int
  sample: 0
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils._content import ContentError, FileRecord
from ansible_collections.gpufleet.serving.plugins.module_utils._model_store import (
    CONTROLLER,
    HUB,
    ModelState,
    WantedModel,
    inspect,
    publish,
    space,
)

GIB = 2**30
BROUGHT = (CONTROLLER, HUB)


def wanted_models(models: list[dict], contents: dict) -> list[WantedModel]:
    """Return the models that are brought to the host. Raises ContentError for paths and files that cannot be such."""
    sent = [model for model in models if model["source_kind"] in BROUGHT]
    for model in sent:
        if not os.path.isabs(model["path"]):
            raise ContentError(f"model {model['name']}: its path {model['path']} must begin with /")
    files = {identity: _records(identity, entries) for identity, entries in contents.items()}
    return [
        WantedModel(
            name=model["name"],
            path=os.path.normpath(model["path"]),
            content_id=model["content_id"],
            source=model["source"],
            files=files.get(model["content_id"]),
            source_kind=model["source_kind"],
        )
        for model in sent
    ]


def _records(identity: str, entries: Any) -> tuple[FileRecord, ...]:
    try:
        records = tuple(
            FileRecord(str(entry["path"]), int(entry["size"]), entry["sha256"], entry.get("git_sha1"))
            for entry in entries
        )
    except (TypeError, KeyError, ValueError):
        raise ContentError(f"contents of {identity}: a list of path, size and sha256 is needed") from None
    for record in records:
        if os.path.isabs(record.path) or os.path.normpath(record.path) != record.path or record.path.startswith(".."):
            raise ContentError(f"contents of {identity}: {record.path} is no path inside a directory")
    return records


def report(states: list[ModelState], transit: str, margin_bytes: int) -> dict:
    """Return the module's result for models as they are."""
    return {
        "incomplete": [
            {
                "name": state.model.name,
                "path": state.model.path,
                "source": state.model.source,
                "source_kind": state.model.source_kind,
                "content_id": state.model.content_id,
                "damaged": [f"{damage.path}: {damage.reason}" for damage in state.damages],
                "missing": [file.path for file in state.missing],
            }
            for state in states
            if not state.complete
        ],
        "transfers": [transfer for state in states for transfer in state.transfers()],
        "downloads": [download for download in (state.download() for state in states) if download],
        "directories": [directory for state in states for directory in state.directories()],
        "space": space(states, transit, margin_bytes),
    }


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "path": {"type": "path", "required": True},
                    "source_kind": {"type": "str", "choices": [CONTROLLER, "host", HUB], "default": CONTROLLER},
                    "source": {"type": "str"},
                    "content_id": {"type": "str"},
                },
                "required_if": [("source_kind", kind, ("source", "content_id")) for kind in BROUGHT],
            },
            "contents": {"type": "dict", "default": {}},
            "min_free_gib": {"type": "float", "default": 0},
            "state": {"type": "str", "choices": ["present", "verified"], "default": "present"},
        },
        supports_check_mode=True,
    )
    options = module.params
    try:
        models = wanted_models(options["models"], options["contents"])
        states = [inspect(model) for model in models]
        arriving = [state.model for state in states if not state.complete and options["state"] == "present"]
        hashed = 0
        if arriving and not module.check_mode:
            hashed = sum(publish(model) for model in arriving)
            states = [inspect(model) for model in models]
        result = report(states, module.tmpdir, int(options["min_free_gib"] * GIB))
    except ContentError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    arrived = "".join(f"{model.path}\n" for model in arriving)
    module.exit_json(changed=bool(arriving), hashed=hashed, diff={"before": "", "after": arrived}, **result)


if __name__ == "__main__":
    main()
