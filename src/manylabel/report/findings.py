"""Rows worth reading and pairs of labels: the model's surest errors, likely label errors, co-occurrence.

Called by contents.py. Rows are named by id; texts are shown only where the inputs hold them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from manylabel.report.charts import pair_squares
from manylabel.report.inputs import ReportInputs
from manylabel.report.numbers import figure, percent, shown, threshold_text, whole
from manylabel.report.tables import MAX_LABEL, Table, table
from manylabel.report.verdict import FalseAlarms
from manylabel.values import BoolArray, FloatArray

WORST = 20
WORST_OF_LABEL = 3
"""So that one label does not fill the list."""
ERRORS_SHOWN = 50
TEXT_CHARACTERS = 300
ID_CHARACTERS = 60
MOST_SQUARES = 32
PAIRS_SHOWN = 20


@dataclass(frozen=True)
class CoOccurrence:
    """Two grids (none with many labels) and the pairs whose frequency the model gets most wrong."""

    grids: tuple[Markup, ...]
    pairs: Table


def worst_table(inputs: ReportInputs, *, misses: bool) -> Table | None:
    """The wrongly decided cells that the model was surest of: positives of lowest score, or negatives of highest."""
    wrong_NL = (
        (inputs.targets_NL == 1) & ~inputs.decisions_NL
        if misses
        else (inputs.targets_NL == 0) & inputs.decisions_NL
    )
    sign = 1.0 if misses else -1.0
    cells = sorted(_worst_cells(inputs.probabilities_NL, wrong_NL, sign))[:WORST]
    if not cells:
        return None
    rows = [
        [
            shown(inputs.ids[row], ID_CHARACTERS),
            shown(inputs.labels[column], MAX_LABEL),
            threshold_text(float(inputs.probabilities_NL[row, column])),
            threshold_text(float(inputs.thresholds.values_L[column])),
            *_text_of(inputs, row),
        ]
        for _, row, column in cells
    ]
    caption = (
        "Worst misses: carry the label, lowest scores" if misses else "Worst false alarms: highest scores"
    )
    note = f"At most {WORST_OF_LABEL} rows a label. Before blaming the model, check the labels of these rows."
    columns = ("Row id", "Label", "Score", "Threshold", *_text_column(inputs))
    return table(caption, columns, rows, note=note, words=(1,), texts=inputs.texts is not None)


def _worst_cells(scores_NL: FloatArray, wrong_NL: BoolArray, sign: float) -> Iterator[tuple[float, int, int]]:
    for column in range(wrong_NL.shape[1]):
        rows = np.flatnonzero(wrong_NL[:, column])
        order = np.argsort(sign * scores_NL[rows, column], kind="stable")[:WORST_OF_LABEL]
        for row in rows[order].tolist():
            yield sign * float(scores_NL[row, column]), row, column


def label_error_table(inputs: ReportInputs) -> Table | None:
    """Cells whose label is likely wrong, as the evaluation found them."""
    errors = inputs.figure("label_errors")
    if not errors:
        return None
    place_of = {name: row for row, name in enumerate(inputs.ids)} if inputs.texts is not None else {}
    rows = []
    for error in errors[:ERRORS_SHOWN]:
        name = str(error.get("id"))
        given = "carries it" if error.get("given") == 1 else "does not carry it"
        text = _text_of(inputs, place_of[name]) if name in place_of else [""] * (inputs.texts is not None)
        rows.append(
            [shown(name, ID_CHARACTERS), shown(str(error.get("label")), MAX_LABEL), given,
             figure(error.get("probability")), *text]
        )  # fmt: skip
    more = f"The first {ERRORS_SHOWN} of {whole(len(errors))}." if len(errors) > ERRORS_SHOWN else ""
    more = " ".join(filter(None, (more, inputs.figure("label_errors_left_out"))))
    columns = ("Row id", "Label", "Given", "Probability", *_text_column(inputs))
    return table(
        "Likely label errors", columns, rows, note=more, words=(1, 2), texts=inputs.texts is not None
    )


def _text_column(inputs: ReportInputs) -> list[str]:
    return [] if inputs.texts is None else ["Text"]


def _text_of(inputs: ReportInputs, row: int) -> list[str]:
    return [] if inputs.texts is None else [shown(inputs.texts[row], TEXT_CHARACTERS)]


def co_occurrence(inputs: ReportInputs) -> CoOccurrence | None:
    """How often label pairs go together in truth and in decisions, over fully annotated rows."""
    complete_N = inputs.annotated_NL.all(axis=1)
    if len(inputs.labels) < 2 or not complete_N.any():
        return None
    true_LL = _together((inputs.targets_NL == 1)[complete_N])
    decided_LL = _together(inputs.decisions_NL[complete_N])
    grids: tuple[Markup, ...] = ()
    if len(inputs.labels) <= MOST_SQUARES:
        grids = (
            pair_squares("True labels", inputs.labels, _shares(true_LL)),
            pair_squares("Decided labels", inputs.labels, _shares(decided_LL)),
        )
    return CoOccurrence(grids, _pair_table(inputs.labels, true_LL, decided_LL))


def _together(carried_NL: BoolArray) -> npt.NDArray[np.int64]:
    """Rows that carry both labels of each pair; exact, as float32 holds every integer up to 2^24."""
    columns = carried_NL.astype(np.float64)
    counts_LL: npt.NDArray[np.int64] = np.rint(columns.T @ columns).astype(np.int64)
    return counts_LL


def _shares(counts_LL: npt.NDArray[np.int64]) -> FloatArray:
    """Of the rows of the row's label, the share that carries the column's label."""
    shares_LL: FloatArray = counts_LL / np.maximum(counts_LL.diagonal(), 1)[:, None]
    return shares_LL


def _pair_table(
    labels: tuple[str, ...], true_LL: npt.NDArray[np.int64], decided_LL: npt.NDArray[np.int64]
) -> Table:
    first, second = np.triu_indices(len(labels), 1)
    true_P, decided_P = true_LL[first, second], decided_LL[first, second]
    order = np.argsort(-np.abs(decided_P - true_P), kind="stable")[:PAIRS_SHOWN]
    rows = [
        [
            f"{shown(labels[first[at]], 40)} + {shown(labels[second[at]], 40)}",
            whole(true_P[at]),
            whole(decided_P[at]),
            f"{'+' if decided_P[at] > true_P[at] else ''}{whole(decided_P[at] - true_P[at])}".replace(
                "-", "−"
            ),
        ]
        for at in order.tolist()
        if true_P[at] or decided_P[at]
    ]
    note = (
        "The pairs whose numbers differ most. Many missing pairs mean that texts with several labels get one."
    )
    return table("Pairs of labels on one row", ("Pair", "True", "Decided", "Difference"), rows, note=note)


def false_alarm_table(found: FalseAlarms) -> Table | None:
    """The labels that set off alarms on rows without any label."""
    counts = [(name, count) for name, count in found.by_label.items() if count]
    if not found.rows or not counts:
        return None
    counts.sort(key=lambda item: -item[1])
    rows = [[shown(name, MAX_LABEL), whole(count), percent(count / found.rows, 2)] for name, count in counts]
    return table("Alarms on rows without any label", ("Label", "Rows", "Share"), rows)
