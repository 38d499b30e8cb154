# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters as Ansible calls them."""

from __future__ import annotations

import json

import pytest
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible_collections.gpufleet.serving.plugins.filter import explain, plan, share
from ansible_collections.gpufleet.serving.plugins.plugin_utils._explain import table
from ansible_collections.gpufleet.serving.plugins.plugin_utils._plan import plan as plan_directly
from ansible_collections.gpufleet.serving.tests.plan_checker import accept
from ansible_collections.gpufleet.serving.tests.unit.plugins.plugin_utils import fleets


def filters(module):
    return module.FilterModule().filters()


@pytest.mark.parametrize(("module", "name"), [(plan, "plan"), (share, "share"), (explain, "explain")])
def test_each_filter_has_its_name_and_documentation(module, name):
    assert list(filters(module)) == [name]
    assert f"name: {name}\n" in module.DOCUMENTATION


def test_tagged_values_of_ansible_give_the_same_plan():
    """Variables reach a filter as tagged subclasses of text, lists and mappings."""
    inputs = fleets.demo()
    tagged = DataLoader().load(json.dumps(inputs))
    assert type(tagged["models"][0]["name"]) is not str
    made = filters(plan)["plan"](**tagged)
    assert made == plan_directly(**inputs)
    accept(made)


def test_a_share_is_one_hosts_part_of_the_plan():
    made = fleets.planned(**fleets.demo())
    assert filters(share)["share"](made, "node1") == made["shares"]["node1"]


def test_a_host_outside_the_fleet_has_no_share():
    with pytest.raises(AnsibleFilterError, match="nobody is in no group of the fleet"):
        filters(share)["share"](fleets.planned(**fleets.demo()), "nobody")


def test_a_plan_in_words_is_the_table_unless_a_part_is_asked_for():
    made = fleets.planned(**fleets.demo())
    words = filters(explain)["explain"]
    assert words(made) == table(made)
    assert words(made, part="url", model="tiny") == "https://10.0.0.10/m/tiny/v1"
    assert words(made, part="refusals") == ""


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ({"part": "tabel"}, "use one of table"),
        ({"part": "url"}, "model"),
        ({"part": "url", "model": "x"}, "no endpoint for x"),
        ({"part": "table", "model": "x"}, "unexpected keyword"),
    ],
)
def test_parts_and_their_details_are_checked(details, message):
    with pytest.raises(AnsibleFilterError, match=message):
        filters(explain)["explain"](fleets.planned(**fleets.demo()), **details)
