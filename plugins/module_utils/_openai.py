# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client for one completion of an OpenAI-compatible endpoint, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

EVENT_PREFIX = b"data:"
END_OF_STREAM = b"[DONE]"


class CompletionError(Exception):
    """The endpoint gave no completion; the text says what it gave instead, ``status`` the HTTP status, if any."""

    def __init__(self, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Completion:
    """A streamed answer: its text, the events it came in, and seconds to the first of them and to the end."""

    text: str
    events: int
    first_token_s: float
    total_s: float


def stream_completion(
    base_url: str,
    body: dict[str, Any],
    key: str = "",
    ca_path: str | None = None,
    timeout_s: float = 60.0,
) -> Completion:
    """POST ``body`` to ``<base_url>/completions`` as a stream and read it to its end.

    ``base_url`` ends in ``/v1``. ``ca_path``: certificates to trust in place of the system's. ``timeout_s`` bounds each
    wait for data. Raises CompletionError for everything that is no complete stream of at least one token.
    """
    begun = time.monotonic()
    try:
        answer = _post(base_url, dict(body, stream=True), key, ca_path, timeout_s)
        if answer.status != 200:
            raise CompletionError("HTTP %d: %s" % (answer.status, _excerpt(answer.read())), answer.status)
        return _collect(_events(answer), begun)
    except (OSError, http.client.HTTPException) as error:
        raise CompletionError("%s: %s" % (type(error).__name__, error)) from error


def _post(
    base_url: str, body: dict[str, Any], key: str, ca_path: str | None, timeout_s: float
) -> http.client.HTTPResponse:
    url = urllib.parse.urlsplit(base_url)
    if url.scheme == "https":
        context = ssl.create_default_context(cafile=ca_path)
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            url.hostname or "", url.port, timeout=timeout_s, context=context
        )
    else:
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=timeout_s)
    headers = {"Content-Type": "application/json", "Connection": "close"}
    if key:
        headers["Authorization"] = "Bearer " + key
    connection.request("POST", url.path.rstrip("/") + "/completions", json.dumps(body), headers)
    return connection.getresponse()


def _events(answer: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """Each server-sent event as JSON, up to the end marker. A stream without its end marker was cut."""
    for line in answer:
        if not line.startswith(EVENT_PREFIX):
            continue
        payload = line[len(EVENT_PREFIX) :].strip()
        if payload == END_OF_STREAM:
            return
        event = json.loads(payload)
        if "error" in event:
            raise CompletionError("the engine reported within the stream: %s" % json.dumps(event["error"]))
        yield event
    raise CompletionError("the stream ended before its end marker")


def _collect(events: Iterator[dict[str, Any]], begun: float) -> Completion:
    texts: list[str] = []
    first = None
    for event in events:
        first = time.monotonic() if first is None else first
        texts.extend(choice.get("text", "") for choice in event.get("choices", []))
    if first is None:
        raise CompletionError("the stream held no token")
    return Completion("".join(texts), len(texts), first - begun, time.monotonic() - begun)


def _excerpt(content: bytes, length: int = 400) -> str:
    return content[:length].decode("utf-8", "replace").strip()
