# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the planner against real start-ups and benchmarks of vLLM: ``make accuracy``, or ``python3 tests/accuracy``."""

from __future__ import annotations

import argparse
import importlib
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
importlib.import_module("planner").register()

DATA = pathlib.Path(__file__).resolve().parent / "data"
HALVES = {"logs": ("startup", "vllm_startup_logs.jsonl"), "throughput": ("throughput", "vllm_throughput.jsonl")}
"""The option that names a file of measurements, the module that judges it, and the file that is brought along."""
PACKAGE = "ansible_collections.gpufleet.serving.tests.accuracy"


def main(arguments: list[str] | None = None) -> int:
    """Print the figures of the named files, or of those that are brought along where none is named."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make accuracy")
    parser.add_argument("--logs", help="start-ups and refusals, one JSON object a line")
    parser.add_argument("--throughput", help="benchmark results, one JSON object a line")
    parser.add_argument("--models", default=str(DATA / "model_configs.json"), help="configurations by model name")
    parser.add_argument("--json", help="write the figures into this file as well")
    options = parser.parse_args(arguments)
    named = {half: getattr(options, half) for half in HALVES if getattr(options, half)}
    files = named or {half: str(DATA / HALVES[half][1]) for half in HALVES}
    figures: dict[str, object] = {}
    report: list[str] = []
    for half, path in files.items():
        judge = importlib.import_module(f"{PACKAGE}.{HALVES[half][0]}")
        lines, found = judge.judge(pathlib.Path(path), pathlib.Path(options.models))
        report += [*lines, ""]
        figures |= found
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print("\n".join(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
