# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Can a user read these files? Answered by becoming that user and opening them: nothing else sees access lists,
mount options and closed directories above."""

from __future__ import annotations

import json
import os
import pwd
import stat
from collections.abc import Callable, Iterable


class UnreadableError(Exception):
    """The question cannot be answered: no such user, or not allowed to become that user."""


def unreadable_by(user: str, paths: Iterable[str]) -> list[str]:
    """Return one sentence for each file that `user` cannot open, with what is in the way.

    Raises UnreadableError where the user does not exist, or where this process may not become that user.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise UnreadableError(f"user {user} does not exist") from None
    if os.geteuid() not in (0, entry.pw_uid):
        raise UnreadableError(f"only root can check what user {user} may read")
    return json.loads(_as_user(entry, lambda: json.dumps(_obstacles(user, list(paths)))))


def _as_user(entry: pwd.struct_passwd, question: Callable[[], str]) -> str:
    """Return the answer of `question`, called in a child process that has become the user."""
    source, sink = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.initgroups(entry.pw_name, entry.pw_gid)
                os.setgid(entry.pw_gid)
                os.setuid(entry.pw_uid)
            with os.fdopen(sink, "w", encoding="utf-8") as stream:
                stream.write(question())
            status = 0
        finally:
            os._exit(status)
    os.close(sink)
    with os.fdopen(source, encoding="utf-8") as stream:
        answer = stream.read()
    if os.waitpid(child, 0)[1] != 0:
        raise UnreadableError(f"the check as user {entry.pw_name} ended without an answer")
    return answer


def _obstacles(user: str, paths: list[str]) -> list[str]:
    reasons = {path: _refusal(path) for path in paths}
    return [f"user {user} cannot read {path}: {reason}" for path, reason in reasons.items() if reason]


def _refusal(path: str) -> str | None:
    """Open a file, and return what is in the way: a directory that may not be entered, or the file's mode."""
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        return _obstacle(path) or error.strerror
    return None


def _obstacle(path: str) -> str | None:
    parts = os.path.abspath(path).split("/")
    for depth in range(1, len(parts)):
        directory = "/".join(parts[:depth]) or "/"
        if not os.access(directory, os.X_OK):
            return f"directory {directory} ({_rights(directory)}) may not be entered"
    return f"it is {_rights(path)}" if os.path.exists(path) else None


def _rights(path: str) -> str:
    status = os.stat(path)
    return f"{stat.filemode(status.st_mode)} of {status.st_uid}:{status.st_gid}"
