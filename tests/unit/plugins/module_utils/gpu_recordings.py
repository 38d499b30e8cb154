# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts to test with: each folder of fixtures/gpu says in SOURCE.txt where it comes from, or that it is constructed.

A recording is played back by a small program in place of nvidia-smi and by a tree of files in place of /proc and /sys.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RECORDINGS = Path(__file__).parent / "fixtures" / "gpu"
OLDEST_PYTHON = "3.9"
"""The oldest Python that hosts may have."""


def _find_python(version: str) -> str | None:
    """Return a Python of a version, from PATH or pyenv; one that does not start (a pyenv shim without it) is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"versions/{version}.*/bin/python"))]
    for candidate in map(str, filter(None, candidates)):
        if subprocess.run([candidate, "-c", ""], capture_output=True, check=False).returncode == 0:
            return candidate
    return None


INTERPRETERS = [
    pytest.param(sys.executable, id="this-python"),
    pytest.param(
        _find_python(OLDEST_PYTHON),
        id=f"python-{OLDEST_PYTHON}",
        marks=pytest.mark.skipif(not _find_python(OLDEST_PYTHON), reason=f"no Python {OLDEST_PYTHON} here"),
    ),
]

PLAYER = """\
#!/bin/sh
recording='{recording}'
[ -e "$recording/hang" ] && exec sleep 600
case "$*" in
  --query-gpu=*" -i "*) file=query-$(echo "${{*##* }}" | tr : _).csv ;;
  --query-gpu=*) file=query.csv ;;
  -L) file=list.txt ;;
  "-q -x") file=query.xml ;;
  "topo -m") file=topo.txt ;;
  "nvlink -s") file=nvlink.txt ;;
  --version) file=version.txt ;;
esac
[ -e "$recording/hang_after_query" ] && [ "$file" != query.csv ] && exec sleep 600
[ -e "$recording/$file" ] || {{ echo "No devices were found"; exit 6; }}
cat "$recording/$file"
[ "$file" = query.csv ] && [ -e "$recording/exit_code" ] && exit "$(cat "$recording/exit_code")"
exit 0
"""


def read(case: str, name: str) -> str:
    """Return one file of a recording."""
    return (RECORDINGS / case / name).read_text(encoding="utf-8")


def install_nvidia_smi(case: str, directory: Path) -> Path | None:
    """Put a program that plays a recording into a directory; None where the recorded host had no nvidia-smi."""
    recording = RECORDINGS / case
    if not (recording / "query.csv").exists() and not (recording / "hang").exists():
        return None
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "nvidia-smi"
    program.write_text(PLAYER.format(recording=recording), encoding="utf-8")
    program.chmod(0o755)
    return program


def build_root(case: str, root: Path) -> Path:
    """Write the parts of /proc and /sys that a recording tells of below ``root``."""
    recording = RECORDINGS / case
    for line in read(case, "pci.txt").splitlines():
        if not line.startswith("#"):
            _add_pci_device(root, *line.split())
    if (recording / "nvidia_version").exists():
        _write(root / "proc/driver/nvidia/version", read(case, "nvidia_version"))
    if (recording / "nvswitches").exists():
        for address in read(case, "nvswitches").split():
            _write(root / "proc/driver/nvidia-nvswitch/devices" / address / "information", "BIOS Version: N/A\n")
    if (recording / "vpd").exists():
        for number, line in enumerate(read(case, "vpd").splitlines()):
            _write(root / f"sys/class/infiniband/mlx5_{number}/device/vpd", "\x82" + line)
    return root


def _add_pci_device(root: Path, address: str, kind: str, ids: str, board: str, numa_node: str, driver: str) -> None:
    device = root / "sys/bus/pci/devices" / address
    for name, value in zip(
        ("vendor", "device", "subsystem_vendor", "subsystem_device"), ids.split(":") + board.split(":"), strict=True
    ):
        _write(device / name, f"0x{value}\n")
    _write(device / "class", f"0x{kind}00\n")
    _write(device / "numa_node", f"{numa_node}\n")
    if driver != "-":
        (device / "driver").symlink_to(f"../../../bus/pci/drivers/{driver}")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
