"""The zones for a human in a new version of a model: fitted, kept or removed; called by recipes/thresholds.py."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from manylabel.bundle.contents import Bundle
from manylabel.decisions.abstain import Workload, ZoneGoal, Zones, fit_zones, measure_workload
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import Finding, UsageError
from manylabel.values import FloatArray, IntArray

ZONES_FITTED = "zones goal"
"""The entry of a manifest's training facts that says what the zones aim at."""
MAX_LABELS_NAMED = 3


@dataclass(frozen=True, eq=False)
class NewZones:
    """The zones of the new version, how they came about, what they aim at, and the work they make on the rows.

    `change` is None where there were none and are none.
    """

    zones: Zones | None
    change: Literal["fitted", "kept", "removed"] | None
    goal: str | None = None
    workload: Workload | None = None

    def to_json(self) -> dict[str, object] | None:
        """Plain values: the ends of each label's zone and how many rows lie in it; null where nothing is to be said."""
        if self.change is None:
            return None
        content: dict[str, object] = {"change": self.change, "goal": self.goal}
        zones, work = self.zones, self.workload
        if zones is None or work is None:
            return content
        columns = (zones.low_L, zones.high_L, zones.reasons, zones.notes, work.by_label)
        content["labels"] = {
            name: {"low": float(low), "high": float(high), "reason": reason, "note": note, "rows": rows}
            for name, low, high, reason, note, rows in zip(zones.labels, *columns, strict=True)
        }
        content["workload"] = {
            "rows": work.rows,
            "sent": work.sent,
            "share": work.share,
            "interval": work.interval and list(work.interval),
            "confidence": work.confidence,
        }
        return content


def zones_differ(old: Zones | None, new: NewZones) -> bool:
    """Whether the new version has other zones than the model."""
    if new.change in (None, "kept"):
        return False
    if old is None or new.zones is None:
        return old is not new.zones
    ends = ((old.low_L, new.zones.low_L), (old.high_L, new.zones.high_L))
    return old.notes != new.zones.notes or not all(np.array_equal(one, other) for one, other in ends)


def check_can_be_guaranteed(goal: ZoneGoal | None) -> None:
    """Raise UsageError for a workload: no theorem is about it."""
    if goal is not None and goal.workload is not None:
        raise UsageError(
            Finding("U281", "--guarantee", f"{goal} cannot be guaranteed", "precision=P,misses=R",
                    "give such a goal to --abstain, or leave out --guarantee")
        )  # fmt: skip


def new_zones(
    bundle: Bundle,
    thresholds: Thresholds,
    targets_NL: IntArray,
    probabilities_NL: FloatArray,
    *,
    goal: ZoneGoal | None,
    confidence: float,
    guarantee: bool = False,
) -> NewZones:
    """The zones around the new thresholds: fitted for `goal` on these rows for all labels, none for the goal none.

    Without a goal the zones of the model stay, if each still holds its threshold; raises UsageError where one does
    not. `confidence` is that of the workload's interval and of a guarantee.
    """
    if goal is not None and goal.is_none:
        return NewZones(None, None if bundle.zones is None else "removed")
    if goal is not None:
        zones = fit_zones(
            targets_NL,
            probabilities_NL,
            thresholds,
            goal,
            confidence=confidence if guarantee else None,
            min_positives=bundle.settings.decisions.min_positives,
        )
        words = f"{goal} (guaranteed with confidence {confidence:g} where no note says otherwise)"
        work = measure_workload(zones, probabilities_NL, confidence=confidence)
        return NewZones(zones, "fitted", words if guarantee else str(goal), work)
    if bundle.zones is None:
        return NewZones(None, None)
    zones = _kept(bundle.zones, thresholds)
    known = bundle.provenance.training.get(ZONES_FITTED)
    work = measure_workload(zones, probabilities_NL, confidence=confidence)
    return NewZones(zones, "kept", None if known is None else str(known), work)


def _kept(zones: Zones, thresholds: Thresholds) -> Zones:
    """The zones as they are; only the empty ones of unjudged labels, which promise nothing, go with the thresholds."""
    unjudged_L = np.array([reason is not None for reason in zones.reasons])
    moved = replace(
        zones,
        low_L=np.where(unjudged_L, thresholds.values_L, zones.low_L),
        high_L=np.where(unjudged_L, thresholds.values_L, zones.high_L),
    )
    outside = np.flatnonzero(~moved.hold(thresholds))
    if len(outside):
        parts = [
            f"{thresholds.values_L[column]:.4f} of {thresholds.labels[column]} "
            f"(zone {moved.low_L[column]:.4f} to {moved.high_L[column]:.4f})"
            for column in outside[:MAX_LABELS_NAMED]
        ]
        more = f" and {len(outside) - MAX_LABELS_NAMED} more" if len(outside) > MAX_LABELS_NAMED else ""
        raise UsageError(
            Finding(
                "U284",
                "zones of the model",
                f"new thresholds lie outside the zones: {', '.join(parts)}{more}",
                "a threshold in its zone or at its end",
                "add --abstain with what the zones are to aim at, to fit them anew, or --no-abstain to remove them",
            )
        )
    return moved
