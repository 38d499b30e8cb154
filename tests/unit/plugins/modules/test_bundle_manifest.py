# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle is sealed once and refused where it is not what was sealed."""

from __future__ import annotations

import json
import zipfile

import pytest
from ansible_collections.gpufleet.serving.plugins.modules import bundle_manifest
from ansible_collections.gpufleet.serving.tests.unit.plugins.modules.programs import INTERPRETERS, fails, succeeds

HERE = INTERPRETERS[0].values[0]
PACKAGES = """\
Package: g++
Version: 4:12.2.0-3
Architecture: amd64
Description: compiler
 With: a colon in its second line
SHA256: aa

Package: nginx
Version: 1.22.1-9+deb12u1
Architecture: amd64
SHA256: bb
"""
MODELS = [
    {"name": "llama", "source": "org/Llama", "content_id": "git:0123"},
    {"name": "mine", "source": "/srv/mine", "content_id": "sha256:4567"},
]


def write_wheel(path, metadata, **files):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("some_thing-1.0+cpu.dist-info/METADATA", metadata)
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)


@pytest.fixture
def bundle(tmp_path):
    """A small bundle, not sealed yet."""
    bundle = tmp_path / "bundle"
    (bundle / "wheels/lock").mkdir(parents=True)
    (bundle / "debs/debian-bookworm-amd64").mkdir(parents=True)
    (bundle / "debs/debian-bookworm-amd64/Packages").write_text(PACKAGES)
    write_wheel(
        bundle / "wheels/lock/some_thing-1.0+cpu-py3-none-any.whl",
        "Metadata-Version: 2.1\nName: Some_Thing\nVersion: 1.0+cpu\nLicense-Expression: Apache-2.0\n\nLicense: no",
        LICENSE="be free",
        package__licenses__check="no licence of its own",
    )
    return bundle


def sealed(bundle):
    return succeeds(HERE, bundle_manifest, path=str(bundle), state="sealed", models=MODELS)


def refused(bundle):
    return fails(HERE, bundle_manifest, path=str(bundle), state="verified")


@pytest.mark.parametrize("interpreter", INTERPRETERS)
def test_sealed_once_and_then_found_whole(interpreter, bundle):
    options = {"path": str(bundle), "models": MODELS}
    assert succeeds(interpreter, bundle_manifest, state="sealed", _ansible_check_mode=True, **options)["written"] == []
    assert "no manifest of a whole bundle" in refused(bundle)
    assert succeeds(interpreter, bundle_manifest, state="sealed", **options)["written"][-1] == f"{bundle}/manifest.json"
    assert succeeds(interpreter, bundle_manifest, state="verified", **options)["changed"] is False
    assert succeeds(interpreter, bundle_manifest, state="sealed", **options)["changed"] is False


def test_what_it_is_made_of_has_names_versions_hashes_and_licences(bundle):
    sealed(bundle)
    about = json.loads((bundle / "components.cdx.json").read_text())
    found = {component["purl"]: component for component in about["components"]}
    assert set(found) == {
        "pkg:deb/debian/g%2B%2B@4%3A12.2.0-3?arch=amd64",
        "pkg:deb/debian/nginx@1.22.1-9%2Bdeb12u1?arch=amd64",
        "pkg:pypi/some-thing@1.0%2Bcpu",
        "pkg:huggingface/org/Llama@0123",
        "pkg:generic/mine@4567",
    }
    wheel = found["pkg:pypi/some-thing@1.0%2Bcpu"]
    assert wheel["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    assert (bundle / "licences/some_thing-1.0+cpu/LICENSE").read_text() == "be free"
    assert [path.name for path in (bundle / "licences/some_thing-1.0+cpu").iterdir()] == ["LICENSE"]


def test_a_file_that_is_not_as_it_was_is_named(bundle):
    sealed(bundle)
    wheel = next(bundle.glob("wheels/*/*.whl"))
    data = wheel.read_bytes()
    wheel.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert f"wheels/lock/{wheel.name}: its sha256 is" in refused(bundle)
    wheel.unlink()
    assert f"wheels/lock/{wheel.name}: missing" in refused(bundle)
    wheel.write_bytes(data)
    (bundle / "more").touch()
    assert "more: not in the manifest" in refused(bundle)


def test_a_link_is_refused(bundle):
    sealed(bundle)
    (bundle / "models").symlink_to("/etc")
    assert f"{bundle}/models: a link" in refused(bundle)


def test_a_manifest_of_another_time_is_refused(bundle):
    sealed(bundle)
    (bundle / "manifest.json").write_text('{"schema": 2, "files": []}')
    assert "schema 2, this collection reads 1" in refused(bundle)
