#!/usr/bin/python3
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make NVIDIA's repositories in small, signed with a key of their own: make_repository FOLDER.

Packages have the names, versions and loose dependencies of the real ones and hardly anything in them. Newer branches
are there as bait: whoever takes the newest of anything shows it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from email.utils import formatdate
from pathlib import Path

WANTED, OLDER, BAIT = "580.178.04-1", "580.95.05-1", "610.57.04-1"
TOOLKIT, TOOLKIT_BAIT = "1.19.1-1", "1.20.0-1"
AT_LEAST = "(>= 580.65.06)"
"""What NVIDIA's packages ask of each other: any newer branch would do."""

UNIT = "[Unit]\nDescription={0}\n[Service]\nExecStart=/usr/bin/{0}\n[Install]\nWantedBy=multi-user.target\n"
FABRIC_MANAGER = "#!/bin/sh\necho 'Fabric Manager version is : {0}'\n"
NVIDIA_SMI = """#!/bin/sh
echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
exit 9
"""


def driver(version: str) -> dict[str, tuple[str, str, dict[str, str]]]:
    """The packages of one driver release: name -> version, dependencies, files."""
    upstream = version.split("-")[0]
    branch = upstream.split(".")[0]
    needs = ("libcuda1", "nvidia-modprobe", "nvidia-persistenced", "nvidia-kernel-open-dkms")
    depends = ", ".join(f"{name} {AT_LEAST}" for name in needs)
    return {
        "nvidia-driver-cuda": (version, depends, {"/usr/bin/nvidia-smi": NVIDIA_SMI}),
        "nvidia-kernel-open-dkms": (version, "", {f"/usr/src/nvidia-{upstream}/dkms.conf": "PACKAGE_NAME=nvidia\n"}),
        "libcuda1": (version, f"libnvidia-ml1 {AT_LEAST}", {}),
        "libnvidia-ml1": (version, "", {}),
        "nvidia-modprobe": (version, "", {}),
        "nvidia-persistenced": (
            version,
            "",
            {"/lib/systemd/system/nvidia-persistenced.service": UNIT.format("nvidia-persistenced")},
        ),
        "nvidia-fabricmanager": (
            version,
            "",
            {
                "/usr/bin/nv-fabricmanager": FABRIC_MANAGER.format(upstream),
                "/lib/systemd/system/nvidia-fabricmanager.service": UNIT.format("nv-fabricmanager"),
            },
        ),
        "libnvidia-nscq": (version, "", {}),
        f"nvidia-driver-pinning-{branch}": (f"{branch}-1", "", {}),
    }


def toolkit(version: str) -> dict[str, tuple[str, str, dict[str, str]]]:
    """The packages of one release of the container toolkit."""
    names = ("nvidia-container-toolkit-base", "libnvidia-container-tools", "libnvidia-container1")
    return {
        "nvidia-container-toolkit": (version, ", ".join(names), {}),
        **{name: (version, "", {}) for name in names},
    }


def build(folder: Path, name: str, version: str, depends: str, files: dict[str, str]) -> None:
    """Build one package into a folder."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        root.chmod(0o755)
        control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: tests <tests@localhost>\n"
        control += f"Depends: {depends}\n" if depends else ""
        files = {"/DEBIAN/control": control + "Description: a small stand-in\n", **files}
        for path, text in files.items():
            target = root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            target.chmod(0o755 if "/bin/" in path else 0o644)
        command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", root, folder]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def index(folder: Path, origin: str, home: Path) -> None:
    """Write Packages and the signed InRelease of a flat repository."""
    stanzas = []
    for package in sorted(folder.glob("*.deb")):
        content = package.read_bytes()
        control = subprocess.run(["dpkg-deb", "--field", package], check=True, capture_output=True, text=True).stdout
        digest = hashlib.sha256(content).hexdigest()
        stanzas.append(f"{control.strip()}\nFilename: ./{package.name}\nSize: {len(content)}\nSHA256: {digest}\n")
    packages = "\n".join(stanzas).encode()
    (folder / "Packages").write_bytes(packages)
    entry = f" {hashlib.sha256(packages).hexdigest()} {len(packages)} Packages\n"
    release = f"Origin: {origin}\nLabel: {origin}\nDate: {date()}\nSHA256:\n{entry}"
    (folder / "Release").write_text(release, encoding="ascii")
    gpg(home, "--yes", "--clearsign", "--output", str(folder / "InRelease"), str(folder / "Release"))


def date() -> str:
    """Now, as Release files write it."""
    return formatdate(usegmt=True)


def gpg(home: Path, *arguments: str) -> bytes:
    """Run gpg with a keyring of its own and return what it prints."""
    command = ["gpg", "--batch", "--quiet", "--homedir", str(home), "--passphrase", "", "--pinentry-mode", "loopback"]
    return subprocess.run([*command, *arguments], check=True, stdout=subprocess.PIPE).stdout


def main(base: Path) -> None:
    """Make both repositories below a folder, their keys beside them, and the key's fingerprint last of all."""
    cuda, container = base / "cuda/debian12/x86_64", base / "container/stable/deb/amd64"
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        gpg(home, "--quick-generate-key", "gpufleet tests", "ed25519", "sign", "never")
        key = gpg(home, "--armor", "--export")
        rows = gpg(home, "--with-colons", "--fingerprint").decode().splitlines()
        fingerprint = next(row.split(":")[9] for row in rows if row.startswith("fpr"))
        contents = {
            cuda: [driver(WANTED), driver(OLDER), driver(BAIT), {"nvlsm": ("2025.10.12-1", "", {})}],
            container: [toolkit(TOOLKIT), toolkit(TOOLKIT_BAIT)],
        }
        for folder, releases in contents.items():
            folder.mkdir(parents=True)
            for release in releases:
                for name, (version, depends, files) in release.items():
                    build(folder, name, version, depends, files)
            index(folder, "NVIDIA", home)
        subprocess.run(["gpgconf", "--homedir", scratch, "--kill", "gpg-agent"], check=False)
    (cuda / "3bf863cc.pub").write_bytes(key)
    (base / "container/gpgkey").write_bytes(key)
    (base / "fingerprint").write_text(fingerprint + "\n", encoding="ascii")


if __name__ == "__main__":
    os.umask(0o022)
    main(Path(sys.argv[1]))
