# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._findings import Findings
from ansible_collections.gpufleet.serving.plugins.plugin_utils._flag_check import (
    check_files,
    check_known,
    check_needed,
)
from ansible_collections.gpufleet.serving.plugins.plugin_utils._settings import Settings
from ansible_collections.gpufleet.serving.plugins.plugin_utils._wishes import Model, Source


def refusals(**engine_args):
    findings = Findings()
    model = Model("m", Source("host", "/srv/m"), "m", engine_args=engine_args)
    check_known(model, "cuda", Settings(), findings)
    check_needed(model, findings)
    check_files(model, findings)
    return findings.refusals


GOOD = [
    {"enable_auto_tool_choice": True, "tool_call_parser": "llama3_json"},
    {"enable_auto_tool_choice": False},
    {"tool_call_parser": "of_my_own", "tool_parser_plugin": "/srv/parsers/of_my_own.py"},
    {"reasoning_parser": "deepseek_r1"},
    {"chat_template": "/srv/templates/chat.jinja"},
    {"chat_template": "{% for m in messages %}{{ m }}{% endfor %}"},
    {"enable_lora": True, "lora_modules": ["sql=/srv/adapters/sql"]},
    {"speculative_config": {"method": "ngram", "num_speculative_tokens": 3}},
    {"speculative_config": {"method": "eagle3", "model": "/srv/drafts/e", "num_speculative_tokens": 3}},
]


@pytest.mark.parametrize("engine_args", GOOD, ids=str)
def test_what_the_engine_takes_is_not_refused(engine_args):
    assert refusals(**engine_args) == []


BAD = [
    (
        {"chat_tempalte": "/srv/x.jinja"},
        ("unknown_engine_flag", "m: engine_args.chat_tempalte", "did you mean chat_template?"),
    ),
    (
        {"tool_call_parser": "llama3-json"},
        ("unknown_parser", "m: engine_args.tool_call_parser", "did you mean llama3_json?"),
    ),
    ({"reasoning_parser": "deepseek-r1"}, ("unknown_parser", "m: engine_args.reasoning_parser", "deepseek_r1?")),
    ({"reasoning_parser": ["qwen3"]}, ("unknown_parser", "m: engine_args.reasoning_parser", "qwen3")),
    ({"reasoning_parser": "xyzzy"}, ("unknown_parser", "m: engine_args.reasoning_parser", "reasoning_parser_plugin")),
    (
        {"enable_auto_tool_choice": True},
        ("missing_engine_flag", "m: engine_args.enable_auto_tool_choice", "name the parser"),
    ),
    (
        {"lora_modules": ["sql=/srv/sql"]},
        ("missing_engine_flag", "m: engine_args.lora_modules", "say enable_lora: true"),
    ),
    (
        {"enable_lora": True, "lora_modules": [{"name": "sql", "path": "org/sql"}]},
        ("bad_engine_file", "m: engine_args.lora_modules[0].path", "its absolute path"),
    ),
    (
        {"speculative_config": {"model": "org/draft", "num_speculative_tokens": 3}},
        ("bad_engine_file", "m: engine_args.speculative_config.model", "its absolute path"),
    ),
    ({"chat_template": "./chat.jinja"}, ("bad_engine_file", "m: engine_args.chat_template", "give its text")),
    ({"chat_template": "/tmp/chat.jinja"}, ("bad_engine_file", "m: engine_args.chat_template", "outside /tmp")),
]


@pytest.mark.parametrize(("engine_args", "told"), BAD, ids=str)
def test_what_the_engine_would_stop_at_is_refused_with_the_remedy(engine_args, told):
    code, subject, remedy = told
    (refusal,) = refusals(**engine_args)
    assert (refusal.code, refusal.subject) == (code, subject)
    assert remedy in " ".join(refusal.remedies)
