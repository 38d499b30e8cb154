#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch files of a model from a hub."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_download
short_description: Fetches files of a model from a hub
version_added: 0.1.0
description:
  - Fetches files of one commit of a repository into a directory, with the hub's own client. Files that are there with
    their size are left alone.
  - A file arrives under its name followed by C(.incomplete) and is renamed when it is whole. What was cut off goes on
    where it was, also in a later run.
  - Waits as long as the hub asks for when that limits the rate of requests, a few times.
  - Where the disk becomes full, everything that was fetched is removed from the directory.
  - Sums are not looked at; M(gpufleet.serving.model_files) does that before the model comes into its place.
requirements:
  - huggingface_hub, version 1.33 or newer, which every environment of vLLM has. Run the module with that environment's
    Python, by C(ansible_python_interpreter).
options:
  repository:
    description: Name of the repository, C(organisation/name).
    type: str
    required: true
  commit:
    description: The commit, 40 hexadecimal digits.
    type: str
    required: true
  directory:
    description: Where the files go. Made if missing.
    type: path
    required: true
  files:
    description: The files to fetch.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Path inside the repository, and inside O(directory).
        type: str
        required: true
      size:
        description: Size in bytes.
        type: int
        required: true
  endpoint:
    description: URL of the hub.
    type: str
    default: https://huggingface.co
  token:
    description: Token for the hub. Stands in no argument list and no log.
    type: str
    default: ""
  parallel:
    description: How many files are fetched at once.
    type: int
    default: 4
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
- name: Fetch a model's configuration
  gpufleet.serving.model_download:
    repository: Qwen/Qwen3-8B
    commit: b968826d9c46dd6066d109eabc6255188de91218
    directory: /var/lib/gpufleet/models/qwen/b968826d9c46.partial
    files:
      - {path: config.json, size: 728}
    token: "{{ vault_hub_token }}"
  vars:
    ansible_python_interpreter: /opt/gpufleet/engine/cuda-0.33.0/bin/python
"""

RETURN = r"""
fetched:
  description: The files that were fetched, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [config.json]
"""

import errno
import os
import shutil
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.gpufleet.serving.plugins.module_utils._content import sync_file
from ansible_collections.gpufleet.serving.plugins.module_utils._hub import refusal

# Read when the client is imported: what it keeps of its own goes away with the run, and it neither draws nor reports.
os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_OFFLINE="0")

try:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.file_download import http_get

    IMPORT_ERROR = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

INCOMPLETE = ".incomplete"


@dataclass(frozen=True)
class Download:
    """Files of one commit of a repository, on their way into a directory."""

    endpoint: str
    repository: str
    commit: str
    directory: str
    token: str

    def path(self, name: str) -> str:
        """Return where a file of the repository goes."""
        return os.path.join(self.directory, name)

    def is_there(self, file: dict) -> bool:
        """Whether a file is there with its size."""
        path = self.path(file["path"])
        return os.path.isfile(path) and os.path.getsize(path) == file["size"]

    def fetch(self, file: dict) -> None:
        """Bring one file, from where an earlier run was cut off."""
        path = self.path(file["path"])
        incomplete = path + INCOMPLETE
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        url = hf_hub_url(self.repository, file["path"], revision=self.commit, endpoint=self.endpoint)
        metadata = get_hf_file_metadata(
            url, token=self.token or False, endpoint=self.endpoint, timeout=30, retry_on_errors=True
        )
        with open(incomplete, "ab") as stream:
            if stream.tell() > file["size"]:
                stream.truncate(0)
            http_get(
                metadata.location,
                stream,
                resume_size=stream.tell(),
                headers=self._headers(metadata.location),
                expected_size=file["size"],
            )
        os.chmod(incomplete, 0o644)
        sync_file(incomplete)
        os.replace(incomplete, path)

    def _headers(self, location: str) -> dict[str, str]:
        """The token goes to the hub itself and to nobody that it sends on to."""
        own = location == self.endpoint or location.startswith(self.endpoint + "/")
        return {"authorization": f"Bearer {self.token}"} if self.token and own else {}


def fetch_all(download: Download, files: list[dict], parallel: int) -> None:
    """Fetch files, some at once. Raises what the first that failed raised, when those under way have ended."""
    with ThreadPoolExecutor(parallel) as pool:
        jobs = [pool.submit(download.fetch, file) for file in files]
        try:
            for job in jobs:
                job.result()
        finally:
            for job in jobs:
                job.cancel()


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "repository": {"type": "str", "required": True},
            "commit": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "path": {"type": "str", "required": True},
                    "size": {"type": "int", "required": True},
                },
            },
            "endpoint": {"type": "str", "default": "https://huggingface.co"},
            "token": {"type": "str", "default": "", "no_log": True},
            "parallel": {"type": "int", "default": 4},
        },
        supports_check_mode=True,
    )
    options: dict[str, Any] = module.params
    download = Download(
        options["endpoint"].rstrip("/"),
        options["repository"],
        options["commit"],
        options["directory"],
        options["token"],
    )
    missing = [file for file in options["files"] if not download.is_there(file)]
    names = [file["path"] for file in missing]
    if missing and not module.check_mode:
        if IMPORT_ERROR:
            module.fail_json(
                msg=missing_required_lib("huggingface_hub", reason="to fetch from a hub; name a Python that has it"),
                exception=IMPORT_ERROR,
            )
        bring(module, download, missing, options["parallel"])
    module.exit_json(changed=bool(missing), fetched=names)


def bring(module: AnsibleModule, download: Download, missing: list[dict], parallel: int) -> None:
    """Fetch what is missing, or end the module with what stands in the way."""
    place = f"{download.endpoint}/{download.repository}"
    try:
        fetch_all(download, missing, parallel)
    except HfHubHTTPError as error:
        answer = error.response
        module.fail_json(
            msg=refusal(
                download.repository,
                download.endpoint,
                answer.status_code,
                answer.headers.get("X-Error-Code"),
                bool(download.token),
            )
        )
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            shutil.rmtree(download.directory, ignore_errors=True)
            module.fail_json(
                msg=f"the disk of {download.directory} became full while {place} was fetched: what had come was "
                "removed. Make room, or move model_store_root to a larger filesystem, then run again"
            )
        module.fail_json(msg=f"{place}: {error}: run again, it goes on where it was")
    except Exception as error:  # what a network can do has as many names as the client has layers
        module.fail_json(
            msg=f"{place}: {type(error).__name__}: {error}: run again, it goes on where it was",
            exception=traceback.format_exc(),
        )


if __name__ == "__main__":
    main()
