"""A strong linear member for ensembles: TF-IDF of words and their pieces, naive Bayes weights, logistic regression.

Fitted by the cross-fitting recipe, saved by the bundle, used by the ensemble's scorer. It follows Wang and Manning
(2012, "Baselines and Bigrams", section 2.3): each feature is multiplied by the logarithm of how much more frequent it
is among the texts with the label than among the others; what is equally frequent cannot be learnt by heart.

Features are words and pairs of words, and pieces of 2 to 5 characters of words (`ngrams`); 1 + ln(count), times the
inverse document frequency, each of the two kinds scaled to length 1. The ratio of column k for a label of share s is

    r_k = ln( (P_k + a s) / (Q_k + a (1 - s)) x (1 - s) / s )

with P_k and Q_k texts with and without the label that hold k. Theirs adds the same a = 1 to both counts: with a label
of few texts every rare feature then gets the same high ratio. Here it goes to 0 where nothing is known. Macro average
precision of 12,000 training texts of GoEmotions (dev rows) and of Jigsaw (8,000 other rows), one core:

    C = 1, a = 16   0.442  0.649        C = 2, a = 4    0.427  -        C = 1, a = 4    -      0.649
    C = 2, a = 16   0.438  0.652        C = 2, a = 1    0.412  -        C = 1, a = 64   -      0.640

(`baseline` has 0.388 on GoEmotions.) 43,000 comments of Jigsaw take 53 s and 0.9 GB.

Memory is bounded: of very many or very long texts only the first characters are read for pieces of words.
Letters: N texts, K columns in use, L labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse
from scipy.special import expit, logit

from manylabel.errors import BundleError, Finding
from manylabel.evaluation.linear_parts import Arrays, Kinds, array_problems, choose_columns, named_arrays
from manylabel.evaluation.ngrams import NUM_COLUMNS, WORD_BITS, count_ngrams
from manylabel.values import BoolArray, FloatArray, IntArray

MIN_TEXTS_PER_COLUMN = 3
MAX_COEFFICIENTS = 2**23
"""Bound of K x L (32 MB as float32): with more, only the columns of the most texts are kept."""
MAX_NUMBERS = 100_000_000
"""Bound of the counts that training holds, 5 bytes each and 8 bytes each of those in use."""
NUMBERS_PER_CHARACTER = 3.0
"""Different pieces a character of a text adds at most: 4 lengths, some of them more than once."""
CHARACTER_LIMITS = (5000, 2500, 1200, 600, 300, 150, 75)
INVERSE_REGULARIZATION = 1.0
SMOOTHING = 16.0
MAX_ITERATIONS = 100
RELATIVE_GAIN = 1e-6
"""An iteration that lowers the loss by less ends the fit."""
LARGEST_LOGIT = 30.0


@dataclass(frozen=True, eq=False)
class NbLinear:
    """A fitted model; K hash columns are used, in rising order.

    `constant_L` marks labels that training saw in one class only: every text has the logit of `prevalence_L`, which
    counts half a text more of each class. `character_limit` is how many characters of a text give pieces of words.
    """

    labels: tuple[str, ...]
    columns_K: npt.NDArray[np.int32]
    inverse_document_frequency_K: npt.NDArray[np.float32]
    coefficients_KL: npt.NDArray[np.float32]
    intercepts_L: npt.NDArray[np.float64]
    constant_L: npt.NDArray[np.uint8]
    prevalence_L: npt.NDArray[np.float64]
    character_limit: npt.NDArray[np.int64]

    def logits(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Logit of each label for each text, N x L, from -30 to 30; memory beyond it is that of a chunk of texts."""
        logits_NL = np.empty((len(texts), len(self.labels)), dtype=np.float32)
        row = 0
        for counts in count_ngrams(texts, character_limit=int(self.character_limit[0])):
            features = weighed(
                _in_use(counts, self.columns_K), self.columns_K, self.inverse_document_frequency_K
            )
            found = features @ self.coefficients_KL + self.intercepts_L
            logits_NL[row : row + counts.shape[0]] = np.clip(found, -LARGEST_LOGIT, LARGEST_LOGIT)
            row += counts.shape[0]
        is_constant_L = self.constant_L.astype(np.bool_)
        logits_NL[:, is_constant_L] = logit(self.prevalence_L[is_constant_L])
        return logits_NL

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Probability of each label for each text, N x L."""
        probabilities_NL: npt.NDArray[np.float64] = expit(self.logits(texts).astype(np.float64))
        return probabilities_NL

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Everything but the label names as named arrays, for a file without pickle."""
        return named_arrays(self, _ARRAYS)

    @classmethod
    def from_arrays(cls, arrays: Arrays, labels: Sequence[str]) -> NbLinear:
        """Rebuild what `to_arrays` gave.

        Raises:
            BundleError: an array is missing, of another shape or type, or holds a number that cannot be.

        """
        if problems := _array_problems(arrays, len(labels)):
            raise BundleError(*(_finding(problem) for problem in problems))
        fields: dict[str, Any] = {name: np.ascontiguousarray(arrays[name]) for name in _ARRAYS}
        return cls(labels=tuple(labels), **fields)


