"""How results look in a terminal; called by the commands. Texts and names of users are printed as they are, inert."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

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
    "brier": "Brier score",
    "log_loss": "log loss",
    "ece": "ECE",
    "coverage_error": "coverage error",
    "expected_cost": "expected cost",
    "ndcg": "nDCG",
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


def metric_name(metric: str) -> str:
    """A metric as users read it, for example `nDCG at 3`."""
    kind, at, k = metric.partition("_at_")
    return METRIC_NAMES.get(kind, kind) + (f" at {k}" if at else "")


def measured(value: float | None, interval: Sequence[float] | None, digits: int = 4) -> str:
    """A figure with its interval to three decimals, as `0.531 [0.512, 0.549]`; to `digits` decimals without one."""
    if value is None or interval is None:
        return number(value, digits)
    low, high = interval
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def measured_at(figures: Mapping[str, Any], path: tuple[str, ...]) -> str:
    """The figure at `macro/f1` or `overall/lrap` with its interval."""
    part, metric = path
    values = figures if part == "overall" else figures.get(part, {})
    return measured(values.get(metric), interval_at(figures, *path))


def interval_at(figures: Mapping[str, Any], *path: str) -> Sequence[float] | None:
    """The interval at `path` of the figures' intervals; None where there is none."""
    found: Any = figures.get("intervals") or {}
    for name in path:
        found = found.get(name) or {}
    return found or None
