"""Thresholds and baseline from the calibration rows; called by recipes/train.py."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from manylabel.bundle.contents import FittedBaseline
from manylabel.config.schema import DecisionSettings, RunSettings
from manylabel.decisions.calibration import (
    Calibration,
    Identity,
    LabelMap,
    Platt,
    Temperature,
    sigmoid,
)
from manylabel.decisions.calibration_fit import CalibrationFit, fit_calibration
from manylabel.decisions.goals import Goal, fit_goal
from manylabel.decisions.thresholds import Thresholds, fit_thresholds
from manylabel.evaluation.baseline import LinearBaseline, fit_baseline
from manylabel.evaluation.evaluate import macro_average_precision
from manylabel.inference.backends.base import Backend
from manylabel.inference.predictor import Predictor
from manylabel.inference.scorer import score
from manylabel.modeling.classifier import Classifier
from manylabel.recipes.corpora import Corpora, all_texts
from manylabel.recipes.scoring import units_of
from manylabel.training.loop import StoppedInValidation
from manylabel.training.processes import Processes
from manylabel.values import Corpus, Encodings, FloatArray


def default_thresholds(labels: tuple[str, ...], settings: DecisionSettings) -> Thresholds:
    """The default threshold for every label, before any row was judged."""
    nothing = np.zeros((0, len(labels)))
    return fit_thresholds(nothing.astype(np.int8), nothing, labels, default=settings.default_threshold)


def validation_score(
    backend: Backend,
    encodings: Encodings,
    validation: Corpus,
    *,
    token_budget: int,
    processes: Processes,
    should_stop: Callable[[], bool] = lambda: False,
) -> Callable[[], float | None]:
    """A function that gives the macro average precision on the validation rows, which all processes score together.

    None where no label can be judged, NaN where a logit is not finite. Average precision depends on no threshold, so
    a model is never chosen by the accident of a cut at 0.5. Raises StoppedInValidation when a single process is asked
    to stop; several go on to the end, since each would have to stop at another batch.
    """
    rows_n = processes.share_rows(len(validation))
    share = encodings.take(rows_n)

    def look_up(_: int) -> None:
        if processes.size == 1 and should_stop():
            raise StoppedInValidation

    def validate() -> float | None:
        logits_nL = score(backend, share, token_budget=token_budget, on_batch=look_up)
        logits_nL = logits_nL.reshape(len(rows_n), len(validation.labels))
        logits_NL = processes.gather_rows(logits_nL, len(validation), rows_n)
        if not np.isfinite(logits_NL).all():
            return math.nan
        return macro_average_precision(validation.targets_NL, sigmoid(logits_NL)).value

    return validate


def decide_on(
    predictor: Predictor, rows: Corpus, settings: RunSettings, *, only_lines: bool = False
) -> tuple[Predictor, CalibrationFit]:
    """The predictor with calibration and thresholds chosen on these rows, and how each label's map was chosen.

    `only_lines` allows only maps that are straight lines of the logit, which a last layer can take up.
    """
    logits_NL, _ = predictor.logits(rows.texts, rows.pairs)
    fit = calibrated(logits_NL, rows, settings, only_lines=only_lines)
    thresholds = chosen_thresholds(fit.calibration.apply(logits_NL), rows, settings)
    return predictor.with_thresholds(thresholds, fit.calibration), fit


def calibrated(
    logits_NL: FloatArray, rows: Corpus, settings: RunSettings, *, only_lines: bool = False
) -> CalibrationFit:
    """A calibration fitted on the rows' logits as the settings say."""
    chosen = settings.decisions
    return fit_calibration(
        rows.targets_NL,
        logits_NL,
        rows.labels.names,
        method="lines" if only_lines and chosen.calibration == "auto" else chosen.calibration,
        min_positives=chosen.calibration_min_positives,
        seed=settings.split.seed,
        groups_N=units_of(rows.groups),
    )


def chosen_thresholds(probabilities_NL: FloatArray, rows: Corpus, settings: RunSettings) -> Thresholds:
    """Thresholds fitted on the rows' probabilities for the goal of the settings."""
    return fit_goal(
        rows.targets_NL,
        probabilities_NL,
        rows.labels.names,
        Goal.parse(settings.decisions.goal),
        min_positives=settings.decisions.min_positives,
        default=settings.decisions.default_threshold,
    )


def take_up(calibration: Calibration, classifier: Classifier) -> Calibration:
    """Move maps that are straight lines into the last layer, and say what is left to be applied.

    A `cls` model then gives calibrated probabilities in transformers too, which knows no calibration.
    """
    lines = [line_of(each) for each in calibration.maps]
    taken = [line or (1.0, 0.0) for line in lines]
    slopes_L, intercepts_L = (
        torch.tensor(column, dtype=torch.float64) for column in zip(*taken, strict=True)
    )
    classifier.rescale_logits(slopes_L, intercepts_L)
    left = (Identity() if line else each for line, each in zip(lines, calibration.maps, strict=True))
    return Calibration(calibration.labels, tuple(left))


def line_of(each: LabelMap) -> tuple[float, float] | None:
    """Slope and intercept of a map that is a straight line of the logit, else None."""
    if isinstance(each, Identity):
        return 1.0, 0.0
    if isinstance(each, Temperature):
        return each.slope, 0.0
    return (each.slope, each.intercept) if isinstance(each, Platt) else None


def fit_baseline_beside(corpora: Corpora, settings: RunSettings) -> FittedBaseline:
    """The linear model of the same training rows, its thresholds from the same calibration rows."""
    model = fit_linear(corpora.train, settings)
    probabilities_NL = model.probabilities(all_texts(corpora.calibration))
    return FittedBaseline(model, chosen_thresholds(probabilities_NL, corpora.calibration, settings))


def fit_linear(rows: Corpus, settings: RunSettings) -> LinearBaseline:
    """The linear model of these rows."""
    return fit_baseline(all_texts(rows), rows.targets_NL, rows.labels.names, seed=settings.training.seed)