_ARRAYS: Kinds = {
    "columns_K": (np.int32, "K"),
    "inverse_document_frequency_K": (np.float32, "K"),
    "coefficients_KL": (np.float32, "KL"),
    "intercepts_L": (np.float64, "L"),
    "constant_L": (np.uint8, "L"),
    "prevalence_L": (np.float64, "L"),
    "character_limit": (np.int64, "1"),
}


def _array_problems(arrays: Arrays, num_labels: int) -> list[str]:
    if problems := array_problems(arrays, _ARRAYS, num_labels=num_labels):
        return problems
    columns_K = arrays["columns_K"].astype(np.int64)
    if columns_K.size and (
        columns_K[0] < 0 or columns_K[-1] >= NUM_COLUMNS or (np.diff(columns_K) <= 0).any()
    ):
        problems.append(f"columns_K does not rise from 0 to at most {NUM_COLUMNS - 1}")
    shares_L = arrays["prevalence_L"].astype(np.float64)
    if not ((shares_L > 0) & (shares_L < 1)).all():
        problems.append("prevalence_L holds a share that is not between 0 and 1")
    if int(arrays["character_limit"].astype(np.int64)[0]) < 1:
        problems.append("character_limit is below 1")
    return problems


def _finding(problem: str) -> Finding:
    return Finding("B472", "linear member", problem,
                   next_step="restore the model folder from its source or fit the ensemble again")  # fmt: skip


