"""`manylabel thresholds`: other thresholds for a stated goal, saved as a new version of the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manylabel.cli.arguments import AsJson, Debug, Model, PrecisionOption, Quiet, with_file_flags
from manylabel.cli.show import UNDEFINED, number, print_json, result_console, share, table
from manylabel.errors import Finding, UsageError, counted
from manylabel.terminal import Terminal, printable

if TYPE_CHECKING:
    from manylabel.decisions.abstain import ZoneGoal
    from manylabel.recipes.new_thresholds import NewThresholds, Wish

Calibration = Annotated[
    Path,
    typer.Option("--data", help="File with labels, not of the training, to choose on.", show_default=False),
]
AllGoal = Annotated[
    str | None,
    typer.Option(
        "--goal",
        help="f1, f0.5, f2, recall=0.95, precision=0.9, cost=5:1 (missed : false alarm), alerts=50 (of 10,000 rows), "
        "one=micro or one=samples (one threshold for all labels). Without it, the labels named by --label alone "
        "change; without those too, the model's decisions.goal holds.",
        show_default=False,
    ),
]
Names = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="NAME GOAL",
        help="A goal for one label, for example --label threat recall=0.95; repeatable.",
        show_default=False,
    ),
]
Values = Annotated[
    Path | None,
    typer.Option(
        "--values",
        help='JSON file {"thresholds": {LABEL: number}}, as the report copies it: these thresholds are taken.',
        show_default=False,
    ),
]
OwnGoals = Annotated[
    list[str] | None,
    typer.Argument(metavar="GOAL", hidden=True, help="The goals of --label, in their order."),
]
Guarantee = Annotated[
    bool,
    typer.Option(
        "--guarantee",
        help="recall=R and precision=P are to hold on new rows: conformal risk control, Learn then Test. "
        "--guarantee missed-share=0.1 is about all labels: one threshold, and on average at most this share of a row's "
        "labels is missed; missed-share=0.1,labelled averages over rows with a label.",
    ),
]
Confidence = Annotated[
    float, typer.Option("--confidence", min=0.5, max=0.9999, help="Of the intervals and of --guarantee.")
]
Abstain = Annotated[
    str | None,
    typer.Option(
        "--abstain",
        help="Zones of probabilities that go to a human: precision=0.9,misses=0.05 (outside the zones), workload=0.1 "
        "(share of the rows), or none. Without it the zones of the model stay.",
        show_default=False,
    ),
]
NoAbstain = Annotated[
    bool, typer.Option("--no-abstain", help="Remove the zones; the same as --abstain none.")
]
NewFolder = Annotated[
    Path | None,
    typer.Option(
        "--out", help="New folder; by default the next free of MODEL-2, MODEL-3.", show_default=False
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change; save nothing.")]


@with_file_flags
def command(
    model: Model,
    own_goals: OwnGoals = None,
    *,
    data: dict[str, Any],
    source: Calibration,
    goal: AllGoal = None,
    label: Names = None,
    values: Values = None,
    guarantee: Guarantee = False,
    confidence: Confidence = 0.95,
    abstain: Abstain = None,
    no_abstain: NoAbstain = False,
    out: NewFolder = None,
    dry_run: DryRun = False,
    precision: PrecisionOption = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Choose thresholds for a goal, show what they do, and save a new version of the model beside the old one."""
    from manylabel.config.load import load_data_settings

    model, own_goals = _model_and_goals(model, own_goals or [])
    own_goals, goal, missed_share = _over_all_labels(own_goals, goal)
    per_label = {**_by_hand(values), **_pairs(label or [], own_goals)}
    options = load_data_settings(data)
    zones = _zone_goal(abstain, no_abstain)
    wish = _wish(
        goal, per_label, guarantee=guarantee, confidence=confidence, zones=zones, missed_share=missed_share
    )
    from manylabel.inference.load import load_model
    from manylabel.recipes.thresholds import find_thresholds
    from manylabel.recipes.versions import save_version, version_target
    from manylabel.training.observers import ConsoleObserver, SilentObserver

    observer = SilentObserver() if quiet or as_json else ConsoleObserver()
    loaded = load_model(model, precision=precision)
    target = None if dry_run else version_target(model, loaded.bundle, out)
    new = find_thresholds(loaded, source, wish, options=options, observer=observer)
    saved = target if new.differs else None
    if saved is not None:
        save_version(loaded.bundle, new, saved)
    if as_json:
        print_json({**new.to_json(), "out": None if saved is None else str(saved)})
        return
    _show(new)
    if not new.differs:
        result_console().print("\nNothing changed: every threshold is as it was. No new version was saved.")
    elif not quiet:
        done = "nothing was saved (--dry-run)" if saved is None else f"saved as {saved}"
        result_console().print(f"\n{done}; {model} is as it was")


