"""Ship, look closer, or do not ship: fixed rules over the figures, each a sentence with its number.

Called by contents.py; the rules are described for users in docs/report.md. The verdict is the gravest outcome of
all checks. A check whose figures were not measured never lowers it, except the three without which no figure can
be believed: baseline, intervals and leak audit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from manylabel.errors import counted
from manylabel.report.inputs import ReportInputs, entry
from manylabel.report.numbers import figure, listed, percent, shown, signed, span, whole, wilson

Outcome = Literal["passed", "not checked", "look closer", "do not ship"]
GRAVITY: Mapping[Outcome, int] = {"passed": 0, "not checked": 0, "look closer": 1, "do not ship": 2}

SEEN_SHARE = 0.01
"""Share of rows that made the model from which the figures are in doubt."""
CHOSE_SHARE = 0.1
"""Share of rows that chose something from which the figures are no test at all."""
SEEN_EFFECT = 0.005
"""Change of macro average precision or macro F1 without these rows from which the headline misleads."""
WIDE_INTERVAL = 0.2
"""Width of a label's interval of average precision above which it says little."""
HIGH_ECE = 0.05
LOW_SUBGROUP = 0.10
"""How far below a label's ROC-AUC its lowest bias AUC may lie."""
ATTACK_LOSS = 0.10
"""Loss of micro F1 under a perturbation that is worth a look."""
SLICE_ROWS = 50
SLICE_LOSS = 0.10
"""Loss of macro F1 in a slice of at least 50 rows, where no intervals tell more."""
FALSE_ALARMS = 0.10
LABEL_ERRORS = 0.01


@dataclass(frozen=True)
class Check:
    """One rule applied: its outcome and the sentence that says why."""

    name: str
    outcome: Outcome
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """The gravest outcome; `reasons` are the checks that failed, gravest first."""

    checks: tuple[Check, ...]

    @property
    def outcome(self) -> Literal["ship", "look closer", "do not ship"]:
        """What to do with the model."""
        gravest = max(GRAVITY[check.outcome] for check in self.checks)
        return ("ship", "look closer", "do not ship")[gravest]

    @property
    def reasons(self) -> tuple[Check, ...]:
        """The checks that failed."""
        failed = [check for check in self.checks if GRAVITY[check.outcome]]
        return tuple(sorted(failed, key=lambda check: -GRAVITY[check.outcome]))


