#!/usr/bin/env python3
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the gateway to its goals under load, and prints each with what was seen.

Runs against the hosts of the molecule scenario gateway, which must be converged:

    tests/lanes/molecule converge -s gateway && python tests/bench/gateway_bench.py

Ratios, counts and CPU microseconds mean something on a small, busy machine; absolute rates and times do not, as client,
gateway and mock engines share its cores. Exit code 1: a goal was missed.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "molecule/gateway/tests")]

from gateway_host import ADDRESS, CERTIFICATES, ENGINE_KEY, ENGINE_PORTS, KEYS, Engine, eventually  # noqa: E402
from gateway_load import Client, Endpoint, Load, completion, load, percentile  # noqa: E402

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
TLS = ssl.create_default_context(cafile=str(CERTIFICATES / "ca.crt"))
FRONT = Endpoint(ADDRESS, 443, KEYS["team-a"], TLS)
DIRECT = [Endpoint(ADDRESS, port, ENGINE_KEY) for port in ENGINE_PORTS]
SHORT = completion("org/tiny", tokens=1)
STREAM = completion("org/tiny", tokens=50, stream=True)


@dataclass(frozen=True)
class Seen:
    """One goal and what was seen of it."""

    what: str
    goal: str
    seen: str
    met: bool

    def __str__(self) -> str:
        return f"{'met   ' if self.met else 'MISSED'} {self.what:58} goal {self.goal:12} seen {self.seen}"


def at_most(what: str, goal: float, seen: float, unit: str = "") -> Seen:
    """A goal that nothing above it meets."""
    return Seen(what, f"<= {goal:g}{unit}", f"{seen:.4g}{unit}", seen <= goal)


def at_least(what: str, goal: float, seen: float, unit: str = "") -> Seen:
    """A goal that nothing below it meets."""
    return Seen(what, f">= {goal:g}{unit}", f"{seen:.4g}{unit}", seen >= goal)


