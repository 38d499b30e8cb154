# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things lie in a bundle, one directory on the controller with all that a fleet needs from outside."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from typing import Any

DIGEST_CHARACTERS = 12
"""How much of a file's sha256 names its folder: enough to keep two files of one name apart."""


def weights_folder(bundle: str, name: str) -> str:
    """The folder of a model's weights, by the name that the inventory has for it."""
    return f"{bundle.rstrip('/')}/models/{name}"


def from_bundle(models: Iterable[Mapping[str, Any]], bundle: str) -> list[dict[str, Any]]:
    """The models of the role ``model_store``, those that are brought to hosts each as a folder of the bundle.

    What a model is stays the same: its ``content_id``, and so its path on the host.
    """
    return [
        {**model}
        if model["source_kind"] == "host"
        else {**model, "source_kind": "controller", "source": weights_folder(bundle, model["name"])}
        for model in models
    ]


def file_from_bundle(file: Mapping[str, str], bundle: str) -> dict[str, str]:
    """A file ``{source, sha256}`` as it lies in the bundle, under its own name; without bundle or source as it is.

    source: an address or a path on the controller.
    """
    if not bundle or not file["source"]:
        return {**file}
    name = posixpath.basename(file["source"].partition("?")[0])
    place = f"{bundle.rstrip('/')}/files/{file['sha256'][:DIGEST_CHARACTERS]}/{name}"
    return {**file, "source": place}
