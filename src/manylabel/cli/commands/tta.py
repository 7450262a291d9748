"""`manylabel tta`: test-time augmentation, weighed on rows of one's own and saved where it pays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from manylabel.cli.arguments import (
    AsJson,
    Debug,
    Model,
    PrecisionOption,
    Quiet,
    Resamples,
    with_file_flags,
)
from manylabel.cli.show import measured, number, print_json, result_console, table
from manylabel.errors import counted

if TYPE_CHECKING:
    from manylabel.recipes.tta import Augmented, Measured

Rows = Annotated[
    Path,
    typer.Option("--data", help="File with labels, not of the training, to weigh the views on.", show_default=False),
]  # fmt: skip
Views = Annotated[
    str,
    typer.Option(
        "--views",
        help="Separated by commas: head (the beginning of a text), tail (its end), middle, raw (without Unicode "
        "normalisation), folded (disguises undone), translation:COLUMN (what that column says). head is always there.",
    ),
]
Folds = Annotated[
    int, typer.Option("--folds", min=2, max=20, help="In how many folds the views are weighed and judged.")
]
Out = Annotated[Path, typer.Option("--out", help="New folder for the model.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Save the new model also where no gain is shown.")]


@with_file_flags
def command(
    model: Model,
    *,
    data: dict[str, Any],
    source: Rows,
    views: Views = "head,tail,middle,raw,folded",
    out: Out,
    folds: Folds = 5,
    force: Force = False,
    resamples: Resamples = None,
    precision: PrecisionOption = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Let a model look at texts in several views, weigh them on rows it has not seen, and save it where that pays."""
    from manylabel.config.load import load_data_settings
    from manylabel.text.views import check_views

    options = load_data_settings(data)
    names = check_views([name for part in views.split(",") if (name := part.strip())])
    from manylabel.bundle.save import save_bundle
    from manylabel.inference.load import load_model
    from manylabel.recipes.tta import Wanted, augment_at_test_time, lost_zones
    from manylabel.recipes.versions import version_target
    from manylabel.training.observers import ConsoleObserver, SilentObserver

    observer = SilentObserver() if quiet or as_json else ConsoleObserver()
    loaded = load_model(model, precision=precision)
    target = version_target(model, loaded.bundle, out)
    settings = loaded.bundle.settings.evaluation
    if resamples is not None:
        settings = settings.model_copy(update={"resamples": resamples})
    found = augment_at_test_time(
        loaded,
        source,
        Wanted(names, folds, force),
        options=options,
        observer=observer,
        settings=settings,
        precision=precision,
    )
    if found.bundle is not None:
        save_bundle(found.bundle, target)
    if as_json:
        print_json({**found.to_json(), "out": None if found.bundle is None else str(target)})
        return
    _show(found)
    if not quiet:
        _show_end(found, model, target, lost=lost_zones(loaded.bundle, found))


def _show(found: Augmented) -> None:
    console = result_console()
    for title, metric in (("macro avg prec", "average_precision"), ("mean ROC-AUC", "roc_auc")):
        rows = [
            (f"  {name}", _value(measured_in[metric]), _difference(measured_in[metric]))
            for name, measured_in in found.figures.items()
        ]
        console.print(table(("view", title, "difference from head"), rows))
        console.print("")
    weights = [
        (f"  {label}", *(number(of_label[view], 2) for view in found.views))
        for label, of_label in found.weights.items()
    ]
    console.print(table(("weights", *found.views), weights))
    left_out = f"; {found.left_out:,} left out, which the model had seen" if found.left_out else ""
    console.print(
        f"\n{counted(found.rows, 'row')}{left_out}. The blend's figures are out of fold: a row is blended with "
        f"weights chosen on other rows. In brackets: {100 * found.confidence:g} % intervals."
    )


def _show_end(found: Augmented, model: Path, target: Path, *, lost: bool) -> None:
    """Whether it pays, and what was saved."""
    console = result_console()
    paid = {
        "better": "It pays: the blend is better than head alone.",
        "worse": "It does not pay: the blend is worse than head alone.",
    }.get(found.verdict, f"It does not pay: {found.verdict} between the blend and head alone.")
    console.print(paid)
    if found.bundle is None:
        console.print(
            f"Nothing was saved: {model} stays with head alone (--force saves the blend all the same)."
        )
        return
    passes = counted(len(found.kept), "view")
    console.print(
        f"saved as {target} with {passes}: {', '.join(found.kept)}; each takes the time of one prediction"
    )
    if lost:
        console.print(
            "note: the zones for a human were left out, as they belong to the old probabilities; "
            "`manylabel thresholds --abstain` makes new ones"
        )


def _value(figure: Measured) -> str:
    return measured(figure.value, figure.interval)


def _difference(figure: Measured) -> str:
    if figure.difference is None:
        return ""
    shown = f"{figure.difference:+.4f}"
    if figure.difference_interval is None:
        return shown
    low, high = figure.difference_interval
    return f"{shown} [{low:+.4f}, {high:+.4f}]"
