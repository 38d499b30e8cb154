# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an argument spec cannot say about the options of the role gateway."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

KEY_LENGTH = 24
"""Characters of a key: 128 bits, written as base64url, are 22."""

# The bearer token of RFC 6750. No character of it ends a string, names a variable or opens a block in nginx.
KEY = re.compile(r"[A-Za-z0-9._~+/-]+=*")
KEY_WORDS = "letters, digits and -._~+/, and = at its end"
DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SERVED_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*")
HOST_NAME = re.compile(r"[A-Za-z0-9.:_-]+")
API_PATH = re.compile(r"/v1(?:/[A-Za-z0-9._-]+)+")
BODY_SIZE = re.compile(r"[0-9]+[kKmMgG]?")
WILDCARDS = ("*", "0.0.0.0", "::", "[::]", "")  # noqa: S104 - they are what is refused


def gateway_faults(options: Mapping[str, Any]) -> list[str]:
    """One sentence for each thing in the role's options that nginx could not serve, with what to change.

    ``options``: the options of the role by name, as its argument spec has them. No secret stands in a sentence.
    """
    return [
        *_model_faults(options["gateway_models"]),
        *_replica_faults(options["gateway_models"]),
        *_key_faults(options),
        *_tls_faults(options),
        *_listener_faults(options),
    ]


def _model_faults(models: list[Mapping[str, Any]]) -> Iterator[str]:
    names = [model["name"] for model in models]
    yield from _wrong(
        "model name", names, DNS_LABEL, "a DNS label: up to 63 lower-case letters, digits and inner hyphens"
    )
    yield from _repeated("model name", names)
    served = [model["served_model_name"] for model in models]
    yield from _wrong(
        "served_model_name", served, SERVED_NAME, "letters, digits and ._:/@+-, the first a letter or digit"
    )
    defaults = [model["name"] for model in models if model.get("default")]
    if len(defaults) > 1:
        yield f"Only one model can answer on /v1, and {', '.join(defaults)} all have default: true. Leave it at one."


def _replica_faults(models: list[Mapping[str, Any]]) -> Iterator[str]:
    for model in models:
        if not model["upstreams"]:
            yield f"Model {model['name']} has no upstreams. Give it a replica or leave it out of gateway_models."
    replicas = [replica for model in models for replica in model["upstreams"]]
    names = [replica["replica"] for replica in replicas]
    yield from _wrong(
        "replica name", names, DNS_LABEL, "a DNS label: up to 63 lower-case letters, digits and inner hyphens"
    )
    yield from _repeated("replica name", names)
    yield from _wrong(
        "replica address", [replica["address"] for replica in replicas], HOST_NAME, "an IP address or a host name"
    )
    yield from _repeated(
        "replica's address and port", [f"{replica['address']}:{replica['port']}" for replica in replicas]
    )
    for replica in replicas:
        if int(replica.get("weight", 1)) < 1:
            yield f"Replica {replica['replica']} has weight {replica['weight']}. A weight is 1 or more."


def _key_faults(options: Mapping[str, Any]) -> Iterator[str]:
    # YAML reads a name or key of digits alone as a number
    keys = [{part: str(key[part]) for part in ("name", "key")} for key in options["gateway_keys"]]
    if not keys and not options["gateway_public"]:
        yield (
            "gateway_keys is empty, so nobody could ask. Add [{name: <who>, key: <secret>}], or say gateway_public: "
            "true to serve everybody."
        )
    names = [key["name"] for key in keys]
    yield from _wrong("name in gateway_keys", names, KEY_NAME, "letters, digits and ._-, the first a letter or digit")
    yield from _repeated("name in gateway_keys", names)
    for key in keys:
        if len(key["key"]) < KEY_LENGTH:
            yield f"The key of {key['name']} is shorter than {KEY_LENGTH} characters. Make one: openssl rand -hex 24."
        if not KEY.fullmatch(key["key"]):
            yield f"The key of {key['name']} has characters that no bearer token has. Make it of {KEY_WORDS}."
    engine_key = str(options["gateway_engine_key"])
    yield from _engine_key_faults(engine_key)
    yield from _shared_key_faults([{"name": "gateway_engine_key", "key": engine_key}, *keys])


def _shared_key_faults(keys: list[dict[str, str]]) -> Iterator[str]:
    owners: dict[str, list[str]] = {}
    for key in keys:
        owners.setdefault(key["key"], []).append(key["name"])
    for sharers in owners.values():
        if len(sharers) > 1:
            yield f"The same key stands for {' and '.join(sharers)}. Give each its own."


def _engine_key_faults(engine_key: str) -> Iterator[str]:
    if not KEY.fullmatch(engine_key):
        yield (
            f"gateway_engine_key is {'not one that a bearer token can be' if engine_key else 'missing'}. "
            f"It is the key that the engines ask for, made of {KEY_WORDS}."
        )


def _tls_faults(options: Mapping[str, Any]) -> Iterator[str]:
    names = ("gateway_tls_certificate", "gateway_tls_private_key")
    given = [name for name in names if options[name]]
    if options["gateway_tls"] == "off":
        return
    if options["gateway_tls"] == "given" and not given:
        yield f"gateway_tls is given, and no certificate is. Set {' and '.join(names)}."
    elif len(given) == 1:
        yield f"{given[0]} is set alone. A certificate and its key go together: set {' and '.join(names)}."
    if options["gateway_tls"] == "given":
        for name in given:
            if not Path(options[name]).is_file():
                yield f"{name}: {options[name]} is no file on the controller."


def _listener_faults(options: Mapping[str, Any]) -> Iterator[str]:
    for name in ("gateway_listen_addresses", "gateway_server_name", "gateway_api_paths"):
        if not options[name]:
            yield f"{name} is empty. Leave it out for its default."
    names, paths = options["gateway_server_name"], options["gateway_api_paths"]
    yield from _wrong("name in gateway_server_name", names, HOST_NAME, "a host name or an IP address")
    yield from _wrong("path in gateway_api_paths", paths, API_PATH, "a path below /v1, which the engine guards")
    address, port = options["gateway_metrics_address"], options["gateway_metrics_port"]
    if address in WILDCARDS:
        yield (
            f"gateway_metrics_address is '{address}', and the metrics are not for everybody. Name the one address that "
            "is to be scraped."
        )
    if int(options["gateway_listen_port"]) == int(port):
        yield f"gateway_listen_port and gateway_metrics_port are both {port}. Give them ports of their own."
    size = options["gateway_client_max_body_size"]
    if not BODY_SIZE.fullmatch(size):
        yield f"gateway_client_max_body_size is '{size}'. Write a size as nginx does: 32m."


def _wrong(what: str, values: Iterable[str], pattern: re.Pattern[str], right: str) -> Iterator[str]:
    for value in values:
        if not pattern.fullmatch(str(value)):
            yield f"The {what} '{value}' will not do. It must be {right}."


def _repeated(what: str, values: Iterable[str]) -> Iterator[str]:
    for value, count in Counter(values).items():
        if count > 1:
            yield f"The {what} {value} stands there {count} times. Each must be its own."
