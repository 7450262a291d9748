"""Labels that a search found to be probably wrong, for the report; called by recipes/report.py.

The file is what `manylabel label-errors` writes: a row for each suspected cell. Only cells of the reported rows are
shown, so that a search of one file is not told as the errors of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manylabel.config.schema import DataSettings
from manylabel.data.problems import finding
from manylabel.data.read import read_table
from manylabel.errors import DataError, counted
from manylabel.values import Corpus

COLUMNS = ("id", "label", "given", "probability")
BY_MODEL = "model"
"""The reason of a suspected cell in the file; contradictory copies, the other one, are counted by the report itself."""
MOST_CHANGED = 0.1
"""Share of the cells with another label in the data from which the file is about other rows."""


@dataclass(frozen=True)
class KnownErrors:
    """Suspected cells as the report shows them, the likeliest first, and what was left out, as a sentence."""

    cells: tuple[Mapping[str, Any], ...]
    left_out: str


def read_errors(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The suspected cells of a file in its order: id, label, given, probability.

    Raises DataError where it is no such file.
    """
    table = read_table(path, DataSettings())
    if missing := [name for name in COLUMNS if name not in table.column_names]:
        found = "it has no column " + ", ".join(f'"{name}"' for name in missing)
        step = "give what manylabel label-errors wrote"
        raise DataError(finding("D178", path.name, found, ", ".join(COLUMNS), step))
    names = [*COLUMNS, *(["reason"] if "reason" in table.column_names else [])]
    rows = table.select(names).to_pylist()
    cells, wrong = [], []
    for number, row in enumerate(rows, start=1):
        if row.get("reason") not in (None, BY_MODEL):
            continue
        cell = _cell(row)
        if cell is None:
            wrong.append(number)
        else:
            cells.append(cell)
    if wrong:
        allowed = "given 0 or 1 and a probability from 0 to 1"
        step = "give what manylabel label-errors wrote"
        raise DataError(
            finding("D178", path.name, "this is no suspected label", allowed, step, rows=tuple(wrong))
        )
    return tuple(cells)


def _cell(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """One cell as plain values, or None where it is none."""
    try:
        given, probability = float(row["given"]), float(row["probability"])
    except (TypeError, ValueError):
        return None
    if row["id"] is None or row["label"] is None or given not in (0.0, 1.0) or not 0.0 <= probability <= 1.0:
        return None
    return {
        "id": str(row["id"]),
        "label": str(row["label"]),
        "given": int(given),
        "probability": probability,
    }


def errors_of_rows(cells: Sequence[Mapping[str, Any]], corpus: Corpus, source: str) -> KnownErrors:
    """The cells that are labels of these rows still; `source` is the name of their file.

    A cell whose row is not among these, whose label the model does not have, or whose label is another one by now is
    left out and counted. Raises DataError where none is of these rows, or more than a tenth have another label: the
    search was of another file then.
    """
    row_of = {name: row for row, name in enumerate(corpus.ids)}
    column_of = {name: column for column, name in enumerate(corpus.labels.names)}
    here = [cell for cell in cells if cell["id"] in row_of and cell["label"] in column_of]
    kept = tuple(
        cell
        for cell in here
        if corpus.targets_NL[row_of[cell["id"]], column_of[cell["label"]]] == cell["given"]
    )
    changed, elsewhere = len(here) - len(kept), len(cells) - len(here)
    if cells and (not here or changed > MOST_CHANGED * len(here)):
        found = (
            f"none of its {counted(len(cells), 'cell')} is of these rows and labels"
            if not here
            else f"{changed:,} of {counted(len(here), 'cell')} have another label in the data"
        )
        step = "search the same file: manylabel label-errors FILE"
        raise DataError(finding("D179", source, found, f"suspected labels of {corpus.source}", step))
    told = [f"{elsewhere:,} of other rows or labels"] if elsewhere else []
    told += [f"{changed:,} that have another label by now"] if changed else []
    return KnownErrors(kept, f"Left out: {' and '.join(told)}." if told else "")