def fit_nb_linear(
    texts: Sequence[str], targets_NL: IntArray, labels: Sequence[str], *, seed: int = 1
) -> NbLinear:
    """Fit the model; a text pair is joined by the caller, rows with -1 are left out for that label.

    The same texts and targets give the same arrays on one machine; nothing is drawn, `seed` stands here as in
    `fit_baseline`.

    Raises:
        ValueError: texts, targets and labels disagree in shape.

    """
    if targets_NL.shape != (len(texts), len(labels)):
        raise ValueError(f"targets are {targets_NL.shape}, expected {(len(texts), len(labels))}")
    limit = _character_limit(texts)
    chunks = list(count_ngrams(texts, character_limit=limit))
    most = max(MAX_COEFFICIENTS // max(len(labels), 1), 1)
    columns_K, frequency_K = choose_columns(
        _texts_with(chunks), len(texts), min_texts=MIN_TEXTS_PER_COLUMN, most=most
    )
    features = _features(chunks, columns_K, frequency_K)
    coefficients_KL = np.zeros((len(columns_K), len(labels)), dtype=np.float32)
    intercepts_L, prevalence_L = np.zeros(len(labels)), np.zeros(len(labels))
    constant_L = np.zeros(len(labels), dtype=np.uint8)
    for label in range(len(labels)):
        rows = np.flatnonzero(targets_NL[:, label] >= 0)
        positives_N = targets_NL[rows, label] == 1
        prevalence_L[label] = (positives_N.sum() + 0.5) / (len(rows) + 1.0)
        if len(columns_K) == 0 or positives_N.all() or not positives_N.any():
            constant_L[label] = 1
            continue
        annotated = features if len(rows) == len(texts) else features[rows]
        coefficients_KL[:, label], intercepts_L[label] = _fit_label(annotated, positives_N)
    return NbLinear(
        labels=tuple(labels),
        columns_K=columns_K,
        inverse_document_frequency_K=frequency_K,
        coefficients_KL=coefficients_KL,
        intercepts_L=intercepts_L,
        constant_L=constant_L,
        prevalence_L=prevalence_L,
        character_limit=np.array([limit], np.int64),
    )


def _character_limit(texts: Sequence[str]) -> int:
    """How many characters of each text can be read without holding more than `MAX_NUMBERS` counts."""
    lengths_N = np.fromiter((len(text) for text in texts), np.int64, len(texts))
    for limit in CHARACTER_LIMITS:
        if NUMBERS_PER_CHARACTER * float(np.minimum(lengths_N, limit).sum()) <= MAX_NUMBERS:
            return limit
    return CHARACTER_LIMITS[-1]


def _texts_with(chunks: Sequence[scipy.sparse.csr_matrix]) -> npt.NDArray[np.int64]:
    """How many texts hold each column there could be."""
    texts_with_K = np.zeros(NUM_COLUMNS, np.int64)
    for counts in chunks:
        texts_with_K += np.bincount(counts.indices, minlength=NUM_COLUMNS)
    return texts_with_K


def _features(
    chunks: list[scipy.sparse.csr_matrix], columns_K: npt.NDArray[np.int32], frequency_K: FloatArray
) -> scipy.sparse.csr_matrix:
    """The weighed features of all chunks, which are given up one by one: both at once would be twice the memory."""
    parts = []
    chunks.reverse()
    while chunks:
        parts.append(weighed(_in_use(chunks.pop(), columns_K), columns_K, frequency_K))
    if not parts:
        return scipy.sparse.csr_matrix((0, len(columns_K)), dtype=np.float32)
    return scipy.sparse.vstack(parts, format="csr") if len(parts) > 1 else parts[0]


def _in_use(counts: scipy.sparse.csr_matrix, columns_K: npt.NDArray[np.int32]) -> scipy.sparse.csr_matrix:
    """The columns in use, renumbered from 0; without scipy's indexing, which looks at every column there could be."""
    place = np.searchsorted(columns_K, counts.indices).astype(np.int32)
    place_or_last = np.minimum(place, max(len(columns_K) - 1, 0))
    is_used = columns_K[place_or_last] == counts.indices if len(columns_K) else np.zeros(len(place), np.bool_)
    kept_before = np.concatenate([[0], np.cumsum(is_used)])
    values = counts.data[is_used].astype(np.float32)
    starts = kept_before[counts.indptr]
    return scipy.sparse.csr_matrix((values, place[is_used], starts), shape=(counts.shape[0], len(columns_K)))


def weighed(
    counts: scipy.sparse.csr_matrix, columns_K: npt.NDArray[np.int32], frequency_K: FloatArray
) -> scipy.sparse.csr_matrix:
    """(1 + ln count) x inverse document frequency; words and pieces of words of a row each of length 1."""
    values = (1.0 + np.log(counts.data)) * frequency_K[counts.indices]
    num_words = int(np.searchsorted(columns_K, 2**WORD_BITS))
    row_of = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    kind_of = 2 * row_of + (counts.indices >= num_words)
    squares = np.bincount(kind_of, weights=values.astype(np.float64) ** 2, minlength=2 * counts.shape[0])
    lengths = np.sqrt(np.maximum(squares, np.finfo(np.float64).tiny))
    scaled = (values / lengths[kind_of]).astype(np.float32)
    return scipy.sparse.csr_matrix((scaled, counts.indices, counts.indptr), shape=counts.shape)


def log_count_ratios(features: scipy.sparse.csr_matrix, positives_N: BoolArray) -> npt.NDArray[np.float64]:
    """r_K of the module's formula, for one label with at least one text of each class."""
    num_columns = features.shape[1]
    entries_N = np.diff(features.indptr)
    of_positive = np.repeat(positives_N, entries_N)
    texts_K = np.bincount(features.indices, minlength=num_columns).astype(np.float64)
    with_K = np.bincount(features.indices[of_positive], minlength=num_columns).astype(np.float64)
    share = float(positives_N.mean())
    odds_K = (with_K + SMOOTHING * share) / (texts_K - with_K + SMOOTHING * (1.0 - share))
    ratios_K: npt.NDArray[np.float64] = np.log(odds_K * (1.0 - share) / share)
    return ratios_K


def _fit_label(features: scipy.sparse.csr_matrix, positives_N: BoolArray) -> tuple[FloatArray, float]:
    """Coefficients of the features as they are, and the intercept.

    Minimises C x the sum of the log losses + half the squared weights of the ratio-weighted features, the intercept
    free. The matrix is never multiplied by the ratios: X diag(r) w = X (r w), which needs no second copy of it.
    """
    from scipy.optimize import minimize

    ratios_K = log_count_ratios(features, positives_N)
    signs_N = np.where(positives_N, 1.0, -1.0)
    transposed = features.T

    def loss_and_gradient(variables: FloatArray) -> tuple[float, FloatArray]:
        weights_K, intercept = variables[:-1], variables[-1]
        margins_N = signs_N * (features @ (ratios_K * weights_K).astype(np.float32) + intercept)
        slopes_N = -signs_N * expit(-margins_N)
        loss = INVERSE_REGULARIZATION * np.logaddexp(0.0, -margins_N).sum() + 0.5 * weights_K @ weights_K
        gradient_K = ratios_K * (transposed @ slopes_N.astype(np.float32))
        inner = INVERSE_REGULARIZATION * np.append(gradient_K, slopes_N.sum())
        inner[:-1] += weights_K
        return float(loss), inner

    start = np.zeros(features.shape[1] + 1)
    start[-1] = logit(positives_N.mean())
    options = {"maxiter": MAX_ITERATIONS, "maxcor": 6, "ftol": RELATIVE_GAIN, "gtol": 0.0}
    found = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    return ratios_K * found.x[:-1], float(found.x[-1])
