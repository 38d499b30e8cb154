# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.gpufleet.serving.plugins.module_utils._nvidia_health import (
    GpuHealth,
    GpuProcess,
    parse_health,
    parse_nvlinks,
)
from ansible_collections.gpufleet.serving.tests.unit.plugins.module_utils.gpu_recordings import read

# the elements that are read, as influxdata/telegraf's recording pro-6000-maxq-blackwell-v13.xml has them
WORKSTATION = """\
<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v13.dtd">
<nvidia_smi_log>
	<gpu id="00000000:61:00.0">
		<gpu_recovery_action>None</gpu_recovery_action>
		<pci><pci_gpu_link_info><link_widths>
			<max_link_width>16x</max_link_width><current_link_width>16x</current_link_width>
		</link_widths></pci_gpu_link_info></pci>
		<ecc_errors>
			<volatile><sram_uncorrectable_parity>N/A</sram_uncorrectable_parity>
				<sram_uncorrectable_secded>N/A</sram_uncorrectable_secded>
				<dram_uncorrectable>N/A</dram_uncorrectable></volatile>
			<aggregate><sram_threshold_exceeded>N/A</sram_threshold_exceeded></aggregate>
		</ecc_errors>
		<remapped_rows><remapped_row_pending>No</remapped_row_pending><remapped_row_failure>No</remapped_row_failure>
		</remapped_rows>
		<fabric><state>N/A</state><status>N/A</status></fabric>
	</gpu>
</nvidia_smi_log>
"""


def test_a_recorded_gpu_that_is_well():
    assert parse_health(WORKSTATION) == (
        GpuHealth(pci_address="0000:61:00.0", link_width=16, link_width_max=16, rows_pending=False, rows_failed=False),
    )


def faulty(element, value, inside="gpu"):
    """The recording with one value changed."""
    start = WORKSTATION.index(f"<{element}>") + len(element) + 2
    return parse_health(WORKSTATION[:start] + value + WORKSTATION[WORKSTATION.index(f"</{element}>", start) :])[0]


@pytest.mark.parametrize(
    ("element", "value", "name", "read_as"),
    [
        ("current_link_width", "8x", "link_width", 8),
        ("dram_uncorrectable", "3", "ecc_volatile", 3),
        ("sram_uncorrectable_secded", "2", "ecc_volatile", 2),
        ("remapped_row_pending", "Yes", "rows_pending", True),
        ("remapped_row_failure", "Yes", "rows_failed", True),
        ("gpu_recovery_action", "Reboot", "recovery_action", "Reboot"),
        ("state", "In Progress", "fabric_state", "In Progress"),
        ("status", "Failure", "fabric_status", "Failure"),
    ],
)
def test_what_can_be_wrong(element, value, name, read_as):
    assert getattr(faulty(element, value), name) == read_as


def test_processes_and_an_older_drivers_single_counter():
    text = """<nvidia_smi_log><gpu id="00000000:81:00.0">
      <ecc_errors><volatile><sram_uncorrectable>1</sram_uncorrectable><dram_uncorrectable>2</dram_uncorrectable></volatile>
      </ecc_errors>
      <processes><process_info><pid>4711</pid><type>C</type><process_name>/usr/bin/python3</process_name>
        <used_memory>17056 MiB</used_memory></process_info>
        <process_info><pid>9</pid><process_name>N/A</process_name><used_memory>N/A</used_memory></process_info>
      </processes></gpu></nvidia_smi_log>"""
    (gpu,) = parse_health(text)
    assert gpu.ecc_volatile == 3
    assert gpu.processes == (GpuProcess(4711, "/usr/bin/python3", 17056), GpuProcess(9, "", None))
    assert "processes" not in gpu.as_dict()


def test_the_recording_of_an_a100_tells_what_it_can():
    gpus = parse_health(read("a100_80_mig", "query.xml"))
    assert [gpu.pci_address.count(":") for gpu in gpus] == [2] * len(gpus)
    assert gpus


@pytest.mark.parametrize("text", ["", "No devices were found", "<nvidia_smi_log/>"])
def test_no_gpus(text):
    assert parse_health(text) == ()


NVLINKS = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-51a0b100-0000-4000-8000-000000000000)
\t Link 0: 26.562 GB/s
\t Link 1: <inactive>
\t Link 2: some future status
GPU 1: NVIDIA L40S (UUID: GPU-145c0000-0000-4000-8000-000000000000)
GPU 2: NVIDIA H100 80GB HBM3 (UUID: GPU-51a0b101-0000-4000-8000-000000000001)
\t Link 0: 26.562 GB/s
"""


def test_a_link_is_up_that_has_a_bandwidth():
    assert parse_nvlinks(NVLINKS) == {0: (1, 3), 2: (1, 1)}
    assert parse_nvlinks("Unable to retrieve NVLink information as all links are inActive\n") == {}
