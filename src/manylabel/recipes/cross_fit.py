"""Figures and decisions from few rows: every row judged by models and choices that never saw it.

Called by recipes/train.py for `--folds` and by recipes/crossfit.py. Logits come out of fold (recipes/folds.py).
Calibration and thresholds for the rows of a fold are then fitted on the logits of the other folds, so that a row's
label takes part in no choice about it. One thread is left: the models that scored the other folds were trained on it.
Cutting that too needs a model for each pair of folds. What the saved model decides with is fitted on all rows, as its
weights are.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from manylabel.config.schema import RunSettings
from manylabel.inference.predictor import Predictor
from manylabel.recipes.corpora import all_texts
from manylabel.recipes.folds import OutOfFold
from manylabel.recipes.judge import calibrated, chosen_thresholds, fit_linear
from manylabel.recipes.scoring import Scored
from manylabel.training.observers import Observer
from manylabel.values import Corpus, IntArray

Floats = npt.NDArray[np.float64]


def cross_fitted(
    out_of_fold: OutOfFold,
    corpus: Corpus,
    predictor: Predictor,
    settings: RunSettings,
    *,
    of_baseline_NL: Floats,
    only_lines: bool | None = None,
) -> Scored:
    """N rows with out-of-fold logits, probabilities and decisions, and a baseline treated in the same way.

    `predictor` gives the thresholds that are shown beside the figures; they decide nothing here. `of_baseline_NL` are
    those of `out_of_fold_baseline`. `only_lines` allows only maps that a last layer can take up, by default as a single
    model's head asks for.
    """
    shape = corpus.targets_NL.shape
    probabilities_NL, decisions_NL = np.zeros(shape), np.zeros(shape, np.bool_)
    baseline_decisions_NL = np.zeros(shape, np.bool_)
    only_lines = settings.model.head == "cls" if only_lines is None else only_lines
    for fold in np.unique(out_of_fold.fold_N):
        held = np.flatnonzero(out_of_fold.fold_N == fold)
        others = np.flatnonzero(out_of_fold.fold_N != fold)
        rows = corpus.select(others)
        fit = calibrated(out_of_fold.logits_NL[others], rows, settings, only_lines=only_lines)
        thresholds = chosen_thresholds(fit.calibration.apply(out_of_fold.logits_NL[others]), rows, settings)
        probabilities_NL[held] = fit.calibration.apply(out_of_fold.logits_NL[held])
        decisions_NL[held] = thresholds.decide(probabilities_NL[held])
        of_baseline = chosen_thresholds(of_baseline_NL[others], rows, settings)
        baseline_decisions_NL[held] = of_baseline.decide(of_baseline_NL[held])
    return Scored(
        corpus=corpus,
        logits_NL=out_of_fold.logits_NL,
        probabilities_NL=probabilities_NL,
        of_baseline_NL=of_baseline_NL,
        truncated_N=predictor.truncated(corpus.texts, corpus.pairs),
        calibration=predictor.calibration,
        thresholds=predictor.thresholds,
        baseline_thresholds=chosen_thresholds(of_baseline_NL, corpus, settings),
        decisions_NL=decisions_NL,
        baseline_decisions_NL=baseline_decisions_NL,
    )


def out_of_fold_baseline(
    corpus: Corpus, fold_N: IntArray, settings: RunSettings, *, observer: Observer
) -> Floats:
    """The linear baseline's probabilities of N rows, each from the rows of the other folds."""
    texts, probabilities_NL = all_texts(corpus), np.zeros(corpus.targets_NL.shape)
    for fold in np.unique(fold_N):
        observer.stage(f"Training the baseline, fold {fold + 1} of {len(np.unique(fold_N))}")
        held, others = np.flatnonzero(fold_N == fold), np.flatnonzero(fold_N != fold)
        model = fit_linear(corpus.select(others), settings)
        probabilities_NL[held] = model.probabilities([texts[row] for row in held])
    return probabilities_NL
