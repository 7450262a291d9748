"""Which decisions to leave to a human: a zone of probabilities for each label, and the work it makes.

Called by recipes/zones.py; the bundle stores zones, the predictor marks what lies in them. A label decides 'yes' at
`high` and above, 'no' below `low`, and is sent to a human between them, in [low, high). Two ways to choose the zone:

- `zones_for_quality`: outside the zone precision is at least p and at most a share r of the positive rows is missed.
  `high` is the cut of `precision=p`, `low` that of `recall=1-r`; where the two cross, no human is needed and both are
  `high`. On the fitting rows, or, with a confidence, on new rows as `decisions.risk` guarantees;
- `zones_for_workload`: a share w of the rows may go to a human, and the zone leaves the fewest errors outside it.

Where no cut has the precision, nothing is decided 'yes': `high` is ABOVE_ALL.

With `thresholds` each zone is chosen among those that hold its label's threshold, low <= threshold <= high, so that
outside the zone the threshold decides as the zone does. `high` is then the threshold itself where that has the
precision.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.decisions.binomial import clopper_pearson
from manylabel.decisions.cuts import Cuts, all_cuts, annotated_columns, check_rows, why_unjudged
from manylabel.decisions.goals import Goal, choose
from manylabel.decisions.risk import certify_precision, control_misses
from manylabel.decisions.thresholds import DEFAULT_THRESHOLD, MIN_POSITIVES, Thresholds
from manylabel.errors import BundleError, ConfigError, Finding
from manylabel.values import BoolArray, FloatArray, IntArray

ABOVE_ALL = float(np.nextafter(1.0, 2.0))
"""The least number that no probability reaches."""
ALLOWED = "precision=P,misses=R (shares outside the zones), workload=W (share of the rows), or none"


@dataclass(frozen=True)
class ZoneGoal:
    """What zones aim at: `precision` and `misses` outside them, or a `workload`; without all three, no zones."""

    precision: float | None = None
    misses: float | None = None
    workload: float | None = None

    def __post_init__(self) -> None:
        given = {name for name, number in vars(self).items() if number is not None}
        if given not in (set(), {"precision", "misses"}, {"workload"}):
            raise ValueError(f"zones need {ALLOWED}")

    @property
    def is_none(self) -> bool:
        """Whether there are to be no zones."""
        return self.precision is None and self.workload is None

    @classmethod
    def parse(cls, text: str) -> ZoneGoal:
        """Read `precision=0.9,misses=0.05` in any order, `workload=0.1` or `none`; capitals and spaces do not matter.

        Raises ConfigError where it is something else, or a number is not above 0 and below 1 (a workload may be 1).
        """
        plain = re.sub(r"\s+", "", text).lower()
        if plain == "none":
            return cls()
        numbers: dict[str, float] = {}
        for part in plain.split(","):
            name, _, value = part.partition("=")
            if name not in ("precision", "misses", "workload"):
                raise _refused(text, "this is no goal of zones")
            if name in numbers:
                raise _refused(text, f"{name} is given twice")
            numbers[name] = _number(text, name, value)
        if set(numbers) not in ({"precision", "misses"}, {"workload"}):
            alone = "workload goes alone" if "workload" in numbers else "precision and misses go together"
            raise _refused(text, alone)
        return cls(**numbers)

    def __str__(self) -> str:
        """The form that `parse` reads."""
        return (
            ",".join(f"{name}={value!r}" for name, value in vars(self).items() if value is not None) or "none"
        )


def _number(text: str, name: str, value: str) -> float:
    if not re.fullmatch(r"(\d+\.?\d*|\.\d+)(e-?\d+)?", value, re.ASCII):
        raise _refused(text, f"{name} has no number")
    number = float(value)
    if not 0.0 < number < 1.0 and not (name == "workload" and number == 1.0):
        limit = "at most 1" if name == "workload" else "below 1"
        raise _refused(text, f"{name} is {value}, not above 0 and {limit}")
    return number


def _refused(text: str, found: str) -> ConfigError:
    shown = text if len(text) <= 40 else text[:37] + "..."
    next_step = "write for example precision=0.9,misses=0.05 or workload=0.1"
    return ConfigError(Finding("C244", f'zones "{shown}"', found, ALLOWED, next_step))


@dataclass(frozen=True, eq=False)
class Zones:
    """[low, high) of each label, numbers from 0 to ABOVE_ALL; empty where the two are equal.

    `reasons` says why a label is unjudged (its zone is empty, at its threshold), `notes` what could not be reached, or
    not be guaranteed; None otherwise.
    """

    labels: tuple[str, ...]
    low_L: npt.NDArray[np.float64]
    high_L: npt.NDArray[np.float64]
    reasons: tuple[str | None, ...]
    notes: tuple[str | None, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.low_L), len(self.high_L), len(self.reasons), len(self.notes)}
        if sizes != {len(self.labels)}:
            raise ValueError("zones need two limits, one reason and one note (or None) a label")
        if not ((self.low_L >= 0.0) & (self.low_L <= self.high_L) & (self.high_L <= ABOVE_ALL)).all():
            raise ValueError("zones need 0 <= low <= high <= ABOVE_ALL")

    def decide(self, probabilities_BL: FloatArray) -> BoolArray:
        """Which labels are decided 'yes' without a human."""
        decided_BL: BoolArray = probabilities_BL >= self.high_L
        return decided_BL

    def inside(self, probabilities_BL: FloatArray) -> BoolArray:
        """Which labels a human decides."""
        inside_BL: BoolArray = (probabilities_BL >= self.low_L) & (probabilities_BL < self.high_L)
        return inside_BL

    def hold(self, thresholds: Thresholds) -> BoolArray:
        """For each label whether outside its zone the threshold decides as the zone does: low <= threshold <= high."""
        held_L: BoolArray = (self.low_L <= thresholds.values_L) & (thresholds.values_L <= self.high_L)
        return held_L

    def to_json(self) -> dict[str, object]:
        """A plain mapping for a JSON file; `from_json` gives back the same numbers to the last bit."""
        return {
            "labels": list(self.labels),
            "low": [float(low) for low in self.low_L],
            "high": [float(high) for high in self.high_L],
            "reasons": list(self.reasons),
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Zones:
        """Read what `to_json` wrote; raises BundleError where it is something else."""
        try:
            return cls(
                labels=_entries(content, "labels", str),
                low_L=np.array(_entries(content, "low", int, float), dtype=np.float64),
                high_L=np.array(_entries(content, "high", int, float), dtype=np.float64),
                reasons=_entries(content, "reasons", str, type(None)),
                notes=_entries(content, "notes", str, type(None)),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            found = "the zones are damaged"
            allowed = f"for each label a name, two numbers from 0 to {ABOVE_ALL!r} in order, and text or null"
            next_step = "restore the model folder from its source"
            raise BundleError(Finding("B453", "zones", found, allowed, next_step)) from error


def _entries(content: Mapping[str, Any], key: str, *kinds: type) -> tuple[Any, ...]:
    """A list of the mapping whose entries have these types exactly; JSON's true is no number."""
    entries = content[key]
    if not isinstance(entries, list) or not all(type(entry) in kinds for entry in entries):
        raise TypeError(f"{key} is no list of what it should hold")
    return tuple(entries)


