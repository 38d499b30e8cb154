# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._findings import Findings
from ansible_collections.gpufleet.serving.plugins.plugin_utils._settings import read_settings


def settings_of(**given):
    findings = Findings()
    return read_settings({"gateway_key_names": ["team-a"]} | given, findings), findings


def test_settings_have_defaults():
    settings, findings = settings_of()
    assert not findings.refusals
    assert (settings.tier, settings.engine_port, settings.gateway_port) == (None, 8000, 443)
    assert settings.engine_versions == {"cpu": "0.32.0", "cuda": "0.33.0"}
    assert settings.scheme == "https"


def test_without_tls_the_front_door_is_on_port_80():
    settings, _findings = settings_of(gateway_tls="off")
    assert (settings.gateway_port, settings.scheme) == (80, "http")


def test_one_engine_version_can_be_changed_alone():
    settings, findings = settings_of(engine_versions={"cuda": "0.33.1"})
    assert not findings.refusals
    assert settings.engine_versions == {"cpu": "0.32.0", "cuda": "0.33.1"}


BAD_SETTINGS = [
    ({"teir": 3}, "unknown_option", "teir", "tier"),
    ({"tier": 6}, "bad_value", "fleet_tier", "from 1 to 5"),
    ({"tier": "high"}, "bad_value", "fleet_tier", "from 1 to 5"),
    ({"engine_port": 80}, "bad_value", "fleet_engine_port", "from 1024"),
    ({"gateway_port": 70000}, "bad_value", "fleet_gateway_port", "65535"),
    ({"gateway_port": 9145}, "port_clash", "fleet_gateway_metrics_port", "9145"),
    ({"engine_root": "opt"}, "bad_value", "engine_root", "text"),
    ({"engine_root": "/tmp/engine"}, "bad_value", "engine_root", "outside /tmp"),
    ({"model_store_root": "/"}, "bad_value", "model_store_root", "absolute path"),
    ({"engine_versions": {"gpu": "1"}}, "unknown_option", "fleet_engine_versions.gpu", "did you mean cpu?"),
    ({"engine_versions": {"cpu": "latest"}}, "bad_value", "fleet_engine_versions.cpu", "text"),
    ({"gateway_tls": "on"}, "bad_value", "gateway_tls", "selfsigned"),
    ({"gateway_key_names": []}, "no_gateway_key", "gateway_keys", "gateway_public: true"),
    ({"gateway_key_names": [""]}, "bad_name", "gateway_keys", "team-a"),
    ({"gateway_key_names": ["a b"]}, "bad_name", "gateway_keys", "team-a"),
    ({"gateway_key_names": ["a", "a"]}, "duplicate_key", "gateway_keys", "own name"),
    ({"lost_hosts": "gpu1"}, "bad_value", "fleet_lost_hosts", "a list"),
    ({"allow_restart": "perhaps"}, "bad_value", "fleet_allow_restart", "true or false"),
]


@pytest.mark.parametrize(("given", "code", "subject", "remedy"), BAD_SETTINGS)
def test_a_wrong_setting_is_refused_under_the_name_that_an_operator_writes(given, code, subject, remedy):
    _settings, findings = settings_of(**given)
    (refusal,) = findings.refusals
    assert (refusal.code, refusal.subject) == (code, subject)
    assert remedy in " ".join(refusal.remedies)


def test_without_keys_the_gateway_must_be_public_in_so_many_words():
    findings = Findings()
    read_settings({"gateway_public": True}, findings)
    assert not findings.refusals
