# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole hosts to test with: a recording of GPUs, and around it a system as its ``host.json`` describes it.

``lay_out`` makes a folder that stands for such a host wherever it is copied to: ``root`` in place of /, ``bin`` with
programs that play the recording back. All that a ``host.json`` adds is constructed; what it leaves out is well.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ansible_collections.gpufleet.serving.plugins.module_utils._command import Outcome, run_bounded
from ansible_collections.gpufleet.serving.plugins.module_utils._gpu_facts import gpu_facts
from ansible_collections.gpufleet.serving.plugins.module_utils._host import read_host
from ansible_collections.gpufleet.serving.plugins.module_utils._nvidia_smi import NvidiaSmi
from ansible_collections.gpufleet.serving.plugins.module_utils._preflight import read_preflight
from ansible_collections.gpufleet.serving.plugins.modules.gpu_info import read_hardware
from ansible_collections.gpufleet.serving.tests.unit.plugins.module_utils.gpu_recordings import (
    PLAYER,
    RECORDINGS,
    build_root,
)

HERE = '$(dirname "$(readlink -f "$0")")/..'
SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
GPU_DEFAULTS = {
    "aggregate": 0,
    "fabric_state": "N/A",
    "fabric_status": "N/A",
    "link_width": 16,
    "nvlinks": 0,
    "nvlinks_up": None,
    "recovery_action": "None",
    "rows_failed": "No",
    "rows_pending": "No",
    "volatile": 0,
}
HOST_DEFAULTS: dict[str, Any] = {
    "container": None,
    "fabric_manager": None,
    "faults": {},
    "gpus": {},
    "headers": True,
    "kernel": "6.1.0-38-amd64",
    "memory_gib": 512,
    "module": None,
    "nofile": 1048576,
    "nouveau": False,
    "os": "debian 12",
    "packages": [],
    "processes": [],
    "secure_boot": None,
    "units": {},
}


def lay_out(case: str, folder: Path, **changes: Any) -> dict[str, Any]:
    """Make the folder of a recorded host, with its ``host.json`` changed; returns what that then says."""
    recording = RECORDINGS / case
    stated = json.loads((recording / "host.json").read_text(encoding="utf-8"))
    host = {**HOST_DEFAULTS, **stated, **changes}
    build_root(case, folder / "root")
    shutil.copytree(recording, folder / "recording")
    _system(folder / "root", host)
    _write_health(folder / "recording", host)
    _programs(folder, case, host)
    return host


