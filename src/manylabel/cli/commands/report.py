"""`manylabel report`: the figures of a model on a file as one HTML page."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
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
    Source,
    with_file_flags,
)
from manylabel.cli.commands.evaluate import (
    Bias,
    BiasColumns,
    BiasTerms,
    ByLanguage,
    Disguises,
    SliceColumns,
)
from manylabel.cli.show import print_json, result_console

if TYPE_CHECKING:
    from manylabel.recipes.report import WrittenReport

Out = Annotated[Path, typer.Option("--out", help="HTML file to write.")]
IncludeTexts = Annotated[
    bool,
    typer.Option("--include-texts", help="Show the texts of the worst errors; by default only their ids."),
]
LabelErrors = Annotated[
    Path | None,
    typer.Option(
        "--label-errors",
        metavar="FILE",
        help="What manylabel label-errors found in these rows, for example label-errors.jsonl.",
        show_default=False,
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")]


@with_file_flags
def command(
    model: Model,
    source: Source,
    *,
    context: typer.Context,
    data: dict[str, Any],
    out: Out = Path("report.html"),
    include_texts: IncludeTexts = False,
    overwrite: Overwrite = False,
    slice_columns: SliceColumns = None,
    by_language: ByLanguage = False,
    bias: Bias = False,
    bias_terms: BiasTerms = None,
    bias_columns: BiasColumns = None,
    disguises: Disguises = False,
    label_errors: LabelErrors = None,
    resamples: Resamples = None,
    precision: PrecisionOption = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write one HTML page: a verdict with its reasons, every figure with its interval, thresholds to try out."""
    from manylabel.config.load import load_data_settings

    options = load_data_settings(data)  # Before torch is imported, which takes seconds.
    from manylabel.bundle.files import MANIFEST
    from manylabel.digest import sha256_of
    from manylabel.inference.load import load_model
    from manylabel.recipes.breakdown import Breakdown
    from manylabel.recipes.report import Page, check_page, report_model
    from manylabel.training.observers import ConsoleObserver, SilentObserver

    check_page(out, overwrite=overwrite)
    wanted = Breakdown(
        slice_columns=tuple(slice_columns or ()),
        by_length=True,
        by_language=by_language,
        bias_terms=_terms(bias_terms) or (() if bias else None),
        bias_columns=tuple(bias_columns or ()),
        disguises=disguises,
    )
    loaded = load_model(model, precision=precision)
    page = Page(
        out=out,
        title=f"{model.resolve().name} on {source.name}",
        overwrite=overwrite,
        texts=include_texts,
        command=shlex.join(["manylabel", *(context.obj or ())]),
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        label_errors=label_errors,
        facts={"folder": model.resolve().name, "manifest sha256": sha256_of(model / MANIFEST)},
    )
    settings = loaded.bundle.settings.evaluation
    if resamples is not None:
        settings = settings.model_copy(update={"resamples": resamples})
    observer = SilentObserver() if quiet or as_json else ConsoleObserver()
    report = report_model(
        loaded, source, page, wanted=wanted, options=options, settings=settings, observer=observer
    )
    _show(report, as_json=as_json)


def _terms(text: str | None) -> tuple[str, ...]:
    return tuple(term.strip() for term in (text or "").split(",") if term.strip())


def _show(report: WrittenReport, *, as_json: bool) -> None:
    """The verdict first, as on the page."""
    if as_json:
        told = {"out": str(report.out), "bytes": report.num_bytes, "verdict": report.verdict}
        print_json({**told, "reasons": list(report.reasons)})
        return
    console = result_console()
    console.print(f"{report.verdict}: {report.out} ({report.num_bytes / 1000:,.0f} kB)")
    for reason in report.reasons:
        console.print(f"  {reason}")
