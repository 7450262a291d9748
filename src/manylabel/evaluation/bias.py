"""Whether a model ranks worse, or lower or higher, what is about a group of people; called by recipes/slices.py.

The three AUCs of Borkan, Dixon, Sorensen, Thain and Vasserman (2019), "Nuanced Metrics for Measuring Unintended
Bias", arXiv 1903.04561, each over part of the annotated rows of a label and for a subgroup, the rows that mention a
group:

    subgroup_auc   rows of the subgroup: can the label be told within it?
    bpsn_auc       positives of the background (all other rows) and negatives of the subgroup: low when harmless rows
                   of the subgroup score as high as rows that carry the label
    bnsp_auc       negatives of the background and positives of the subgroup: low when rows of the subgroup that
                   carry the label score as low as harmless others

The generalised mean over subgroups, ((1/S) sum m^p)^(1/p) with p = -5, is drawn towards the worst of them. The final
score is that of the Jigsaw Unintended Bias competition (2019): a quarter each of the AUC over all rows and of the
generalised means of the three AUCs.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from manylabel.evaluation.intervals import Interval
from manylabel.evaluation.metrics import NO_NEGATIVES, NO_POSITIVES, Measured, roc_auc
from manylabel.values import FloatArray, IntArray

IDENTITY_TERMS = (
    "lesbian", "gay", "bisexual", "transgender", "trans", "queer", "lgbt", "lgbtq", "homosexual", "straight",
    "heterosexual", "male", "female", "nonbinary", "african", "african american", "black", "white", "european",
    "hispanic", "latino", "latina", "latinx", "mexican", "canadian", "american", "asian", "indian",
    "middle eastern", "chinese", "japanese", "christian", "muslim", "jewish", "buddhist", "catholic", "protestant",
    "sikh", "taoist", "old", "older", "young", "younger", "teenage", "millenial", "middle aged", "elderly", "blind",
    "deaf", "paralyzed",
)  # fmt: skip
"""English terms, spelled as there, of Dixon, Li, Sorensen, Thain and Vasserman (2018), "Measuring and Mitigating
Unintended Bias in Text Classification", as in its authors' word lists (conversationai/unintended-ml-bias-analysis)."""
AUCS = ("subgroup_auc", "bpsn_auc", "bnsp_auc")
POWER = -5.0
PART = 0.25
"""Share of the AUC over all rows, and of each of the three generalised means, in the final score."""
MIN_OF_A_CLASS = 5
"""Fewer rows with, or without, a label inside or outside a subgroup give a figure that says nothing."""
MIN_ROWS = 30
UNKNOWN = -1
MEMBER_FROM = 0.5
"""From this share of annotators a column says that a row mentions the group, as in the competition."""
_TRUTHS = {"true": 1.0, "false": 0.0}
_NOT_SAID = ("", "nan", "-1", "-1.0")
_WORD = re.compile("[\\w\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0966-\u0dff]+")
"""A word with its accents, points and vowel signs, which `\\w` alone leaves out."""


@dataclass(frozen=True)
class SubgroupBias:
    """The three AUCs of each label (L labels x 3, in the order of `AUCS`) for one subgroup of `rows` rows.

    `intervals` has those of the defined AUCs by label and AUC, where `evaluation.bias_intervals` was asked for them.
    """

    subgroup: str
    rows: int
    aucs: Mapping[str, tuple[Measured, Measured, Measured]]
    intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Plain values; `reason` says why an AUC is undefined, `interval_reasons` why one has no interval."""
        return {
            "subgroup": self.subgroup,
            "rows": self.rows,
            "labels": {
                label: {
                    **{name: each.value for name, each in zip(AUCS, measured, strict=True)},
                    "reason": _reason(measured),
                    **_interval_json(self.intervals.get(label, {})),
                }
                for label, measured in self.aucs.items()
            },
        }


@dataclass(frozen=True)
class OverallBias:
    """One label over all subgroups: the three generalised means, their mean, and the final score.

    `left_out` counts the subgroups without the AUC, per AUC. `intervals` are those of `generalised_mean` and `final`.
    """

    overall_auc: Measured
    means: tuple[Measured, Measured, Measured]
    left_out: tuple[int, int, int]
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def generalised_mean(self) -> float | None:
        """Mean of the three generalised means; None where one is undefined."""
        values = [each.value for each in self.means if each.value is not None]
        return float(np.mean(values)) if len(values) == len(AUCS) else None

    @property
    def final(self) -> float | None:
        """The competition's score; None where a part of it is undefined."""
        if self.overall_auc.value is None or self.generalised_mean is None:
            return None
        return PART * self.overall_auc.value + (1.0 - PART) * self.generalised_mean

    def to_json(self) -> dict[str, object]:
        """Plain values, undefined ones as null."""
        return {
            "overall_auc": self.overall_auc.value,
            "generalised_means": {name: each.value for name, each in zip(AUCS, self.means, strict=True)},
            "generalised_mean": self.generalised_mean,
            "final": self.final,
            "subgroups_left_out": dict(zip(AUCS, self.left_out, strict=True)),
            "reason": _reason(self.means) or self.overall_auc.reason,
            **_interval_json(self.intervals),
        }


