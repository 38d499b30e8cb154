# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle is sealed once and refused where it is not what was sealed."""

from __future__ import annotations

import hashlib
import json
import zipfile

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.gpufleet.serving.plugins.module_utils import _bundle
from ansible_collections.gpufleet.serving.plugins.modules import bundle_manifest
from ansible_collections.gpufleet.serving.tests.unit.plugins.modules.programs import INTERPRETERS, fails, succeeds
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

HERE = INTERPRETERS[0].values[0]
PACKAGES = """\
Package: g++
Version: 4:12.2.0-3
Architecture: amd64
Description: compiler
 With: a colon in its second line
SHA256: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa

Package: nginx
Version: 1.22.1-9+deb12u1
Architecture: amd64
SHA256: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
"""
K3S = hashlib.sha256(b"foo").hexdigest()
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
    (bundle / "files/2c26b46b68ff").mkdir(parents=True)
    (bundle / "files/2c26b46b68ff/k3s").write_text("foo")
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
    assert succeeds(HERE, bundle_manifest, state="sealed", _ansible_check_mode=True, **options)["written"] == []
    assert "no manifest of a whole bundle" in refused(bundle)
    assert sealed(bundle)["written"][-1] == f"{bundle}/manifest.json"
    assert succeeds(interpreter, bundle_manifest, state="verified", **options)["changed"] is False
    assert sealed(bundle)["changed"] is False


def test_every_file_is_read_once(bundle, monkeypatch):
    read = []
    monkeypatch.setattr(_bundle, "sha256_of", lambda path: read.append(path) or "0" * 64)
    _bundle.seal(str(bundle), MODELS)
    assert sorted(read) == sorted(set(read)), "a wheel has gibibytes"
    assert any(path.endswith(".whl") for path in read)


def test_without_the_library_nothing_is_sealed_and_all_is_verified(bundle, monkeypatch, capsys):
    sealed(bundle)
    monkeypatch.setattr(bundle_manifest, "IMPORT_ERROR", "No module named 'cyclonedx'")
    for state, check, code in [("sealed", True, 1), ("sealed", False, 1), ("verified", False, 0)]:
        options = {"path": str(bundle), "state": state, "_ansible_check_mode": check}
        with patch_module_args(options), pytest.raises(SystemExit) as ended:
            bundle_manifest.main()
        assert ended.value.code == code
        assert ("(cyclonedx-python-lib>=11)" in json.loads(capsys.readouterr().out).get("msg", "")) == (code == 1)


def test_the_list_of_components_keeps_to_the_strict_schema_of_cyclonedx(bundle):
    sealed(bundle)
    told = (bundle / "components.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(told) is None
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(told.replace('"library"', '"libary"'))


def test_the_same_files_give_the_same_list(bundle):
    sealed(bundle)
    first = (bundle / "components.cdx.json").read_text()
    (bundle / "components.cdx.json").unlink()
    sealed(bundle)
    assert (bundle / "components.cdx.json").read_text() == first


@pytest.mark.parametrize(
    ("metadata", "licences"),
    [
        ("License-Expression: Apache-2.0\nLicense: no", [{"license": {"id": "Apache-2.0"}}]),
        ("License-Expression: MIT OR Apache-2.0", [{"expression": "MIT OR Apache-2.0"}]),
        ("License: Modified BSD\n  in full", [{"license": {"name": "Modified BSD"}}]),
        (
            "Classifier: License :: OSI Approved :: MIT License\nClassifier: License :: Freeware",
            [{"license": {"name": "Freeware"}}, {"license": {"name": "MIT License"}}],
        ),
        ("Summary: of none", None),
    ],
)
def test_licences_are_what_the_wheel_says_of_itself(bundle, metadata, licences):
    wheel = next(bundle.glob("wheels/*/*.whl"))
    write_wheel(wheel, f"Metadata-Version: 2.1\nName: Some_Thing\nVersion: 1.0+cpu\n{metadata}\n")
    sealed(bundle)
    told = (bundle / "components.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(told) is None
    (listed,) = [found for found in json.loads(told)["components"] if found["name"] == "some-thing"]
    assert listed.get("licenses") == licences


def test_what_it_is_made_of_has_names_versions_hashes_and_licences(bundle):
    sealed(bundle)
    about = json.loads((bundle / "components.cdx.json").read_text())
    found = {component["purl"]: component for component in about["components"]}
    assert set(found) == {
        "pkg:deb/debian/g%2B%2B@4:12.2.0-3?arch=amd64",
        "pkg:deb/debian/nginx@1.22.1-9%2Bdeb12u1?arch=amd64",
        "pkg:pypi/some-thing@1.0%2Bcpu",
        "pkg:huggingface/org/Llama@0123",
        "pkg:generic/mine@4567",
        f"pkg:generic/k3s?checksum=sha256:{K3S}",
    }
    wheel = found["pkg:pypi/some-thing@1.0%2Bcpu"]
    digest = hashlib.sha256(next(bundle.glob("wheels/*/*.whl")).read_bytes()).hexdigest()
    assert wheel["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert wheel["hashes"] == [{"alg": "SHA-256", "content": digest}]
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
