# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._cgroup import memory_limit

GIB = 2**30
MEMORY = 24 * GIB
UNLIMITED_V1 = 9223372036854771712
V1_MOUNTS = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
V1_MOUNTS += "35 31 0:32 {shown} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
HYBRID_MOUNTS = V1_MOUNTS + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
V2_MOUNTS = "25 23 0:22 {shown} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def tree(root, mounts, cgroups, files):
    """Write a host of which process 1 is in ``cgroups``, and whose cgroup files are ``files``."""
    contents = {"proc/self/mountinfo": mounts, "proc/1/cgroup": cgroups, **files}
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(text))
    return root


def v1(limit):
    return f"cache 4096\nhierarchical_memory_limit {limit}\nhierarchical_memsw_limit {UNLIMITED_V1}\n"


# As read on systemd hosts in podman 4.3.1 with runc, where v1 and v2 are both mounted; the directory names are cut.
PODMAN_MOUNTS = (
    "290 286 0:32 {shown} /sys/fs/cgroup/memory rw,nosuid,nodev,noexec,relatime - cgroup cgroup rw,memory\n"
    "211 286 0:38 / /sys/fs/cgroup/unified rw,nosuid,nodev,noexec,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
)
LIBPOD = "/libpod_parent/libpod-f049e9bb"

LIMITS = {
    "recorded: podman with --memory=3g": (
        PODMAN_MOUNTS.format(shown=LIBPOD),
        f"4:memory:{LIBPOD}\n0::{LIBPOD}/init.scope\n",
        {"sys/fs/cgroup/memory/memory.stat": v1(3 * GIB)},
        3 * GIB,
    ),
    "recorded: podman with --memory=3g --cgroupns=private": (
        PODMAN_MOUNTS.format(shown="/"),
        "4:memory:/init.scope\n0::/init.scope\n",
        {"sys/fs/cgroup/memory/memory.stat": v1(3 * GIB), "sys/fs/cgroup/memory/init.scope/memory.stat": v1(3 * GIB)},
        3 * GIB,
    ),
    "recorded: podman without a limit": (
        PODMAN_MOUNTS.format(shown=LIBPOD),
        f"4:memory:{LIBPOD}\n0::{LIBPOD}/init.scope\n",
        {"sys/fs/cgroup/memory/memory.stat": v1(UNLIMITED_V1)},
        None,
    ),
    "v2, a host": (
        V2_MOUNTS.format(shown="/"),
        "0::/init.scope\n",
        {"sys/fs/cgroup/init.scope/memory.max": "max\n"},
        None,
    ),
    "v2, a container with its own view": (
        V2_MOUNTS.format(shown="/"),
        "0::/init.scope\n",
        {"sys/fs/cgroup/memory.max": 8 * GIB},
        8 * GIB,
    ),
    "v2, a container without its own view": (
        V2_MOUNTS.format(shown="/"),
        "0::/machine.slice/libpod-1.scope/init.scope\n",
        {
            "sys/fs/cgroup/machine.slice/libpod-1.scope/memory.max": 8 * GIB,
            "sys/fs/cgroup/machine.slice/memory.max": 6 * GIB,
        },
        6 * GIB,
    ),
    "v2, the mount shows only the container": (
        V2_MOUNTS.format(shown="/machine.slice/libpod-1.scope"),
        "0::/machine.slice/libpod-1.scope/init.scope\n",
        {"sys/fs/cgroup/memory.max": 8 * GIB},
        8 * GIB,
    ),
    "v2, a limit above the memory": (
        V2_MOUNTS.format(shown="/"),
        "0::/\n",
        {"sys/fs/cgroup/memory.max": 2 * MEMORY},
        None,
    ),
    "v1, a host": (
        V1_MOUNTS.format(shown="/"),
        "4:memory:/\n0::/\n",
        {"sys/fs/cgroup/memory/memory.stat": v1(UNLIMITED_V1)},
        None,
    ),
    "v1, a container with the host's names and its own mount": (
        V1_MOUNTS.format(shown="/libpod_parent/libpod-1"),
        "4:memory:/libpod_parent/libpod-1\n",
        {"sys/fs/cgroup/memory/memory.stat": v1(4 * GIB)},
        4 * GIB,
    ),
    "v1, a container with the host's names and the host's mount": (
        V1_MOUNTS.format(shown="/"),
        "4:cpu,memory:/libpod_parent/libpod-1\n",
        {
            "sys/fs/cgroup/memory/memory.stat": v1(UNLIMITED_V1),
            "sys/fs/cgroup/memory/libpod_parent/libpod-1/memory.stat": v1(4 * GIB),
        },
        4 * GIB,
    ),
    "v1, a container with its own view": (
        V1_MOUNTS.format(shown="/../../.."),
        "4:memory:/libpod_parent/libpod-1\n",
        {"sys/fs/cgroup/memory/memory.stat": v1(4 * GIB)},
        4 * GIB,
    ),
    "hybrid, memory is v1's": (
        HYBRID_MOUNTS.format(shown="/"),
        "4:memory:/init.scope\n0::/init.scope\n",
        {"sys/fs/cgroup/memory/init.scope/memory.stat": v1(4 * GIB)},
        4 * GIB,
    ),
    "no cgroups at all": ("", "", {}, None),
}


@pytest.mark.parametrize(("mounts", "cgroups", "files", "limit"), LIMITS.values(), ids=LIMITS)
def test_memory_limit(mounts, cgroups, files, limit, tmp_path):
    assert memory_limit(tree(tmp_path, mounts, cgroups, files), MEMORY) == limit
