"""Thresholds and baseline from the validation rows; called by recipes/train.py."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from manylabel.bundle.contents import FittedBaseline
from manylabel.config.schema import DecisionSettings, RunSettings
from manylabel.decisions.thresholds import Thresholds, fit_thresholds
from manylabel.evaluation.baseline import fit_baseline
from manylabel.evaluation.evaluate import macro_average_precision
from manylabel.inference.backends.base import Backend
from manylabel.inference.predictor import Predictor, score, sigmoid
from manylabel.recipes.corpora import Corpora, all_texts
from manylabel.training.loop import StoppedInValidation
from manylabel.training.processes import Processes
from manylabel.values import Corpus, Encodings


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


def tune_thresholds(predictor: Predictor, validation: Corpus, settings: DecisionSettings) -> Thresholds:
    """The thresholds of highest F1 on the validation rows, for the probabilities this predictor gives."""
    return fit_thresholds(
        validation.targets_NL,
        predictor.predict(validation.texts, validation.pairs).probabilities_BL,
        validation.labels.names,
        min_positives=settings.min_positives,
        default=settings.default_threshold,
    )


def fit_baseline_beside(corpora: Corpora, settings: RunSettings) -> FittedBaseline:
    """The linear model of the same training rows, its thresholds from the same validation rows."""
    names, validation = corpora.train.labels.names, corpora.validation
    model = fit_baseline(
        all_texts(corpora.train), corpora.train.targets_NL, names, seed=settings.training.seed
    )
    thresholds = fit_thresholds(
        validation.targets_NL,
        model.probabilities(all_texts(validation)),
        names,
        min_positives=settings.decisions.min_positives,
        default=settings.decisions.default_threshold,
    )
    return FittedBaseline(model, thresholds)
