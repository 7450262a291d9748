"""New thresholds for a stated goal, on rows of the user's own; called by `manylabel thresholds`.

The model itself stays as it is: the same weights and probabilities are saved with other thresholds as a new version
beside the old one. What the rows chose is remembered, so that a later evaluation on them says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manylabel.bundle import files
from manylabel.bundle.card import GOAL_FITTED
from manylabel.bundle.contents import Bundle, FittedBaseline
from manylabel.bundle.save import save_bundle
from manylabel.config.schema import DataSettings
from manylabel.data.duplicates import raw_fingerprints, text_fingerprints
from manylabel.data.sketches import text_sketches
from manylabel.decisions.abstain import ZoneGoal
from manylabel.decisions.binomial import clopper_pearson
from manylabel.decisions.goals import ROWS_OF_ALERTS, Goal, fit_goal
from manylabel.decisions.risk import Controlled, certify_precision, control_misses
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import Finding, UsageError, counted
from manylabel.inference.load import LoadedModel
from manylabel.recipes.corpora import Source, all_texts
from manylabel.recipes.evaluate import load_rows
from manylabel.recipes.independent import independent_rows, require_rows, tell_seen
from manylabel.recipes.provenance import corpus_fingerprint
from manylabel.recipes.scoring import rows_by_role, seen_rows
from manylabel.recipes.zones import ZONES_FITTED, NewZones, check_can_be_guaranteed, new_zones
from manylabel.training.observers import Observer
from manylabel.values import BoolArray, Corpus, FloatArray, IntArray


@dataclass(frozen=True)
class Wish:
    """What the thresholds are to aim at.

    `goal` is that of all labels without one in `per_label`. Where it is None, the labels of `per_label` alone get new
    thresholds, and without any the model's own `decisions.goal` holds for all. With `guarantee` the goals recall and
    precision are to hold on new rows, see `decisions.risk`; `confidence` is that of the precision, and of intervals.
    `abstain` is what zones for a human are to aim at; None keeps those of the model.
    """

    goal: Goal | None = None
    per_label: Mapping[str, Goal] = field(default_factory=dict)
    guarantee: bool = False
    confidence: float = 0.95
    abstain: ZoneGoal | None = None


@dataclass(frozen=True)
class AtThreshold:
    """What one threshold does to one label: counts over its annotated rows, exact intervals of the shares."""

    threshold: float
    rows: int
    positives: int
    decided: int
    hits: int
    confidence: float

    def to_json(self) -> dict[str, object]:
        """Precision, recall and alerts in 10,000 rows with their intervals; null where nothing is counted."""
        alerts = clopper_pearson(self.decided, self.rows, confidence=self.confidence)
        return {
            "threshold": self.threshold,
            "precision": self.hits / self.decided if self.decided else None,
            "precision_interval": self._interval(self.hits, self.decided),
            "recall": self.hits / self.positives if self.positives else None,
            "recall_interval": self._interval(self.hits, self.positives),
            "alerts_per_10000": ROWS_OF_ALERTS * self.decided / self.rows if self.rows else None,
            "alerts_per_10000_interval": alerts and [ROWS_OF_ALERTS * share for share in alerts],
        }

    def _interval(self, successes: int, trials: int) -> list[float] | None:
        interval = clopper_pearson(successes, trials, confidence=self.confidence)
        return interval and list(interval)


@dataclass(frozen=True, eq=False)
class NewThresholds:
    """Old and new thresholds of a model and what they do on the rows that chose the new ones.

    `changed` names the labels that were fitted anew, `guaranteed` those of them with a guarantee. `seen` counts rows
    that made the model by the way they were seen, `roles` by what they did; `left_out` of these were left out for a
    guarantee, and `left_out_dependent` others that are copies, near copies or of one group with a row that stayed.
    """

    thresholds: Thresholds
    zones: NewZones
    baseline: FittedBaseline
    changed: tuple[str, ...]
    guaranteed: frozenset[str]
    before: Mapping[str, AtThreshold]
    after: Mapping[str, AtThreshold]
    corpus: Corpus
    seen: Mapping[str, int]
    roles: Mapping[str, int]
    left_out: int
    left_out_dependent: int
    wish: Wish

    def to_json(self) -> dict[str, object]:
        """Plain values; figures are those of the rows that chose the thresholds."""
        return {
            "rows": len(self.corpus),
            "seen_in_training": dict(self.seen),
            "roles": dict(self.roles),
            "left_out": self.left_out,
            "left_out_dependent": self.left_out_dependent,
            "confidence": self.wish.confidence,
            "chosen_on": "these rows chose the thresholds: the figures are better than on new rows",
            "labels": {name: self._label_json(name) for name in self.changed},
            "kept": [name for name in self.thresholds.labels if name not in self.changed],
            "zones": self.zones.to_json(),
        }

    def _label_json(self, name: str) -> dict[str, object]:
        column, fitted = self.thresholds.labels.index(name), self.thresholds
        return {
            "goal": fitted.goals and fitted.goals[column],
            "reason": fitted.reasons[column],
            "note": fitted.notes and fitted.notes[column],
            "guaranteed": name in self.guaranteed,
            "before": self.before[name].to_json(),
            "after": self.after[name].to_json(),
        }


def find_thresholds(
    model: LoadedModel, source: Source, wish: Wish, *, options: DataSettings, observer: Observer
) -> NewThresholds:
    """Predict the rows of `source` and fit what `wish` asks for; nothing is saved.

    Rows that made the model are told. For a guarantee they are left out: probabilities of rows that the model
    learnt from, or that its calibration was fitted on, are not those of new rows. Of rows that depend on each other
    one is then kept. Raises UsageError where a goal cannot be guaranteed at all or a zone that stays does not hold
    its new threshold, ConfigError for an unknown label, DataError with all problems of the file.
    """
    _check_wish(wish)
    bundle = model.bundle
    corpus = load_rows(model, source, options=options, observer=observer)
    texts = all_texts(corpus)
    audit, roles = seen_rows(bundle, texts), rows_by_role(bundle.seen_texts, bundle.seen_parts, texts)
    tell_seen(audit, roles, observer, drop=wish.guarantee)
    num_rows = len(corpus)
    if wish.guarantee:
        split, corpus = bundle.settings.split, corpus.select(np.flatnonzero(~audit.seen_N))
        num_rows = len(corpus)
        corpus = independent_rows(
            corpus, similarity=split.near_duplicate_similarity, seed=split.seed, observer=observer
        )
    require_rows(corpus, guarantee=wish.guarantee)
    observer.stage(f"Predicting {counted(len(corpus), 'row')}")
    probabilities_NL = model.predictor.predict(corpus.texts, corpus.pairs).probabilities_BL
    targets_NL = corpus.targets_NL
    plain = _fitted(bundle, bundle.thresholds, targets_NL, probabilities_NL, wish)
    changed = tuple(bundle.labels if _goal_of_all(bundle, wish) else wish.per_label)
    fitted, guaranteed = plain, frozenset[str]()
    if wish.guarantee:
        fitted, guaranteed = _with_guarantees(plain, targets_NL, probabilities_NL, wish, changed)
    zones = new_zones(
        bundle,
        fitted,
        targets_NL,
        probabilities_NL,
        goal=wish.abstain,
        confidence=wish.confidence,
        guarantee=wish.guarantee,
    )
    of_baseline_NL = bundle.baseline.model.probabilities(all_texts(corpus))
    beside = _of_baseline(bundle, targets_NL, of_baseline_NL, wish)

    def at(thresholds: Thresholds) -> dict[str, AtThreshold]:
        return _effects(thresholds, targets_NL, probabilities_NL, wish.confidence)

    return NewThresholds(
        thresholds=fitted,
        zones=zones,
        baseline=replace(bundle.baseline, thresholds=beside),
        changed=changed,
        guaranteed=guaranteed,
        before=at(bundle.thresholds),
        after=at(fitted),
        corpus=corpus,
        seen=audit.counts(),
        roles=roles,
        left_out=int(audit.seen_N.sum()) if wish.guarantee else 0,
        left_out_dependent=num_rows - len(corpus),
        wish=wish,
    )


def _check_wish(wish: Wish) -> None:
    """Only recall and precision below 1 can be guaranteed, and what zones leave outside, but no workload."""
    goals = [*wish.per_label.values(), *([wish.goal] if wish.goal else [])]
    if not wish.guarantee:
        return
    wrong = [goal for goal in goals if goal.kind not in ("recall", "precision") or goal.amount >= 1.0]
    if wrong or not goals:
        found = f"{wrong[0]} cannot be guaranteed" if wrong else "there is no goal to guarantee"
        raise UsageError(
            Finding("U281", "--guarantee", found, "recall=R or precision=P, below 1",
                    "give such a goal, or leave out --guarantee")
        )  # fmt: skip
    check_can_be_guaranteed(wish.abstain)


def _goal_of_all(bundle: Bundle, wish: Wish) -> Goal | None:
    if wish.goal is None and not wish.per_label:
        return Goal.parse(bundle.settings.decisions.goal)
    return wish.goal


def _of_baseline(bundle: Bundle, targets_NL: IntArray, of_baseline_NL: FloatArray, wish: Wish) -> Thresholds:
    """The baseline's thresholds for the same goals; one chosen by hand is about the model alone."""
    per_label = {name: goal for name, goal in wish.per_label.items() if goal.kind != "at"}
    old, goal = bundle.baseline.thresholds, _goal_of_all(bundle, wish)
    if not per_label and (goal is None or goal.kind == "at"):
        return old
    return _fitted(bundle, old, targets_NL, of_baseline_NL, replace(wish, per_label=per_label))


