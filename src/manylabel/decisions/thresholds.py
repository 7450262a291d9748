"""From probability to yes or no: one threshold a label, fitted on validation rows for the highest F1.

Training fits them, the bundle stores them, the predictor and the evaluation apply them.

The rule, per label and exact over all cut points:

- only annotated rows count (-1 is left out);
- each cut of `decisions.cuts` is tried: ties are never separated, thresholds are midpoints;
- its F1 is `2 TP / (k + positives)`; deciding nothing scores 0 and is never the best;
- of several best cuts the one whose threshold is nearest the default wins, then the higher threshold.

The default threshold decides as one of the cuts does, so a fitted one never scores below it on the fitting rows.
Other goals are in `decisions.goals`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.decisions.cuts import all_cuts, annotated_columns, check_rows, why_unjudged
from manylabel.errors import BundleError, Finding
from manylabel.values import BoolArray, FloatArray, IntArray

DEFAULT_THRESHOLD = 0.5
MIN_POSITIVES = 5


@dataclass(frozen=True, eq=False)
class Thresholds:
    """One threshold in [0, 1] a label; `reasons` says why a label is unjudged, None for a judged one.

    `goals` names what each threshold was fitted for, as `decisions.goals` writes it, None for one that was not
    fitted; `notes` says what is to be known of a judged threshold: that its goal is out of reach on the fitting rows,
    or what is guaranteed. Both are None as a whole in thresholds that were fitted for F1 without a word.
    """

    labels: tuple[str, ...]
    values_L: npt.NDArray[np.float64]
    judged_L: BoolArray
    reasons: tuple[str | None, ...]
    goals: tuple[str | None, ...] | None = None
    notes: tuple[str | None, ...] | None = None

    def __post_init__(self) -> None:
        num_labels = len(self.labels)
        if self.values_L.shape != (num_labels,) or self.judged_L.shape != (num_labels,):
            raise ValueError("thresholds need one value and one judgement a label")
        if len(self.reasons) != num_labels:
            raise ValueError("thresholds need one reason (or None) a label")
        if any(each is not None and len(each) != num_labels for each in (self.goals, self.notes)):
            raise ValueError("thresholds need one goal and one note (or None) a label")
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
        content: dict[str, object] = {
            "labels": list(self.labels),
            "values": [float(value) for value in self.values_L],
            "judged": [bool(judged) for judged in self.judged_L],
            "reasons": list(self.reasons),
        }
        optional = {"goals": self.goals, "notes": self.notes}
        return content | {key: list(entries) for key, entries in optional.items() if entries is not None}

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
            reasons=_texts(reasons),
            goals=_texts(_entries(content, "goals")) if "goals" in content else None,
            notes=_texts(_entries(content, "notes")) if "notes" in content else None,
        )


_KEYS = ("labels", "values", "judged", "reasons")
_OPTIONAL_KEYS = ("goals", "notes")
"""Not in files written before there were goals."""


def _texts(entries: Sequence[object]) -> tuple[str | None, ...]:
    return tuple(None if entry is None else str(entry) for entry in entries)


def _entries(content: Mapping[str, object], key: str) -> Sequence[object]:
    entries = content.get(key)
    return entries if isinstance(entries, list | tuple) else ()


def _wrong_shapes(content: Mapping[str, object]) -> list[str]:
    keys = _KEYS + tuple(key for key in _OPTIONAL_KEYS if key in content)
    problems = [f"{key} is not a list" for key in keys if not isinstance(content.get(key), list | tuple)]
    lengths = {key: len(_entries(content, key)) for key in keys}
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
    for key, one in (("reasons", "reason"), ("goals", "goal"), ("notes", "note")):
        if not all(entry is None or isinstance(entry, str) for entry in _entries(content, key)):
            problems.append(f"a {one} is neither text nor null")
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
    than `min_positives` positive or negative rows keeps `default` and is unjudged.

    Raises:
        ValueError: the shapes disagree or a probability is outside [0, 1] or not a number.

    """
    check_rows(targets_NL, probabilities_NL, labels)
    values_L = np.full(len(labels), default, dtype=np.float64)
    reasons: list[str | None] = []
    for column, (positives_K, scores_K) in enumerate(annotated_columns(targets_NL, probabilities_NL)):
        reasons.append(why_unjudged(int(positives_K.sum()), len(positives_K), min_positives))
        if reasons[-1] is None:
            cuts = all_cuts(positives_K, scores_K)
            f1_C = cuts.f_beta_C(1.0)
            values_L[column] = cuts.thresholds_C[cuts.nearest(f1_C == f1_C.max(), default)]
    judged_L = np.array([reason is None for reason in reasons], dtype=np.bool_)
    return Thresholds(tuple(labels), values_L, judged_L, tuple(reasons))
