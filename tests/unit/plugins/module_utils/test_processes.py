# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._processes import Process, describe, listeners

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0 100 0 0 10 0
   1: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000   997        0 102 1 0 100 0 0 10 0
   2: 0100007F:1F40 0100007F:9999 01 00000000:00000000 00:00000000 00000000   997        0 103 1 0 100 0 0 10 0
"""
TCP6 = TCP.splitlines()[0] + "\n   0: 00000000000000000000000000000000:0016 0:0 0A 0:0 0:0 0 0 0 104 1 0 100 0 0\n"


@pytest.fixture
def root(tmp_path):
    for name, text in {"proc/net/tcp": TCP, "proc/net/tcp6": TCP6}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    add_process(tmp_path, 812, "sshd", "0::/system.slice/ssh.service\n", "101", "104")
    add_process(tmp_path, 4000, "vllm", "1:name=systemd:/system.slice/gpufleet-tiny-0.service\n", "102", "103")
    return tmp_path


def add_process(root, pid, name, cgroup, *inodes):
    folder = root / "proc" / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_text(name + "\n")
    (folder / "cgroup").write_text(cgroup)
    (folder / "status").write_text(f"Name:\t{name}\nUid:\t997\t997\t997\t997\n")
    for number, inode in enumerate(inodes):
        (folder / "fd" / str(number)).symlink_to(f"socket:[{inode}]")
    (folder / "fd" / "99").symlink_to("/dev/null")


def test_each_port_once_with_who_listens(root):
    found = {listener.port: listener.process for listener in listeners(root)}
    assert found == {
        22: Process(812, "sshd", "ssh.service", 997),
        8000: Process(4000, "vllm", "gpufleet-tiny-0.service", 997),
    }


def test_who_can_reach_a_port(root):
    assert {listener.port: listener.loopback for listener in listeners(root)} == {22: False, 8000: True}
    lines = {"0" * 24 + "01000000": "1F41", "0" * 16 + "FFFF00000100007F": "1F42", "0" * 32: "1F40"}
    rows = [
        f"   {number}: {address}:{port} 0:0 0A 0:0 0:0 0 0 0 {200 + number} 1"
        for number, (address, port) in enumerate(lines.items())
    ]
    (root / "proc/net/tcp6").write_text("\n".join(["header", *rows]))
    found = {listener.port: listener.loopback for listener in listeners(root)}
    assert found == {22: False, 8000: False, 8001: True, 8002: True}, "one socket that others reach is enough"


def test_a_hidden_holder(root):
    (root / "proc/812/fd/0").unlink()
    (root / "proc/812/fd/1").unlink()
    assert {listener.port: listener.process for listener in listeners(root)}[22] is None


def test_a_process_that_is_gone_or_has_no_unit(root):
    assert describe(root, 5) == Process(5, None, None, None)
    add_process(root, 6, "bash", "0::/\n")
    assert describe(root, 6).unit is None
    add_process(root, 7, "python3", "0::/user.slice/user-1000.slice/session-3.scope\n")
    assert describe(root, 7).unit == "session-3.scope"


def test_this_machine():
    with socket.create_server(("127.0.0.1", 0)) as server:
        mine = [item for item in listeners(Path("/")) if item.port == server.getsockname()[1]]
        assert [listener.process.pid for listener in mine] == [os.getpid()]