@dataclass(frozen=True)
class Workload:
    """How many of `rows` rows a human has to look at, that is, have any label in its zone.

    `interval` is the exact one of `share` at `confidence`, None without rows. `by_label` counts each label's rows.
    On the rows that chose the zones the share is optimistic, on others it is what to expect.
    """

    rows: int
    sent: int
    share: float | None
    interval: tuple[float, float] | None
    confidence: float
    by_label: tuple[int, ...]


def measure_workload(zones: Zones, probabilities_NL: FloatArray, *, confidence: float = 0.95) -> Workload:
    """The work that the zones make on N rows."""
    inside_NL = zones.inside(probabilities_NL)
    rows, sent = len(inside_NL), int(inside_NL.any(axis=1).sum())
    return Workload(
        rows=rows,
        sent=sent,
        share=sent / rows if rows else None,
        interval=clopper_pearson(sent, rows, confidence=confidence),
        confidence=confidence,
        by_label=tuple(int(count) for count in inside_NL.sum(axis=0)),
    )


def fit_zones(
    targets_NL: IntArray,
    probabilities_NL: FloatArray,
    thresholds: Thresholds,
    goal: ZoneGoal,
    *,
    confidence: float | None = None,
    min_positives: int = MIN_POSITIVES,
) -> Zones:
    """Zones for a goal that is not `none`, around the thresholds; `confidence` is that of `zones_for_quality`.

    Raises:
        ValueError: the goal is none, or a workload with a confidence; the shapes disagree or a probability is none.

    """
    rows = targets_NL, probabilities_NL, thresholds.labels
    if goal.precision is not None and goal.misses is not None:
        return zones_for_quality(
            *rows,
            precision=goal.precision,
            miss_rate=goal.misses,
            confidence=confidence,
            min_positives=min_positives,
            thresholds=thresholds,
        )
    if goal.workload is None or confidence is not None:
        raise ValueError("there is no goal of zones, or none that can be guaranteed")
    return zones_for_workload(
        *rows, workload=goal.workload, min_positives=min_positives, thresholds=thresholds
    )


