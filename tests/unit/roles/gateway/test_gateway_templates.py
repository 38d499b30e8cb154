# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that the role gateway writes, rendered by Ansible itself and, where nginx is installed, tested by nginx."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.gpufleet.serving.plugins.module_utils._nginx_tree import FOLDER_MARK, mark_servers
from ansible_collections.gpufleet.serving.plugins.plugin_utils._gateway import gateway_faults

ROLE = Path(__file__).resolve().parents[4] / "roles" / "gateway"
NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
KEYS = [{"name": "team-a", "key": "AZaz09-._~+/AZaz09-._~+/=="}, {"name": "team-b", "key": "b" * 24}]
FILES = ("keys.conf", "server.conf", "targets.json", "upstreams.conf")
PRIVATE = "# For the operator alone"
ENGINE_KEY = "the-key-between-gateway-and-engines"


def replica(name, port, address="10.0.0.11", **more):
    return {"replica": name, "address": address, "port": port, **more}


LLAMA = {
    "name": "llama",
    "served_model_name": "meta-llama/Llama-3.1-70B-Instruct",
    "default": True,
    "upstreams": [replica("llama-0", 8000), replica("llama-1", 8001, weight=2)],
}
QWEN = {
    "name": "qwen",
    "served_model_name": "qwen",
    "default": False,
    "upstreams": [replica("qwen-0", 8000, "fd00::12")],
}

SHARES = {
    "one model, one replica": {"gateway_models": [{**LLAMA, "upstreams": [replica("llama-0", 8000)]}]},
    "two models": {"gateway_models": [LLAMA, QWEN]},
    "no default model": {"gateway_models": [QWEN]},
    "optional parts left out": {
        "gateway_models": [{"name": "v1", "served_model_name": "v1", "upstreams": [replica("v1-0", 8000)]}],
    },
    "served to everybody": {"gateway_models": [LLAMA], "gateway_public": True, "gateway_keys": []},
    "many replicas": {"gateway_models": [{**LLAMA, "upstreams": [replica(f"llama-{i}", 8000 + i) for i in range(64)]}]},
    "IPv6": {
        "gateway_models": [QWEN],
        "gateway_listen_addresses": ["127.0.0.1", "[::1]"],
        "gateway_metrics_address": "::1",
        "gateway_server_name": ["fd00::9", "gw.example.org"],
    },
    "more paths": {"gateway_models": [LLAMA], "gateway_api_paths": ["/v1/audio/transcriptions", "/v1/score"]},
}


def render(expression, **options):
    """What an expression over the role's variables gives."""
    loader = DataLoader()
    variables = {}
    for name in ("defaults/main.yml", "vars/main.yml"):
        variables |= loader.load_from_file(str(ROLE / name), trusted_as_template=True)
    variables |= {
        "ansible_check_mode": False,
        "ansible_search_path": [str(ROLE)],
        "inventory_hostname": "gw",
        "playbook_dir": "/nowhere",
        "gateway_engine_key": ENGINE_KEY,
        "gateway_keys": KEYS,
        "gateway_listen_addresses": ["127.0.0.1"],
        "gateway_tls": "off",
    } | options
    return Templar(loader=loader, variables=variables).template(trust_as_template("{{ %s }}" % expression))


def files(**options):
    """Every file's text by its name."""
    return {name: render("lookup('template', 'etc/nginx/gpufleet/%s.j2')" % name, **options) for name in FILES}


def blocks(text, kind):
    """``{header: body}`` of the top-level blocks of one kind."""
    return dict(re.findall(rf"^{kind} ?(.*?) ?\{{\n(.*?)^\}}", text, re.MULTILINE | re.DOTALL))


def locations(server):
    """``{header: body}`` of a server's locations."""
    return dict(re.findall(r"^    location (.*?) \{\n(.*?)^    \}", server, re.MULTILINE | re.DOTALL))


def path_patterns(server):
    """The regular expressions of the public server's paths."""
    return [header[2:] for header in locations(server) if header.startswith("~ ")]


def public(**options):
    """The text of the public server."""
    return files(**options)["server.conf"].partition(PRIVATE)[0]


