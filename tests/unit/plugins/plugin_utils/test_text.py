# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._text import (
    counted,
    did_you_mean,
    gib,
    listing,
    natural_key,
    nearest,
    repeated,
)


@pytest.mark.parametrize(
    ("names", "ordered"),
    [
        (["gpu10", "gpu2", "gpu1"], ["gpu1", "gpu2", "gpu10"]),
        (["a10b2", "a10b10", "a9"], ["a9", "a10b2", "a10b10"]),
        (["b", "a", "1"], ["1", "a", "b"]),
        (["gpu02", "gpu2", "gpu1"], ["gpu1", "gpu02", "gpu2"]),
        (["", "a"], ["", "a"]),
    ],
)
def test_natural_order_counts_as_people_do(names, ordered):
    assert sorted(names, key=natural_key) == ordered


def test_natural_order_takes_any_number_of_digits():
    assert sorted(["9" * 5000, "8"], key=natural_key) == ["8", "9" * 5000]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("max_model_length", "max_model_len"),
        ("MAX_MODEL_LEN", "max_model_len"),
        ("sorce", "source"),
        ("zzz", None),
        ("x" * 10**6, None),
    ],
)
def test_the_nearest_word_is_what_was_meant(word, meant):
    assert nearest(word, ["max_model_len", "source", "revision"]) == meant


def test_a_word_that_resembles_nothing_gets_the_whole_list():
    assert did_you_mean("zzz", ["b", "a"]) == "use one of a, b"
    assert did_you_mean("sorce", ["source", "a"]) == "did you mean source?"


def test_amounts_and_lists_read_like_a_sentence():
    assert gib(79.18 * 2**30) == "79.18 GiB"
    assert gib(2**30) == "1 GiB"
    assert listing([]) == ""
    assert listing(["a", "b"]) == "a, b"
    assert listing("abcd", limit=2) == "a, b and 2 more"
    assert counted(1, "host") == "1 host"
    assert counted(0, "host") == "0 hosts"


def test_what_comes_twice_is_found():
    assert repeated(["b", "a", "b", "a", "c"]) == ["a", "b"]
