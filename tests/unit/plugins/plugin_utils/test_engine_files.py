# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._engine_files import named_files


@pytest.mark.parametrize(
    ("engine_args", "found"),
    [
        ({}, []),
        ({"chat_template": "/srv/chat.jinja"}, [("chat_template", "/srv/chat.jinja")]),
        ({"chat_template": "{{ messages }}/{{ x }}"}, []),
        ({"chat_template": "template_chatml.jinja"}, []),
        ({"tool_parser_plugin": "/srv/p.py"}, [("tool_parser_plugin", "/srv/p.py")]),
        ({"tool_parser_plugin": None, "tokenizer": 7}, []),
        ({"lora_modules": "sql=/srv/sql"}, [("lora_modules[0]", "/srv/sql")]),
        ({"lora_modules": ["a=/srv/a", "b=org/b"]}, [("lora_modules[0]", "/srv/a"), ("lora_modules[1]", "org/b")]),
        ({"lora_modules": [{"name": "a", "path": "/srv/a"}]}, [("lora_modules[0].path", "/srv/a")]),
        ({"lora_modules": ['{"name": "a", "path": "/srv/a"}']}, [("lora_modules[0].path", "/srv/a")]),
        ({"lora_modules": {"name": "a", "path": "/srv/a"}}, [("lora_modules[0].path", "/srv/a")]),
        ({"lora_modules": [7, None, []]}, []),
        ({"speculative_config": {"model": "org/draft"}}, [("speculative_config.model", "org/draft")]),
        ({"speculative_config": '{"model": "/srv/draft"}'}, [("speculative_config.model", "/srv/draft")]),
        ({"speculative_config": {"method": "ngram", "model": "ngram"}}, []),
        ({"speculative_config": "{"}, []),
    ],
)
def test_named_files(engine_args, found):
    assert list(named_files(engine_args)) == found
