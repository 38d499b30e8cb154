# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._gateway import gateway_faults

KEY = "k" * 24
TOKEN = "letters, digits and -._~+/, and = at its end."
NAME = "the first a letter or digit."
LABEL = "It must be a DNS label: up to 63 lower-case letters, digits and inner hyphens."


def replica(name="llama-0", port=8000, **more):
    return {"replica": name, "address": "10.0.0.1", "port": port, **more}


def model(name="llama", upstreams=None, **more):
    return {
        "name": name,
        "served_model_name": name,
        "upstreams": [replica()] if upstreams is None else upstreams,
        **more,
    }


def options(**changes):
    return {
        "gateway_models": [model(default=True)],
        "gateway_keys": [{"name": "team-a", "key": KEY}],
        "gateway_public": False,
        "gateway_engine_key": "engine",
        "gateway_tls": "selfsigned",
        "gateway_tls_certificate": "",
        "gateway_tls_private_key": "",
        "gateway_listen_addresses": ["*"],
        "gateway_listen_port": 443,
        "gateway_metrics_address": "127.0.0.1",
        "gateway_metrics_port": 9145,
        "gateway_server_name": ["gw.example.org", "10.0.0.9", "fd00::9"],
        "gateway_api_paths": ["/v1/chat/completions"],
        "gateway_client_max_body_size": "32m",
        **changes,
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gateway_keys": [], "gateway_public": True},
        {"gateway_tls": "off"},
        {"gateway_tls_certificate": "/not/made/yet.crt", "gateway_tls_private_key": "/not/made/yet.key"},
        {
            "gateway_models": [
                model(default=True),
                model("qwen", [replica("qwen-0", 8001), replica("qwen-1", 8002, weight=3)]),
            ]
        },
        {"gateway_models": [model(served_model_name="meta-llama/Llama-3.1-70B-Instruct")]},
        {"gateway_keys": [{"name": 1, "key": int("9" * 24)}]},
        {"gateway_keys": [{"name": "Team_A.1", "key": "AZaz09._~+/-" + KEY + "=="}]},
    ],
)
def test_good_options_have_no_faults(changes):
    assert gateway_faults(options(**changes)) == []


