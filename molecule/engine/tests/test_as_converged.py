# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real engine as converge.yml has built it: what it is, who may use it, what it knows."""

from __future__ import annotations

import json

import pytest
import record_flags
from engine_host import CHECKOUT, REAL_LOCK

PATH = "/opt/gpufleet/engine/cpu-0.32.0"
PACKAGES = f"{PATH}/lib/python3.11/site-packages"

# The compiler, Python's headers and Triton's absence are what this meets first.
COMPILE = """
import torch
print(torch.compile(lambda x: (x * 2 + 1).relu().sum())(torch.ones(1000)).item())
"""

# What the engine's parser makes of a file of settings.
PARSE = """
import dataclasses, json, pathlib
from vllm.entrypoints.cli.serve import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser
path = pathlib.Path("/tmp/vllm/pass_through.yaml")
path.write_text(SETTINGS)
parsed = vars(make_arg_parser(FlexibleArgumentParser(add_json_tip=False)).parse_args(["--config", str(path)]))
plain = lambda value: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else str(value)
print(json.dumps(parsed, default=plain))
"""


def as_engine(host, script):
    """The output of a script that the engine's Python runs, as a unit of the user vllm does."""
    environment = (
        f"PATH={PATH}/bin:/usr/bin:/bin HOME=/tmp/vllm TORCHINDUCTOR_CACHE_DIR=/tmp/vllm VLLM_NO_USAGE_STATS=1"
    )
    host.check_output("install -d -o vllm /tmp/vllm")
    return host.check_output(f"runuser -u vllm -- env {environment} python -c %s 2>/dev/null", script)


def test_the_user_is_a_system_user_who_cannot_log_in(host):
    user = host.user("vllm")
    assert user.uid < 1000
    assert (user.home, user.shell) == ("/var/lib/gpufleet", "/usr/sbin/nologin")
    home = host.file("/var/lib/gpufleet")
    assert (home.user, home.mode) == ("root", 0o755)


def test_the_environment_names_its_lock(host):
    assert host.file(f"{PATH}/gpufleet-lock.txt").content_string == REAL_LOCK.read_text()


def test_the_environment_is_readable_by_all_and_writable_by_root_alone(host):
    assert host.check_output(f"find {PATH} ! -user root | head") == ""
    assert host.check_output(f"find {PATH} ! -type l -perm /go=w | head") == ""
    assert host.check_output(f"find {PATH} ! -type l ! -perm -go=r | head") == ""
    assert host.check_output(f"find {PATH} -type d ! -perm -go=x | head") == ""


def test_nothing_is_left_of_the_build(host):
    assert host.file("/opt/gpufleet/engine").listdir() == ["cpu-0.32.0"]
    assert host.file("/var/lib/gpufleet").listdir() == []
    assert host.check_output("find /tmp /root -newer /etc/hostname -size +1M | head") == ""


def test_modules_are_compiled_because_the_user_could_not_do_it_later(host):
    assert host.file(f"{PACKAGES}/torch/__pycache__/__init__.cpython-311.pyc").exists
    assert host.file(f"{PACKAGES}/vllm/__pycache__/__init__.cpython-311.pyc").exists


@pytest.mark.parametrize("program", ["vllm", "python", "ninja", "uv"])
def test_the_programs_of_a_unit_are_in_the_environment(host, program):
    assert host.file(f"{PATH}/bin/{program}").exists


def test_what_is_applied_is_written_down(host):
    fact = host.file("/etc/ansible/facts.d/gpufleet_engine.fact")
    assert (fact.user, fact.mode) == ("root", 0o644)
    assert json.loads(fact.content_string) == {
        "share": "0123456789abcdef",
        "options": {"engine_environments": [{"variant": "cpu", "version": "0.32.0", "path": PATH}]},
    }


def test_the_engine_takes_itself_for_a_cpu_build(host):
    platform = "from vllm.platforms import current_platform; print(current_platform.device_type)"
    assert as_engine(host, platform).split()[-1] == "cpu"


def test_the_engines_user_can_compile(host):
    assert as_engine(host, COMPILE) == "3000.0"


def test_the_recorded_flags_are_those_of_the_engines_own_parser(host):
    described = as_engine(host, record_flags.DESCRIBE.read_text())
    options = [line for line in described.split() if line.startswith("--")]
    assert record_flags.flags(options) == record_flags.read_lists()[0]["cpu-0.32.0"]


def test_the_source_tells_the_same_flags_as_the_parser(host):
    names = host.check_output(f"cd {PACKAGES} && find vllm/engine vllm/entrypoints -name '*.py'").split()
    sources = {name: host.file(f"{PACKAGES}/{name}").content_string for name in names if record_flags.is_source(name)}
    assert record_flags.flags_of_source(sources) == record_flags.read_lists()[0]["cpu-0.32.0"]


def test_the_engines_own_parser_takes_what_the_role_serve_passes_through(host):
    """The file is what that role's test of its template writes."""
    settings = (CHECKOUT / "tests/unit/roles/serve/fixtures/pass_through.txt").read_text()
    parsed = json.loads(as_engine(host, PARSE.replace("SETTINGS", json.dumps(settings))).splitlines()[-1])
    assert parsed["chat_template"] == "{%- for message in messages %}\n{{ message.content }}\n{%- endfor %}"
    assert [(adapter["name"], adapter["path"]) for adapter in parsed["lora_modules"]] == [
        ("sql", "/srv/adapters/sql"),
        ("old", "/srv/adapters/old"),
    ]
    assert parsed["speculative_config"] == {"method": "eagle3", "model": "/srv/drafts/e", "num_speculative_tokens": 3}
    assert (parsed["tool_call_parser"], parsed["reasoning_parser"]) == ("hermes", "qwen3")
    assert (parsed["enable_auto_tool_choice"], parsed["enable_prefix_caching"]) == (True, False)
