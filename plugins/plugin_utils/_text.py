# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words and numbers for people: nearest names, natural order, GiB."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence

GIB = 2**30
LONGEST_COMPARED = 64
"""Characters of a name that are compared: nobody misspells more, and comparing costs their product."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant, or None.

    >>> nearest("max_model_length", ["max_model_len", "name"])
    'max_model_len'
    """
    candidates = sorted(known)
    close = difflib.get_close_matches(word[:LONGEST_COMPARED].lower(), [known.lower() for known in candidates], n=1)
    return next((known for known in candidates if known.lower() == close[0]), None) if close else None


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """A remedy for an unknown word: the nearest known one, or all of them."""
    guess = nearest(word, known)
    return f"did you mean {guess}?" if guess else f"use one of {', '.join(sorted(known))}"


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key under which gpu2 comes before gpu10.

    >>> sorted(["gpu10", "gpu2"], key=natural_key)
    ['gpu2', 'gpu10']
    """
    return tuple(_natural_part(part) for part in re.split("([0-9]+)", name)) + ((2, 0, name),)


def _natural_part(part: str) -> tuple[int, int, str]:
    if not re.fullmatch("[0-9]+", part):
        return (1, 0, part)
    digits = part.lstrip("0")
    return (0, len(digits), digits)


def gib(amount_bytes: float) -> str:
    """An amount of memory for a sentence.

    >>> gib(3 * 2**29)
    '1.5 GiB'
    """
    return f"{rounded_gib(amount_bytes):g} GiB"


def rounded_gib(amount_bytes: float) -> float:
    """Bytes as GiB, to the hundredth."""
    return round(amount_bytes / GIB, 2)


def listing(names: Iterable[str], limit: int = 6) -> str:
    """Names in a sentence, the long tail counted.

    >>> listing(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    names = list(names)
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def counted(count: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "replica"), counted(2, "replica")
    ('1 replica', '2 replicas')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def repeated(names: Iterable[str]) -> list[str]:
    """The names that come more than once.

    >>> repeated(["a", "b", "a"])
    ['a']
    """
    return sorted(name for name, count in Counter(names).items() if count > 1)
