# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a hub tells of a model's repository: its files with their sums, and parts of files. Standard library alone.

The hub's interface: https://huggingface.co/docs/hub/api (models, with `blobs`), and files at
/<repository>/resolve/<commit>/<path>.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import IO, Any

from ansible_collections.gpufleet.serving.plugins.module_utils._content import FileRecord

TIMEOUT_S = 30
TRIES = 4
"""Requests in all before a hub that limits its rate, or fails, is given up. One that does not answer is asked twice."""
LONGEST_WAIT_S = 120
"""What a hub may ask for with Retry-After; one that asks for more is given up at once."""
WAIT_S = 2
"""The wait after a failure when the hub names none; it doubles each time."""
TRANSIENT = (429, 500, 502, 503, 504)


class HubError(Exception):
    """A hub does not give what was asked for; the message says why and what to do."""


class HubUnreachable(HubError):
    """No hub answers."""


def refusal(repository: str, endpoint: str, status: int, code: str | None, has_token: bool) -> str:
    """Return what a hub's answer means for the operator. `code`: its header X-Error-Code."""
    place = f"{endpoint}/{repository}"
    if code == "GatedRepo" or status == 403:
        whose = (
            "the account of fleet_hub_token" if has_token else "an account, and give a token of it as fleet_hub_token"
        )
        return f"{place} is gated: accept its conditions there with {whose}, then run again"
    if code == "RevisionNotFound":
        return f"{place} has no such revision: give a commit of it as revision, 40 hexadecimal digits"
    if code == "EntryNotFound":
        return f"{place} has no such file in this revision: it was changed while it was read, run again"
    if code == "RepoNotFound" or status in (401, 404):
        other = (
            "fleet_hub_token may not see it, or is not valid any more: give one that may"
            if has_token
            else "it is private: give a token as fleet_hub_token"
        )
        return f"{place} does not exist (HTTP {status}), or {other}. Look for a misspelt source"
    if status == 429:
        return (
            f"{endpoint} limits the rate of requests (HTTP 429) and still did after several tries: run again later, it "
            "goes on where it was; a token in fleet_hub_token has a higher limit"
        )
    return f"{place} answers with HTTP {status}: run again later, it goes on where it was"


@dataclass(frozen=True)
class Repository:
    """A model's repository on a hub, at a revision: a commit, or a name that moves. endpoint: the hub's URL."""

    endpoint: str
    name: str
    revision: str
    token: str = ""

    def listing(self) -> tuple[str, list[FileRecord]]:
        """Return the commit that the revision is now, and every file of it with its size and the hub's sum of it.

        Raises HubError, and HubUnreachable where no hub answers.
        """
        revision = urllib.parse.quote(self.revision, safe="")
        answer = self._get(f"/api/models/{self.name}/revision/{revision}?blobs=true")
        try:
            plain = json.loads(answer)
            return str(plain["sha"]), [_record(entry) for entry in plain["siblings"]]
        except (ValueError, KeyError, TypeError):
            raise HubError(f"{self.endpoint} tells nothing of {self.name} that can be read: is it a hub?") from None

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return the bytes of a file from `start` to before `stop`, or to its end. Raises HubError."""
        wanted = None if stop is None and not start else f"bytes={start}-{'' if stop is None else stop - 1}"
        place = f"/{self.name}/resolve/{urllib.parse.quote(self.revision, safe='')}/{urllib.parse.quote(path)}"
        return self._get(place, wanted)

    def _get(self, place: str, byte_range: str | None = None) -> bytes:
        wait_s: float = WAIT_S
        for left in range(TRIES - 1, -1, -1):
            try:
                with _OPENER.open(self._request(place, byte_range), timeout=TIMEOUT_S) as answer:
                    return self._body(answer, byte_range)
            except urllib.error.HTTPError as error:
                asked_s = _seconds(error.headers.get("Retry-After"))
                if error.code not in TRANSIENT or not left or (asked_s or 0) > LONGEST_WAIT_S:
                    code = error.headers.get("X-Error-Code")
                    raise HubError(refusal(self.name, self.endpoint, error.code, code, bool(self.token))) from None
                time.sleep(wait_s if asked_s is None else asked_s)
            except (OSError, http.client.HTTPException) as error:
                if left < TRIES - 1:
                    raise HubUnreachable(
                        f"{self.endpoint} does not answer ({error}): look at the network, and at "
                        "model_store_hub_endpoint"
                    ) from None
                time.sleep(wait_s)
            wait_s *= 2
        raise AssertionError("the last try returns or raises")

    def _request(self, place: str, byte_range: str | None) -> urllib.request.Request:
        request = urllib.request.Request(self.endpoint + place, headers={"Accept-Encoding": "identity"})  # noqa: S310
        if byte_range:
            request.add_header("Range", byte_range)
        if self.token:
            # sent anew after a redirect only where that stays on the same host
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        return request

    def _body(self, answer: Any, byte_range: str | None) -> bytes:
        if byte_range and answer.status != 206:
            raise HubError(f"{self.endpoint} gives whole files only, where their heads were asked for: use another hub")
        return bytes(answer.read())


def _record(entry: dict) -> FileRecord:
    large = entry.get("lfs") or {}
    sha256 = large.get("sha256")
    return FileRecord(
        path=str(entry["rfilename"]),
        size=int(large.get("size", entry["size"])),
        sha256=sha256,
        git_sha1=None if sha256 else entry["blobId"],
    )


def _seconds(retry_after: str | None) -> float | None:
    """Return Retry-After in seconds; None where it is not given, or is a date."""
    return float(retry_after) if retry_after and retry_after.strip().isdigit() else None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects and keeps the token to the host that it was meant for."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request that follows."""
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        token = req.get_header("Authorization")
        if following and token and urllib.parse.urlsplit(newurl)[:2] == urllib.parse.urlsplit(req.full_url)[:2]:
            following.add_unredirected_header("Authorization", token)
        return following


_OPENER = urllib.request.build_opener(_Redirects)
