"""New thresholds as values: what they aim at, what was found, what they do; made by recipes/thresholds.py.

Shown by `manylabel thresholds`, saved by recipes/versions.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from manylabel.bundle.contents import FittedBaseline
from manylabel.decisions.abstain import ZoneGoal
from manylabel.decisions.binomial import clopper_pearson
from manylabel.decisions.goals import ROWS_OF_ALERTS, Goal
from manylabel.decisions.missed_share import MissedShare
from manylabel.decisions.thresholds import Thresholds
from manylabel.recipes.zones import NewZones
from manylabel.values import Corpus, FloatArray, IntArray


@dataclass(frozen=True)
class Wish:
    """What the thresholds are to aim at.

    `goal` is that of all labels without one in `per_label`. Where it is None, the labels of `per_label` alone get new
    thresholds, and without any the model's own `decisions.goal` holds for all. With `guarantee` the goals recall and
    precision are to hold on new rows, see `decisions.risk`; `confidence` is that of the precision, and of intervals.
    `missed_share` is the guarantee over all labels, in place of goals. `abstain` is what zones for a human are to aim
    at; None keeps those of the model.
    """

    goal: Goal | None = None
    per_label: Mapping[str, Goal] = field(default_factory=dict)
    guarantee: bool = False
    confidence: float = 0.95
    abstain: ZoneGoal | None = None
    missed_share: MissedShare | None = None


@dataclass(frozen=True, eq=False)
class Fitted:
    """Thresholds and how they came about.

    `unjudged` says of labels that kept theirs why, `guaranteed` names those with a guarantee. `controlled_rows` counts
    the rows that a guarantee over all labels rests on.
    """

    thresholds: Thresholds
    unjudged: Mapping[str, str]
    guaranteed: frozenset[str] = frozenset()
    controlled_rows: int = 0


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


@dataclass(frozen=True)
class MissedNow:
    """The guarantee over all labels on the rows that chose it: the mean share missed with the old and new thresholds.

    `rows` are those that the guarantee rests on.
    """

    goal: MissedShare
    rows: int
    before: float | None
    after: float | None

    def to_json(self) -> dict[str, object]:
        """Plain values."""
        return {
            "goal": str(self.goal),
            "alpha": self.goal.alpha,
            "over": "rows with a label" if self.goal.labelled_only else "all rows",
            "rows": self.rows,
            "before": self.before,
            "after": self.after,
        }


@dataclass(frozen=True, eq=False)
class NewThresholds:
    """Old and new thresholds of a model and what they do on the rows that chose the new ones.

    `changed` names the labels that were to be fitted anew; `unjudged` says of those that kept their threshold why, and
    `guaranteed` names those with a guarantee. `seen` counts rows that made the model by the way they were seen,
    `roles` by what they did; `left_out` of these were left out for a guarantee, and `left_out_dependent` others that
    are copies, near copies or of one group with a row that stayed. `differs` says whether anything is other than in
    the model.
    """

    thresholds: Thresholds
    zones: NewZones
    baseline: FittedBaseline
    changed: tuple[str, ...]
    unjudged: Mapping[str, str]
    guaranteed: frozenset[str]
    before: Mapping[str, AtThreshold]
    after: Mapping[str, AtThreshold]
    corpus: Corpus
    seen: Mapping[str, int]
    roles: Mapping[str, int]
    left_out: int
    left_out_dependent: int
    wish: Wish
    differs: bool
    missed: MissedNow | None = None

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
            "changed": self.differs,
            "labels": {name: self._label_json(name) for name in self.changed},
            "kept": [name for name in self.thresholds.labels if name not in self.changed],
            "zones": self.zones.to_json(),
            "missed_share": None if self.missed is None else self.missed.to_json(),
        }

    def _label_json(self, name: str) -> dict[str, object]:
        column, fitted = self.thresholds.labels.index(name), self.thresholds
        same = self.before[name].threshold == self.after[name].threshold
        return {
            "goal": fitted.goals and fitted.goals[column],
            "outcome": "kept" if name in self.unjudged else "same" if same else "changed",
            "reason": self.unjudged.get(name),
            "note": fitted.notes and fitted.notes[column],
            "guaranteed": name in self.guaranteed,
            "before": self.before[name].to_json(),
            "after": self.after[name].to_json(),
        }


def effects(
    thresholds: Thresholds, targets_NL: IntArray, probabilities_NL: FloatArray, confidence: float
) -> dict[str, AtThreshold]:
    """What each threshold does to its label on N rows; `confidence` is that of the intervals."""
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


def differ(old: Thresholds, fitted: Fitted) -> bool:
    """Whether a threshold is another one, or a promise is new."""
    new = fitted.thresholds
    nothing = (None,) * len(old.labels)
    notes = zip(old.labels, old.notes or nothing, new.notes or nothing, strict=True)
    promised = any(before != now for name, before, now in notes if name in fitted.guaranteed)
    return promised or not np.array_equal(old.values_L, new.values_L)
