"""What an explanation says, as values; made by `explain`, shown by the command and by `report.highlight`. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from manylabel.text.words import Word

Method = Literal["integrated-gradients", "occlusion"]
METHODS: tuple[Method, ...] = ("integrated-gradients", "occlusion")
CAUTION = (
    "This shows what the model reacted to in this text. It is no proof that the answer is right, nor of what the "
    "model would do with other words: words that come together share or hide weight. Change the text and predict "
    "again before you rely on it."
)
LARGEST_COMPLETENESS_ERROR = 0.05
"""Relative error from which the integral is too coarse to be believed, and a warning says so."""
SMALLEST_DIFFERENCE = 1e-3
"""Change of a logit below which a relative error says nothing: rounding of fp32 alone is about 1e-6 to 1e-5."""
LOWEST_AGREEMENT = 0.3
"""Rank correlation with occlusion below which a warning says that the two methods disagree (our choice)."""
FEWEST_WORDS_TO_DISAGREE = 5
FEWEST_WORDS_TO_RANK = 3
SMALLEST_SCALE = 0.01
"""Weight of a whole bar at least: where all words weigh next to nothing, none may look strong."""


def signed(value: float) -> str:
    """A weight with its sign and two decimals; what rounds to nothing has no sign."""
    shown = f"{value:+.2f}"
    return "0.00" if float(shown) == 0.0 else shown


@dataclass(frozen=True)
class Measure:
    """A figure, or None and the reason why it has no meaning."""

    value: float | None
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class LabelExplanation:
    """What each of W words adds to one label's logit (log-odds, before calibration).

    `attributions_W` add up to `logit - baseline_logit`, except for `other_tokens` (tokens without a word) and
    `completeness_error`; for occlusion, where nothing has to add up, the error is None. `occlusion_W` is what
    the logit loses when the word alone is masked.
    """

    name: str
    probability: float
    threshold: float
    decided: bool
    logit: float
    baseline_logit: float
    attributions_W: npt.NDArray[np.float64]
    other_tokens: float
    occlusion_W: npt.NDArray[np.float64]
    completeness_error: float | None
    rank_correlation: Measure

    @property
    def relative_error(self) -> float | None:
        """`completeness_error` as a share of the change of the logit; None where that is next to nothing."""
        difference = abs(self.logit - self.baseline_logit)
        if self.completeness_error is None or difference < SMALLEST_DIFFERENCE:
            return None
        return self.completeness_error / difference

    @property
    def strengths_W(self) -> npt.NDArray[np.float64]:
        """Size of each attribution as a share of the largest, in [0, 1]; for bars and colours."""
        sizes_W = np.abs(self.attributions_W)
        return sizes_W / max(float(sizes_W.max(initial=0.0)), SMALLEST_SCALE)

    def strongest(self, sign: int, limit: int) -> list[int]:
        """Indices of at most `limit` words for the label (`sign` 1) or against it (-1), the strongest first.

        Words whose weight rounds to nothing are left out.
        """
        order = np.argsort(-sign * self.attributions_W, kind="stable")[:limit]
        return [int(index) for index in order if sign * self.attributions_W[index] > SMALLEST_SCALE / 2]

    def warnings(self) -> Iterator[str]:
        """What makes this explanation hard to believe."""
        error = self.relative_error
        if error is not None and error > LARGEST_COMPLETENESS_ERROR:
            yield (
                f"{self.name}: the parts miss the whole by {100 * error:.1f} % "
                f"(more than {100 * LARGEST_COMPLETENESS_ERROR:.0f} %); take more --steps"
            )
        agreement = self.rank_correlation.value
        enough = len(self.attributions_W) >= FEWEST_WORDS_TO_DISAGREE
        if agreement is not None and agreement < LOWEST_AGREEMENT and enough:
            yield (
                f"{self.name}: masking the words one by one ranks them differently "
                f"(rank correlation {agreement:.2f}); rely on neither order"
            )

    def to_json(self) -> dict[str, Any]:
        """Plain values; lists have one number a word."""
        return {
            "probability": self.probability,
            "threshold": self.threshold,
            "decided": self.decided,
            "logit": self.logit,
            "baseline_logit": self.baseline_logit,
            "attributions": self.attributions_W.tolist(),
            "other_tokens": self.other_tokens,
            "completeness_error": self.completeness_error,
            "completeness_error_relative": self.relative_error,
            "occlusion": self.occlusion_W.tolist(),
            "rank_correlation": self.rank_correlation.value,
            "rank_correlation_reason": self.rank_correlation.reason,
        }


@dataclass(frozen=True, eq=False)
class Explanation:
    """One text explained for some labels; `steps` is None for occlusion. `mask_token` stands for absent words.

    `member` names the network of an ensemble that was explained.
    """

    method: Method
    steps: int | None
    mask_token: str
    num_tokens: int
    truncated: bool
    words: tuple[Word, ...]
    labels: tuple[LabelExplanation, ...]
    member: str | None = None

    def warnings(self) -> list[str]:
        """All that makes the explanation incomplete or hard to believe, in sentences."""
        told = []
        if self.member is not None:
            told.append(
                f"this is {self.member} alone, one network of the ensemble: the ensemble's probability is another one, "
                "and the thresholds are the ensemble's"
            )
        if not self.words:
            told.append(
                "the text is empty: there is no word to explain, and the probability is that of no text"
            )
        if self.truncated:
            told.append(
                f"the text is longer than the {self.num_tokens} tokens that the model reads; its end was cut, "
                "as in prediction, and has no part in the result"
            )
        unread = sum(word.num_tokens == 0 for word in self.words)
        if unread:
            told.append(f"words that the tokenizer drops whole, so that the model never sees them: {unread}")
        return told + [warning for label in self.labels for warning in label.warnings()]

    def to_json(self) -> dict[str, Any]:
        """The form of `manylabel explain --json`."""
        return {
            **({} if self.member is None else {"member": self.member}),
            "method": self.method,
            "steps": self.steps,
            "baseline": self.mask_token,
            "tokens": self.num_tokens,
            "truncated": self.truncated,
            "words": [
                {
                    "text": word.text,
                    "part": word.part,
                    "start": word.start,
                    "end": word.end,
                    "tokens": word.num_tokens,
                }
                for word in self.words
            ],
            "labels": {label.name: label.to_json() for label in self.labels},
            "warnings": self.warnings(),
            "caution": CAUTION,
        }