_Zone = tuple[float, float, str | None]
_Fit = Callable[[BoolArray, npt.NDArray[np.float64], float | None], _Zone]
"""From the positives, their scores and the threshold that the zone is to hold, if any, to low, high and a note."""


def zones_for_quality(
    targets_NL: IntArray,
    probabilities_NL: FloatArray,
    labels: Sequence[str],
    *,
    precision: float,
    miss_rate: float,
    confidence: float | None = None,
    min_positives: int = MIN_POSITIVES,
    thresholds: Thresholds | None = None,
) -> Zones:
    """The smallest zones outside which precision is at least `precision` and misses at most the share `miss_rate`.

    Both are between 0 and 1. Without `confidence` they hold on these rows. With it precision holds on new rows with
    that confidence and misses in the mean, for each label by itself; a limit that cannot be guaranteed is given up
    for the whole side (everything is sent to a human there), with a note. So is the precision of a threshold that
    lies above the certified one: a threshold chosen on these rows is not certified by them. An unjudged label is
    noted as not guaranteed.

    Raises:
        ValueError: a number is out of range, the shapes disagree or a probability is none.

    """
    if not (0.0 < precision < 1.0 and 0.0 < miss_rate < 1.0):
        raise ValueError("precision and miss rate must be between 0 and 1")

    def measured(positives_K: BoolArray, scores_K: npt.NDArray[np.float64], within: float | None) -> _Zone:
        above = below = cuts = all_cuts(positives_K, scores_K)
        if within is not None:
            cuts, place = _with_cut_at(cuts, scores_K, within)
            above, below = _part(cuts, slice(place + 1)), _part(cuts, slice(place, None))
        high, note = choose(above, Goal("precision", precision), DEFAULT_THRESHOLD)
        if within is not None and above.precision_C[-1] >= precision:
            high = within
        low, _ = choose(below, Goal("recall", round(1.0 - miss_rate, 12)), DEFAULT_THRESHOLD)
        return low, ABOVE_ALL if note else high, note

    def guaranteed(positives_K: BoolArray, scores_K: npt.NDArray[np.float64], within: float | None) -> _Zone:
        assert confidence is not None
        targets_K = positives_K.astype(np.int8)
        upper = certify_precision(targets_K, scores_K, precision=precision, delta=round(1.0 - confidence, 12))
        lower = control_misses(targets_K, scores_K, alpha=miss_rate)
        notes = [each.reason for each in (upper, lower) if each.reason]
        low = 0.0 if lower.threshold is None else lower.threshold
        high = ABOVE_ALL if upper.threshold is None else upper.threshold
        if within is not None and within > high:
            notes.append(f"precision is guaranteed at {high:.4f}, not at the threshold above it")
            high = ABOVE_ALL
        return low if within is None else min(low, within), high, "; ".join(notes) or None

    fit = measured if confidence is None else guaranteed
    zones = _fit_each(targets_NL, probabilities_NL, labels, fit, min_positives, thresholds)
    if confidence is None:
        return zones
    unsure = zip(zones.reasons, zones.notes, strict=True)
    return replace(
        zones, notes=tuple(f"not guaranteed: {reason}" if reason else note for reason, note in unsure)
    )


