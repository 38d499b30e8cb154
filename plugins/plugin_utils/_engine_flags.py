# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which flags each pinned engine knows, and which parsers.

A flag is written as a key of vLLM's YAML configuration in underscores: ``max_model_len``, not ``--max-model-len``. The
negation of a switch (``--no-enable-log-deltas``) is no flag of its own: in YAML it is the switch with the value false.
"""

from __future__ import annotations

from collections.abc import Iterable

from ._engine_flag_lists import PARSERS, RECORDED
from ._text import nearest as nearest_word


class UnrecordedEngine(LookupError):
    """There is no list of flags for an engine; the text names those that there are lists for."""


def normalised(flag: str) -> str:
    """A flag in the spelling of this module.

    >>> normalised("--max-model-len")
    'max_model_len'
    """
    return flag.strip().lstrip("-").replace("-", "_")


def recorded(variant: str) -> list[str]:
    """The versions of a variant (``cpu``, ``cuda``) that flags are recorded for."""
    return sorted(name.removeprefix(f"{variant}-") for name in RECORDED if name.startswith(f"{variant}-"))


def known(variant: str, version: str) -> frozenset[str]:
    """The flags of ``vllm serve`` in a variant (``cpu``, ``cuda``) and a version. Raises UnrecordedEngine."""
    try:
        return RECORDED[f"{variant}-{version}"]
    except KeyError:
        versions = ", ".join(recorded(variant)) or "none"
        raise UnrecordedEngine(f"no flags are recorded for vLLM {version} ({variant}); known: {versions}") from None


def parsers(variant: str, version: str) -> dict[str, frozenset[str]]:
    """The names that each flag of a parser takes, in a recorded engine."""
    return PARSERS[f"{variant}-{version}"]


def lacking(options: Iterable[str], variant: str, version: str) -> list[str]:
    """The recorded flags of an engine that some long options lack, sorted; none where nothing is recorded of it.

    >>> lacking(["--model", "--host"], "cpu", "0.0.0")
    []
    """
    return sorted(RECORDED.get(f"{variant}-{version}", frozenset()) - {normalised(option) for option in options})


def nearest(flag: str, variant: str, version: str) -> str | None:
    """The known flag that was probably meant by an unknown one, or None. Raises UnrecordedEngine."""
    return nearest_word(normalised(flag), known(variant, version))