def _fitted(
    bundle: Bundle, old: Thresholds, targets_NL: IntArray, probabilities_NL: FloatArray, wish: Wish
) -> Thresholds:
    """`old` with new thresholds where the wish asks for them."""
    settings, goal = bundle.settings.decisions, _goal_of_all(bundle, wish)
    new = fit_goal(
        targets_NL,
        probabilities_NL,
        bundle.labels,
        goal or Goal("fbeta"),
        min_positives=settings.min_positives,
        default=settings.default_threshold,
        per_label=wish.per_label,
    )
    if goal is not None:
        return new
    return _merged(old, new, np.isin(bundle.labels, list(wish.per_label)))


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


def _with_guarantees(
    plain: Thresholds,
    targets_NL: IntArray,
    probabilities_NL: FloatArray,
    wish: Wish,
    changed: Sequence[str],
) -> tuple[Thresholds, frozenset[str]]:
    """The fitted thresholds replaced by guaranteed ones where there are any; a note says what holds of each label."""
    values_L, notes = plain.values_L.copy(), list(plain.notes or (None,) * len(plain.labels))
    guaranteed = set()
    for name in changed:
        column = plain.labels.index(name)
        goal = wish.per_label.get(name, wish.goal)
        assert goal is not None
        controlled, promise = _controlled(
            targets_NL[:, column], probabilities_NL[:, column], goal, wish.confidence
        )
        reason = plain.reasons[column] or controlled.reason
        if reason is not None:
            notes[column] = "; ".join(each for each in (notes[column], f"not guaranteed: {reason}") if each)
        elif controlled.threshold is not None:
            values_L[column], notes[column] = controlled.threshold, promise
            guaranteed.add(name)
    return replace(plain, values_L=values_L, notes=tuple(notes)), frozenset(guaranteed)


