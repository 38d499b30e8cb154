# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Widely used open models by hub id: enough to plan them with no file at hand.

A row of `_model_catalogue_rows` is the config.json of its first name, reduced to what decides sizes; the other names
have the same. Two things vouch for it: `source`, where that config.json was read, and `stored_bytes`, the size of the
stored weights as the checkpoint announces it, which the dimensions must give to the byte.
"""

from __future__ import annotations

import dataclasses
import difflib

from ansible_collections.gpufleet.serving.plugins.module_utils._model import ModelError, ModelShape
from ansible_collections.gpufleet.serving.plugins.module_utils._model_catalogue_rows import ROWS, Row
from ansible_collections.gpufleet.serving.plugins.module_utils._model_config import shape_from_config


class UnknownModelError(ModelError):
    """The catalogue does not hold this hub id."""


BY_NAME = {name: row for row in ROWS for name in row.names}


def lookup(name: str) -> Row:
    """Return the row of a hub id. Raises UnknownModelError with the nearest ids that the catalogue holds."""
    if name in BY_NAME:
        return BY_NAME[name]
    near = nearest(name)
    hint = f"nearest: {', '.join(near)}" if near else f"it holds {len(BY_NAME)} models, none with a similar name"
    raise UnknownModelError(
        f"the built-in catalogue has no model {name} ({hint}). "
        "Give a directory with its config.json and weights instead"
    )


def nearest(name: str, count: int = 3) -> list[str]:
    """Return up to `count` ids of the catalogue that look like `name`, the best first, whatever case and owner."""
    wanted = name.lower().split("/")[-1]
    short = {known.lower().split("/")[-1]: known for known in BY_NAME}
    return [short[match] for match in difflib.get_close_matches(wanted, short, n=count, cutoff=0.6)]


def shape(name: str) -> ModelShape:
    """Return the shape of a hub id. Raises UnknownModelError."""
    row = lookup(name)
    return dataclasses.replace(shape_from_config(row.config), weight_bytes=row.stored_bytes, provenance="catalogue")
