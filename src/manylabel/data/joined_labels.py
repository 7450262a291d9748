"""Texts and their labels from two files, matched by id; called by recipes/evaluate.py.

Competitions publish a test set so: the texts first, the labels after the end. Rows may come in any order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from manylabel.config.schema import DataSettings
from manylabel.data.corpus import names_labels, to_corpus
from manylabel.data.guessing import USUAL_IDS, Columns
from manylabel.data.layout import Layout, guess_layout, with_stored_header
from manylabel.data.problems import finding
from manylabel.data.read import Rows, read_rows
from manylabel.errors import DataError, Finding
from manylabel.values import IntArray, LabelSet

ONCE = "each id once in each of the two files"


@dataclass(frozen=True, eq=False)
class _File:
    """The good rows of one of the files and their ids; `name` is the file's, for messages."""

    name: str
    rows: Rows
    ids: tuple[str, ...]

    def numbers(self, places: Sequence[int]) -> tuple[int, ...]:
        """1-based row numbers of the rows at `places`."""
        return tuple(int(row) for row in self.rows.rows_N[list(places)])


def join_labels(
    texts: Path, labels: Path, options: DataSettings, *, names: LabelSet, stored: Layout | None
) -> pa.Table:
    """The rows of the file `texts` in its order, with the columns that only the file `labels` has.

    Args:
        texts: The file with texts and ids.
        labels: The file with ids and labels; its id column has the same name.
        options: Flags of the user, which hold for both files.
        names: Labels of the model.
        stored: The model's layout.

    Raises:
        DataError: with all problems of both files at once: rows and label cells that cannot be used, ids that are
            empty, occur twice or are in one file only, and label columns that both files have.
    """
    options = with_stored_header(options, stored)
    text_rows, label_rows = read_rows(texts, options), read_rows(labels, options)
    name = _id_column(text_rows.table, label_rows.table, options, stored, f"{texts.name} and {labels.name}")
    first, second = (
        _File(path.name, rows, tuple("" if cell is None else str(cell) for cell in rows.table[name].to_pylist()))
        for path, rows in ((texts, text_rows), (labels, label_rows))
    )  # fmt: skip
    findings = [*text_rows.findings, *label_rows.findings, *_id_findings(first, second, name)]
    findings += _in_both(first, second, (name,), names, options)
    place_of = {identity: place for place, identity in enumerate(second.ids)}
    matched = [place for place, identity in enumerate(first.ids) if identity in place_of]
    order = [place_of[first.ids[place]] for place in matched]
    table = _side_by_side(text_rows.table.take(pa.array(matched, pa.int64())), label_rows.table, order)
    if matched:
        findings += _cell_findings(table, first, second, (matched, order), (options, names, stored))
    if errors := [each for each in findings if each.severity == "error"]:
        raise DataError(*errors)
    return table


def _id_column(
    texts: pa.Table, labels: pa.Table, options: DataSettings, stored: Layout | None, place: str
) -> str:
    """The column by which the files are matched: given, the model's, or one of a usual name that both have."""
    both = [name for name in texts.column_names if name in labels.column_names]
    likely = [stored.id_column] if stored is not None else []
    likely += Columns(texts, place).by_usual_name(USUAL_IDS)
    wanted = [options.id_column] if options.id_column is not None else likely
    found = next((name for name in wanted if name in both), None)
    if found is None:
        named = f'there is no column "{options.id_column}" in both files' if options.id_column else (
            "the files have no id column in common"
        )  # fmt: skip
        allowed = "a column of ids with one name in both files"
        raise DataError(
            finding("D157", place, named, allowed, "name it with --id-column, or rename one of the two")
        )
    return found


def _id_findings(first: _File, second: _File, name: str) -> list[Finding]:
    """Ids that are empty, occur twice, or are in one of the files only."""
    findings = []
    for file, other in ((first, second), (second, first)):
        counts, known = Counter(file.ids), frozenset(other.ids)
        wrong = {
            "the id is empty": [place for place, each in enumerate(file.ids) if not each],
            "the id occurs twice": [
                place for place, each in enumerate(file.ids) if each and counts[each] > 1
            ],
            f"the id is not in {other.name}": [
                place for place, each in enumerate(file.ids) if each and each not in known
            ],
        }
        findings += [
            finding("D189", f'{file.name}, column "{name}"', found, ONCE, "check that the two files belong together",
                    rows=file.numbers(places))
            for found, places in wrong.items()
            if places
        ]  # fmt: skip
    return findings


def _in_both(
    first: _File, second: _File, matched_by: tuple[str, ...], names: LabelSet, options: DataSettings
) -> list[Finding]:
    """Label columns that stand in both files: which of them holds?"""
    asked = {*names.names, *(options.label_columns or ()), options.labels_column} - {*matched_by}
    known = first.rows.table.column_names
    twice = [name for name in second.rows.table.column_names if name in asked and name in known]
    if not twice:
        return []
    listed = ", ".join(f'"{name}"' for name in twice)
    return [
        finding("D158", first.name, f"labels are in both files: {listed}", f"labels in {second.name} alone",
                "leave out --labels, or remove the columns from the file with the texts")
    ]  # fmt: skip


def _side_by_side(texts: pa.Table, labels: pa.Table, order: Sequence[int]) -> pa.Table:
    taken = labels.take(pa.array(order, pa.int64()))
    for name in taken.column_names:
        if name not in texts.column_names:
            texts = texts.append_column(taken.schema.field(name), taken[name])
    return texts


def _cell_findings(
    table: pa.Table,
    first: _File,
    second: _File,
    rows: tuple[Sequence[int], Sequence[int]],
    known: tuple[DataSettings, LabelSet, Layout | None],
) -> list[Finding]:
    """What is wrong with texts and labels, each with the file and the rows where it stands."""
    options, names, stored = known
    try:
        layout = guess_layout(table, options, f"{first.name} with {second.name}", labels=names, stored=stored)
    except DataError as problem:
        return list(problem.findings)
    rows_N: IntArray = np.asarray(first.rows.rows_N)[list(rows[0])]
    _, findings = to_corpus(
        table, layout, first.name, labels=names, rows_N=rows_N, is_named=names_labels(options)
    )
    row_of = dict(zip(rows_N.tolist(), second.numbers(rows[1]), strict=True))
    brought = [name for name in table.column_names if name not in first.rows.table.column_names]
    return [_at_home(each, first.name, second.name, brought, row_of) for each in findings]


def _at_home(
    found: Finding, first: str, second: str, brought: Sequence[str], row_of: Mapping[int, int]
) -> Finding:
    """A finding about the second file's columns, placed there."""
    places = {finding("", f'{first}, column "{name}"', "").place for name in brought}
    if found.place not in places and found.code != "D150":
        return found
    rows = tuple(sorted(row_of[row] for row in found.rows))
    return replace(found, place=found.place.replace(first, second, 1), rows=rows)
