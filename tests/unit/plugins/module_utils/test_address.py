# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._address import in_url, is_address


@pytest.mark.parametrize("text", ["10.0.0.1", "fd00::1"])
def test_an_ip_address_is_one(text: str) -> None:
    assert is_address(text)


@pytest.mark.parametrize("text", [None, "", "gpu-1", "10.0.0.256", "[fd00::1]", "10.0.0.0/24"])
def test_a_name_a_network_and_nothing_are_none(text: str | None) -> None:
    assert not is_address(text)


@pytest.mark.parametrize(("host", "wanted"), [("fd00::1", "[fd00::1]"), ("10.0.0.1", "10.0.0.1"), ("gpu-1", "gpu-1")])
def test_only_an_ipv6_address_gets_brackets(host: str, wanted: str) -> None:
    assert in_url(host) == wanted
