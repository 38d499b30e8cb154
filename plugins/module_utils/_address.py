# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Addresses of hosts as text."""

from __future__ import annotations

import ipaddress


def is_address(text: str | None) -> bool:
    """Whether this is an IP address. A host that nobody has asked yet may be known by its name alone."""
    try:
        ipaddress.ip_address(text or "")
    except ValueError:
        return False
    return True


def in_url(host: str) -> str:
    """A host's name or address as it stands in a URL: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host
