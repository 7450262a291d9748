"""New thresholds for a stated goal, on rows of the user's own; called by `manylabel thresholds`.

The model itself stays as it is: the same weights and probabilities are saved with other thresholds as a new version
beside the old one (recipes/versions.py). What the rows chose is remembered, so that a later evaluation on them says
so. A label that the rows cannot judge keeps the threshold that it has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from manylabel.bundle.contents import Bundle
from manylabel.config.schema import DataSettings
from manylabel.data.problems import finding
from manylabel.decisions.cuts import why_unjudged
from manylabel.decisions.goals import Goal, check_own_goals, fit_goal, why_not_fitted
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import DataError, counted
from manylabel.inference.load import LoadedModel
from manylabel.recipes.corpora import Source, all_texts
from manylabel.recipes.evaluate import load_rows
from manylabel.recipes.guarantees import check_wish, missed_now, one_for_all, with_guarantees
from manylabel.recipes.independent import independent_rows, require_rows, tell_seen
from manylabel.recipes.new_thresholds import Fitted, NewThresholds, Wish, differ, effects
from manylabel.recipes.scoring import rows_by_role, seen_rows
from manylabel.recipes.zones import new_zones, zones_differ
from manylabel.training.observers import Observer
from manylabel.values import BoolArray, Corpus, FloatArray, IntArray

MAX_LABELS_NAMED = 3


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows to choose on, how many of the file made the model, and how many were left out for a guarantee."""

    corpus: Corpus
    seen: Mapping[str, int]
    roles: Mapping[str, int]
    left_out: int = 0
    left_out_dependent: int = 0


def find_thresholds(
    model: LoadedModel, source: Source, wish: Wish, *, options: DataSettings, observer: Observer
) -> NewThresholds:
    """Predict the rows of `source` and fit what `wish` asks for; nothing is saved.

    Rows that made the model are told. For a guarantee they are left out: probabilities of rows that the model
    learnt from, or that its calibration was fitted on, are not those of new rows. Of rows that depend on each other
    one is then kept. Raises UsageError where a goal cannot be guaranteed at all or a zone that stays does not hold
    its new threshold, ConfigError for an unknown label, DataError with all problems of the file, and where its rows
    can judge no label.
    """
    check_wish(wish)
    bundle = model.bundle
    check_own_goals(wish.per_label, bundle.labels)
    rows = _rows(model, source, wish, options=options, observer=observer)
    corpus, targets_NL = rows.corpus, rows.corpus.targets_NL
    _require_judged(bundle, targets_NL, wish, observer)
    observer.stage(f"Predicting {counted(len(corpus), 'row')}")
    probabilities_NL = model.predictor.predict(corpus.texts, corpus.pairs).probabilities_BL
    changed = _asked(bundle, wish)
    fitted = _fitted(bundle, bundle.thresholds, targets_NL, probabilities_NL, wish)
    if wish.guarantee and wish.missed_share is None:
        fitted = with_guarantees(fitted, targets_NL, probabilities_NL, wish, changed)
    zones = new_zones(
        bundle,
        fitted.thresholds,
        targets_NL,
        probabilities_NL,
        goal=wish.abstain,
        confidence=wish.confidence,
        guarantee=wish.guarantee,
    )
    of_baseline_NL = bundle.baseline.model.probabilities(all_texts(corpus))
    beside = _of_baseline(bundle, targets_NL, of_baseline_NL, wish)
    return NewThresholds(
        thresholds=fitted.thresholds,
        zones=zones,
        baseline=replace(bundle.baseline, thresholds=beside),
        changed=changed,
        unjudged=fitted.unjudged,
        guaranteed=fitted.guaranteed,
        before=effects(bundle.thresholds, targets_NL, probabilities_NL, wish.confidence),
        after=effects(fitted.thresholds, targets_NL, probabilities_NL, wish.confidence),
        corpus=corpus,
        seen=rows.seen,
        roles=rows.roles,
        left_out=rows.left_out,
        left_out_dependent=rows.left_out_dependent,
        wish=wish,
        differs=differ(bundle.thresholds, fitted) or zones_differ(bundle.zones, zones),
        missed=missed_now(
            wish.missed_share, targets_NL, probabilities_NL, old=bundle.thresholds, fitted=fitted
        ),
    )


def _rows(
    model: LoadedModel, source: Source, wish: Wish, *, options: DataSettings, observer: Observer
) -> _Rows:
    """The rows of `source`; for a guarantee only new ones that do not depend on each other."""
    bundle = model.bundle
    corpus = load_rows(model, source, options=options, observer=observer)
    texts = all_texts(corpus)
    audit, roles = seen_rows(bundle, texts), rows_by_role(bundle.seen_texts, bundle.seen_parts, texts)
    tell_seen(audit, roles, observer, drop=wish.guarantee)
    if not wish.guarantee:
        require_rows(corpus, guarantee=False)
        return _Rows(corpus, audit.counts(), roles)
    split, new = bundle.settings.split, corpus.select(np.flatnonzero(~audit.seen_N))
    kept = independent_rows(
        new, similarity=split.near_duplicate_similarity, seed=split.seed, observer=observer
    )
    require_rows(kept, guarantee=True)
    return _Rows(kept, audit.counts(), roles, len(corpus) - len(new), len(new) - len(kept))


