"""How results look in a terminal; called by the commands. Texts and names of users are printed as they are, inert."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

UNDEFINED = "-"
WIDTH_OF_FILES = 120
"""Characters a line when the output is a file or a pipe, which have no width of their own."""


def result_console() -> Console:
    """Standard output, without any interpretation of brackets in users' words; wide where nobody looks."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH_OF_FILES
    return console


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object on standard output and nothing else."""
    sys.stdout.write(json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def printable(text: str) -> str:
    """`text` without control characters and bidirectional overrides, which could rewrite a terminal."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


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
            column, justify="left" if index == 0 else "right", no_wrap=index > 0, overflow="fold"
        )
    for row in rows:
        result.add_row(*(Text(printable(cell)) for cell in row))
    return result


def evaluation_tables(figures: Mapping[str, Any]) -> list[Table | str]:
    """The figures of `Evaluation.to_json`: labels, averages beside the baseline's, what is undefined and seen."""
    parts: list[Table | str] = [_label_table(figures), "", _average_table(figures)]
    rows = f"{figures['rows']:,} rows"
    seen = figures.get("rows_seen_in_training")
    if seen is not None:
        rows += f", {seen:,} of them seen in training"
    parts += ["", rows]
    if figures.get("without_seen_rows"):
        parts += ["", "Without the rows seen in training:", _average_table(figures["without_seen_rows"])]
    undefined = {
        key: reason for key, reason in figures["undefined"].items() if not key.endswith(".precision")
    }
    if undefined:
        parts.append(
            "undefined: " + "; ".join(f"{key} ({reason})" for key, reason in list(undefined.items())[:8])
        )
    return parts


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
