# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Print the long options of ``vllm serve`` as its own parser has them, one a line. Runs in an engine's environment."""

from __future__ import annotations

from vllm.entrypoints.cli.serve import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

parser = make_arg_parser(FlexibleArgumentParser(add_json_tip=False))
for action in parser._actions:
    # From 0.33 on a switch --enable-x is negated by --disable-x, and the other way round.
    negations = getattr(action, "negative_option_strings", ())
    for option in action.option_strings:
        if option.startswith("--") and option not in negations:
            print(option)