def _asked(bundle: Bundle, wish: Wish) -> tuple[str, ...]:
    """The labels that are to get new thresholds."""
    return tuple(wish.per_label) if wish.per_label and wish.goal is None else bundle.labels


def _goal_of_all(bundle: Bundle, wish: Wish) -> Goal | None:
    if wish.goal is None and not wish.per_label:
        return Goal.parse(bundle.settings.decisions.goal)
    return wish.goal


def _goal_or_default(bundle: Bundle, wish: Wish) -> Goal:
    """The goal of the labels without one of their own; where these do not change, any will do."""
    return _goal_of_all(bundle, wish) or Goal("fbeta")


def _of_baseline(bundle: Bundle, targets_NL: IntArray, of_baseline_NL: FloatArray, wish: Wish) -> Thresholds:
    """The baseline's thresholds for the same goals; one chosen by hand is about the model alone."""
    per_label = {name: goal for name, goal in wish.per_label.items() if goal.kind != "at"}
    old, goal = bundle.baseline.thresholds, _goal_of_all(bundle, wish)
    if not per_label and (goal is None or goal.kind == "at"):
        return old
    return _fitted(bundle, old, targets_NL, of_baseline_NL, replace(wish, per_label=per_label)).thresholds


def _fitted(
    bundle: Bundle, old: Thresholds, targets_NL: IntArray, probabilities_NL: FloatArray, wish: Wish
) -> Fitted:
    """`old` with new thresholds where the wish asks for them and the rows can judge the label."""
    if wish.missed_share is not None:
        return one_for_all(bundle.labels, targets_NL, probabilities_NL, wish.missed_share)
    settings = bundle.settings.decisions
    new = fit_goal(
        targets_NL,
        probabilities_NL,
        bundle.labels,
        _goal_or_default(bundle, wish),
        min_positives=settings.min_positives,
        default=settings.default_threshold,
        per_label=wish.per_label,
    )
    asked_L = np.isin(bundle.labels, _asked(bundle, wish))
    told = zip(new.labels, new.reasons, asked_L, strict=True)
    unjudged = {name: reason for name, reason, asked in told if asked and reason is not None}
    return Fitted(_merged(old, new, asked_L & new.judged_L), unjudged)


def _merged(old: Thresholds, new: Thresholds, fresh_L: BoolArray) -> Thresholds:
    """`new` for the marked labels and `old` for the others."""
    nothing = (None,) * len(old.labels)

    def pick(olds: Sequence[str | None] | None, news: Sequence[str | None] | None) -> tuple[str | None, ...]:
        pairs = zip(olds or nothing, news or nothing, fresh_L, strict=True)
        return tuple(of_new if fresh else of_old for of_old, of_new, fresh in pairs)

    return Thresholds(
        labels=old.labels,
        values_L=np.where(fresh_L, new.values_L, old.values_L),
        judged_L=np.where(fresh_L, new.judged_L, old.judged_L),
        reasons=pick(old.reasons, new.reasons),
        goals=pick(old.goals, new.goals),
        notes=pick(old.notes, new.notes),
    )


def _require_judged(bundle: Bundle, targets_NL: IntArray, wish: Wish, observer: Observer) -> None:
    """Refuse rows that can judge none of the labels, for a threshold or for a zone; raises DataError.

    Where they can judge some, the others that were named are told: they keep their threshold. All this needs no
    prediction, so nobody waits for it.
    """
    if wish.missed_share is not None:
        return
    asked, fewest = _asked(bundle, wish), bundle.settings.decisions.min_positives
    goals = [wish.per_label.get(name, _goal_or_default(bundle, wish)) for name in bundle.labels]
    reasons = zip(bundle.labels, why_not_fitted(targets_NL, goals, min_positives=fewest), strict=True)
    unjudged = {name: reason for name, reason in reasons if reason is not None and name in asked}
    if set(asked) - set(unjudged):
        named = {name: reason for name, reason in unjudged.items() if name in wish.per_label}
        if named:
            observer.stage(f"  note: these rows cannot judge {_listed(named)}: kept as in the model")
    elif not _changes_zones(bundle, targets_NL, wish):
        needed = max(fewest, 1)
        raise DataError(
            finding(
                "D176",
                "--data",
                f"these rows can judge no label: {_listed(unjudged)}",
                f"at least {needed} rows with and {needed} without a label (decisions.min_positives of the model)",
                "give more rows; nothing was changed",
            )
        )


def _changes_zones(bundle: Bundle, targets_NL: IntArray, wish: Wish) -> bool:
    """Whether zones are removed, or fitted for a label with rows enough."""
    if wish.abstain is None or wish.abstain.is_none:
        return wish.abstain is not None and bundle.zones is not None
    fewest = bundle.settings.decisions.min_positives
    counts = zip((targets_NL == 1).sum(axis=0), (targets_NL >= 0).sum(axis=0), strict=True)
    return any(why_unjudged(int(positives), int(rows), fewest) is None for positives, rows in counts)


def _listed(unjudged: Mapping[str, str]) -> str:
    """The first labels, each with why it cannot be judged, and how many more."""
    named = ", ".join(f"{name} ({reason})" for name, reason in list(unjudged.items())[:MAX_LABELS_NAMED])
    return named + (
        f" and {len(unjudged) - MAX_LABELS_NAMED} more" if len(unjudged) > MAX_LABELS_NAMED else ""
    )
