# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bundle: one directory with all that a fleet needs from outside, its manifest, its licences and what it is made of.

The manifest lists every file with its size and sha256. The list of components is CycloneDX 1.6 JSON
(https://cyclonedx.org/docs/1.6/json/), with package URLs (https://github.com/package-url/purl-spec). Nothing in either
depends on the time or the place where it was made. Standard library alone.
"""

from __future__ import annotations

import email.parser
import json
import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from ansible_collections.gpufleet.serving.plugins.module_utils._content import (
    ContentError,
    FileRecord,
    sha256_of,
    write_durably,
)

MANIFEST, COMPONENTS, LICENCES = "manifest.json", "components.cdx.json", "licences"
SCHEMA = 1
HASH_THREADS = 4
LICENCE_FILE = re.compile(
    r"(?:^|/)(?:LICEN[CS]E|COPYING|NOTICE|AUTHORS)[^/]*$|\.dist-info/licenses/.*[^/]$", re.IGNORECASE
)


def files_of(bundle: str) -> list[str]:
    """Return the paths inside a bundle of all of its files but the manifest, sorted. Raises ContentError for a link."""
    found = []
    for parent, folders, names in os.walk(bundle):
        for name in (*folders, *names):
            if os.path.islink(os.path.join(parent, name)):
                raise ContentError(f"{os.path.join(parent, name)}: a link; a bundle holds files alone")
        found += [os.path.relpath(os.path.join(parent, name), bundle) for name in names]
    return sorted(set(found) - {MANIFEST})


def records_of(bundle: str) -> list[FileRecord]:
    """Return every file of a bundle but the manifest, with its size in bytes and sha256."""
    paths = files_of(bundle)
    with ThreadPoolExecutor(HASH_THREADS) as pool:
        sums = pool.map(sha256_of, (os.path.join(bundle, path) for path in paths))
        return [
            FileRecord(path, os.path.getsize(os.path.join(bundle, path)), digest) for path, digest in zip(paths, sums)
        ]


def manifest(records: Iterable[FileRecord]) -> str:
    """Return the text of a manifest."""
    files = [{"path": record.path, "size": record.size, "sha256": record.sha256} for record in records]
    return json.dumps({"schema": SCHEMA, "files": files}, indent=1, sort_keys=True) + "\n"


def read_manifest(bundle: str) -> list[FileRecord]:
    """Return what a bundle's manifest lists. Raises ContentError where there is none that can be read."""
    path = os.path.join(bundle, MANIFEST)
    try:
        with open(path, encoding="utf-8") as stream:
            plain = json.load(stream)
        if plain["schema"] != SCHEMA:
            raise ContentError(f"{path}: schema {plain['schema']}, this collection reads {SCHEMA}: bundle anew with it")
        return [FileRecord(str(file["path"]), int(file["size"]), str(file["sha256"])) for file in plain["files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ContentError(f"{path}: no manifest of a whole bundle ({error}): run bundle.yml to its end") from None


def faults(bundle: str) -> list[str]:
    """Return what in a bundle is not as its manifest says, a sentence a file; reads all of it."""
    listed = {record.path: record for record in read_manifest(bundle)}
    present = {record.path: record for record in records_of(bundle)}
    missing = [f"{path}: missing" for path in listed if path not in present]
    unknown = [f"{path}: not in the manifest" for path in present if path not in listed]
    changed = [
        f"{path}: its sha256 is {present[path].sha256}, the manifest says {record.sha256}"
        for path, record in listed.items()
        if path in present and present[path] != record
    ]
    return sorted(missing + unknown + changed)


def seal(bundle: str, models: Iterable[dict]) -> list[str]:
    """Write licences, components and, last of all, the manifest. Returns the files that were written anew.

    models: name, source, content_id of each set of weights.
    """
    wheels = [os.path.join(bundle, path) for path in files_of(bundle) if path.endswith(".whl")]
    written = [path for wheel in wheels for path in _keep_licences(wheel, os.path.join(bundle, LICENCES))]
    listed = components(wheels, _package_lists(bundle), models)
    written += _write(os.path.join(bundle, COMPONENTS), json.dumps(listed, indent=1, sort_keys=True) + "\n")
    return written + _write(os.path.join(bundle, MANIFEST), manifest(records_of(bundle)))


def components(wheels: Iterable[str], packages: Iterable[tuple[str, str]], models: Iterable[dict]) -> dict[str, Any]:
    """Return CycloneDX of wheels by their paths, Debian packages by (distribution, their index's text), and weights."""
    found = [_wheel(path) for path in wheels]
    found += [_package(system, stanza) for system, text in packages for stanza in stanzas(text)]
    found += [_model(model) for model in models]
    unique = {component["purl"] + component.get("hashes", [{}])[0].get("content", ""): component for component in found}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "components": [unique[key] for key in sorted(unique)],
    }


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the packages of an index of apt, each with its fields; further lines of a field are left out."""
    for block in re.split(r"\n\s*\n", text.strip()):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(" "))
        if "Package" in fields:
            yield fields


def _wheel(path: str) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        (name,) = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        about = email.parser.Parser().parsestr(archive.read(name).decode("utf-8", "replace"), headersonly=True)
    licence = about.get("License-Expression") or (about.get("License") or "").strip().split("\n")[0]
    classifiers = [
        line.rpartition(" :: ")[2] for line in about.get_all("Classifier", []) if line.startswith("License ::")
    ]
    project = re.sub(r"[-_.]+", "-", about["Name"]).lower()
    return {
        "type": "library",
        "name": project,
        "version": about["Version"],
        "purl": f"pkg:pypi/{project}@{quote(about['Version'], safe='')}",
        "hashes": [{"alg": "SHA-256", "content": sha256_of(path)}],
        **_licensed([licence] if licence else classifiers),
    }


def _package(system: str, fields: dict[str, str]) -> dict[str, Any]:
    distribution = system.partition("-")[0]
    version = quote(fields["Version"], safe="")
    return {
        "type": "library",
        "name": fields["Package"],
        "version": fields["Version"],
        "purl": f"pkg:deb/{distribution}/{quote(fields['Package'], safe='')}@{version}?arch={fields['Architecture']}",
        "hashes": [{"alg": "SHA-256", "content": fields["SHA256"]}],
    }


def _model(model: dict) -> dict[str, Any]:
    identity = model["content_id"].partition(":")[2]
    kind = "huggingface" if model["content_id"].startswith("git:") else "generic"
    name = model["source"] if kind == "huggingface" else model["name"]
    return {
        "type": "machine-learning-model",
        "name": name,
        "version": identity,
        "purl": f"pkg:{kind}/{quote(name)}@{identity}",
    }


def _licensed(names: list[str]) -> dict[str, Any]:
    return {"licenses": [{"license": {"name": name}} for name in names]} if names else {}


def _package_lists(bundle: str) -> list[tuple[str, str]]:
    """The indexes of a bundle's packages, each with the system that they are for."""
    found = []
    for path in files_of(bundle):
        if os.path.basename(path) == "Packages":
            with open(os.path.join(bundle, path), encoding="utf-8") as stream:
                found.append((os.path.basename(os.path.dirname(path)), stream.read()))
    return found


def _keep_licences(wheel: str, folder: str) -> list[str]:
    """Put the licences of a wheel beside those of the others."""
    project = "-".join(os.path.basename(wheel).split("-")[:2])
    written = []
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(filter(LICENCE_FILE.search, archive.namelist())):
            if name.endswith(("/", ".py", ".pyc")):
                continue
            path = os.path.join(folder, project, name.replace("/", "_"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            written += _write(path, archive.read(name).decode("utf-8", "replace"))
    return written


def _write(path: str, text: str) -> list[str]:
    """Write a file where it has not this text; returns its path if so."""
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            if stream.read() == text:
                return []
    except OSError:
        pass
    write_durably(path, text)
    return [path]
