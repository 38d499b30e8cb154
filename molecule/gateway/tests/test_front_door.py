# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets in, to what, and what of it is written down."""

from __future__ import annotations

import json
import socket
import ssl
from dataclasses import replace

import pytest
from gateway_host import ADDRESS, ENGINE_KEY, KEYS
from gateway_load import Endpoint, ask

SECRETS = [*KEYS.values(), ENGINE_KEY]


@pytest.mark.parametrize("name", ["gateway-1", ADDRESS])
def test_the_certificate_holds_for_the_gateways_name_and_address(tls, name):
    with socket.create_connection((ADDRESS, 443)) as plain, tls.wrap_socket(plain, server_hostname=name) as connection:
        assert connection.version() == "TLSv1.3"


def test_it_holds_for_no_other_name(tls):
    with socket.create_connection((ADDRESS, 443)) as plain, pytest.raises(ssl.SSLCertVerificationError):
        tls.wrap_socket(plain, server_hostname="gateway-2")


def test_a_client_that_does_not_trust_the_authority_is_not_served(complete, front):
    answer = complete(endpoint=replace(front, tls=ssl.create_default_context()))
    assert answer.status is None
    assert "CERTIFICATE_VERIFY_FAILED" in answer.error


def test_plain_http_is_not_served(front):
    assert ask(replace(front, tls=None), "GET", "/v1/models").status == 400


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer no-such-key-no-such-key-no",
        f"Bearer {KEYS['team-a'].lower()}",
        f"Bearer {KEYS['team-a']}x",
        f"Basic {KEYS['team-a']}",
        f"Bearer {ENGINE_KEY}",
    ],
)
@pytest.mark.parametrize(
    "method, path", [("GET", "/v1/models"), ("POST", "/v1/completions"), ("POST", "/m/other/v1/completions")]
)
def test_a_stranger_is_refused_as_openai_refuses(front, method, path, authorization):
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = ask(replace(front, key=""), method, path, {"model": "org/tiny"}, headers)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_every_key_is_let_in(front, complete, key):
    assert complete(endpoint=replace(front, key=key)).ok


def test_the_engine_sees_its_own_key_and_never_the_clients(complete, engines):
    before = [len(engine.seen()) for engine in engines]
    for _ in range(8):
        assert complete(headers={"X-Api-Key": "x"}).ok
    asked = [request for engine, count in zip(engines, before, strict=True) for request in engine.seen()[count:]]
    assert len(asked) == 8
    assert {request["authorization"] for request in asked} == {f"Bearer {ENGINE_KEY}"}
    assert {request["path"] for request in asked} == {"/v1/completions"}


