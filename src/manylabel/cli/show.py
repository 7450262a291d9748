"""How results look in a terminal; called by the commands. Texts and names of users are printed as they are, inert."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from manylabel.errors import counted
from manylabel.evaluation.result import OF_LABELS
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
LABEL_TABLES = (("average_precision", "f1"), ("roc_auc", "precision", "recall"), ("brier", "log_loss", "ece"))
"""The metrics of a label with their intervals, in as many tables as 80 columns need."""


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


def evaluation_tables(figures: Mapping[str, Any]) -> list[Table | str]:
    """The figures of `Evaluation.to_json`: labels, averages beside the baseline's, what is undefined and seen.

    What the figures hold beyond that is shown below it: intervals in brackets, calibration, slices, bias and
    robustness. Figures of an older model, which lack some of it, are shown as they are.
    """
    parts: list[Table | str] = [*_label_tables(figures), ""]
    parts += [*_average_tables(figures), *_left_out(figures)]
    if any("_at_" in metric for metric in figures):
        parts.append("precision, recall and nDCG at k: over the rows that carry a label")
    parts += _calibration(figures)
    rows = counted(figures["rows"], "row")
    seen = figures.get("rows_seen_in_training")
    if seen is not None:
        rows += f", {seen:,} of them seen in training"
    parts += ["", rows + _kinds_of_copies(figures), *_provenance(figures)]
    if unseen := figures.get("without_seen_rows"):
        parts += ["", "Without the rows seen in training:", _overall_table(unseen), *_left_out(unseen)]
    parts += [*_unjudged(figures), *_undefined(figures)]
    return [*parts, *_slices(figures), *_bias(figures), *_robustness(figures)]


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
        # A label's key always ends in a point and a metric, an average's holds a slash; see Evaluation.undefined.
        label, point, metric = key.rpartition(".")
        average, slash, metric = ("", "", metric) if point else metric.rpartition("/")
        owner = printable(label) if point else f"the {average} average" if slash else "all rows"
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
                    measured(label.get(metric), _interval(figures, "labels", name, metric))
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
                    measured(figures[average][metric], _interval(figures, average, metric))
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
        (title, _measured_at(figures, path), _measured_at(baseline, path))
        for title, path in wanted
        if _has(figures, path)
    ]
    return table(("", "this model", "TF-IDF baseline"), rows)


def _has(figures: Mapping[str, Any], path: tuple[str, ...]) -> bool:
    part, metric = path
    return metric in (figures if part == "overall" else figures[part])


def _measured_at(figures: Mapping[str, Any], path: tuple[str, ...]) -> str:
    part, metric = path
    values = figures if part == "overall" else figures.get(part, {})
    return measured(values.get(metric), _interval(figures, *path))


def _interval(figures: Mapping[str, Any], *path: str) -> Sequence[float] | None:
    """The interval at `path` of the figures' intervals; None where there is none."""
    found: Any = figures.get("intervals") or {}
    for name in path:
        found = found.get(name) or {}
    return found or None


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


def _slices(figures: Mapping[str, Any]) -> list[Table | str]:
    found = figures.get("slices")
    if not found:
        return []
    rows = [
        (
            f"{part['column']} {part['value']}",
            f"{part['rows']:,}",
            *(_measured_at(part, ("macro", metric)) for metric in ("average_precision", "f1")),
            number(part.get("micro", {}).get("f1")),
        )
        for part in found
    ]
    owners = [(f"{part['column']} {part['value']}", part) for part in found]
    names = ("", "rows", "macro avg prec", "macro F1", "micro F1")
    return ["", "Slices:", table(names, rows), *_why_undefined(owners)]


def _why_undefined(owners: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """One line a reason with those whose part has it."""
    by_reason: dict[str, list[str]] = {}
    for owner, part in owners:
        if reason := part.get("reason"):
            by_reason.setdefault(reason, []).append(owner)
    return [f"undefined, {reason}: {'; '.join(owned)}" for reason, owned in by_reason.items()]


def _bias(figures: Mapping[str, Any]) -> list[Table | str]:
    """ROC-AUC within each subgroup and across its border, why some have none, and the summary of each label."""
    parts: list[Table | str] = []
    metrics = ("subgroup_auc", "bpsn_auc", "bnsp_auc")
    cells = [
        (f"{part['subgroup']}, {name}", part["rows"], label)
        for part in figures.get("bias") or ()
        for name, label in part["labels"].items()
    ]
    if cells:
        rows = [
            (owner, f"{count:,}", *(number(label.get(metric)) for metric in metrics))
            for owner, count, label in cells
        ]
        names = ("subgroup, label", "rows", "subgroup AUC", "BPSN AUC", "BNSP AUC")
        parts += ["", "Bias:", table(names, rows)]
    parts += _why_undefined([(owner, label) for owner, _, label in cells])
    if overall := (figures.get("bias_overall") or {}).get("labels"):
        rows = [
            (name, number(label.get("generalised_mean")), number(label.get("final")))
            for name, label in overall.items()
        ]
        parts += ["", table(("bias over all subgroups", "generalised mean", "final"), rows)]
    return parts


def _robustness(figures: Mapping[str, Any]) -> list[Table | str]:
    """Figures under each attack, and beside them with disguises folded away."""
    found = figures.get("robustness")
    if not found:
        return []
    rows = [
        (
            part["attack"],
            *(_measured_at(part, ("macro", metric)) for metric in ("roc_auc", "average_precision", "f1")),
            _measured_at(part, ("micro", "f1")),
            *(
                _measured_at(part.get("folded") or {}, ("macro", metric))
                for metric in ("average_precision", "f1")
            ),
        )
        for part in found
    ]
    names = ("attack", "ROC-AUC", "avg prec", "F1", "micro F1", "folded avg prec", "folded F1")
    return ["", "Robustness (macro averages but for micro F1; folded: disguises undone):", table(names, rows)]
