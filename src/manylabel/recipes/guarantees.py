"""Thresholds that are to hold on new rows, label by label or over all; called by recipes/thresholds.py.

The theorems are those of `decisions.risk`; what they need of the rows is seen to by recipes/independent.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from manylabel.decisions.goals import Goal
from manylabel.decisions.missed_share import NAME, MissedShare
from manylabel.decisions.risk import Controlled, certify_precision, control_misses
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import DataError, Finding, UsageError
from manylabel.recipes.new_thresholds import Fitted, MissedNow, Wish
from manylabel.recipes.zones import check_can_be_guaranteed
from manylabel.values import FloatArray, IntArray

GUARANTEED = "guaranteed: "
NOT_GUARANTEED = "not guaranteed: "


def check_wish(wish: Wish) -> None:
    """Only recall and precision below 1 can be guaranteed, the share of missed labels, and what zones leave outside.

    Raises UsageError.
    """
    goals = [*wish.per_label.values(), *([wish.goal] if wish.goal else [])]
    if wish.missed_share is not None and (goals or not wish.guarantee):
        found = (
            f"{wish.missed_share} with another goal" if goals else f"{wish.missed_share} without --guarantee"
        )
        step = "leave out --goal, --label and --values" if goals else "add --guarantee"
        raise UsageError(Finding("U340", NAME, found, f"--guarantee {wish.missed_share} alone", step))
    if not wish.guarantee:
        return
    wrong = [goal for goal in goals if goal.kind not in ("recall", "precision") or goal.amount >= 1.0]
    if wrong or not (goals or wish.missed_share):
        found = f"{wrong[0]} cannot be guaranteed" if wrong else "there is no goal to guarantee"
        raise UsageError(
            Finding("U281", "--guarantee", found, f"recall=R or precision=P, below 1, or {NAME}=A",
                    "give such a goal, or leave out --guarantee")
        )  # fmt: skip
    check_can_be_guaranteed(wish.abstain)


def with_guarantees(
    fitted: Fitted, targets_NL: IntArray, probabilities_NL: FloatArray, wish: Wish, changed: Sequence[str]
) -> Fitted:
    """The fitted thresholds replaced by guaranteed ones where there are any; a note says what holds of each label.

    A label that these rows cannot judge keeps its threshold, and with it what was promised of it before.
    """
    plain = fitted.thresholds
    values_L, notes = plain.values_L.copy(), list(plain.notes or (None,) * len(plain.labels))
    guaranteed = set()
    for name in changed:
        column = plain.labels.index(name)
        if name in fitted.unjudged:
            if not (notes[column] or "").startswith(GUARANTEED):
                notes[column] = NOT_GUARANTEED + fitted.unjudged[name]
            continue
        goal = wish.per_label.get(name, wish.goal)
        assert goal is not None
        controlled, promise = _controlled(
            targets_NL[:, column], probabilities_NL[:, column], goal, wish.confidence
        )
        if controlled.threshold is None:
            notes[column] = "; ".join(filter(None, (notes[column], f"{NOT_GUARANTEED}{controlled.reason}")))
        else:
            values_L[column], notes[column] = controlled.threshold, promise
            guaranteed.add(name)
    thresholds = replace(plain, values_L=values_L, notes=tuple(notes))
    return replace(fitted, thresholds=thresholds, guaranteed=frozenset(guaranteed))


def _controlled(
    targets_N: IntArray, probabilities_N: FloatArray, goal: Goal, confidence: float
) -> tuple[Controlled, str]:
    """The guaranteed threshold of one label and what it promises."""
    if goal.kind == "recall":
        alpha = round(1.0 - goal.amount, 12)
        promise = f"{GUARANTEED}a new positive row is missed with probability at most {alpha:g}"
        return control_misses(targets_N, probabilities_N, alpha=alpha), promise
    delta = round(1.0 - confidence, 12)
    promise = f"{GUARANTEED}precision at least {goal.amount:g} with confidence {confidence:g}"
    return certify_precision(targets_N, probabilities_N, precision=goal.amount, delta=delta), promise


def one_for_all(
    labels: tuple[str, ...], targets_NL: IntArray, probabilities_NL: FloatArray, goal: MissedShare
) -> Fitted:
    """One guaranteed threshold for all labels; raises DataError where the rows are too few for it."""
    controlled = goal.control(targets_NL, probabilities_NL)
    if controlled.threshold is None:
        raise DataError(
            Finding("D177", f"--guarantee {goal}", str(controlled.reason), "more rows or a larger share",
                    "give more rows, or allow a larger share")
        )  # fmt: skip
    nothing_found = not (probabilities_NL[targets_NL == 1] >= controlled.threshold).any()
    note = GUARANTEED + goal.promise
    if nothing_found:
        note += "; it finds no label, since few rows carry one: " + (
            "allow a smaller share" if goal.labelled_only else f"{goal},labelled is about those"
        )
    num_labels = len(labels)
    thresholds = Thresholds(
        labels=labels,
        values_L=np.full(num_labels, controlled.threshold),
        judged_L=np.ones(num_labels, dtype=np.bool_),
        reasons=(None,) * num_labels,
        goals=(str(goal),) * num_labels,
        notes=(note,) * num_labels,
    )
    return Fitted(thresholds, {}, frozenset(labels), controlled.rows)


def missed_now(
    goal: MissedShare | None,
    targets_NL: IntArray,
    probabilities_NL: FloatArray,
    *,
    old: Thresholds,
    fitted: Fitted,
) -> MissedNow | None:
    """What is missed on these rows with the old and the new thresholds; None without such a goal."""
    if goal is None:
        return None
    before, after = (
        goal.measure(targets_NL, thresholds.decide(probabilities_NL))
        for thresholds in (old, fitted.thresholds)
    )
    return MissedNow(goal, fitted.controlled_rows, before, after)
