# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a bundle is made of, as CycloneDX 1.6 JSON (https://cyclonedx.org/docs/1.6/json/), by cyclonedx-python-lib.

The same bundle gives the same text, whenever and wherever that is made. ``IMPORT_ERROR`` says why the library cannot be
had, where it cannot: the rest of a bundle does without.
"""

from __future__ import annotations

import email.parser
import json
import os
import re
import traceback
import uuid
import zipfile
from collections.abc import Collection, Iterable, Iterator

from ansible_collections.gpufleet.serving.plugins.module_utils._content import FileRecord

IMPORT_ERROR: str | None = None
try:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from packageurl import PackageURL
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

LIBRARY = "cyclonedx-python-lib>=11"
PACKAGE_LIST = "Packages"

PINNED_FILES = "files/"
"""What is neither wheel nor package nor weights lies there: a Python, k3s, charts, archives of images."""


def components(bundle: str, files: Collection[FileRecord], models: Iterable[dict]) -> str:
    """Return the list of a bundle's components: wheels, Debian packages, other pinned files, and sets of weights.

    models: name, source, content_id of each set of weights.
    """
    found = {_wheel(bundle, file) for file in files if file.path.endswith(".whl")}
    found |= {_package(system, fields) for system, fields in _packages(bundle, files)}
    found |= {_pinned(file) for file in files if file.path.startswith(PINNED_FILES)}
    found |= {_model(model) for model in models}
    number = uuid.uuid5(uuid.NAMESPACE_OID, "\n".join(sorted(str(component.bom_ref) for component in found)))
    document = json.loads(JsonV1Dot6(Bom(components=found, serial_number=number)).output_as_string())
    # all that the library writes there is the time
    del document["metadata"]
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """Yield the packages of an index of apt, each with its fields; further lines of a field are left out."""
    for block in re.split(r"\n\s*\n", text.strip()):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(" "))
        if "Package" in fields:
            yield fields


def _packages(bundle: str, files: Iterable[FileRecord]) -> Iterator[tuple[str, dict[str, str]]]:
    """The packages in the indexes of a bundle, each with the system that it is for."""
    for file in files:
        if os.path.basename(file.path) == PACKAGE_LIST:
            system = os.path.basename(os.path.dirname(file.path))
            with open(os.path.join(bundle, file.path), encoding="utf-8") as stream:
                for fields in stanzas(stream.read()):
                    yield system, fields


def _sum(sha256: str) -> list[HashType]:
    return [HashType(alg=HashAlgorithm.SHA_256, content=sha256)]


def _wheel(bundle: str, file: FileRecord) -> Component:
    with zipfile.ZipFile(os.path.join(bundle, file.path)) as archive:
        (name,) = [name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)]
        about = email.parser.Parser().parsestr(archive.read(name).decode("utf-8", "replace"), headersonly=True)
    stated = about.get("License-Expression") or (about.get("License") or "").strip().split("\n")[0]
    classified = [
        line.rpartition(" :: ")[2] for line in about.get_all("Classifier", []) if line.startswith("License ::")
    ]
    licences = LicenseFactory()
    purl = PackageURL("pypi", name=about["Name"], version=about["Version"])
    return Component(
        type=ComponentType.LIBRARY,
        name=purl.name,
        version=purl.version,
        purl=purl,
        bom_ref=f"{purl}#{file.sha256}",
        hashes=_sum(str(file.sha256)),
        licenses=[licences.make_from_string(stated)] if stated else map(licences.make_with_name, classified),
    )


def _package(system: str, fields: dict[str, str]) -> Component:
    distribution = system.partition("-")[0]
    architecture = {"arch": fields["Architecture"]}
    purl = PackageURL("deb", distribution, fields["Package"], fields["Version"], architecture)
    return Component(
        type=ComponentType.LIBRARY,
        name=fields["Package"],
        version=fields["Version"],
        purl=purl,
        bom_ref=f"{purl}#{fields['SHA256']}",
        hashes=_sum(fields["SHA256"]),
    )


def _pinned(file: FileRecord) -> Component:
    """A file under its name; its sum is all that says which one it is."""
    name = os.path.basename(file.path)
    purl = PackageURL("generic", name=name, qualifiers={"checksum": f"sha256:{file.sha256}"})
    return Component(
        type=ComponentType.FILE,
        name=name,
        purl=purl,
        bom_ref=str(purl),
        hashes=_sum(str(file.sha256)),
    )


def _model(model: dict) -> Component:
    """Weights of a hub under their repository, others under their name in the inventory."""
    algorithm, _colon, identity = model["content_id"].partition(":")
    owner, _slash, repository = model["source"].partition("/")
    if algorithm == "git":
        name, purl = model["source"], PackageURL("huggingface", owner, repository, identity)
    else:
        name, purl = model["name"], PackageURL("generic", name=model["name"], version=identity)
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL, name=name, version=identity, purl=purl, bom_ref=str(purl)
    )
