"""Every error a user can meet, each one a sentence that says what to do.

ManylabelError              exit code 1
|-- DataError               a file, column or row that cannot be used
|-- EncoderError            an encoder folder or hub model that cannot be loaded
|-- BundleError             a saved model that is damaged, incomplete or changed
|-- TrainingError           a run that had to stop (its last good weights are kept)
|-- TrainingStopped         exit code 130: a run that was asked to stop (its state is kept)
`-- UsageError              exit code 2
    `-- ConfigError         a setting that does not exist or is out of range
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

MAX_ROWS_SHOWN = 8
MAX_NAMES_SHOWN = 10
QUOTED = re.compile(r'"([^"]*)"')
KINDS_NAMED = re.compile(r"\b(column|label|setting|id|name)(?= $)")
"""What a quoted name may be the name of; several of them are named in the plural."""


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
        parts = [_ended(f"{self.code} {where}: {self.found}")]
        if self.allowed:
            parts.append(_ended(f"Allowed: {self.allowed}"))
        if self.next_step:
            parts.append(_ended(f"Next: {self.next_step}"))
        return " ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The finding as plain values."""
        return {
            "code": self.code,
            "severity": self.severity,
            "place": self.place,
            "found": self.found,
            "allowed": self.allowed,
            "next_step": self.next_step,
            "rows": list(self.rows),
        }


def told_together(findings: Sequence[Finding]) -> list[Finding]:
    """The findings for people to read: those that differ in one quoted name alone become one with all the names.

    A file may lack 28 labels in the same way; that is one thing to know and not 28. Up to 10 names are written out.
    """
    alike: dict[Finding, list[Finding]] = {}
    for finding in findings:
        kind = finding
        # A name that has a quotation mark itself cannot be told from the words around it: such a finding stays alone.
        if not any(text.count('"') % 2 for text in (finding.place, finding.found)):
            place, found = (QUOTED.sub('""', text) for text in (finding.place, finding.found))
            kind = replace(finding, place=place, found=found)
        alike.setdefault(kind, []).append(finding)
    return [each for same in alike.values() for each in _joined_kind(same)]


def _joined_kind(alike: Sequence[Finding]) -> list[Finding]:
    """Findings that are equal but for their quoted names, joined over the name that most of them differ in."""
    if len(set(alike)) == 1:
        return [alike[0]]
    names_of = [(*QUOTED.findall(each.place), *QUOTED.findall(each.found)) for each in alike]
    ways = []
    for slot in range(len(names_of[0])):
        by_others: dict[tuple[str, ...], list[int]] = {}
        for number, names in enumerate(names_of):
            by_others.setdefault(names[:slot] + names[slot + 1 :], []).append(number)
        ways.append((slot, list(by_others.values())))
    slot, parts = min(ways, key=lambda way: len(way[1]))
    return [
        _with_names(alike[part[0]], slot, list(dict.fromkeys(names_of[number][slot] for number in part)))
        for part in parts
    ]


def _with_names(finding: Finding, slot: int, names: Sequence[str]) -> Finding:
    """`finding` with several names in place of the quoted one at `slot`, counted through place and found."""
    if len(names) == 1:
        return finding
    in_place = len(QUOTED.findall(finding.place))
    if slot < in_place:
        return replace(finding, place=_listing(finding.place, slot, names, r"each of the \1s"))
    return replace(finding, found=_listing(finding.found, slot - in_place, names, r"\1s"))


def _listing(text: str, slot: int, names: Sequence[str], several: str) -> str:
    """`text` with the first names in place of the one at `slot`; `several` is the plural of what they name."""
    match = list(QUOTED.finditer(text))[slot]
    more = f" and {len(names) - MAX_NAMES_SHOWN:,} more" if len(names) > MAX_NAMES_SHOWN else ""
    listed = ", ".join(f'"{name}"' for name in names[:MAX_NAMES_SHOWN]) + more
    return KINDS_NAMED.sub(several, text[: match.start()]) + listed + text[match.end() :]


def describe_rows(rows: tuple[int, ...]) -> str:
    """`row 7`, or `rows 1, 2, 3 and 40 more`."""
    shown = ", ".join(f"{row:,}" for row in rows[:MAX_ROWS_SHOWN])
    if len(rows) == 1:
        return f"row {shown}"
    more = f" and {len(rows) - MAX_ROWS_SHOWN:,} more" if len(rows) > MAX_ROWS_SHOWN else ""
    return f"rows {shown}{more}"


def counted(count: int, one: str, several: str = "") -> str:
    """`1 row` or `2,000 rows`; `several` is the plural where it is not `one` with an s."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def _ended(sentence: str) -> str:
    """`sentence` with a full stop, unless it has an end already."""
    return sentence if sentence.endswith((".", "?", "!")) else sentence + "."


class ManylabelError(Exception):
    """Base of all errors raised on purpose; carries one or more findings, told with those that are alike joined."""

    exit_code = 1

    def __init__(self, *findings: Finding) -> None:
        self.findings = findings
        super().__init__("\n".join(finding.sentence() for finding in told_together(findings)))


class DataError(ManylabelError):
    """A file, column or row cannot be used; all problems of the file at once."""


class EncoderError(ManylabelError):
    """An encoder folder or hub model cannot be loaded."""


class BundleError(ManylabelError):
    """A saved model is damaged, incomplete or not what its manifest says."""


class TrainingError(ManylabelError):
    """Training had to stop; the last good weights are kept."""


class TrainingStopped(ManylabelError):
    """Training was asked to stop; its state is saved, and the same call goes on from there."""

    exit_code = 130


class UsageError(ManylabelError):
    """The command or call was used wrongly."""

    exit_code = 2


class ConfigError(UsageError):
    """A setting does not exist or its value is out of range."""
