# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights reach every host that lacks them, from one that has them by then, and leave their source once."""

from __future__ import annotations

import math
from collections import Counter

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._fan_out import fan_out
from hypothesis import given
from hypothesis import strategies as st


def stores(**hosts):
    """Host -> (whole, missing), each a text of one letter a path."""
    return {
        name: {"address": f"10.0.0.{index}", "whole": list(whole), "missing": list(missing)}
        for index, (name, (whole, missing)) in enumerate(hosts.items(), start=1)
    }


def hops(spread):
    return [[f"{hop['path']}: {hop['source']} -> {hop['receiver']}" for hop in wave] for wave in spread["waves"]]


def test_four_hosts_that_all_lack_a_model():
    spread = fan_out(stores(n1=("", "a"), n2=("", "a"), n3=("", "a"), n4=("", "a")))
    assert spread["first"] == {"n1": ["a"]}
    assert hops(spread) == [["a: n1 -> n2"], ["a: n1 -> n3", "a: n2 -> n4"]]
    assert spread["waves"][0][0]["address"] == "10.0.0.1"
    assert spread["sends"] == {
        "n1": {"paths": ["a"], "receivers": ["10.0.0.2", "10.0.0.3"]},
        "n2": {"paths": ["a"], "receivers": ["10.0.0.4"]},
    }


def test_hosts_that_have_it_already_send_and_nobody_asks_outside():
    spread = fan_out(stores(n1=("", "a"), n2=("a", ""), n3=("a", ""), n4=("", "a")))
    assert spread["first"] == {}
    assert hops(spread) == [["a: n2 -> n1", "a: n3 -> n4"]]


def test_two_models_are_fetched_by_two_hosts_and_cross():
    spread = fan_out(stores(n1=("", "ab"), n2=("", "ab")))
    assert spread["first"] == {"n1": ["a"], "n2": ["b"]}
    assert hops(spread) == [["a: n1 -> n2", "b: n2 -> n1"]]


def test_what_one_host_alone_wants_is_handed_to_nobody():
    assert fan_out(stores(n1=("", "a"), n2=("b", ""))) == {"first": {"n1": ["a"]}, "waves": [], "sends": {}}


@pytest.mark.parametrize("nothing", [{}, stores(n1=("a", ""), n2=("a", ""))])
def test_nothing_to_do(nothing):
    assert fan_out(nothing) == {"first": {}, "waves": [], "sends": {}}


def test_hosts_in_another_order_get_the_same():
    some = stores(n1=("", "ab"), n2=("b", "a"), n10=("", "a"), n9=("a", "b"))
    assert fan_out(dict(reversed(some.items()))) == fan_out(some)


@given(
    st.lists(
        st.dictionaries(st.sampled_from("abc"), st.sampled_from(["whole", "missing"])),
        min_size=1,
        max_size=20,
    )
)
def test_every_host_gets_all_of_what_it_lacks_from_one_that_has_it(states):
    hosts = {
        f"n{index}": {
            "address": f"10.0.0.{index}",
            "whole": [path for path, state in paths.items() if state == "whole"],
            "missing": [path for path, state in paths.items() if state == "missing"],
        }
        for index, paths in enumerate(states)
    }
    spread = fan_out(hosts)
    has = {(name, path) for name, store in hosts.items() for path in store["whole"]}
    for name, paths in spread["first"].items():
        for path in paths:
            assert not any(holder for holder in has if holder[1] == path), "fetched though a host has it"
            has.add((name, path))
    for wave in spread["waves"]:
        for role in ("source", "receiver"):
            assert max(Counter(hop[role] for hop in wave).values()) == 1
        assert all((hop["source"], hop["path"]) in has for hop in wave)
        has |= {(hop["receiver"], hop["path"]) for hop in wave}
    assert all((name, path) in has for name, store in hosts.items() for path in store["missing"])


@pytest.mark.parametrize("count", [2, 3, 8, 9, 100])
def test_the_hosts_that_have_it_double_with_each_wave(count):
    spread = fan_out(stores(**{f"n{index}": ("", "a") for index in range(count)}))
    assert len(spread["waves"]) == math.ceil(math.log2(count))
    sent = Counter(hop["source"] for wave in spread["waves"] for hop in wave)
    assert max(sent.values()) == len(spread["waves"])
