# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""``vllm serve``, ``vllm bench serve`` and ``vllm --version``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Coroutine
from typing import Any

from .api import Api
from .bench import bench
from .engine import Engine
from .http import Front
from .kv_cache import kv_cache
from .nodes import take_part
from .settings import Behaviour, Settings, SettingsError, check_model, read_behaviour, read_settings

VERSION = "0.32.0+cpu"
# The engine's own default: an idle connection is closed after this.
_KEEP_ALIVE_SECONDS = 5.0


def main(arguments: list[str]) -> int:
    """Run the command line; returns the exit status."""
    if arguments == ["--version"]:
        print(VERSION)
        return 0
    if arguments[:2] == ["bench", "serve"]:
        return bench(arguments[2:])
    if arguments[:1] != ["serve"]:
        usage = "vllm serve [model] [--config file.yaml] [--flag value ...] | vllm bench serve ... | vllm --version"
        print(f"usage: {usage}", file=sys.stderr)
        return 2
    try:
        settings, behaviour = read_settings(arguments[1:]), read_behaviour(os.environ)
        time.sleep(behaviour.start_seconds)
        if behaviour.fail_start:
            raise SettingsError(behaviour.fail_start)
        check_model(settings)
    except SettingsError as error:
        print(f"vllm: {error}", file=sys.stderr)
        return 1
    asyncio.run(_serve(settings, behaviour))
    return 0


async def _serve(settings: Settings, behaviour: Behaviour) -> None:
    """Serve until the engine ends. As with the real one, it then exits with 0, whatever it died of."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    cache = kv_cache(settings, behaviour, os.environ)
    for line in cache.lines(settings, behaviour):
        print(line, flush=True)
    engine = Engine(settings, behaviour, cache, ended.set)
    engine.start()
    loop.add_signal_handler(signal.SIGTERM, lambda: asyncio.ensure_future(engine.shut_down()))
    if settings.headless:
        await _before(ended, take_part(settings))
    elif await _before(ended, engine.gather()):
        await _answer(engine, settings, ended)
    engine.stop()


async def _before(ended: asyncio.Event, what: Coroutine[Any, Any, None]) -> bool:
    """Whether something is done before the engine ends; it is given up then."""
    tasks = [asyncio.ensure_future(what), asyncio.ensure_future(ended.wait())]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    return not ended.is_set()


async def _answer(engine: Engine, settings: Settings, ended: asyncio.Event) -> None:
    """Answer requests until the engine ends, and end when the last answer is out."""
    api = Api(engine, os.environ.get("VLLM_API_KEY", ""), VERSION)
    keep_alive = float(os.environ.get("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", _KEEP_ALIVE_SECONDS))
    front = Front(api.handle, keep_alive)
    server = await asyncio.start_server(front.connected, settings.host, settings.port, backlog=1024)
    print(f"mock engine serves {settings.served_model_name} on {settings.host}:{settings.port}", flush=True)
    print("INFO:     Application startup complete.", flush=True)
    await ended.wait()
    server.close()
    await front.finished()
