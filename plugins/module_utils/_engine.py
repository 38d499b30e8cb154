# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running vLLM tells of itself without a key: its health and the requests that it holds."""

from __future__ import annotations

import http.client
import json
import re
import socket
from dataclasses import dataclass

from ._address import in_url

# vLLM's gauges, as scraped; num_requests_waiting_by_reason splits the second one up again and is no third
IN_FLIGHT_GAUGE = re.compile(r"^vllm:num_requests_(?:running|waiting)(?:\{.*\})?\s+(\S+)", re.MULTILINE)


class EngineSilent(Exception):
    """The engine's port gave no HTTP answer; the text says how."""


class EngineBusy(EngineSilent):
    """Nothing was refused and nothing answered in time: busy or hung, which cannot be told apart from outside."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read to its end."""

    status: int
    text: str


@dataclass(frozen=True)
class Engine:
    """A vLLM server at an address and port. ``timeout_s`` bounds each wait for its answer."""

    address: str
    port: int
    timeout_s: float = 5.0

    @property
    def server(self) -> str:
        """Address and port in one word."""
        return f"{in_url(self.address)}:{self.port}"

    @property
    def url(self) -> str:
        """The server's root, without a slash at its end."""
        return f"http://{self.server}"

    def health(self) -> str:
        """One word on the server: ``ok``, ``busy``, ``refused`` (nothing listens) or ``failing`` (not HTTP 200).

        vLLM listens once it is ready to serve, keeps answering 200 while it drains, and 503 once its engine is dead.
        """
        try:
            return "ok" if self._get("/health").status == 200 else "failing"
        except EngineBusy:
            return "busy"
        except EngineSilent:
            return "refused"

    def requests_in_flight(self) -> int:
        """Requests that the engine runs or has queued. Raises EngineSilent, or ValueError without such a gauge."""
        return requests_in_flight(self.metrics())

    def version(self) -> str:
        """vLLM's version, such as 0.33.0. Raises EngineSilent."""
        answer = self._get("/version")
        try:
            return str(json.loads(answer.text)["version"])
        except (ValueError, KeyError, TypeError) as error:
            raise EngineSilent(f"{self.url}/version: HTTP {answer.status} and no version") from error

    def metrics(self) -> str:
        """All metrics as Prometheus' text. Raises EngineSilent."""
        answer = self._get("/metrics")
        if answer.status != 200:
            raise EngineSilent(f"{self.url}/metrics: HTTP {answer.status}")
        return answer.text

    def _get(self, path: str) -> Answer:
        connection = http.client.HTTPConnection(self.address, self.port, timeout=self.timeout_s)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode("utf-8", "replace"))
        except socket.timeout as error:
            raise EngineBusy(f"{self.url}{path}: no answer within {self.timeout_s:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise EngineSilent(f"{self.url}{path}: {error or type(error).__name__}") from error
        finally:
            connection.close()


def requests_in_flight(metrics: str) -> int:
    """The sum of running and waiting requests over all engines of a Prometheus text. Raises ValueError without them."""
    values = IN_FLIGHT_GAUGE.findall(metrics)
    if not values:
        raise ValueError("no gauge vllm:num_requests_running or vllm:num_requests_waiting among the metrics")
    return round(sum(float(value) for value in values))
