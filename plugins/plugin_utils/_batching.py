# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Continuous batching at steady state: what one replica does with requests that come for ever.

In each step the engine gives every running sequence one token, and what is left of its token budget to prompts. So a
request waits for its prompt to be taken, then decodes for ``output_tokens - 1`` steps, of which some are longer because
they carry somebody else's prompt. The two parts depend on each other: the more requests decode, the more prompts there
are, and the longer each step; the figures below are where both agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ._roofline import FITTED, MODERN, Constants, HostSide, Rates, Step, Work, step_seconds

ROUNDS, QUEUE_ROUNDS, RATE_ROUNDS = 12, 6, 24
"""Rounds of the fixed points and of the search for a rate. They halve their distance each time."""

CLOSE = 1e-3
"""Relative change below which a fixed point is reached."""


@dataclass(frozen=True, slots=True)
class Server:
    """One replica as its scheduler sees it.

    sequences: requests that run at once at most: what the KV cache holds of them, and no more than max_num_seqs.
    batch_tokens: max_num_batched_tokens.
    """

    work: Work
    rates: Rates
    sequences: float
    batch_tokens: float
    host: HostSide = MODERN
    constants: Constants = FITTED

    def seconds(
        self, decoding: float, context: float, prefill: float = 0.0, prompt: float = 0.0, prompts: float = 0.0
    ) -> float:
        """Seconds of a step with ``prefill`` tokens of prompts that are ``prompt`` tokens long, and finish ``prompts``.

        A pipeline divides the running sequences between its stages, not less than one each; a prompt stays whole.
        """
        batch = max(decoding / self.work.pipeline_parallel_size, min(decoding, 1.0))
        step = Step(batch, context, prefill, prompt / 2, prompts)
        return step_seconds(self.work, self.rates, self.host, step, self.constants)


@dataclass(frozen=True, slots=True)
class Request:
    """What every request asks for, in tokens."""

    prompt_tokens: float
    output_tokens: float

    @property
    def context(self) -> float:
        """Tokens behind a sequence while it decodes, on average."""
        return self.prompt_tokens + self.output_tokens / 2


@dataclass(frozen=True, slots=True)
class Pace:
    """What a replica does under one load.

    requests_per_second; running: requests that are prefilled or decoded at once. ttft, itl: seconds to a request's
    first token, its wait included, and between two tokens. decode: seconds of a step without prompts.
    """

    requests_per_second: float
    running: float
    ttft: float
    itl: float
    decode: float
    prefill_tokens_per_second: float


def at_concurrency(server: Server, request: Request, concurrency: float) -> Pace:
    """A closed loop: ``concurrency`` clients, each of which asks again as soon as it has its answer."""
    running = min(concurrency, server.sequences)
    prompt, further = request.prompt_tokens, max(request.output_tokens - 1, 0.0)
    # decoding sequences have the first claim on the budget of tokens
    budget = max(server.batch_tokens - running, server.batch_tokens / 2)
    shortest = prompt / math.ceil(prompt / budget)
    others = max(0.0, running - 1) / running
    decoding, stages = running, server.work.pipeline_parallel_size
    for _round in range(ROUNDS):
        # tokens of other prompts that come with each step, were all steps alike; each stage meets its own batches'
        due = decoding * others * prompt / further / stages if further else running * prompt
        chunk = min(budget, max(shortest, due))
        plain = server.seconds(decoding, request.context)
        mixed = server.seconds(decoding, request.context, chunk, prompt, chunk / prompt)
        itl = plain + min(1.0, due / chunk) * (mixed - plain)
        queue = _Queue(mixed * max(1.0, prompt / chunk), mixed * prompt / chunk / stages, plain / 2)
        rate = queue.rate(running, further * itl)
        settled = rate * further * itl
        if abs(settled - decoding) < CLOSE * running:
            break
        decoding = (decoding + settled) / 2
    alone = server.seconds(0, 0, shortest, prompt, shortest / prompt)
    return Pace(rate, running, max(concurrency / rate - further * itl, mixed), itl, plain, shortest / alone)


@dataclass(frozen=True, slots=True)
class _Queue:
    """Prompts that wait for prefill. All in seconds.

    latency: from the first token of a prompt taken to the last. service: between two prompts that are done. boundary:
    until the step that is under way has ended.
    """

    latency: float
    service: float
    boundary: float

    def rate(self, running: float, decode_seconds: float) -> float:
        """Requests a second of ``running`` ones that decode for a time and then queue with their next prompt.

        Mean value analysis of one queue with think time (Schweitzer's approximation); prompts of a load are about
        equal, so that whoever arrives meets half of the one in service.
        """
        others = max(0.0, running - 1) / running
        response = self.latency
        for _round in range(QUEUE_ROUNDS):
            rate = running / (decode_seconds + response)
            busy = min(1.0, rate * self.service)
            waiting = max(0.0, rate * response - busy) * others
            response = self.latency + self.service * (waiting + busy / 2 * others) + self.boundary
        return min(running / (decode_seconds + response), 1 / self.service)


def at_rate(server: Server, request: Request, requests_per_second: float) -> Pace:
    """An open loop: requests come at a rate, whoever else is served. At most what the replica can do; then they queue.

    By Little's law it is the closed loop whose concurrency gives that rate.
    """
    most = at_concurrency(server, request, server.sequences)
    if requests_per_second >= most.requests_per_second:
        return most
    low, high, pace = CLOSE, server.sequences, most
    for _round in range(RATE_ROUNDS):
        between = math.sqrt(low * high)
        pace = at_concurrency(server, request, between)
        if pace.requests_per_second < requests_per_second:
            low = between
        else:
            high = between
    return pace
