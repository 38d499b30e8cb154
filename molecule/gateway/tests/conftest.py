# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import ssl
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2] / "tests/bench")]

from gateway_host import ADDRESS, CERTIFICATES, ENGINE_PORTS, KEYS, Engine  # noqa: E402 - after the path to them
from gateway_load import Answer, Endpoint, ask  # noqa: E402


@pytest.fixture(scope="session")
def tls() -> ssl.SSLContext:
    """Trusts the gateway's own authority and nobody else."""
    return ssl.create_default_context(cafile=str(CERTIFICATES / "ca.crt"))


@pytest.fixture(scope="session")
def front(tls: ssl.SSLContext) -> Endpoint:
    """The front door with team-a's key."""
    return Endpoint(ADDRESS, 443, KEYS["team-a"], tls)


@pytest.fixture
def engines(host: Any) -> Iterator[list[Engine]]:
    """The four engines of the model tiny; whatever a test did to them is undone after it."""
    engines = [Engine(host, port) for port in ENGINE_PORTS]
    yield engines
    for engine in engines:
        engine.start()
        engine.fault("none")


@pytest.fixture
def complete(front: Endpoint) -> Callable[..., Answer]:
    """Ask the front door once."""

    def once(
        path: str = "/v1/completions", body: Mapping[str, Any] | None = None, endpoint: Endpoint = front, **options
    ) -> Answer:
        return ask(endpoint, "POST", path, body or {"model": "org/tiny", "prompt": "hi", "max_tokens": 3}, **options)

    return once
