"""All that a report is made from, as one frozen value; made by recipes, read by everything in this package.

Shape legend: N rows, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from manylabel.decisions.thresholds import Thresholds
from manylabel.values import NOT_ANNOTATED, BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class ChosenRows:
    """How many of the evaluated rows had a part in making the model; None where that is not known.

    `training` rows fitted the weights, `selection` rows chose the epoch, `calibration` rows chose calibration or
    thresholds; copies of such rows count too. A figure on such rows is too good.
    """

    training: int | None = None
    selection: int | None = None
    calibration: int | None = None

    def described(self) -> dict[str, int | None]:
        """What the rows chose, in words, with their numbers."""
        return {
            "the weights": self.training,
            "the epoch": self.selection,
            "calibration and thresholds": self.calibration,
        }


@dataclass(frozen=True, eq=False)
class ReportInputs:
    """One model on one set of rows.

    `targets_NL` holds 1, 0 and -1 (not annotated); the probabilities are in [0, 1], those of the model calibrated as
    they are decided on, `uncalibrated_NL` as they were before. `evaluation` is the JSON form of the evaluation, all its
    sections optional; its section "roles" gives the `chosen` rows where that is None. `texts` are shown only where they
    are given. Nothing here is read from a clock or a machine: equal inputs give equal bytes.
    """

    title: str
    targets_NL: IntArray
    probabilities_NL: FloatArray
    thresholds: Thresholds
    ids: tuple[str, ...]
    evaluation: Mapping[str, Any]
    uncalibrated_NL: FloatArray | None = None
    baseline_probabilities_NL: FloatArray | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""
    date: str = ""
    texts: tuple[str, ...] | None = None
    chosen: ChosenRows | None = None
    contradictory_rows: int | None = None
    decided_NL: BoolArray | None = None
    """The decisions where not the thresholds made them, as for rows decided out of fold."""

    def __post_init__(self) -> None:
        shape = (len(self.ids), len(self.labels))
        tables = {
            "targets_NL": self.targets_NL,
            "probabilities_NL": self.probabilities_NL,
            "uncalibrated_NL": self.uncalibrated_NL,
            "baseline_probabilities_NL": self.baseline_probabilities_NL,
        }
        for name, table in tables.items():
            if table is not None and table.shape != shape:
                raise ValueError(f"{name} is {table.shape}, expected {shape}")
        if self.texts is not None and len(self.texts) != len(self.ids):
            raise ValueError("there must be one text an id")

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in column order."""
        return self.thresholds.labels

    @property
    def decisions_NL(self) -> BoolArray:
        """Which labels are decided for which rows."""
        return (
            self.decided_NL if self.decided_NL is not None else self.thresholds.decide(self.probabilities_NL)
        )

    @property
    def annotated_NL(self) -> BoolArray:
        """Which cells have a target."""
        annotated_NL: BoolArray = self.targets_NL != NOT_ANNOTATED
        return annotated_NL

    @property
    def chosen_rows(self) -> ChosenRows:
        """What part these rows had in making the model: `chosen`, or what the evaluation says."""
        if self.chosen is not None:
            return self.chosen
        roles = [self.figure("roles", role) for role in ("train", "validation", "calibration")]
        return ChosenRows(*roles)

    def figure(self, *path: str) -> Any:  # noqa: ANN401 - a value of a JSON object
        """What `evaluation` holds at a path of keys, for example ("macro", "f1"); None where there is nothing."""
        return entry(self.evaluation, *path)

    def interval(self, *path: str) -> tuple[float, float] | None:
        """The confidence interval of the figure at this path, if there is one."""
        found = entry(self.evaluation, "intervals", *path)
        return None if found is None or None in found else (float(found[0]), float(found[1]))


def entry(content: Any, *path: str) -> Any:  # noqa: ANN401 - a value of a JSON object
    """What a nested mapping holds at a path of keys; None where a key is missing."""
    for key in path:
        if not isinstance(content, Mapping) or key not in content:
            return None
        content = content[key]
    return content
