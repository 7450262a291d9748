"""Figures of a model on rows it has not seen; called by `train`, the Python interface and `manylabel evaluate`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from manylabel.bundle.contents import FittedBaseline
from manylabel.config.schema import DataSettings
from manylabel.data.duplicates import text_fingerprints
from manylabel.evaluation.evaluate import evaluate
from manylabel.evaluation.result import Evaluation
from manylabel.inference.load import LoadedModel
from manylabel.inference.predictor import Predictor
from manylabel.recipes.corpora import Source, all_texts, load_source
from manylabel.training.observers import Observer
from manylabel.values import BoolArray, Corpus, LabelSet


def evaluate_rows(
    predictor: Predictor, baseline: FittedBaseline, corpus: Corpus, *, seen_N: BoolArray | None
) -> Evaluation:
    """Model and baseline on the same rows; where some were seen in training, once more without them."""
    probabilities_NL = predictor.predict(corpus.texts, corpus.pairs).probabilities_BL
    of_baseline_NL = baseline.model.probabilities(all_texts(corpus))

    def of(rows: slice | np.ndarray) -> Evaluation:
        targets_NL = corpus.targets_NL[rows]
        return replace(
            evaluate(targets_NL, probabilities_NL[rows], predictor.thresholds),
            baseline=evaluate(targets_NL, of_baseline_NL[rows], baseline.thresholds),
        )

    result = of(slice(None))
    if seen_N is None:
        return result
    if not seen_N.any():
        return replace(result, rows_seen_in_training=0)
    return replace(
        result, rows_seen_in_training=int(seen_N.sum()), without_seen_rows=of(np.flatnonzero(~seen_N))
    )


def evaluate_model(
    model: LoadedModel, source: Source, *, options: DataSettings, observer: Observer
) -> Evaluation:
    """Evaluate on a file or an object in memory; columns as in training unless `options` name others.

    Rows whose text (after Unicode, case and space normalisation) was a training or validation text are counted,
    and the figures repeated without them. Raises DataError with all problems of the file at once.
    """
    bundle = model.bundle
    loaded = load_source(source, options, labels=LabelSet(bundle.labels), stored=bundle.layout)
    for finding in loaded.warnings:
        observer.stage("note: " + finding.sentence())
    corpus = loaded.corpus
    seen_N = np.isin(text_fingerprints(all_texts(corpus)), bundle.seen_texts)
    observer.stage(f"Evaluating {len(corpus):,} rows")
    return evaluate_rows(model.predictor, bundle.baseline, corpus, seen_N=seen_N)
