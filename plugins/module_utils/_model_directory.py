# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A directory that holds a model in the Hugging Face layout: which of its files an engine reads, and its shape."""

from __future__ import annotations

import json
import os
import re

from ansible_collections.gpufleet.serving.plugins.module_utils._model import ModelError, ModelShape
from ansible_collections.gpufleet.serving.plugins.module_utils._model_config import shape_from_config
from ansible_collections.gpufleet.serving.plugins.module_utils._safetensors import read_headers, weight_files

CONFIG = "config.json"
QUANTIZATION_CONFIG = "hf_quant_config.json"

SMALL_FILES = (".json", ".jinja", ".model", ".py", ".tiktoken", ".txt")
"""Endings of what an engine reads beside the weights: configuration, tokenizer, chat templates, remote code."""

TEMPLATE_DIRECTORY = "additional_chat_templates"

UNREAD = ("consolidated", "params.json", "pytorch_model.bin.index.json")
"""Beginnings of names that belong to weights in other formats than safetensors by Hugging Face's names."""

HUB_SNAPSHOT = re.compile(r"/models--[^/]+/snapshots/([0-9a-f]{40})/?$")
"""A directory in the hub's local cache, whose last part is the commit."""


def read_config(directory: str) -> dict:
    """Return config.json, with hf_quant_config.json as its quantization_config where only that one has it.

    Raises ModelError where config.json is missing or no JSON object, OSError where it cannot be read.
    """
    config = _read_object(directory, CONFIG)
    if config is None:
        raise ModelError(f"{directory}: holds no {CONFIG}: give the directory of a model in the Hugging Face layout")
    if not config.get("quantization_config"):
        config["quantization_config"] = _read_object(directory, QUANTIZATION_CONFIG)
    return config


def _read_object(directory: str, name: str) -> dict | None:
    path = os.path.join(directory, name)
    try:
        with open(path, "rb") as stream:
            value = json.loads(stream.read().decode("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ModelError(f"{path}: not JSON ({error}): copy it again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: a JSON {type(value).__name__} where an object belongs")
    return value


def read_shape(directory: str) -> ModelShape:
    """Return the shape of the model in `directory`, held against the headers of all its weights.

    Raises ModelError or SafetensorsError where it cannot be told, OSError where a file cannot be read.
    """
    config = read_config(directory)
    return shape_from_config(config, read_headers(directory, weight_files(directory)))


def engine_files(directory: str) -> list[str]:
    """Return the files that an engine reads, as paths inside `directory` with "/", sorted.

    These are the safetensors files (as `weight_files` selects them) and the small files of the layout; never hidden
    files, pickled weights, other formats, pictures or texts for people.
    """
    small = [name for name in _files(directory) if name.endswith(SMALL_FILES) and not name.startswith(UNREAD)]
    templates = [
        f"{TEMPLATE_DIRECTORY}/{name}"
        for name in _files(os.path.join(directory, TEMPLATE_DIRECTORY))
        if name.endswith(".jinja")
    ]
    return sorted(weight_files(directory) + small + templates)


def _files(directory: str) -> list[str]:
    if not os.path.isdir(directory):
        return []
    return [
        name
        for name in os.listdir(directory)
        if not name.startswith(".") and os.path.isfile(os.path.join(directory, name))
    ]


def hub_revision(directory: str) -> str | None:
    """Return the commit of a model in the hub's local cache, None for any other directory."""
    found = HUB_SNAPSHOT.search(os.path.abspath(directory))
    return found.group(1) if found else None
