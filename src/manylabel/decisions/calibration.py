"""From logit to probability: one rising map a label, applied alike in Python, the command line and every backend.

Training fits the maps (`calibration_fit`), the bundle stores them, the predictor and the evaluation apply them.

With z a logit, the logistic function `s(t) = 1 / (1 + exp(-t))` and `softplus(t) = ln(1 + exp(t))`:

    none          s(z)
    temperature   s(slope z)                                                           slope > 0
    platt         s(slope z + intercept)                                               slope > 0
    beta          s(rise_low ln s(z) - rise_high ln(1 - s(z)) + intercept)             both rises >= 0, not both 0
    isotonic      linear between knots (logit, probability), constant outside          knots rising

Beta is Kull, Silva Filho and Flach (2017), eq. 5, with a = rise_low, b = rise_high and c = intercept; in terms of
the logit, `ln s(z) = -softplus(-z)` and `ln(1 - s(z)) = -softplus(z)`.

No map turns the order of two logits around, rounding included: fitted maps clip logits and scores to +-700 and
round what enters the logistic function (and softplus) to multiples of 2^-36, far above the error of float64
arithmetic, so that a higher logit gets an equal or a higher probability. This moves a probability by less than
one part in 10^10 per unit of slope. `none` is the plain logistic function: there two float64 logits that differ by
the last bit alone may change places by the last bit of the probability; float32 logits cannot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from manylabel.errors import BundleError, Finding
from manylabel.values import FloatArray

Floats = npt.NDArray[np.float64]

LOGIT_LIMIT = 700.0
"""Fitted maps take logits as at most this far from 0; the exponential function is near underflow there."""
GRID = 2.0**-36
LARGEST = 1e9
"""Bound of every stored number, so that no sum or product overflows."""


def sigmoid(logits: FloatArray) -> Floats:
    """The logistic function in float64, without overflow for any finite input."""
    logits = logits.astype(np.float64)
    small = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, small) / (1.0 + small)


def softplus(logits: FloatArray) -> Floats:
    """`ln(1 + exp(logits))` in float64, without overflow: minus the logarithm of `sigmoid(-logits)`."""
    result: Floats = np.maximum(logits, 0.0) + np.log1p(np.exp(-np.abs(logits)))
    return result


def within_limit(logits: FloatArray) -> Floats:
    """The logits in float64, clipped to +-`LOGIT_LIMIT`."""
    return np.clip(logits.astype(np.float64), -LOGIT_LIMIT, LOGIT_LIMIT)


def _on_grid(scores: FloatArray) -> Floats:
    # Scaling by a power of two is exact, and rounding to a grid keeps the order.
    rounded: Floats = np.rint(within_limit(scores) / GRID) * GRID
    return rounded


@dataclass(frozen=True)
class Identity:
    """No calibration: the logistic function."""

    method: ClassVar[str] = "none"

    def apply(self, logits: FloatArray) -> Floats:
        """Probabilities of logits of any shape."""
        return sigmoid(logits)


@dataclass(frozen=True)
class Temperature:
    """The logit times a positive slope (1 / temperature)."""

    method: ClassVar[str] = "temperature"
    slope: float

    def __post_init__(self) -> None:
        _check(self.slope > 0.0, "the slope is not positive")
        _check_sizes(self.slope)

    def apply(self, logits: FloatArray) -> Floats:
        """Probabilities of logits of any shape."""
        return sigmoid(_on_grid(self.slope * within_limit(logits)))


@dataclass(frozen=True)
class Platt:
    """A straight line with positive slope through the logits."""

    method: ClassVar[str] = "platt"
    slope: float
    intercept: float

    def __post_init__(self) -> None:
        _check(self.slope > 0.0, "the slope is not positive")
        _check_sizes(self.slope, self.intercept)

    def apply(self, logits: FloatArray) -> Floats:
        """Probabilities of logits of any shape."""
        return sigmoid(_on_grid(self.slope * within_limit(logits) + self.intercept))


@dataclass(frozen=True)
class Beta:
    """Slope `rise_low` far below logit 0, `rise_high` far above it, a smooth bend between them."""

    method: ClassVar[str] = "beta"
    rise_low: float
    rise_high: float
    intercept: float

    def __post_init__(self) -> None:
        _check(self.rise_low >= 0.0 and self.rise_high >= 0.0, "a rise is negative")
        _check(self.rise_low > 0.0 or self.rise_high > 0.0, "both rises are 0")
        _check_sizes(self.rise_low, self.rise_high, self.intercept)

    def apply(self, logits: FloatArray) -> Floats:
        """Probabilities of logits of any shape."""
        # On the grid softplus itself keeps the order; the sum and the difference then do too.
        logits = _on_grid(logits)
        raised = self.intercept + self.rise_high * softplus(logits)
        return sigmoid(_on_grid(raised - self.rise_low * softplus(-logits)))


@dataclass(frozen=True)
class Isotonic:
    """Straight lines between knots: `logits` strictly rising, `probabilities` in [0, 1] never falling."""

    method: ClassVar[str] = "isotonic"
    logits: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        _check(len(self.logits) == len(self.probabilities), "logits and probabilities differ in number")
        _check(len(self.logits) >= 2, "there are fewer than two knots")
        _check_sizes(*self.logits, *self.probabilities)
        _check(bool((np.diff(self.logits) > 0.0).all()), "the logits of the knots do not rise")
        _check(bool((np.diff(self.probabilities) >= 0.0).all()), "the probabilities of the knots fall")
        _check(
            0.0 <= self.probabilities[0] <= self.probabilities[-1] <= 1.0, "a probability is outside [0, 1]"
        )

    def apply(self, logits: FloatArray) -> Floats:
        """Probabilities of logits of any shape."""
        knots_K, values_K = np.array(self.logits), np.array(self.probabilities)
        inside = np.clip(logits.astype(np.float64), knots_K[0], knots_K[-1])
        left = np.clip(np.searchsorted(knots_K, inside, side="right") - 1, 0, len(knots_K) - 2)
        low, high = values_K[left], values_K[left + 1]
        share = (inside - knots_K[left]) / (knots_K[left + 1] - knots_K[left])
        # The sum can round to just above the next knot, which would turn the order around there.
        result: Floats = np.minimum(low + share * (high - low), high)
        return result


LabelMap = Identity | Temperature | Platt | Beta | Isotonic

_KINDS: Mapping[str, type[LabelMap]] = {
    kind.method: kind for kind in (Identity, Temperature, Platt, Beta, Isotonic)
}
METHODS = tuple(_KINDS)
"""Names of all maps, the simpler first."""
_LISTS = ("logits", "probabilities")


def _check(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _check_sizes(*numbers: float) -> None:
    # A comparison with NaN is false, so this finds it too.
    _check(all(abs(number) <= LARGEST for number in numbers), f"a number is not finite or beyond {LARGEST:g}")


@dataclass(frozen=True)
class Calibration:
    """One map a label, in label order."""

    labels: tuple[str, ...]
    maps: tuple[LabelMap, ...]

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.maps):
            raise ValueError("calibration needs one map a label")

    @classmethod
    def identity(cls, labels: Sequence[str]) -> Calibration:
        """No label calibrated."""
        return cls(tuple(labels), (Identity(),) * len(labels))

    @property
    def methods(self) -> dict[str, str]:
        """Label name -> none, temperature, platt, beta or isotonic."""
        return {name: each.method for name, each in zip(self.labels, self.maps, strict=True)}

    def apply(self, logits_NL: FloatArray) -> Floats:
        """Probabilities in [0, 1], N x L, float64; within a label in the order of the logits.

        Raises ValueError when there is not one column a label. A logit that is not a number stays one.
        """
        if logits_NL.ndim != 2 or logits_NL.shape[1] != len(self.labels):
            raise ValueError(f"logits are {logits_NL.shape}, expected {len(self.labels)} columns")
        probabilities_NL = sigmoid(logits_NL)
        for each, columns in self._columns.items():
            if not isinstance(each, Identity):
                probabilities_NL[:, columns] = each.apply(logits_NL[:, columns])
        return probabilities_NL

    @cached_property
    def _columns(self) -> dict[LabelMap, list[int]]:
        # Labels that share a map, as rare ones do, are computed together.
        columns: dict[LabelMap, list[int]] = {}
        for column, each in enumerate(self.maps):
            columns.setdefault(each, []).append(column)
        return columns

    def to_json(self) -> dict[str, object]:
        """A plain mapping for a JSON file; `from_json` gives back the same numbers to the last bit."""
        return {"labels": list(self.labels), "maps": [_map_to_json(each) for each in self.maps]}

    @classmethod
    def from_json(cls, content: object) -> Calibration:
        """Read what `to_json` wrote.

        Raises:
            BundleError: an entry is missing, unknown, of another length or type, not finite, or a map falls.

        """
        labels, entries = (_entries(content, key) for key in ("labels", "maps"))
        problems = _wrong_lists(content, labels, entries)
        maps: list[LabelMap] = []
        for place, entry in enumerate(entries, start=1):
            try:
                maps.append(_map_from_json(entry))
            except ValueError as problem:
                problems.append(f"map {place}: {problem}")
        if problems:
            raise BundleError(*(_finding(problem) for problem in problems))
        return cls(tuple(str(name) for name in labels), tuple(maps))


def _map_to_json(each: LabelMap) -> dict[str, object]:
    values = {field.name: getattr(each, field.name) for field in fields(each)}
    plain = {name: list(value) if name in _LISTS else value for name, value in values.items()}
    return {"method": each.method, **plain}


def _map_from_json(entry: object) -> LabelMap:
    if not isinstance(entry, Mapping):
        raise ValueError("it is not an object")
    method = entry.get("method")
    if not isinstance(method, str) or method not in _KINDS:
        raise ValueError("its method is unknown")
    kind = _KINDS[method]
    names = [field.name for field in fields(kind)]
    if set(entry) != {"method", *names}:
        raise ValueError(f"{method} has the entries {', '.join(['method', *names])} and no others")
    values: dict[str, Any] = {name: _numbers(name, entry[name]) for name in names}
    return kind(**values)


def _numbers(name: str, value: object) -> float | tuple[float, ...]:
    if name not in _LISTS:
        return _number(name, value)
    if not isinstance(value, list | tuple):
        raise ValueError(f"{name} is not a list")
    return tuple(_number(name, each) for each in value)


def _number(name: str, value: object) -> float:
    # JSON's true is an int to Python, but no number; an int may be too large for a float.
    if type(value) not in (int, float) or not abs(value) <= LARGEST:  # type: ignore[arg-type]
        raise ValueError(f"{name} holds something else than finite numbers up to {LARGEST:g}")
    return float(value)  # type: ignore[arg-type]


def _entries(content: object, key: str) -> Sequence[object]:
    entries = content.get(key) if isinstance(content, Mapping) else None
    return entries if isinstance(entries, list | tuple) else ()


def _wrong_lists(content: object, labels: Sequence[object], entries: Sequence[object]) -> list[str]:
    if not isinstance(content, Mapping):
        return ["it is not an object"]
    problems = [
        f"{key} is not a list" for key in ("labels", "maps") if not isinstance(content.get(key), list | tuple)
    ]
    if not problems and len(labels) != len(entries):
        problems.append(f"{len(labels)} labels and {len(entries)} maps")
    if not all(isinstance(name, str) and name for name in labels):
        problems.append("a label name is not text")
    elif len(set(labels)) != len(labels):
        problems.append("a label name comes twice")
    return problems


def _finding(problem: str) -> Finding:
    return Finding(
        code="B461",
        place="calibration",
        found=problem,
        allowed=f"one name and one rising map a label: {', '.join(METHODS)}",
        next_step="restore the model folder from its source or train again",
    )
