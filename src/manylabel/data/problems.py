"""Collects what is wrong with single rows and turns it into findings, one for each kind of problem.

Called by the readers and by `corpus`; the rows of one kind are listed together and in order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from manylabel.errors import Finding

Severity = Literal["error", "warning"]


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
            Finding(
                code=problem.code,
                place=problem.place,
                found=problem.found,
                allowed=problem.allowed,
                next_step=problem.next_step,
                rows=tuple(sorted(set(rows))),
                severity=problem.severity,
            )
            for problem, rows in self.rows_of.items()
        ]


def shown_value(value: object) -> str:
    """A cell for a message: short single words as they are, anything longer only by its length."""
    text = str(value)
    if len(text) <= 12 and text.isprintable() and not any(character.isspace() for character in text):
        return f'"{text}"'
    return f"a text of {len(text):,} characters"
