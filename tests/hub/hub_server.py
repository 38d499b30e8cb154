#!/usr/bin/env python3
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A hub of the tests' own; see README.md.

hub_server.py ROOT ADDRESS PORT CDN_PORT
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors",)
PIECE_BYTES = 65536


@cache
def sums(path: Path, mtime_ns: int) -> tuple[str, str]:
    """The sha256 of a file, and the id that git gives its content."""
    data = path.read_bytes()
    return hashlib.sha256(data).hexdigest(), hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324


class Hub:
    """Repositories below a folder, with what was asked of them and how often."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lock = threading.Lock()
        self.limited = 0
        self.cut: set[str] = set()
        self.known_rules = ""

    @property
    def rules(self) -> dict[str, Any]:
        """What hub.json says. Where that is new, counting begins anew."""
        path = self.root / "hub.json"
        text = path.read_text() if path.exists() else "{}"
        with self.lock:
            if text != self.known_rules:
                self.known_rules, self.limited = text, 0
                self.cut.clear()
        return json.loads(text)

    def files(self, name: str) -> dict[str, Path]:
        """The files of a repository by their path inside it; empty where there is none of that name."""
        folder = self.root / name
        return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}

    def commit(self, name: str) -> str:
        """Forty digits that say what a repository holds."""
        told = "".join(f"{path} {sums(file, file.stat().st_mtime_ns)}" for path, file in self.files(name).items())
        return hashlib.sha1(told.encode()).hexdigest()  # noqa: S324

    def siblings(self, name: str) -> list[dict[str, Any]]:
        """The files as the hub's interface lists them with ``blobs``."""
        listed = []
        for path, file in self.files(name).items():
            sha256, blob = sums(file, file.stat().st_mtime_ns)
            size = file.stat().st_size
            entry: dict[str, Any] = {"rfilename": path, "size": size, "blobId": blob}
            if path.endswith(LARGE):
                entry["lfs"] = {"sha256": sha256, "size": size, "pointerSize": 134}
            listed.append(entry)
        return listed

    def limits(self) -> bool:
        """Whether this request is one too many."""
        limit = self.rules.get("limit", 0)
        with self.lock:
            if self.limited < limit:
                self.limited += 1
                return True
        return False

    def note(self, **request: Any) -> None:
        """Write down what was asked."""
        with self.lock, (self.root / "requests.jsonl").open("a") as log:
            log.write(json.dumps(request) + "\n")

    def ends_at(self, path: str) -> int | None:
        """After how many bytes this answer breaks off: the first one with the file since the rule was written."""
        rule = self.rules.get("cut", {}).get(path)
        with self.lock:
            if rule is None or path in self.cut:
                return None
            self.cut.add(path)
            return int(rule)


class Answer(BaseHTTPRequestHandler):
    """One request. The server has ``hub``, and ``cdn``: the URL of the port for large files, or None on that port."""

    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: what was asked is in requests.jsonl."""

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self.do_GET()

    def do_GET(self) -> None:
        """Answer, and note what was asked."""
        hub: Hub = self.server.hub
        place = unquote(urlsplit(self.path).path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        hub.note(
            method=self.command,
            place=place,
            range=self.headers.get("Range"),
            token=bool(token),
            port=self.server.server_address[1],
        )
        if hub.limits():
            retry_after = hub.rules.get("retry_after")
            self._end(429, {} if retry_after is None else {"Retry-After": str(retry_after)})
        elif place.startswith("/api/models/"):
            self._list(*place.removeprefix("/api/models/").split("/revision/"), token)
        else:
            name, _resolve, rest = place[1:].partition("/resolve/")
            self._resolve(name, *rest.split("/", 1), token)

    def _list(self, name: str, revision: str, token: str) -> None:
        hub: Hub = self.server.hub
        if self._refused(name, revision, token, heads_only=True):
            return
        body = json.dumps({"id": name, "sha": hub.commit(name), "siblings": hub.siblings(name)}).encode()
        self._end(200, {"Content-Type": "application/json"}, body)

    def _resolve(self, name: str, revision: str, path: str, token: str) -> None:
        hub: Hub = self.server.hub
        if self.server.cdn and self._refused(name, revision, token):
            return
        file = hub.files(name).get(path)
        if file is None:
            self._end(404, {"X-Error-Code": "EntryNotFound"})
            return
        sha256, blob = sums(file, file.stat().st_mtime_ns)
        large = path.endswith(LARGE)
        about = {"X-Repo-Commit": hub.commit(name), "ETag": f'"{sha256 if large else blob}"'}
        if large and self.server.cdn:
            linked = {"X-Linked-Size": str(file.stat().st_size), "X-Linked-Etag": f'"{sha256}"'}
            self._end(302, {**about, **linked, "Location": self.server.cdn + self.path})
        else:
            self._send(path, file, about)

    def _refused(self, name: str, revision: str, token: str, heads_only: bool = False) -> bool:
        """Whether the repository may not be read, which is then what was answered."""
        hub: Hub = self.server.hub
        rules, granted = hub.rules, token == hub.rules.get("token", "")
        if token and not granted:
            self._end(401, {"X-Error-Code": "RepoNotFound"})
        elif not hub.files(name) or (name in rules.get("private", []) and not token):
            self._end(404 if token else 401, {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", hub.commit(name)):
            self._end(404, {"X-Error-Code": "RevisionNotFound"})
        elif name in rules.get("gated", []) and not heads_only:
            self._end(403 if token else 401, {"X-Error-Code": "GatedRepo"})
        else:
            return False
        return True

    def _send(self, path: str, file: Path, about: dict[str, str]) -> None:
        """The file, or the part of it that was asked for."""
        hub: Hub = self.server.hub
        data = file.read_bytes()
        if path in hub.rules.get("wrong", []):
            data = data[:-1] + bytes([data[-1] ^ 1])
        first, last = self._range(len(data))
        part = data[first : last + 1]
        partial = {"Content-Range": f"bytes {first}-{last}/{len(data)}"} if self.headers.get("Range") else {}
        self._end(206 if partial else 200, {**about, **partial, "Accept-Ranges": "bytes"}, part, hub.ends_at(path))

    def _range(self, size: int) -> tuple[int, int]:
        asked = self.headers.get("Range", "bytes=0-").removeprefix("bytes=")
        first, _dash, last = asked.partition("-")
        return int(first), min(int(last), size - 1) if last else size - 1

    def _end(self, status: int, headers: dict[str, str], body: bytes = b"", ends_at: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        rate = self.server.hub.rules.get("bytes_per_second", 0)
        for start in range(0, len(body[:ends_at]), PIECE_BYTES):
            self.wfile.write(body[:ends_at][start : start + PIECE_BYTES])
            if rate:
                time.sleep(PIECE_BYTES / rate)
        if ends_at is not None and ends_at < len(body):
            self.close_connection = True


class Server(ThreadingHTTPServer):
    """One port of the hub. ``cdn``: the URL of its other port, for large files."""

    daemon_threads = True

    def __init__(self, hub: Hub, address: str, port: int, cdn: str | None) -> None:
        super().__init__((address, port), Answer)
        self.hub, self.cdn = hub, cdn

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that goes away in the middle is what tests do."""

    @property
    def url(self) -> str:
        """Where this port is."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"


def serve(root: Path, address: str, port: int = 0, cdn_port: int = 0) -> tuple[Server, Server]:
    """The two ports, each served by threads of this process."""
    hub = Hub(root)
    cdn = Server(hub, address, cdn_port, None)
    front = Server(hub, address, port, cdn.url)
    for server in (cdn, front):
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return front, cdn


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    threading.Event().wait()
