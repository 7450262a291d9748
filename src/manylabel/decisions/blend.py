"""Several models' logits into one; called by the ensemble scorer and the cross-fitting recipe.

`mean`      the mean of the components' probabilities, as a logit
`ranks`     each component's logit becomes its place, from 0 to 1, among that component's out-of-fold logits of the
            label; the mean of the places, as a logit. How a component scales its probabilities makes no odds.
`greedy`    a weighted mean of probabilities; weights by greedy selection with replacement (Caruana et al. 2004)
`stacked`   a weighted sum of logits and an intercept: one ridge logistic regression a label

What is fitted stands in `blend_fit`. Letters: C components, N rows, L labels, P knots of all rank curves together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from manylabel.decisions.blend_fit import (
    LIMIT,
    greedy_weights,
    mixed,
    placed,
    rank_knots,
    stacked_weights,
)
from manylabel.errors import BundleError, Finding
from manylabel.values import IntArray

Kind = Literal["mean", "ranks", "greedy", "stacked"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Logits = npt.NDArray[np.float32]
Arrays = Mapping[str, npt.NDArray[Any]]
LARGEST = 1e12

_SHAPES: Mapping[str, Mapping[str, str]] = {
    "mean": {},
    "ranks": {"knots_P": "P", "places_P": "P", "starts_S": "S"},
    "greedy": {"weights_CL": "CL"},
    "stacked": {"weights_CL": "CL", "intercepts_L": "L"},
}
_TYPES = {"knots_P": np.float32, "starts_S": np.int64}


@dataclass(frozen=True, eq=False)
class Blend:
    """How C components become one model of L labels.

    `arrays` by kind: greedy and stacked have `weights_CL`, stacked `intercepts_L`; ranks has the knots of its C x L
    curves one after the other: curve c * L + l owns `starts_S[c * L + l]` to the next start.
    """

    kind: Kind
    labels: tuple[str, ...]
    components: tuple[str, ...]
    arrays: Arrays = field(default_factory=dict)

    def __post_init__(self) -> None:
        if problems := _problems(self):
            raise ValueError("; ".join(problems))

    def apply(self, logits_CNL: npt.NDArray[np.floating]) -> Logits:
        """One logit a row and label, N x L, of the components' C x N x L; sizes above 60 count as 60.

        Raises ValueError when components or labels disagree in number. A logit that is not a number stays one.
        """
        expected = (len(self.components), len(self.labels))
        if logits_CNL.ndim != 3 or (logits_CNL.shape[0], logits_CNL.shape[2]) != expected:
            raise ValueError(f"logits are {logits_CNL.shape}, expected {expected[0]} x N x {expected[1]}")
        clipped_CNL = np.clip(logits_CNL, -LIMIT, LIMIT)
        if self.kind == "mean":
            equal = np.full(expected, 1.0 / expected[0])
            return mixed(clipped_CNL, equal).astype(np.float32)
        if self.kind == "greedy":
            return mixed(clipped_CNL, self.arrays["weights_CL"]).astype(np.float32)
        if self.kind == "stacked":
            summed_NL = np.einsum("cnl,cl->nl", clipped_CNL.astype(np.float64), self.arrays["weights_CL"])
            return np.asarray(summed_NL + self.arrays["intercepts_L"], np.float32)
        starts = self.arrays["starts_S"]
        return placed(clipped_CNL, self.arrays["knots_P"], self.arrays["places_P"], starts=starts)

    def to_json(self) -> dict[str, Any]:
        """A plain mapping for a JSON file; `from_json` gives back the same numbers to the last bit."""
        return {
            "kind": self.kind,
            "labels": list(self.labels),
            "components": list(self.components),
            # The shortest decimal that is read as the same number.
            **{
                name: np.vectorize(lambda value: float(str(value)), otypes=[float])(
                    self.arrays[name]
                ).tolist()
                if self.arrays[name].dtype == np.float32
                else self.arrays[name].tolist()
                for name in sorted(self.arrays)
            },
        }

    @classmethod
    def from_json(cls, content: object) -> Blend:
        """Read what `to_json` wrote.

        Raises:
            BundleError: an entry is missing, unknown, of another shape or type, or not finite.

        """
        if not isinstance(content, Mapping):
            raise BundleError(_finding("it is not an object"))
        kind = content.get("kind")
        if not isinstance(kind, str) or kind not in KINDS:
            raise BundleError(_finding("its kind is unknown"))
        if set(content) != {"kind", "labels", "components", *_SHAPES[kind]}:
            raise BundleError(_finding(f"it has entries missing or too many for the kind {kind}"))
        try:
            arrays = {
                name: np.array(content[name], dtype=_TYPES.get(name, np.float64)) for name in _SHAPES[kind]
            }
            return cls(kind, _names(content["labels"]), _names(content["components"]), arrays)
        except (ValueError, TypeError, OverflowError) as problem:
            raise BundleError(_finding(str(problem))) from problem


def fit_blend(
    kind: Kind,
    logits_CNL: npt.NDArray[np.floating],
    targets_NL: IntArray,
    *,
    components: Sequence[str],
    labels: Sequence[str],
    seed: int,
) -> Blend:
    """A blend fitted on rows that no component has seen.

    Args:
        kind: mean needs no fit, ranks no targets.
        logits_CNL: C components' out-of-fold logits of N rows for L labels.
        targets_NL: 1, 0 or -1 (not annotated; such cells are left out).
        components: C names.
        labels: L names.
        seed: Of the inner division that chooses the ridge of `stacked`, and of the sample of many rows.

    Raises:
        ValueError: the shapes disagree, there is no row, or a logit is not finite.
    """
    shape = (len(components), *targets_NL.shape)
    if logits_CNL.shape != shape or targets_NL.shape[1] != len(labels) or not targets_NL.size:
        raise ValueError(
            f"logits are {logits_CNL.shape}, expected {shape} with rows and {len(labels)} labels"
        )
    if not np.isfinite(logits_CNL).all():
        raise ValueError("a logit is not finite")
    clipped_CNL = np.clip(logits_CNL, -LIMIT, LIMIT)
    arrays: dict[str, npt.NDArray[Any]] = {}
    if kind == "ranks":
        arrays["knots_P"], arrays["places_P"], arrays["starts_S"] = rank_knots(clipped_CNL)
    elif kind == "greedy":
        arrays["weights_CL"] = greedy_weights(clipped_CNL, targets_NL, seed=seed)
    elif kind == "stacked":
        arrays["weights_CL"], arrays["intercepts_L"] = stacked_weights(clipped_CNL, targets_NL, seed=seed)
    return Blend(kind, tuple(labels), tuple(components), arrays)


def cross_fitted(
    kind: Kind,
    logits_CNL: npt.NDArray[np.floating],
    targets_NL: IntArray,
    fold_N: IntArray,
    *,
    components: Sequence[str],
    labels: Sequence[str],
    seed: int,
) -> Logits:
    """logits_NL where the rows of each fold are blended by a blend fitted on the rows of the other folds.

    So no row's target takes part in how it is blended. Raises ValueError as `fit_blend` does, and for a single fold.
    """
    folds = np.unique(fold_N)
    if len(folds) < 2:
        raise ValueError("a blend can be fitted on other rows only with two folds or more")
    result_NL = np.empty(targets_NL.shape, np.float32)
    for fold in folds:
        held_N = fold_N == fold
        blend = fit_blend(
            kind,
            logits_CNL[:, ~held_N],
            targets_NL[~held_N],
            components=components,
            labels=labels,
            seed=seed,
        )
        result_NL[held_N] = blend.apply(logits_CNL[:, held_N])
    return result_NL


def _names(entry: object) -> tuple[str, ...]:
    if not isinstance(entry, list | tuple) or not all(isinstance(name, str) and name for name in entry):
        raise ValueError("labels or components are not a list of names")
    return tuple(entry)


def _problems(blend: Blend) -> list[str]:
    """What is wrong with the values of a blend."""
    names = (blend.labels, blend.components)
    if any(not each or len(set(each)) != len(each) for each in names):
        return ["labels and components must be at least one each, and unique"]
    if set(blend.arrays) != set(_SHAPES[blend.kind]):
        return [f"the arrays of the kind {blend.kind} are {', '.join(_SHAPES[blend.kind]) or 'none'}"]
    num_components, num_labels = len(blend.components), len(blend.labels)
    knots = blend.arrays["knots_P"].size if blend.kind == "ranks" else 0
    sizes = {"C": num_components, "L": num_labels, "P": knots, "S": num_components * num_labels + 1}
    problems = []
    for name, letters in _SHAPES[blend.kind].items():
        array, shape = blend.arrays[name], tuple(sizes[letter] for letter in letters)
        if array.shape != shape:
            problems.append(f"{name} is {array.shape}, expected {shape}")
        elif not (np.abs(array) <= LARGEST).all():
            problems.append(f"{name} holds something else than finite numbers up to {LARGEST:g}")
    if not problems and blend.kind == "ranks":
        problems = _curve_problems(blend.arrays)
    if not problems and blend.kind == "greedy":
        weights_CL = blend.arrays["weights_CL"]
        if (weights_CL < 0).any() or not np.allclose(weights_CL.sum(axis=0), 1.0, atol=1e-9):
            problems.append("weights_CL must be 0 or more and sum to 1 in each label")
    return problems


def _curve_problems(arrays: Arrays) -> list[str]:
    starts, knots, places = arrays["starts_S"], arrays["knots_P"], arrays["places_P"]
    if starts[0] != 0 or starts[-1] != knots.size or (np.diff(starts) < 1).any():
        return ["starts_S does not divide the knots into one curve a component and label"]
    inside = np.ones(max(knots.size - 1, 0), np.bool_)
    inside[starts[1:-1] - 1] = False  # From the last knot of a curve to the first of the next.
    if (np.diff(knots)[inside] <= 0).any() or (np.diff(places)[inside] <= 0).any():
        return ["a curve of ranks does not rise"]
    return [] if ((places > 0) & (places < 1)).all() else ["a place is not between 0 and 1"]


def _finding(problem: str) -> Finding:
    return Finding(
        code="B471",
        place="blend",
        found=problem,
        allowed=f"one of {', '.join(KINDS)} with its numbers",
        next_step="restore the model folder from its source or fit the ensemble again",
    )