def _controlled(
    targets_N: IntArray, probabilities_N: FloatArray, goal: Goal, confidence: float
) -> tuple[Controlled, str]:
    """The guaranteed threshold of one label and what it promises."""
    if goal.kind == "recall":
        alpha = round(1.0 - goal.amount, 12)
        promise = f"guaranteed: a new positive row is missed with probability at most {alpha:g}"
        return control_misses(targets_N, probabilities_N, alpha=alpha), promise
    delta = round(1.0 - confidence, 12)
    promise = f"guaranteed: precision at least {goal.amount:g} with confidence {confidence:g}"
    return certify_precision(targets_N, probabilities_N, precision=goal.amount, delta=delta), promise


def _effects(
    thresholds: Thresholds, targets_NL: IntArray, probabilities_NL: FloatArray, confidence: float
) -> dict[str, AtThreshold]:
    annotated_NL, positive_NL = targets_NL >= 0, targets_NL == 1
    decided_NL = thresholds.decide(probabilities_NL) & annotated_NL
    return {
        name: AtThreshold(
            threshold=float(thresholds.values_L[column]),
            rows=int(annotated_NL[:, column].sum()),
            positives=int(positive_NL[:, column].sum()),
            decided=int(decided_NL[:, column].sum()),
            hits=int((decided_NL & positive_NL)[:, column].sum()),
            confidence=confidence,
        )
        for column, name in enumerate(thresholds.labels)
    }


