# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine behind the HTTP front: worker processes, a queue, tokens, faults, drain."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Callable

from .kv_cache import KvCache
from .metrics import Metrics
from .nodes import NodeLost, Nodes
from .settings import Behaviour, Settings

_WORDS = "the fleet answers every call with calm and even voices while the moon crosses over".split()
_CHILD = "import sys; sys.stdin.read()"


class EngineDead(Exception):
    """A worker process died, or another node, and the engine with it."""


class Aborted(Exception):
    """The request was cut off by the engine's shutdown."""


@dataclass(frozen=True)
class Fault:
    """A fault that tests inject into generation: ``error`` answers ``status``, ``hang`` never answers."""

    kind: str = "none"
    status: int = 500
    # only requests whose prompt holds this text
    prompt: str = ""

    KINDS = ("none", "error", "hang")

    def hits(self, prompt: str) -> bool:
        """Tell whether the fault strikes this request."""
        return self.kind != "none" and self.prompt in prompt


class Engine:
    """One engine; ``on_end`` is called once when it is drained, aborted or dead."""

    def __init__(self, settings: Settings, behaviour: Behaviour, cache: KvCache, on_end: Callable[[], None]) -> None:
        self.settings = settings
        self.behaviour = behaviour
        self.metrics = Metrics(settings.served_model_name, cache)
        self.fault = Fault()
        self.dead = False
        self.draining = False
        self._aborting = False
        self._stopping = False
        self._on_end = on_end
        self._children: list[subprocess.Popen[bytes]] = []
        self._nodes = Nodes(settings)

    async def gather(self) -> None:
        """Wait for the other nodes, as long as it takes."""
        await self._nodes.gather()

    def start(self) -> None:
        """Start the worker processes, under the names that the real ones show, and watch them."""
        loop = asyncio.get_running_loop()
        first = self.settings.ranks * self.settings.node_rank
        names = [f"VLLM::Worker_{rank}" for rank in range(first, first + self.settings.ranks)]
        if not self.settings.headless:
            names.insert(0, "VLLM::EngineCore")
        for name in names:
            child = subprocess.Popen([name, "-IS", "-c", _CHILD], executable=sys.executable, stdin=subprocess.PIPE)
            self._children.append(child)
            threading.Thread(target=self._watch, args=(child, loop), daemon=True).start()

    def stop(self) -> None:
        """Let the worker processes end."""
        self._stopping = True
        for child in self._children:
            if child.stdin is not None:
                child.stdin.close()

    def _watch(self, child: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop) -> None:
        child.wait()
        if not loop.is_closed():
            loop.call_soon_threadsafe(self._child_ended)

    def _child_ended(self) -> None:
        if not self._stopping:
            self._die()

    def _die(self) -> None:
        if not self.dead:
            self.dead = True
            asyncio.get_running_loop().call_later(self.behaviour.death_seconds, self._on_end)

    async def shut_down(self) -> None:
        """Take nothing new, let what runs end within the shutdown timeout, and end."""
        self.draining = True
        deadline = time.monotonic() + self.settings.shutdown_timeout
        while self.metrics.running + self.metrics.waiting and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        self._aborting = True
        while self.metrics.running + self.metrics.waiting:
            await asyncio.sleep(0.01)
        self._on_end()

    async def generate(
        self, prompt: str, prompt_tokens: int, max_tokens: int, gone: Callable[[], bool]
    ) -> AsyncGenerator[str, None]:
        """Yield the request's tokens.

        Args:
            prompt: the text; the same prompt gives the same tokens on every engine.
            prompt_tokens: its length, for the metrics.
            max_tokens: how many to yield.
            gone: tells whether the client has hung up.

        Raises:
            EngineDead: a worker died before the last token.
            Aborted: the engine was told to stop and would not wait longer.
        """
        arrived = time.monotonic()
        reason = "abort"
        self.metrics.waiting += 1
        try:
            while self.metrics.running >= self.settings.max_num_seqs:
                await asyncio.sleep(0.005)
                self._check(gone)
        finally:
            self.metrics.waiting -= 1
        self.metrics.running += 1
        self.metrics.queue_time.observe(time.monotonic() - arrived)
        self.metrics.prompt_tokens += prompt_tokens
        try:
            last: float | None = None
            for token in _tokens(prompt, max_tokens):
                await self._step(prompt, gone)
                now = time.monotonic()
                if last is None:
                    self.metrics.time_to_first_token.observe(now - arrived)
                else:
                    self.metrics.inter_token_latency.observe(now - last)
                last = now
                self.metrics.generation_tokens += 1
                self.metrics.iteration_tokens.observe(self.metrics.running)
                yield token
            reason = "length"
            self.metrics.e2e_latency.observe(time.monotonic() - arrived)
        finally:
            self.metrics.running -= 1
            self.metrics.finished[reason] += 1

    async def _step(self, prompt: str, gone: Callable[[], bool]) -> None:
        """Take as long as one token takes; for ever while the engine hangs, or a node does not do its part."""
        await asyncio.sleep(self.behaviour.token_seconds)
        self._check(gone)
        try:
            await self._nodes.step()
        except NodeLost:
            self._die()
        self._check(gone)
        while self.fault.kind == "hang" and self.fault.hits(prompt):
            await asyncio.sleep(0.05)
            self._check(gone)

    def _check(self, gone: Callable[[], bool]) -> None:
        if self.dead:
            raise EngineDead
        if self._aborting:
            raise Aborted
        if gone():
            raise ConnectionResetError


def _tokens(prompt: str, count: int) -> list[str]:
    start = zlib.crc32(prompt.encode())
    return [" " + _WORDS[(start + index) % len(_WORDS)] for index in range(count)]
