# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role run on the scenario's host, and what the host then has of a driver."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.serving.plugins.plugin_utils._host_facts import host_stack

CHECKOUT = Path(__file__).resolve().parents[3]
NAME = "gpu-host-1"
REPOSITORY = "/srv/repository"
INVENTORIES = ("tests/hosts/inventory", "molecule/gpu_host/inventory")
HGX_H100 = {
    "state": "no_driver",
    "nvswitch": True,
    "gpus": [{"key": "H100-SXM-80GB", "compute_capability": "9.0"}] * 8,
    "host": {"os": {"id": "debian", "version_id": "12"}, "architecture": "x86_64", "kernel": "6.1.0-38-amd64"},
}
RECAP = re.compile(rf"^{NAME}\s.*\bchanged=(\d+)\b.*\bfailed=(\d+)\b", re.MULTILINE)


class Played:
    """What a run of the role said."""

    def __init__(self, output: str) -> None:
        self.words = " ".join(output.split())
        recap = RECAP.search(output)
        assert recap, output
        self.changed, self.failed = (int(number) for number in recap.groups())


class DriverHost:
    """The host of the scenario."""

    def __init__(self, host: Any, folder: Path) -> None:
        self.host = host
        self.folder = folder

    def options(self, **solving: Any) -> dict[str, Any]:
        """The options that converge.yml gives, with a stack solved for further wishes."""
        fingerprint = self.host.file(f"{REPOSITORY}/fingerprint").content_string.strip()
        wished = {"vllm": "0.33.0", "container_toolkit": True, **solving}
        return {
            "gpu_host_stack": host_stack(HGX_H100, **wished)["stack"],
            "gpu_host_driver_repository": f"file://{REPOSITORY}/cuda",
            "gpu_host_driver_key_fingerprints": [fingerprint],
            "gpu_host_container_repository": f"file://{REPOSITORY}/container",
            "gpu_host_container_key_fingerprints": [fingerprint],
            "gpu_host_share_id": "0123456789abcdef",
        }

    def play(self, entry: str = "main", check: bool = False, **options: Any) -> Played:
        """Run the role with converge.yml's options, changed."""
        role = {"name": "gpufleet.serving.gpu_host", "tasks_from": entry}
        tasks = [{"name": "Run the role", "ansible.builtin.include_role": role, "vars": {**self.options(), **options}}]
        playbook = self.folder / "play.yml"
        plays = [{"name": "Play", "hosts": "test_hosts", "gather_facts": False, "tasks": tasks}]
        playbook.write_text(json.dumps(plays), encoding="utf-8")
        inventories = [f"--inventory={CHECKOUT / path}" for path in INVENTORIES]
        command = ["ansible-playbook", *inventories, str(playbook), *(["--check"] if check else [])]
        environment = {**os.environ, "ANSIBLE_FORCE_COLOR": "false", "ANSIBLE_NOCOLOR": "true"}
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, env=environment)
        return Played(done.stdout + done.stderr)

    def versions(self) -> dict[str, str]:
        """The packages of NVIDIA's that are installed."""
        form = "${db:Status-Status} ${Package} ${Version}\\n"
        rows = self.host.check_output(f"dpkg-query --show --showformat='{form}' '*nvidia*' 'libcuda*'").splitlines()
        return {row.split()[1]: row.split()[2] for row in rows if row.startswith("installed ")}

    def held(self) -> set[str]:
        """The packages that apt holds."""
        return set(self.host.check_output("apt-mark showhold").split())
