"""Thresholds for a stated goal, exact over all cut points; called by the recipes of training and of thresholds.

The goals, as they are written in settings and on the command line:

    f1, f0.5, f2        highest F-beta, any beta above 0
    recall=0.95         highest threshold whose recall is at least 0.95
    precision=0.9       most recall among the cuts whose precision is at least 0.9; of equal recall the most precise
    cost=5:1            least cost where a missed positive costs 5 and a false alarm 1
    alerts=50           lowest threshold that decides at most 50 of 10,000 rows
    at=0.3              this threshold, chosen by hand
    one=micro           one threshold for all labels, of highest F1 over all cells together
    one=samples         one threshold for all labels, of highest F1 of a row's labels, averaged over rows

Only annotated cells count; `alerts` are counted on them too. Cuts and thresholds are those of `decisions.cuts`; of
equally good cuts the one whose threshold is nearest the default wins, then the higher one. A goal that no cut reaches
is said in a note, and the nearest cut to it is kept: the highest precision, or the fewest alerts.

A goal says what holds on the fitting rows. What holds on new rows is the subject of `decisions.risk`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from manylabel.data.problems import finding, near_name
from manylabel.decisions.cuts import (
    Cuts,
    all_cuts,
    annotated_columns,
    check_rows,
    cut_points,
    why_unjudged,
)
from manylabel.decisions.thresholds import DEFAULT_THRESHOLD, MIN_POSITIVES, Thresholds
from manylabel.errors import ConfigError, Finding
from manylabel.values import BoolArray, FloatArray, IntArray

ROWS_OF_ALERTS = 10_000
ALLOWED = (
    "f1 or any f-beta such as f0.5, recall=0.95, precision=0.9, cost=5:1 (missed : false alarm), "
    "alerts=50 (of 10,000 rows), at=0.3 (this threshold), one=micro, one=samples"
)
BY_HAND = "chosen by hand"
MAX_BETA = 100.0
MAX_COST = 1e9
MAX_LABELS_NAMED = 20

Kind = Literal["fbeta", "recall", "precision", "cost", "alerts", "at", "one"]


@dataclass(frozen=True)
class Goal:
    """What a threshold aims at.

    `amount` is beta, the share asked for, the alerts in 10,000 rows, the threshold itself, or the cost of a missed
    positive; `false_alarm_cost` counts for the kind cost, `average` for the kind one.
    """

    kind: Kind
    amount: float = 1.0
    false_alarm_cost: float = 1.0
    average: Literal["micro", "samples"] = "micro"

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Read one of the forms above; capitals and spaces do not matter, and `one` means `one=micro`.

        Raises ConfigError where the form is unknown or its number out of range.
        """
        plain = re.sub(r"\s+", "", text).lower()
        name, _, value = plain.partition("=")
        if name == "one" and plain != "one=":
            return cls("one", average=_average(text, value or "micro"))
        if name in ("recall", "precision"):
            amount = _number(text, value, lowest=0.0, highest=1.0)
            return cls("recall" if name == "recall" else "precision", amount)
        if name == "alerts":
            return cls("alerts", _number(text, value, lowest=0.0, highest=float(ROWS_OF_ALERTS)))
        if name == "at":
            return cls("at", _number(text, value, lowest=-1.0, highest=1.0))
        if name == "cost":
            missed, _, false_alarm = value.partition(":")
            costs = [_number(text, each, lowest=0.0, highest=MAX_COST) for each in (missed, false_alarm)]
            return cls("cost", costs[0], false_alarm_cost=costs[1])
        if plain.startswith("f"):
            return cls("fbeta", _number(text, plain[1:], lowest=0.0, highest=MAX_BETA))
        raise _refused(text)

    def __str__(self) -> str:
        """The form that `parse` reads."""
        if self.kind == "one":
            return f"one={self.average}"
        if self.kind == "cost":
            return f"cost={_shown(self.amount)}:{_shown(self.false_alarm_cost)}"
        return f"f{_shown(self.amount)}" if self.kind == "fbeta" else f"{self.kind}={_shown(self.amount)}"


def _average(text: str, value: str) -> Literal["micro", "samples"]:
    if value == "micro":
        return "micro"
    if value == "samples":
        return "samples"
    raise _refused(text)


def _number(text: str, value: str, *, lowest: float, highest: float) -> float:
    """A decimal number above `lowest` and at most `highest`."""
    if not re.fullmatch(r"(\d+\.?\d*|\.\d+)(e-?\d+)?", value, re.ASCII):
        raise _refused(text)
    number = float(value)
    if not lowest < number <= highest:
        raise _refused(text, f"{value} is not above {lowest:g} and at most {highest:g}")
    return number


def _shown(number: float) -> str:
    """The shortest digits that give back the number, without a needless `.0`."""
    return repr(number).removesuffix(".0")


def _refused(text: str, found: str | None = None) -> ConfigError:
    shown = text if len(text) <= 40 else text[:37] + "..."
    return ConfigError(
        Finding(
            "C241",
            f'goal "{shown}"',
            found or "this is no goal",
            ALLOWED,
            "write one of these, for example recall=0.95",
        )
    )