def ask(folder: Path, timeout_s: float = 20.0) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ``gpu_info`` and ``preflight_info`` answer on a host that was laid out here."""
    root, path = folder / "root", f"{folder / 'bin'}:{os.environ['PATH']}"

    def run(argv: list[str]) -> Outcome:
        program = shutil.which(argv[0], path=path)
        return run_bounded([program, *argv[1:]], timeout_s) if program else Outcome(rc=None, missing=True)

    smi = folder / "bin/nvidia-smi"
    hardware = read_hardware(root)
    reading = NvidiaSmi(
        lambda *arguments: run([str(smi), *arguments]) if smi.exists() else Outcome(rc=None, missing=True)
    ).read(expected=[gpu.address for gpu in hardware.own_gpus])
    facts = {**gpu_facts(hardware, reading), "host": read_host(root, run, [])}
    return json.loads(json.dumps([facts, read_preflight(root, run, "python3")]))


def _system(root: Path, host: dict[str, Any]) -> None:
    name, release = host["os"].split()
    files = {
        "etc/os-release": f'ID={name}\nVERSION_ID="{release}"\n',
        "proc/sys/kernel/osrelease": host["kernel"],
        "proc/meminfo": f"MemTotal: {host['memory_gib'] * 2**20} kB\nMemAvailable: {host['memory_gib'] * 2**20} kB\n",
        "proc/1/cgroup": "0::/\n",
        "proc/1/limits": f"Max open files            1024                 {host['nofile']}              files\n"
        "Max locked memory         unlimited            unlimited            bytes\n",
    }
    for process in host["processes"]:
        folder = f"proc/{process['pid']}"
        files[f"{folder}/comm"] = process["name"] + "\n"
        files[f"{folder}/cgroup"] = f"0::/system.slice/{process['unit']}\n"
        files[f"{folder}/status"] = f"Name:\t{process['name']}\nUid:\t1000\t1000\t1000\t1000\n"
    if host["container"]:
        files["run/systemd/container"] = host["container"]
    for path, text in files.items():
        _write(root / path, text)
    (root / "dev/shm").mkdir(parents=True)
    if host["headers"]:
        (root / "lib/modules" / host["kernel"] / "build").mkdir(parents=True)
    if host["nouveau"]:
        (root / "sys/module/nouveau").mkdir(parents=True)
    if host["secure_boot"] is not None:
        _write(root / SECURE_BOOT, "\x06\0\0\0" + chr(host["secure_boot"]))


def _write_health(recording: Path, host: dict[str, Any]) -> None:
    """What ``nvidia-smi -q -x`` and ``nvidia-smi nvlink -s`` print of the GPUs that the recorded query lists."""
    query = recording / "query.csv"
    rows = [line.split(", ") for line in query.read_text(encoding="utf-8").splitlines()] if query.exists() else []
    listed = [row for row in rows if len(row) > 5]
    log, links = ElementTree.Element("nvidia_smi_log"), ""
    for row in listed:
        told = {**GPU_DEFAULTS, **host["gpus"], **host["faults"].get(row[3], {})}
        log.append(_gpu(row[3], told, [process for process in host["processes"] if process["gpu"] == row[3]]))
        up = told["nvlinks"] if told["nvlinks_up"] is None else told["nvlinks_up"]
        states = ["26.562 GB/s"] * up + ["<inactive>"] * (told["nvlinks"] - up)
        links += f"GPU {row[0]}: {row[2]} (UUID: {row[1]})\n"
        links += "".join(f"\t Link {number}: {state}\n" for number, state in enumerate(states))
    if listed and not (recording / "query.xml").exists():
        _write(recording / "query.xml", ElementTree.tostring(log, encoding="unicode"))
    _write(recording / "nvlink.txt", links)


def _gpu(address: str, told: dict[str, Any], processes: list[dict[str, Any]]) -> ElementTree.Element:
    values = {
        "pci/pci_gpu_link_info/link_widths/max_link_width": "16x",
        "pci/pci_gpu_link_info/link_widths/current_link_width": f"{told['link_width']}x",
        "ecc_errors/volatile/sram_uncorrectable_parity": 0,
        "ecc_errors/volatile/sram_uncorrectable_secded": "N/A",
        "ecc_errors/volatile/dram_uncorrectable": told["volatile"],
        "ecc_errors/aggregate/dram_uncorrectable": told["aggregate"],
        "remapped_rows/remapped_row_pending": told["rows_pending"],
        "remapped_rows/remapped_row_failure": told["rows_failed"],
        "gpu_recovery_action": told["recovery_action"],
        "fabric/state": told["fabric_state"],
        "fabric/status": told["fabric_status"],
    }
    gpu = ElementTree.Element("gpu", id=address)
    for path, value in values.items():
        element = gpu
        for name in path.split("/"):
            found = element.find(name)
            element = ElementTree.SubElement(element, name) if found is None else found
        element.text = str(value)
    listed = ElementTree.SubElement(gpu, "processes")
    for process in processes:
        info = ElementTree.SubElement(listed, "process_info")
        for name, value in {
            "pid": process["pid"],
            "process_name": process["name"],
            "used_memory": f"{process['memory_mib']} MiB",
        }.items():
            ElementTree.SubElement(info, name).text = str(value)
    return gpu


def _programs(folder: Path, case: str, host: dict[str, Any]) -> None:
    recording = folder / "recording"
    programs = {
        "dpkg-query": _printing("".join(f"installed {package}\n" for package in host["packages"])),
        "journalctl": '#!/bin/sh\nexec cat "' + HERE + '/recording/kernel.log"\n',
        "mokutil": _printing("key is not enrolled\n"),
        "modinfo": _printing(f"{host['module']}\n") if host["module"] else "#!/bin/sh\nexit 1\n",
        "systemctl": _systemctl(host["units"]),
        "timedatectl": _printing("yes\n"),
    }
    if host["fabric_manager"]:
        programs["nv-fabricmanager"] = _printing(f"Fabric Manager version is : {host['fabric_manager']}\n")
    if (recording / "query.csv").exists() or (recording / "hang").exists():
        programs["nvidia-smi"] = PLAYER.format(recording="@").replace("'@'", f'"{HERE}/recording"')
    if not (recording / "kernel.log").exists():
        _write(recording / "kernel.log", f"Linux version {host['kernel']} of the recording {case}\n")
    for name, text in programs.items():
        _write(folder / "bin" / name, text)
        (folder / "bin" / name).chmod(0o755)


def _printing(text: str) -> str:
    return f"#!/bin/sh\ncat <<'END'\n{text}END\n"


def _systemctl(units: dict[str, str]) -> str:
    """``systemctl show`` for units that run; every other is not there."""
    cases = "".join(
        f"  {name}) printf 'LoadState=loaded\\nActiveState={state}\\nSubState=running\\nUnitFileState=enabled\\n' ;;\n"
        for name, state in units.items()
    )
    gone = "  *) printf 'LoadState=not-found\\nActiveState=inactive\\nSubState=dead\\nUnitFileState=\\n' ;;\n"
    return '#!/bin/sh\n[ "$1" = show ] || exit 0\nfor unit; do :; done\ncase "$unit" in\n' + cases + gone + "esac\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="latin-1")
