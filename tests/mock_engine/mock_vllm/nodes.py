# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine over several hosts: every step of the first node needs all others."""

from __future__ import annotations

import asyncio
import contextlib

from .settings import Settings

_RETRY_SECONDS = 0.2


class NodeLost(Exception):
    """The connection to another node closed."""


class Nodes:
    """The other nodes as the first one sees them; none of an engine on one host."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._links: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._turn = asyncio.Lock()

    async def gather(self) -> None:
        """Return when all have come. The port stays open, as the real one does."""
        missing, all_here = self._settings.nnodes - 1, asyncio.Event()
        if not missing:
            return

        async def came(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if all_here.is_set():
                writer.close()
                return
            self._links.append((reader, writer))
            if len(self._links) == missing:
                all_here.set()

        await asyncio.start_server(came, self._settings.master_addr, self._settings.master_port)
        await all_here.wait()

    async def step(self) -> None:
        """Have every node do its part of a step; takes for ever where one is frozen or cut off.

        Raises:
            NodeLost: one has ended.
        """
        async with self._turn:
            try:
                for reader, writer in self._links:
                    writer.write(b".")
                    await reader.readexactly(1)
            except (OSError, asyncio.IncompleteReadError) as error:
                raise NodeLost from error


async def take_part(settings: Settings) -> None:
    """What a headless node does. When the first one is gone it stays as it is, and nobody is told."""
    reader, writer = await _reach(settings.master_addr, settings.master_port)
    while await reader.read(1):
        writer.write(b".")
        await writer.drain()
    await asyncio.Event().wait()


async def _reach(address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        with contextlib.suppress(OSError):
            return await asyncio.open_connection(address, port)
        await asyncio.sleep(_RETRY_SECONDS)
