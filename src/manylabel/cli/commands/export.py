"""`manylabel export`: a saved model as a plain transformers folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from manylabel.cli.arguments import Debug, Member, Model, Quiet
from manylabel.cli.show import result_console

Out = Annotated[Path, typer.Option("--out", help="New folder to write.", show_default=False)]


def command(
    model: Model,
    *,
    out: Out,
    member: Member = None,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write the files that transformers' AutoModelForSequenceClassification reads."""
    from manylabel.recipes.export import export_to_transformers

    export_to_transformers(model, out, member=member)
    if not quiet:
        result_console().print(
            f'{out}: loads with AutoModelForSequenceClassification.from_pretrained("{out}")'
        )
