"""From probability to yes or no: one threshold a label, fitted on validation rows for the highest F1.

Training fits them, the bundle stores them, the predictor and the evaluation apply them.

The rule, per label and exact over all cut points:

- only annotated rows count (-1 is left out);
- a *cut* decides the k highest scores positive; rows with equal scores are never separated;
- its F1 is `2 TP / (k + positives)`; deciding nothing scores 0 and is never the best;
- its threshold is the midpoint between the lowest score decided positive and the next lower distinct score
  (0 where there is none). Where no number lies between the two, it is the higher score itself, so the
  threshold always decides exactly the rows of its cut;
- of several best cuts the one whose threshold is nearest the default wins, then the higher threshold.

The default threshold is one of the cuts, so a fitted one never scores below it on the fitting rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.errors import BundleError, Finding
from manylabel.values import BoolArray, FloatArray, IntArray

DEFAULT_THRESHOLD = 0.5
MIN_POSITIVES = 5


@dataclass(frozen=True, eq=False)
class Thresholds:
    """One threshold in [0, 1] a label; `reasons` says why a label is unjudged, None for a judged one."""

    labels: tuple[str, ...]
    values_L: npt.NDArray[np.float64]
    judged_L: BoolArray
    reasons: tuple[str | None, ...]

    def __post_init__(self) -> None:
        num_labels = len(self.labels)
        if self.values_L.shape != (num_labels,) or self.judged_L.shape != (num_labels,):
            raise ValueError("thresholds need one value and one judgement a label")
        if len(self.reasons) != num_labels:
            raise ValueError("thresholds need one reason (or None) a label")
        if not ((self.values_L >= 0.0) & (self.values_L <= 1.0)).all():
            raise ValueError("thresholds must be finite and in [0, 1]")

    def decide(self, probabilities_BL: FloatArray) -> BoolArray:
        """Whether each probability reaches its label's threshold, compared in double precision; B x L."""
        if probabilities_BL.ndim != 2 or probabilities_BL.shape[1] != len(self.labels):
            raise ValueError(
                f"probabilities are {probabilities_BL.shape}, expected {len(self.labels)} columns"
            )
        decisions_BL: BoolArray = (
            probabilities_BL >= self.values_L
        )  # numpy compares float32 with float64 in float64
        return decisions_BL

    def to_json(self) -> dict[str, object]:
        """A plain mapping for a JSON file; `from_json` gives back the same numbers to the last bit."""
        return {
            "labels": list(self.labels),
            "values": [float(value) for value in self.values_L],
            "judged": [bool(judged) for judged in self.judged_L],
            "reasons": list(self.reasons),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, object]) -> Thresholds:
        """Read what `to_json` wrote.

        Raises:
            BundleError: an entry is missing, of another length or type, or not a number in [0, 1].

        """
        problems = [problem for check in _CHECKS for problem in check(content)]
        if problems:
            raise BundleError(*(_finding(problem) for problem in problems))
        labels, values, judged, reasons = (_entries(content, key) for key in _KEYS)
        return cls(
            labels=tuple(str(name) for name in labels),
            values_L=np.array(values, dtype=np.float64),
            judged_L=np.array(judged, dtype=np.bool_),
            reasons=tuple(None if reason is None else str(reason) for reason in reasons),
        )


_KEYS = ("labels", "values", "judged", "reasons")


def _entries(content: Mapping[str, object], key: str) -> Sequence[object]:
    entries = content.get(key)
    return entries if isinstance(entries, list | tuple) else ()


def _wrong_shapes(content: Mapping[str, object]) -> list[str]:
    problems = [f"{key} is not a list" for key in _KEYS if not isinstance(content.get(key), list | tuple)]
    lengths = {key: len(_entries(content, key)) for key in _KEYS}
    if not problems and len(set(lengths.values())) > 1:
        problems.append(f"the lists differ in length: {lengths}")
    return problems


def _wrong_values(content: Mapping[str, object]) -> list[str]:
    values = _entries(content, "values")
    wrong = [i for i, value in enumerate(values) if not _is_fraction(value)]
    kinds = {i: values[i] if isinstance(values[i], int | float) else type(values[i]).__name__ for i in wrong}
    return [f"value {i + 1} is {kind}" for i, kind in kinds.items()]


