# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights and files come out of a bundle under the names that they have, and stay what they are."""

from __future__ import annotations

from ansible_collections.gpufleet.serving.plugins.plugin_utils._bundle import file_from_bundle, from_bundle


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


def test_a_file_has_its_name_in_the_bundle_whatever_its_source_is():
    fetched = {"source": "https://example.org/v1.35.7%2Bk3s1/k3s?token=a/b", "sha256": "5fc25309c530" + "0" * 52}
    copied = {"source": "/srv/k3s/k3s", "sha256": "ab" * 32}
    assert file_from_bundle(fetched, "/srv/bundle/") == fetched | {"source": "/srv/bundle/files/5fc25309c530/k3s"}
    assert file_from_bundle(copied, "/srv/bundle")["source"] == "/srv/bundle/files/abababababab/k3s"


def test_without_a_bundle_a_file_is_where_it_was():
    there, none = {"source": "/srv/k3s/k3s", "sha256": "ab" * 32}, {"source": "", "sha256": ""}
    assert file_from_bundle(there, "") == there
    assert file_from_bundle(none, "/srv/bundle") == none
