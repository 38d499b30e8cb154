# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import pathlib
import pwd
import tempfile

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._readable import UnreadableError, unreadable_by

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def directory():
    """A directory below one that everybody may enter (pytest's own are closed)."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield pathlib.Path(path)


def put(path, mode):
    path.write_text("x")
    path.chmod(mode)
    return str(path)


@as_root
def test_files_that_another_user_can_read(directory):
    paths = [put(directory / "config.json", 0o644), put(directory / "model.safetensors", 0o444)]
    assert unreadable_by("nobody", paths) == []


@as_root
def test_each_file_is_named_with_what_is_in_the_way(directory):
    closed = directory / "closed"
    closed.mkdir(mode=0o700)
    paths = [
        put(directory / "config.json", 0o644),
        put(directory / "model.safetensors", 0o600),
        put(closed / "tokenizer.json", 0o644),
        str(directory / "gone"),
    ]
    assert unreadable_by("nobody", paths) == [
        f"user nobody cannot read {paths[1]}: it is -rw------- of 0:0",
        f"user nobody cannot read {paths[2]}: directory {closed} (drwx------ of 0:0) may not be entered",
        f"user nobody cannot read {paths[3]}: No such file or directory",
    ]


@as_root
def test_the_process_stays_who_it_is(directory):
    unreadable_by("nobody", [put(directory / "a", 0o600)])
    assert os.geteuid() == 0
    assert (directory / "a").read_text() == "x"


def test_own_files_need_no_root(directory):
    assert unreadable_by(pwd.getpwuid(os.geteuid()).pw_name, [put(directory / "a", 0o600)]) == []


def test_user_that_does_not_exist():
    with pytest.raises(UnreadableError, match="^user no-such-user does not exist$"):
        unreadable_by("no-such-user", [])


def test_ordinary_user_cannot_ask_for_another(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(UnreadableError, match="^only root can check what user nobody may read$"):
        unreadable_by("nobody", [])