def _is_fraction(value: object) -> bool:
    # JSON's true is an int to Python, but it is no threshold.
    return type(value) in (int, float) and 0.0 <= float(value) <= 1.0  # type: ignore[arg-type]


def _wrong_types(content: Mapping[str, object]) -> list[str]:
    problems = []
    if not all(isinstance(name, str) for name in _entries(content, "labels")):
        problems.append("a label name is not text")
    if not all(isinstance(judged, bool) for judged in _entries(content, "judged")):
        problems.append("an entry of judged is not true or false")
    if not all(reason is None or isinstance(reason, str) for reason in _entries(content, "reasons")):
        problems.append("a reason is neither text nor null")
    return problems


_CHECKS = (_wrong_shapes, _wrong_values, _wrong_types)


def _finding(problem: str) -> Finding:
    return Finding(
        code="B451",
        place="thresholds",
        found=problem,
        allowed="for each label a name, a number from 0 to 1, true or false, and text or null",
        next_step="restore the model folder from its source or train again",
    )


def fit_thresholds(
    targets_NL: IntArray,
    probabilities_NL: FloatArray,
    labels: Sequence[str],
    *,
    min_positives: int = MIN_POSITIVES,
    default: float = DEFAULT_THRESHOLD,
) -> Thresholds:
    """Fit the threshold of highest F1 for each label, by the rule in the module's docstring.

    `targets_NL` holds 1, 0 and -1 (not annotated), `probabilities_NL` numbers in [0, 1]. A label with fewer
    than `min_positives` positive rows, or without a negative row, keeps `default` and is unjudged.

    Raises:
        ValueError: the shapes disagree or a probability is outside [0, 1] or not a number.

    """
    if targets_NL.shape != probabilities_NL.shape or targets_NL.shape[1:] != (len(labels),):
        raise ValueError(f"targets {targets_NL.shape} and probabilities {probabilities_NL.shape} disagree")
    values_L = np.full(len(labels), default, dtype=np.float64)
    reasons: list[str | None] = []
    for column in range(len(labels)):
        annotated_N = targets_NL[:, column] >= 0
        positives_K = targets_NL[annotated_N, column] == 1
        scores_K = probabilities_NL[annotated_N, column].astype(np.float64)
        if not ((scores_K >= 0.0) & (scores_K <= 1.0)).all():
            raise ValueError("probabilities must be finite and in [0, 1]")
        reasons.append(_why_unjudged(positives_K, min_positives))
        if reasons[-1] is None:
            values_L[column] = _best_threshold(positives_K, scores_K, default)
    judged_L = np.array([reason is None for reason in reasons], dtype=np.bool_)
    return Thresholds(tuple(labels), values_L, judged_L, tuple(reasons))


def _why_unjudged(positives_K: BoolArray, min_positives: int) -> str | None:
    num_positives = int(positives_K.sum())
    if num_positives < max(min_positives, 1):
        return f"{num_positives} positive rows, at least {max(min_positives, 1)} needed"
    if num_positives == len(positives_K):
        return "no negative rows"
    return None


def _best_threshold(positives_K: BoolArray, scores_K: npt.NDArray[np.float64], default: float) -> float:
    order = np.argsort(-scores_K, kind="stable")
    sorted_K = scores_K[order]
    last_of_ties = np.append(np.flatnonzero(sorted_K[1:] != sorted_K[:-1]), len(sorted_K) - 1)
    decided = last_of_ties + 1
    true_positives = np.cumsum(positives_K[order])[last_of_ties]
    # Equal fractions of integers give equal quotients in IEEE arithmetic, so ties are found exactly.
    f1 = 2.0 * true_positives / (decided + positives_K.sum())
    higher = sorted_K[last_of_ties]
    thresholds = _between(np.append(higher[1:], 0.0), higher)
    best = thresholds[f1 == f1.max()]
    distance = np.abs(best - default)
    return float(best[distance == distance.min()].max())


def _between(lower: npt.NDArray[np.float64], higher: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The midpoints; the higher number where rounding leaves nothing between the two."""
    middle = lower + (higher - lower) / 2.0
    return np.where(middle > lower, middle, higher)
