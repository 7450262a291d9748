"""How figures of parts of the rows look in a terminal: zones, slices, bias, disguises; called by show_evaluation.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from manylabel.cli.show import UNDEFINED, measured, measured_at, number, share, table
from manylabel.errors import counted

BIAS_METRICS = ("subgroup_auc", "bpsn_auc", "bnsp_auc")
BIAS_SHOWN = 10
"""Rows of bias AUCs, the lowest first; all are in the JSON and the report."""
CHANGES = (("macro", "average_precision"), ("micro", "f1"))


def review_table(figures: Mapping[str, Any]) -> list[Table | str]:
    """For a model with zones: what goes to a human, and how right the rest is decided."""
    found = figures.get("zones")
    if not found:
        return []
    owners = {**found["labels"], "all cells": found["cells"]}
    rows = [(name, *(_share(part[kind]) for kind in ("sent", "accuracy"))) for name, part in owners.items()]
    work = found["rows"]
    interval = " to ".join(map(share, work["interval"] or ()))
    return [
        "",
        "Zones for a human:",
        table(("", "sent to a human", "accuracy outside the zone"), rows),
        f"{work['count']:,} of {counted(work['of'], 'row')} have a label for a human: {share(work['share'])}"
        + (f" [{interval}]" if interval else ""),
    ]


def _share(part: Mapping[str, Any]) -> str:
    return measured(part["share"], part["interval"])


def slice_table(figures: Mapping[str, Any]) -> list[Table | str]:
    """The averages of each slice, and over how many labels its macro averages are."""
    found = figures.get("slices")
    if not found:
        return []
    rows = [
        (
            f"{part['column']} {part['value']}",
            f"{part['rows']:,}",
            _labels_judged(part),
            *(measured_at(part, ("macro", metric)) for metric in ("average_precision", "f1")),
            number(part.get("micro", {}).get("f1")),
        )
        for part in found
    ]
    owners = [(f"{part['column']} {part['value']}", part) for part in found]
    names = ("", "rows", "labels", "macro avg prec", "macro F1", "micro F1")
    lines: list[Table | str] = ["", "Slices:", table(names, rows)]
    if any("labels_judged" in part for part in found):
        lines.append("labels: those that macro average precision is the mean of (+ macro F1), of all")
    return [*lines, *_why_undefined(owners)]


def _labels_judged(part: Mapping[str, Any]) -> str:
    """Of all labels those with an average precision, and, where it is another number, with an F1."""
    judged = part.get("labels_judged")
    if judged is None:
        return UNDEFINED
    counts = dict.fromkeys((judged["average_precision"], judged["f1"]))
    return "+".join(map(str, counts)) + f"/{part['labels']}"


def _why_undefined(owners: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """One line a reason with those whose part has it."""
    by_reason: dict[str, list[str]] = {}
    for owner, part in owners:
        if reason := part.get("reason"):
            by_reason.setdefault(reason, []).append(owner)
    return [f"undefined, {reason}: {'; '.join(owned)}" for reason, owned in by_reason.items()]


def bias_tables(figures: Mapping[str, Any]) -> list[Table | str]:
    """The lowest ROC-AUCs within subgroups and across their borders, and the summary of each label."""
    parts: list[Table | str] = []
    cells = [
        (f"{part['subgroup']}, {name}", part["rows"], label)
        for part in figures.get("bias") or ()
        for name, label in part["labels"].items()
    ]
    judged = [cell for cell in cells if _lowest(cell[2]) is not None]
    judged.sort(key=lambda cell: _value(cell[2], _lowest(cell[2])))
    if cells:
        parts += ["", "Bias, lowest AUC first:"]
    if judged:
        parts.append(_bias_table(judged[:BIAS_SHOWN]))
    if len(judged) > BIAS_SHOWN:
        parts.append(f"{len(judged) - BIAS_SHOWN:,} more with a higher lowest AUC: see --json")
    parts += _bias_reasons(cells)
    overall = (figures.get("bias_overall") or {}).get("labels") or {}
    rows = [
        (
            name,
            *(
                measured(label.get(figure), (label.get("intervals") or {}).get(figure))
                for figure in ("generalised_mean", "final")
            ),
        )
        for name, label in overall.items()
        if label.get("generalised_mean") is not None
    ]
    if rows:
        parts += ["", table(("bias over all subgroups", "generalised mean", "final"), rows)]
    if lacking := len(overall) - len(rows):
        parts.append(
            f"no mean over subgroups for {counted(lacking, 'label')}: an AUC is defined for none of them"
        )
    return parts


def _bias_table(cells: Sequence[tuple[str, int, Mapping[str, Any]]]) -> Table:
    """Three AUCs a row; where there are intervals, that of the lowest of the three."""
    has_intervals = any(label.get("intervals") for _, _, label in cells)
    rows = []
    for owner, count, label in cells:
        digits = 3 if has_intervals else 4
        row = [owner, f"{count:,}", *(number(label.get(metric), digits) for metric in BIAS_METRICS)]
        if has_intervals:
            limits = (label.get("intervals") or {}).get(_lowest(label))
            row.append(UNDEFINED if limits is None else f"[{limits[0]:.3f}, {limits[1]:.3f}]")
        rows.append(row)
    names = ("subgroup, label", "rows", "subgroup AUC", "BPSN AUC", "BNSP AUC")
    return table((*names, "of the lowest") if has_intervals else names, rows)


def _bias_reasons(cells: Sequence[tuple[str, int, Mapping[str, Any]]]) -> list[str]:
    """Why AUCs are missing; where many are, only how many."""
    lacking = [(owner, label) for owner, _, label in cells if label.get("reason")]
    if len(lacking) <= BIAS_SHOWN:
        return _why_undefined(lacking)
    return [
        f"undefined in part or whole: {len(lacking):,} of {len(cells):,} pairs of subgroup and label (--json)"
    ]


def _lowest(label: Mapping[str, Any]) -> str | None:
    """The name of the lowest of the three AUCs; None where none is defined."""
    defined = [metric for metric in BIAS_METRICS if label.get(metric) is not None]
    return min(defined, key=lambda metric: _value(label, metric), default=None)


def _value(label: Mapping[str, Any], metric: str | None) -> float:
    return float(label[metric]) if metric is not None else 1.0


def attack_tables(figures: Mapping[str, Any]) -> list[Table | str]:
    """Figures under each attack, beside them with disguises folded away, and what each attack costs."""
    found = figures.get("robustness")
    if not found:
        return []
    rows = [
        (
            part["attack"],
            *(measured_at(part, ("macro", metric)) for metric in ("roc_auc", "average_precision", "f1")),
            measured_at(part, ("micro", "f1")),
            *(
                measured_at(part.get("folded") or {}, ("macro", metric))
                for metric in ("average_precision", "f1")
            ),
        )
        for part in found
    ]
    names = ("attack", "ROC-AUC", "avg prec", "F1", "micro F1", "folded avg prec", "folded F1")
    lines: list[Table | str] = [
        "",
        "Robustness (macro averages but for micro F1; folded: disguises undone):",
        table(names, rows),
    ]
    plain = {part["attack"]: part["change"] for part in found if part.get("change")}
    folded = {
        part["attack"]: part["folded"]["change"] for part in found if (part.get("folded") or {}).get("change")
    }
    for title, changes in (("change from clean texts", plain), ("the same, disguises undone", folded)):
        if changes:
            rows_of = [
                (attack, *(_change(change, path) for path in CHANGES)) for attack, change in changes.items()
            ]
            lines += ["", table((title, "macro avg prec", "micro F1"), rows_of)]
    if plain or folded:
        lines.append("paired by row; no interval where every resample gives the same")
    return lines


def _change(change: Mapping[str, Any], path: tuple[str, str]) -> str:
    """A difference with its sign and interval."""
    found = (change.get(path[0]) or {}).get(path[1]) or {}
    if found.get("difference") is None:
        return UNDEFINED
    shown = f"{found['difference']:+.3f}"
    return shown if found.get("low") is None else f"{shown} [{found['low']:+.3f}, {found['high']:+.3f}]"
