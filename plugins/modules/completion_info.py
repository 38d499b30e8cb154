#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask an OpenAI-compatible endpoint for one streamed completion."""

from __future__ import annotations

DOCUMENTATION = r"""
module: completion_info
short_description: Ask an OpenAI-compatible endpoint for one streamed completion
version_added: "0.1.0"
description:
  - Sends one short prompt as a stream and reads it to its end. The proof that an endpoint serves; a health path is not.
options:
  url:
    description: The endpoint up to and including its version, such as V(https://llm.example.org/v1).
    type: str
    required: true
  key:
    description: The key to present as a bearer token. None is sent when empty.
    type: str
    default: ""
  ca_path:
    description: File of the certificate authorities to trust in place of the system's.
    type: path
  model:
    description: The model to ask for, by its served name.
    type: str
    required: true
  prompt:
    description: The text to complete.
    type: str
    default: "Tensor parallelism splits"
  max_tokens:
    description: The most tokens to ask for.
    type: int
    default: 16
  timeout:
    description: Seconds to wait for each piece of the answer.
    type: float
    default: 60
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Asks in check mode as well; a completion changes nothing.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Prove that the front door serves
  gpufleet.serving.completion_info:
    url: https://llm.example.org/v1
    key: "{{ gateway_keys[0].key }}"
    model: llama-70b
"""

RETURN = r"""
text:
  description: The text that came.
  type: str
  returned: success
events:
  description: How many events it came in.
  type: int
  returned: success
  sample: 16
first_token_s:
  description: Seconds from the request to the first event.
  type: float
  returned: success
  sample: 0.12
total_s:
  description: Seconds from the request to the end of the stream.
  type: float
  returned: success
  sample: 0.9
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.serving.plugins.module_utils._openai import CompletionError, stream_completion


def main() -> None:
    """Run as Ansible runs it."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "key": {"type": "str", "default": "", "no_log": True},
            "ca_path": {"type": "path"},
            "model": {"type": "str", "required": True},
            "prompt": {"type": "str", "default": "Tensor parallelism splits"},
            "max_tokens": {"type": "int", "default": 16, "no_log": False},
            "timeout": {"type": "float", "default": 60},
        },
        supports_check_mode=True,
    )
    asked = module.params
    body = {"model": asked["model"], "prompt": asked["prompt"], "max_tokens": asked["max_tokens"]}
    try:
        answer = stream_completion(asked["url"], body, asked["key"], asked["ca_path"], asked["timeout"])
    except CompletionError as error:
        module.fail_json(msg="%s did not complete a prompt for model %s: %s" % (asked["url"], asked["model"], error))
    module.exit_json(
        changed=False,
        text=answer.text,
        events=answer.events,
        first_token_s=round(answer.first_token_s, 3),
        total_s=round(answer.total_s, 3),
    )


if __name__ == "__main__":
    main()
