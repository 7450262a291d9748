"""How a comparison of two models looks in a terminal; called by `manylabel compare`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from manylabel.cli.show import METRIC_NAMES, UNDEFINED, number, table
from manylabel.errors import counted
from manylabel.terminal import printable

AVERAGES = (
    ("macro", "average_precision"),
    ("macro", "roc_auc"),
    ("macro", "f1"),
    ("micro", "f1"),
)
OF_LABEL = "average_precision"


def comparison_tables(content: Mapping[str, Any]) -> list[Table | str]:
    """Both models and their difference with interval and p, per label and overall; the conclusion last."""
    parts: list[Table | str] = [_labels(content), "", _averages(content), ""]
    parts.append(
        f"{counted(content['rows'], 'row')}; in brackets {100 * content['confidence']:g} % intervals of the difference "
        f"B - A from {content['resamples']:,} paired resamples; p by permutation, for labels after Holm's correction"
    )
    for name, count in content["rows_seen_in_training"].items():
        if count:
            parts.append(f"warning: {counted(count, 'row')} made model {name.upper()}, which favours it")
    parts += ["", *_conclusions(content)]
    if unseen := content.get("without_seen_rows"):
        told = f"Without the rows that made either model ({counted(unseen['rows'], 'row')} left):"
        parts += ["", told, *_conclusions(unseen)]
    return parts


def _conclusions(content: Mapping[str, Any]) -> list[str]:
    """What is concluded of each model beside the baseline, then of the two."""
    return [
        *(
            f"{key.upper()} against the TF-IDF baseline: " + printable(against["conclusion"])
            for key in ("a", "b")
            if (against := content.get(f"{key}_against_baseline"))
        ),
        printable(content["conclusion"]),
    ]


def _labels(content: Mapping[str, Any]) -> Table:
    rows = [
        (name, *_cells(figures.get(OF_LABEL, {}), corrected=True))
        for name, figures in content.get("labels", {}).items()
    ]
    return table(("average precision", "A", "B", "B - A", "p"), rows)


def _averages(content: Mapping[str, Any]) -> Table:
    rows = []
    for average, metric in AVERAGES:
        figures = content.get("figures", {}).get(f"{average}/{metric}")
        if figures is not None:
            title = f"{average} {METRIC_NAMES.get(metric, metric)}"
            rows.append((title, *_cells(figures, corrected=False)))
    return table(("", "A", "B", "B - A", "p"), rows)


def _cells(figure: Mapping[str, Any], *, corrected: bool) -> tuple[str, str, str, str]:
    difference = UNDEFINED if figure.get("difference") is None else f"{figure['difference']:+.3f}"
    if figure.get("low") is not None:
        difference += f" [{figure['low']:+.3f}, {figure['high']:+.3f}]"
    p_value = figure.get("p_corrected") if corrected else figure.get("p")
    return number(figure.get("a"), 3), number(figure.get("b"), 3), difference, number(p_value, 3)
