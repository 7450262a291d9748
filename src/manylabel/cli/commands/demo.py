"""`manylabel demo`: the whole line on the example e-mails, in a few minutes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from manylabel.cli.arguments import Debug, Quiet
from manylabel.cli.commands.predict import show_predictions
from manylabel.cli.commands.train import run_training, show_report
from manylabel.cli.show import result_console
from manylabel.errors import DataError, Finding

EXAMPLE = Path("examples", "customer_emails.csv")
TEXTS = (
    "Where is my parcel? It should have been here on Monday, and the courier just hung up on me.",
    "You took the money twice. Please send one of the two payments back and close my account.",
    "Does the lamp come with a bulb?",
)
DEMO_EPOCHS = 8
"""At most; some 600 e-mails are few, and early stopping may end the run before."""
Data = Annotated[Path, typer.Option("--data", help="The example file.")]
Out = Annotated[Path, typer.Option("--out", help="Folder for the model; a model that is there is replaced.")]


def command(
    *,
    data: Data = EXAMPLE,
    out: Out = Path("demo-output", "model"),
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train, evaluate and predict on the example e-mails."""
    from manylabel.config.load import load_settings

    if not data.is_file():
        raise DataError(
            Finding("D191", str(data), "no such file", "the example of the source repository",
                    "run it in the repository's folder, or give --data FILE")
        )  # fmt: skip
    began = time.monotonic()
    settings = load_settings(None, [f"training.epochs={DEMO_EPOCHS}"])
    report = run_training(data, out=out, settings=settings, quiet=quiet, overwrite=True)
    if not quiet:
        show_report(report)
    from manylabel.inference.load import load_model

    predictor = load_model(out).predictor
    show_predictions(list(TEXTS), predictor.predict(TEXTS), predictor.thresholds, quiet=quiet)
    result_console().print(
        f"\nDone in {time.monotonic() - began:.0f} s.\n"
        "Next, on a file of your own:\n"
        "  manylabel check FILE.csv\n"
        "  manylabel train FILE.csv --out model\n"
        '  manylabel predict model "some text"'
    )
