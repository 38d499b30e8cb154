# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host tells of k3s. The texts are constructed from k3s' and the kernel's documentation."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._k3s_host import (
    has_default_route,
    runtimes,
    stamp,
    version,
)

CONTAINERD = """
version = 3
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
  SystemdCgroup = true
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'nvidia']
  runtime_type = "io.containerd.runc.v2"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'nvidia'.options]
  BinaryName = "/usr/bin/nvidia-container-runtime"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes."nvidia-cdi"]
"""
HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
NEAR = "eth0\t004D590A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
EVERYWHERE = "eth0\t00000000\t014D590A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
DOWN = "eth0\t00000000\t014D590A\t0002\t0\t0\t0\t00000000\t0\t0\t0\n"
NO_WAY_V6 = "0" * 32 + " 00 " + "0" * 32 + " 00 " + "0" * 32 + " ffffffff 00000001 00000000 00200200       lo\n"
WAY_V6 = NO_WAY_V6.replace("      lo", "    eth0")


def test_the_version_is_the_first_line_s():
    assert version("k3s version v1.35.7+k3s1 (0a1b2c3d)\ngo version go1.25\n") == "v1.35.7+k3s1"
    assert version("sh: k3s: not found") is None


def test_the_stamp_is_one_variable_of_the_process():
    assert stamp(b"PATH=/bin\0GPUFLEET_STAMP=0123456789abcdef\0HOME=/root\0") == "0123456789abcdef"
    assert stamp(b"PATH=/bin\0OTHER_GPUFLEET_STAMP=x\0") is None
    assert stamp(b"") is None


def test_runtimes_are_told_by_their_tables_and_not_by_their_options():
    assert runtimes(CONTAINERD) == ["nvidia", "nvidia-cdi", "runc"]
    assert runtimes("") == []


@pytest.mark.parametrize(
    ("ipv4", "ipv6", "there"),
    [
        (HEAD + NEAR + EVERYWHERE, "", True),
        (HEAD + NEAR, "", False),
        (HEAD + DOWN, NO_WAY_V6, False),
        (HEAD, NO_WAY_V6 + WAY_V6, True),
        ("", "", False),
    ],
)
def test_a_default_route_leads_everywhere_and_is_up(ipv4, ipv6, there):
    assert has_default_route(ipv4, ipv6) is there
