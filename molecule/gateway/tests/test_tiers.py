# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients notice of engines that drain, are full, die or choke, and of reloads: nothing that can be helped."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

import pytest
from gateway_host import KEYS, eventually
from gateway_load import Client, completion, load

SHORT = completion("org/tiny", tokens=3)
STREAM = completion("org/tiny", tokens=40, stream=True)


def test_a_stream_comes_token_by_token(front):
    with load(front, 4, STREAM) as streams:
        eventually(lambda: len(streams.ok) >= 12, 30, "12 streams")
    assert streams.failed + streams.cut == []
    # a gateway that buffers merges nearly all; a busy machine a few
    assert streams.merged <= 0.1 * sum(answer.events for answer in streams.answers)
    for answer in streams.answers:
        assert answer.events == 40
        assert answer.first_s < answer.total_s / 2


@pytest.mark.parametrize("status", [500, 503], ids=["draining", "full"])
def test_an_engine_that_refuses_is_stepped_around(front, engines, status):
    with load(front, 8, SHORT) as short, load(front, 8, STREAM) as streams:
        engines[0].fault("error", status)
        short.forget()
        eventually(lambda: len(short.answers) > 100, 20, "100 requests")
    assert short.failed + streams.failed + streams.cut == []


def test_a_request_that_breaks_every_engine_does_not_take_them_away(host, front, engines):
    for engine in engines:
        engine.fault("error", 500, "poison")
    poison = {**SHORT, "prompt": "poison"}
    with load(front, 8, SHORT) as good, load(replace(front, key=KEYS["team-b"]), 2, poison, pause_s=0.05) as bad:
        eventually(lambda: len(bad.answers) > 40 and len(good.answers) > 100, 20, "40 poisonous requests")
    assert good.failed == []
    assert {answer.status for answer in bad.answers} == {500}
    assert {answer.json()["error"]["message"] for answer in bad.answers} == {"a fault that a test asked for"}
    lines = [
        json.loads(line) for line in host.check_output("tail -n 1000 /var/log/nginx/gpufleet.access.log").splitlines()
    ]
    attempts = [
        len(line["upstream"].replace(" :", ",").split(","))
        for line in lines
        if line["key"] == "team-b" and line["status"] == 500
    ]
    assert len(attempts) > 40
    assert max(attempts) <= 4


def test_when_all_are_full_the_engines_own_words_pass_and_it_is_over_when_it_is_over(front, engines):
    with load(front, 8, SHORT, pause_s=0.02) as short:
        for engine in engines:
            engine.fault("error", 503)
        short.forget()
        eventually(lambda: len(short.failed) > 50, 20, "50 refusals")
        refused = list(short.failed)
        for engine in engines:
            engine.fault("none")
        short.forget()
        eventually(lambda: len(short.ok) > 100, 20, "100 answers")
    assert {answer.status for answer in refused} == {503}
    assert {answer.json()["error"]["message"] for answer in refused} == {"a fault that a test asked for"}
    # those under way while the faults were lifted, and no more
    assert len(short.failed) <= 8


def test_a_killed_engine_costs_only_the_streams_that_it_had_begun(front, engines):
    with load(front, 12, SHORT) as short, load(front, 12, STREAM) as streams:
        eventually(lambda: len(streams.ok) >= 12, 20, "12 streams")
        engines[0].kill()
        short.forget()
        eventually(lambda: len(short.ok) > 100, 20, "100 answers after the kill")
    assert short.failed == []
    assert streams.failed == []
    assert 0 < len(streams.cut) <= 12
    assert all(answer.error for answer in streams.cut), "a cut stream must not look like a finished one"


def test_with_no_engine_left_the_client_is_told_in_json_and_at_once(host, front, engines, complete):
    for engine in engines:
        engine.kill()
    answer = complete()
    assert (answer.status, answer.json()["error"]["code"]) == (502, "no_engine")
    assert answer.total_s < 2
    engines[0].start()
    # what was learned of it is forgotten after fail_timeout
    eventually(lambda: complete().ok, 11, "an answer from the engine that is back")


def test_reloads_break_no_stream(host, front):
    master = host.file("/run/nginx.pid").content_string
    long = completion("org/tiny", tokens=100, stream=True)
    with load(front, 100, long, pause_s=5) as streams, load(front, 4, SHORT, keep_alive=False) as short:
        eventually(lambda: len(short.ok) > 20, 20, "the load to run")
        for _ in range(3):
            host.check_output("systemctl reload nginx.service")
            time.sleep(0.4)
    assert len(streams.answers) >= 100
    assert streams.cut + streams.failed == []
    assert short.failed == []
    assert host.file("/run/nginx.pid").content_string == master


def test_a_client_that_hangs_up_frees_its_engine(front, engines):
    async def hang_up(stream: bool) -> None:
        client = Client(front)
        asking = asyncio.ensure_future(client.ask("POST", "/v1/completions", completion("org/tiny", 1000, stream)))
        await asyncio.sleep(0.5)
        assert not asking.done()
        asking.cancel()
        client.close()

    for stream in (True, False):
        asyncio.run(hang_up(stream))
        eventually(lambda: sum(engine.running() for engine in engines) == 0, 2, "the engines' rest")
