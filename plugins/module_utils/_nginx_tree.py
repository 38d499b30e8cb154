# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A tree of nginx files beside a site's own: staged, tested with all the rest, switched in one rename, seen in force.

Under nginx's folder of settings, for a tree called ``gpufleet``::

    conf.d/gpufleet.conf     one include, which names the tree in force; renamed into place, so the switch is atomic
    gpufleet/<id>/           a tree, never changed once it lies there; its id is a hash of what is in it
    nginx.conf and the rest  the site's, read and never written

nginx reloads in the background and keeps what it runs when the new settings cannot be had, a port taken by another
program for one. So a reload counts only when nginx itself, asked at the tree's probe, answers with the new tree's id.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Protocol

from ansible_collections.gpufleet.serving.plugins.module_utils._systemd import Run

FOLDER_MARK = "@tree@"
"""What a file writes for the folder of the tree that it belongs to."""

PROBE_FILE = "probe"
"""The file of a tree that holds the URL where nginx tells the folder of the tree in force."""

ID_DIGITS = 12
LOCK_SECONDS = 120.0
RELOAD_SECONDS = 15.0
PROBE_SECONDS = 2.0
PROBE_INTERVAL_SECONDS = 0.1
SETTLED_PROBES = 5
"""Answers in a row that show a reload to be over: nginx lets old workers accept for 100 ms after the new ones began."""

SITE_INCLUDE = re.compile(
    r"^(?P<indent>[ \t]*)include[ \t]+[\"']?(?:\S*/)?conf\.d/\*(?:\.conf)?[\"']?[ \t]*;", re.MULTILINE
)
TREE_INCLUDE = re.compile(r"^include (?P<folder>\S+)/\*\.conf;$", re.MULTILINE)
SERVER_LINE = re.compile(
    r"^(?P<head>[ \t]*server[ \t]+(?P<address>[^\s;{]+)[^;{\n]*?)(?P<down>[ \t]+down)?;", re.MULTILINE
)


class TreeError(Exception):
    """The tree was not put in force; the text says what was seen and what to do."""


@dataclass(frozen=True)
class TreeFile:
    """A file of a tree. A secret one is readable by root alone and never shown."""

    name: str
    content: str
    secret: bool = False

    @property
    def mode(self) -> int:
        """Its permissions."""
        return 0o600 if self.secret else 0o644


@dataclass(frozen=True)
class Tree:
    """Files by name, in which FOLDER_MARK stands for the folder they lie in."""

    files: tuple[TreeFile, ...]

    @classmethod
    def of(cls, files: Iterable[TreeFile]) -> Tree:
        """The tree of these files, whatever their order."""
        return cls(tuple(sorted(files, key=lambda file: file.name)))

    @property
    def id(self) -> str:
        """The first 12 hex digits of a SHA-256 over names, contents and secrecy."""
        told = [[file.name, file.content, file.secret] for file in self.files]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:ID_DIGITS]

    @property
    def probe(self) -> str:
        """The URL where a running nginx tells the folder of the tree that it has."""
        return next(file.content.strip() for file in self.files if file.name == PROBE_FILE)

    def marked(self, servers: Iterable[str], down: bool) -> Tree:
        """This tree with ``servers`` ("address:port") marked down, or no longer so, in every upstream."""
        wanted = frozenset(servers)
        return Tree(tuple(replace(file, content=mark_servers(file.content, wanted, down)) for file in self.files))

    def servers(self) -> list[str]:
        """Every upstream server, as "address:port", sorted."""
        return sorted({match.group("address") for file in self.files for match in SERVER_LINE.finditer(file.content)})


def mark_servers(text: str, servers: Iterable[str], down: bool) -> str:
    """``text`` with `` down`` at the end of each ``server`` line of an upstream in ``servers``, or without it."""

    def marked(line: re.Match[str]) -> str:
        if line.group("address") not in servers:
            return line.group(0)
        return line.group("head") + (" down" if down else "") + ";"

    return SERVER_LINE.sub(marked, text)


def staged_configuration(main: str, site_files: Iterable[Path], live: Path, staged: Path | None) -> str:
    """nginx's main file with its include of conf.d written out and the folder ``staged`` in the place of ``live``.

    ``staged`` None leaves ``live`` out. Line numbers stay, so that nginx's words about the rest lead to the right line.
    """
    named = {path: str(path) for path in site_files}
    named[live] = f"{staged}/*.conf" if staged else ""
    includes = " ".join(f"include {named[path]};" for path in sorted(named) if named[path])
    text, count = SITE_INCLUDE.subn(lambda match: match.group("indent") + includes, main, count=1)
    if not count:
        raise TreeError(
            f"nginx.conf does not include {live.parent}: nothing of ours would ever be read. Add the line "
            f"'include {live.parent}/*.conf;' to its http block."
        )
    return text


