# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.gpufleet.serving.plugins.plugin_utils._load import LoadError, benchmark_load, outcome
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils import examples, fleets

WORKLOAD = {"concurrent_requests": 30, "prompt_tokens": 600, "output_tokens": 100}


def models(**options):
    settings = {"tensor_parallel_size": 2, "replica_count": 2, "max_model_len": 1024} | options
    return [fleets.model("other"), fleets.model("tiny", default=True, **settings)]


def choose(wishes=None, live=True, wished=None, change=None):
    """The load for a fleet of two replicas of the default model and one of another, all live."""
    wished = wished or models(workload=WORKLOAD)
    hosts = {f"gpu{number}": fleets.gpu_host(number, count=3) for number in (1, 2)}
    shapes = {"tiny": fleets.shape(), "other": fleets.shape()}
    made = fleets.planned(models=wished, hosts=hosts, shapes=shapes, settings=fleets.PUBLIC)
    state = fleets.applied(made, live)["hosts"]
    if change:
        change(state)
    return benchmark_load(made, state, wished, wishes or {})


def without_answer(*names):
    def change(state):
        for answer in state.values():
            for name in set(names) & set(answer["replicas"]):
                answer["replicas"][name]["live"] = False

    return change


def test_without_a_wish_it_is_the_default_models_first_replica_and_its_workload():
    load = choose()
    assert (load.replica, load.unit["name"]) == ("tiny-0", "tiny-0")
    assert (load.concurrency, load.prompt_tokens, load.output_tokens) == (15, 600, 100)
    assert (load.num_prompts, load.time_limit) == (75, 600)


def test_a_replica_that_does_not_answer_is_passed_over():
    assert choose(change=without_answer("tiny-0")).replica == "tiny-1"


def test_every_part_may_be_wished_for_in_the_words_of_a_command_line():
    wishes = {"replica": "other-0", "concurrency": "3", "prompt_tokens": "20", "output_tokens": "10"}
    load = choose({**wishes, "num_prompts": "6", "time_limit": "90"})
    assert (load.replica, load.concurrency, load.prompt_tokens, load.output_tokens) == ("other-0", 3, 20, 10)
    assert (load.num_prompts, load.time_limit) == (6, 90)


def test_what_is_empty_or_0_is_chosen():
    empty = {"replica": "", "concurrency": 0, "prompt_tokens": "0", "output_tokens": None}
    assert choose(empty) == choose()


def test_without_a_workload_requests_are_short_and_fit():
    load = choose(wished=models(max_model_len=256))
    assert (load.concurrency, load.prompt_tokens, load.output_tokens, load.num_prompts) == (16, 64, 64, 80)
    load = choose(wished=models(max_model_len=2048))
    assert (load.prompt_tokens, load.output_tokens) == (512, 128)


def test_it_says_what_it_will_do():
    load = choose({"num_prompts": 20})
    words = " ".join(load.words.split())
    assert words == (
        "Benchmark 20 requests of 600 prompt and 100 output tokens, 15 at once, at tiny-0 "
        f"({load.unit['address']} port {load.unit['port']}, on {load.host}). It takes 600 s at most; clients are "
        "served meanwhile, more slowly."
    )


@pytest.mark.parametrize(
    ("wishes", "change", "words"),
    [
        ({"replica": "tiny-9"}, None, "tiny-9 does not answer: name one that does: benchmark_replica=other-0, tiny-0"),
        ({}, without_answer("tiny-0", "tiny-1"), "no replica of tiny answers: name one that does: .*=other-0"),
        ({}, without_answer("tiny-0", "tiny-1", "other-0"), "no replica of tiny answers: run site.yml"),
        ({"prompt_tokens": 1000}, None, r"1000 \+ 100 tokens a request, and max_model_len of tiny-0 is 1024"),
        ({"concurrency": "many"}, None, 'benchmark.concurrency is "many": give a whole number'),
        ({"concurrency": -1}, None, "benchmark.concurrency is -1"),
    ],
)
def test_what_cannot_be_driven_is_refused_with_what_would_help(wishes, change, words):
    with pytest.raises(LoadError, match=words):
        choose(wishes, change=change)


class Lazy(dict):
    """A mapping as Ansible hands them over: it can be read, and not be made."""

    def __init__(self, *content):
        assert not content, "Direct construction of lazy containers is not supported."

    @classmethod
    def of(cls, value):
        made = cls()
        made.update({key: cls.of(item) if isinstance(item, dict) else item for key, item in value.items()})
        return made


def test_ansibles_own_mappings_are_read():
    def wrap(state):
        for host in state:
            state[host] = Lazy.of(state[host])
            units = state[host]["roles"].get("serve", {}).get("options", {}).get("serve_units", [])
            units[:] = [Lazy.of(unit) for unit in units]

    load = choose(change=wrap).as_dict()
    assert type(load["unit"]) is dict
    assert type(load["unit"]["config"]) is dict


def test_the_load_is_what_the_role_asks_for():
    path = examples.REPOSITORY / "roles/benchmark/meta/argument_specs.yml"
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    given = {"benchmark_load": json.loads(json.dumps(choose().as_dict())), "benchmark_engine_key": "k" * 24}
    assert ArgumentSpecValidator(spec).validate(given).error_messages == []


def test_the_outcome_in_words():
    load = choose()
    figures = {
        "concurrency": 15,
        "requests_per_second": 3.125,
        "output_tokens_per_second": 312.5,
        "ttft_ms": {"p50": 210.4, "p99": 480.2},
        "itl_ms": {"p50": 15.9, "p99": 31.0},
        "tool": "vllm bench serve 0.33.0",
    }
    text = outcome(load.as_dict(), figures, clients=0)
    assert "tiny-0  3.125 requests/s, 312.5 output tokens/s, with 15 at once" in text
    assert "first token     210.4 ms in the median, 480.2 ms for 1 in 100" in text
    assert "vllm bench serve 0.33.0" in text
    assert "of clients" not in text
    assert "held 3 requests of clients" in outcome(load.as_dict(), figures, clients=3)
