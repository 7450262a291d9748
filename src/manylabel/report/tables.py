"""Tables of a report as plain values, which one template macro renders; called by contents.py and comparison.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from manylabel.evaluation.metrics import NO_NEGATIVES, NO_POSITIVES, NOTHING_DECIDED
from manylabel.report.charts import interval_bar
from manylabel.report.inputs import ReportInputs, entry
from manylabel.report.numbers import (
    NOT_MEASURED,
    UNDEFINED,
    figure,
    percent,
    shown,
    span,
    threshold_text,
    whole,
)

MAX_ROWS = 200
"""Rows of a table of findings; the rest is counted."""
MAX_LABEL = 80
"""Characters of a label's name that a table shows."""
LABEL_METRICS = ("average_precision", "roc_auc", "precision", "recall", "f1")
AVERAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Macro average precision", ("macro", "average_precision")),
    ("Macro ROC-AUC", ("macro", "roc_auc")),
    ("Macro F1", ("macro", "f1")),
    ("Micro F1", ("micro", "f1")),
    ("Micro average precision", ("micro", "average_precision")),
    ("Micro ROC-AUC", ("micro", "roc_auc")),
    ("Weighted F1", ("weighted", "f1")),
    ("Samples F1", ("samples", "f1")),
    ("Subset accuracy", ("subset_accuracy",)),
    ("Accuracy of all cells", ("accuracy",)),
    ("Hamming loss (0 is best)", ("hamming_loss",)),
    ("Ranking loss (0 is best)", ("ranking_loss",)),
    ("Label ranking average precision", ("lrap",)),
    ("Coverage error (low is best)", ("coverage_error",)),
    ("Precision at 1", ("precision_at_1",)),
    ("Recall at 3", ("recall_at_3",)),
    ("nDCG at 3", ("ndcg_at_3",)),
    ("Macro Brier score (0 is best)", ("macro", "brier")),
    ("Macro log loss (0 is best)", ("macro", "log_loss")),
    ("Macro calibration error (0 is best)", ("macro", "ece")),
    ("Expected cost a row", ("expected_cost",)),
)
SHORT_REASONS = {NO_POSITIVES: "0 positives", NO_NEGATIVES: "0 negatives", NOTHING_DECIDED: "0 decided"}
SEEN_KINDS = {
    "exact": "letter by letter",
    "normalised": "but for Unicode form, case and spaces",
    "near": "nearly",
}


@dataclass(frozen=True)
class Cell:
    """One cell: a text, and smaller lines below it."""

    text: str | Markup
    below: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A caption, column names and rows; the first cell of a row names it. `note` follows the table."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    words: tuple[int, ...] = ()
    """Columns of words, which stand left, beside the first."""
    texts: bool = False
    """Whether the last column is a user's text."""


def table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], **options: Any) -> Table:  # noqa: ANN401
    """A table of texts and cells, cut at 200 rows."""
    cells = [tuple(one if isinstance(one, Cell) else Cell(one) for one in row) for row in rows]
    if len(cells) > MAX_ROWS:
        more = f"{len(cells) - MAX_ROWS:,} more rows are not shown."
        options["note"] = " ".join(filter(None, (options.get("note", ""), more)))
    return Table(caption, tuple(columns), tuple(cells[:MAX_ROWS]), **options)


def lines(*texts: str) -> tuple[str, ...]:
    """Those that are not empty."""
    return tuple(filter(None, texts))


def dashed(interval: Iterable[float] | None) -> str:
    """An interval as narrow tables show it: `0.120–0.340`."""
    return span(interval).replace(" to ", "–")


def label_table(inputs: ReportInputs, errors_of: Mapping[str, float | None]) -> Table:
    """Support, metrics with intervals, the baseline beside; `errors_of` are calibration errors."""
    columns = ("Label", "Positives", "Share", "Average precision", "0 to 1", "ROC-AUC", "Precision", "Recall",
               "F1", "Threshold", "ECE")  # fmt: skip
    rows = [_label_row(inputs, name, errors_of.get(name)) for name in inputs.labels]
    confidence = percent(inputs.figure("intervals", "confidence") or 0.95, 0)
    note = (
        f"Below each figure: its {confidence} interval, then the baseline's figure (“words”: TF-IDF and logistic "
        "regression). In the bars a dot is the model, the line its interval, the upright tick the baseline. ECE: "
        "expected calibration error, 0 is best."
    )
    return Table("Figures by label, at the model's thresholds", columns, tuple(rows), note)


def _label_row(inputs: ReportInputs, name: str, error: float | None) -> tuple[Cell, ...]:
    column = inputs.labels.index(name)
    targets_N = inputs.targets_NL[:, column]
    positives, annotated = int((targets_N == 1).sum()), int((targets_N >= 0).sum())
    value = inputs.figure("labels", name, "average_precision")
    interval = inputs.interval("labels", name, "average_precision")
    baseline = inputs.figure("baseline", "labels", name, "average_precision")
    judged = bool(inputs.thresholds.judged_L[column])
    cells = {metric: _figure_cell(inputs, name, metric, positives) for metric in LABEL_METRICS}
    return (
        Cell(shown(name, MAX_LABEL)),
        Cell(whole(positives), (f"of {whole(annotated)}",) if annotated < len(targets_N) else ()),
        Cell(percent(positives / annotated) if annotated else UNDEFINED),
        cells["average_precision"],
        Cell(interval_bar(value, interval, baseline)),
        *(cells[metric] for metric in LABEL_METRICS[1:]),
        Cell(
            threshold_text(float(inputs.thresholds.values_L[column])),
            () if judged else ("default,", "not judged"),
        ),
        Cell(figure(error) if error is not None else NOT_MEASURED),
    )