class Server(Protocol):
    """The nginx of a host."""

    def test(self, configuration: Path) -> str | None:
        """None when nginx accepts the file, else nginx's words."""

    def running(self) -> bool:
        """Whether nginx serves."""

    def reload(self) -> None:
        """Ask nginx to read its settings anew; raises TreeError when it could not be asked."""

    def told(self, probe: str) -> str | None:
        """The folder of the tree that nginx tells at ``probe``; None when nothing of that kind answers."""


class SystemNginx:
    """The distribution's nginx under systemd. ``binary``: its path; None where nginx is not installed (any more)."""

    def __init__(self, run: Run, binary: str | None) -> None:
        self._run = run
        self._binary = binary

    def test(self, configuration: Path) -> str | None:
        if self._binary is None:
            return None
        status, _out, words = self._run([self._binary, "-t", "-q", "-c", str(configuration)])
        return None if status == 0 else words.strip()

    def running(self) -> bool:
        return self._run(["systemctl", "is-active", "--quiet", "nginx.service"])[0] == 0

    def reload(self) -> None:
        status, _out, words = self._run(["systemctl", "reload", "nginx.service"])
        if status != 0:
            raise TreeError(f"'systemctl reload nginx.service' failed: {words.strip()}")

    def told(self, probe: str) -> str | None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(probe, timeout=PROBE_SECONDS) as answer:
                return answer.read(4096).decode("utf-8", "replace").strip()
        except (OSError, ValueError):
            return None


