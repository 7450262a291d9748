"""`manylabel check`: what training would make of a file."""

from __future__ import annotations

from typing import Any

import typer

from manylabel.cli.arguments import (
    AsJson,
    Config,
    Debug,
    Quiet,
    SetOption,
    Source,
    settings_from,
    with_file_flags,
)
from manylabel.cli.show import print_json, result_console, share, table
from manylabel.errors import counted, told_together
from manylabel.terminal import printable


@with_file_flags
def command(
    source: Source,
    *,
    data: dict[str, Any],
    config: Config = None,
    set_: SetOption = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Read a file and describe it."""
    from manylabel.recipes.check import check_file

    report = check_file(source, settings_from(config, set_, data))
    if as_json:
        print_json(report.to_json())
    else:
        _show(report, quiet=quiet)
    raise typer.Exit(0 if report.usable else 1)


def _show(report: Any, *, quiet: bool) -> None:  # noqa: ANN401 - CheckReport, whose module is imported late
    console = result_console()
    content = report.to_json()
    if not quiet:
        console.print(printable(f"{report.source}:"))
        for line in content["layout"]:
            console.print(printable(f"  {line['what']}: {line['value']}  ({line['origin']})"))
        console.print()
        _show_summary(console, report.summary)
        console.print()
    for finding in told_together(report.findings):
        console.print(f"{finding.severity}: {printable(finding.sentence())}")
    if report.usable:
        console.print(f"Training would take this file.  Next: manylabel train {report.source} --out model")
    else:
        console.print("Training would refuse this file.")


def _show_summary(console: Any, summary: Any) -> None:  # noqa: ANN401 - Console, CorpusSummary
    rows = [
        (label.name, f"{label.positives:,}", share(label.prevalence), f"{label.annotated:,}")
        for label in summary.labels
    ]
    console.print(table(("label", "rows with it", "share", "rows annotated"), rows))
    console.print(
        f"\n{counted(summary.rows, 'row')}, {summary.rows_without_label:,} without any label, "
        f"{summary.labels_per_row:.2f} labels a row; {counted(summary.duplicates, 'duplicate')}, "
        f"{counted(summary.contradictory, 'row')} with equal text and different labels"
    )
    if summary.lengths is not None:
        _show_lengths(console, summary.lengths)


def _show_lengths(console: Any, lengths: Any) -> None:  # noqa: ANN401 - Console, LengthSummary
    least = "at least " if lengths.counted_in_part else ""
    console.print(
        f"tokens a text: median {lengths.p50}, 90 % {lengths.p90}, 95 % {lengths.p95}, 99 % {lengths.p99}, "
        f"longest {least}{lengths.longest:,}; {share(lengths.truncated_share)} are longer than {lengths.max_length} "
        "and would be cut"
    )
    if lengths.counted_in_part:
        texts = counted(lengths.counted_in_part, "text")
        console.print(f"{texts} counted in part: of so long a text only the beginning is read")
