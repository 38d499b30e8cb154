#!/usr/bin/env python3
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the engine's locks: every wheel of an environment, pinned and hashed, without a word on where it comes from.

    make_locks.py                              keep the versions that still fit
    make_locks.py --upgrade                    take the newest versions
    make_locks.py --check                      change nothing, fail when a lock is not what uv makes of locks.toml
    make_locks.py -- --find-links /my/wheels   the rest goes to uv: further sources, such as one that has torch+cpu

uv resolves for one Python on one platform at a time, wheels only. So a lock has no environment markers, which pip would
evaluate for the controller's Python instead of the host's, and the hashes of just those wheels that a host can take.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LOCKS = HERE.parents[1] / "roles" / "engine" / "files" / "locks"


@dataclass(frozen=True)
class Environment:
    """One lock to be made: ``name`` is ``<variant>-<version>``, ``python`` the minor version of the host's Python."""

    name: str
    python: str
    machine: str
    glibc: str
    requirements: list[str]
    replace: list[str] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """The lock."""
        return LOCKS / f"{self.name}-py{self.python}-{self.machine}.txt"

    @property
    def platform(self) -> str:
        """The hosts as uv names them."""
        return f"{self.machine}-{self.glibc}"


def environments(text: str) -> Iterator[Environment]:
    """The environments of locks.toml."""
    table = tomllib.loads(text)
    uv, glibc = table.pop("uv"), table.pop("glibc")
    for name, wish in table.items():
        for python, machine in itertools.product(wish["pythons"], wish["machines"]):
            yield Environment(
                name=name,
                python=python,
                machine=machine,
                glibc=glibc,
                requirements=[*wish["requirements"], uv],
                replace=wish.get("replace", []),
                drop=wish.get("drop", []),
            )


def compile_command(environment: Environment, folder: Path, sources: list[str]) -> list[str]:
    """The call of uv that resolves an environment from the files in ``folder``, into pylock.toml there."""
    return [
        *(
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            "--quiet",
            "--no-config",
            "--generate-hashes",
            "--format",
            "pylock.toml",
        ),
        *("--python-version", environment.python, "--python-platform", environment.platform),
        *("--only-binary", ":all:", "--override", str(folder / "overrides.txt")),
        *("--constraints", str(folder / "constraints.txt")),
        *("--output-file", str(folder / "pylock.toml"), *sources, str(folder / "wishes.in")),
    ]


def pins(lock: str) -> list[str]:
    """The ``name==version`` of every requirement of a lock."""
    return [line.split()[0] for line in lock.splitlines() if "==" in line and not line.startswith("#")]


def resolve(environment: Environment, sources: list[str], kept: list[str]) -> dict[str, Any]:
    """What uv finds for an environment, as its pylock.toml says it. ``kept`` are pins to hold on to."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dropped = [f'{package}; sys_platform == "never"' for package in environment.drop]
        (folder / "wishes.in").write_text("\n".join(environment.requirements))
        (folder / "overrides.txt").write_text("\n".join([*environment.replace, *dropped]))
        (folder / "constraints.txt").write_text("\n".join(kept))
        subprocess.run(compile_command(environment, folder, sources), check=True)
        return tomllib.loads((folder / "pylock.toml").read_text())


def render(environment: Environment, resolved: Mapping[str, Any]) -> str:
    """The lock in the form that pip and uv both read."""
    target = f"{environment.name} for Python {environment.python} on {environment.platform}"
    lines = [f"# {target}, by tests/engine/make_locks.py"]
    for package in resolved["packages"]:
        hashes = sorted(f"--hash=sha256:{wheel['hashes']['sha256']}" for wheel in package["wheels"])
        lines.append(" \\\n    ".join([f"{package['name']}=={package['version']}", *hashes]))
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Make or check every lock. Exit code 1: --check found one that differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upgrade", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("sources", nargs="*", help="options for uv, behind --")
    options = parser.parse_args(arguments)

    stale = []
    # what the first machine of an environment got decides for the others
    agreed: dict[tuple[str, str], list[str]] = {}
    for environment in environments((HERE / "locks.toml").read_text()):
        present = environment.path.read_text() if environment.path.exists() else ""
        wanted = (environment.name, environment.python)
        kept = agreed.get(wanted) or ([] if options.upgrade else pins(present))
        made = render(environment, resolve(environment, options.sources, kept))
        agreed.setdefault(wanted, pins(made))
        if made == present:
            continue
        stale.append(environment.path.name)
        if not options.check:
            environment.path.write_text(made)
    if stale:
        print(("Not what locks.toml gives: " if options.check else "Made: ") + ", ".join(stale))
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError:
        # uv has said why
        sys.exit(2)