@dataclass(frozen=True)
class FalseAlarms:
    """Rows without any label, and how many of them were given at least one; `interval` is Wilson's, 95 %."""

    rows: int
    alarmed: int
    by_label: Mapping[str, int]

    @property
    def rate(self) -> float | None:
        """Share of the rows without a label that set off an alarm; None without such rows."""
        return self.alarmed / self.rows if self.rows else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of `rate`."""
        return wilson(self.alarmed, self.rows)


def false_alarms(inputs: ReportInputs) -> FalseAlarms:
    """Counts over the rows with every label annotated and none of them carried."""
    clean_N = (inputs.targets_NL == 0).all(axis=1)
    decisions_CL = inputs.decisions_NL[clean_N]
    counts = np.count_nonzero(decisions_CL, axis=0)
    return FalseAlarms(
        rows=len(decisions_CL),
        alarmed=int(decisions_CL.any(axis=1).sum()),
        by_label={name: int(count) for name, count in zip(inputs.labels, counts, strict=True)},
    )


def judge(inputs: ReportInputs) -> Verdict:
    """Apply every rule, in the order they are shown."""
    return Verdict(tuple(Check(name, *rule(inputs)) for name, rule in RULES))


Answer = tuple[Outcome, str]


def _baseline(inputs: ReportInputs) -> Answer:
    metric = ("macro", "average_precision")
    value, baseline = inputs.figure(*metric), inputs.figure("baseline", *metric)
    if value is None:
        return (
            "do not ship",
            "Macro average precision is undefined: no label has both positive and negative rows.",
        )
    if baseline is None:
        return "look closer", "There is no baseline to compare with."
    both = f"Macro average precision is {figure(value)}, the TF-IDF baseline's {figure(baseline)}"
    paired = inputs.figure("against_baseline", "figures", "macro/average_precision")
    interval = _paired_interval(paired)
    if interval is not None:
        difference = entry(paired, "difference")
        difference = value - baseline if difference is None else difference
        both += f" (difference {signed(difference)}, interval {span(interval, is_signed=True)})"
        is_better = interval[0] > 0.0
    else:
        own = inputs.interval(*metric)
        is_better = value > baseline and (own is None or own[0] > baseline)
        both += f" (the model's interval is {span(own)})" if own else ""
    unseen = inputs.figure("without_seen_rows", "against_baseline", "figures", "macro/average_precision")
    if (of_unseen := _paired_interval(unseen)) is not None:
        told = f"{signed(entry(unseen, 'difference'))}, interval {span(of_unseen, is_signed=True)}"
        both += f"; without the rows that made the model the difference is {told}"
    if is_better:
        return "passed", both + "."
    return "do not ship", both + ": the model is not shown to be better than a model of words without BERT."


def _paired_interval(paired: Any) -> tuple[float, float] | None:  # noqa: ANN401 - a value of a JSON object
    low, high = entry(paired, "low"), entry(paired, "high")
    return None if low is None or high is None else (float(low), float(high))


def _weak_labels(inputs: ReportInputs) -> Answer:
    """Labels whose whole interval is below the baseline's value."""
    worse = [
        name
        for name in inputs.labels
        if (own := inputs.interval("labels", name, "average_precision")) is not None
        and (other := inputs.figure("baseline", "labels", name, "average_precision")) is not None
        and own[1] < other
    ]
    if worse:
        found = f"{counted(len(worse), 'label is', 'labels are')} worse than the baseline: {listed(worse)}."
        return "look closer", found
    if inputs.figure("baseline", "labels") is None or inputs.figure("intervals", "labels") is None:
        return "not checked", "Labels were not compared with the baseline one by one."
    return "passed", "No label is clearly worse than the baseline."


def _chosen_rows(inputs: ReportInputs) -> Answer:
    """Rows that fitted the weights are the subject of `_leaks`."""
    known = {what: count for what, count in inputs.chosen_rows.described().items() if count is not None}
    known.pop("the weights", None)
    used = {what: count for what, count in known.items() if count}
    if not known:
        return "not checked", "It is not known whether these rows chose anything of the model."
    if not used:
        return "passed", "These rows chose neither " + " nor ".join(known) + "."
    share = max(used.values()) / max(len(inputs.ids), 1)
    parts = " and ".join(f"{counted(count, 'row')} chose {what}" for what, count in used.items())
    sentence = f"Of {counted(len(inputs.ids), 'evaluated row')}, {parts}"
    if share > CHOSE_SHARE:
        return "do not ship", sentence + ": the figures are better than on new rows."
    if share > SEEN_SHARE:
        return "look closer", sentence + ", or are copies of rows that did; figures on them are too good."
    return "passed", sentence + ", or are copies of rows that did; too few to matter."


def _leaks(inputs: ReportInputs) -> Answer:
    if folds := inputs.figure("out_of_fold"):
        return (
            "passed",
            f"Each row was scored by one of {folds} fold models that saw neither it nor a near copy of it.",
        )
    seen, rows = inputs.figure("rows_seen_in_training"), max(len(inputs.ids), 1)
    if seen is None:
        return "look closer", "There was no leak audit: it is not known whether these rows made the model."
    if not seen:
        return "passed", f"None of {counted(len(inputs.ids), 'row')} made the model."
    told = f"{counted(seen, 'row')} ({percent(seen / rows)}) made the model, exactly or nearly"
    changes = {
        name: headline - clean
        for name, metric in (("macro average precision", "average_precision"), ("macro F1", "f1"))
        if (headline := inputs.figure("macro", metric)) is not None
        and (clean := inputs.figure("without_seen_rows", "macro", metric)) is not None
    }
    if seen / rows <= SEEN_SHARE:
        return "passed", told + "; too few to matter."
    if not changes:
        return "do not ship", told + ", and no figure without them is defined."
    name, change = max(changes.items(), key=lambda item: abs(item[1]))
    sentence = f"{told}; without them {name} changes by {signed(-change)}."
    return ("do not ship" if abs(change) > SEEN_EFFECT else "look closer"), sentence