def _model_and_goals(model: Path, goals: list[str]) -> tuple[Path, list[str]]:
    """The folder among the words without an option: `--label threat recall=0.95` may stand before the model."""
    words = [str(model), *goals]
    place = next((index for index, word in enumerate(words) if Path(word).is_dir()), 0)
    return Path(words[place]), words[:place] + words[place + 1 :]


def _over_all_labels(words: list[str], goal: str | None) -> tuple[list[str], str | None, str | None]:
    """The words and the goal without a share of missed labels, and that share, after --guarantee or --goal."""
    found = [word for word in [*words, *([goal] if goal else [])] if word.lower().startswith("missed-share")]
    if len(found) > 1:
        raise UsageError(
            Finding("U341", "missed-share", "it is given more than once", "once", "leave out all but one")
        )
    missed_share = found[0] if found else None
    return (
        [word for word in words if word != missed_share],
        None if goal == missed_share else goal,
        missed_share,
    )


def _pairs(names: list[str], goals: list[str]) -> dict[str, str]:
    """Each label with its goal; the command line hands over names and goals in two lists."""
    twice = [name for name in names if names.count(name) > 1]
    if len(names) == len(goals) and not twice:
        return dict(zip(names, goals, strict=True))
    found = (
        f'the label "{twice[0]}" is named twice'
        if twice
        else f"{counted(len(names), 'label')} and {counted(len(goals), 'goal')}"
    )
    one_label = "write for example --label threat recall=0.95"
    step = one_label if names else f"for all labels write --goal {goals[0]}; for one, {one_label}"
    raise UsageError(Finding("U280", "--label", found, "a name and a goal, each label once", step))


def _by_hand(path: Path | None) -> dict[str, str]:
    """The thresholds of a file as goals; of a label that --label names too, that one holds."""
    if path is None:
        return {}
    try:
        thresholds = json.loads(path.read_text(encoding="utf-8"))["thresholds"]
        found = {str(name): float(value) for name, value in thresholds.items()}
        wrong = [name for name, value in found.items() if not 0.0 <= value <= 1.0]
    except (ValueError, KeyError, TypeError, AttributeError):
        found, wrong = {}, [""]
    if wrong or not found:
        what = (
            f'the threshold of "{wrong[0]}" is no number from 0 to 1' if found else "it holds no thresholds"
        )
        raise UsageError(
            Finding("U285", str(path), what, '{"thresholds": {LABEL: number from 0 to 1}}',
                    "copy the thresholds in the report again")
        )  # fmt: skip
    return {name: f"at={value!r}" for name, value in found.items()}


def _zone_goal(text: str | None, none: bool) -> ZoneGoal | None:
    """What the zones are to aim at; None for those of the model."""
    from manylabel.decisions.abstain import ZoneGoal

    asked = None if text is None else ZoneGoal.parse(text)
    if asked is not None and none and not asked.is_none:
        raise UsageError(
            Finding(
                "U283", "--no-abstain", f"together with --abstain {asked}", "one of the two", "leave out one"
            )
        )
    return ZoneGoal() if none else asked


def _wish(
    goal: str | None,
    per_label: Mapping[str, str],
    *,
    guarantee: bool,
    confidence: float,
    zones: ZoneGoal | None,
    missed_share: str | None,
) -> Wish:
    """The goals, read before torch is imported, which takes seconds."""
    from manylabel.decisions.goals import Goal
    from manylabel.decisions.missed_share import MissedShare

    parsed = None if goal is None else Goal.parse(goal)
    own = {name: Goal.parse(text) for name, text in per_label.items()}
    over_all = None if missed_share is None else MissedShare.parse(missed_share)
    from manylabel.recipes.new_thresholds import Wish

    return Wish(parsed, own, guarantee=guarantee, confidence=confidence, abstain=zones, missed_share=over_all)


