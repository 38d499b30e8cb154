# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A bundle: one directory with all that a fleet needs from outside, its manifest, its licences and what it is made of.

The manifest lists every file with its size and sha256. Nothing in it depends on when and where it was made.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ansible_collections.gpufleet.serving.plugins.module_utils._components import components
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
    with ThreadPoolExecutor(HASH_THREADS) as pool:
        return list(pool.map(partial(_record, bundle), files_of(bundle)))


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

    models: name, source, content_id of each set of weights. Every file is read once.
    """
    wheels = [os.path.join(bundle, path) for path in files_of(bundle) if path.endswith(".whl")]
    written = [path for wheel in wheels for path in _keep_licences(wheel, os.path.join(bundle, LICENCES))]
    records = {record.path: record for record in records_of(bundle)}
    written += _write(os.path.join(bundle, COMPONENTS), components(bundle, records.values(), models))
    records[COMPONENTS] = _record(bundle, COMPONENTS)
    return written + _write(os.path.join(bundle, MANIFEST), manifest(sorted(records.values())))


def _record(bundle: str, path: str) -> FileRecord:
    whole = os.path.join(bundle, path)
    return FileRecord(path, os.path.getsize(whole), sha256_of(whole))


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