def _undefined(inputs: ReportInputs) -> Answer:
    names = [
        name
        for name in inputs.labels
        if inputs.figure("labels", name) is not None
        and inputs.figure("labels", name, "average_precision") is None
    ]
    if names:
        have = counted(len(names), "label has", "labels have")
        return "look closer", f"{have} no figures, for want of positive or negative rows: {listed(names)}."
    return "passed", "Every label has positive and negative rows."


def _wide(inputs: ReportInputs) -> Answer:
    if inputs.figure("intervals") is None:
        return (
            "look closer",
            "No intervals were computed: it is not known how far the figures can be trusted.",
        )
    wide = [
        name
        for name in inputs.labels
        if (interval := inputs.interval("labels", name, "average_precision")) is not None
        and interval[1] - interval[0] > WIDE_INTERVAL
    ]
    if wide:
        have = counted(len(wide), "label has an interval", "labels have intervals")
        sentence = (
            f"{have} of average precision wider than {WIDE_INTERVAL:g}: {listed(wide)}. More rows would tell."
        )
        return "look closer", sentence
    return "passed", f"No interval of a label's average precision is wider than {WIDE_INTERVAL:g}."


def _unjudged(inputs: ReportInputs) -> Answer:
    names = [name for name, yes in zip(inputs.labels, inputs.thresholds.judged_L, strict=True) if not yes]
    if names:
        have = counted(len(names), "label decides", "labels decide")
        sentence = f"{have} at the default threshold, for want of rows to choose one on: {listed(names)}."
        return "look closer", sentence
    if inputs.figure("out_of_fold"):
        told = "The figures come from thresholds of the other folds; the model's own were chosen on all of these rows"
        return "passed", told + ", so move the sliders below with that in mind."
    return "passed", "Every threshold was chosen on rows of its own."


def _calibration(inputs: ReportInputs) -> Answer:
    ece = inputs.figure("calibration", "ece_after")
    ece = inputs.figure("macro", "ece") if ece is None else ece
    if ece is None:
        return "not checked", "The calibration error was not measured."
    sentence = f"The expected calibration error is {figure(ece)}"
    if ece > HIGH_ECE:
        return "look closer", f"{sentence}, above {HIGH_ECE:g}: do not read the probabilities as frequencies."
    return "passed", f"{sentence}, at most {HIGH_ECE:g}."


def _contradictions(inputs: ReportInputs) -> Answer:
    if inputs.contradictory_rows is None:
        return "not checked", "Equal texts with different labels were not looked for."
    if inputs.contradictory_rows:
        rows = counted(inputs.contradictory_rows, "row is", "rows are")
        return (
            "look closer",
            f"{rows} a copy of another with different labels; no model can be right on both.",
        )
    return "passed", "No two equal texts carry different labels."


def _label_errors(inputs: ReportInputs) -> Answer:
    found = inputs.figure("label_errors")
    if found is None:
        return "not checked", "Likely label errors were not looked for."
    rows = len({str(error.get("id")) for error in found})
    share = percent(rows / max(len(inputs.ids), 1))
    sentence = f"{counted(rows, 'row is', 'rows are')} likely labelled wrongly ({share})."
    return ("look closer" if rows > LABEL_ERRORS * len(inputs.ids) else "passed"), sentence


