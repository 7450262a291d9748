"""How an evaluation looks in a terminal; called by `manylabel evaluate` and `train`.

Texts and names of users are printed as they are, inert.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from manylabel.cli.show import interval_at, measured, measured_at, metric_name, number, table
from manylabel.cli.show_parts import attack_tables, bias_tables, review_table, slice_table
from manylabel.errors import counted
from manylabel.evaluation.result import OF_LABELS
from manylabel.terminal import printable

LABEL_TABLES = (("average_precision", "f1"), ("roc_auc", "precision", "recall"), ("brier", "log_loss", "ece"))
"""The metrics of a label with their intervals, in as many tables as 80 columns need."""
OWNERS_SHOWN = 8


def evaluation_tables(figures: Mapping[str, Any]) -> list[Table | str]:
    """The figures of `Evaluation.to_json`: labels, averages beside the baseline's, what is undefined and seen.

    What the figures hold beyond that is shown below it: intervals in brackets, calibration, slices, bias and
    robustness. Figures of an older model, which lack some of it, are shown as they are.
    """
    parts: list[Table | str] = [*_label_tables(figures), ""]
    parts += [*_average_tables(figures), *_left_out(figures)]
    parts += [*_rows_without_label(figures), *_calibration(figures)]
    rows = counted(figures["rows"], "row")
    seen = figures.get("rows_seen_in_training")
    if seen is not None:
        rows += f", {seen:,} of them made the model"
    parts += ["", rows + _kinds_of_copies(figures), *_provenance(figures)]
    if unseen := figures.get("without_seen_rows"):
        parts += ["", "Without the rows that made the model:", _overall_table(unseen), *_left_out(unseen)]
        if against := unseen.get("against_baseline"):
            parts.append(f"Without the rows that made the model: {printable(against['conclusion'])}")
    parts += [*_unjudged(figures), *_undefined(figures), *_without_interval(figures)]
    return [
        *parts,
        *review_table(figures),
        *slice_table(figures),
        *bias_tables(figures),
        *attack_tables(figures),
    ]


def _rows_without_label(figures: Mapping[str, Any]) -> list[str]:
    """How rows that carry no label count in what ranks the labels of a row."""
    if not any("_at_" in metric for metric in figures):
        return []
    count = figures.get("rows_without_label")
    if count is None:
        return ["precision, recall and nDCG at k: over the rows that carry a label"]
    if not count:
        return []
    return [
        f"{count:,} of {counted(figures['complete_rows'], 'fully annotated row')} carry no label:",
        "  they count 1 in LRAP, 0 in ranking loss and coverage error,",
        "  and not at all in precision, recall and nDCG at k",
    ]


def _without_interval(figures: Mapping[str, Any]) -> list[str]:
    """One footnote: which figures have a value and no interval, by reason."""
    owners_of: dict[str, dict[str, None]] = {}
    for key, reason in ((figures.get("intervals") or {}).get("reasons") or {}).items():
        owners_of.setdefault(reason, {})[_owner(key)[0]] = None
    if not owners_of:
        return []
    told = []
    for reason, owners in owners_of.items():
        names = [*owners]
        more = f" and {len(names) - OWNERS_SHOWN:,} more" if len(names) > OWNERS_SHOWN else ""
        told.append(f"{reason} ({', '.join(names[:OWNERS_SHOWN])}{more})")
    return ["no interval for some figures: " + "; ".join(told)]


def _owner(key: str) -> tuple[str, str]:
    """Of what a key of `Evaluation.undefined` says something, and its metric."""
    # A label's key always ends in a point and a metric, an average's holds a slash; see Evaluation.undefined.
    label, point, metric = key.rpartition(".")
    average, slash, metric = ("", "", metric) if point else metric.rpartition("/")
    return (printable(label) if point else f"the {average} average" if slash else "all rows"), metric


def _kinds_of_copies(figures: Mapping[str, Any]) -> str:
    counts = figures.get("seen_in_training") or {}
    shown = ", ".join(f"{kind} {count:,}" for kind, count in counts.items() if count)
    return f" ({shown})" if shown else ""


def _provenance(figures: Mapping[str, Any]) -> list[str]:
    """What the intervals are, how the model stands to the baseline, whether the rows had a part in making it."""
    lines = []
    if against := figures.get("against_baseline"):
        lines.append(printable(against["conclusion"]))
    if intervals := figures.get("intervals"):
        level, resamples = intervals.get("confidence"), intervals.get("resamples")
        lines.append(
            "in brackets: intervals"
            + (f" of {100 * level:g} % confidence" if level is not None else "")
            + (f" from {resamples:,} resamples" if resamples is not None else "")
        )
    if roles := {role: count for role, count in (figures.get("roles") or {}).items() if count}:
        lines.append(
            "rows that had a role in making the model: "
            + ", ".join(f"{role} {count:,}" for role, count in roles.items())
        )
    if chosen_on := figures.get("chosen_on"):
        lines.append(f"warning: {chosen_on}")
    return lines


def _left_out(figures: Mapping[str, Any]) -> list[str]:
    """How many labels each macro average is not about."""
    counts = {metric: count for metric, count in figures.get("excluded_from_macro", {}).items() if count}
    if not counts:
        return []
    shown = ", ".join(f"{metric_name(metric)} {count:,}" for metric, count in counts.items())
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
        owner, metric = _owner(key)
        by_reason.setdefault(reason, {}).setdefault(owner, []).append(metric_name(metric))
    lines: list[Table | str] = []
    for reason, metrics_of in by_reason.items():
        owners_of: dict[str, list[str]] = {}
        for owner, metrics in metrics_of.items():
            owners_of.setdefault(", ".join(metrics), []).append(owner)
        lines.append(f"undefined, {reason}:")
        lines += [f"  {metrics} of {', '.join(owners)}" for metrics, owners in owners_of.items()]
    return lines


def _label_tables(figures: Mapping[str, Any]) -> list[Table | str]:
    """One table where there are no intervals, else as many as a narrow terminal needs."""
    if not (figures.get("intervals") or {}).get("labels"):
        return [_label_table(figures)]
    parts: list[Table | str] = []
    for index, metrics in enumerate(LABEL_TABLES):
        first = index == 0
        rows = [
            (
                name,
                *([f"{label['support']:,}"] if first else []),
                *(
                    measured(label.get(metric), interval_at(figures, "labels", name, metric))
                    for metric in metrics
                ),
                *([number(label["threshold"])] if first else []),
            )
            for name, label in figures["labels"].items()
        ]
        names = map(metric_name, metrics)
        columns = ("label", "rows", *names, "threshold") if first else ("label", *names)
        parts += [*([] if first else [""]), table(columns, rows)]
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


def _average_tables(figures: Mapping[str, Any]) -> list[Table | str]:
    """Each average of each metric where there are intervals; then model and baseline side by side."""
    parts: list[Table | str] = []
    pairs = (("macro", "micro"), ("weighted", "samples")) if figures.get("intervals") else ()
    for averages in pairs:
        rows = [
            (
                metric_name(metric),
                *(
                    measured(figures[average][metric], interval_at(figures, average, metric))
                    if metric in figures[average]
                    else ""
                    for average in averages
                ),
            )
            for metric in OF_LABELS
        ]
        parts += [table(("", *averages), rows), ""]
    return [*parts, _overall_table(figures)]


def _overall_table(figures: Mapping[str, Any]) -> Table:
    """Model and baseline side by side."""
    wanted: list[tuple[str, tuple[str, ...]]] = [
        ("macro ROC-AUC", ("macro", "roc_auc")),
        ("macro average precision", ("macro", "average_precision")),
        ("macro F1", ("macro", "f1")),
        ("micro F1", ("micro", "f1")),
        ("samples F1", ("samples", "f1")),
    ]
    wanted += [(f"macro {metric_name(metric)}", ("macro", metric)) for metric in ("brier", "log_loss", "ece")]
    wanted.append(("accuracy of all cells", ("overall", "accuracy")))
    singles = ["subset_accuracy", "hamming_loss", "ranking_loss", "lrap", "coverage_error"]
    singles += [metric for metric in figures if "_at_" in metric]
    wanted += [(metric_name(metric), ("overall", metric)) for metric in (*singles, "expected_cost")]
    baseline = figures.get("baseline") or {}
    rows = [
        (title, measured_at(figures, path), measured_at(baseline, path))
        for title, path in wanted
        if _has(figures, path)
    ]
    return table(("", "this model", "TF-IDF baseline"), rows)


def _has(figures: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    part, metric = path
    return metric in (figures if part == "overall" else figures[part])


def _calibration(figures: Mapping[str, Any]) -> list[Table | str]:
    """Calibration error and Brier score before and after, and how many labels have which map."""
    found = figures.get("calibration")
    if not found:
        return []
    changes = [
        f"{metric_name(metric)} {_changed(found, f'{metric}_before')} -> {_changed(found, f'{metric}_after')}"
        for metric in ("ece", "brier")
        if f"{metric}_before" in found
    ]
    methods = Counter(found.get("method", {}).values())
    told = ", ".join(f"{method} {count:,}" for method, count in methods.most_common())
    lines: list[Table | str] = [
        "",
        "calibration, macro, before -> after:",
        *(f"  {line}" for line in changes),
    ]
    return lines + ([f"  labels by method: {told}"] if told else [])


def _changed(found: Mapping[str, Any], name: str) -> str:
    return measured(found.get(name), found.get(f"{name}_interval"))
