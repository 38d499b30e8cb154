# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters that take weights and files out of a bundle. The logic is in plugin_utils/_bundle.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.gpufleet.serving.plugins.plugin_utils._bundle import file_from_bundle, from_bundle


class FilterModule:
    """The filters by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """For Ansible's loader."""
        return {"file_from_bundle": file_from_bundle, "from_bundle": from_bundle}
