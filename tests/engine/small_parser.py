# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As much of vLLM as its parser is asked through, for wheels of engines that are none."""

from __future__ import annotations

from collections.abc import Iterable

SERVE = """\
def make_arg_parser(parser):
    for flag in {flags}:
        parser.add_argument("--" + flag)
    return parser
"""
ARGPARSE_UTILS = """\
import argparse


class FlexibleArgumentParser(argparse.ArgumentParser):
    def __init__(self, add_json_tip):
        super().__init__()
"""


def parser_files(flags: Iterable[str]) -> dict[str, str]:
    """The files, by their path in a wheel, of a ``vllm serve`` that knows these flags."""
    return {
        "vllm/entrypoints/cli/serve.py": SERVE.format(flags=sorted(flags)),
        "vllm/utils/argparse_utils.py": ARGPARSE_UTILS,
    }
