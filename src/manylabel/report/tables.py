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
    signed,
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
AUC_KINDS = (("subgroup_auc", "Subgroup AUC"), ("bpsn_auc", "BPSN AUC"), ("bnsp_auc", "BNSP AUC"))


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
    """Every average that was measured: model, interval, baseline, and without the rows seen in training."""
    clean = inputs.figure("without_seen_rows")
    confidence = percent(inputs.figure("intervals", "confidence") or 0.95, 0)
    columns = ["", "This model", f"{confidence} interval", "Baseline"]
    columns += ["Without seen rows"] if clean else []
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
    note = (
        f"{max(left_out.values())} labels without a meaning are left out of macro averages."
        if left_out
        else ""
    )
    return table("Averages over labels and rows", columns, rows, note=note)


def slice_table(inputs: ReportInputs) -> Table | None:
    """Macro and micro figures in each slice."""
    slices = inputs.figure("slices")
    if not slices:
        return None
    paths = (("macro", "average_precision"), ("macro", "f1"), ("micro", "f1"))
    rows = []
    for part in slices:
        cells = [
            Cell(figure(entry(part, *path)), lines(dashed(entry(part, "intervals", *path)))) for path in paths
        ]
        name = f"{part.get('column')}: {part.get('value')}"
        rows.append([shown(name, MAX_LABEL), whole(part.get("rows", 0)), *cells])
    columns = ("Slice", "Rows", "Macro average precision", "Macro F1", "Micro F1")
    return table("Figures by slice", columns, rows)


def bias_table(inputs: ReportInputs) -> Table | None:
    """Subgroup, BPSN and BNSP AUC by subgroup and label, the lowest first."""
    found: list[tuple[float, list[Any]]] = []
    for group in inputs.figure("bias") or []:
        for name, values in group.get("labels", {}).items():
            aucs = [entry(values, kind) for kind, _ in AUC_KINDS]
            lowest = min((auc for auc in aucs if auc is not None), default=2.0)
            subgroup = shown(str(group.get("subgroup")), MAX_LABEL)
            reason = str(entry(values, "reason") or "")
            row = [subgroup, shown(name, MAX_LABEL), whole(group.get("rows", 0)), *map(figure, aucs), reason]
            found.append((lowest, row))
    if not found:
        return None
    found.sort(key=lambda item: item[0])
    columns = ("Subgroup", "Label", "Rows", *(title for _, title in AUC_KINDS), "Note")
    note = (
        "Subgroup AUC ranks texts of the subgroup only. BPSN ranks negatives of the subgroup against other positives: "
        "low means false alarms on the subgroup. BNSP is the reverse: low means misses."
    )
    return table("Bias AUCs, lowest first", columns, [row for _, row in found], note=note, words=(1, 6))


def bias_overall_table(inputs: ReportInputs) -> Table | None:
    """The generalised mean over subgroups and the final score of each label."""
    labels = inputs.figure("bias_overall", "labels")
    if not labels:
        return None
    rows = [
        [shown(name, MAX_LABEL), figure(entry(values, "generalised_mean")), figure(entry(values, "final"))]
        for name, values in labels.items()
    ]
    return table("Bias over all subgroups", ("Label", "Generalised mean", "Final score"), rows)


def robustness_table(inputs: ReportInputs) -> Table | None:
    """Figures on perturbed texts, as the model reads them and with disguises undone."""
    attacks = inputs.figure("robustness")
    if not attacks:
        return None
    clean = next((entry(one, "micro", "f1") for one in attacks if one.get("attack") == "clean"), None)
    rows = []
    for attack in attacks:
        value = entry(attack, "micro", "f1")
        change = None if None in (value, clean) else value - clean
        folded = entry(attack, "folded", "micro", "f1")
        rows.append(
            [
                shown(str(attack.get("attack")), MAX_LABEL),
                figure(entry(attack, "macro", "average_precision")),
                figure(entry(attack, "macro", "f1")),
                figure(value),
                signed(change) if attack.get("attack") != "clean" else NOT_MEASURED,
                NOT_MEASURED if folded is None else figure(folded),
            ]
        )
    columns = (
        "Texts",
        "Macro average precision",
        "Macro F1",
        "Micro F1",
        "Change",
        "Micro F1, disguises undone",
    )
    return table("Figures on perturbed texts", columns, rows)


def audit_table(inputs: ReportInputs) -> Table:
    """Which rows had which part, and how many evaluated rows training has seen."""
    rows = [["Rows evaluated here", whole(len(inputs.ids))]]
    for what, count in inputs.chosen_rows.described().items():
        if count is not None:
            rows.append([f"Of these chose {what}, or are copies of such", whole(count)])
    for kind, count in (inputs.figure("seen_in_training") or {}).items():
        rows.append([f"Seen in training, {SEEN_KINDS.get(kind, shown(str(kind), 40))}", whole(count)])
    seen = inputs.figure("rows_seen_in_training")
    rows.append(["Seen in training in all", "not audited" if seen is None else whole(seen)])
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
