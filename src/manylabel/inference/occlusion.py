"""What a logit loses when one word is masked: a second opinion without gradients, and rank correlation with the first.

Called by `explain`. The same baseline as for integrated gradients: the mask token in the place of every token.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manylabel.inference.backends.base import Backend
from manylabel.inference.explanation import FEWEST_WORDS_TO_RANK, Measure
from manylabel.inference.scorer import score
from manylabel.text.words import TokenizedWords
from manylabel.values import Encodings


@dataclass(frozen=True, eq=False)
class Occlusion:
    """Logits of the text, of the text with every word masked, and what masking each of W words alone takes away."""

    logits_L: npt.NDArray[np.float64]
    baseline_logits_L: npt.NDArray[np.float64]
    differences_WL: npt.NDArray[np.float64]


def occlude(backend: Backend, text: TokenizedWords, *, token_budget: int) -> Occlusion:
    """Score the text, the baseline and one variant a word, in batches of at most `token_budget` tokens.

    A word without tokens takes exactly 0 away.
    """
    num_words = len(text.words)
    variants = [text.ids_T, text.masked_T, *(text.without_word(word) for word in range(num_words))]
    logits_VL = score(backend, _stacked(variants, text.segments_T), token_budget=token_budget).astype(
        np.float64
    )
    differences_WL = logits_VL[0] - logits_VL[2:]
    # Batches differ in size, and so do the last bits of their sums; what was not masked cannot matter.
    differences_WL[[word.num_tokens == 0 for word in text.words]] = 0.0
    return Occlusion(logits_VL[0], logits_VL[1], differences_WL)


def rank_correlation(first_W: npt.NDArray[np.float64], second_W: npt.NDArray[np.float64]) -> Measure:
    """Spearman's rank correlation in [-1, 1], ties by mean ranks; without meaning for few words or constant values."""
    if len(first_W) < FEWEST_WORDS_TO_RANK:
        return Measure(None, f"fewer than {FEWEST_WORDS_TO_RANK} words")
    if np.ptp(first_W) == 0.0 or np.ptp(second_W) == 0.0:
        return Measure(None, "all words have the same weight")
    from scipy.stats import rankdata

    return Measure(float(np.corrcoef(rankdata(first_W), rankdata(second_W))[0, 1]))


def _stacked(variants: list[npt.NDArray[np.int32]], segments_T: npt.NDArray[np.uint8]) -> Encodings:
    """Texts of one length and one division into text and pair."""
    length, num_texts = len(segments_T), len(variants)
    return Encodings(
        ids_T=np.concatenate(variants).astype(np.int32),
        segments_T=np.tile(segments_T, num_texts),
        offsets_N1=np.arange(num_texts + 1, dtype=np.int64) * length,
        truncated_N=np.zeros(num_texts, np.bool_),
    )
