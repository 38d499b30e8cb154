# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import runpy
import zipfile

import pytest
import record_flags

FRONTEND = '''
@config
class BaseArgs:
    """Shared."""

    chat_template: str | None = None
    """A docstring that mentions --not-an-option."""

@config
class FrontendArgs(BaseArgs):
    port: int = 8000
    ssl_cert_reqs: int = int(ssl.CERT_NONE)

    def help(self):
        log_level: str = "a local variable"

class Other:
    unrelated: int = 0

def make_arg_parser(parser):
    parser.add_argument("model_tag", nargs="?")
    parser.add_argument("--api-server-count", "-asc", type=int)
    return parser
'''

ENGINE = """
class EngineArgs:
    dtype: str = "auto"

    @staticmethod
    def add_cli_args(parser):
        group = parser.add_argument_group(title="--no-title")
        group.add_argument("--dtype", **kwargs["dtype"])
        group.add_argument("--gpu-memory-utilization", "--device-memory-utilization", **kwargs["utilization"])
        if not ("serve" in sys.argv[1:] and "--help" in sys.argv[1:]):
            group.add_argument("--model", **kwargs["model"])
"""

TOOL_PARSERS = """
UNRELATED = {"other": 1}
_TOOL_PARSERS_TO_REGISTER = {
    "hermes": ("hermes_tool_parser", "HermesToolParser"),
    "muse": ("muse_tool_parser", "MuseToolParser"),
}
"""

REASONING_PARSERS = """
_REASONING_PARSERS_TO_REGISTER = {"qwen3": ("qwen3_reasoning_parser", "Qwen3")}
"""

FLAGS = {
    *("chat_template", "port", "ssl_cert_reqs", "api_server_count"),
    *("dtype", "gpu_memory_utilization", "device_memory_utilization", "model"),
}


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "vllm-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("vllm/entrypoints/common/cli_args.py", FRONTEND)
        archive.writestr("vllm/engine/arg_utils.py", ENGINE)
        archive.writestr("vllm/tool_parsers/__init__.py", TOOL_PARSERS)
        archive.writestr("vllm/reasoning/__init__.py", REASONING_PARSERS)
        archive.writestr("vllm/entrypoints/other.py", 'parser.add_argument("--of-another-command")')
    return path


def test_the_source_tells_its_flags(wheel):
    assert record_flags.flags_of_source(record_flags.sources_of_wheel(wheel)) == FLAGS


def test_the_source_tells_its_parsers(wheel):
    assert record_flags.parsers_of_source(record_flags.sources_of_wheel(wheel)) == {
        "tool_call_parser": {"hermes", "muse"},
        "reasoning_parser": {"qwen3"},
    }


def test_an_environment_has_the_same_sources(wheel, tmp_path):
    packages = tmp_path / "env" / "lib" / "python3.11" / "site-packages"
    zipfile.ZipFile(wheel).extractall(packages)
    assert record_flags.sources_of_environment(tmp_path / "env") == record_flags.sources_of_wheel(wheel)


def test_options_become_flags():
    options = ["--help", "--enable-log-deltas", "--no-enable-log-deltas", "--no-op"]
    assert record_flags.flags(options) == {"enable_log_deltas", "no_op"}


def test_rendered_lists_read_back(tmp_path):
    recorded = {"cuda-2": frozenset({"b", "a"}), "cpu-1": frozenset({"c"})}
    parsers = {"cuda-2": {"tool_call_parser": frozenset({"y", "x"}), "reasoning_parser": frozenset({"z"})}}
    module = tmp_path / "lists.py"
    module.write_text(record_flags.render(recorded, parsers))
    read = runpy.run_path(str(module))
    assert (read["RECORDED"], read["PARSERS"]) == (recorded, parsers)


def test_the_committed_lists_are_as_rendered():
    assert record_flags.LISTS.read_text() == record_flags.render(*record_flags.read_lists())
