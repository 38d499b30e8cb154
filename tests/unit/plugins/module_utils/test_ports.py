# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket

from ansible_collections.gpufleet.serving.plugins.module_utils._ports import Tried, try_ports


def test_what_answers_what_refuses_and_what_stays_silent():
    with socket.create_server(("127.0.0.1", 0)) as open_port, socket.socket() as bound, socket.socket() as full:
        bound.bind(("127.0.0.1", 0))
        # a listener whose queue is full drops what comes next, as a firewall does
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        ports = [listener.getsockname()[1] for listener in (open_port, bound, full)]
        waiting = [socket.socket() for _ in range(3)]
        for client in waiting:
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", ports[2]))
        try:
            found = try_ports([("127.0.0.1", port) for port in ports], timeout_s=0.3)
        finally:
            for client in waiting:
                client.close()
    assert found == [
        Tried("127.0.0.1", ports[0], "answers", "127.0.0.1"),
        Tried("127.0.0.1", ports[1], "refuses", "127.0.0.1"),
        Tried("127.0.0.1", ports[2], "silent", "127.0.0.1"),
    ]


def test_an_address_that_is_none_is_silent_and_has_no_source():
    assert try_ports([("256.0.0.1", 80)], timeout_s=0.1) == [Tried("256.0.0.1", 80, "silent", None)]
