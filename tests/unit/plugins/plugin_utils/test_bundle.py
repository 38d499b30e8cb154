# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights come out of a bundle under the names that the inventory has for them, and stay what they are."""

from __future__ import annotations

from ansible_collections.gpufleet.serving.plugins.plugin_utils._bundle import from_bundle


def model(name, kind, source):
    return {"name": name, "source_kind": kind, "source": source, "content_id": f"git:{name}", "path": f"/srv/{name}"}


def test_what_is_brought_comes_from_the_bundle_and_what_is_there_stays_there():
    hub, mine, there = (
        model("a", "hub", "org/a"),
        model("b", "controller", "models/b"),
        model("c", "host", "/data/c"),
    )
    assert from_bundle([hub, mine, there], "/srv/bundle/") == [
        {**hub, "source_kind": "controller", "source": "/srv/bundle/models/a"},
        {**mine, "source": "/srv/bundle/models/b"},
        there,
    ]
