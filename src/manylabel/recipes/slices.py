"""Which parts of the rows to look at: by length, language, any column, and groups of people; called by `evaluate`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manylabel.config.schema import DataSettings
from manylabel.data.language import detect_languages
from manylabel.data.layout import Layout, did_you_mean, with_stored_header
from manylabel.data.problems import finding
from manylabel.data.read import read_rows
from manylabel.errors import DataError, Finding, UsageError
from manylabel.evaluation.bias import IDENTITY_TERMS, subgroup_of_column, subgroups_of_terms
from manylabel.evaluation.slices import Slice, slices_by_length, slices_by_value
from manylabel.recipes.corpora import Source, all_texts
from manylabel.text.tokenizer import TextTokenizer
from manylabel.values import Corpus

ColumnValues = Mapping[str, Sequence[str | None]]
"""Column name -> N values as text, None where missing."""


def slice_table(
    corpus: Corpus,
    extra_columns: ColumnValues,
    *,
    tokenizer: TextTokenizer | None = None,
    by_language: bool = False,
) -> list[Slice]:
    """The slices of a corpus: by length in tokens where a tokenizer is given, by language, by each extra column.

    Lengths are those before a text is cut. Raises UsageError when the package for languages is missing, ValueError
    when a column has another number of values than the corpus has rows.
    """
    for name, values in extra_columns.items():
        if len(values) != len(corpus):
            raise ValueError(f'column "{name}" has {len(values)} values, expected {len(corpus)}')
    slices = []
    if tokenizer is not None:
        slices += slices_by_length(tokenizer.token_lengths(corpus.texts, corpus.pairs))
    if by_language:
        slices += slices_by_value("language", detect_languages(corpus.texts))
    for name, values in extra_columns.items():
        slices += slices_by_value(name, values)
    return slices


def subgroups(
    corpus: Corpus, *, terms: Sequence[str] | None = None, columns: ColumnValues | None = None
) -> dict[str, npt.NDArray[np.int8]]:
    """Who is spoken of in each row: by words of the text, or by columns of shares; both may be given.

    `terms` are looked for as whole words, an empty list stands for the default English one; None looks for none.
    Raises DataError for a column that holds something other than numbers from 0 to 1.
    """
    found: dict[str, npt.NDArray[np.int8]] = {}
    if terms is not None:
        found |= subgroups_of_terms(all_texts(corpus), tuple(terms) or IDENTITY_TERMS)
    for name, values in (columns or {}).items():
        found[name] = _subgroup(corpus, name, values)
    return found


def _subgroup(corpus: Corpus, name: str, values: Sequence[str | None]) -> npt.NDArray[np.int8]:
    wrong = [row for row, value in zip(corpus.rows_N, values, strict=True) if not _is_share(value)]
    if wrong:
        place = f'{corpus.source}, column "{name}"'
        allowed = "numbers from 0 to 1 (or true and false), empty or -1 for not annotated"
        step = "name a column that says which rows speak of a group"
        rows = tuple(int(row) for row in wrong)
        raise DataError(finding("D180", place, "no share", allowed, step, rows=rows))
    return subgroup_of_column(values)


def _is_share(value: str | None) -> bool:
    try:
        subgroup_of_column([value])
    except ValueError:
        return False
    return True


def columns_of(
    source: Source,
    names: Sequence[str],
    corpus: Corpus,
    *,
    options: DataSettings,
    stored: Layout | None = None,
) -> dict[str, tuple[str | None, ...]]:
    """The named columns of `source` for the rows of `corpus`, which was read from it; a file is read once more.

    Columns that hold the texts are refused, because their values would stand in the results. Raises DataError for
    a column that does not exist, UsageError for texts in memory, which have no columns.
    """
    if not names:
        return {}
    table, rows_N = _table(source, options, stored)
    texts = {options.text_column, options.pair_column}
    texts |= {stored.text_column, stored.pair_column} if stored is not None else set()
    problems = [
        _problem(name, corpus.source, table.column_names) for name in names if name not in table.column_names
    ]
    problems += [
        finding("D181", corpus.source, f'the column "{name}" holds texts', "a column with few different values",
                "name another column")
        for name in names
        if name in texts
    ]  # fmt: skip
    if problems:
        raise DataError(*problems)
    places = np.searchsorted(rows_N, corpus.rows_N)
    chosen = table.select(list(names)).take(pa.array(places))
    return {name: tuple(_as_text(value) for value in chosen[name].to_pylist()) for name in names}


def _table(
    source: Source, options: DataSettings, stored: Layout | None
) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    if isinstance(source, str | Path):
        rows = read_rows(Path(source), with_stored_header(options, stored))
        return rows.table, np.asarray(rows.rows_N, np.int64)
    if isinstance(source, tuple):
        found, allowed = "texts in memory have no columns", "a file, an Arrow table or a data frame"
        raise UsageError(Finding("U271", "slices by column", found, allowed, "give the rows as one of these"))
    if isinstance(source, pa.RecordBatch):
        source = pa.Table.from_batches([source])
    table = source if isinstance(source, pa.Table) else pa.Table.from_pandas(source, preserve_index=False)
    return table, np.arange(1, table.num_rows + 1, dtype=np.int64)


def _problem(name: str, source: str, known: list[str]) -> Finding:
    step = did_you_mean(name, known) or "give one of these names"
    return finding("D121", source, f'there is no column "{name}"', ", ".join(known), step)


def _as_text(value: object) -> str | None:
    """A cell as a name: numbers as briefly as they can be written, true and false in small letters, no empty text."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return None if math.isnan(value) else f"{value:g}"
    return str(value)
