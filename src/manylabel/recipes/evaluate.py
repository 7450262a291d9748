"""Figures of a model on rows it has not seen; called by `train`, the Python interface and `manylabel evaluate`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from manylabel.bundle.contents import Bundle, FittedBaseline
from manylabel.config.schema import DataSettings
from manylabel.data.duplicates import text_fingerprints
from manylabel.data.sketches import nearly_seen
from manylabel.errors import counted
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

    Rows are counted whose text was a training or validation text (after Unicode, case and space normalisation) or,
    as far as the model's sketches tell, a near copy of one; the figures are repeated without them. Raises DataError
    with all problems of the file at once.
    """
    bundle = model.bundle
    loaded = load_source(source, options, labels=LabelSet(bundle.labels), stored=bundle.layout)
    for finding in loaded.warnings:
        observer.stage("note: " + finding.sentence())
    corpus = loaded.corpus
    seen_N = _seen_rows(bundle, all_texts(corpus), observer)
    observer.stage(f"Evaluating {counted(len(corpus), 'row')}")
    return evaluate_rows(model.predictor, bundle.baseline, corpus, seen_N=seen_N)


def _seen_rows(bundle: Bundle, texts: list[str], observer: Observer) -> BoolArray:
    """Which of N texts were texts of the training or validation rows, or near copies of such."""
    exact_N = np.isin(text_fingerprints(texts), bundle.seen_texts)
    told = (
        f"  leak audit: of {counted(len(texts), 'row')} {exact_N.sum():,} were seen in training or validation"
    )
    if bundle.seen_sketches is None:  # Saved before there were any: only copies can be found.
        observer.stage(told)
        return exact_N
    similarity = bundle.settings.split.near_duplicate_similarity
    near_N = ~exact_N & nearly_seen(texts, bundle.seen_sketches, similarity=similarity)
    observer.stage(f"{told}, {near_N.sum():,} more nearly so")
    seen_N: BoolArray = exact_N | near_N
    return seen_N
