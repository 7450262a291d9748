"""A corpus from texts and labels of a Python program. Called by training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np

from manylabel.data.blank import is_blank
from manylabel.data.corpus import Loaded
from manylabel.data.guessing import order_names
from manylabel.data.layout import Layout, did_you_mean
from manylabel.data.problems import Problem, RowProblems, finding, shown_value
from manylabel.data.targets import missing_columns
from manylabel.data.translations import in_order
from manylabel.errors import DataError, counted
from manylabel.values import NOT_ANNOTATED, Corpus, IntArray, LabelSet

SOURCE = "(texts, labels)"


def corpus_from_memory(
    texts: Sequence[str],
    labels: object,
    *,
    label_names: Sequence[str] | None = None,
    known: LabelSet | None = None,
    pairs: Sequence[str] | None = None,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    translations: Sequence[Sequence[str]] | None = None,
) -> Loaded:
    """A checked corpus.

    Args:
        texts: N texts.
        labels: A matrix of N rows and L columns with 1, 0 and -1, or for each text a list of label names.
        label_names: Names of the matrix's columns; by default label_1, label_2, ... (or `known`).
        known: Labels of an existing model; the targets then have its columns in its order.
        pairs: N second texts.
        ids: N different ids; by default 1 to N as text.
        groups: N group names; rows of one group stay in one split.
        translations: N times the text in other words, the same number a text; "" where one is missing.

    Returns:
        The corpus; its layout says text, labels as lists.

    Raises:
        DataError: with all problems at once; rows count from 1.
    """
    problems = RowProblems()
    rows_N = np.arange(1, len(texts) + 1, dtype=np.int64)
    _check_texts(texts, "texts", problems)
    if pairs is not None:
        _check_texts(pairs, "pairs", problems)
    columns = {"labels": labels, "pairs": pairs, "ids": ids, "groups": groups, "translations": translations}
    _check_lengths(len(texts), columns)
    others = None if translations is None else in_order(translations, SOURCE, problems)
    names, targets_NL = _targets(labels, label_names, known, problems)
    ids = tuple(str(row) for row in rows_N) if ids is None else tuple(map(str, ids))
    if len(set(ids)) < len(ids):
        problems.add(
            Problem("D143", SOURCE, "ids occur twice", "a different id for each text", "correct the ids")
        )
    findings = problems.findings()
    if any(finding.severity == "error" for finding in findings):
        raise DataError(*(finding for finding in findings if finding.severity == "error"))
    corpus = Corpus(
        SOURCE,
        tuple(texts),
        names,
        targets_NL,
        ids,
        rows_N,
        None if pairs is None else tuple(pairs),
        None if groups is None else tuple(map(str, groups)),
        others,
    )
    layout = Layout(
        "text",
        "list",
        names.names,
        pair_column=None if pairs is None else "pair",
        labels_column="labels",
        translation_columns=tuple(f"translation_{number + 1}" for number in range(len((others or ((),))[0]))),
    )
    return Loaded(corpus, layout, tuple(findings))


def _check_texts(texts: Sequence[str], what: str, problems: RowProblems) -> None:
    place = f"{SOURCE}, {what}"
    if isinstance(texts, str):
        raise DataError(finding("D142", place, "one text was given", "a list of texts", "put it in a list"))
    wrong = [row for row, text in enumerate(texts, start=1) if not isinstance(text, str)]
    problems.extend(Problem("D142", place, "the value is not a text", "str", "convert or remove it"), wrong)
    blank = [row for row, text in enumerate(texts, start=1) if isinstance(text, str) and is_blank(text)]
    found, step = "the text is empty; the row is kept", "check that this is meant"
    problems.extend(Problem("D141", place, found, "text", step, "warning"), blank)


def _check_lengths(num_texts: int, columns: dict[str, Any]) -> None:
    if num_texts == 0:
        raise DataError(finding("D104", SOURCE, "there are no texts", "at least one", "check the call"))
    if not hasattr(columns["labels"], "__len__"):
        found, allowed = (
            "the labels are neither a matrix nor lists of names",
            "0/1 matrix or list of lists of names",
        )
        raise DataError(finding("D152", f"{SOURCE}, labels", found, allowed, "check the call"))
    findings = [
        finding(
            "D144",
            f"{SOURCE}, {name}",
            f"{counted(len(column), 'entry', 'entries')} for {counted(num_texts, 'text')}",
            "one a text",
            f"give {name} as many entries as there are texts, in their order",
        )
        for name, column in columns.items()
        if column is not None and len(column) != num_texts
    ]
    if findings:
        raise DataError(*findings)


def _targets(
    labels: object, label_names: Sequence[str] | None, known: LabelSet | None, problems: RowProblems
) -> tuple[LabelSet, IntArray]:
    if _is_lists(labels):
        return _from_lists(labels, label_names, known, problems)
    matrix_NL = _matrix(labels)
    names = (
        tuple(label_names)
        if label_names is not None
        else known.names
        if known
        else _numbered(matrix_NL.shape[1])
    )
    if len(names) != matrix_NL.shape[1]:
        found = f"{counted(len(names), 'label name')} for {counted(matrix_NL.shape[1], 'column')}"
        raise DataError(
            finding("D144", f"{SOURCE}, label_names", found, "one name a column", "check label_names")
        )
    _check_names(names)
    bad_NL = ~np.isin(matrix_NL, (NOT_ANNOTATED, 0, 1))
    allowed, step = "1, 0 or -1 (not annotated)", "correct the values"
    for column in np.flatnonzero(bad_NL.any(axis=0)):
        place = f'{SOURCE}, label "{names[column]}"'
        rows = np.flatnonzero(bad_NL[:, column]) + 1
        problems.extend(Problem("D152", place, "a value is not 0, 1 or -1", allowed, step), rows)
    targets_NL = np.where(bad_NL, NOT_ANNOTATED, matrix_NL).astype(np.int8)
    return _reordered(LabelSet(names), targets_NL, known, problems)


def _is_lists(labels: object) -> TypeGuard[Sequence[Sequence[str]]]:
    """Whether every row is a list, tuple or set, and not of numbers only."""
    if not isinstance(labels, list | tuple):
        return False
    rows_are_lists = all(isinstance(row, list | tuple | set | frozenset) for row in labels)
    return rows_are_lists and all(isinstance(entry, str) for row in labels for entry in row)


def _matrix(labels: object) -> IntArray:
    try:
        matrix_NL: IntArray = np.asarray(labels, dtype=np.float64)
    except (TypeError, ValueError) as problem:
        found, allowed = (
            "the labels are neither a matrix nor lists of names",
            "0/1 matrix or list of lists of names",
        )
        raise DataError(finding("D152", f"{SOURCE}, labels", found, allowed, "check the call")) from problem
    if matrix_NL.ndim != 2:
        found = f"the labels have {counted(matrix_NL.ndim, 'dimension')}"
        step = "give one column a label; classes 0, 1, 2 must become one 0/1 column each"
        raise DataError(finding("D152", f"{SOURCE}, labels", found, "texts x labels", step))
    return matrix_NL


def _check_names(names: tuple[str, ...]) -> None:
    if not names or len(set(names)) < len(names) or "" in names:
        found, allowed = "names repeat or are empty", "a different name for each label"
        raise DataError(finding("D144", f"{SOURCE}, label_names", found, allowed, "check label_names"))


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"label_{number}" for number in range(1, count + 1))


def _from_lists(
    labels: Sequence[Sequence[str]],
    label_names: Sequence[str] | None,
    known: LabelSet | None,
    problems: RowProblems,
) -> tuple[LabelSet, IntArray]:
    if known is None:
        found = {name for row in labels for name in row if name.strip()}
        names = tuple(label_names) if label_names is not None else order_names(found)
        if label_names is not None:
            _check_names(names)
        if not names:
            raise DataError(
                finding("D124", f"{SOURCE}, labels", "no text has a label", "label names", "check the call")
            )
        known = LabelSet(names)
    position = {name: index for index, name in enumerate(known.names)}
    targets_NL = np.zeros((len(labels), len(known)), dtype=np.int8)
    for row, names_of_row in enumerate(labels):
        for name in names_of_row:
            if name in position:
                targets_NL[row, position[name]] = 1
            elif str(name).strip():
                step = did_you_mean(str(name), known.names) or "correct it"
                found_name = f"unknown label {shown_value(name, known=known.names, is_named=True)}"
                problems.add(
                    Problem("D154", f"{SOURCE}, labels", found_name, ", ".join(known.names), step), row + 1
                )
    return known, targets_NL


def _reordered(
    names: LabelSet, targets_NL: IntArray, known: LabelSet | None, problems: RowProblems
) -> tuple[LabelSet, IntArray]:
    """The columns in the order of `known`, matched by name."""
    if known is None or known == names:
        return names, targets_NL
    position = {name: index for index, name in enumerate(names.names)}
    if missing := [name for name in known.names if name not in position]:
        problems.add(missing_columns(SOURCE, missing, names.names, taken=known.names))
    for name in names.names:
        if name not in known.names:
            found = f'the model does not know the label "{name}"; its column is not used'
            problems.add(Problem("D151", SOURCE, found, ", ".join(known.names), "check the name", "warning"))
    columns = [
        targets_NL[:, position[name]] if name in position else np.full(len(targets_NL), NOT_ANNOTATED)
        for name in known.names
    ]
    return known, np.stack(columns, axis=1).astype(np.int8)
