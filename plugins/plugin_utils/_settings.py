# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The settings: what holds for the whole fleet, checked, each under the name that an operator writes for it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Any

from ._findings import Findings
from ._reading import Reader, shown
from ._text import repeated

KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
PATH = r"/[A-Za-z0-9._/+@=:,-]*"
"""An absolute path that needs no quoting in a unit."""
PRIVATE_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
"""Of these each engine's unit sees its own, so that nothing can be handed to it there."""

SETTING_WORDS = {
    "inventory_name": "inventory_name",
    "tier": "fleet_tier",
    "engine_versions": "fleet_engine_versions",
    "engine_root": "engine_root",
    "model_store_root": "model_store_root",
    "engine_port": "fleet_engine_port",
    "master_port": "fleet_master_port",
    "ray_port": "fleet_ray_port",
    "gateway_port": "fleet_gateway_port",
    "gateway_metrics_port": "fleet_gateway_metrics_port",
    "scrapers": "fleet_scrapers",
    "gateway_public": "gateway_public",
    "gateway_key_names": "gateway_keys",
    "gateway_tls": "gateway_tls",
    "allow_unpinned_models": "fleet_allow_unpinned_models",
    "allow_unreachable": "fleet_allow_unreachable",
    "lost_hosts": "fleet_lost_hosts",
    "allow_restart": "fleet_allow_restart",
    "allow_tier_change": "fleet_allow_tier_change",
    "host_stacks": "host_stack.json",
    "adopt_measured": "fleet_adopt_measured",
    "k3s_manage": "fleet_k3s_manage",
}
"""Each setting and the variable that an operator writes for it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for the whole fleet. ``tier`` is an upper bound; None is ``auto``.

    engine_port, master_port, ray_port: the first of the blocks that engines listen on, that groups of hosts meet at,
    and that Ray clusters have for themselves; all below where Linux takes ports for programs that name none.
    scrapers: the networks that may read the front door's metrics. k3s_manage: whether the cluster is
    brought; otherwise it is somebody else's.
    """

    inventory_name: str = "fleet"
    tier: int | None = None
    engine_versions: dict[str, str] = field(default_factory=lambda: {"cpu": "0.32.0", "cuda": "0.33.0"})
    engine_root: str = "/opt/gpufleet/engine"
    model_store_root: str = "/var/lib/gpufleet/models"
    engine_port: int = 8000
    master_port: int = 29501
    ray_port: int = 20000
    gateway_port: int = 443
    gateway_metrics_port: int = 9145
    scrapers: tuple[str, ...] = ()
    gateway_public: bool = False
    gateway_key_names: tuple[str, ...] = ()
    gateway_tls: str = "selfsigned"
    allow_unpinned_models: bool = False
    allow_unreachable: bool = False
    lost_hosts: tuple[str, ...] = ()
    allow_restart: bool = False
    allow_tier_change: bool = False
    host_stacks: dict[str, Any] = field(default_factory=dict)
    adopt_measured: bool = False
    k3s_manage: bool = True

    @property
    def scheme(self) -> str:
        return "http" if self.gateway_tls == "off" else "https"


