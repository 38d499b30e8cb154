# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tests' own hub on loopback, with a repository or more, for tests of what asks a hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.gpufleet.serving.tests.hub import hub_server

NAME = "org/tiny"


class HubOfTests:
    """A hub that runs: its url, and its rules and requests as files below root."""

    def __init__(self, root: Path, front: hub_server.Server) -> None:
        self.root, self.url, self._hub = root, front.url, front.hub

    def commit(self, name: str = NAME) -> str:
        return self._hub.commit(name)

    def rule(self, **rules: object) -> None:
        (self.root / "hub.json").write_text(json.dumps(rules))

    def requests(self) -> list[dict]:
        log = self.root / "requests.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@contextmanager
def running(root: Path) -> Iterator[HubOfTests]:
    """A hub over the repositories below root, for the time of a test."""
    front, cdn = hub_server.serve(root, "127.0.0.1")
    try:
        yield HubOfTests(root, front)
    finally:
        for server in (front, cdn):
            server.shutdown()
            server.server_close()