def zones_for_workload(
    targets_NL: IntArray,
    probabilities_NL: FloatArray,
    labels: Sequence[str],
    *,
    workload: float,
    min_positives: int = MIN_POSITIVES,
    thresholds: Thresholds | None = None,
) -> Zones:
    """The zones that leave the fewest errors outside them, if a share `workload` of the rows may go to a human.

    Each label gets an equal part of the share, from 0 to 1, so that the rows with any label in its zone keep to it
    whatever their overlap (on these rows, where all labels are annotated). Errors are missed positives below the zone
    and false alarms above it, counted alike; of equally good zones the smallest is taken.
    """
    if not 0.0 <= workload <= 1.0:
        raise ValueError("workload must be from 0 to 1")
    share = workload / max(len(labels), 1)

    def fewest_errors(
        positives_K: BoolArray, scores_K: npt.NDArray[np.float64], within: float | None
    ) -> _Zone:
        cuts, place = all_cuts(positives_K, scores_K), None
        if within is not None:
            cuts, place = _with_cut_at(cuts, scores_K, within)
        # The slack undoes rounding: a tenth of 30 rows is 3.
        return _fewest_errors(cuts, int(share * len(scores_K) + 1e-9), place)

    return _fit_each(targets_NL, probabilities_NL, labels, fewest_errors, min_positives, thresholds)


def _fewest_errors(cuts: Cuts, limit: int, place: int | None) -> _Zone:
    """Exact over all pairs of cuts: for each low end the widest zone within the limit has the fewest false alarms.

    With `place` only over pairs with that cut at an end or between them; the one from it to itself is always one.
    """
    ends_C = np.arange(len(cuts.decided_C))
    highest_C = ends_C if place is None else np.minimum(ends_C, place)
    widest_C = np.searchsorted(cuts.decided_C, cuts.decided_C - limit, side="left")
    allowed_C = (widest_C <= highest_C) & (ends_C >= (place or 0))
    false_alarms_C = cuts.false_positives_C[widest_C]
    # Rows at the upper end that are positive throughout need no human.
    same_C = np.searchsorted(cuts.false_positives_C, false_alarms_C, side="right") - 1
    high_C = np.minimum(same_C, highest_C)
    sizes_C = cuts.decided_C - cuts.decided_C[high_C]
    best = np.lexsort((sizes_C, cuts.missed_C + false_alarms_C, ~allowed_C))[0]
    return float(cuts.thresholds_C[best]), float(cuts.thresholds_C[high_C[best]]), None


def _with_cut_at(cuts: Cuts, scores_K: npt.NDArray[np.float64], threshold: float) -> tuple[Cuts, int]:
    """The cuts, of which the one that decides as `threshold` has it as its threshold; and the place of that cut."""
    place = int(np.searchsorted(cuts.decided_C, int((scores_K >= threshold).sum())))
    thresholds_C = cuts.thresholds_C.copy()
    thresholds_C[place] = threshold
    return replace(cuts, thresholds_C=thresholds_C), place


def _part(cuts: Cuts, part: slice) -> Cuts:
    """Some neighbouring cuts of the same rows."""
    return replace(
        cuts,
        thresholds_C=cuts.thresholds_C[part],
        decided_C=cuts.decided_C[part],
        true_positives_C=cuts.true_positives_C[part],
    )


def _fit_each(
    targets_NL: IntArray,
    probabilities_NL: FloatArray,
    labels: Sequence[str],
    fit: _Fit,
    min_positives: int,
    thresholds: Thresholds | None,
) -> Zones:
    check_rows(targets_NL, probabilities_NL, labels)
    if thresholds is not None and thresholds.labels != tuple(labels):
        raise ValueError("the thresholds are those of other labels")
    within_L = [None] * len(labels) if thresholds is None else thresholds.values_L.tolist()
    low_L = np.full(len(labels), DEFAULT_THRESHOLD) if thresholds is None else thresholds.values_L.copy()
    high_L = low_L.copy()
    reasons: list[str | None] = [None] * len(labels)
    notes: list[str | None] = [None] * len(labels)
    for column, (positives_K, scores_K) in enumerate(annotated_columns(targets_NL, probabilities_NL)):
        reasons[column] = why_unjudged(int(positives_K.sum()), len(positives_K), min_positives)
        if reasons[column] is None:
            low, high_L[column], notes[column] = fit(positives_K, scores_K, within_L[column])
            low_L[column] = min(low, high_L[column])
    return Zones(tuple(labels), low_L, high_L, tuple(reasons), tuple(notes))
