"""What zones for a human mean on rows that did not choose them: the work, and how good the rest is.

Called by recipes/evaluate.py for models with zones. A cell (one label of one row) whose probability lies in its label's
zone is sent to a human. Outside the zones the thresholds decide; how well they do is counted on annotated cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from manylabel.decisions.abstain import Zones
from manylabel.decisions.binomial import clustered_interval
from manylabel.values import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Share:
    """`count` of `total`, with the interval of the share; `share` and `interval` are None where `total` is 0."""

    count: int
    total: int
    interval: tuple[float, float] | None

    @property
    def share(self) -> float | None:
        """Count over total."""
        return self.count / self.total if self.total else None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "count": self.count,
            "of": self.total,
            "share": self.share,
            "interval": self.interval and list(self.interval),
        }


@dataclass(frozen=True)
class Review:
    """One label, or all of them together.

    `sent` is the share of cells that go to a human. Outside the zone: `accuracy` of the decisions, `precision` of
    those that are yes, and `missed`, the share of the positive cells (all of them) that are decided no there.
    """

    sent: Share
    accuracy: Share
    precision: Share
    missed: Share

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: getattr(self, name).to_json() for name in ("sent", "accuracy", "precision", "missed")}


@dataclass(frozen=True)
class ReviewFigures:
    """`rows` with any label in its zone, all cells, and each label; `ends` are the zones of the labels."""

    confidence: float
    rows: Share
    cells: Review
    labels: dict[str, Review]
    ends: dict[str, tuple[float, float]]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "confidence": self.confidence,
            "rows": self.rows.to_json(),
            "cells": self.cells.to_json(),
            "labels": {
                name: {"low": self.ends[name][0], "high": self.ends[name][1], **each.to_json()}
                for name, each in self.labels.items()
            },
        }


def review_figures(
    zones: Zones,
    targets_NL: IntArray,
    probabilities_NL: FloatArray,
    decisions_NL: BoolArray,
    *,
    groups_N: Sequence[str] | None = None,
    confidence: float = 0.95,
) -> ReviewFigures:
    """The work of the zones and the quality outside them on N rows and L labels.

    `targets_NL` holds 1, 0 and -1 (not annotated). Intervals are exact where each unit counts once, and else those of
    `decisions.binomial.clustered_interval`; units are rows, or groups where `groups_N` are given.
    """
    units_N = np.arange(len(targets_NL))
    if groups_N is not None:
        units_N = np.unique(np.asarray(groups_N), return_inverse=True)[1].reshape(-1)
    num_units = int(units_N.max()) + 1 if len(units_N) else 0

    def share(successes_N: IntArray, trials_N: IntArray) -> Share:
        """Of whole numbers for each row."""
        by_unit = (
            np.bincount(units_N, weights=each_N, minlength=num_units).astype(np.int64)
            for each_N in (successes_N, trials_N)
        )
        interval = clustered_interval(*by_unit, confidence=confidence)
        return Share(int(successes_N.sum()), int(trials_N.sum()), interval)

    inside_NL = zones.inside(probabilities_NL)

    def review(columns: slice) -> Review:
        inside, decided = inside_NL[:, columns], decisions_NL[:, columns]
        annotated, positive = targets_NL[:, columns] >= 0, targets_NL[:, columns] == 1
        outside = annotated & ~inside
        counts = {
            "sent": (inside, np.ones_like(inside)),
            "accuracy": (outside & (decided == positive), outside),
            "precision": (outside & decided & positive, outside & decided),
            "missed": (outside & ~decided & positive, positive),
        }
        return Review(**{name: share(_by_row(hits), _by_row(of)) for name, (hits, of) in counts.items()})

    return ReviewFigures(
        confidence=confidence,
        rows=share((_by_row(inside_NL) > 0).astype(np.int64), np.ones(len(inside_NL), np.int64)),
        cells=review(slice(None)),
        labels={name: review(slice(column, column + 1)) for column, name in enumerate(zones.labels)},
        ends={
            name: (float(low), float(high))
            for name, low, high in zip(zones.labels, zones.low_L, zones.high_L, strict=True)
        },
    )


def _by_row(marks_NL: BoolArray) -> IntArray:
    """How many cells of each row are marked."""
    counts_N: IntArray = np.count_nonzero(marks_NL, axis=1)
    return counts_N
