"""Rows with everything their figures are computed from, scored once; called by the recipes that judge a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.bundle.contents import Bundle, FittedBaseline
from manylabel.config.schema import EvaluationSettings
from manylabel.data.duplicates import LeakAudit, raw_fingerprints, text_fingerprints
from manylabel.data.sketches import nearly_seen
from manylabel.decisions.calibration import Calibration
from manylabel.decisions.thresholds import Thresholds
from manylabel.evaluation.weighted import Judged
from manylabel.inference.predictor import Predictor
from manylabel.recipes.corpora import Corpora, all_texts
from manylabel.values import BoolArray, Corpus, FloatArray


@dataclass(frozen=True, eq=False)
class Scored:
    """N rows, the model's logits and calibrated probabilities for them, the baseline's probabilities.

    `truncated_N` are the texts that were cut. Decisions are those of the thresholds, except for rows that were scored
    out of fold: these were decided by thresholds of other rows.
    """

    corpus: Corpus
    logits_NL: npt.NDArray[np.float32]
    probabilities_NL: npt.NDArray[np.float64]
    of_baseline_NL: npt.NDArray[np.float64]
    truncated_N: npt.NDArray[np.bool_]
    calibration: Calibration
    thresholds: Thresholds
    baseline_thresholds: Thresholds
    decisions_NL: npt.NDArray[np.bool_]
    baseline_decisions_NL: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.corpus)

    @property
    def uncalibrated_NL(self) -> npt.NDArray[np.float64]:
        """The probabilities that the model would give without calibration."""
        return Calibration.identity(self.calibration.labels).apply(self.logits_NL)

    def judged(self, settings: EvaluationSettings) -> Judged:
        """Truth, probabilities and decisions of the model."""
        return self._judged(self.probabilities_NL, self.decisions_NL, settings)

    def judged_baseline(self, settings: EvaluationSettings) -> Judged:
        """The same of the baseline."""
        return self._judged(self.of_baseline_NL, self.baseline_decisions_NL, settings)

    def _judged(
        self, probabilities_NL: FloatArray, decisions_NL: BoolArray, settings: EvaluationSettings
    ) -> Judged:
        costs = (settings.cost_false_negative, settings.cost_false_positive)
        return Judged(self.thresholds.labels, self.corpus.targets_NL, probabilities_NL, decisions_NL, costs)

    @property
    def groups(self) -> tuple[str, ...] | None:
        """See `units_of`."""
        return units_of(self.corpus.groups)


def units_of(groups: Sequence[str] | None) -> tuple[str, ...] | None:
    """The group of each row, where a row without one is a group of its own; None without groups."""
    if groups is None:
        return None
    return tuple(f"group {group}" if group else f"row {row}" for row, group in enumerate(groups))


def score_rows(
    predictor: Predictor,
    baseline: FittedBaseline,
    corpus: Corpus,
    *,
    on_batch: Callable[[int], None] | None = None,
) -> Scored:
    """One pass of the model and of the baseline over the rows."""
    logits_NL, truncated_N = predictor.logits(corpus.texts, corpus.pairs, on_batch=on_batch)
    probabilities_NL = predictor.calibration.apply(logits_NL)
    of_baseline_NL = baseline.model.probabilities(all_texts(corpus))
    return Scored(
        corpus=corpus,
        logits_NL=logits_NL,
        probabilities_NL=probabilities_NL,
        of_baseline_NL=of_baseline_NL,
        truncated_N=truncated_N,
        calibration=predictor.calibration,
        thresholds=predictor.thresholds,
        baseline_thresholds=baseline.thresholds,
        decisions_NL=predictor.thresholds.decide(probabilities_NL),
        baseline_decisions_NL=baseline.thresholds.decide(of_baseline_NL),
    )


def seen_rows(bundle: Bundle, texts: Sequence[str]) -> LeakAudit:
    """Which of N texts made the model: as they are, after normalisation, or - by its sketches - nearly.

    A model saved before there were sketches tells copies only, one from before 0.2 none that are identical.
    """
    exact_N = np.isin(text_fingerprints(texts), bundle.seen_texts)
    identical = bundle.seen_parts.get("identical")
    identical_N = np.isin(raw_fingerprints(texts), identical) if identical is not None else exact_N
    near_N = np.zeros_like(exact_N)
    if bundle.seen_sketches is not None:
        similarity = bundle.settings.split.near_duplicate_similarity
        near_N = ~exact_N & nearly_seen(texts, bundle.seen_sketches, similarity=similarity)
    return LeakAudit(exact_N, near_N, identical_N & exact_N)


def rows_by_role(
    seen_texts: npt.NDArray[np.uint64], seen_parts: Mapping[str, npt.NDArray[np.uint64]], texts: Sequence[str]
) -> dict[str, int]:
    """How many of the texts were rows of each role that decides something: training, validation, calibration.

    The first two are those of a `Bundle`.
    """
    prints_N = text_fingerprints(texts)
    chose = {
        role: np.isin(prints_N, seen_parts[role])
        for role in ("validation", "calibration")
        if role in seen_parts
    }
    train_N = np.isin(prints_N, seen_texts)
    for chosen_N in chose.values():
        train_N &= ~chosen_N
    return {"train": int(train_N.sum()), **{role: int(chosen_N.sum()) for role, chosen_N in chose.items()}}


def parts_of_seen(corpora: Corpora) -> dict[str, npt.NDArray[np.uint64]]:
    """Fingerprints of the texts as they are, and by role of those that chose something, for `Bundle.seen_parts`."""
    # Out of fold all rows choose calibration and thresholds.
    calibration = corpora.whole if corpora.whole is not None else corpora.calibration
    chose = {"validation": corpora.validation, "calibration": calibration}
    by_role = {role: np.unique(text_fingerprints(all_texts(rows))) for role, rows in chose.items()}
    return {"identical": np.unique(raw_fingerprints(corpora.seen_texts())), **by_role}
