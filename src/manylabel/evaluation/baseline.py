"""The number BERT has to beat: TF-IDF of words and word pairs with one logistic regression a label.

The training recipe fits it beside every model, the bundle stores its arrays, the evaluation prints it.

Words are hashed, so no word of a training text is stored, only numbers of hash columns. Choices measured on
GoEmotions dev (macro average precision; scikit-learn 1.9, one core) and confirmed on Jigsaw:

    2^20 columns, C = 4   0.431      2^18 columns, C = 4   0.427      tokens of two characters or more   0.420
    2^20 columns, C = 1   0.420      2^20 columns, C = 10  0.423      (2^18 columns, C = 4)

With 2^20 columns fewer words share one, and dropping columns of one text leaves a smaller model than 2^18.

scikit-learn is imported where it is used: every model carries a baseline, and importing it takes 0.8 s, which a
prediction need not wait for.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse
from scipy.special import expit

from manylabel.errors import BundleError, Finding
from manylabel.evaluation.linear_parts import Arrays, Kinds, array_problems, choose_columns, named_arrays
from manylabel.values import FloatArray, IntArray

HASH_COLUMNS = 2**20
MIN_TEXTS_PER_COLUMN = 2
INVERSE_REGULARIZATION = 4.0
TOLERANCE = 1e-2
MAX_ITERATIONS = 200
MAX_COEFFICIENTS = 2**25
"""Bound of K x L (128 MB as float32): with more, only the columns of the most texts are kept."""
TEXTS_PER_CHUNK = 8192


@dataclass(frozen=True, eq=False)
class LinearBaseline:
    """A fitted baseline; K hash columns are used, in rising order.

    `constant_L` marks labels that training saw in one class only, and all labels when no word occurs in two
    texts: their probability is `prevalence_L` (0 where nothing is annotated) for every text.
    """

    labels: tuple[str, ...]
    columns_K: npt.NDArray[np.int32]
    inverse_document_frequency_K: npt.NDArray[np.float32]
    coefficients_KL: npt.NDArray[np.float32]
    intercepts_L: npt.NDArray[np.float64]
    constant_L: npt.NDArray[np.uint8]
    prevalence_L: npt.NDArray[np.float64]

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Probability of each label for each text, N x L; memory beyond it is that of a chunk of texts."""
        probabilities_NL = np.empty((len(texts), len(self.labels)), dtype=np.float64)
        for chunk in _chunks(len(texts)):
            counts_NK = _count(texts[chunk])[:, self.columns_K]
            features_NK = _weigh(counts_NK, self.inverse_document_frequency_K)
            probabilities_NL[chunk] = expit(features_NK @ self.coefficients_KL + self.intercepts_L)
        constant_L = self.constant_L.astype(np.bool_)
        probabilities_NL[:, constant_L] = self.prevalence_L[constant_L]
        return probabilities_NL

    def to_arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Everything but the label names as named arrays, for a file without pickle."""
        return named_arrays(self, _ARRAYS)

    @classmethod
    def from_arrays(cls, arrays: Arrays, labels: Sequence[str]) -> LinearBaseline:
        """Rebuild what `to_arrays` gave.

        Raises:
            BundleError: an array is missing, of another shape or type, or holds a number that is not finite.

        """
        problems = _array_problems(arrays, len(labels))
        if problems:
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
}


def _array_problems(arrays: Arrays, num_labels: int) -> list[str]:
    if problems := array_problems(arrays, _ARRAYS, num_labels=num_labels):
        return problems
    columns_K = arrays["columns_K"].astype(np.int64)
    if columns_K.size and (columns_K.min() < 0 or columns_K.max() >= HASH_COLUMNS):
        return [f"columns_K holds a column outside 0 to {HASH_COLUMNS - 1}"]
    return []


def _finding(problem: str) -> Finding:
    return Finding(
        code="B452",
        place="baseline",
        found=problem,
        next_step="restore the model folder from its source or train again",
    )


def fit_baseline(
    texts: Sequence[str], targets_NL: IntArray, labels: Sequence[str], *, seed: int = 1
) -> LinearBaseline:
    """Fit the baseline; a text pair is joined by the caller, rows with -1 are left out for that label.

    The same texts, targets and seed give the same arrays.

    Raises:
        ValueError: texts, targets and labels disagree in shape.

    """
    if targets_NL.shape != (len(texts), len(labels)):
        raise ValueError(f"targets are {targets_NL.shape}, expected {(len(texts), len(labels))}")
    counts_NK = scipy.sparse.vstack([_count(texts[chunk]) for chunk in _chunks(len(texts))], format="csr")
    columns_K, inverse_document_frequency_K = choose_columns(
        np.bincount(counts_NK.indices, minlength=HASH_COLUMNS),
        len(texts),
        min_texts=MIN_TEXTS_PER_COLUMN,
        most=max(MAX_COEFFICIENTS // max(len(labels), 1), 1),
    )
    features_NK = _weigh(counts_NK[:, columns_K], inverse_document_frequency_K).astype(np.float64)
    coefficients_KL = np.zeros((len(columns_K), len(labels)), dtype=np.float32)
    intercepts_L, prevalence_L = np.zeros(len(labels)), np.zeros(len(labels))
    constant_L = np.zeros(len(labels), dtype=np.uint8)
    for column in range(len(labels)):
        rows = np.flatnonzero(targets_NL[:, column] >= 0)
        positives = targets_NL[rows, column] == 1
        prevalence_L[column] = positives.mean() if len(rows) else 0.0
        if len(columns_K) == 0 or prevalence_L[column] in {0.0, 1.0}:
            constant_L[column] = 1
            continue
        annotated = features_NK if len(rows) == len(texts) else features_NK[rows]
        coefficients_KL[:, column], intercepts_L[column] = _fit_label(annotated, positives, seed)
    return LinearBaseline(
        labels=tuple(labels),
        columns_K=columns_K,
        inverse_document_frequency_K=inverse_document_frequency_K,
        coefficients_KL=coefficients_KL,
        intercepts_L=intercepts_L,
        constant_L=constant_L,
        prevalence_L=prevalence_L,
    )


def _chunks(num_texts: int) -> Iterator[slice]:
    # At least one chunk, so that no texts give an empty matrix instead of no matrix.
    for start in range(0, max(num_texts, 1), TEXTS_PER_CHUNK):
        yield slice(start, min(start + TEXTS_PER_CHUNK, num_texts))


def _count(texts: Sequence[str]) -> scipy.sparse.csr_matrix:
    """How often each hashed word and word pair occurs; lower case, without accents, float32."""
    if not texts:
        return scipy.sparse.csr_matrix((0, HASH_COLUMNS), dtype=np.float32)
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(
        n_features=HASH_COLUMNS,
        ngram_range=(1, 2),
        token_pattern=r"(?u)\b\w+\b",
        strip_accents="unicode",
        lowercase=True,
        alternate_sign=False,
        norm=None,
        dtype=np.float32,
    )
    return vectorizer.transform(texts)


def _weigh(
    counts_NK: scipy.sparse.csr_matrix, inverse_document_frequency_K: FloatArray
) -> scipy.sparse.csr_matrix:
    """Counts become (1 + ln count) x inverse document frequency, each row then of length 1."""
    from sklearn.preprocessing import normalize

    weighted = counts_NK.copy()
    weighted.data = (1.0 + np.log(weighted.data)) * inverse_document_frequency_K[weighted.indices]
    # scikit-learn refuses to normalise a matrix without rows or columns.
    return weighted if 0 in weighted.shape else normalize(weighted, norm="l2", copy=False)


def _fit_label(
    features_NK: scipy.sparse.csr_matrix, positives_N: npt.NDArray[np.bool_], seed: int
) -> tuple[FloatArray, float]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    # GoEmotions, 28 labels, one core: liblinear 3.2 s, lbfgs 13 s for the same 0.431 (0.298 after 2.3 s).
    regression = LogisticRegression(
        C=INVERSE_REGULARIZATION,
        solver="liblinear",
        tol=TOLERANCE,
        max_iter=MAX_ITERATIONS,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # A baseline that is a little short of its optimum is still the baseline.
        warnings.simplefilter("ignore", ConvergenceWarning)
        regression.fit(features_NK, positives_N)
    return regression.coef_[0], float(regression.intercept_[0])