def fit_goal(
    targets_NL: IntArray,
    probabilities_NL: FloatArray,
    labels: Sequence[str],
    goal: Goal,
    *,
    min_positives: int = MIN_POSITIVES,
    default: float = DEFAULT_THRESHOLD,
    per_label: Mapping[str, Goal] | None = None,
) -> Thresholds:
    """The threshold that reaches the goal on these rows, for each label; `per_label` names labels with their own.

    `targets_NL` holds 1, 0 and -1 (not annotated), `probabilities_NL` numbers in [0, 1]. A label with fewer than
    `min_positives` positive or negative rows keeps `default` and is unjudged; a threshold chosen by hand holds all
    the same, with a note. The goal `one` is fitted on the cells of all labels without a goal of their own, however
    few their positives, and holds for them.

    Raises:
        ConfigError: `per_label` names an unknown label, or gives one label the goal `one`.
        ValueError: the shapes disagree or a probability is outside [0, 1] or not a number.

    """
    own = dict(per_label or {})
    check_rows(targets_NL, probabilities_NL, labels)
    check_own_goals(own, labels)
    values_L = np.full(len(labels), default, dtype=np.float64)
    goals = [own.get(name, goal) for name in labels]
    reasons = why_not_fitted(targets_NL, goals, min_positives=min_positives)
    notes: list[str | None] = [None] * len(labels)
    together = [column for column, each in enumerate(goals) if each.kind == "one"]
    if together and reasons[together[0]] is None:
        rows_R = _counted_together(targets_NL[:, together], goal)
        shared = targets_NL[rows_R][:, together], probabilities_NL[rows_R][:, together]
        values_L[together] = _one_threshold(*shared, goal, default)
    for column, (positives_K, scores_K) in enumerate(annotated_columns(targets_NL, probabilities_NL)):
        if goals[column].kind == "at":
            values_L[column], notes[column] = goals[column].amount, BY_HAND
        elif goals[column].kind != "one" and reasons[column] is None:
            values_L[column], notes[column] = choose(all_cuts(positives_K, scores_K), goals[column], default)
    judged_L = np.array([reason is None for reason in reasons], dtype=np.bool_)
    written = tuple(str(each) if judged else None for each, judged in zip(goals, judged_L, strict=True))
    return Thresholds(tuple(labels), values_L, judged_L, reasons, written, tuple(notes))


def why_not_fitted(
    targets_NL: IntArray, goals: Sequence[Goal], *, min_positives: int
) -> tuple[str | None, ...]:
    """Why the rows are too few for each label's goal, None where they are not; needs no probability.

    `goals` has one entry a label. The labels of the goal `one` share one answer, and one chosen by hand needs no rows.
    """
    together = [column for column, goal in enumerate(goals) if goal.kind == "one"]
    reasons: list[str | None] = [None] * len(goals)
    if together:
        targets_NG = targets_NL[:, together]
        targets_RG = targets_NG[_counted_together(targets_NG, goals[together[0]])]
        shared = why_unjudged(int((targets_RG == 1).sum()), int((targets_RG >= 0).sum()), min_positives)
    for column, goal in enumerate(goals):
        targets_N = targets_NL[:, column]
        if goal.kind == "one":
            reasons[column] = shared
        elif goal.kind != "at":
            positives, rows = int((targets_N == 1).sum()), int((targets_N >= 0).sum())
            reasons[column] = why_unjudged(positives, rows, min_positives)
    return tuple(reasons)


def _counted_together(targets_NG: IntArray, goal: Goal) -> BoolArray:
    """Which rows count for one threshold: only those with all labels annotated have an F1 of their own."""
    if goal.average == "samples":
        complete_N: BoolArray = np.all(targets_NG >= 0, axis=1)
        return complete_N
    return np.ones(len(targets_NG), dtype=np.bool_)


def check_own_goals(own: Mapping[str, Goal], labels: Sequence[str]) -> None:
    """Raise ConfigError with every name that is no label, its nearest one proposed, and for the goal `one`."""
    findings = []
    for name in own:
        if name not in labels:
            near = near_name(name, labels)
            step = "write the name as it is in the model" if near is None else f'did you mean "{near}"?'
            allowed = ", ".join(labels[:MAX_LABELS_NAMED])
            if len(labels) > MAX_LABELS_NAMED:
                allowed += f" and {len(labels) - MAX_LABELS_NAMED} more"
            findings.append(finding("C242", "goal of a label", f'there is no label "{name}"', allowed, step))
    if any(each.kind == "one" for each in own.values()):
        findings.append(
            finding("C243", "goal of a label", "one= is a goal of all labels together",
                    "a goal of one label, such as recall=0.95", "give one= as the goal of all labels")
        )  # fmt: skip
    if findings:
        raise ConfigError(*findings)


