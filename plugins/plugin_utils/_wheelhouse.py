# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A wheelhouse: a folder with exactly the wheels that a lock names, fetched by pip for hosts of another Python.

pip fetches, not uv, because pip alone can fetch without installing and reads the operator's sources (mirrors, folders
of wheels) from its configuration. It saves nothing before the end of a call, so it is called for a few wheels at a
time: an interrupted fetch goes on where it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

COMPLETE = ".complete"
"""The file that says that a wheelhouse has every wheel of its lock."""

WHEELS_PER_CALL = 16
"""What an interruption may cost, against the second that each call of pip costs."""

OLDEST_GLIBC = (2, 5)
"""Of manylinux1 (PEP 513)."""

LEGACY_PLATFORMS = ("manylinux2014", "manylinux2010", "manylinux1", "linux")
"""Names of platforms from before PEP 600."""

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_REQUIREMENT = re.compile(
    rf"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)(?P<hashes>(?:(?:\s|\\\n)+{_HASH.pattern})+)\s*"
)


class FetchError(Exception):
    """Wheels could not be fetched; the text says which, why and what to do."""


@dataclass(frozen=True)
class Requirement:
    """One requirement of a lock. ``text`` is its lines, ``hashes`` the SHA-256 of the wheels that satisfy it."""

    name: str
    version: str
    hashes: frozenset[str]
    text: str

    @property
    def is_local(self) -> bool:
        """Whether the version has a local label, as 2.13.0+cpu: no public index takes such a build (PEP 440)."""
        return "+" in self.version

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


def parse_lock(text: str) -> list[Requirement]:
    """The requirements of a lock in the form ``name==version --hash=sha256:... ...``.

    Raises ValueError for a line that is anything else: an index, a URL, a marker, a version that is not pinned or a
    requirement without a hash.
    """
    requirements = []
    for lines in re.split(r"(?<!\\)\n", text):
        if not lines.strip() or lines.startswith("#"):
            continue
        match = _REQUIREMENT.fullmatch(lines)
        if match is None:
            raise ValueError(f"a lock has lines of the form name==version --hash=sha256:...; this is none: {lines!r}")
        hashes = frozenset(_HASH.findall(match["hashes"]))
        requirements.append(Requirement(match["name"], match["version"], hashes, f"{lines}\n"))
    return requirements


def platforms(machine: str, glibc: str) -> list[str]:
    """The platform tags that a Linux host takes, best first: pip derives none from another.

    >>> platforms("x86_64", "2.6")[:3]
    ['manylinux_2_6_x86_64', 'manylinux_2_5_x86_64', 'manylinux2014_x86_64']
    """
    major, minor = (int(part) for part in glibc.split("."))
    numbered = [f"manylinux_{major}_{older}" for older in range(minor, OLDEST_GLIBC[1] - 1, -1)]
    return [f"{platform}_{machine}" for platform in (*numbered, *LEGACY_PLATFORMS)]


@dataclass(frozen=True)
class Pip:
    """pip on the controller, fetching for hosts of a Python (``3.11``), machine (``x86_64``) and glibc (``2.34``)."""

    command: Sequence[str]
    python_version: str
    machine: str
    glibc: str
    options: Sequence[str] = ()
    timeout_s: float = 7200

    def arguments(self, requirements_file: Path, folder: Path, index: str = "") -> list[str]:
        """The call that fetches the wheels of a requirements file."""
        return [
            *self.command,
            *("download", "--quiet", "--disable-pip-version-check", "--no-input", "--progress-bar=off"),
            *("--no-deps", "--require-hashes", "--only-binary=:all:"),
            *("--implementation=cp", f"--python-version={self.python_version}"),
            *(f"--platform={platform}" for platform in platforms(self.machine, self.glibc)),
            *((f"--extra-index-url={index}",) if index else ()),
            *self.options,
            *("--dest", str(folder), "--requirement", str(requirements_file)),
        ]

    def download(self, requirements: Sequence[Requirement], folder: Path, index: str = "") -> None:
        """Fetch wheels into a folder. ``index`` is asked beside pip's own sources. Raises FetchError."""
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.writelines(requirement.text for requirement in requirements)
            file.flush()
            arguments = self.arguments(Path(file.name), folder, index)
            try:
                done = subprocess.run(arguments, capture_output=True, text=True, timeout=self.timeout_s, check=False)
            except OSError as error:
                raise FetchError(f"{self.command[0]} cannot be run: {error}. Name pip in engine_pip.") from error
            except subprocess.TimeoutExpired as error:
                raise FetchError(f"pip took more than {self.timeout_s:.0f} s. Run again: it goes on there.") from error
        if done.returncode != 0:
            raise FetchError(explain(requirements, done.stderr, list(self.command)))


