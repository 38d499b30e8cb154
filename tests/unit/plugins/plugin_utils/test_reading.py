# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._findings import Findings
from ansible_collections.gpufleet.serving.plugins.plugin_utils._reading import Reader, plain


class Tagged(str):
    """What Ansible 2.19 makes of text: a subclass."""


class TaggedList(list):
    pass


class TaggedDict(dict):
    pass


def read(value, known=None):
    findings = Findings()
    return Reader(value, "thing", findings, known), findings


def told(findings):
    return [(refusal.code, refusal.subject, refusal.reason, *refusal.remedies) for refusal in findings.refusals]


def test_tagged_values_become_plain_ones():
    value = plain(TaggedDict({Tagged("a"): TaggedList([Tagged("b"), 1, True, None, 0.5])}), "x", Findings())
    assert value == {"a": ["b", 1, True, None, 0.5]}
    assert type(value) is dict
    assert type(next(iter(value))) is str
    assert [type(item) for item in value["a"]] == [str, int, bool, type(None), float]


def test_keys_become_text():
    assert plain({1: "a", None: "b"}, "x", Findings()) == {"1": "a", "None": "b"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, object(), b"bytes", {1, 2}])
def test_what_json_cannot_say_is_refused_with_its_place(value):
    findings = Findings()
    assert plain({"a": [0, value]}, "x", findings) == {"a": [0, None]}
    assert [(refusal.code, refusal.subject) for refusal in findings.refusals] == [("bad_value", "x.a[1]")]


def test_endless_nesting_is_refused():
    endless = []
    endless.append(endless)
    findings = Findings()
    json.dumps(plain(endless, "x", findings))
    assert findings.refusals[0].code == "bad_value"


def test_unknown_keys_are_named_with_the_nearest_right_one():
    _reader, findings = read({"sorce": 1, "name": 2}, known={"source", "name"})
    assert told(findings) == [("unknown_option", "thing.sorce", "is no option", "did you mean source?")]


def test_what_is_no_mapping_is_refused_and_read_as_empty():
    reader, findings = read([1])
    assert reader.text("name") is None
    assert told(findings) == [("bad_value", "thing", "is [1]", "give a mapping")]


GOOD = [
    ("text", ("k",), {"k": "a"}, "a"),
    ("text", ("k", "default"), {}, "default"),
    ("text", ("k", "default"), {"k": None}, "default"),
    ("choice", ("k", {"a", "b"}, "a"), {"k": "b"}, "b"),
    ("flag", ("k",), {"k": True}, True),
    ("flag", ("k",), {"k": "Yes"}, True),
    ("flag", ("k", True), {"k": "off"}, False),
    ("flag", ("k", True), {}, True),
    ("integer", ("k",), {"k": 3}, 3),
    ("integer", ("k",), {"k": "3"}, 3),
    ("integer", ("k", 7), {}, 7),
    ("integer_or_auto", ("k",), {"k": "auto"}, None),
    ("integer_or_auto", ("k",), {"k": 2}, 2),
    ("number", ("k",), {"k": 0.5}, 0.5),
    ("number", ("k",), {"k": "0.5"}, 0.5),
    ("number", ("k",), {"k": 1}, 1.0),
    ("mapping", ("k",), {"k": {"a": 1}}, {"a": 1}),
    ("mapping", ("k",), {}, {}),
    ("items", ("k",), {"k": [1]}, [1]),
    ("texts", ("k",), {"k": ["a"]}, ("a",)),
]


@pytest.mark.parametrize(("method", "arguments", "value", "expected"), GOOD)
def test_right_values_are_read(method, arguments, value, expected):
    reader, findings = read(value)
    assert getattr(reader, method)(*arguments) == expected
    assert not findings.refusals


BAD = [
    ("text", ("k", "d"), 1, "d", "give text on one line"),
    ("text", ("k", "d"), "a\nb", "d", "give text on one line"),
    ("text", ("k", "d"), "", "d", "give text on one line"),
    ("choice", ("k", {"a", "b"}, "a"), "c", "a", "give one of a, b"),
    ("flag", ("k",), 1, False, "give true or false"),
    ("flag", ("k",), "maybe", False, "give true or false"),
    ("integer", ("k", 7), True, 7, "give a whole number from 1"),
    ("integer", ("k", 7), 1.5, 7, "give a whole number from 1"),
    ("integer", ("k", 7), 0, 7, "give a whole number from 1"),
    ("integer", ("k", 7, 1, 5), 6, 7, "give a whole number from 1 to 5"),
    ("integer_or_auto", ("k",), "many", None, "give a whole number from 1"),
    ("number", ("k", None, 0.0, 1.0), 1.5, None, "give a number above 0 and at most 1"),
    ("number", ("k",), "x", None, "give a number above 0"),
    ("number", ("k",), False, None, "give a number above 0"),
    ("mapping", ("k",), [1], {}, "give a mapping"),
    ("items", ("k",), "a", [], "give a list"),
]


@pytest.mark.parametrize(("method", "arguments", "value", "fallback", "remedy"), BAD)
def test_wrong_values_are_refused_by_name_and_read_as_their_default(method, arguments, value, fallback, remedy):
    reader, findings = read({"k": value})
    assert getattr(reader, method)(*arguments) == fallback
    assert told(findings) == [("bad_value", "thing.k", f"is {json.dumps(value)}", remedy)]


def test_wrong_items_of_a_list_are_named_by_their_place():
    reader, findings = read({"k": ["a", 1]})
    assert reader.texts("k") == ("a",)
    assert told(findings) == [("bad_value", "thing.k[1]", "is 1", "give text")]


def test_long_values_are_cut_short():
    reader, findings = read({"k": "x\n" * 100})
    reader.text("k")
    assert len(findings.refusals[0].reason) < 70