def _figure_cell(inputs: ReportInputs, name: str, metric: str, positives: int) -> Cell:
    """The figure, its interval and the baseline's; or why there is none."""
    value = inputs.figure("labels", name, metric)
    if value is None:
        reason = inputs.figure("undefined", f"{name}.{metric}")
        told = str(reason) if reason else "" if positives else NO_POSITIVES
        return Cell(UNDEFINED, (SHORT_REASONS.get(told, told),) if told else ())
    baseline = inputs.figure("baseline", "labels", name, metric)
    beside = "" if baseline is None else f"words {figure(baseline)}"
    return Cell(figure(value), lines(dashed(inputs.interval("labels", name, metric)), beside))


def averages_table(inputs: ReportInputs) -> Table:
    """Every average that was measured: model, interval, baseline, and without the rows that made the model."""
    clean = inputs.figure("without_seen_rows")
    confidence = percent(inputs.figure("intervals", "confidence") or 0.95, 0)
    columns = ["", "This model", f"{confidence} interval", "Baseline"]
    columns += ["Without rows that made the model"] if clean else []
    rows = []
    for title, path in AVERAGES:
        value = inputs.figure(*path)
        if value is None and inputs.figure("baseline", *path) is None:
            continue
        interval = inputs.interval(*(path if len(path) > 1 else ("overall", *path)))
        other = inputs.figure("baseline", *path)
        row = [
            title,
            figure(value),
            span(interval) or NOT_MEASURED,
            figure(other) if other is not None else NOT_MEASURED,
        ]
        unseen = entry(clean, *path)
        rows.append([*row, NOT_MEASURED if unseen is None else figure(unseen)] if clean else row)
    left_out = {
        metric: count for metric, count in (inputs.figure("excluded_from_macro") or {}).items() if count
    }
    notes = lines(
        f"{max(left_out.values())} labels without a meaning are left out of macro averages."
        if left_out
        else "",
        _note_of_rows_without_label(inputs),
        _note_without_seen(inputs),
    )
    return table("Averages over labels and rows", columns, rows, note=" ".join(notes))


def _note_of_rows_without_label(inputs: ReportInputs) -> str:
    count, complete = inputs.figure("rows_without_label"), inputs.figure("complete_rows")
    if not count or inputs.figure("lrap") is None:
        return ""
    return (
        f"{whole(count)} of {whole(complete or len(inputs.ids))} fully annotated rows carry no label: they count 1 in "
        "label ranking average precision, 0 in ranking loss and coverage error, and not at all in precision, recall "
        "and nDCG at k."
    )


def _note_without_seen(inputs: ReportInputs) -> str:
    """What is concluded beside the baseline where the rows that made the model are left out."""
    conclusion = inputs.figure("without_seen_rows", "against_baseline", "conclusion")
    return f"Without the rows that made the model: {shown(str(conclusion))}" if conclusion else ""


def audit_table(inputs: ReportInputs) -> Table:
    """Which rows had which part, and how many of the evaluated rows made the model."""
    rows = [["Rows evaluated here", whole(len(inputs.ids))]]
    for what, count in inputs.chosen_rows.described().items():
        if count is not None:
            rows.append([f"Of these chose {what}, or are copies of such", whole(count)])
    for kind, count in (inputs.figure("seen_in_training") or {}).items():
        rows.append([f"Rows that made the model, {SEEN_KINDS.get(kind, shown(str(kind), 40))}", whole(count)])
    seen = inputs.figure("rows_seen_in_training")
    rows.append(["Rows that made the model, in all", "not audited" if seen is None else whole(seen)])
    if inputs.contradictory_rows is not None:
        rows.append(["Copies with different labels", whole(inputs.contradictory_rows)])
    missing = int((~inputs.annotated_NL).sum())
    rows.append(["Cells without annotation (left out)", whole(missing)])
    return table("Rows and what they were used for", ("", "Number"), rows)


def provenance_tables(provenance: Mapping[str, Any]) -> list[Table]:
    """One table a part; plain values of the first level come together."""
    plain = {name: value for name, value in provenance.items() if not isinstance(value, Mapping)}
    parts = {name: value for name, value in provenance.items() if isinstance(value, Mapping) and value}
    if plain:
        parts = {"Run": plain, **parts}
    return [
        table(
            shown(str(name), 60),
            ("", "Value"),
            [[shown(key, MAX_LABEL), text] for key, text in _flat(values)],
            words=(1,),
        )
        for name, values in parts.items()
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key} ")
        else:
            text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
            yield f"{prefix}{key}", shown(text)
