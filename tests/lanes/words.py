#!/usr/bin/env python3
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse words that have no place in this repository: names of package registries' hosts, paths of one machine.

Where packages come from is each machine's own setting, so a host name of a registry here would be wrong somewhere else.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Written so that the patterns do not match themselves.
FORBIDDEN = {
    "host of a package registry": re.compile(
        r"(?:\b|[/@])(?:p[y]pi\.org|p[y]thonhosted\.org|(?:deb|ftp|security|snapshot|archive)\.(?:d[e]bian|u[b]untu)\.(?:org|com)"
        r"|n[p]mjs\.(?:org|com))"
    ),
    "path of one machine": re.compile(r"(?<![\w.}/-])/(?:w[o]rk/|o[p]t/wheels|o[p]t/pypi|r[o]ot/\.pyenv)"),
}


def findings(text: str) -> list[tuple[int, str, str]]:
    """Find forbidden words: line number, what kind of word, the line."""
    return [
        (number, kind, line.strip())
        for number, line in enumerate(text.splitlines(), 1)
        for kind, pattern in FORBIDDEN.items()
        if pattern.search(line)
    ]


def tracked_files() -> list[Path]:
    """Every file that git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return [path for path in (ROOT / name for name in listed.stdout.split("\0") if name) if path.is_file()]


def main() -> int:
    """Print every finding; returns the exit status."""
    found = 0
    for path in tracked_files():
        for number, kind, line in findings(path.read_text(encoding="utf-8", errors="replace")):
            found += 1
            print(f"{path.relative_to(ROOT)}:{number}: {kind}: {line[:100]}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
