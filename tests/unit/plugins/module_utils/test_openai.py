# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import contextlib
import http.server
import json
import threading

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._openai import CompletionError, stream_completion


def event(text):
    return b"data: " + json.dumps({"choices": [{"text": text}]}).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


@contextlib.contextmanager
def endpoint(status, content):
    """A server that gives one answer and remembers what it was asked."""
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, self.headers.get("Authorization"), body))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_arguments):
            """Keep the test's output clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        server.server_close()


def test_a_whole_stream_is_read_and_the_key_presented():
    with endpoint(200, event("Hel") + b": keep-alive\n\n" + event("lo") + DONE) as (url, seen):
        answer = stream_completion(url, {"model": "m", "prompt": "p"}, key="k")
    assert (answer.text, answer.events) == ("Hello", 2)
    assert 0 <= answer.first_token_s <= answer.total_s
    assert seen == [("/v1/completions", "Bearer k", {"model": "m", "prompt": "p", "stream": True})]


FAILURES = {
    "refused key": (401, b'{"error": "no"}', "HTTP 401"),
    "draining engine": (500, b"cannot schedule", "HTTP 500: cannot schedule"),
    "cut stream": (200, event("Hel"), "ended before its end marker"),
    "error inside the stream": (200, event("a") + b'data: {"error": {"message": "EngineCore"}}\n\n', "EngineCore"),
    "empty stream": (200, DONE, "no token"),
}


@pytest.mark.parametrize("status, content, words", FAILURES.values(), ids=FAILURES)
def test_what_is_no_complete_stream_is_an_error_that_says_why(status, content, words):
    with endpoint(status, content) as (url, _seen), pytest.raises(CompletionError, match=words):
        stream_completion(url, {"model": "m", "prompt": "p"})


def test_nobody_listening_is_an_error():
    with pytest.raises(CompletionError, match="ConnectionRefusedError"):
        stream_completion("http://127.0.0.1:1/v1", {"model": "m", "prompt": "p"}, timeout_s=2)
