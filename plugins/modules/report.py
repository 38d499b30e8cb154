#!/usr/bin/python
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Print a text for a person
version_added: "0.1.0"
description:
  - Prints a text of several lines as it is, where M(ansible.builtin.debug) would quote and indent it.
  - Runs on the controller only and changes nothing.
options:
  text:
    description: What to print.
    type: str
    required: true
author:
  - The gpufleet authors (@gpufleet)
attributes:
  check_mode:
    description: Prints in check mode as well.
    support: full
  diff_mode:
    description: There is nothing to compare.
    support: none
"""

EXAMPLES = r"""
- name: Show the plan
  gpufleet.serving.report:
    text: "{{ survey_plan | gpufleet.serving.explain }}"
"""

RETURN = r"""
text:
  description: The text that was printed.
  type: str
  returned: always
"""
