# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that the role serve writes, rendered by Ansible itself and held against systemd and PyYAML."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.gpufleet.serving.plugins.plugin_utils._serve_units import unit_paths

ROLE = Path(__file__).resolve().parents[4] / "roles" / "serve"
VARIABLES = yaml.safe_load((ROLE / "vars/main.yml").read_text())
DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
RENDERED_WITH = ("__serve_settings_path", "__serve_guard_path", "__serve_cache_path", "__serve_ray")
KEY, TOKEN = "k" * 32, "t" * 32

needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")


def unit(**changes):
    return {
        "name": "tiny-0",
        "model": "tiny",
        "address": "10.0.0.11",
        "port": 8000,
        "engine_path": "/opt/gpufleet/engine/cpu-0.32.0",
        "model_path": "/var/lib/gpufleet/models/tiny/0123456789ab",
        "accelerator": "cpu",
        "devices": ["cpu:0", "cpu:1"],
        "cpu_kv_gib": 1,
        "config": {"served_model_name": "tiny", "tensor_parallel_size": 2, "max_model_len": 1024},
    } | changes


GROUP = {
    "node_rank": 1,
    "hosts": ["gpu1", "gpu2"],
    "addresses": ["10.1.0.1", "10.1.0.2"],
    "master_port": 29501,
    "gloo_interface": "bond0",
    "nccl_interfaces": ["bond0", "bond1"],
    "rdma_devices": ["mlx5_0", "mlx5_1:1"],
}
CUDA = {"accelerator": "cuda", "devices": ["GPU-1b2c", "GPU-3d4e"], "cpu_kv_gib": None}


def render(template, replica, **options):
    """What the template module would write."""
    variables = (
        DEFAULTS
        | {name: trust_as_template(VARIABLES[name]) for name in RENDERED_WITH}
        | {"serve_engine_key": KEY, "serve_ray_token": TOKEN, "__serve_unit": replica}
        | {"__serve_read_paths": [replica["engine_path"], *unit_paths([replica])]}
        | options
    )
    expression = "{{ lookup('template', '%s') }}" % (ROLE / "templates" / template)
    return Templar(DataLoader(), variables=variables).template(trust_as_template(expression))


def service(replica, **options):
    return render("etc/systemd/system/gpufleet-replica.service.j2", replica, **options)


def settings(replica, **options):
    return yaml.safe_load(render("etc/gpufleet/serve/replica.yaml.j2", replica, **options))


def environment(text):
    """The variables that systemd would set, by its rules for quotes, backslashes and per cent signs."""
    words = re.findall(r'^Environment="(.*)"$', text, re.MULTILINE)
    plain = (re.sub(r"\\(.)", lambda escape: {"n": "\n"}.get(escape[1], escape[1]), word) for word in words)
    return dict(word.replace("%%", "%").split("=", 1) for word in plain)


def parsed(text):
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",))
    parser.optionxform = str
    parser.read_string(text)
    return parser


def analyze(tmp_path, text, *command):
    path = tmp_path / "gpufleet-tiny-0.service"
    path.write_text(text)
    return subprocess.run(["systemd-analyze", *command, path], capture_output=True, text=True, check=False)


def test_settings_are_the_words_of_the_engine_with_dashes():
    assert settings(unit()) == {
        "model": "/var/lib/gpufleet/models/tiny/0123456789ab",
        "host": "10.0.0.11",
        "port": 8000,
        "shutdown-timeout": 120,
        "served-model-name": "tiny",
        "tensor-parallel-size": 2,
        "max-model-len": 1024,
        "disable-access-log-for-endpoints": "/health,/metrics",
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"enable_prefix_caching": False}, {"no-enable-prefix-caching": True}),
        ({"enable-auto-tool-choice": True}, {"enable-auto-tool-choice": True}),
        ({"allowed_origins": ["https://a", "https://b"]}, {"allowed-origins": ["https://a", "https://b"]}),
        ({"speculative_config": {"num_speculative_tokens": 3}}, {"speculative-config": {"num_speculative_tokens": 3}}),
        ({"tool_call_parser": None}, {}),
        ({"tokenizer": "0123"}, {"tokenizer": "0123"}),
        ({"disable_access_log_for_endpoints": "/ping"}, {"disable-access-log-for-endpoints": "/ping"}),
    ],
)
def test_engine_arguments_keep_their_kind(given, expected):
    without = settings(unit())
    assert settings(unit(engine_args=given)) == without | expected


