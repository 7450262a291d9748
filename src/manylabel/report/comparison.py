"""What the page of two models shows, as plain values; called by render.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from manylabel.report import charts, curves
from manylabel.report.contents import with_figures
from manylabel.report.inputs import ReportInputs, entry
from manylabel.report.numbers import NOT_MEASURED, figure, fixed, shown, signed, span, whole
from manylabel.report.panels import charted_columns, column_of
from manylabel.report.tables import AVERAGES, MAX_LABEL, Cell, Table, lines, provenance_tables, table

METRIC_NAMES = {
    "average_precision": "Average precision",
    "roc_auc": "ROC-AUC",
    "f1": "F1",
    "precision": "Precision",
    "recall": "Recall",
    "brier": "Brier score (0 is best)",
    "log_loss": "Log loss (0 is best)",
    "ece": "Calibration error (0 is best)",
}
LOW_IS_BEST = frozenset(
    {"brier", "log_loss", "ece", "hamming_loss", "ranking_loss", "coverage_error", "expected_cost"}
)
LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """The sections of the page of two models."""

    title: str
    date: str
    command: str
    names: tuple[str, str]
    conclusion: str
    notes: tuple[str, ...]
    """What else is to be known: the rows, the baseline, rows that made one of the models."""
    figures: Table
    labels: tuple[Table, ...]
    panels: tuple[Markup, ...]
    left_out_of_panels: int
    provenance: tuple[tuple[str, tuple[Table, ...]], ...]


def comparison_of(
    inputs_a: ReportInputs, inputs_b: ReportInputs, comparison: Mapping[str, Any]
) -> Comparison:
    """All sections; figures that `comparison` lacks are taken from the two evaluations."""
    inputs_a, inputs_b = with_figures(inputs_a), with_figures(inputs_b)
    names = (shown(inputs_a.title, 80), shown(inputs_b.title, 80))
    same_rows = inputs_a.ids == inputs_b.ids and inputs_a.labels == inputs_b.labels
    charted = charted_columns(inputs_a) if same_rows else []
    conclusion = comparison.get("conclusion")
    return Comparison(
        title=f"{names[0]} beside {names[1]}",
        date=shown(inputs_a.date, 60),
        command=shown(inputs_a.command, 1000),
        names=names,
        conclusion=shown(str(conclusion))
        if conclusion
        else "The two models were not tested against each other.",
        notes=_notes(inputs_a, inputs_b, comparison, names, same_rows=same_rows),
        figures=_figure_table(inputs_a, inputs_b, comparison, names),
        labels=_label_tables(inputs_a, inputs_b, comparison, names),
        panels=tuple(filter(None, (_panel(inputs_a, inputs_b, column) for column in charted))),
        left_out_of_panels=len(inputs_a.labels) - len(charted) if same_rows else 0,
        provenance=tuple(
            (name, tuple(provenance_tables(inputs.provenance)))
            for name, inputs in zip(names, (inputs_a, inputs_b), strict=True)
        ),
    )


def _notes(
    inputs_a: ReportInputs,
    inputs_b: ReportInputs,
    comparison: Mapping[str, Any],
    names: tuple[str, str],
    *,
    same_rows: bool,
) -> tuple[str, ...]:
    rows = (whole(len(inputs_a.ids)), whole(len(inputs_b.ids)))
    notes = [
        f"Both on the same {rows[0]} rows."
        if same_rows
        else f"On {rows[0]} and {rows[1]} rows, which are not the same."
    ]
    for key, name in zip(("a", "b"), names, strict=True):
        seen = entry(comparison, "rows_seen_in_training", key)
        if seen:
            notes.append(f"Caution: {whole(seen)} of the rows made {name}, which favours it.")
        against = entry(comparison, f"{key}_against_baseline", "conclusion")
        if against:
            notes.append(shown(str(against)))
    return (*notes, *_notes_without_seen(comparison))


def _notes_without_seen(comparison: Mapping[str, Any]) -> list[str]:
    """The conclusions on the rows that made neither model, where some made one."""
    unseen = comparison.get("without_seen_rows")
    if not unseen:
        return []
    rows = entry(unseen, "rows")
    left = "" if rows is None else f" ({whole(rows)} left)"
    told = [entry(unseen, "conclusion")]
    told += [entry(unseen, f"{key}_against_baseline", "conclusion") for key in ("a", "b")]
    return [f"Without the rows that made either model{left}: {shown(str(one))}" for one in told if one]


def _figure_table(
    inputs_a: ReportInputs, inputs_b: ReportInputs, comparison: Mapping[str, Any], names: tuple[str, str]
) -> Table:
    tested = comparison.get("figures") or {}
    titles = {"/".join(path): title for title, path in AVERAGES}
    paths = {**dict.fromkeys(titles), **dict.fromkeys(str(key).removeprefix("overall/") for key in tested)}
    rows = []
    for path in paths:
        found = tested.get(path) or tested.get(f"overall/{path}") or {}
        a = entry(found, "a") if "a" in found else inputs_a.figure(*path.split("/"))
        b = entry(found, "b") if "b" in found else inputs_b.figure(*path.split("/"))
        if a is not None or b is not None:
            rows.append(
                [
                    titles.get(path) or _readable(path),
                    *_cells({**found, "a": a, "b": b}, path.split("/")[-1], names),
                ]
            )
    return table("Averages over labels and rows", _columns(names), rows, note=_note(names), words=(6,))


def _readable(path: str) -> str:
    """A figure without a title of its own, for example `Weighted ROC-AUC` or `Recall at 5`."""
    average, _, metric = path.rpartition("/")
    name = METRIC_NAMES.get(metric, metric.replace("_", " "))
    if not average:
        return shown(name, MAX_LABEL).capitalize()
    is_abbreviation = name[1:2].isupper() or name[1:2].isdigit()
    return shown(
        f"{average.capitalize()} {name if is_abbreviation else name[:1].lower() + name[1:]}", MAX_LABEL
    )


def _label_tables(
    inputs_a: ReportInputs, inputs_b: ReportInputs, comparison: Mapping[str, Any], names: tuple[str, str]
) -> tuple[Table, ...]:
    """One table a metric: those that were tested, else average precision and F1."""
    tested = comparison.get("labels") or {}
    known = {metric for of_label in tested.values() for metric in of_label}
    metrics = [metric for metric in METRIC_NAMES if metric in known] + sorted(known - set(METRIC_NAMES))
    found = []
    for metric in metrics or ["average_precision", "f1"]:
        rows = []
        for name in inputs_a.labels:
            of_label = entry(tested, name, metric) or {}
            values = {
                "a": inputs_a.figure("labels", name, metric),
                "b": inputs_b.figure("labels", name, metric),
                **of_label,
            }
            rows.append([shown(name, MAX_LABEL), *_cells(values, metric, names)])
        found.append(
            table(
                f"{METRIC_NAMES.get(metric, metric)} by label",
                _columns(names),
                rows,
                note=_note(names),
                words=(6,),
            )
        )
    return tuple(found)


def _columns(names: tuple[str, str]) -> tuple[str, ...]:
    return ("", names[0], names[1], "Difference", "−0.2 to +0.2", "p", "Shown to be better")


def _note(names: tuple[str, str]) -> str:
    return (
        f"Difference: {names[1]} minus {names[0]}, its interval below. p is corrected for the number of labels "
        "where it is about labels. “Neither” means that the difference may be chance."
    )


def _cells(values: Mapping[str, Any], metric: str, names: tuple[str, str]) -> list[Any]:
    """a, b, the difference with interval and bar, p, and which of the two is better."""
    a, b = values.get("a"), values.get("b")
    difference = values.get("difference")
    if difference is None and a is not None and b is not None:
        difference = b - a
    low, high, p = values.get("low"), values.get("high"), values.get("p_corrected", values.get("p"))
    interval = None if low is None or high is None else (float(low), float(high))
    return [
        figure(a),
        figure(b),
        Cell(signed(difference), lines(span(interval, is_signed=True))),
        Cell(charts.interval_bar(difference, interval, None, span=(-0.2, 0.2))),
        NOT_MEASURED if p is None else ("< 0.001" if p < 0.001 else fixed(p, 3)),
        _better(interval, p, metric, names),
    ]


def _better(
    interval: tuple[float, float] | None, p: float | None, metric: str, names: tuple[str, str]
) -> str:
    """The name of the better model, or neither: by the corrected p where there is one, and the interval."""
    if interval is None:
        return NOT_MEASURED
    if interval[0] <= 0.0 <= interval[1] or (p is not None and p >= LEVEL):
        return "neither"
    is_second = (interval[0] > 0.0) != (metric in LOW_IS_BEST)
    return shown(names[is_second], 40)


def _panel(inputs_a: ReportInputs, inputs_b: ReportInputs, column: int) -> Markup | None:
    """Precision over recall: dashed the first model, solid the second."""
    of_both = []
    for inputs in (inputs_a, inputs_b):
        own = column_of(inputs, inputs.probabilities_NL, column)
        assert own is not None
        of_both.append(curves.ranking_curves(own.positive_K, own.scores_K))
    if of_both[0] is None or of_both[1] is None:
        return None
    name = shown(inputs_a.labels[column], 40)
    sentence = f"Precision over recall of {name}; dashed the first model, solid the second"
    return charts.curve_panel(name, sentence, of_both[1][0], of_both[0][0], axes=("recall", "precision"))
