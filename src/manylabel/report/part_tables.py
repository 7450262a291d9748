"""Tables about parts of the rows and other readings of them: slices, bias, disguises, zones; called by contents.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from manylabel.report.inputs import ReportInputs, entry
from manylabel.report.numbers import NOT_MEASURED, figure, percent, shown, signed, span, threshold_text, whole
from manylabel.report.tables import MAX_LABEL, Cell, Table, dashed, lines, table

AUC_KINDS = (("subgroup_auc", "Subgroup AUC"), ("bpsn_auc", "BPSN AUC"), ("bnsp_auc", "BNSP AUC"))
MACRO_OF_ATTACKS = (("macro", "average_precision"), ("macro", "f1"))


def slice_table(inputs: ReportInputs) -> Table | None:
    """Macro and micro figures in each slice."""
    slices = inputs.figure("slices")
    if not slices:
        return None
    paths = (("macro", "average_precision"), ("macro", "f1"), ("micro", "f1"))
    rows = []
    for part in slices:
        cells = [
            Cell(
                figure(entry(part, *path)),
                lines(dashed(entry(part, "intervals", *path)), _labels_judged(part, path)),
            )
            for path in paths
        ]
        name = f"{part.get('column')}: {part.get('value')}"
        rows.append([shown(name, MAX_LABEL), whole(part.get("rows", 0)), *cells])
    columns = ("Slice", "Rows", "Macro average precision", "Macro F1", "Micro F1")
    note = ""
    if any("labels_judged" in part for part in slices):
        note = (
            "Macro averages are over the labels that have a figure in the slice; below each stands how many."
        )
    return table("Figures by slice", columns, rows, note=note)


def _labels_judged(part: Mapping[str, Any], path: tuple[str, str]) -> str:
    """Of how many labels a macro average is the mean."""
    judged, labels = entry(part, "labels_judged", path[1]), part.get("labels")
    return f"{judged} of {labels} labels" if path[0] == "macro" and judged is not None else ""


def bias_table(inputs: ReportInputs) -> Table | None:
    """Subgroup, BPSN and BNSP AUC by subgroup and label, the lowest first."""
    found: list[tuple[float, list[Any]]] = []
    for group in inputs.figure("bias") or []:
        for name, values in group.get("labels", {}).items():
            aucs = [entry(values, kind) for kind, _ in AUC_KINDS]
            lowest = min((auc for auc in aucs if auc is not None), default=2.0)
            subgroup = shown(str(group.get("subgroup")), MAX_LABEL)
            reason = str(entry(values, "reason") or "")
            cells = [
                Cell(figure(auc), lines(dashed(entry(values, "intervals", kind))))
                for auc, (kind, _) in zip(aucs, AUC_KINDS, strict=True)
            ]
            row = [subgroup, shown(name, MAX_LABEL), whole(group.get("rows", 0)), *cells, reason]
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
        [
            shown(name, MAX_LABEL),
            *(
                Cell(figure(entry(values, kind)), lines(dashed(entry(values, "intervals", kind))))
                for kind in ("generalised_mean", "final")
            ),
        ]
        for name, values in labels.items()
    ]
    return table("Bias over all subgroups", ("Label", "Generalised mean", "Final score"), rows)


def robustness_table(inputs: ReportInputs) -> Table | None:
    """Figures on perturbed texts, as the model reads them and with disguises undone."""
    attacks = inputs.figure("robustness")
    if not attacks:
        return None
    rows = []
    for attack in attacks:
        folded = attack.get("folded") or {}
        rows.append(
            [
                shown(str(attack.get("attack")), MAX_LABEL),
                *(_with_change(attack, path) for path in (*MACRO_OF_ATTACKS, ("micro", "f1"))),
                _with_change(folded, ("micro", "f1")) if folded else NOT_MEASURED,
            ]
        )
    columns = ("Texts", "Macro average precision", "Macro F1", "Micro F1", "Micro F1, disguises undone")
    note = "Below each figure: its change from the clean texts, paired by row, with its interval."
    return table("Figures on perturbed texts", columns, rows, note=note)


def _with_change(part: Mapping[str, Any], path: tuple[str, str]) -> Cell:
    """A figure, and below it the difference to the clean texts; older evaluations have none."""
    change = entry(part, "change", *path)
    difference, low, high = (entry(change, key) for key in ("difference", "low", "high"))
    interval = None if low is None or high is None else (low, high)
    below = lines("" if difference is None else signed(difference), span(interval, is_signed=True))
    return Cell(figure(entry(part, *path)), below)


def review_table(inputs: ReportInputs) -> Table | None:
    """What the zones send to a human, label by label, and how the rest is decided."""
    zones = inputs.figure("zones")
    if not zones:
        return None
    owners = [*((shown(name, MAX_LABEL), part) for name, part in zones["labels"].items())]
    rows = [
        [
            name,
            _zone(part),
            *(_share(part, kind) for kind in ("sent", "accuracy", "precision", "missed")),
        ]
        for name, part in [*owners, ("All cells", zones["cells"])]
    ]
    work, confidence = zones["rows"], percent(zones.get("confidence", 0.95), 0)
    interval = " to ".join(percent(end) for end in work["interval"] or ())
    note = (
        f"{whole(work['count'])} of {whole(work['of'])} rows have a label for a human: {percent(work['share'])}"
        + (f", {confidence} interval {interval}" if interval else "")
        + ". Outside the zones: accuracy of the decisions, precision of those that are yes, and of all positive cells "
        "the share decided no. Below each share its interval."
    )
    columns = ("Label", "Zone", "Sent to a human", "Accuracy outside", "Precision outside", "Missed outside")
    return table("Zones for a human", columns, rows, note=note)


def _zone(part: Mapping[str, Any]) -> str:
    low, high = part.get("low"), part.get("high")
    if low is None or high is None:
        return ""
    if low == high:
        return "none"
    return f"{threshold_text(low)} to {'above 1' if high > 1.0 else threshold_text(high)}"


def _share(part: Mapping[str, Any], kind: str) -> Cell:
    interval = " to ".join(percent(end) for end in entry(part, kind, "interval") or ())
    return Cell(percent(entry(part, kind, "share")), lines(interval))
