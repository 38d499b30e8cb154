# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the role takes its charts from, by its own variables."""

from __future__ import annotations

import pytest
from ansible.template import trust_as_template
from ansible_collections.gpufleet.serving.plugins.filter.bundle import FilterModule
from ansible_collections.gpufleet.serving.tests.unit.roles import role_variables

BUNDLE = {"vllm_stack_bundle": "/srv/bundle"}
KEDA = {"vllm_stack_keda_archive": "/srv/keda-2.21.1.tgz", "vllm_stack_keda_sha256": "b" * 64}
IN_BUNDLE = "/srv/bundle/files"


def charts(**given):
    made = role_variables.templar("vllm_stack", (FilterModule,), given).template(
        trust_as_template("{{ __vllm_stack_charts }}")
    )
    return {name: (chart["source"], chart["archive"]) for name, chart in made.items()}


@pytest.mark.parametrize(
    ("given", "first", "keda"),
    [
        ({}, ("", ""), ("", "")),
        (KEDA, ("", ""), ("/srv/keda-2.21.1.tgz", "keda-2.21.1.tgz")),
        (
            {"vllm_stack_chart_archive": "/srv/mine.tgz"},
            ("/srv/mine.tgz", "vllm-stack-0.1.12.tgz"),
            ("", ""),
        ),
        (BUNDLE, (f"{IN_BUNDLE}/a33248ff71c1/vllm-stack-0.1.12.tgz", "vllm-stack-0.1.12.tgz"), ("", "")),
        (
            BUNDLE | KEDA,
            (f"{IN_BUNDLE}/a33248ff71c1/vllm-stack-0.1.12.tgz", "vllm-stack-0.1.12.tgz"),
            (f"{IN_BUNDLE}/bbbbbbbbbbbb/keda-2.21.1.tgz", "keda-2.21.1.tgz"),
        ),
    ],
)
def test_charts_come_from_their_sites_from_files_or_from_a_bundle(given, first, keda):
    found = charts(**given)
    assert (found["vllm-stack"], found["keda"], found["lws"]) == (first, keda, ("", ""))


def test_a_bundle_takes_the_chart_whose_digest_is_known_from_its_site_or_a_mirror():
    ask = trust_as_template("{{ __vllm_stack_archives['vllm-stack'].source }}")
    mirror = {"vllm_stack_chart_repository": "https://mirror.example.org/charts"}
    made = role_variables.templar("vllm_stack", (FilterModule,), BUNDLE | mirror)
    assert made.template(ask) == "https://mirror.example.org/charts/vllm-stack-0.1.12.tgz"