@pytest.mark.skipif(not NGINX, reason="nginx is not installed")
@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
@pytest.mark.parametrize("share", SHARES.values(), ids=SHARES)
def test_nginx_accepts_the_tree_also_with_every_server_down(share, down, tmp_path):
    text = files(**share, __gateway_log_path=str(tmp_path))
    for name, content in text.items():
        servers = re.findall(r"server (\S+) weight", content)
        (tmp_path / name).write_text(
            mark_servers(content.replace(FOLDER_MARK, str(tmp_path)), servers if down else [], True)
        )
    temporary = "".join(
        f"{kind}_temp_path {tmp_path}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    main = tmp_path / "nginx.main"
    main.write_text(
        f"pid {tmp_path}/pid; error_log stderr warn; events {{ }} "
        f"http {{ access_log off; gzip on; {temporary} include {tmp_path}/*.conf; }}\n"
    )
    outcome = subprocess.run([NGINX, "-t", "-c", main], capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    assert "[warn]" not in outcome.stderr


@pytest.mark.parametrize("share", SHARES.values(), ids=SHARES)
def test_good_shares_pass_the_roles_own_preflight(share):
    assert gateway_faults(render("__gateway_options", **share)) == []


def test_each_model_has_two_pools_of_the_same_servers():
    pools = blocks(files(**SHARES["two models"])["upstreams.conf"], "upstream")
    assert sorted(pools) == ["gpufleet_llama", "gpufleet_llama_again", "gpufleet_qwen", "gpufleet_qwen_again"]
    first, second = pools["gpufleet_llama"], pools["gpufleet_llama_again"]
    for setting in ("zone gpufleet_llama 256k;", "least_conn;", "keepalive 64;", "keepalive_timeout 60s;"):
        assert setting in first
    assert "random two least_conn;" in second and "zone gpufleet_llama_again 256k;" in second
    assert re.findall(r"server (.*);", first) == [
        "10.0.0.11:8000 weight=1 max_fails=2 fail_timeout=10s",
        "10.0.0.11:8001 weight=2 max_fails=2 fail_timeout=10s",
    ]
    assert re.findall(r"server (.*);", second) == [
        "10.0.0.11:8000 weight=1 max_fails=0",
        "10.0.0.11:8001 weight=2 max_fails=0",
    ]
    assert "server [fd00::12]:8000 " in pools["gpufleet_qwen"]


def test_no_render_marks_a_server_down():
    assert " down" not in files(**SHARES["many replicas"])["upstreams.conf"]


def test_a_status_retries_only_in_the_tier_that_learns_nothing():
    """One bad request would else mark every server as gone."""
    server = public(**SHARES["two models"])
    retries = {header: re.findall(r"proxy_next_upstream (.*);", body) for header, body in locations(server).items()}
    assert retries.pop("@again_llama") == ["error timeout http_500 http_502 http_503 non_idempotent"]
    assert retries.pop("@again_qwen") == ["error timeout http_500 http_502 http_503 non_idempotent"]
    assert not any(retries.values())
    assert re.findall(r"^    proxy_next_upstream (.*);", server, re.MULTILINE) == ["error timeout non_idempotent"]


def test_streams_are_neither_buffered_nor_compressed_nor_cut_at_a_reload():
    server = public(**SHARES["two models"])
    for setting in ("proxy_buffering off;", "gzip off;", "proxy_http_version 1.1;", 'proxy_set_header Connection "";'):
        assert setting in server
    assert "worker_shutdown_timeout" not in server


@pytest.mark.parametrize(
    "path, served_by",
    [
        ("/v1/chat/completions", 1),
        ("/m/llama/v1/chat/completions", 1),
        ("/m/qwen/v1/completions", 1),
        ("/v1/models", 1),
        ("/m/qwen/v1/models", 1),
        ("/v1/chat/completions/", 0),
        ("/m/other/v1/completions", 0),
        ("/m/llama/v1/m/qwen/v1/completions", 0),
        ("/x/v1/completions", 0),
        ("/v1/completionsx", 0),
        ("/metrics", 0),
        ("/tokenize", 0),
        ("/v1/load_lora_adapter", 0),
        ("/m/llama/metrics", 0),
        ("/", 0),
    ],
)
def test_only_what_is_listed_is_served(path, served_by):
    patterns = path_patterns(public(**SHARES["two models"]))
    assert len([pattern for pattern in patterns if re.search(pattern, path)]) == served_by


def test_without_a_default_model_nothing_answers_under_v1():
    patterns = path_patterns(public(**SHARES["no default model"]))
    assert not any(re.search(pattern, "/v1/models") or re.search(pattern, "/v1/completions") for pattern in patterns)


def test_a_models_prefix_is_taken_off_even_where_the_model_is_called_v1():
    body = next(body for body in locations(public(**SHARES["optional parts left out"])).values() if "rewrite" in body)
    pattern = re.search(r"rewrite (\S+) \$1 break;", body)[1]
    assert re.search(pattern, "/m/v1/v1/chat/completions")[1] == "/v1/chat/completions"


def test_dots_in_a_path_mean_dots():
    patterns = path_patterns(public(gateway_models=[LLAMA], gateway_api_paths=["/v1/a.b"]))
    assert any(re.search(pattern, "/v1/a.b") for pattern in patterns)
    assert not any(re.search(pattern, "/v1/axb") for pattern in patterns)


def test_everything_that_the_gateway_says_itself_is_json():
    text = files(**SHARES["two models"])["server.conf"]
    answers = re.findall(r"return (\d+) '(.*)';", text)
    assert {status for status, _ in answers} == {"200", "401", "404", "405", "413", "502", "504"}
    for status, body in answers:
        answer = json.loads(body)
        if status != "200":
            assert sorted(answer["error"]) == ["code", "message", "param", "type"]


def test_models_are_listed_where_they_can_be_asked():
    server = public(**SHARES["two models"])
    lists = [json.loads(body) for body in re.findall(r"return 200 '(.*)';", server)]
    assert [[entry["id"] for entry in answer["data"]] for answer in lists] == [[LLAMA["served_model_name"]], ["qwen"]]


def test_targets_are_what_prometheus_reads():
    targets = json.loads(files(**SHARES["two models"], gateway_metrics_address="10.0.0.9")["targets.json"])
    assert [target["labels"]["__metrics_path__"] for target in targets] == [
        "/metrics/llama-0",
        "/metrics/llama-1",
        "/metrics/qwen-0",
    ]
    assert all(target["targets"] == ["10.0.0.9:9145"] for target in targets)


def test_metrics_are_on_the_private_listener_only():
    front, _, private = files(**SHARES["two models"], gateway_metrics_address="10.0.0.9")["server.conf"].partition(
        PRIVATE
    )
    assert "metrics" not in front and "stub_status" not in front
    assert re.findall(r"listen (.*);", private) == ["10.0.0.9:9145"]


def test_secrets_are_in_the_secret_file_alone():
    text = files(**SHARES["two models"])
    secrets = [ENGINE_KEY, *(re.escape(key["key"]) for key in KEYS), *(key["key"] for key in KEYS)]
    assert not any(secret in content for name, content in text.items() if name != "keys.conf" for secret in secrets)
    assert ENGINE_KEY in text["keys.conf"]


@pytest.mark.parametrize(
    "header, name",
    [
        ("Bearer " + KEYS[0]["key"], "team-a"),
        ("bearer  " + KEYS[1]["key"], "team-b"),
        ("Bearer " + KEYS[1]["key"].upper(), None),
        ("Bearer " + KEYS[1]["key"] + "b", None),
        ("Bearer " + KEYS[0]["key"].replace(".", "x"), None),
        ("Basic " + KEYS[1]["key"], None),
        ("Bearer " + ENGINE_KEY, None),
        ("Bearer ", None),
        ("", None),
    ],
)
def test_a_key_is_known_by_every_character(header, name):
    entries = re.findall(r'^    "~(.*)" "(.*)";', files(**SHARES["two models"])["keys.conf"], re.MULTILINE)
    assert [known for pattern, known in entries if re.search(pattern, header)] == ([name] if name else [])


@pytest.mark.parametrize("is_public, default", [(False, ""), (True, "-")])
def test_a_stranger_is_let_in_only_where_that_is_asked_for(is_public, default):
    text = files(gateway_models=[LLAMA], gateway_public=is_public)["keys.conf"]
    assert re.search(r'default "(.*)";', text)[1] == default


def test_tls_is_on_unless_switched_off():
    plain, tls = public(gateway_models=[LLAMA]), public(gateway_models=[LLAMA], gateway_tls="selfsigned")
    assert "ssl" not in plain
    assert "listen 127.0.0.1:443 ssl;" in tls
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in tls
    assert "ssl_certificate @tree@/gateway.crt;" in tls


def test_a_certificate_names_hosts_and_addresses():
    names = ["gw", "gw.example.org", "10.0.0.9", "fd00::9", "10.example.org"]
    assert render("__gateway_subject_alt_names", gateway_server_name=names) == [
        "DNS:gw",
        "DNS:gw.example.org",
        "IP:10.0.0.9",
        "IP:fd00::9",
        "DNS:10.example.org",
    ]


def test_defaults_are_what_the_argument_spec_says():
    spec = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    assert {name: option["default"] for name, option in spec.items() if "default" in option} == defaults
    assert {name for name, option in spec.items() if "default" not in option} == {"gateway_engine_key"}
