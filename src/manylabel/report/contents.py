"""From `ReportInputs` to everything the page shows, as plain values; called by render.py.

Model cards and terminals can use the same contents: `Contents.verdict` and the tables hold no HTML but the charts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from markupsafe import Markup

from manylabel.evaluation.evaluate import evaluate
from manylabel.report import findings, part_tables, tables
from manylabel.report.explorer import CutTable, cut_tables
from manylabel.report.inputs import ReportInputs
from manylabel.report.numbers import NOT_MEASURED, figure, percent, shown, span, whole
from manylabel.report.panels import (
    LabelPanels,
    calibration_errors,
    charted_columns,
    label_panels,
    pooled_reliability,
)
from manylabel.report.tables import Table
from manylabel.report.verdict import SEEN_SHARE, FalseAlarms, Verdict, false_alarms, judge

MOST_SLIDERS = 100


@dataclass(frozen=True)
class Tile:
    """One headline figure: its name, value, interval and what it is compared with."""

    name: str
    value: str
    below: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """The sections of a report, in the order they are shown."""

    title: str
    date: str
    command: str
    warning: str
    verdict: Verdict
    tiles: tuple[Tile, ...]
    averages: Table
    labels: Table
    explorer: tuple[CutTable, ...]
    left_out_of_explorer: int
    panels: tuple[LabelPanels, ...]
    left_out_of_panels: int
    reliability: Markup | None
    calibration: Table | None
    has_baseline: bool
    has_before: bool
    pairs: findings.CoOccurrence | None
    false_alarms: FalseAlarms
    false_alarm_table: Table | None
    zones: Table | None
    slices: Table | None
    bias: tuple[Table, ...]
    robustness: Table | None
    worst: tuple[Table, ...]
    label_errors: Table | None
    audit: Table
    provenance: tuple[Table, ...]


def contents_of(inputs: ReportInputs) -> Contents:
    """All sections; figures that `inputs.evaluation` lacks altogether are computed first."""
    inputs = with_figures(inputs)
    errors = calibration_errors(inputs)
    charted = charted_columns(inputs)
    sliders = charted_columns(inputs, MOST_SLIDERS)
    alarms = false_alarms(inputs)
    worst = (findings.worst_table(inputs, misses=True), findings.worst_table(inputs, misses=False))
    bias = (part_tables.bias_overall_table(inputs), part_tables.bias_table(inputs))
    return Contents(
        title=shown(inputs.title, 200),
        date=shown(inputs.date, 60),
        command=shown(inputs.command, 1000),
        warning=_warning(inputs),
        verdict=judge(inputs),
        tiles=_tiles(inputs, alarms),
        averages=tables.averages_table(inputs),
        labels=tables.label_table(inputs, errors),
        explorer=tuple(cut_tables(inputs, sliders)),
        left_out_of_explorer=len(inputs.labels) - len(sliders),
        panels=tuple(label_panels(inputs, column, errors[inputs.labels[column]]) for column in charted),
        left_out_of_panels=len(inputs.labels) - len(charted),
        reliability=pooled_reliability(inputs),
        calibration=_calibration_table(inputs),
        has_baseline=inputs.baseline_probabilities_NL is not None,
        has_before=inputs.uncalibrated_NL is not None,
        pairs=findings.co_occurrence(inputs),
        false_alarms=alarms,
        false_alarm_table=findings.false_alarm_table(alarms),
        zones=part_tables.review_table(inputs),
        slices=part_tables.slice_table(inputs),
        bias=tuple(one for one in bias if one is not None),
        robustness=part_tables.robustness_table(inputs),
        worst=tuple(one for one in worst if one is not None),
        label_errors=findings.label_error_table(inputs),
        audit=tables.audit_table(inputs),
        provenance=tuple(tables.provenance_tables(inputs.provenance)),
    )


def with_figures(inputs: ReportInputs) -> ReportInputs:
    """`inputs` as they are where their evaluation has figures by label, else with the basic figures computed."""
    if inputs.figure("labels") is not None:
        return inputs
    computed = evaluate(inputs.targets_NL, inputs.probabilities_NL, inputs.thresholds).to_json()
    given = {name: value for name, value in inputs.evaluation.items() if value is not None}
    return replace(inputs, evaluation={**computed, **given})


def _warning(inputs: ReportInputs) -> str:
    """What must stand above every figure: that these rows chose something of the model."""
    enough = SEEN_SHARE * len(inputs.ids)
    used = [what for what, count in inputs.chosen_rows.described().items() if count and count > enough]
    if not used:
        return ""
    what = ", ".join(used)
    return f"Some of these rows were used to choose {what}: the figures on this page are better than on new rows."


def _tiles(inputs: ReportInputs, alarms: FalseAlarms) -> tuple[Tile, ...]:
    wanted = (
        ("Macro average precision", ("macro", "average_precision")),
        ("Macro F1", ("macro", "f1")),
        ("Micro F1", ("micro", "f1")),
    )
    tiles = [
        Tile(
            name,
            figure(inputs.figure(*path)),
            (
                span(inputs.interval(*path)) or "no interval computed",
                f"baseline {figure(baseline)}"
                if (baseline := inputs.figure("baseline", *path)) is not None
                else "no baseline",
            ),
        )
        for name, path in wanted
    ]
    interval = alarms.interval
    between = f"{percent(interval[0])} to {percent(interval[1])}" if interval else "no such rows"
    rate = percent(alarms.rate) if alarms.rate is not None else NOT_MEASURED
    tiles.append(Tile("False alarms, rows without a label", rate, (between, f"of {whole(alarms.rows)} rows")))
    seen = inputs.figure("rows_seen_in_training")
    below = "leak audit not run" if seen is None else f"{whole(seen)} made the model"
    tiles.append(Tile("Rows evaluated", whole(len(inputs.ids)), (f"{len(inputs.labels):,} labels", below)))
    return tuple(tiles)


def _calibration_table(inputs: ReportInputs) -> Table | None:
    """ECE and Brier score before and after calibration, as the evaluation measured them."""
    rows = []
    for name, key in (("Expected calibration error", "ece"), ("Brier score", "brier")):
        before, after = (inputs.figure("calibration", f"{key}_{when}") for when in ("before", "after"))
        if before is None and after is None:
            continue
        cells = [
            tables.Cell(
                figure(inputs.figure("calibration", f"{key}_{when}")),
                tables.lines(tables.dashed(inputs.figure("calibration", f"{key}_{when}_interval"))),
            )
            for when in ("before", "after")
        ]
        rows.append([name, *cells])
    if not rows:
        return None
    methods = inputs.figure("calibration", "method") or {}
    counts = {method: list(methods.values()).count(method) for method in dict.fromkeys(methods.values())}
    used = ", ".join(f"{shown(str(method), 30)} for {count:,}" for method, count in counts.items())
    note = f"Method by number of labels: {used}." if used else ""
    return tables.table("Calibration, 0 is best", ("", "Before", "After"), rows, note=note)