@pytest.mark.parametrize("key", ["", KEYS["team-a"]], ids=["stranger", "team-a"])
@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metrics",
        "/health",
        "/tokenize",
        "/docs",
        "/invocations",
        "/v1/load_lora_adapter",
        "/v1/completions/",
        "/v1/completions/../../tokenize",
        "/v1//../metrics",
        "/m/tiny/metrics",
        "/m/none/v1/completions",
        "/v1/%2e%2e/metrics",
        "/stub_status",
        "/tree",
        "/targets",
        "/metrics/tiny-0",
        "/mock/requests",
    ],
)
def test_what_is_not_offered_does_not_exist(front, path, key):
    for method in ("GET", "POST"):
        answer = ask(replace(front, key=key), method, path)
        assert (answer.status, answer.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    "method, path, allowed",
    [
        ("GET", "/v1/completions", "POST"),
        ("DELETE", "/m/other/v1/completions", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
    ],
)
def test_the_wrong_method_is_told_the_right_one(front, method, path, allowed):
    answer = ask(front, method, path)
    assert (answer.status, answer.headers["allow"], answer.json()["error"]["code"]) == (
        405,
        allowed,
        "method_not_allowed",
    )


def test_a_request_that_is_too_large_is_refused_in_json(complete):
    answer = complete(body={"model": "org/tiny", "prompt": "x" * 70_000})
    assert (answer.status, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert "64k" in answer.json()["error"]["message"]


@pytest.mark.parametrize("prefix, model", [("", "org/tiny"), ("/m/tiny", "org/tiny"), ("/m/other", "other")])
def test_each_model_answers_at_its_place_and_is_listed_there(front, complete, prefix, model):
    listed = ask(replace(front, prefix=prefix), "GET", "/v1/models").json()
    assert [entry["id"] for entry in listed["data"]] == [model]
    answer = complete(endpoint=replace(front, prefix=prefix), body={"model": model, "prompt": "hi", "max_tokens": 3})
    assert answer.json()["model"] == model


def test_the_engines_own_refusal_reaches_the_client(complete):
    answer = complete(body={"model": "other", "prompt": "hi"})
    assert (answer.status, answer.json()["error"]["message"]) == (404, "The model `other` does not exist.")


@pytest.mark.parametrize("given, kept", [("trace-1.a:B_2", True), ("a b", False), ("x" * 129, False), ('"', False)])
def test_a_request_has_an_id_the_clients_own_where_it_is_sane(host, complete, given, kept):
    told = complete(headers={"X-Request-Id": given}).headers["x-request-id"]
    assert (told == given) is kept
    assert json.loads(host.check_output("tail -n 1 /var/log/nginx/gpufleet.access.log"))["request_id"] == told


def test_the_log_has_the_keys_name_and_where_the_time_went(host, complete):
    complete(path="/v1/completions?key=" + KEYS["team-a"])
    line = json.loads(host.check_output("tail -n 1 /var/log/nginx/gpufleet.access.log"))
    assert (line["key"], line["status"], line["path"], line["pool"]) == (
        "team-a",
        200,
        "/v1/completions",
        "gpufleet_tiny",
    )
    assert line["upstream"].startswith(ADDRESS + ":800")
    assert float(line["upstream_first_byte_seconds"]) <= float(line["upstream_seconds"]) <= line["seconds"] + 0.01


def test_no_secret_is_in_a_log_a_process_or_a_file_that_others_may_read(host):
    for secret in SECRETS:
        found = host.run("grep -rlF %s /var/log /proc/[0-9]*/cmdline 2>/dev/null", secret).stdout.split()
        assert [path for path in found if "gpufleet.error.log" not in path and "/proc/" not in path] == []
    for secret in [json.dumps(secret)[1:-1] for secret in SECRETS]:
        found = host.run(
            r"find /etc/nginx /etc/ansible /var/lib/gpufleet /etc/systemd -type f -perm /044 -exec grep -lF %s '{}' +",
            secret,
        )
        assert [path for path in found.stdout.split() if "/mock-" not in path] == []


def test_no_secret_is_in_the_hosts_journal(host):
    """Ansible has each module write what it was called with to the journal."""
    journal = host.check_output("journalctl --no-pager")
    assert "nginx_tree" in journal
    for secret in SECRETS:
        assert secret not in journal


@pytest.mark.parametrize(
    "name, mode", [("keys.conf", 0o600), ("gateway.key", 0o600), ("gateway.crt", 0o644), ("upstreams.conf", 0o644)]
)
def test_secret_files_are_roots_alone(host, name, mode):
    file = host.file(host.check_output("curl -s http://127.0.0.1:9145/tree") + "/" + name)
    assert (file.mode, file.user) == (mode, "root")


def test_nginx_starts_at_boot_and_may_hold_many_connections(host):
    assert host.service("nginx").is_running and host.service("nginx").is_enabled
    assert host.check_output("systemctl show --property=LimitNOFILE --value nginx.service") == "65536"


def test_the_private_listener_is_private_and_tells_of_nginx_and_every_engine(host):
    assert host.check_output("ss -Hltn 'sport = :9145'").split()[3] == "127.0.0.1:9145"
    assert ask(Endpoint(ADDRESS, 9145), "GET", "/metrics/tiny-0").status is None
    assert "Active connections" in host.check_output("curl -s http://127.0.0.1:9145/stub_status")
    targets = json.loads(host.check_output("curl -s http://127.0.0.1:9145/targets"))
    assert [target["labels"]["replica"] for target in targets] == ["tiny-0", "tiny-1", "tiny-2", "tiny-3", "other-0"]
    for target in targets:
        metrics = host.check_output("curl -s http://%s%s", target["targets"][0], target["labels"]["__metrics_path__"])
        assert "vllm:num_requests_running" in metrics


def test_what_others_serve_is_as_it_was(host):
    assert host.check_output("curl -s http://127.0.0.1:8099") == "somebody else's site"
    assert "Welcome to nginx" in host.check_output("curl -s http://127.0.0.1:80")
    assert host.run("dpkg --verify nginx nginx-common").stdout == ""
