"""Test-time augmentation: one network looks at a text in several views; called by `manylabel tta`.

The views are weighted on rows that had no part in making the model. Every figure is out of fold: the rows of a fold
are blended with weights that were chosen on the other folds, and calibration and thresholds are fitted on those logits.
What is saved is an ensemble of one network with a component for each view that got a weight.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.bundle.contents import Bundle
from manylabel.bundle.ensemble import Component, Ensemble, NetworkModel
from manylabel.bundle.probes import Probes
from manylabel.config.schema import DataSettings, EvaluationSettings, Precision
from manylabel.data.folds import make_folds
from manylabel.decisions.blend import Blend, cross_fitted, fit_blend
from manylabel.decisions.calibration import Calibration
from manylabel.errors import Finding, UsageError, counted
from manylabel.evaluation.intervals import bootstrap_of
from manylabel.evaluation.paired import Difference, compare_judged
from manylabel.evaluation.weighted import Judged
from manylabel.inference.load import LoadedModel, build_predictor
from manylabel.recipes.corpora import Source, all_texts
from manylabel.recipes.evaluate import load_rows
from manylabel.recipes.independent import require_rows
from manylabel.recipes.judge import calibrated, chosen_thresholds
from manylabel.recipes.provenance import corpus_fingerprint
from manylabel.recipes.remember import remembering
from manylabel.recipes.scoring import rows_by_role, seen_rows, units_of
from manylabel.text.views import HEAD, check_views, translation_column
from manylabel.training.observers import Observer
from manylabel.values import Corpus

NUM_FOLDS = 5
NETWORK = "network"
BLEND = "blend"
METRICS = ("average_precision", "roc_auc")
FACT = "test-time augmentation"
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Wanted:
    """Which views to weigh, in how many folds, and whether to make the new model also where no gain is shown."""

    views: tuple[str, ...]
    folds: int = NUM_FOLDS
    force: bool = False


@dataclass(frozen=True)
class Measured:
    """A figure with its interval, and its difference from head alone on the same rows; None where undefined."""

    value: float | None
    interval: tuple[float, float] | None
    difference: float | None
    difference_interval: tuple[float, float] | None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "value": self.value,
            "interval": self.interval and list(self.interval),
            "difference": self.difference,
            "difference_interval": self.difference_interval and list(self.difference_interval),
        }


@dataclass(frozen=True, eq=False)
class Augmented:
    """What the views are worth: macro figures of each view and of the blend, by view and metric.

    `weights` are those of the saved blend, by label and view, mean of all rows' choice. `verdict` is that of
    `Comparison`: blend against head. `bundle` is the new model; None where the blend does not pay and was not forced.
    """

    views: tuple[str, ...]
    figures: Mapping[str, Mapping[str, Measured]]
    weights: Mapping[str, Mapping[str, float]]
    verdict: str
    rows: int
    left_out: int
    confidence: float
    bundle: Bundle | None

    @property
    def pays(self) -> bool:
        """Whether the blend is better than head alone."""
        return self.verdict == "better"

    @property
    def kept(self) -> tuple[str, ...]:
        """The views with a weight for some label."""
        return tuple(view for view in self.views if any(of[view] for of in self.weights.values()))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "rows": self.rows,
            "rows_left_out": self.left_out,
            "confidence": self.confidence,
            "views": {
                view: {metric: each.to_json() for metric, each in measured.items()}
                for view, measured in self.figures.items()
                if view != BLEND
            },
            BLEND: {metric: each.to_json() for metric, each in self.figures[BLEND].items()},
            "weights": {label: dict(of_label) for label, of_label in self.weights.items()},
            "verdict": self.verdict,
            "pays": self.pays,
        }


def augment_at_test_time(
    model: LoadedModel,
    source: Source,
    wanted: Wanted,
    *,
    options: DataSettings,
    observer: Observer,
    settings: EvaluationSettings,
    precision: Precision | None = None,
) -> Augmented:
    """Score the rows of `source` in every view, weigh the views, and make the new model where that pays.

    Head is among the views whether it is named or not. Rows that made the model, or nearly equal such rows, are left
    out. Raises UsageError for an unknown view, a single
    one, or a model that is an ensemble already, DataError with all problems of the file and where no row is left.
    """
    views = _all_views(wanted.views, observer)
    network = _network(model.bundle)
    columns = tuple(column for view in views if (column := translation_column(view)) is not None)
    if columns:
        options = options.model_copy(update={"translation_columns": columns})
    corpus, left_out = _new_rows(model, source, options, observer)
    precision = precision or model.bundle.settings.inference.precision
    logits_CNL = _scored(model.bundle, network, views, corpus, precision=precision, observer=observer)
    labels, split = model.bundle.labels, model.bundle.settings.split
    folds = make_folds(
        corpus, count=wanted.folds, near_duplicate_similarity=split.near_duplicate_similarity, seed=split.seed
    )
    observer.stage(f"Weighing {counted(len(views), 'view')} in {wanted.folds} folds")
    named: dict[str, Any] = {"components": views, "labels": labels, "seed": split.seed}
    blended_NL = cross_fitted("greedy", logits_CNL, corpus.targets_NL, folds.fold_N, **named)
    blend = fit_blend("greedy", logits_CNL, corpus.targets_NL, **named)
    observer.stage(f"Comparing with head alone on {counted(len(corpus), 'row')}")
    scored = dict(zip((*views, BLEND), (*logits_CNL, blended_NL), strict=True))
    figures, verdict = _figures(model, corpus, scored, settings)
    found = Augmented(
        views=views,
        figures=figures,
        weights=_weights(blend),
        verdict=verdict,
        rows=len(corpus),
        left_out=left_out,
        confidence=settings.confidence,
        bundle=None,
    )
    if not (found.pays or wanted.force):
        return found
    return replace(found, bundle=_new_bundle(model.bundle, found.kept, blend, blended_NL, corpus))


def _all_views(views: Sequence[str], observer: Observer) -> tuple[str, ...]:
    """Head first, then the others in their order; told where head was not asked for."""
    check_views(views)
    if HEAD not in views:
        observer.stage(f"note: {HEAD} is always among the views and was added")
    others = tuple(view for view in views if view != HEAD)
    if not others:
        allowed, step = "head and at least one other view", "for example --views head,tail,middle"
        raise UsageError(Finding("U313", "--views", "there is nothing to weigh against head", allowed, step))
    return (HEAD, *others)


def _network(bundle: Bundle) -> NetworkModel:
    """The model's one network, under a name; raises UsageError for an ensemble."""
    if isinstance(bundle.model, Ensemble):
        found, allowed = "the model is an ensemble", "a model of one network"
        step = "make the ensemble anew with manylabel crossfit --views head,tail, which weighs the views too"
        raise UsageError(Finding("U314", "MODEL", found, allowed, step))
    return replace(bundle.model, name=NETWORK)


