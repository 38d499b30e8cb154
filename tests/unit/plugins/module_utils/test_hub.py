# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils import _hub
from ansible_collections.gpufleet.serving.plugins.module_utils._hub import (
    HubError,
    HubUnreachable,
    Repository,
    refusal,
)
from ansible_collections.gpufleet.serving.tests.unit import hubs
from ansible_collections.gpufleet.serving.tests.unit.checkpoints import write_checkpoint

TOKEN = "a-token-of-the-tests"
PLACE = "http://hub/org/m"


@pytest.fixture
def hub(tmp_path):
    write_checkpoint(tmp_path / "hub" / hubs.NAME)
    with hubs.running(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def repository(hub):
    return Repository(hub.url, hubs.NAME, "main")


@pytest.fixture
def waits(monkeypatch):
    """The seconds that were waited, which no test waits."""
    found = []
    monkeypatch.setattr(_hub.time, "sleep", found.append)
    return found


def test_the_listing_has_a_commit_and_a_sum_for_every_file(hub, repository):
    commit, files = repository.listing()
    assert commit == hub.commit()
    by_path = {file.path: file for file in files}
    weights = (hub.root / hubs.NAME / "model.safetensors").read_bytes()
    assert by_path["model.safetensors"].sha256 == hashlib.sha256(weights).hexdigest()
    assert by_path["model.safetensors"].git_sha1 is None
    # git hash-object of a file with the two bytes {}
    assert by_path["tokenizer.json"].git_sha1 == "9e26dfeeb6e641a33dae4961196235bdb965b21b"
    assert (by_path["tokenizer.json"].size, by_path["tokenizer.json"].sha256) == (2, None)


def test_parts_of_files_are_read_through_the_redirect(hub, repository):
    weights = (hub.root / hubs.NAME / "model.safetensors").read_bytes()
    assert repository.read("model.safetensors", 0, 8) == weights[:8]
    assert repository.read("model.safetensors", 8, 20) == weights[8:20]
    assert repository.read("model.safetensors", 8) == weights[8:]
    assert repository.read("tokenizer.json") == b"{}"


def test_the_token_goes_to_the_hub_and_to_nobody_it_sends_on_to(hub, repository):
    hub.rule(token=TOKEN, private=[hubs.NAME])
    replace(repository, token=TOKEN).read("model.safetensors", 0, 8)
    first, second = hub.requests()
    assert (first["token"], second["token"]) == (True, False)
    assert first["port"] != second["port"]


def test_a_limit_is_waited_for_as_long_as_the_hub_says(hub, repository, waits):
    hub.rule(limit=2, retry_after=7)
    repository.listing()
    assert waits == [7, 7]


def test_without_a_word_of_the_hub_the_waits_double(hub, repository, waits):
    hub.rule(limit=3)
    repository.listing()
    assert waits == [2, 4, 8]


@pytest.mark.parametrize("retry_after", [None, 1])
def test_a_limit_that_does_not_end_is_given_up(hub, repository, waits, retry_after):
    hub.rule(limit=99, retry_after=retry_after)
    with pytest.raises(HubError, match=r"limits the rate of requests \(HTTP 429\) and still did after several tries"):
        repository.listing()
    assert len(waits) == 3


def test_a_limit_of_hours_is_given_up_at_once(hub, repository, waits):
    hub.rule(limit=99, retry_after=3600)
    with pytest.raises(HubError, match="429"):
        repository.listing()
    assert waits == []


def test_a_hub_that_does_not_answer_is_told_apart(waits):
    with pytest.raises(HubUnreachable, match=r"^http://127.0.0.1:9 does not answer \(.*refused"):
        Repository("http://127.0.0.1:9", hubs.NAME, "main").listing()
    assert len(waits) == 1


def test_what_is_no_hub_is_said_to_be_none(hub):
    with pytest.raises(HubError, match="is it a hub"):
        # whatever is asked, this answers with a file
        Repository(f"{hub.url}/{hubs.NAME}/resolve/main/tokenizer.json?", hubs.NAME, "main").listing()


@pytest.mark.parametrize(
    ("rules", "changes", "told"),
    [
        ({}, {"name": "org/other"}, "does not exist (HTTP 401), or it is private: give a token as fleet_hub_token"),
        ({}, {"revision": "0" * 40}, "has no such revision: give a commit of it"),
        ({"private": [hubs.NAME]}, {}, "it is private: give a token as fleet_hub_token"),
        ({"token": "another"}, {"token": TOKEN}, "fleet_hub_token may not see it, or is not valid any more"),
        ({"gated": [hubs.NAME]}, {}, "is gated: accept its conditions there with an account, and give a token of it"),
        (
            {"gated": [hubs.NAME], "token": TOKEN},
            {"token": TOKEN},
            "is gated: accept its conditions there with the account of fleet_hub_token",
        ),
    ],
)
def test_each_refusal_says_what_to_do(hub, repository, rules, changes, told):
    hub.rule(**rules)
    with pytest.raises(HubError) as refused:
        replace(repository, **changes).read("config.json")
    assert told in str(refused.value)
    assert TOKEN not in str(refused.value)


def test_other_answers_are_told_by_their_number():
    assert refusal("org/m", "http://hub", 503, None, False) == (
        f"{PLACE} answers with HTTP 503: run again later, it goes on where it was"
    )
    assert refusal("org/m", "http://hub", 404, "EntryNotFound", False).startswith(f"{PLACE} has no such file")