def shell(command: str) -> str:
    """What a shell on the gateway prints."""
    done = subprocess.run(
        ["podman", "exec", "gateway-1", "sh", "-c", command], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


class Host:
    """The one command of a testinfra host that Engine uses."""

    @staticmethod
    def check_output(command: str, *arguments: str) -> str:
        """What a command on the gateway prints."""
        return shell(command % arguments)


@contextmanager
def four_engines() -> Iterator[list[Engine]]:
    """The engines; whatever is done to them is undone, and what the gateway learned of it has been forgotten."""
    engines = [Engine(Host(), port) for port in ENGINE_PORTS]
    yield engines
    for engine in engines:
        engine.start()
        engine.fault("none")
    time.sleep(10)


def gateway_cpu_s() -> float:
    """CPU seconds that all of nginx's processes have used."""
    stats = shell("cat $(pgrep -x nginx | sed 's,.*,/proc/&/stat,')").splitlines()
    return sum(sum(map(int, line.rpartition(")")[2].split()[11:13])) for line in stats) / CLOCK_TICKS


@contextmanager
def spread(endpoints: list[Endpoint], clients: int, body: dict) -> Iterator[list[Load]]:
    """A closed loop over several endpoints, ``clients`` in all."""
    loads = [load(endpoint, clients // len(endpoints), body) for endpoint in endpoints]
    try:
        yield [one.__enter__() for one in loads]
    finally:
        for one in loads:
            one.__exit__(None, None, None)


@dataclass(frozen=True)
class Pace:
    """What a closed loop of short requests ran at."""

    a_second: float
    gateway_cpu_us: float


def pace(endpoints: list[Endpoint], clients: int, seconds: float) -> Pace:
    """Measure a closed loop of short requests, once its connections are open."""
    with spread(endpoints, clients, SHORT) as loads:

        def reading() -> tuple[float, float, int]:
            return gateway_cpu_s(), time.monotonic(), sum(len(one.ok) for one in loads)

        time.sleep(1)
        cpu_s, begun, answered = reading()
        time.sleep(seconds)
        cpu_s, took_s, answered = (
            after - before for after, before in zip(reading(), (cpu_s, begun, answered), strict=True)
        )
    assert not any(one.failed for one in loads)
    return Pace(answered / took_s, cpu_s / answered * 1e6)


def cost() -> Iterator[Seen]:
    """What the way through the gateway costs, in two interleaved rounds."""
    rounds = [(pace(DIRECT, 64, 8), pace([FRONT], 64, 8)) for _ in range(2)]
    ratio = statistics.median(through.a_second / direct.a_second for direct, through in rounds)
    yield at_least("requests a second beside direct, 64 clients", 0.5, ratio)
    cpu_us = statistics.median(through.gateway_cpu_us for _, through in rounds)
    yield at_most("gateway CPU a request, TLS and log included", 60, cpu_us, " us")


def first_token(endpoints: list[Endpoint], clients: int, streams: int) -> list[float]:
    """Seconds to the first token, of connections that are open already."""
    with spread(endpoints, clients, STREAM) as loads:
        eventually(lambda: sum(len(one.answers) for one in loads) >= clients, 60, "a first round")
        for one in loads:
            one.forget()
        eventually(lambda: sum(len(one.answers) for one in loads) >= streams, 120, f"{streams} streams")
    answers = [answer for one in loads for answer in one.answers]
    assert all(answer.ok for answer in answers)
    return [answer.first_s for answer in answers]


def streaming() -> Iterator[Seen]:
    """What the gateway adds to a token."""
    direct, through = first_token(DIRECT[:1], 1, 20), first_token([FRONT], 1, 20)
    yield at_most(
        "added time to first token, 1 client, median",
        0.5,
        (percentile(through, 0.5) - percentile(direct, 0.5)) * 1e3,
        " ms",
    )
    direct, through = first_token(DIRECT, 16, 128), first_token([FRONT], 16, 128)
    yield at_most(
        "added time to first token, 16 clients, 99th of 100",
        10,
        (percentile(through, 0.99) - percentile(direct, 0.99)) * 1e3,
        " ms",
    )
    with load(FRONT, 16, STREAM) as streams:
        eventually(lambda: len(streams.ok) >= 128, 120, "128 streams")
    yield at_most(
        f"tokens that waited for the next, of {sum(answer.events for answer in streams.answers)}", 0, streams.merged
    )


def faults() -> Iterator[Seen]:
    """Engines that die, drain, are full or choke."""
    for name, status in (("draining (500)", 500), ("full (503)", 503)):
        with four_engines() as engines, load(FRONT, 32, SHORT) as short, load(FRONT, 32, STREAM) as streams:
            engines[0].fault("error", status)
            time.sleep(4)
        yield at_most(
            f"failed while one engine is {name}, of {len(short.answers) + len(streams.answers)}",
            0,
            len(short.failed + streams.failed + streams.cut),
        )
    with four_engines() as engines, load(FRONT, 32, SHORT) as short, load(FRONT, 32, STREAM) as streams:
        time.sleep(1)
        engines[0].kill()
        time.sleep(4)
    yield at_most(
        f"failed beyond {len(streams.cut)} begun streams after kill -9, of {len(short.answers) + len(streams.answers)}",
        0,
        len(short.failed + streams.failed),
    )
    yield from poison()
    yield from overload()


def poison() -> Iterator[Seen]:
    """A request that breaks every engine it comes to, beside good ones."""
    before = int(shell("wc -l < /var/log/nginx/gpufleet.access.log"))
    with four_engines() as engines:
        for engine in engines:
            engine.fault("error", 500, "poison")
        bad_endpoint = replace(FRONT, key=KEYS["team-b"])
        with load(FRONT, 16, SHORT) as good, load(bad_endpoint, 4, {**SHORT, "prompt": "poison"}, pause_s=0.5):
            time.sleep(7)
    yield at_most(f"good requests that failed beside poison, of {len(good.answers)}", 0, len(good.failed))
    lines = shell(f"tail -n +{before + 1} /var/log/nginx/gpufleet.access.log | grep team-b").splitlines()
    attempts = [line.partition('"upstream":"')[2].partition('"')[0].replace(" :", ",").count(",") + 1 for line in lines]
    yield at_most(f"engines asked by each of {len(lines)} poisonous requests", 4, max(attempts))


def overload() -> Iterator[Seen]:
    """Every engine is full for a while, then none."""
    with four_engines() as engines, load(FRONT, 16, SHORT, pause_s=0.02) as short:
        for engine in engines:
            engine.fault("error", 503)
        time.sleep(1.5)
        refused = list(short.failed)
        for engine in engines:
            engine.fault("none")
        time.sleep(1)
        short.forget()
        time.sleep(4)
    words = {answer.status for answer in refused}
    yield Seen(f"the engines' own 503 while all are full, of {len(refused)}", "all", str(sorted(words)), words == {503})
    yield at_most(f"failed from 1 s after that, of {len(short.answers)}", 0, len(short.failed))


def reloads() -> Iterator[Seen]:
    """Three reloads under 200 streams of 8 s."""
    long = completion("org/tiny", tokens=400, stream=True)
    with (
        load(FRONT, 200, long, pause_s=20) as streams,
        load(FRONT, 8, SHORT, pause_s=0.02) as kept,
        load(FRONT, 8, SHORT, pause_s=0.02, keep_alive=False) as new,
    ):
        time.sleep(3)
        for _ in range(3):
            shell("systemctl reload nginx.service")
            time.sleep(1)
        eventually(lambda: len(streams.answers) >= 200, 60, "200 streams")
    yield at_most(f"streams broken by three reloads, of {len(streams.answers)}", 0, len(streams.cut + streams.failed))
    yield at_most(f"requests failed on new connections, of {len(new.answers)}", 0, len(new.failed))
    yield at_most(
        f"requests failed on kept connections, of {len(kept.answers)}",
        0.5,
        100 * len(kept.failed) / len(kept.answers),
        " %",
    )


def balance() -> Iterator[Seen]:
    """24 streams over four engines: how far from six each they are."""
    variations = []
    with load(FRONT, 24, STREAM), four_engines() as engines:
        time.sleep(2)
        for _ in range(40):
            running = [engine.running() for engine in engines]
            variations.append(statistics.pstdev(running) / statistics.mean(running))
            time.sleep(0.1)
    yield at_most("variation of streams over the engines, 6 on each", 0.10, statistics.mean(variations))


def hangups() -> Iterator[Seen]:
    """Twenty clients go away while their answers are being made."""

    async def go_away(stream: bool) -> None:
        clients = [Client(FRONT) for _ in range(20)]
        asking = [
            asyncio.ensure_future(client.ask("POST", "/v1/completions", completion("org/tiny", 1000, stream)))
            for client in clients
        ]
        await asyncio.sleep(1)
        for task, client in zip(asking, clients, strict=True):
            task.cancel()
            client.close()

    engines = [Engine(Host(), port) for port in ENGINE_PORTS]
    for stream in (True, False):
        asyncio.run(go_away(stream))
        begun = time.monotonic()
        eventually(lambda: not any(engine.running() for engine in engines), 30, "the engines' rest")
        yield at_most(
            f"engines free after a hang-up, {'streams' if stream else 'whole answers'}",
            0.3,
            time.monotonic() - begun,
            " s",
        )


def main() -> int:
    """Measure the parts that are named as arguments, or all."""
    parts: list[Callable[[], Iterator[Seen]]] = [cost, streaming, faults, reloads, balance, hangups]
    chosen = [part for part in parts if part.__name__ in sys.argv[1:]] or parts
    missed = 0
    for part in chosen:
        for seen in part():
            print(seen, flush=True)
            missed += not seen.met
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
