# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the capacity model says of one benchmark run.

The planner knows the steady state. A benchmark has an end: when its prompts are used up, the batch shrinks, and the
last requests go on alone. That tail is added here, since throughputs are printed over the whole duration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ansible_collections.gpufleet.serving.plugins.plugin_utils._batching import (
    Request,
    Server,
    at_concurrency,
    at_rate,
)
from ansible_collections.gpufleet.serving.plugins.plugin_utils._roofline import FITTED, Constants, HostSide
from ansible_collections.gpufleet.serving.tests.accuracy.throughput_rows import OPEN, SERIAL_V0, Case


@dataclass(frozen=True)
class Prediction:
    """Of one replica: output tokens a second over the whole run, and seconds between two tokens."""

    tokens_per_second: float
    tpot: float


@dataclass(frozen=True)
class Assumed:
    """The planner's constants, and the factor of the host side of engines before 0.8."""

    constants: Constants = FITTED
    old_host: float = SERIAL_V0.slowness


def predict(case: Case, assumed: Assumed | None = None) -> Prediction:
    """Predict a run with the planner's constants, or with others."""
    assumed = assumed or Assumed()
    host = HostSide(False, assumed.old_host) if case.server.host is SERIAL_V0 else case.server.host
    server = replace(case.server, host=host, constants=assumed.constants)
    if case.rate and case.prompts:
        # where they come faster than they are served, the batch fills to all of them at most, and empties again
        server = replace(server, sequences=max(1.0, min(server.sequences, case.prompts / 2)))
    request = Request(case.prompt_tokens, case.output_tokens)
    clients = case.concurrency or case.prompts or server.sequences
    if case.prompts and case.prompts <= min(clients, server.sequences) and case.load != OPEN:
        return _one_batch(server, request, case)
    pace = at_rate(server, request, case.rate) if case.rate else at_concurrency(server, request, clients)
    seconds = 1 / pace.requests_per_second
    if case.prompts:
        seconds += _tail(server, request, case, min(pace.running, case.prompts), 1 / seconds) / case.prompts
    return Prediction(case.output_tokens / seconds, pace.itl)


def _one_batch(server: Server, request: Request, case: Case) -> Prediction:
    """All prompts fit at once: they are prefilled step by step, and those that are done decode meanwhile."""
    prompts, further = case.prompts or 1.0, max(request.output_tokens - 1, 0.0)
    tokens = prompts * request.prompt_tokens
    steps = math.ceil(tokens / server.batch_tokens)
    # sequences that decode beside prompts, on average, and when the last prompt is done
    last = prompts * min(1.0, further / steps)
    beside = last / 2 * (steps - 1) / steps
    mixed = server.seconds(beside, request.context, tokens / steps, request.prompt_tokens, prompts / steps)
    plain = server.seconds(last, request.context)
    seconds = steps * mixed + further * plain
    if case.uneven:
        seconds += _tail(server, request, case, prompts, prompts / seconds)
    disturbed = sum(min(further, left) for left in range(steps)) / steps
    tpot = (disturbed * mixed + (further - disturbed) * plain) / further if further else mixed
    return Prediction(prompts * request.output_tokens / seconds, tpot)


def _tail(server: Server, request: Request, case: Case, left: float, steady: float) -> float:
    """Seconds by which the drain of the last ``left`` requests is longer than at the steady rate, in requests a second.

    Requests of equal length that started one after another end one after another, half of a batch on average. Lengths
    of conversations are spread about exponentially, and the longest of n such is ln(n) times the average.
    """
    if not case.uneven:
        seconds = (request.output_tokens - 1) * server.seconds(max(1.0, left / 2), request.context)
        return max(0.0, seconds - left / 2 / steady)
    seconds, batch = 0.0, left
    while batch >= 1:
        steps = request.output_tokens * math.log(2)
        seconds += steps * server.seconds(batch * 2**-0.5, request.context)
        batch /= 2
    return max(0.0, seconds - left / steady)


UNBOUND = Constants(1, 1, 1, 1, 1, 0, 0, 0, 0, 0)
"""Every rate at its peak, and nothing besides."""


def bandwidth_bound(case: Case) -> Prediction:
    """The usual estimate: weights and KV cache over bandwidth, and arithmetic and links for nothing."""
    rates = replace(case.server.rates, flops=((16, math.inf),), link=math.inf)
    return roofline_bound(replace(case, server=replace(case.server, rates=rates)))


def roofline_bound(case: Case) -> Prediction:
    """Bandwidth and arithmetic at their peaks, without constants, over the same batches."""
    server = replace(case.server, host=HostSide(True, 0.0))
    return predict(replace(case, server=server), Assumed(UNBOUND))