PASSED_THROUGH = {
    "chat_template": "{%- for message in messages %}\n{{ message.content }}\n{%- endfor %}",
    "enable_auto_tool_choice": True,
    "enable_lora": True,
    "enable_prefix_caching": False,
    "lora_modules": ["old=/srv/adapters/old", {"name": "sql", "path": "/srv/adapters/sql"}],
    "reasoning_parser": "qwen3",
    "speculative_config": {"method": "eagle3", "model": "/srv/drafts/e", "num_speculative_tokens": 3},
    "tool_call_parser": "hermes",
}


def test_what_is_passed_through_is_the_file_that_the_engines_own_parser_is_tried_with():
    """That it takes the file is tested where an engine is built (molecule/engine)."""
    written = render("etc/gpufleet/serve/replica.yaml.j2", unit(engine_args=PASSED_THROUGH))
    assert written == (Path(__file__).with_name("fixtures") / "pass_through.txt").read_text()


def test_a_setting_that_is_left_to_the_engine_is_not_written():
    words = {"served_model_name": "tiny", "max_model_len": None, "compilation_config": '{"mode":2,"backend":"eager"}'}
    told = settings(unit(config=words))
    assert "max-model-len" not in told
    assert told["compilation-config"] == '{"mode":2,"backend":"eager"}'


def test_settings_begin_with_a_word_on_where_they_come_from():
    text = render("etc/gpufleet/serve/replica.yaml.j2", unit())
    assert text.startswith("# gpufleet.serving: settings of the replica tiny-0.")
    assert text.endswith("\n") and "\n\n" not in text


def test_the_key_is_in_its_own_file_alone():
    assert render("etc/gpufleet/serve/replica.env.j2", unit()) == f"VLLM_API_KEY={KEY}\n"
    assert KEY not in service(unit())
    assert KEY not in render("etc/gpufleet/serve/replica.yaml.j2", unit())


def test_the_first_line_says_whose_the_unit_is():
    assert service(unit()).startswith("# gpufleet.serving: replica tiny-0.")


def test_what_keeps_an_engine_running_and_its_streams_whole():
    told = parsed(service(unit(), serve_shutdown_timeout=300))
    assert told["Unit"]["StartLimitIntervalSec"] == "0"
    for key, value in {
        "Type": "exec",
        "User": "vllm",
        "Restart": "always",
        "KillMode": "mixed",
        "TimeoutStopSec": "360",
        "LimitMEMLOCK": "infinity",
        "EnvironmentFile": "/etc/gpufleet/serve/tiny-0.env",
        "CacheDirectory": "gpufleet/tiny-0",
    }.items():
        assert told["Service"][key] == value


def test_the_guard_is_the_main_process_and_runs_the_engine():
    """Without the site's packages, of which it needs none and some take long."""
    command = re.search(r"^ExecStart=(.*?)(?<!\\)$", service(unit()), re.MULTILINE | re.DOTALL)[1].replace("\\\n", "")
    assert command.split() == [
        *("/usr/bin/python3", "-I", "-S", "/usr/local/lib/gpufleet/guard.py", "/etc/gpufleet/serve/tiny-0.json"),
        *("/opt/gpufleet/engine/cpu-0.32.0/bin/vllm", "serve", "--config", "/etc/gpufleet/serve/tiny-0.yaml"),
    ]


def guard(replica, **options):
    return json.loads(render("etc/gpufleet/serve/replica.json.j2", replica, **options))