def read_settings(value: Any, findings: Findings) -> Settings:
    """The settings, each with its default. ``value``: a mapping with the keys of ``SETTING_WORDS``, or None."""
    reader = _SettingsReader({} if value is None else value, "settings", findings, SETTING_WORDS)
    defaults = Settings()
    tls = reader.choice("gateway_tls", {"selfsigned", "given", "off"}, defaults.gateway_tls)
    settings = Settings(
        inventory_name=reader.text("inventory_name") or defaults.inventory_name,
        tier=None if reader.get("tier") == "auto" else reader.integer("tier", least=1, most=5),
        engine_versions={**defaults.engine_versions, **_versions(reader)},
        engine_root=_absolute(reader, "engine_root", defaults.engine_root),
        model_store_root=_absolute(reader, "model_store_root", defaults.model_store_root),
        engine_port=reader.integer("engine_port", least=1024, most=65535) or defaults.engine_port,
        master_port=reader.integer("master_port", least=1024, most=65535) or defaults.master_port,
        ray_port=reader.integer("ray_port", least=1024, most=65535) or defaults.ray_port,
        gateway_port=reader.integer("gateway_port", most=65535) or (80 if tls == "off" else 443),
        gateway_metrics_port=reader.integer("gateway_metrics_port", most=65535) or defaults.gateway_metrics_port,
        scrapers=_networks(reader, "scrapers"),
        gateway_public=reader.flag("gateway_public"),
        gateway_key_names=reader.texts("gateway_key_names"),
        gateway_tls=tls,
        allow_unpinned_models=reader.flag("allow_unpinned_models"),
        allow_unreachable=reader.flag("allow_unreachable"),
        lost_hosts=reader.texts("lost_hosts"),
        allow_restart=reader.flag("allow_restart"),
        allow_tier_change=reader.flag("allow_tier_change"),
        host_stacks=reader.mapping("host_stacks"),
        adopt_measured=reader.flag("adopt_measured"),
        k3s_manage=reader.flag("k3s_manage", default=True),
    )
    _check_front_door(settings, findings)
    return settings


class _SettingsReader(Reader):
    """Names a setting by the variable that the operator wrote."""

    def at(self, key: str) -> str:
        word, bracket, position = key.partition("[")
        return f"{SETTING_WORDS.get(word, word)}{bracket}{position}" or self.path


def _versions(reader: Reader) -> dict[str, str]:
    versions = Reader(reader.mapping("engine_versions"), reader.at("engine_versions"), reader.findings, ("cpu", "cuda"))
    found = {variant: versions.text(variant, pattern=r"[0-9][\w.+-]*") for variant in ("cpu", "cuda")}
    return {variant: version for variant, version in found.items() if version}


def _networks(reader: Reader, key: str) -> tuple[str, ...]:
    """IP addresses and networks, in one spelling and order."""
    found = set()
    for position, text in enumerate(reader.texts(key)):
        try:
            found.add(ipaddress.ip_network(text))
        except ValueError:
            reader.wrong(f"{key}[{position}]", text, "an IP address or network, such as 10.0.0.5 or 10.1.0.0/24")
    return tuple(_network(network) for network in sorted(found, key=lambda network: (network.version, network)))


def _network(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """A network, or the address alone where it has but one."""
    return str(network.network_address if network.num_addresses == 1 else network)


def _absolute(reader: Reader, key: str, default: str) -> str:
    path = (reader.text(key, default, pattern=PATH) or default).rstrip("/")
    if not path or is_private(path):
        reader.wrong(key, path or "/", "an absolute path outside /tmp, /var/tmp and /dev/shm")
        return default
    return path


def is_private(path: str) -> bool:
    """Whether a path lies where every unit has a folder of its own."""
    return any(path == folder or path.startswith(f"{folder}/") for folder in PRIVATE_FOLDERS)


def _check_front_door(settings: Settings, findings: Findings) -> None:
    if settings.gateway_port == settings.gateway_metrics_port:
        findings.refuse(
            "port_clash",
            "fleet_gateway_metrics_port",
            f"is {settings.gateway_metrics_port}, and so is fleet_gateway_port",
            "give the gateway's metrics a port of their own (9145 by default)",
        )
    if not settings.gateway_key_names and not settings.gateway_public:
        findings.refuse(
            "no_gateway_key",
            "gateway_keys",
            "is empty, so that whoever reaches the gateway could use it",
            "add one key at least: gateway_keys: [{name: team-a, key: ...}]",
            "or say gateway_public: true, to serve without keys",
        )
    for name in settings.gateway_key_names:
        if not KEY_NAME.fullmatch(name):
            findings.refuse(
                "bad_name",
                "gateway_keys",
                f"has a key named {shown(name)}" if name else "has a key without a name",
                "give each key a name of letters, digits and ._-, such as team-a",
            )
    for name in repeated(settings.gateway_key_names):
        findings.refuse("duplicate_key", "gateway_keys", f"names {name} twice", "give each key its own name")
