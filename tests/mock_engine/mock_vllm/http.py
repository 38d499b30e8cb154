# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""HTTP/1.1 on asyncio streams: just enough of it, so that one process serves hundreds of streams at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Callable


@dataclass(frozen=True)
class Request:
    """A request with its whole body; ``gone`` tells whether the client has hung up since."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    gone: Callable[[], bool]


@dataclass(frozen=True)
class Response:
    """An answer: a body, or parts that are sent as they come."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    parts: AsyncGenerator[bytes, None] | None = field(default=None)


def json_response(status: int, value: Any) -> Response:
    """Answer with a JSON document."""
    return Response(status, json.dumps(value).encode())


Handler = Callable[[Request], Awaitable[Response]]


class Front:
    """Answers the requests of all connections."""

    def __init__(self, handler: Handler, keep_alive_seconds: float) -> None:
        self._handler = handler
        self._keep_alive_seconds = keep_alive_seconds
        self._busy = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests on one connection until the client leaves it or lets it lie idle."""
        try:
            while True:
                request = await asyncio.wait_for(_read_request(reader), self._keep_alive_seconds)
                await self._answer(request, writer)
                if request.headers.get("connection", "").lower() == "close":
                    break
        except (asyncio.IncompleteReadError, asyncio.TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()

    async def finished(self) -> None:
        """Wait until no answer is being written."""
        while self._busy:
            await asyncio.sleep(0.01)

    async def _answer(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self._busy += 1
        try:
            await _write_response(writer, await self._handler(request))
        finally:
            self._busy -= 1


async def _read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ", 2)
    pairs = (line.partition(":") for line in head[1:] if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, target.partition("?")[0], headers, body, reader.at_eof)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        body += (await reader.readexactly(size + 2))[:size]
        if size == 0:
            return body


async def _write_response(writer: asyncio.StreamWriter, response: Response) -> None:
    reason = HTTPStatus(response.status).phrase
    length = "transfer-encoding: chunked" if response.parts else f"content-length: {len(response.body)}"
    lines = [
        f"HTTP/1.1 {response.status} {reason}",
        "server: mock-vllm",
        f"content-type: {response.content_type}",
        length,
    ]
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + response.body)
    await writer.drain()
    if response.parts is None:
        return
    try:
        async for part in response.parts:
            writer.write(b"%x\r\n%s\r\n" % (len(part), part))
            await writer.drain()
    finally:
        # a client that hangs up ends its request now, and not when the garbage is collected
        await response.parts.aclose()
    writer.write(b"0\r\n\r\n")
    await writer.drain()
