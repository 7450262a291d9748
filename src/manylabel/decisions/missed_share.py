"""The guarantee over all labels: how much of a new row's labels may be missed; called by recipes/guarantees.py.

How it is written: `missed-share=0.1` is about all rows, `missed-share=0.1,labelled` about rows that carry a label. The
theorem and the threshold are those of `decisions.risk.control_missed_share`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from manylabel.decisions.risk import Controlled, control_missed_share
from manylabel.errors import ConfigError, Finding
from manylabel.values import BoolArray, FloatArray, IntArray

NAME = "missed-share"
ALLOWED = f"{NAME}=A, or {NAME}=A,labelled for rows that carry a label; A above 0 and below 1"


@dataclass(frozen=True)
class MissedShare:
    """On average at most the share `alpha` of a row's labels is to be missed, with one threshold for all labels.

    A row without any label has nothing to miss and counts as 0, unless `labelled_only`.
    """

    alpha: float
    labelled_only: bool = False

    @classmethod
    def parse(cls, text: str) -> MissedShare:
        """Read `missed-share=0.1` or `missed-share=0.1,labelled`; capitals and spaces do not matter.

        Raises ConfigError where it is something else or the share is not above 0 and below 1.
        """
        plain = re.sub(r"\s+", "", text).lower()
        found = re.fullmatch(rf"{NAME}=((?:\d+\.?\d*|\.\d+)(?:e-?\d+)?)(,labelled)?", plain, re.ASCII)
        if found is None or not 0.0 < float(found[1]) < 1.0:
            shown = text if len(text) <= 40 else text[:37] + "..."
            raise ConfigError(
                Finding("C246", f'goal "{shown}"', "this is no share of missed labels", ALLOWED,
                        f"write for example {NAME}=0.1")
            )  # fmt: skip
        return cls(float(found[1]), found[2] is not None)

    def __str__(self) -> str:
        """The form that `parse` reads."""
        return f"{NAME}={self.alpha!r}" + (",labelled" if self.labelled_only else "")

    @property
    def promise(self) -> str:
        """What is guaranteed, in words."""
        row = "new row with a label" if self.labelled_only else "new row"
        return f"on average at most {self.alpha:g} of the labels of a {row} are missed (one threshold for all labels)"

    def control(self, targets_NL: IntArray, probabilities_NL: FloatArray) -> Controlled:
        """The highest threshold for all labels that keeps the promise, or why there is none."""
        return control_missed_share(
            targets_NL, probabilities_NL, alpha=self.alpha, labelled_only=self.labelled_only
        )

    def measure(self, targets_NL: IntArray, decisions_NL: BoolArray) -> float | None:
        """The mean share of a row's labels that is missed on these N rows, counted as promised; None without rows."""
        positive_NL = targets_NL == 1
        labels_N = positive_NL.sum(axis=1)
        counted_N = labels_N > 0 if self.labelled_only else (targets_NL >= 0).any(axis=1)
        if not counted_N.any():
            return None
        missed_N = (positive_NL & ~decisions_NL).sum(axis=1) / labels_N.clip(min=1)
        return float(missed_N[counted_N].mean())