def _slices(inputs: ReportInputs) -> Answer:
    slices, overall = inputs.figure("slices"), inputs.figure("macro", "f1")
    if not slices or overall is None:
        return "not checked", "Slices were not measured."
    lowest = inputs.interval("macro", "f1")
    weak = []
    for part in slices:
        value, high = entry(part, "macro", "f1"), entry(part, "intervals", "macro", "f1")
        if value is None or part.get("rows", 0) < SLICE_ROWS:
            continue
        is_weak = high[1] < lowest[0] if high and lowest else value < overall - SLICE_LOSS
        if is_weak:
            name = f"{shown(str(part.get('column')), 40)} = {shown(str(part.get('value')), 40)}"
            weak.append(f"{name} ({figure(value)}, {counted(part['rows'], 'row')})")
    if weak:
        return (
            "look closer",
            f"Macro F1 is {figure(overall)} over all rows, but lower in: {', '.join(weak[:5])}.",
        )
    return "passed", f"No slice of at least {SLICE_ROWS} rows is clearly below macro F1 {figure(overall)}."


def _bias(inputs: ReportInputs) -> Answer:
    groups = inputs.figure("bias")
    if not groups:
        return "not checked", "Bias over subgroups was not measured."
    found: list[tuple[float, str]] = []
    for group in groups:
        for name, values in group.get("labels", {}).items():
            overall = inputs.figure("labels", name, "roc_auc")
            aucs = [entry(values, kind) for kind in ("subgroup_auc", "bpsn_auc", "bnsp_auc")]
            defined = [auc for auc in aucs if auc is not None]
            if overall is not None and defined and min(defined) < overall - LOW_SUBGROUP:
                place = f"{shown(name, 40)} on texts about {shown(str(group.get('subgroup')), 40)}"
                found.append((min(defined) - overall, f"{place} ({figure(min(defined))})"))
    if found:
        worst = ", ".join(text for _, text in sorted(found)[:5])
        return (
            "look closer",
            f"A bias AUC lies more than {LOW_SUBGROUP:g} below the label's ROC-AUC: {worst}.",
        )
    return "passed", f"No bias AUC lies more than {LOW_SUBGROUP:g} below its label's ROC-AUC."


def _robustness(inputs: ReportInputs) -> Answer:
    attacks = inputs.figure("robustness") or []
    micro = {str(attack.get("attack")): entry(attack, "micro", "f1") for attack in attacks}
    clean = micro.pop("clean", None)
    if clean is None or not micro:
        return "not checked", "Perturbed texts were not tried."
    lost = {name: clean - value for name, value in micro.items() if value is not None}
    bad = [f"{shown(name, 40)} ({signed(-loss)})" for name, loss in lost.items() if loss > ATTACK_LOSS]
    if bad:
        return "look closer", f"Micro F1 falls by more than {ATTACK_LOSS:g} under: {', '.join(bad)}."
    return "passed", f"Micro F1 falls by at most {ATTACK_LOSS:g} under every perturbation tried."


def _false_alarms(inputs: ReportInputs) -> Answer:
    found = false_alarms(inputs)
    if found.rate is None:
        return "not checked", "There is no row without any label."
    interval = found.interval or (0.0, 1.0)
    sentence = (
        f"{whole(found.alarmed)} of {counted(found.rows, 'row')} without any label set off an alarm: "
        f"{percent(found.rate)}, interval {percent(interval[0])} to {percent(interval[1])}."
    )
    return ("look closer" if found.rate > FALSE_ALARMS else "passed"), sentence


RULES: tuple[tuple[str, Callable[[ReportInputs], Answer]], ...] = (
    ("Better than the baseline", _baseline),
    ("Rows that chose nothing", _chosen_rows),
    ("Rows that made the model", _leaks),
    ("Intervals", _wide),
    ("Labels with figures", _undefined),
    ("Labels beside the baseline", _weak_labels),
    ("Thresholds", _unjudged),
    ("Calibration", _calibration),
    ("False alarms on rows without a label", _false_alarms),
    ("Slices", _slices),
    ("Bias", _bias),
    ("Robustness", _robustness),
    ("Contradictory labels", _contradictions),
    ("Likely label errors", _label_errors),
)
