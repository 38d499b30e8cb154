#!/usr/bin/env python3
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Record the flags that an engine knows into plugins/plugin_utils/_engine_flag_lists.py.

    record_flags.py cpu-0.32.0 --environment /opt/gpufleet/engine/cpu-0.32.0      ask the engine's own parser
    record_flags.py cuda-0.33.0 --wheel vllm-0.33.0-cp38-abi3-manylinux_2_28_x86_64.whl    read its source

The source is enough because vLLM declares each option of ``vllm serve`` in one of two ways: as an ``add_argument`` with
the option spelt out, or as a field of ``FrontendArgs``. That both readings of the same engine agree is tested where an
environment is built.
"""

from __future__ import annotations

import argparse
import ast
import runpy
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
LISTS = CHECKOUT / "plugins" / "plugin_utils" / "_engine_flag_lists.py"

ENGINE_ARGUMENTS = "vllm/engine/arg_utils.py"
FRONTEND_ARGUMENTS = "cli_args.py"
"""The name of the file below vllm/entrypoints; its folder differs between versions."""

HEADER = '''\
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The flags of ``vllm serve`` by engine, as tests/engine/record_flags.py recorded them. Not to be edited by hand."""

from __future__ import annotations

RECORDED: dict[str, frozenset[str]] = {
'''


def flags(options: Iterable[str]) -> frozenset[str]:
    """Long options as flags: in underscores, without help and without the negations of switches."""
    names = {option.removeprefix("--").replace("-", "_") for option in options}
    negations = {f"no_{name}" for name in names}
    return frozenset(names - negations - {"help"})


def flags_of_environment(environment: Path) -> frozenset[str]:
    """The flags that the parser of a built environment knows."""
    script = [str(environment / "bin" / "python"), str(HERE / "describe_flags.py")]
    described = subprocess.run(script, capture_output=True, text=True, check=True)
    return flags(described.stdout.split())


def flags_of_source(sources: Mapping[str, str]) -> frozenset[str]:
    """The flags that the given files of vLLM (path -> text) declare."""
    (frontend,) = (text for path, text in sources.items() if path.endswith(f"/{FRONTEND_ARGUMENTS}"))
    frontend_module, engine_module = ast.parse(frontend), ast.parse(sources[ENGINE_ARGUMENTS])
    fields = (field.replace("_", "-") for field in dataclass_fields(frontend_module, "FrontendArgs"))
    return flags([*fields, *spelt_out(frontend_module), *spelt_out(engine_module)])


def sources_of_wheel(wheel: Path) -> dict[str, str]:
    """The files of a wheel of vLLM that declare its flags."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist() if declares_flags(name)}


def sources_of_environment(environment: Path) -> dict[str, str]:
    """The files of a built environment that declare its flags."""
    (packages,) = environment.glob("lib/python3.*/site-packages")
    names = (str(path.relative_to(packages)) for path in packages.glob("vllm/e*/**/*_*.py"))
    return {name: (packages / name).read_text() for name in names if declares_flags(name)}


def declares_flags(name: str) -> bool:
    """Whether a file of vLLM's wheel declares options of ``vllm serve``."""
    in_frontend = name.startswith("vllm/entrypoints/") and name.endswith(f"/{FRONTEND_ARGUMENTS}")
    return in_frontend or name == ENGINE_ARGUMENTS


def spelt_out(module: ast.Module) -> Iterator[str]:
    """The long options in the calls of ``add_argument`` of a module."""
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
            for argument in node.args:
                if isinstance(argument, ast.Constant) and str(argument.value).startswith("--"):
                    yield str(argument.value)


def dataclass_fields(module: ast.Module, name: str) -> Iterator[str]:
    """The fields of a dataclass and of its bases in the same module."""
    classes = {node.name: node for node in module.body if isinstance(node, ast.ClassDef)}
    if name not in classes:
        return
    for base in classes[name].bases:
        yield from dataclass_fields(module, ast.unparse(base))
    for node in classes[name].body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def render(recorded: Mapping[str, Iterable[str]]) -> str:
    """The module that holds the lists."""
    lines = []
    for engine, known in sorted(recorded.items()):
        lines += [f'    "{engine}": frozenset(', '        """']
        lines += [f"        {flag}" for flag in sorted(known)]
        lines += ['        """.split()', "    ),"]
    return HEADER + "\n".join([*lines, "}"]) + "\n"


def read_lists() -> dict[str, frozenset[str]]:
    """The lists as they are."""
    return dict(runpy.run_path(str(LISTS))["RECORDED"]) if LISTS.exists() else {}


def main(arguments: list[str]) -> int:
    """Record one engine beside those that are recorded already."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", help="<variant>-<version>")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--environment", type=Path)
    source.add_argument("--wheel", type=Path)
    options = parser.parse_args(arguments)

    lists = read_lists()
    if options.environment:
        lists[options.engine] = flags_of_environment(options.environment)
    else:
        lists[options.engine] = flags_of_source(sources_of_wheel(options.wheel))
    LISTS.write_text(render(lists))
    print(f"{options.engine}: {len(lists[options.engine])} flags")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
