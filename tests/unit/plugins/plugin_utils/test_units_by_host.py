# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.plugin_utils._applied import AppliedReplica
from ansible_collections.gpufleet.serving.plugins.plugin_utils._steps import Placed

UNITS = {"gpu-2": {"rank": 0}, "gpu-1": {"rank": 1}}


@pytest.mark.parametrize("replica", [Placed(UNITS), AppliedReplica("m-0", "m", UNITS)])
def test_the_head_is_the_first_host_whatever_its_name(replica: Placed | AppliedReplica) -> None:
    assert replica.hosts == ("gpu-2", "gpu-1")
    assert replica.host == "gpu-2"
    assert replica.unit == {"rank": 0}