def explain(requirements: Sequence[Requirement], stderr: str, command: Sequence[str]) -> str:
    """What pip's complaint means for the operator."""
    if "No module named pip" in stderr:
        return f"{command[0]} has no pip. Install pip beside Ansible, or name pip's command in engine_pip."
    errors = [line for line in stderr.splitlines() if line.startswith("ERROR:")] or stderr.splitlines()[-3:]
    said = f"pip could not fetch {_some(requirements)}: {' '.join(errors) or 'it gave no reason'}"
    local = [requirement for requirement in requirements if requirement.is_local]
    if local:
        return (
            f"{said}\nNo public index has {_some(local)}. Set engine_torch_cpu_index to an index that has it and that"
            " the controller reaches, or put its wheel into a folder that pip's find-links names."
        )
    return f"{said}\nLook at pip's sources (pip config list), then run again: it goes on where it was."


def fetch(
    lock: str, folder: Path, pip: Pip, local_index: str = "", report: Callable[[str], None] = lambda progress: None
) -> bool:
    """Bring a wheelhouse to its lock. Tells whether anything was missing.

    Wheels with a local version are looked for where pip already looks, and only if they are not there at
    ``local_index`` too: an index that cannot be reached harms nobody who has the wheel. Raises FetchError, and
    ValueError for a bad lock.
    """
    requirements = parse_lock(lock)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if (folder / COMPLETE).exists():
            return False
        folder.mkdir(exist_ok=True)
        missing = missing_from(folder, requirements)
        for batch in _batches(missing):
            try:
                pip.download(batch, folder)
            except FetchError:
                if not (local_index and batch[0].is_local):
                    raise
                pip.download(batch, folder, local_index)
            report(_progress(folder, len(requirements)))
        absent = missing_from(folder, requirements)
        if absent:
            raise FetchError(f"pip was content, but {folder} still lacks {_some(absent)}.")
        (folder / COMPLETE).touch()
        return True


def missing_from(folder: Path, requirements: Sequence[Requirement]) -> list[Requirement]:
    """The requirements that no wheel in a folder satisfies. A wheel that satisfies none, as half a one, is deleted."""
    wanted = frozenset().union(*(requirement.hashes for requirement in requirements))
    present = set()
    for wheel in folder.glob("*.whl"):
        digest = _sha256(wheel)
        if digest in wanted:
            present.add(digest)
        else:
            wheel.unlink()
    return [requirement for requirement in requirements if not requirement.hashes & present]


def pack(folder: Path) -> Path:
    """Pack a complete wheelhouse into one file beside it, once: hosts take one file much faster than hundreds."""
    archive = folder.with_name(f"{folder.name}.tar")
    with _alone(folder):
        if not archive.exists():
            unfinished = folder.with_name(f"{folder.name}.tar.part")
            with tarfile.open(unfinished, "w") as tar:
                for wheel in sorted(folder.glob("*.whl")):
                    tar.add(wheel, arcname=wheel.name)
            unfinished.replace(archive)
    return archive


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep two runs on this controller from working on the same wheelhouse."""
    with folder.with_name(f"{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _batches(requirements: Sequence[Requirement]) -> Iterator[Sequence[Requirement]]:
    """Local versions first and one by one: they are the ones that may be nowhere to be had."""
    yield from ([requirement] for requirement in requirements if requirement.is_local)
    public = [requirement for requirement in requirements if not requirement.is_local]
    for start in range(0, len(public), WHEELS_PER_CALL):
        yield public[start : start + WHEELS_PER_CALL]


def _progress(folder: Path, total: int) -> str:
    sizes = [wheel.stat().st_size for wheel in folder.glob("*.whl")]
    return f"{len(sizes)} of {total} wheels, {sum(sizes) / 1e6:.0f} MB"


def _some(requirements: Sequence[Requirement], shown: int = 3) -> str:
    more = len(requirements) - shown
    return ", ".join(map(str, requirements[:shown])) + (f" and {more} more" if more > 0 else "")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
