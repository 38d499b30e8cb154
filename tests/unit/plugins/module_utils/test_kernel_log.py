# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.gpufleet.serving.plugins.module_utils._command import Outcome
from ansible_collections.gpufleet.serving.plugins.module_utils._kernel_log import (
    XidError,
    parse_xids,
    read_kernel_log,
)
from ansible_collections.gpufleet.serving.tests.unit.plugins.module_utils.gpu_recordings import read


def numbers(text):
    return [(error.number, error.pci_address, error.count) for error in parse_xids(text)]


def test_a_gpu_that_fell_off_the_bus_and_a_programs_own_fault():
    assert numbers(read("lost_no_handle", "kernel.log")) == [(79, "0000:a1:00.0", 2), (31, "0000:25:00.0", 1)]


def test_the_same_error_again_is_counted():
    assert numbers(read("hung", "kernel.log")) == [(119, "0000:41:00.0", 2)]


def test_how_the_lines_begin_does_not_matter():
    line = "NVRM: Xid (PCI:0000:3b:00): 48, pid=12, name=vllm, DBE (double bit error) ECC"
    for prefix in ("", "[12345.678901] ", "<3>[ 12.0] ", "2026-09-14T20:30:27-0400 gpu1 kernel: "):
        (error,) = parse_xids(prefix + line + "\n")
        assert error == XidError(48, "0000:3b:00.0", 1, "pid=12, name=vllm, DBE (double bit error) ECC")


def test_nvswitches_have_numbers_of_their_own():
    line = "nvidia-nvswitch0: SXid (PCI:0000:c4:00.0): 12028, Non-fatal, Link 44 egress non-posted PRIV error"
    (error,) = parse_xids(line)
    assert (error.number, error.pci_address, error.nvswitch) == (12028, "0000:c4:00.0", True)


def test_a_fall_without_an_xid():
    assert numbers("NVRM: The NVIDIA GPU 0000:a1:00.0 has fallen off the bus and is not responding") == [
        (79, "0000:a1:00.0", 1)
    ]


def test_other_lines_mean_nothing():
    assert parse_xids("usb 1-1: device fell\nNVRM: loading NVIDIA UNIX Open Kernel Module\n") == ()


def test_the_journal_comes_before_the_ring_buffer():
    asked = []

    def run(argv, journal):
        asked.append(argv[0])
        return Outcome(rc=0, stdout=journal) if argv[0] == "journalctl" else Outcome(rc=0, stdout="ring\n")

    assert read_kernel_log(lambda argv: run(argv, "journal\n")) == "journal\n"
    assert asked == ["journalctl"]
    assert read_kernel_log(lambda argv: run(argv, "")) == "ring\n"


def test_nobody_tells():
    assert read_kernel_log(lambda argv: Outcome(rc=1, stderr="Operation not permitted")) is None
