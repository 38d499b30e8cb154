# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where weights lie in a bundle, one directory on the controller with all that a fleet needs from outside."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


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
