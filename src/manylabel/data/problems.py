"""Collects what is wrong with single rows and turns it into findings, one for each kind of problem.

Called by the readers and by `corpus`; the rows of one kind are listed together and in order. All findings of
this package are made by `finding`, so that no name or cell of a file can write to a terminal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Literal

from manylabel.errors import Finding

Severity = Literal["error", "warning"]

NUMBER = re.compile(r"[+-]?(\d{1,6}([.,]\d{0,6})?|[.,]\d{1,6}|nan|inf)", re.IGNORECASE)
"""Up to six digits on either side of the point: a count or a share, too short for a telephone number."""
USUAL_VALUES = frozenset(
    ("yes", "no", "y", "n", "true", "false", "t", "f", "on", "off", "x", "none", "null", "na", "n/a")
)
"""What people write for 1, 0 and -1."""
LONGEST_WORD_SHOWN = 12
NEAR = 0.6
"""`difflib` ratio from which a misspelt name is recognised."""


@dataclass(frozen=True)
class Problem:
    """A kind of problem; two rows with an equal problem become one finding."""

    code: str
    place: str
    found: str
    allowed: str = ""
    next_step: str = ""
    severity: Severity = "error"


@dataclass
class RowProblems:
    """The problems met so far, with their 1-based rows."""

    rows_of: dict[Problem, list[int]] = field(default_factory=dict)

    def add(self, problem: Problem, *rows: int) -> None:
        """Notes `problem` for `rows`; without rows it concerns the whole file."""
        self.rows_of.setdefault(problem, []).extend(rows)

    def extend(self, problem: Problem, rows: Iterable[int]) -> None:
        """Notes `problem` for `rows`, and nothing when there are none."""
        listed = [int(row) for row in rows]
        if listed:
            self.add(problem, *listed)

    def findings(self) -> list[Finding]:
        """One finding a problem, in the order they were met."""
        return [
            finding(
                problem.code,
                problem.place,
                problem.found,
                problem.allowed,
                problem.next_step,
                rows=tuple(sorted(set(rows))),
                severity=problem.severity,
            )
            for problem, rows in self.rows_of.items()
        ]


def finding(
    code: str,
    place: str,
    found: str,
    allowed: str = "",
    next_step: str = "",
    *,
    rows: tuple[int, ...] = (),
    severity: Severity = "error",
) -> Finding:
    """A finding with every control character in its words escaped."""
    return Finding(code, escaped(place), escaped(found), escaped(allowed), escaped(next_step), rows, severity)


def escaped(text: str) -> str:
    r"""`text` with control characters, line ends and invisible signs as `\x1b`, `\n` or `\u202e`."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def near_name(name: str, known: Sequence[str]) -> str | None:
    """The entry of `known` that `name` most likely means, whatever the case; None when nothing is near."""
    by_fold = {entry.casefold(): entry for entry in known}
    near = get_close_matches(name.casefold(), list(by_fold), n=1, cutoff=NEAR)
    return by_fold[near[0]] if near else None


def shown_value(value: object, *, known: Sequence[str] = (), is_named: bool = False) -> str:
    """A label cell for a message: as written when it cannot be a user's text, else only its length.

    Args:
        value: What is wrong.
        known: Names that would be right; a value near one of them is a misspelt label.
        is_named: Whether the user named the column, so that a short word in it is meant as a label.
    """
    text = str(value)
    is_word = len(text) <= LONGEST_WORD_SHOWN and not any(character.isspace() for character in text)
    usual = NUMBER.fullmatch(text) or text.casefold() in USUAL_VALUES
    if usual or (is_named and is_word) or near_name(text, known):
        return f'"{escaped(text)}"'
    return f"a text of {len(text):,} characters"
