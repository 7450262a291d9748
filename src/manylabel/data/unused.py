"""Columns that a guess leaves out although a user may have meant them, as notes. Called by `corpus`."""

from __future__ import annotations

import pyarrow as pa

from manylabel.data.guessing import FLAG_VALUES, USUAL_IDS, Columns
from manylabel.data.layout import Layout
from manylabel.data.problems import finding
from manylabel.errors import Finding

YES_OR_NO = frozenset(("yes", "no", "y", "n", "t", "f", "on", "off", "x"))
"""What people write for 1 and 0, in lower case; true and false are read as they are."""

MARKED_SHARE = 0.9
"""Share of such words from which a column is taken for one of yes and no; the rest may be slips."""


def unused_columns(table: pa.Table, layout: Layout, source: str) -> list[Finding]:
    """Warnings about unused columns that look like a label or an id, each with the way to use it.

    None about what the user or a model said: only guesses are doubted.
    """
    columns = Columns(table, source)
    return [*_label_like(columns, layout), *_repeated_ids(columns, layout)]


def _label_like(columns: Columns, layout: Layout) -> list[Finding]:
    """Columns of yes and no beside the 0/1 columns that were guessed to be the labels."""
    if layout.style != "one_hot" or "label_columns" in layout.given:
        return []
    findings = []
    for name in layout.ignored_columns:
        if (words := _yes_and_no(columns, name)) is None:
            continue
        found = f"it holds {words}, not 0 and 1, so it is not taken for a label and not used"
        step = (
            f'write 1 and 0 to make "{name}" a label, or name the label columns with --label-columns '
            "to leave it out"
        )
        place = f'{columns.source}, column "{name}"'
        findings.append(
            finding("D127", place, found, "0, 1 or -1 in label columns", step, severity="warning")
        )
    return findings


def _yes_and_no(columns: Columns, name: str) -> str | None:
    """The words for yes and no in a column made mostly of them, for example `"no" and "yes"`."""
    counts = columns.distinct(name)
    words = {value: value.strip().casefold() for value in counts}
    marked = sum(count for value, count in counts.items() if words[value] in YES_OR_NO | FLAG_VALUES.keys())
    kinds = sorted({word for word in words.values() if word in YES_OR_NO})
    if not kinds or marked < MARKED_SHARE * sum(counts.values()):
        return None
    return " and ".join(f'"{word}"' for word in kinds)


def _repeated_ids(columns: Columns, layout: Layout) -> list[Finding]:
    """Columns named as ids are whose values mostly repeat, where nothing else is the id."""
    if layout.id_column is not None:
        return []
    findings = []
    for name in columns.by_usual_name(USUAL_IDS):
        if name not in layout.ignored_columns or not columns.is_scalar(name):
            continue
        different, rows = columns.num_distinct(name), columns.table.num_rows
        found = (
            f"it is named like an id, but has only {different:,} different values in {rows:,} rows; "
            "it is not used, and rows go by their number"
        )
        step = (
            f'--id-column NAME where another column is the id; --group-column "{name}" where rows with the '
            "same value must stay in one split"
        )
        place = f'{columns.source}, column "{name}"'
        findings.append(finding("D128", place, found, "a different id in each row", step, severity="warning"))
    return findings