def choose(cuts: Cuts, goal: Goal, default: float) -> tuple[float, str | None]:
    """The threshold for a goal of one label, and what is to be said of it; the label has a positive row."""
    index, note = _CHOOSERS[goal.kind](cuts, goal, default)
    return float(cuts.thresholds_C[index]), note


def _highest_f_beta(cuts: Cuts, goal: Goal, default: float) -> tuple[int, str | None]:
    f_beta_C = cuts.f_beta_C(goal.amount)
    return cuts.nearest(f_beta_C == f_beta_C.max(), default), None


def _enough_recall(cuts: Cuts, goal: Goal, default: float) -> tuple[int, str | None]:
    # Both sides are the doubles nearest to their fractions, so 19 of 20 is exactly 0.95. The last cut has recall 1.
    return int(np.argmax(cuts.true_positives_C / cuts.positives >= goal.amount)), None


def _enough_precision(cuts: Cuts, goal: Goal, default: float) -> tuple[int, str | None]:
    precision_C = cuts.precision_C
    met_C, note = precision_C >= goal.amount, None
    if not met_C.any():
        met_C = precision_C == precision_C.max()
        note = f"no cut reaches {goal}, the highest precision is {precision_C.max():.4f}"
    recalled = cuts.true_positives_C[met_C].max()
    return int(np.argmax(met_C & (cuts.true_positives_C == recalled))), note


def _least_cost(cuts: Cuts, goal: Goal, default: float) -> tuple[int, str | None]:
    cost_C = goal.amount * cuts.missed_C + goal.false_alarm_cost * cuts.false_positives_C
    index = cuts.nearest(cost_C == cost_C.min(), default)
    return index, "deciding nothing costs least" if cuts.decided_C[index] == 0 else None


def _few_alerts(cuts: Cuts, goal: Goal, default: float) -> tuple[int, str | None]:
    within = np.flatnonzero(cuts.decided_C * float(ROWS_OF_ALERTS) <= goal.amount * cuts.rows)
    if not len(within):
        fewest = ROWS_OF_ALERTS * cuts.decided_C[0] / cuts.rows
        return 0, f"no cut keeps to {goal}, the fewest alerts are {fewest:.1f}"
    index = int(within[-1])
    return index, f"only deciding nothing keeps to {goal}" if cuts.decided_C[index] == 0 else None


_CHOOSERS: Mapping[str, Callable[[Cuts, Goal, float], tuple[int, str | None]]] = {
    "fbeta": _highest_f_beta,
    "recall": _enough_recall,
    "precision": _enough_precision,
    "cost": _least_cost,
    "alerts": _few_alerts,
}


def _one_threshold(targets_NG: IntArray, probabilities_NG: FloatArray, goal: Goal, default: float) -> float:
    """The threshold of highest micro- or sample-F1 over the cells of G labels, at least one of them positive."""
    if goal.average == "samples":
        return _highest_sample_f1(targets_NG == 1, probabilities_NG.astype(np.float64), default)
    annotated_NG = targets_NG >= 0
    cuts = all_cuts(targets_NG[annotated_NG] == 1, probabilities_NG[annotated_NG].astype(np.float64))
    f1_C = cuts.f_beta_C(1.0)
    return float(cuts.thresholds_C[cuts.nearest(f1_C == f1_C.max(), default)])


def _highest_sample_f1(targets_RG: BoolArray, scores_RG: npt.NDArray[np.float64], default: float) -> float:
    """Mean over R rows of 2 TP / (positives + decided), as the evaluation has it; at least one cell is positive.

    A row without a label counts from the cut that decides something for it, with 0. Cells are decided one by one in
    falling order of score; each changes the F1 of its own row only, so running sums give every cut.
    """
    order_RG = np.argsort(-scores_RG, axis=1, kind="stable")
    hits_RG = np.cumsum(np.take_along_axis(targets_RG, order_RG, axis=1), axis=1)
    positives_R = targets_RG.sum(axis=1)
    after_RG = 2.0 * hits_RG / (positives_R[:, None] + np.arange(1, targets_RG.shape[1] + 1))
    gained_RG = np.diff(after_RG, axis=1, prepend=0.0)
    joins_RG = np.zeros(after_RG.shape, dtype=np.int64)
    joins_RG[positives_R == 0, 0] = 1
    falling_RG = np.take_along_axis(scores_RG, order_RG, axis=1)
    order = np.argsort(-falling_RG, axis=None, kind="stable")
    thresholds_C, decided_C = cut_points(falling_RG.ravel()[order])
    sums_C = np.concatenate([[0.0], np.cumsum(gained_RG.ravel()[order])])[decided_C]
    counted_C = (positives_R > 0).sum() + np.concatenate([[0], np.cumsum(joins_RG.ravel()[order])])[decided_C]
    mean_C = sums_C / np.maximum(counted_C, 1)
    # Sums of quotients carry rounding, a few units in the last place for each cell.
    best = np.flatnonzero(mean_C >= mean_C.max() - 1e-12)
    return float(thresholds_C[best[np.abs(thresholds_C[best] - default).argmin()]])
