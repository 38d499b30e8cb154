# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The contract of every role: its argument spec and its defaults say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

ROLES = Path(__file__).resolve().parents[3] / "roles"
NAMES = sorted(path.name for path in ROLES.iterdir())
FREE_FORM = {"engine_args", "engine_env"}


def options(role):
    """The options of all the role's entry points."""
    text = (ROLES / role / "meta/argument_specs.yml").read_text(encoding="utf-8")
    entry_points = yaml.safe_load(text)["argument_specs"].values()
    return {name: option for entry_point in entry_points for name, option in entry_point.get("options", {}).items()}


def defaults(role):
    return yaml.safe_load((ROLES / role / "defaults/main.yml").read_text(encoding="utf-8")) or {}


def is_template(value):
    return "{{" in str(value)


@pytest.mark.parametrize("role", NAMES)
def test_each_option_has_a_default_or_must_be_given(role):
    optional = {name for name, option in options(role).items() if not option.get("required")}
    secret = {name for name, option in options(role).items() if option.get("no_log")}
    assert set(defaults(role)) - optional == set(), "defaults of options that the spec does not know or requires"
    assert optional - set(defaults(role)) - secret == set(), "options that are neither required nor have a default"


@pytest.mark.parametrize("role", NAMES)
def test_a_stated_default_is_the_default(role):
    stated = {name: option["default"] for name, option in options(role).items() if "default" in option}
    actual = {name: value for name, value in defaults(role).items() if name in stated and not is_template(value)}
    assert {name: stated[name] for name in actual} == actual


@pytest.mark.parametrize("role", NAMES)
def test_a_plain_default_is_stated(role):
    plain = {name for name, value in defaults(role).items() if not is_template(value)}
    stated = {name for name, option in options(role).items() if "default" in option}
    assert plain - stated == set()


@pytest.mark.parametrize("role", NAMES)
def test_options_carry_the_roles_name(role):
    assert [name for name in options(role) if not name.startswith(f"{role}_")] == []


def untyped(path, option):
    """Options without a type, and dicts without options of their own, at any depth."""
    if "type" not in option or "description" not in option:
        yield f"{path}: no type or no description"
    if option.get("type") == "list" and "elements" not in option:
        yield f"{path}: a list of what?"
    holds_dict = "dict" in (option.get("type"), option.get("elements"))
    if holds_dict and "options" not in option and path.rsplit(".", 1)[-1] not in FREE_FORM:
        yield f"{path}: a dict of what?"
    for name, inner in option.get("options", {}).items():
        yield from untyped(f"{path}.{name}", inner)


@pytest.mark.parametrize("role", NAMES)
def test_every_option_is_typed_to_the_leaves(role):
    assert [fault for name, option in options(role).items() for fault in untyped(name, option)] == []