def test_the_guard_is_told_what_it_watches():
    told = guard(unit(), serve_stall_timeout=60)
    assert told.pop("settings") != guard(unit(engine_env={"ANY": "thing"}))["settings"]
    assert told == {
        "replica": "tiny-0",
        "address": "10.0.0.11",
        "port": 8000,
        "record": "/var/cache/gpufleet/tiny-0/guard.json",
        "stall_s": 60.0,
        "quarantine_after": 6,
        "quarantine_s": 1800.0,
        "drain_s": 120.0,
    }


def test_the_hosts_of_a_replica_have_one_hash_of_what_they_run_alike():
    head, other = (guard(unit(group=GROUP | {"node_rank": rank}))["group"] for rank in (0, 1))
    assert head == other | {"node_rank": 0}
    changed = guard(unit(group=GROUP, engine_args={"seed": 1}))["group"]
    assert changed["settings"] != other["settings"]


def test_environment_of_a_replica_on_the_cpu():
    told = environment(service(unit(), serve_ready_timeout=900))
    assert told["PATH"].startswith("/opt/gpufleet/engine/cpu-0.32.0/bin:")
    assert told["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert told["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert told["VLLM_ENGINE_READY_TIMEOUT_S"] == "900"
    assert told["VLLM_HOST_IP"] == "10.0.0.11"
    assert told["HF_HUB_OFFLINE"] == "1"
    assert not [name for name in told if name.startswith("CUDA")]


def test_environment_of_a_replica_on_gpus():
    told = environment(service(unit(**CUDA)))
    assert told["CUDA_VISIBLE_DEVICES"] == "GPU-1b2c,GPU-3d4e"
    assert not [name for name in told if name.startswith("VLLM_CPU")]


def test_a_further_host_of_a_replica_joins_the_first_and_takes_no_requests():
    words = unit()["config"] | {"nnodes": 2, "distributed_executor_backend": "mp"}
    told = settings(unit(config=words, group=GROUP))
    meeting = {name: told.get(name) for name in ("nnodes", "node-rank", "master-addr", "headless")}
    assert meeting == {"nnodes": 2, "node-rank": 1, "master-addr": "10.1.0.1", "headless": True}
    first = settings(unit(config=words, group=GROUP | {"node_rank": 0}))
    assert (first["node-rank"], "headless" in first) == (0, False)


def test_each_variable_of_the_network_has_its_own_form():
    told = environment(service(unit(**CUDA, group=GROUP)))
    assert told["VLLM_HOST_IP"] == "10.1.0.2"
    assert told["GLOO_SOCKET_IFNAME"] == "bond0"
    assert told["NCCL_SOCKET_IFNAME"] == "=bond0,bond1"
    assert told["NCCL_IB_HCA"] == "=mlx5_0,mlx5_1:1"
    assert "NCCL_IB_HCA" not in environment(service(unit(**CUDA, group=GROUP | {"rdma_devices": []})))
    assert not [name for name in environment(service(unit(group=GROUP))) if name.startswith("NCCL")]


def over_ray(node_rank, **changes):
    words = unit()["config"] | {"nnodes": 2, "distributed_executor_backend": "ray"}
    return unit(config=words, group=GROUP | {"node_rank": node_rank, "ray_port": 20000}, **changes)


def test_over_ray_the_engine_counts_no_hosts_itself():
    """It refuses the words of its own executor beside that of Ray."""
    told = settings(over_ray(0))
    assert told["distributed-executor-backend"] == "ray"
    assert not {"nnodes", "node-rank", "master-addr", "headless"} & set(told)


def test_over_ray_the_guard_is_told_of_ports_and_devices():
    assert guard(over_ray(1))["group"]["ray"] == {
        "engine": "/opt/gpufleet/engine/cpu-0.32.0",
        "first_port": 20000,
        "devices": 2,
    }
    assert "ray" not in guard(unit(group=GROUP))["group"]


def test_rays_token_is_beside_the_key_and_asked_for_on_every_host():
    for rank in (0, 1):
        assert render("etc/gpufleet/serve/replica.env.j2", over_ray(rank)) == (
            f"VLLM_API_KEY={KEY}\nRAY_AUTH_TOKEN={TOKEN}\n"
        )
        told = environment(service(over_ray(rank)))
        assert (told["RAY_AUTH_MODE"], told["RAY_USAGE_STATS_ENABLED"]) == ("token", "0")
        assert TOKEN not in service(over_ray(rank)) + json.dumps(guard(over_ray(rank)))
    assert "RAY" not in service(unit(group=GROUP))


def test_gpus_can_be_reached():
    """ProtectClock= allows one device and so forbids all others where the policy is left open."""
    text = service(unit(**CUDA))
    assert "DeviceAllow=char-nvidia* rw" in text
    assert "PrivateDevices" not in text
    assert "MemoryDenyWriteExecute" not in text


@pytest.mark.parametrize("value", ['{"a": "b c"}', "50%", "back\\slash", 8, "two\nlines", "$HOME"])
def test_an_environment_variable_arrives_as_it_was_given(value):
    told = environment(service(unit(engine_env={"ANY": value})))
    assert told["ANY"] == str(value)


def test_an_environment_variable_of_the_unit_wins():
    text = service(unit(engine_env={"VLLM_CPU_OMP_THREADS_BIND": "0-3|4-7"}))
    assert environment(text)["VLLM_CPU_OMP_THREADS_BIND"] == "0-3|4-7"


@pytest.mark.parametrize(
    ("paths", "protection"),
    [
        ({}, "true"),
        ({"model_path": "/home/ada/model"}, "read-only"),
        ({"engine_path": "/root/venv"}, "read-only"),
        ({"model_path": "/homework"}, "true"),
        ({"engine_args": {"chat_template": "/home/ada/chat.jinja"}}, "read-only"),
    ],
)
def test_homes_are_hidden_unless_something_lies_there(paths, protection):
    assert parsed(service(unit(**paths)))["Service"]["ProtectHome"] == protection


@needs_systemd
@pytest.mark.parametrize("kind", [{}, CUDA], ids=["cpu", "cuda"])
def test_the_unit_is_exposed_below_5(tmp_path, kind):
    """systemd-analyze 252 gives 1.7 on the CPU and 1.9 with GPUs; the threshold is in tenths."""
    result = analyze(tmp_path, service(unit(**kind)), "security", "--offline=true", "--threshold=50", "--no-pager")
    assert result.returncode == 0, result.stdout[-400:]


@needs_systemd
@pytest.mark.parametrize("kind", [{}, CUDA], ids=["cpu", "cuda"])
def test_systemd_finds_nothing_to_say_of_the_unit(tmp_path, kind):
    engine = tmp_path / "engine/bin/vllm"
    engine.parent.mkdir(parents=True)
    engine.touch(mode=0o755)
    result = check(service(unit(engine_path=str(tmp_path / "engine"), **kind)))
    assert (result.returncode, result.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        ("Restart=always", "Restat=always", "Unknown key"),
        ("TimeoutStopSec=180", "TimeoutStopSec=180 # seconds", "Failed to parse"),
        ("[Service]", "[Service]\nStartLimitIntervalSec=0", "Unknown key"),
        ("/usr/bin/python3", "/usr/bin/no-python3", "is not executable"),
    ],
)
def test_a_bad_unit_is_refused_before_it_takes_effect(tmp_path, good, bad, said):
    engine = tmp_path / "engine/bin/vllm"
    engine.parent.mkdir(parents=True)
    engine.touch(mode=0o755)
    text = service(unit(engine_path=str(tmp_path / "engine")))
    assert good in text
    result = check(text.replace(good, bad))
    assert result.returncode == 1
    assert said in result.stderr


def check(text):
    """What the role has systemd check before it touches anything."""
    command = ["sh", "-c", VARIABLES["__serve_check_unit"], "sh", "gpufleet-tiny-0.service"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)
