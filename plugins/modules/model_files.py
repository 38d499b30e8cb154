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
      path:
        description: Final directory of the model.
        type: path
        required: true
      content_id:
        description: Identity of the content, as M(gpufleet.serving.model_info) returns it.
        type: str
        required: true
      source:
        description: Directory of the model on the controller. Only named in RV(transfers).
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
      - path: /var/lib/gpufleet/models/llama/3f0b5e1c2d4a
        content_id: "{{ llama.content_id }}"
        source: /srv/models/Llama-3.1-8B-Instruct
    contents: "{{ {llama.content_id: llama.files} }}"
  register: store

- name: Put the model into its place once its files have arrived
  gpufleet.serving.model_files:
    models:
      - path: /var/lib/gpufleet/models/llama/3f0b5e1c2d4a
        content_id: "{{ llama.content_id }}"
    contents: "{{ {llama.content_id: llama.files} }}"
"""

RETURN = r"""
models:
  description: Every model with what is not as it should be.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: Final directory.
      type: str
      sample: /var/lib/gpufleet/models/llama/3f0b5e1c2d4a
    content_id:
      description: Identity of the content.
      type: str
      sample: sha256:3f0b5e1c...
    source:
      description: Directory on the controller.
      type: str
      sample: /srv/models/Llama-3.1-8B-Instruct
    complete:
      description: Whether the whole model is in its place.
      type: bool
      sample: false
    damaged:
      description: Files in place that are missing or have changed since they were verified, each with the reason.
      type: list
      elements: dict
      sample: [{path: config.json, reason: missing}]
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
from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils._content import ContentError, FileRecord
from ansible_collections.gpufleet.serving.plugins.module_utils._model_store import (
    ModelState,
    WantedModel,
    inspect,
    publish,
    space,
)

GIB = 2**30


def wanted_models(options: dict) -> list[WantedModel]:
    """Return the models of the options with their files. Raises ContentError for files that cannot be such."""
    contents = {identity: _records(identity, files) for identity, files in options["contents"].items()}
    return [
        WantedModel(
            os.path.normpath(model["path"]), model["content_id"], model["source"], contents.get(model["content_id"])
        )
        for model in options["models"]
    ]


def _records(identity: str, files: object) -> tuple[FileRecord, ...]:
    try:
        records = tuple(FileRecord(str(file["path"]), int(file["size"]), str(file["sha256"])) for file in files)
    except (TypeError, KeyError, ValueError):
        raise ContentError(f"contents of {identity}: a list of path, size and sha256 is needed") from None
    for record in records:
        if os.path.isabs(record.path) or os.path.normpath(record.path) != record.path or record.path.startswith(".."):
            raise ContentError(f"contents of {identity}: {record.path} is no path inside a directory")
    return records


def report(states: list[ModelState], transit: str, margin_bytes: int) -> dict:
    """Return the module's result for models as they are."""
    return {
        "models": [
            {
                "path": state.model.path,
                "content_id": state.model.content_id,
                "source": state.model.source,
                "complete": state.complete,
                "damaged": [asdict(damage) for damage in state.damages],
            }
            for state in states
        ],
        "transfers": [transfer for state in states for transfer in state.transfers()],
        "directories": [directory for state in states for directory in state.directories()],
        "space": space(states, transit, margin_bytes),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "models": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "path", "required": True},
                    "content_id": {"type": "str", "required": True},
                    "source": {"type": "str"},
                },
            },
            "contents": {"type": "dict", "default": {}},
            "min_free_gib": {"type": "float", "default": 0},
            "state": {"type": "str", "choices": ["present", "verified"], "default": "present"},
        },
        supports_check_mode=True,
    )
    try:
        models = wanted_models(module.params)
        before = [inspect(model) for model in models]
        arriving = (
            [state.model for state in before if not state.complete] if module.params["state"] == "present" else []
        )
        hashed = 0 if module.check_mode else sum(publish(model) for model in arriving)
        after = before if module.check_mode else [inspect(model) for model in models]
        margin_bytes = int(module.params["min_free_gib"] * GIB)
        result = report(after, module.tmpdir, margin_bytes)
    except ContentError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}")
    names = [model.path for model in arriving]
    module.exit_json(
        changed=bool(arriving), hashed=hashed, diff={"before": "", "after": "".join(f"{n}\n" for n in names)}, **result
    )


if __name__ == "__main__":
    main()
