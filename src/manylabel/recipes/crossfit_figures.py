"""What each component and each blend is worth, all out of fold; called by recipes/crossfit.py.

A component's figures are of its logits out of fold. A blend's are of logits whose weights were chosen on the other
folds; that of `auto` is of a kind that was chosen on the other folds too. Letters: C components, N rows, L labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from manylabel.config.schema import EvaluationSettings
from manylabel.decisions.blend import KINDS, Kind, cross_fitted, fit_blend
from manylabel.decisions.thresholds import fit_thresholds
from manylabel.evaluation.evaluate import evaluate, macro_average_precision
from manylabel.evaluation.intervals import bootstrap_of
from manylabel.evaluation.paired import compare_judged
from manylabel.evaluation.weighted import Judged
from manylabel.recipes.crossfit_plan import AUTO, Plan
from manylabel.recipes.scoring import units_of
from manylabel.training.observers import Observer
from manylabel.values import Corpus, IntArray

Logits = npt.NDArray[np.float32]
METRICS = ("average_precision", "roc_auc")
MIN_FOLDS_OF_AUTO = 3


@dataclass(frozen=True)
class Measured:
    """A macro average over the labels with its interval; None where it is undefined or none was drawn."""

    value: float | None
    interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"value": self.value, "interval": self.interval and list(self.interval)}


@dataclass(frozen=True, eq=False)
class Blended:
    """The kind that was taken, its N x L logits out of fold, and how it was taken.

    `by_fold` are the kinds that the other folds of each fold prefer, where the choice was automatic.
    """

    kind: Kind
    logits_NL: Logits
    by_fold: tuple[Kind, ...] = ()


@dataclass(frozen=True, eq=False)
class CrossfitFigures:
    """Macro figures by component and by blend, and the blend against the best component."""

    rows: int
    folds: int
    components: Mapping[str, Mapping[str, Measured]]
    blends: Mapping[str, Mapping[str, Measured]]
    chosen: Kind
    by_fold: tuple[Kind, ...]
    best_component: str
    against_best: Mapping[str, Any] | None
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `weights` by label and component, for kinds that have some."""
        return {
            "rows": self.rows,
            "folds": self.folds,
            "components": _plain(self.components),
            "blends": _plain(self.blends),
            "chosen": self.chosen,
            "chosen_by_fold": list(self.by_fold),
            "best_component": self.best_component,
            "against_best_component": self.against_best,
            "weights": {label: dict(of_label) for label, of_label in self.weights.items()},
        }


def _plain(figures: Mapping[str, Mapping[str, Measured]]) -> dict[str, Any]:
    return {
        name: {metric: each.to_json() for metric, each in measured.items()}
        for name, measured in figures.items()
    }


def blend_out_of_fold(
    plan: Plan, logits_CNL: Logits, *, wanted: str, observer: Observer
) -> tuple[Blended, dict[str, Logits]]:
    """The blend that was asked for, or that is best; and every kind's logits, each row by weights of the other folds.

    With one component, or two folds and `auto`, there is nothing to choose between: the mean.
    """
    corpus, folds = plan.corpus, plan.folds
    if len(logits_CNL) == 1:
        return Blended("mean", logits_CNL[0]), {"mean": logits_CNL[0]}
    observer.stage(f"Blending {len(logits_CNL)} components, weights of each fold from the others")
    named = _named(plan)
    by_kind: dict[str, Logits] = {}
    for number, kind in enumerate(KINDS, start=1):
        observer.stage(f"  {kind}, {number} of {len(KINDS)}")
        by_kind[kind] = cross_fitted(kind, logits_CNL, corpus.targets_NL, folds.fold_N, **named)
    if wanted != AUTO:
        kind = next(kind for kind in KINDS if kind == wanted)
        return Blended(kind, by_kind[kind]), by_kind
    if folds.count < MIN_FOLDS_OF_AUTO:
        observer.stage("  note: two folds leave no third to choose a blend on; the mean is taken")
        return Blended("mean", by_kind["mean"]), by_kind
    best = best_kind({kind: _score(corpus.targets_NL, by_kind[kind]) for kind in KINDS})
    logits_NL, by_fold = automatic(logits_CNL, corpus.targets_NL, folds.fold_N, tell=observer.stage, **named)
    return Blended(best, logits_NL, by_fold), {**by_kind, AUTO: logits_NL}


def _named(plan: Plan) -> dict[str, Any]:
    return {
        "components": tuple(name for name, _, _ in plan.components),
        "labels": plan.corpus.labels.names,
        "seed": plan.settings.split.seed,
    }


