# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clients of a gateway, hundreds in one thread, that tell a request which failed from a stream which was cut."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

EVENT = b"data:"
END_OF_STREAM = b"data: [DONE]"


@dataclass(frozen=True)
class Endpoint:
    """Where to ask: a listener, and a path in front of every path. ``tls`` None is plain HTTP."""

    host: str
    port: int
    key: str = ""
    tls: ssl.SSLContext | None = None
    prefix: str = ""


@dataclass
class Answer:
    """What became of one request; times are seconds since it was sent.

    status: None when not even a status line came. error: how the answer broke off, empty when it is whole. events: what
    holds a token. merged: chunks that held more than one of them, so that a token waited for the next.
    """

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str = ""
    first_s: float = 0.0
    total_s: float = 0.0
    events: int = 0
    merged: int = 0
    stream: bool = False

    @property
    def ok(self) -> bool:
        """A whole answer of 200; a stream with its end marker and no error in it."""
        return self.status == 200 and not self.error and (not self.stream or self._is_whole_stream)

    @property
    def cut(self) -> bool:
        """A stream that began and did not end well: what no gateway can mend."""
        return self.stream and self.status == 200 and not self.ok

    @property
    def failed(self) -> bool:
        """Every other failure: one that a gateway can keep from the client."""
        return not self.ok and not self.cut

    @property
    def _is_whole_stream(self) -> bool:
        return self.body.rstrip().endswith(END_OF_STREAM) and b'"error"' not in self.body

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def __str__(self) -> str:
        return f"{self.status} {self.error or 'whole'} after {self.total_s:.2f} s: {self.body[:120]!r}"


class Client:
    """One client, which keeps its connection from request to request as OpenAI's clients do."""

    def __init__(self, endpoint: Endpoint, keep_alive: bool = True) -> None:
        self.endpoint = endpoint
        self.keep_alive = keep_alive
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> Answer:
        """Send one request and read its answer to the end; never raises for what the other side does."""
        answer = Answer(stream=bool(body and body.get("stream")))
        begun = time.monotonic()
        try:
            await asyncio.wait_for(self._exchange(answer, begun, self._request(method, path, body, headers)), timeout_s)
        except (TimeoutError, OSError, EOFError, ValueError) as error:
            answer.error = f"{type(error).__name__}: {error}"
        answer.total_s = time.monotonic() - begun
        if answer.error or not self.keep_alive or answer.headers.get("connection") == "close":
            self.close()
        return answer

    def close(self) -> None:
        """Hang up at once, as a client that goes away does."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.transport.abort()

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None, headers: Mapping[str, str] | None
    ) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        lines = {"Host": self.endpoint.host, "Content-Length": str(len(content)), "Content-Type": "application/json"}
        if self.endpoint.key:
            lines["Authorization"] = f"Bearer {self.endpoint.key}"
        lines.update(headers or {})
        head = [f"{method} {self.endpoint.prefix}{path} HTTP/1.1", *(f"{name}: {text}" for name, text in lines.items())]
        return "\r\n".join([*head, "", ""]).encode() + content

    async def _exchange(self, answer: Answer, begun: float, request: bytes) -> None:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(
                self.endpoint.host, self.endpoint.port, ssl=self.endpoint.tls, limit=2**20
            )
        self._writer.write(request)
        await self._writer.drain()
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        answer.status = int(head[0].split()[1])
        answer.headers = {name.lower(): text.strip() for name, _, text in (line.partition(":") for line in head[1:-2])}
        async for part in self._parts(answer.headers):
            answer.first_s = answer.first_s or time.monotonic() - begun
            answer.body += part
            events = part.count(EVENT) - part.count(END_OF_STREAM)
            answer.events += events
            answer.merged += events > 1

    async def _parts(self, headers: Mapping[str, str]) -> AsyncIterator[bytes]:
        """The body as it was sent: chunk by chunk, or whole."""
        if headers.get("transfer-encoding") != "chunked":
            yield await self._reader.readexactly(int(headers.get("content-length", "0")))
            return
        while True:
            size = int((await self._reader.readuntil(b"\r\n")), 16)
            part = (await self._reader.readexactly(size + 2))[:-2]
            if size == 0:
                return
            yield part


def ask(endpoint: Endpoint, method: str, path: str, *arguments: Any, **options: Any) -> Answer:
    """One request on a connection of its own."""

    async def once() -> Answer:
        client = Client(endpoint)
        try:
            return await client.ask(method, path, *arguments, **options)
        finally:
            client.close()

    return asyncio.run(once())


def completion(model: str, tokens: int = 4, stream: bool = False, prompt: str = "hi") -> dict[str, Any]:
    """The body of a request for a completion."""
    return {"model": model, "prompt": prompt, "max_tokens": tokens, "stream": stream}


@dataclass
class Load:
    """Clients that ask again as soon as they are answered, until they are told to end what they do and stop."""

    answers: list[Answer] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def ok(self) -> list[Answer]:
        """Those that are whole."""
        return [answer for answer in self.answers if answer.ok]

    @property
    def cut(self) -> list[Answer]:
        """Those that began and broke."""
        return [answer for answer in self.answers if answer.cut]

    @property
    def failed(self) -> list[Answer]:
        """All others."""
        return [answer for answer in self.answers if answer.failed]

    @property
    def merged(self) -> int:
        """Chunks that held more than one token."""
        return sum(answer.merged for answer in self.answers)

    def forget(self) -> None:
        """Begin the count anew."""
        self.answers.clear()

    async def run(self, client: Client, body: Mapping[str, Any], pause_s: float) -> None:
        """One client's loop."""
        while not self.stopped.is_set():
            self.answers.append(await client.ask("POST", "/v1/completions", body))
            await asyncio.sleep(pause_s)
        client.close()


@contextmanager
def load(
    endpoint: Endpoint,
    clients: int,
    body: Mapping[str, Any],
    pause_s: float = 0.0,
    keep_alive: bool = True,
) -> Iterator[Load]:
    """``clients`` in a closed loop beside what the caller does; at the end each finishes its last request."""
    running = Load()

    async def all_of_them() -> None:
        await asyncio.gather(*(running.run(Client(endpoint, keep_alive), body, pause_s) for _ in range(clients)))

    thread = threading.Thread(target=lambda: asyncio.run(all_of_them()), daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.stopped.set()
        thread.join(timeout=120)
        assert not thread.is_alive(), "the clients of a load did not end within 120 s"


def percentile(values: list[float], share: float) -> float:
    """The value below which ``share`` (0 to 1) of the values lie."""
    ranked = sorted(values)
    return ranked[min(int(len(ranked) * share), len(ranked) - 1)]