@dataclass(frozen=True)
class Bias:
    """All subgroups in order, and each label over them."""

    subgroups: tuple[SubgroupBias, ...]
    overall: Mapping[str, OverallBias]

    def to_json(self) -> dict[str, object]:
        """`bias` and `bias_overall` for the evaluation's JSON."""
        labels = {label: each.to_json() for label, each in self.overall.items()}
        return {
            "bias": [each.to_json() for each in self.subgroups],
            "bias_overall": {"labels": labels},
        }


def _interval_json(intervals: Mapping[str, Interval]) -> dict[str, object]:
    """Limits by name, null where there are none, and why; nothing where none were asked for."""
    if not intervals:
        return {}
    reasons = {name: each.reason for name, each in intervals.items() if each.reason is not None}
    return {
        "intervals": {name: each.limits for name, each in intervals.items()},
        "interval_reasons": reasons,
    }


def _reason(measured: Sequence[Measured]) -> str | None:
    named = [f"{name}: {each.reason}" for name, each in zip(AUCS, measured, strict=True) if each.reason]
    return "; ".join(named) or None


def bias_aucs(
    targets_NL: IntArray,
    probabilities_NL: FloatArray,
    labels: Sequence[str],
    subgroups: Mapping[str, IntArray],
    *,
    min_rows: int = MIN_ROWS,
    min_of_class: int = MIN_OF_A_CLASS,
) -> Bias:
    """The bias AUCs of every label and subgroup.

    `subgroups` gives for each name N numbers: 1 belongs to it, 0 does not, -1 unknown (such a row counts neither as
    subgroup nor as background). Targets are 1, 0 and -1 (not annotated). A subgroup of fewer than `min_rows` rows
    is counted and has no AUCs, nor has one with fewer than `min_of_class` rows
    on either side of a comparison. Raises ValueError when shapes disagree.
    """
    if targets_NL.shape != probabilities_NL.shape or targets_NL.shape[1:] != (len(labels),):
        raise ValueError(f"targets {targets_NL.shape}, probabilities {probabilities_NL.shape} disagree")
    if any(members_N.shape != targets_NL.shape[:1] for members_N in subgroups.values()):
        raise ValueError("a subgroup needs one number a row")
    found = []
    for name, members_N in subgroups.items():
        rows = int(np.count_nonzero(members_N == 1))
        aucs = {
            label: _aucs(targets_NL[:, column], probabilities_NL[:, column], members_N, min_of_class)
            if rows >= min_rows
            else _too_few(rows, min_rows)
            for column, label in enumerate(labels)
        }
        found.append(SubgroupBias(name, rows, aucs))
    overall = {
        label: _overall(
            targets_NL[:, column], probabilities_NL[:, column], [each.aucs[label] for each in found]
        )
        for column, label in enumerate(labels)
    }
    return Bias(tuple(found), overall)


def _too_few(rows: int, min_rows: int) -> tuple[Measured, Measured, Measured]:
    nothing = Measured(None, f"{rows} rows, at least {min_rows} needed")
    return nothing, nothing, nothing