class TreeKeeper:
    """Keeps the tree called ``name`` under ``root``, nginx's folder of settings."""

    def __init__(self, nginx: Server, root: Path = Path("/etc/nginx"), name: str = "gpufleet") -> None:
        self.nginx = nginx
        self.root = root
        self.trees = root / name
        self.live = root / "conf.d" / (name + ".conf")

    @contextmanager
    def locked(self, timeout_s: float = LOCK_SECONDS) -> Iterator[None]:
        """Hold the tree against other runs on this host: a drain and a converge may meet here."""
        descriptor = os.open(str(self.root), os.O_RDONLY | os.O_DIRECTORY)
        try:
            if not eventually(lambda: _try_lock(descriptor), timeout_s):
                raise TreeError(
                    f"another run has held {self.root} for {timeout_s:.0f} s. Wait for it to end, then run again."
                )
            yield
        finally:
            os.close(descriptor)

    def folder(self, tree: Tree) -> Path:
        """Where ``tree`` lies, or would."""
        return self.trees / tree.id

    def exists(self) -> bool:
        """Whether anything of ours lies there, an interrupted run's leavings included."""
        return self.live.exists() or self.trees.exists()

    def in_force(self) -> Tree | None:
        """The tree that the include names, as it lies there; None when there is none."""
        folder = self._folder_in_force()
        if folder is None or not folder.is_dir():
            return None
        return Tree.of(
            TreeFile(path.name, path.read_text().replace(str(folder), FOLDER_MARK), not path.stat().st_mode & 0o044)
            for path in folder.iterdir()
        )

    def put(self, tree: Tree) -> bool:
        """Put ``tree`` in force and return whether that changed anything, the running nginx included.

        A tree that nginx refuses never takes effect; one that it accepts and then does not run is taken back.
        """
        before = self.live.read_text() if self.live.exists() else None
        changed = self.in_force() != tree
        if changed:
            self._stage(tree)
            self._switch(self._include(tree))
        try:
            reloaded = self._take_up(tree.probe, str(self.folder(tree)), force=changed)
        except TreeError as error:
            self._take_back(before)
            raise TreeError(f"{error} The configuration of before was put back.") from error
        finally:
            self._prune()
        return changed or reloaded

    def remove(self) -> bool:
        """Take everything of ours away and return whether there was anything."""
        if not self.exists():
            return False
        included = self.live.exists()
        if included:
            self._test(None, ())
            self.live.unlink()
        for probe in sorted({path.read_text().strip() for path in self.trees.glob("*/" + PROBE_FILE)}):
            self._take_up(probe, None, force=included)
        shutil.rmtree(self.trees, ignore_errors=True)
        return True

    def _stage(self, tree: Tree) -> None:
        """Write ``tree`` out and have nginx test it with all the rest; what it refuses is deleted again."""
        folder = self.folder(tree)
        for made in (self.trees, folder):
            made.mkdir(exist_ok=True)
            made.chmod(0o755)
        for file in tree.files:
            write_file(folder / file.name, file.content.replace(FOLDER_MARK, str(folder)), file.mode)
        for path in folder.iterdir():
            if path.name not in {file.name for file in tree.files}:
                path.unlink()
        try:
            self._test(folder, tree.files)
        except TreeError:
            if folder != self._folder_in_force():
                shutil.rmtree(folder)
            raise

    def _test(self, staged: Path | None, files: Iterable[TreeFile]) -> None:
        main = (self.root / "nginx.conf").read_text()
        text = staged_configuration(main, self.live.parent.glob("*.conf"), self.live, staged)
        # beside nginx.conf, so that the site's relative includes lead where they always do
        with tempfile.NamedTemporaryFile("w", dir=str(self.root), prefix="gpufleet-staged-") as configuration:
            configuration.write(text)
            configuration.flush()
            words = self.nginx.test(Path(configuration.name))
        if words is not None:
            words = without_secrets(words, files).replace(configuration.name, str(self.root / "nginx.conf"))
            raise TreeError("nginx refuses the configuration, and nothing of it was put in force. nginx says: " + words)

    def _switch(self, include: str) -> None:
        self.live.parent.mkdir(exist_ok=True)
        write_file(self.live, include, 0o644)

    def _take_back(self, before: str | None) -> None:
        if before is None:
            self.live.unlink()
        else:
            self._switch(before)
        with suppress(TreeError):
            self.nginx.reload()

    def _take_up(self, probe: str, wanted: str | None, force: bool = False) -> bool:
        """Have a running nginx take up what lies there, if it has not or under ``force``; return whether it was told.

        ``wanted``: the folder that it then tells at ``probe``; None when nothing of ours shall answer there any more.
        """
        if not self.nginx.running() or not (force or self.nginx.told(probe) != wanted):
            return False
        self.nginx.reload()
        if not eventually(lambda: self._settled(probe, wanted), RELOAD_SECONDS):
            raise TreeError(
                f"{RELOAD_SECONDS:.0f} s after a reload nginx still does not run the new configuration: {probe} should "
                f"tell {wanted} and tells {self.nginx.told(probe)}. The last lines of nginx's error log say why; the "
                "usual reason is a port that another program holds."
            )
        return True

    def _settled(self, probe: str, wanted: str | None) -> bool:
        for _probe in range(SETTLED_PROBES):
            if self.nginx.told(probe) != wanted:
                return False
            time.sleep(PROBE_INTERVAL_SECONDS)
        return True

    def _prune(self) -> None:
        for folder in self.trees.iterdir():
            if folder != self._folder_in_force():
                shutil.rmtree(folder)

    def _folder_in_force(self) -> Path | None:
        if not self.live.exists():
            return None
        match = TREE_INCLUDE.search(self.live.read_text())
        return Path(match.group("folder")) if match else None

    def _include(self, tree: Tree) -> str:
        return (
            "# Managed by gpufleet.serving: names the tree of files that is in force.\n"
            f"include {self.folder(tree)}/*.conf;\n"
        )


def differences(before: Tree | None, after: Tree | None) -> list[dict[str, str]]:
    """What changes from one tree to another, file by file, as Ansible's diff; of secret files only that they change."""
    old = {file.name: file for file in before.files} if before else {}
    new = {file.name: file for file in after.files} if after else {}
    return [
        {
            "before_header": name,
            "after_header": name,
            "before": _shown(old.get(name)),
            "after": _shown(new.get(name), "new "),
        }
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


def _shown(file: TreeFile | None, which: str = "") -> str:
    if file is None:
        return ""
    return f"({which}secret, not shown)\n" if file.secret else file.content


def without_secrets(words: str, files: Iterable[TreeFile]) -> str:
    """nginx's words without what it quotes from secret files."""
    secret = [f"/{file.name}:" for file in files if file.secret]
    return "\n".join(
        re.sub(r'"[^"]*"|\'[^\']*\'', '"(hidden)"', line) if any(name in line for name in secret) else line
        for line in words.splitlines()
    )


def write_file(path: Path, content: str, mode: int) -> None:
    """Write a file that is whole or not there at all, and never readable by more than ``mode`` grants."""
    descriptor, name = tempfile.mkstemp(dir=str(path.parent), prefix="." + path.name)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    os.rename(name, str(path))


def eventually(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether ``condition`` comes true within ``timeout_s`` seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(PROBE_INTERVAL_SECONDS)
    return True


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
