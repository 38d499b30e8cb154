# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads data that nobody has checked yet: every mistake becomes a refusal that names the place and the value.

Ansible hands over tagged subclasses of str, list and dict, and whatever YAML made of an operator's typing. ``plain``
turns that into JSON's own types; a ``Reader`` then takes one mapping apart, key by key.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeGuard

from ._findings import Findings
from ._text import did_you_mean

DEEPEST = 32
"""Levels of nesting that are read. The deepest real input, a host's facts, has seven."""
LARGEST_NUMBER = 2**53
"""Beyond it JSON readers lose digits; no size, count or port comes near."""
TRUE_WORDS = frozenset({"true", "yes", "on"})
FALSE_WORDS = frozenset({"false", "no", "off"})


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number, which JSON's true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def plain(value: Any, path: str, findings: Findings, depth: int = 0) -> Any:
    """``value`` in JSON's own types. What JSON cannot say is refused and read as null."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int | float):
        return _number(value, path, findings)
    if depth >= DEEPEST:
        findings.refuse("bad_value", path, f"is nested deeper than {DEEPEST} levels", "give plain values")
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{path}.{key}", findings, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{path}[{position}]", findings, depth + 1) for position, item in enumerate(value)]
    findings.refuse(
        "bad_value", path, f"is a {type(value).__name__}", "give text, a number, true, false, a list or a mapping"
    )
    return None


def _number(value: float, path: str, findings: Findings) -> int | float | None:
    if (isinstance(value, float) and not math.isfinite(value)) or abs(value) > LARGEST_NUMBER:
        findings.refuse(
            "bad_value", path, "is a number that no computer of the fleet could use", "give an ordinary number"
        )
        return None
    return int(value) if isinstance(value, int) else float(value)


def shown(value: Any) -> str:
    """A value as JSON writes it, short enough for a sentence."""
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class Reader:
    """One mapping of plain data, read key by key.

    A key that is absent or null gives its default. A value of the wrong type is refused and gives the default too, so
    that reading goes on and all mistakes are found in one run.
    """

    def __init__(self, value: Any, path: str, findings: Findings, known: Collection[str] | None = None) -> None:
        """``known``: the keys that may stand here; None where others do no harm."""
        self.path = path
        self.findings = findings
        self._values: dict[str, Any] = value if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            self.wrong("", value, "a mapping")
        if known is not None:
            for key in sorted(set(self._values) - set(known)):
                findings.refuse("unknown_option", self.at(key), "is no option", did_you_mean(key, sorted(known)))

    def at(self, key: str) -> str:
        """The path of a key, as messages name it."""
        return f"{self.path}.{key}" if key else self.path

    def wrong(self, key: str, value: Any, wanted: str, *remedies: str) -> None:
        self.findings.refuse("bad_value", self.at(key), f"is {shown(value)}", *(remedies or (f"give {wanted}",)))

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def text(self, key: str, default: str | None = None, pattern: str = r"[^\x00-\x1f\x7f]+") -> str | None:
        """Text that matches ``pattern`` as a whole: by default any, without control characters."""
        value = self._values.get(key)
        if value is None:
            return default
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        self.wrong(key, value, "text on one line")
        return default

    def choice(self, key: str, choices: Collection[str], default: str) -> str:
        value = self._values.get(key)
        if value is None:
            return default
        if isinstance(value, str) and value in choices:
            return value
        self.wrong(key, value, f"one of {', '.join(sorted(choices))}")
        return default

    def flag(self, key: str, default: bool = False) -> bool:
        value = self._values.get(key)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        word = value.lower() if isinstance(value, str) else ""
        if word in TRUE_WORDS | FALSE_WORDS:
            return word in TRUE_WORDS
        self.wrong(key, value, "true or false")
        return default

    def integer(self, key: str, default: int | None = None, least: int = 1, most: int = LARGEST_NUMBER) -> int | None:
        value = _whole(self._values.get(key))
        if value is None:
            return default
        if is_whole(value) and least <= value <= most:
            return value
        wanted = f"a whole number from {least}" + (f" to {most}" if most < LARGEST_NUMBER else "")
        self.wrong(key, value, wanted)
        return default

    def integer_or_auto(self, key: str, most: int = LARGEST_NUMBER) -> int | None:
        """A whole number from 1, or None for ``auto`` (the default)."""
        return None if self._values.get(key) == "auto" else self.integer(key, most=most)

    def number(
        self, key: str, default: float | None = None, above: float = 0.0, most: float = math.inf
    ) -> float | None:
        value = _numeric(self._values.get(key))
        if value is None:
            return default
        if isinstance(value, int | float) and not isinstance(value, bool) and above < value <= most:
            return float(value)
        self.wrong(key, value, f"a number above {above:g}" + (f" and at most {most:g}" if most < math.inf else ""))
        return default

    def mapping(self, key: str) -> dict[str, Any]:
        value = self._values.get(key)
        if value is None or isinstance(value, dict):
            return value or {}
        self.wrong(key, value, "a mapping")
        return {}

    def items(self, key: str) -> list[Any]:
        value = self._values.get(key)
        if value is None or isinstance(value, list):
            return value or []
        self.wrong(key, value, "a list")
        return []

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of text."""
        found = self.items(key)
        for position, item in enumerate(found):
            if not isinstance(item, str):
                self.wrong(f"{key}[{position}]", item, "text")
        return tuple(item for item in found if isinstance(item, str))

    def each(self, key: str) -> Iterator[tuple[str, Any]]:
        """The items of a list with their paths."""
        for position, item in enumerate(self.items(key)):
            yield self.at(f"{key}[{position}]"), item


def _whole(value: Any) -> Any:
    """A command line (``-e name=8``) makes text of numbers; such text is a number here."""
    return int(value) if isinstance(value, str) and re.fullmatch("-?[0-9]{1,15}", value) else value


def _numeric(value: Any) -> Any:
    return float(value) if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,15})?", value) else value
