# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tables of rotary positions that every rank computes when it loads a model, and keeps.

A table has a row for each position and a cosine and a sine for each pair of rotated elements (vLLM 0.33,
model_executor/layers/rotary_embedding: base.py, yarn_scaling_rope.py, mrope.py). Start-up logs count it as weights:
those of models with 131,072 positions are 32 MiB above their parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.serving.plugins.module_utils._model_families import Family

PICTURE_POSITIONS = 4
"""Tables of models with positions in three dimensions have four times the rows (mrope.py)."""


def rotary_elements(config: Mapping, family: Family, head_dim: int) -> int:
    """Return the elements of all tables that a rank keeps."""
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    width = config.get("qk_rope_head_dim") or config.get("rotary_dim") or head_dim
    factor = config.get("partial_rotary_factor") or _flat(scaling).get("partial_rotary_factor") or 1
    if not config.get("qk_rope_head_dim") and not config.get("rotary_dim"):
        width = int(width * factor)
    return _positions(config, _flat(scaling)) * width * family.rotary_tables


def _positions(config: Mapping, scaling: Mapping[str, Any]) -> int:
    positions = config.get("max_position_embeddings") or config.get("model_max_length") or 0
    if scaling.get("mrope_section"):
        return positions * PICTURE_POSITIONS
    if "yarn" in (scaling.get("rope_type"), scaling.get("type")):
        return int((scaling.get("original_max_position_embeddings") or positions) * scaling.get("factor", 1))
    return positions


def _flat(scaling: Mapping) -> Mapping[str, Any]:
    """The parameters of a model's layers, of the first kind where each kind has its own."""
    kinds = [value for value in scaling.values() if isinstance(value, Mapping)]
    return kinds[0] if kinds else scaling
