"""Every error a user can meet, each one a sentence that says what to do.

ManylabelError              exit code 1
|-- DataError               a file, column or row that cannot be used
|-- EncoderError            an encoder folder or hub model that cannot be loaded
|-- BundleError             a saved model that is damaged, incomplete or changed
|-- TrainingError           a run that had to stop (its last good weights are kept)
`-- UsageError              exit code 2
    `-- ConfigError         a setting that does not exist or is out of range
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MAX_ROWS_SHOWN = 8


@dataclass(frozen=True)
class Finding:
    """One problem: what was found, where, what is allowed and what to do next.

    `rows` are 1-based data rows (the header is not counted). `found` never carries a user's text.
    """

    code: str
    place: str
    found: str
    allowed: str = ""
    next_step: str = ""
    rows: tuple[int, ...] = ()
    severity: Literal["error", "warning"] = "error"

    def sentence(self) -> str:
        """The finding as one line, for example `D107 mails.csv, column "refund", row 12: ...`."""
        where = f"{self.place}, {describe_rows(self.rows)}" if self.rows else self.place
        parts = [f"{self.code} {where}: {self.found}."]
        if self.allowed:
            parts.append(f"Allowed: {self.allowed}.")
        if self.next_step:
            parts.append(f"Next: {self.next_step}.")
        return " ".join(parts)


def describe_rows(rows: tuple[int, ...]) -> str:
    """`row 7`, or `rows 1, 2, 3 and 40 more`."""
    shown = ", ".join(f"{row:,}" for row in rows[:MAX_ROWS_SHOWN])
    if len(rows) == 1:
        return f"row {shown}"
    more = f" and {len(rows) - MAX_ROWS_SHOWN:,} more" if len(rows) > MAX_ROWS_SHOWN else ""
    return f"rows {shown}{more}"


class ManylabelError(Exception):
    """Base of all errors raised on purpose; carries one or more findings."""

    exit_code = 1

    def __init__(self, *findings: Finding) -> None:
        self.findings = findings
        super().__init__("\n".join(finding.sentence() for finding in findings))


class DataError(ManylabelError):
    """A file, column or row cannot be used; all problems of the file at once."""


class EncoderError(ManylabelError):
    """An encoder folder or hub model cannot be loaded."""


class BundleError(ManylabelError):
    """A saved model is damaged, incomplete or not what its manifest says."""


class TrainingError(ManylabelError):
    """Training had to stop; the last good weights are kept."""


class UsageError(ManylabelError):
    """The command or call was used wrongly."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting does not exist or its value is out of range."""