def _new_rows(
    model: LoadedModel, source: Source, options: DataSettings, observer: Observer
) -> tuple[Corpus, int]:
    """The annotated rows that had no part in making the model, and how many were left out."""
    corpus = load_rows(model, source, options=options, observer=observer)
    texts = all_texts(corpus)
    audit = seen_rows(model.bundle, texts)
    left_out = int(audit.seen_N.sum())
    if left_out:
        roles = rows_by_role(model.bundle.seen_texts, model.bundle.seen_parts, texts)
        counts = {**roles, "nearly so": audit.counts()["near"]}
        parts = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
        observer.stage(
            f"  {left_out:,} of {counted(len(corpus), 'row')} made the model or nearly equal such rows ({parts}): "
            "left out, since the model is surer on them than on new ones"
        )
    kept = corpus.select(np.flatnonzero(~audit.seen_N))
    require_rows(kept, guarantee=True)
    return kept, left_out


def _ensemble(
    network: NetworkModel, views: Sequence[str], labels: tuple[str, ...], blend: Blend | None = None
) -> Ensemble:
    """One network that looks at a text in these views; the mean of them without a blend."""
    components = tuple(Component(view, (network.name,), view) for view in views)
    return Ensemble((network,), components, blend or Blend("mean", labels, tuple(views)))


def _scored(
    bundle: Bundle,
    network: NetworkModel,
    views: Sequence[str],
    corpus: Corpus,
    *,
    precision: Precision,
    observer: Observer,
) -> Logits:
    """logits_CNL of the rows in each view, by the engine that the new model will have."""
    found = []
    for view in views:
        observer.stage(f"Scoring {counted(len(corpus), 'row')}, view {view}")
        alone = replace(
            bundle, model=_ensemble(network, (view,), bundle.labels), calibration=None, zones=None
        )
        logits_NL, _ = build_predictor(alone, precision=precision).logits(corpus.texts, corpus.pairs)
        found.append(logits_NL)
    return np.stack(found)


