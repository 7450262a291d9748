"""How results look in a terminal; called by the commands. Texts and names of users are printed as they are, inert."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from manylabel.errors import counted
from manylabel.terminal import Terminal, printable

UNDEFINED = "-"
METRIC_NAMES = {
    "roc_auc": "ROC-AUC",
    "average_precision": "average precision",
    "f1": "F1",
    "subset_accuracy": "subset accuracy",
    "hamming_loss": "Hamming loss",
    "ranking_loss": "ranking loss",
    "lrap": "LRAP",
}


def result_console() -> Terminal:
    """Standard output, without any interpretation of brackets in users' words; wide where nobody looks."""
    return Terminal()


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object on standard output and nothing else; what could rewrite a terminal is escaped."""
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)
    if not text.replace("\n", "").isprintable():
        # Only strings hold such characters, and there an escape means the same.
        text = "".join(
            character if character.isprintable() or character == "\n" else json.dumps(character)[1:-1]
            for character in text
        )
    sys.stdout.write(text + "\n")


def number(value: float | None, digits: int = 4) -> str:
    """A figure, or a dash where it is undefined."""
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def share(value: float | None) -> str:
    """A share as percent with one decimal, or a dash."""
    return UNDEFINED if value is None else f"{100 * value:.1f} %"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table, the first column left and the others right."""
    result = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        result.add_column(
            Text(printable(column)),
            justify="left" if index == 0 else "right",
            no_wrap=index > 0,
            overflow="fold",
        )
    for row in rows:
        result.add_row(*(Text(printable(cell)) for cell in row))
    return result


def evaluation_tables(figures: Mapping[str, Any]) -> list[Table | str]:
    """The figures of `Evaluation.to_json`: labels, averages beside the baseline's, what is undefined and seen."""
    parts: list[Table | str] = [_label_table(figures), "", _average_table(figures), *_left_out(figures)]
    rows = counted(figures["rows"], "row")
    seen = figures.get("rows_seen_in_training")
    if seen is not None:
        rows += f", {seen:,} of them seen in training"
    parts += ["", rows]
    if unseen := figures.get("without_seen_rows"):
        parts += ["", "Without the rows seen in training:", _average_table(unseen), *_left_out(unseen)]
    return parts + _unjudged(figures) + _undefined(figures)


def _left_out(figures: Mapping[str, Any]) -> list[str]:
    """How many labels each macro average is not about."""
    counts = {metric: count for metric, count in figures.get("excluded_from_macro", {}).items() if count}
    if not counts:
        return []
    shown = ", ".join(f"{METRIC_NAMES[metric]} {count:,}" for metric, count in counts.items())
    return [f"left out of the macro averages, of {counted(len(figures['labels']), 'label')}: {shown}"]


def _unjudged(figures: Mapping[str, Any]) -> list[Table | str]:
    """The labels that decide at the default threshold, and why."""
    at_threshold: dict[float, list[str]] = {}
    for name, reason in figures.get("unjudged_thresholds", {}).items():
        threshold = figures["labels"][name]["threshold"]
        at_threshold.setdefault(threshold, []).append(f"{printable(name)} ({printable(reason)})")
    return [
        f"threshold not judged (kept at {threshold:g}): {', '.join(names)}"
        for threshold, names in at_threshold.items()
    ]


def _undefined(figures: Mapping[str, Any]) -> list[Table | str]:
    """Every metric without a value, by reason, for example `  ROC-AUC, recall of grief, the macro average`."""
    by_reason: dict[str, dict[str, list[str]]] = {}
    for key, reason in figures["undefined"].items():
        # A label's key always ends in a point and a metric, an average's holds a slash; see Evaluation.undefined.
        label, point, metric = key.rpartition(".")
        average, slash, metric = ("", "", metric) if point else metric.rpartition("/")
        owner = printable(label) if point else f"the {average} average" if slash else "all rows"
        name = METRIC_NAMES.get(metric, metric)
        by_reason.setdefault(reason, {}).setdefault(owner, []).append(name)
    lines: list[Table | str] = []
    for reason, metrics_of in by_reason.items():
        owners_of: dict[str, list[str]] = {}
        for owner, metrics in metrics_of.items():
            owners_of.setdefault(", ".join(metrics), []).append(owner)
        lines.append(f"undefined, {reason}:")
        lines += [f"  {metrics} of {', '.join(owners)}" for metrics, owners in owners_of.items()]
    return lines


def _label_table(figures: Mapping[str, Any]) -> Table:
    columns = ("label", "rows", "ROC-AUC", "avg prec", "prec", "recall", "F1", "threshold")
    rows = [
        (
            name,
            f"{label['support']:,}",
            *(
                number(label[metric])
                for metric in ("roc_auc", "average_precision", "precision", "recall", "f1")
            ),
            number(label["threshold"]),
        )
        for name, label in figures["labels"].items()
    ]
    return table(columns, rows)


def _average_table(figures: Mapping[str, Any]) -> Table:
    """Model and baseline side by side."""
    baseline = figures.get("baseline") or {}
    wanted = (
        ("macro ROC-AUC", "macro", "roc_auc"),
        ("macro average precision", "macro", "average_precision"),
        ("macro F1", "macro", "f1"),
        ("micro F1", "micro", "f1"),
        ("samples F1", "samples", "f1"),
    )
    rows = [
        (title, number(figures[part][metric]), number(baseline.get(part, {}).get(metric)))
        for title, part, metric in wanted
    ]
    singles = (
        ("accuracy of all cells", "accuracy"),
        ("subset accuracy", "subset_accuracy"),
        ("Hamming loss", "hamming_loss"),
        ("ranking loss", "ranking_loss"),
        ("LRAP", "lrap"),
    )
    rows += [(title, number(figures[metric]), number(baseline.get(metric))) for title, metric in singles]
    return table(("", "this model", "TF-IDF baseline"), rows)
