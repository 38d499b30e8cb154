# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects of Kubernetes held against schemas: its own of the pinned minor, and ours for kinds that others define."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import kubernetes_validate.utils
from jsonschema import Draft202012Validator

MINOR = "1.35"
"""The minor of the k3s that the collection pins."""
# it would read the definitions of all kinds, some megabytes, for every object
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)
SCHEMAS = {
    (schema["properties"]["apiVersion"]["const"], schema["properties"]["kind"]["const"]): Draft202012Validator(schema)
    for schema in (json.loads(path.read_text()) for path in sorted(Path(__file__).parent.glob("schemas/*.json")))
}


def faults(found: dict[str, Any]) -> list[str]:
    """What is wrong with one object; empty where nothing is."""
    ours = SCHEMAS.get((str(found.get("apiVersion")), str(found.get("kind"))))
    if ours is None:
        return _built_in(found)
    wrong = [error.message for error in ours.iter_errors(found)]
    if not wrong and found["kind"] == "LeaderWorkerSet":
        templates = found["spec"]["leaderWorkerTemplate"]
        for role in ("leaderTemplate", "workerTemplate"):
            wrong += _built_in({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}} | templates[role])
    return wrong


def _built_in(found: dict[str, Any]) -> list[str]:
    try:
        kubernetes_validate.validate(found, MINOR, strict=True)
    except (
        kubernetes_validate.ValidationError,
        kubernetes_validate.SchemaNotFoundError,
        kubernetes_validate.InvalidSchemaError,
        KeyError,
    ) as error:
        return [f"{type(error).__name__}: {error}"]
    return []
