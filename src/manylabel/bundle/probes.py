"""Golden probes: fixed texts whose probabilities are stored with a model and computed again at every load.

Hashes show that no byte changed; probes show that the bytes still mean the same on this machine, with these
library versions and this code. The texts are ours, never a user's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from manylabel.errors import BundleError, Finding
from manylabel.values import FloatArray

PROBE_TEXTS = (
    "Hello, where is my order? It should have been here on Monday.",
    "What an idiotic thing to say.",
    "Thank you so much, this made my day!",
    "",
    "I was charged twice, the app crashes at every start and nobody answers my e-mails. Please cancel everything.",
    "Ein Satz auf Deutsch, une phrase en français, と日本語。",
    "a " * 60,
    "[SEP] <s> 1,234.56 % @user #tag http://example.org/?q=1 :-)",
)
TOLERANCE = 1e-5
"""Largest difference of a probability, fp32: packed and padded kernels differ by less than 1e-6."""

Probabilities = Callable[[Sequence[str], Sequence[str] | None], FloatArray]


@dataclass(frozen=True, eq=False)
class Probes:
    """Probabilities of the probe texts, one list a label name, so that swapped names are found as well."""

    probabilities: dict[str, tuple[float, ...]]

    @classmethod
    def record(cls, compute: Probabilities, labels: Sequence[str], *, takes_pairs: bool) -> Probes:
        """Run the probe texts through a model."""
        probabilities_BL = compute(PROBE_TEXTS, _pairs(takes_pairs))
        return cls({name: tuple(map(float, probabilities_BL[:, i])) for i, name in enumerate(labels)})

    def check(self, compute: Probabilities, labels: Sequence[str], *, takes_pairs: bool, place: str) -> float:
        """Run them again; the largest difference found.

        Raises BundleError when a probability is not a number or differs by more than the tolerance.
        """
        now = Probes.record(compute, labels, takes_pairs=takes_pairs).probabilities
        worst = 0.0
        for name, expected in self.probabilities.items():
            difference = float(np.max(np.abs(np.subtract(now.get(name, np.nan), expected))))
            if not difference <= TOLERANCE:
                raise BundleError(_differs(place, name, difference))
            worst = max(worst, difference)
        return worst

    def to_json(self) -> dict[str, Any]:
        """A plain mapping; floats round-trip exactly."""
        return {"probabilities": {name: list(values) for name, values in self.probabilities.items()}}

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Probes:
        """The way back."""
        return cls({name: tuple(values) for name, values in content["probabilities"].items()})


def _pairs(takes_pairs: bool) -> Sequence[str] | None:
    """The texts in reverse order as second texts."""
    return PROBE_TEXTS[::-1] if takes_pairs else None


def _differs(place: str, label: str, difference: float) -> Finding:
    found = "not a number" if np.isnan(difference) else f"{difference:.2e} away"
    return Finding(
        "B409",
        place,
        f'the model no longer gives its recorded probabilities (label "{label}": {found})',
        f"a difference of at most {TOLERANCE:g}",
        "use the library versions in manifest.json, or train the model again",
    )