def _figures(
    model: LoadedModel, corpus: Corpus, logits: Mapping[str, Logits], settings: EvaluationSettings
) -> tuple[dict[str, dict[str, Measured]], str]:
    """Macro figures of every view and of the blend, each beside head's, and the verdict on the blend.

    Only what ranks is compared, so neither calibration nor thresholds have a part in it.
    """
    bundle, groups = model.bundle, units_of(corpus.groups)
    plain = Calibration.identity(bundle.labels)

    def judged(logits_NL: Logits) -> Judged:
        probabilities_NL = plain.apply(logits_NL)
        decisions_NL = bundle.thresholds.decide(probabilities_NL)
        return Judged(bundle.labels, corpus.targets_NL, probabilities_NL, decisions_NL)

    head = judged(logits[HEAD])
    figures: dict[str, dict[str, Measured]] = {}
    verdict = "not comparable"
    for name, logits_NL in logits.items():
        own = judged(logits_NL)
        against = compare_judged(
            head, own, groups_N=groups, settings=settings if name != HEAD else _quick(settings)
        )
        limits = bootstrap_of(own, groups_N=groups, settings=settings).to_json().get("macro", {})
        figures[name] = {
            metric: _measured(against.figures[("macro", metric)], limits.get(metric), is_head=name == HEAD)
            for metric in METRICS
        }
        if name == BLEND:
            verdict = against.verdict()
    return figures, verdict


def _quick(settings: EvaluationSettings) -> EvaluationSettings:
    """Without resamples: head does not differ from itself."""
    return settings.model_copy(update={"resamples": 0})


def _measured(compared: Difference, interval: Sequence[float] | None, *, is_head: bool) -> Measured:
    low, high = compared.low, compared.high
    return Measured(
        value=compared.b,
        interval=(interval[0], interval[1]) if interval else None,
        difference=None if is_head else compared.difference,
        difference_interval=None if low is None or high is None else (low, high),
    )


def _weights(blend: Blend) -> dict[str, dict[str, float]]:
    """By label and view; those of a label add up to 1."""
    return {
        label: dict(zip(blend.components, map(float, weights_C), strict=True))
        for label, weights_C in zip(blend.labels, blend.arrays["weights_CL"].T, strict=True)
    }


def _new_bundle(
    bundle: Bundle, kept: tuple[str, ...], blend: Blend, blended_NL: Logits, corpus: Corpus
) -> Bundle:
    """The model with the views that have a weight, calibrated and with thresholds for the out-of-fold logits."""
    chosen = [blend.components.index(view) for view in kept]
    smaller = Blend("greedy", blend.labels, kept, {"weights_CL": blend.arrays["weights_CL"][chosen]})
    fit = calibrated(blended_NL, corpus, bundle.settings)
    columns = tuple(column for view in kept if (column := translation_column(view)) is not None)
    facts: dict[str, str | int | float | None] = {
        FACT: ", ".join(kept),
        f"{FACT} rows": len(corpus),
        f"{FACT} rows sha256": corpus_fingerprint(corpus),
    }
    training = {**bundle.provenance.training, **facts}
    new = replace(
        remembering(bundle, all_texts(corpus)),
        model=_ensemble(_network(bundle), kept, bundle.labels, smaller),
        calibration=fit.calibration,
        thresholds=chosen_thresholds(fit.calibration.apply(blended_NL), corpus, bundle.settings),
        zones=None,
        layout=replace(bundle.layout, translation_columns=columns or bundle.layout.translation_columns),
        evaluation=None,
        report=None,
        provenance=bundle.provenance.model_copy(update={"training": training}),
        probes=Probes({}),
    )
    predictor = build_predictor(new, precision="fp32")
    probes = Probes.record(predictor.probabilities, new.labels, takes_pairs=new.takes_pairs)
    return replace(new, probes=probes)


def lost_zones(old: Bundle, new: Augmented) -> bool:
    """Whether the new model lacks zones for a human that the old one has: they were fitted to other probabilities."""
    return new.bundle is not None and old.zones is not None


def mean_weights(weights: Mapping[str, Mapping[str, float]], views: Sequence[str]) -> dict[str, float]:
    """Each view's weight, averaged over the labels."""
    return {view: float(np.mean([of_label[view] for of_label in weights.values()])) for view in views}