def automatic(
    logits_CNL: Logits,
    targets_NL: IntArray,
    fold_N: IntArray,
    *,
    tell: Callable[[str], None] = lambda line: None,
    **named: Any,  # noqa: ANN401 - as `fit_blend`
) -> tuple[Logits, tuple[Kind, ...]]:
    """Logits out of fold where the kind of blend is chosen on the other folds as well, and the kind of each fold.

    For fold f every kind is cross-fitted within the folds other than f, which needs a blend without each pair of folds;
    the best of them there is fitted on all these folds and blends the rows of f.
    """
    folds = [int(fold) for fold in np.unique(fold_N)]
    reached: dict[int, dict[Kind, float]] = {fold: {} for fold in folds}
    for number, kind in enumerate(KINDS, start=1):
        tell(f"  choosing without each fold in turn: {kind}, {number} of {len(KINDS)}")
        within = {fold: np.zeros(targets_NL.shape, np.float32) for fold in folds}
        for place, first in enumerate(folds):
            for second in folds[place + 1 :]:
                rest_N = (fold_N != first) & (fold_N != second)
                blend = fit_blend(kind, logits_CNL[:, rest_N], targets_NL[rest_N], **named)
                for left_out, scored in ((first, second), (second, first)):
                    rows_N = fold_N == scored
                    within[left_out][rows_N] = blend.apply(logits_CNL[:, rows_N])
        for fold in folds:
            others_N = fold_N != fold
            reached[fold][kind] = _score(targets_NL[others_N], within[fold][others_N])
    result_NL, kinds = np.zeros(targets_NL.shape, np.float32), []
    for fold in folds:
        rows_N = fold_N == fold
        kinds.append(best_kind(reached[fold]))
        blend = fit_blend(kinds[-1], logits_CNL[:, ~rows_N], targets_NL[~rows_N], **named)
        result_NL[rows_N] = blend.apply(logits_CNL[:, rows_N])
    return result_NL, tuple(kinds)


def best_kind(reached: Mapping[Kind, float]) -> Kind:
    """The kind with the highest score; of equal ones the simplest."""
    return max(KINDS, key=lambda kind: reached[kind])


def _score(targets_NL: IntArray, logits_NL: Logits) -> float:
    """Macro average precision; -1 where no label can be judged."""
    value = macro_average_precision(targets_NL, expit(logits_NL.astype(np.float64))).value
    return -1.0 if value is None else value


def measure(
    plan: Plan, logits_CNL: Logits, blended: Blended, by_kind: Mapping[str, Logits], *, observer: Observer
) -> CrossfitFigures:
    """Figures with intervals, and the blend compared with the best component on the same rows.

    The best component is the best on these very rows, which favours it, not the blend.
    """
    settings, corpus = plan.settings.evaluation, plan.corpus
    names = [name for name, _, _ in plan.components]
    count = len(names) + len(by_kind)
    observer.stage(f"Figures out of fold of {count} components and blends")
    components, blends = dict[str, dict[str, Measured]](), dict[str, dict[str, Measured]]()
    for name, logits_NL in zip(names, logits_CNL, strict=True):
        components[name] = _measured(corpus, logits_NL, settings)
        observer.stage(f"  {name}, {len(components)} of {count}")
    for kind, logits_NL in by_kind.items():
        blends[kind] = _measured(corpus, logits_NL, settings)
        observer.stage(f"  blend: {kind}, {len(components) + len(blends)} of {count}")
    best = max(names, key=lambda name: components[name][METRICS[0]].value or -1.0)
    against = None
    if len(names) > 1:
        pair = (_judged(corpus, logits_CNL[names.index(best)]), _judged(corpus, blended.logits_NL))
        found = compare_judged(*pair, groups_N=units_of(corpus.groups), settings=settings)
        against = found.to_json(best, "the blend")
    return CrossfitFigures(
        rows=len(corpus),
        folds=plan.folds.count,
        components=components,
        blends=blends,
        chosen=blended.kind,
        by_fold=blended.by_fold,
        best_component=best,
        against_best=against,
    )


def weights_by_label(
    weights_CL: npt.NDArray[np.float64], components: Sequence[str], labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """The weight of each component, by label."""
    return {
        label: {name: float(weights_CL[row, column]) for row, name in enumerate(components)}
        for column, label in enumerate(labels)
    }


def _judged(corpus: Corpus, logits_NL: Logits) -> Judged:
    probabilities_NL = expit(logits_NL.astype(np.float64))
    return Judged(corpus.labels.names, corpus.targets_NL, probabilities_NL, probabilities_NL >= 0.5)


def _measured(corpus: Corpus, logits_NL: Logits, settings: EvaluationSettings) -> dict[str, Measured]:
    """Macro figures that no threshold and no calibration changes."""
    judged = _judged(corpus, logits_NL)
    figures = bootstrap_of(judged, groups_N=units_of(corpus.groups), settings=settings).figures
    result = {}
    for metric in METRICS:
        found = figures.get(("macro", metric))
        if found is None:
            result[metric] = Measured(_value(corpus, judged, metric), None)
        else:
            limits = found.limits
            result[metric] = Measured(found.value, None if limits is None else (limits[0], limits[1]))
    return result


def _value(corpus: Corpus, judged: Judged, metric: str) -> float | None:
    """The figure alone, where no resamples were drawn."""
    nothing = np.zeros((0, len(judged.labels)))
    thresholds = fit_thresholds(nothing.astype(np.int8), nothing, judged.labels, default=0.5)
    value: float | None = getattr(
        evaluate(corpus.targets_NL, judged.probabilities_NL, thresholds).macro, metric
    )
    return value
