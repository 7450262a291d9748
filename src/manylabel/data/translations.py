"""The text in other words, such as back-translations, as columns of its row. Called by `corpus` and `memory`.

A row's translations have its labels, its group and its role; whatever selects rows takes them along.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from manylabel.data.blank import is_blank
from manylabel.data.problems import Problem, RowProblems
from manylabel.values import IntArray

Translations = tuple[tuple[str, ...], ...]


def read_translations(
    table: pa.Table, columns: tuple[str, ...], source: str, problems: RowProblems, *, rows_N: IntArray
) -> Translations | None:
    """For each row of `table` its texts in `columns`, in their order; None without columns.

    A missing or blank cell becomes the empty string. Notes in `problems` a column that holds no text (D192) or
    nothing at all (D193, a warning); `rows_N` are the row numbers for such messages.
    """
    if not columns:
        return None
    texts = [_texts(table[name], f'{source}, column "{name}"', problems, rows_N) for name in columns]
    return tuple(zip(*texts, strict=True))


def in_order(rows: Sequence[Sequence[str]], source: str, problems: RowProblems) -> Translations | None:
    """Translations given in memory, one sequence a text, as plain tuples; None where there is nothing usable.

    Notes in `problems` values that are no texts, and rows with more or fewer of them than the first row (D192).
    """
    place = f"{source}, translations"
    wrong = [
        row
        for row, texts in enumerate(rows, start=1)
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts)
    ]
    uneven = [row for row, texts in enumerate(rows, start=1) if len(texts) != len(rows[0])]
    allowed, step = (
        "for each text a list of texts, as many as for every other",
        'write "" where one is missing',
    )
    problems.extend(Problem("D192", place, "the value is not a list of texts", allowed, step), wrong)
    problems.extend(Problem("D192", place, "the number of translations differs", allowed, step), uneven)
    if wrong or uneven or not len(rows[0]):
        return None
    return tuple(tuple(text if not is_blank(text) else "" for text in texts) for texts in rows)


def _texts(column: pa.ChunkedArray, place: str, problems: RowProblems, rows_N: IntArray) -> tuple[str, ...]:
    """The cells of one column."""
    if not (pa.types.is_string(column.type) or pa.types.is_null(column.type)):
        step = "name columns with texts, --translation-columns"
        problems.add(Problem("D192", place, f"the column holds {column.type}, not text", "text", step))
        return ("",) * len(column)
    texts = tuple(value if value is not None and not is_blank(value) else "" for value in column.to_pylist())
    if len(rows_N) and not any(texts):
        found, step = "no row has a translation in it", "check the column, or leave it out"
        problems.add(Problem("D193", place, found, "a text in some rows", step, "warning"))
    return texts