def _show(new: NewThresholds) -> None:
    figures: dict[str, Any] = new.to_json()
    console = result_console()
    rows = []
    for name, label in figures["labels"].items():
        if label["outcome"] == "kept":
            rows.append(_line(name, "kept", label["after"]))
        else:
            rows += [_line(name, "old", label["before"]), _line("", "new", label["after"])]
    console.print(table(("label", "", "threshold", "precision", "recall", "alerts/10,000"), rows))
    console.print("")
    found, of_all = figures["missed_share"], next(iter(figures["labels"].values()))
    for name, label in figures["labels"].items():
        console.print(f"{printable(name)}: {'; '.join(_said(label)[: 1 if found else None])}")
    if figures["kept"]:
        console.print(f"{counted(len(figures['kept']), 'label')} kept as they were")
    if found:
        console.print(f"all labels: goal {found['goal']}; {of_all['note']}")
        console.print(
            f"missed of a row's labels, mean over {counted(found['rows'], 'row')}"
            + (" with a label" if found["over"] != "all rows" else "")
            + f": {number(found['before'], 3)} before, {number(found['after'], 3)} now (at most {found['alpha']:g})"
        )
    if figures["zones"]:
        _show_zones(figures["zones"], console)
    console.print(
        f"\n{counted(figures['rows'], 'row')}; intervals of {100 * figures['confidence']:g} %, "
        f"exact for a fixed threshold. Note: {figures['chosen_on']}"
    )


def _said(label: Mapping[str, Any]) -> list[str]:
    """What became of one label's threshold, for what goal, and what else is to be known of it."""
    before, after = (_threshold(label[when]["threshold"]) for when in ("before", "after"))
    note = label["note"] or ""
    if label["outcome"] == "kept":
        told = note.replace(f"not guaranteed: {label['reason']}", "not guaranteed")
        return [f"kept at {after}, not judged: {label['reason']}", *([told] if told else [])]
    change = f"{after} as before" if label["outcome"] == "same" else f"from {before} to {after}"
    return [change, *([f"goal {label['goal']}"] if label["goal"] else []), *([note] if note else [])]


def _threshold(value: float) -> str:
    """Four decimals, and three digits of what is smaller than that shows."""
    return number(value) if value >= 0.001 or value == 0.0 else f"{value:.3g}"


def _show_zones(zones: Mapping[str, Any], console: Terminal) -> None:
    """The zone of each label, what is to be said of it, and the rows with any label in its zone."""
    if zones["change"] == "removed":
        console.print("\nThe zones for a human were removed.")
        return
    goal = f" for {zones['goal']}" if zones["goal"] else ""
    kept = zones["change"] == "kept"
    console.print(f"\nZones for a human{goal}{', kept as they were' if kept else ''}:")
    rows = [
        (name, number(zone["low"]), _end(zone["high"]), f"{zone['rows']:,}")
        for name, zone in zones["labels"].items()
    ]
    console.print(table(("label", "from", "to below", "rows in it"), rows))
    for name, zone in zones["labels"].items():
        if said := f"not judged: {zone['reason']}" if zone["reason"] else zone["note"]:
            console.print(f"{printable(name)}: {said}")
    work = zones["workload"]
    interval = " to ".join(map(share, work["interval"] or ()))
    console.print(
        f"{work['sent']:,} of {counted(work['rows'], 'row')} go to a human: {share(work['share'])}"
        + (f" [{interval}]" if interval else "")
    )


def _end(high: float) -> str:
    """The upper end of a zone; one above 1 leaves nothing to be decided without a human."""
    return "above 1" if high > 1.0 else number(high)


def _line(name: str, which: str, at: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name,
        which,
        _threshold(at["threshold"]),
        _with_interval(at["precision"], at["precision_interval"], "{:.3f}"),
        _with_interval(at["recall"], at["recall_interval"], "{:.3f}"),
        _with_interval(at["alerts_per_10000"], at["alerts_per_10000_interval"], "{:,.0f}"),
    )


def _with_interval(value: float | None, interval: list[float] | None, form: str) -> str:
    if value is None or interval is None:
        return UNDEFINED
    low, high = (form.format(end) for end in interval)
    return f"{form.format(value)} [{low}, {high}]"