@pytest.mark.parametrize(
    "changes, fault",
    [
        ({"gateway_models": [model("Llama")]}, "The model name 'Llama' will not do. " + LABEL),
        ({"gateway_models": [model("a;b", served_model_name="a")]}, "The model name 'a;b' will not do. " + LABEL),
        (
            {"gateway_models": [model(), model(upstreams=[replica("b", 1)])]},
            "The model name llama stands there 2 times. Each must be its own.",
        ),
        (
            {"gateway_models": [model(served_model_name="a'b$c")]},
            "The served_model_name 'a'b$c' will not do. It must be letters, digits and ._:/@+-, " + NAME,
        ),
        (
            {"gateway_models": [model(default=True), model("b", [replica("b-0", 1)], default=True)]},
            "Only one model can answer on /v1, and llama, b all have default: true. Leave it at one.",
        ),
        (
            {"gateway_models": [model(upstreams=[])]},
            "Model llama has no upstreams. Give it a replica or leave it out of gateway_models.",
        ),
        (
            {"gateway_models": [model(upstreams=[replica(), replica(port=1)])]},
            "The replica name llama-0 stands there 2 times. Each must be its own.",
        ),
        (
            {"gateway_models": [model(upstreams=[replica(), replica("llama-1")])]},
            "The replica's address and port 10.0.0.1:8000 stands there 2 times. Each must be its own.",
        ),
        ({"gateway_models": [model(upstreams=[replica("x/y")])]}, "The replica name 'x/y' will not do. " + LABEL),
        (
            {"gateway_models": [model(upstreams=[replica(address="a b")])]},
            "The replica address 'a b' will not do. It must be an IP address or a host name.",
        ),
        (
            {"gateway_models": [model(upstreams=[replica(weight=0)])]},
            "Replica llama-0 has weight 0. A weight is 1 or more.",
        ),
        (
            {"gateway_keys": []},
            "gateway_keys is empty, so nobody could ask. Add [{name: <who>, key: <secret>}], or say gateway_public: "
            "true to serve everybody.",
        ),
        (
            {"gateway_keys": [{"name": 'a"b', "key": KEY}]},
            "The name in gateway_keys 'a\"b' will not do. It must be letters, digits and ._-, " + NAME,
        ),
        (
            {"gateway_keys": [{"name": "a", "key": KEY}, {"name": "a", "key": KEY + "2"}]},
            "The name in gateway_keys a stands there 2 times. Each must be its own.",
        ),
        (
            {"gateway_keys": [{"name": "a", "key": "short"}]},
            "The key of a is shorter than 24 characters. Make one: openssl rand -hex 24.",
        ),
        (
            {"gateway_keys": [{"name": "a", "key": KEY + '"; }'}]},
            "The key of a has characters that no bearer token has. Make it of " + TOKEN,
        ),
        (
            {"gateway_keys": [{"name": "a", "key": KEY}, {"name": "b", "key": KEY}]},
            "The same key stands for a and b. Give each its own.",
        ),
        ({"gateway_engine_key": KEY}, "The same key stands for gateway_engine_key and team-a. Give each its own."),
        (
            {"gateway_engine_key": ""},
            "gateway_engine_key is missing. It is the key that the engines ask for, made of " + TOKEN,
        ),
        (
            {"gateway_engine_key": "a b"},
            "gateway_engine_key is not one that a bearer token can be. It is the key that the engines ask for, made of "
            + TOKEN,
        ),
        (
            {"gateway_tls": "given"},
            "gateway_tls is given, and no certificate is. Set gateway_tls_certificate and gateway_tls_private_key.",
        ),
        (
            {"gateway_tls_certificate": "/a.crt"},
            "gateway_tls_certificate is set alone. A certificate and its key go together: set gateway_tls_certificate "
            "and gateway_tls_private_key.",
        ),
        ({"gateway_listen_addresses": []}, "gateway_listen_addresses is empty. Leave it out for its default."),
        (
            {"gateway_server_name": ["a b"]},
            "The name in gateway_server_name 'a b' will not do. It must be a host name or an IP address.",
        ),
        (
            {"gateway_api_paths": ["/tokenize"]},
            "The path in gateway_api_paths '/tokenize' will not do. It must be a path below /v1, which the engine "
            "guards.",
        ),
        (
            {"gateway_metrics_address": "0.0.0.0"},
            "gateway_metrics_address is '0.0.0.0', and the metrics are not for everybody. Name the one address that is "
            "to be scraped.",
        ),
        (
            {"gateway_metrics_port": 443},
            "gateway_listen_port and gateway_metrics_port are both 443. Give them ports of their own.",
        ),
        (
            {"gateway_client_max_body_size": "32 MiB"},
            "gateway_client_max_body_size is '32 MiB'. Write a size as nginx does: 32m.",
        ),
    ],
)
def test_each_fault_is_one_sentence_with_its_remedy(changes, fault):
    assert gateway_faults(options(**changes)) == [fault]


def test_given_files_must_be_there(tmp_path):
    certificate = tmp_path / "gateway.crt"
    certificate.write_text("")
    paths = {"gateway_tls_certificate": str(certificate), "gateway_tls_private_key": str(tmp_path / "gateway.key")}
    assert gateway_faults(options(gateway_tls="given", **paths)) == [
        f"gateway_tls_private_key: {tmp_path}/gateway.key is no file on the controller."
    ]


def test_all_faults_are_told_at_once_and_no_key_is_in_any():
    secret = "the-very-secret-key-of-x'"
    faults = gateway_faults(
        options(
            gateway_keys=[{"name": "x", "key": secret}, {"name": "x", "key": secret}],
            gateway_engine_key=secret,
            gateway_models=[model("A")],
        )
    )
    assert len(faults) >= 5
    assert not any(secret in fault for fault in faults)