def _aucs(
    targets_N: IntArray, probabilities_N: FloatArray, members_N: IntArray, min_of_class: int
) -> tuple[Measured, Measured, Measured]:
    def scores(target: int, member: int) -> FloatArray:
        chosen: FloatArray = probabilities_N[(targets_N == target) & (members_N == member)]
        return chosen

    def auc(positives_P: FloatArray, negatives_Q: FloatArray, *places: str) -> Measured:
        for scores_K, kind, place in zip(
            (positives_P, negatives_Q), ("positive", "negative"), places, strict=True
        ):
            if 0 < len(scores_K) < min_of_class:
                return Measured(None, f"fewer than {min_of_class} {kind} rows{place}")
        return _auc(positives_P, negatives_Q, *places)

    inside = " in the subgroup"
    outside = " in the background"
    return (
        auc(scores(1, 1), scores(0, 1), inside, inside),
        auc(scores(1, 0), scores(0, 1), outside, inside),
        auc(scores(1, 1), scores(0, 0), inside, outside),
    )


def _auc(positives_P: FloatArray, negatives_Q: FloatArray, of_positives: str, of_negatives: str) -> Measured:
    """Chance that one of P positives scores above one of Q negatives, ties counting half: Mann and Whitney's U / PQ."""
    if not len(positives_P):
        return Measured(None, NO_POSITIVES + of_positives)
    if not len(negatives_Q):
        return Measured(None, NO_NEGATIVES + of_negatives)
    few, many = sorted((positives_P, negatives_Q), key=len)
    ranked = np.sort(many)
    below = np.searchsorted(ranked, few, side="left")
    not_above = np.searchsorted(ranked, few, side="right")
    share = float((below + not_above).sum()) / (2.0 * len(few) * len(many))
    return Measured(share if few is positives_P else 1.0 - share)


def _overall(
    targets_N: IntArray, probabilities_N: FloatArray, aucs: Sequence[tuple[Measured, Measured, Measured]]
) -> OverallBias:
    annotated_N = targets_N >= 0
    columns = [[each[index] for each in aucs] for index in range(len(AUCS))]
    first, second, third = (generalised_mean(column) for column in columns)
    left_out = [sum(each.value is None for each in column) for column in columns]
    return OverallBias(
        roc_auc(targets_N[annotated_N], probabilities_N[annotated_N]),
        (first, second, third),
        (left_out[0], left_out[1], left_out[2]),
    )


def generalised_mean(measured: Iterable[Measured], power: float = POWER) -> Measured:
    """((1/S) sum m^p)^(1/p) over the S values that exist, in [0, 1] as they are; 0 where one is 0 and p < 0."""
    values = np.array([each.value for each in measured if each.value is not None], dtype=np.float64)
    if not len(values):
        return Measured(None, "undefined for every subgroup")
    if power < 0 and values.min() == 0.0:
        return Measured(0.0)
    return Measured(float(np.mean(values**power) ** (1.0 / power)))


def subgroups_of_terms(
    texts: Sequence[str], terms: Sequence[str] = IDENTITY_TERMS
) -> dict[str, npt.NDArray[np.int8]]:
    """For each term, which of N texts have it as a whole word (or words, one after the other), in any case: 1 or 0.

    Hyphens, apostrophes and the like end a word, so `middle-aged` is found as `middle aged`. Terms without a letter
    or digit are found nowhere.
    """
    wanted = {term: f" {words} " for term in terms if (words := _words(term))}
    members = {term: np.zeros(len(texts), dtype=np.int8) for term in terms}
    for row, text in enumerate(texts):
        words = f" {_words(text)} "
        for term, spaced in wanted.items():
            if spaced in words:
                members[term][row] = 1
    return members


def _words(text: str) -> str:
    return " ".join(_WORD.findall(_plain(text)))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def subgroup_of_column(values_N: Sequence[str | None]) -> npt.NDArray[np.int8]:
    """A column of shares (or 0 and 1) as membership: 1 from 0.5 on, 0 below, -1 where nothing is said.

    Raises ValueError, naming the 0-based row, for a value that is no number in [0, 1].
    """
    return np.array([_membership(value, row) for row, value in enumerate(values_N)], dtype=np.int8)


def _membership(value: str | None, row: int) -> int:
    plain = "" if value is None else value.strip().lower()
    if plain in _NOT_SAID:
        return UNKNOWN
    try:
        share = _TRUTHS[plain] if plain in _TRUTHS else float(plain)
    except ValueError:
        share = np.nan
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"row {row} holds no number from 0 to 1")
    return int(share >= MEMBER_FROM)
