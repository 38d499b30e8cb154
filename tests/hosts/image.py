#!/usr/bin/env python3
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the test hosts' image once: this machine's own distribution, with systemd as its first process.

The root file system comes from debootstrap and the mirrors of this machine's own apt sources; no image registry is
involved. The image is named after a hash of its recipe, so it is built again exactly when the recipe changes. Prints
the image's name. Interrupted, it starts over, but the packages that debootstrap fetched are kept.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
CACHE = Path.home() / ".cache" / "gpufleet" / "test_hosts"
PODMAN = str(HERE / "bin" / "podman")
CUSTOMISE = HERE / "customise.sh"
AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "-n", "--"]

# What a freshly installed server has.
INSTALLED = (
    "systemd systemd-sysv dbus openssh-server sudo python3 python3-apt "
    "iproute2 iputils-ping procps kmod nftables ca-certificates curl"
).split()

# What the roles install, as files in apt's own cache: the roles still install it, but need not fetch it each time.
FETCHED = "nginx openssl libnuma1 g++ python3-dev python3-venv python3-cryptography".split()


@dataclass(frozen=True)
class Source:
    """One suite of an apt repository."""

    uri: str
    suite: str
    components: tuple[str, ...]

    def line(self) -> str:
        """The source in apt's one-line format."""
        return f"deb {self.uri} {self.suite} {' '.join(self.components)}"


def parse_deb822(text: str) -> list[Source]:
    """Read the sources of a ``.sources`` file; stanzas that are disabled or hold no binaries are left out."""
    sources = []
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if line and not line.startswith("#")]
        unfolded = re.sub(r"\n[ \t]+", " ", "\n".join(lines))
        fields = {
            key.strip().lower(): value.split()
            for key, separator, value in (line.partition(":") for line in unfolded.splitlines())
            if separator
        }
        if "deb" not in fields.get("types", []) or fields.get("enabled", ["yes"])[0].lower() in ("no", "false"):
            continue
        sources += [
            Source(uri.rstrip("/"), suite, tuple(fields.get("components", [])))
            for uri in fields.get("uris", [])
            for suite in fields.get("suites", [])
        ]
    return sources


def parse_one_line(text: str) -> list[Source]:
    """Read the sources of a ``.list`` file."""
    pattern = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)((?:\s+[^\s#]+)*)", re.MULTILINE)
    return [Source(uri.rstrip("/"), suite, tuple(rest.split())) for uri, suite, rest in pattern.findall(text)]


def read_sources(etc_apt: Path = Path("/etc/apt")) -> list[Source]:
    """Read every apt source of this machine."""
    parts = etc_apt / "sources.list.d"
    lists = [etc_apt / "sources.list", *sorted(parts.glob("*.list"))]
    found = [source for path in lists if path.is_file() for source in parse_one_line(path.read_text())]
    return found + [s for path in sorted(parts.glob("*.sources")) for s in parse_deb822(path.read_text())]


def choose_sources(sources: list[Source], distribution: str, codename: str) -> list[Source]:
    """Pick the distribution's own release, updates and security suites, in that order.

    Other people's repositories may name the same suite, so a source counts only when it has the component ``main``
    and its path names the distribution, as ``/debian`` and ``/debian-security`` do.

    Raises:
        SystemExit: no source of the release itself.
    """
    suites = (codename, f"{codename}-updates", f"{codename}-security")
    own = [
        source
        for source in sources
        if "main" in source.components
        and urlsplit(source.uri).scheme in ("http", "https")
        and urlsplit(source.uri).path.rsplit("/", 1)[-1].startswith(distribution)
    ]
    chosen = [next((s for s in own if s.suite == suite), None) for suite in suites]
    if chosen[0] is None:
        sys.exit(
            f"test hosts: no apt source of {distribution} {codename} under /etc/apt has a web mirror to build from."
        )
    return [source for source in chosen if source is not None]


def os_release() -> dict[str, str]:
    """Read /etc/os-release."""
    pairs = (line.partition("=") for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return {key: value.strip('"') for key, _, value in pairs}


def image_name(codename: str) -> str:
    """Name the image after its distribution release and the hash of all that goes into it."""
    recipe = "\0".join([codename, *INSTALLED, "fetched", *FETCHED, CUSTOMISE.read_text(), *IMPORT_CHANGES])
    return f"localhost/gpufleet-test-host:{codename}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


IMPORT_CHANGES = ('CMD ["/sbin/init"]', "STOPSIGNAL SIGRTMIN+3", "ENV container=podman")


def run(*command: str) -> None:
    """Run a command as root; its output goes to stderr, its failure is ours."""
    subprocess.run([*AS_ROOT, *command], check=True, stdout=sys.stderr)


def bootstrap(root: Path, codename: str, sources: list[Source]) -> None:
    """Make the root file system under ``root``."""
    archives = CACHE / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    run(
        "debootstrap",
        "--variant=minbase",
        f"--include={','.join(INSTALLED)}",
        f"--cache-dir={archives}",
        codename,
        str(root),
        sources[0].uri,
    )
    lines = "\n".join(source.line() for source in sources)
    run("chroot", str(root), "/bin/sh", "-euc", CUSTOMISE.read_text(), "customise", lines, " ".join(FETCHED))


def import_image(root: Path, name: str) -> None:
    """Hand the finished root file system to podman; the image appears whole or not at all."""
    changes = [argument for change in IMPORT_CHANGES for argument in ("--change", change)]
    with subprocess.Popen([*AS_ROOT, "tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as archive:
        subprocess.run(
            [PODMAN, "import", "-q", *changes, "-", name], check=True, stdin=archive.stdout, stdout=sys.stderr
        )
    if archive.returncode != 0:
        subprocess.run([PODMAN, "rmi", name], check=False, stdout=sys.stderr)
        sys.exit(f"test hosts: reading the new root file system failed with {archive.returncode}; run this again.")


def exists(name: str) -> bool:
    """Tell whether podman holds the image."""
    return subprocess.run([PODMAN, "image", "exists", name], check=False).returncode == 0


@contextlib.contextmanager
def only_one_builder() -> Iterator[None]:
    """Hold the lock that keeps two builds apart, and clear away what an interrupted build left."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "image.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left_over in CACHE.glob("root-*"):
            run("rm", "-rf", "--one-file-system", str(left_over))
        yield


def build(name: str, distribution: str, codename: str) -> None:
    """Build the image from nothing."""
    sources = choose_sources(read_sources(), distribution, codename)
    started = time.monotonic()
    print(f"test hosts: building {name} from {sources[0].uri}; takes about a minute", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="root-", dir=CACHE, ignore_cleanup_errors=True) as folder:
        root = Path(folder) / "root"
        bootstrap(root, codename, sources)
        import_image(root, name)
        run("rm", "-rf", "--one-file-system", str(root))
    print(f"test hosts: built in {time.monotonic() - started:.0f} s", file=sys.stderr)


def main() -> None:
    """Print the image's name, building it first where podman does not have it."""
    if shutil.which("debootstrap", path=os.environ["PATH"] + ":/usr/sbin") is None:
        sys.exit(f"test hosts: debootstrap is missing: run {HERE / 'prerequisites'}.")
    release = os_release()
    name = image_name(release["VERSION_CODENAME"])
    if not exists(name):
        with only_one_builder():
            if not exists(name):
                build(name, release["ID"], release["VERSION_CODENAME"])
    print(name)


if __name__ == "__main__":
    main()