def version_target(model: Path, bundle: Bundle, out: Path | None) -> Path:
    """Where the new version goes: `out`, or the next free of MODEL-2, MODEL-3; raises UsageError where it cannot."""
    target = _next_version(model, bundle) if out is None else out
    place, source = target.resolve(), model.resolve()
    if source in (place, *place.parents):
        found = "the model's own folder" if place == source else "in the model's own folder"
        raise UsageError(Finding("U282", str(target), found, "another folder", "choose another --out"))
    files.check_target(target, overwrite=False)
    files.require_writable(target)
    return target


def _next_version(model: Path, bundle: Bundle) -> Path:
    """The number at the end of a name counts versions only where the model is one."""
    stem = model.resolve().name
    if GOAL_FITTED in bundle.provenance.training:
        stem = re.sub(r"-\d+$", "", stem)
    names = (model.with_name(f"{stem}-{number}") for number in count(2))
    return next(name for name in names if not name.exists())


def save_version(bundle: Bundle, new: NewThresholds, target: Path) -> None:
    """Save the model with its new thresholds as the new folder `target`.

    The figures of the old thresholds are left out: they no longer hold. Raises what `save_bundle` raises.
    """
    training = {**bundle.provenance.training, **_facts(bundle, new)}
    training.pop(ZONES_FITTED, None)
    if new.zones.goal is not None:
        training[ZONES_FITTED] = new.zones.goal
    provenance = bundle.provenance.model_copy(update={"training": training})
    version = replace(
        _remembering(bundle, all_texts(new.corpus)),
        thresholds=new.thresholds,
        zones=new.zones.zones,
        baseline=new.baseline,
        evaluation=None,
        report=None,
        provenance=provenance,
    )
    save_bundle(version, target)


def _facts(bundle: Bundle, new: NewThresholds) -> dict[str, str | int | float | None]:
    """What was done, for the manifest; goals of single labels are in decisions.json."""
    own, goal = len(new.wish.per_label), _goal_of_all(bundle, new.wish)
    words = [str(goal)] if goal else []
    words += [f"{'another' if goal else 'one'} for {counted(own, 'label')}"] if own else []
    return {
        GOAL_FITTED: ", ".join(words),
        "thresholds guaranteed labels": len(new.guaranteed),
        "thresholds rows": len(new.corpus),
        "thresholds rows sha256": corpus_fingerprint(new.corpus),
    }


def _remembering(bundle: Bundle, texts: list[str]) -> Bundle:
    """The bundle, in which these texts count as calibration rows: they chose something."""
    normalised = text_fingerprints(texts)
    parts: dict[str, npt.NDArray[np.uint64]] = dict(bundle.seen_parts)
    parts["calibration"] = np.union1d(parts.get("calibration", normalised[:0]), normalised)
    if "identical" in parts:
        parts["identical"] = np.union1d(parts["identical"], raw_fingerprints(texts))
    sketches = bundle.seen_sketches
    if sketches is not None:
        whole_M = np.concatenate([sketches, text_sketches(texts)])
        width = whole_M.shape[1]
        sketches = np.unique(np.ascontiguousarray(whole_M).view(f"V{width}").ravel())
        sketches = sketches.view(np.uint8).reshape(-1, width)
    return replace(
        bundle,
        seen_texts=np.union1d(bundle.seen_texts, normalised),
        seen_parts=parts,
        seen_sketches=sketches,
    )
