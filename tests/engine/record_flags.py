#!/usr/bin/env python3
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Record the flags that an engine knows, and its parsers, into plugins/plugin_utils/_engine_flag_lists.py.

    record_flags.py cpu-0.32.0 --environment /opt/gpufleet/engine/cpu-0.32.0      ask the engine's own parser
    record_flags.py cuda-0.33.0 --wheel vllm-0.33.0-cp38-abi3-manylinux_2_28_x86_64.whl    read its source

The source is enough because vLLM declares each option of ``vllm serve`` in one of two ways: as an ``add_argument`` with
the option spelt out, or as a field of ``FrontendArgs``. That both readings of the same engine agree is tested where an
environment is built. Its parsers of tool calls and of reasoning it lists in a dictionary each.
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
DESCRIBE = CHECKOUT / "roles" / "engine" / "files" / "describe_flags.py"
"""The script with which the role engine asks a new environment too."""

LISTS = CHECKOUT / "plugins" / "plugin_utils" / "_engine_flag_lists.py"

ENGINE_ARGUMENTS = "vllm/engine/arg_utils.py"
FRONTEND_ARGUMENTS = "cli_args.py"
"""The name of the file below vllm/entrypoints; its folder differs between versions."""

PARSERS = {
    "tool_call_parser": ("vllm/tool_parsers/__init__.py", "_TOOL_PARSERS_TO_REGISTER"),
    "reasoning_parser": ("vllm/reasoning/__init__.py", "_REASONING_PARSERS_TO_REGISTER"),
}
"""Each flag that names a parser: the file that lists what there is, and the dictionary whose keys are the names."""

HEADER = '''\
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each engine knows, as tests/engine/record_flags.py recorded it. Not to be edited by hand.

``RECORDED`` holds the flags of ``vllm serve``, ``PARSERS`` the names that a flag of a parser takes.
"""

from __future__ import annotations

'''


def flags(options: Iterable[str]) -> frozenset[str]:
    """Long options as flags: in underscores, without help and without the negations of switches."""
    names = {option.removeprefix("--").replace("-", "_") for option in options}
    negations = {f"no_{name}" for name in names}
    return frozenset(names - negations - {"help"})


def flags_of_environment(environment: Path) -> frozenset[str]:
    """The flags that the parser of a built environment knows."""
    script = [str(environment / "bin" / "python"), str(DESCRIBE)]
    described = subprocess.run(script, capture_output=True, text=True, check=True)
    return flags(described.stdout.split())


def flags_of_source(sources: Mapping[str, str]) -> frozenset[str]:
    """The flags that the given files of vLLM (path -> text) declare."""
    (frontend,) = (text for path, text in sources.items() if path.endswith(f"/{FRONTEND_ARGUMENTS}"))
    frontend_module, engine_module = ast.parse(frontend), ast.parse(sources[ENGINE_ARGUMENTS])
    fields = (field.replace("_", "-") for field in dataclass_fields(frontend_module, "FrontendArgs"))
    return flags([*fields, *spelt_out(frontend_module), *spelt_out(engine_module)])


def parsers_of_source(sources: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """The names that each flag of a parser takes."""
    return {flag: frozenset(keys_of(ast.parse(sources[path]), name)) for flag, (path, name) in PARSERS.items()}


def keys_of(module: ast.Module, name: str) -> list[str]:
    """The keys of the dictionary that a module assigns to a name."""
    (value,) = (
        node.value
        for node in module.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name and isinstance(node.value, ast.Dict)
    )
    return [str(ast.literal_eval(key)) for key in value.keys if key]


def sources_of_wheel(wheel: Path) -> dict[str, str]:
    """The files of a wheel of vLLM that tell what it knows."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist() if is_source(name)}


def sources_of_environment(environment: Path) -> dict[str, str]:
    """The files of a built environment that tell what its engine knows."""
    (packages,) = environment.glob("lib/python3.*/site-packages")
    names = (str(path.relative_to(packages)) for path in packages.glob("vllm/**/*_*.py"))
    return {name: (packages / name).read_text() for name in names if is_source(name)}


def is_source(name: str) -> bool:
    """Whether a file of vLLM's wheel declares options of ``vllm serve``, or lists parsers."""
    in_frontend = name.startswith("vllm/entrypoints/") and name.endswith(f"/{FRONTEND_ARGUMENTS}")
    return in_frontend or name == ENGINE_ARGUMENTS or name in {path for path, _name in PARSERS.values()}


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


def render(recorded: Mapping[str, Iterable[str]], parsers: Mapping[str, Mapping[str, Iterable[str]]]) -> str:
    """The module that holds the lists."""
    lines = ["RECORDED: dict[str, frozenset[str]] = {"]
    for engine, known in sorted(recorded.items()):
        lines += listed(engine, known, "    ")
    lines += ["}", "", "PARSERS: dict[str, dict[str, frozenset[str]]] = {"]
    for engine, flags_of_parsers in sorted(parsers.items()):
        lines.append(f'    "{engine}": {{')
        for flag, names in sorted(flags_of_parsers.items()):
            lines += listed(flag, names, "        ")
        lines.append("    },")
    return HEADER + "\n".join([*lines, "}"]) + "\n"


def listed(key: str, words: Iterable[str], indent: str) -> list[str]:
    """The lines of one entry whose value is a set of words."""
    return [
        f'{indent}"{key}": frozenset(',
        f'{indent}    """',
        *(f"{indent}    {word}" for word in sorted(words)),
        f'{indent}    """.split()',
        f"{indent}),",
    ]


def read_lists() -> tuple[dict[str, frozenset[str]], dict[str, dict[str, frozenset[str]]]]:
    """The lists as they are: of flags, and of parsers."""
    present = runpy.run_path(str(LISTS)) if LISTS.exists() else {}
    return dict(present.get("RECORDED", {})), dict(present.get("PARSERS", {}))


def main(arguments: list[str]) -> int:
    """Record one engine beside those that are recorded already."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", help="<variant>-<version>")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--environment", type=Path)
    source.add_argument("--wheel", type=Path)
    options = parser.parse_args(arguments)

    lists, parsers = read_lists()
    sources = sources_of_environment(options.environment) if options.environment else sources_of_wheel(options.wheel)
    lists[options.engine] = (
        flags_of_environment(options.environment) if options.environment else flags_of_source(sources)
    )
    parsers[options.engine] = parsers_of_source(sources)
    LISTS.write_text(render(lists, parsers))
    print(f"{options.engine}: {len(lists[options.engine])} flags")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
