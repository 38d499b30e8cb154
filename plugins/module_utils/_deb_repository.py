# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A folder of Debian packages that apt installs from, with everything that they depend on.

apt itself resolves and fetches, as if nothing were installed, so that the folder does not depend on the machine that it
was made on beyond its release; its signatures and hashes are checked as always. The folder is a flat repository
(https://wiki.debian.org/DebianRepository/Format): packages and an index, ``Packages``.
"""

from __future__ import annotations

import glob
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence

from ansible_collections.gpufleet.serving.plugins.module_utils._content import sha256_of, write_durably

INDEX = "Packages"
TIMEOUT_S = 3600


class PackageError(Exception):
    """Packages could not be fetched; the message says what apt said."""


def fetch(packages: Sequence[str], folder: str) -> None:
    """Bring packages and all that they depend on into a folder, and nothing else. Raises PackageError.

    Packages that are there whole are not fetched again; what an earlier run left over is removed.
    """
    os.makedirs(os.path.join(folder, "partial"), exist_ok=True)
    wanted = {os.path.basename(name) for name in _names(packages, folder)}
    for path in glob.glob(os.path.join(folder, "*.deb")):
        if os.path.basename(path) not in wanted:
            os.unlink(path)
    _apt(["--download-only", *packages], folder)
    absent = sorted(wanted - {os.path.basename(path) for path in glob.glob(os.path.join(folder, "*.deb"))})
    if absent:
        raise PackageError(f"apt was content, but {folder} lacks {', '.join(absent)}")


def index(folder: str) -> str:
    """Return the index of a folder's packages, sorted by their files."""
    return "\n".join(_stanza(path) for path in sorted(glob.glob(os.path.join(folder, "*.deb"))))


def pack(folder: str, listed: str, archive: str) -> None:
    """Pack packages and, last, the text of their index into one file: a host that has the index has all."""
    write_durably(os.path.join(folder, INDEX), listed)
    unfinished = archive + ".part"
    with tarfile.open(unfinished, "w", format=tarfile.PAX_FORMAT) as tar:
        for path in [*sorted(glob.glob(os.path.join(folder, "*.deb"))), os.path.join(folder, INDEX)]:
            tar.add(path, arcname=os.path.basename(path), filter=_plain)
    os.replace(unfinished, archive)


def _names(packages: Sequence[str], folder: str) -> list[str]:
    """The files that apt would fetch into an empty folder: of each line ``'URL' file size hash`` the second word."""
    with tempfile.TemporaryDirectory() as empty:
        os.mkdir(os.path.join(empty, "partial"))
        lines = _apt(["--print-uris", *packages], empty).splitlines()
    return [line.split()[1] for line in lines if line.startswith("'")]


def _apt(arguments: Sequence[str], folder: str) -> str:
    """What apt-get install prints, for a machine on which nothing is installed."""
    command = [
        *("apt-get", "install", "--yes", "--quiet=2", "--no-install-recommends"),
        *("-o", "Dir::State::status=/dev/null", "-o", f"Dir::Cache::archives={folder}"),
        *arguments,
    ]
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            command, capture_output=True, text=True, timeout=TIMEOUT_S, env=environment, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PackageError(f"apt-get cannot be run to its end: {error}") from None
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")] or done.stderr.splitlines()[-3:]
        raise PackageError(f"apt-get could not fetch {', '.join(arguments[1:])}: {' '.join(said)}")
    return done.stdout


def _stanza(path: str) -> str:
    fields = subprocess.run(  # pylint: disable=ansible-bad-function
        ["dpkg-deb", "--field", path], capture_output=True, text=True, check=True
    ).stdout
    return (
        f"{fields.rstrip()}\nFilename: ./{os.path.basename(path)}\nSize: {os.path.getsize(path)}\n"
        f"SHA256: {sha256_of(path)}\n"
    )


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = "root"
    entry.mode = 0o644
    return entry
