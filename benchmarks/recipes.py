"""Recipes side by side on GoEmotions: the default and one change at a time, several seeds, quality and time.

    python benchmarks/recipes.py FOLDER                    # FOLDER holds train.tsv, dev.tsv, test.tsv, labels.txt
    python benchmarks/recipes.py FOLDER --rows 43410       # all training rows; hours on 2 cores

By default 4,000 training rows drawn with one seed and 2 epochs, so that all rows take about 40 minutes on 2 cores with
AMX and two to three hours without. Epoch and thresholds come from the dev split, figures from the whole official test
split, both scored in the precision of training. Results are written after every run; a run that is in the file already
is not made again, so a stopped command goes on (on another day with --file).
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from fine_tune import FIGURES, fine_tune
from machine import describe_machine
from manylabel.config.load import load_settings
from manylabel.recipes.corpora import Corpora, Others, gather_corpora
from manylabel.training.observers import SilentObserver

RESULTS = Path(__file__).parent / "results"
EPOCHS = 2


@dataclass(frozen=True)
class Recipe:
    """A name and the settings that differ from the default; `keeps_pooler` starts cls from the encoder's own pooler."""

    name: str
    settings: tuple[str, ...] = ()
    keeps_pooler: bool = False


RECIPES = (
    Recipe("default: head mean, cross-entropy, linear"),
    Recipe("head cls, started from the data", ("model.head=cls",)),
    Recipe("head cls, the encoder's own pooler", ("model.head=cls",), keeps_pooler=True),
    Recipe("positive weights, at most 10", ("loss.label_weights=positive",)),
    Recipe("class-balanced weights", ("loss.label_weights=class_balanced",)),
    Recipe("focal loss", ("loss.kind=focal",)),
    Recipe("asymmetric loss", ("loss.kind=asymmetric",)),
    Recipe("distribution-balanced loss", ("loss.kind=distribution_balanced",)),
    Recipe("label smoothing 0.02", ("loss.label_smoothing=0.02",)),
    Recipe("cosine schedule", ("training.schedule=cosine",)),
    Recipe("slanted triangular schedule", ("training.schedule=slanted_triangular",)),
    Recipe("layer decay 0.9", ("training.layer_decay=0.9",)),
    Recipe("embeddings frozen", ("training.freeze_embeddings=true",)),
    Recipe("moving average 0.99", ("training.ema_decay=0.99",)),
    Recipe("LoRA rank 16, rate 1e-3", ("lora.rank=16", "training.learning_rate=1e-3")),
    Recipe("half the rates", ("training.learning_rate=1e-4", "training.head_learning_rate=1e-3")),
    Recipe("twice the rates", ("training.learning_rate=4e-4", "training.head_learning_rate=4e-3")),
)


def main() -> None:
    """Make the runs that are missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=4000, help="training rows")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--file", type=Path, help="results to go on from, instead of today's")
    parser.add_argument("--only", help="recipes whose name contains this")
    parser.add_argument("--table", action="store_true", help="print what is there, run nothing")
    arguments = parser.parse_args()
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    target = arguments.file or RESULTS / f"{day}-recipes-goemotions-{arguments.rows}.json"
    runs: list[dict[str, Any]] = json.loads(target.read_text())["runs"] if target.exists() else []
    if not arguments.table:
        corpora = read(arguments.folder, arguments.rows)
        chosen = [recipe for recipe in RECIPES if (arguments.only or "") in recipe.name]
        for seed in range(1, arguments.seeds + 1):
            for recipe in chosen:
                if not any(run["recipe"] == recipe.name and run["seed"] == seed for run in runs):
                    runs.append(run_once(recipe, seed, corpora))
                    write(target, runs, arguments.rows)
                    print(json.dumps(runs[-1]), flush=True)
    Console(width=130).print(table_of(runs))


def read(folder: Path, num_rows: int) -> Corpora:
    """The official splits, the training rows thinned out."""
    settings = load_settings(None, ["data.header=false", f"data.label_names={folder / 'labels.txt'}"])
    others = Others(validation=folder / "dev.tsv", test=folder / "test.tsv")
    corpora = gather_corpora(folder / "train.tsv", others, settings=settings, observer=SilentObserver())
    chosen = np.sort(np.random.default_rng(1).permutation(len(corpora.train))[:num_rows])
    return replace(corpora, train=corpora.train.select(chosen))


def run_once(recipe: Recipe, seed: int, corpora: Corpora) -> dict[str, Any]:
    """Train and score; what goes into the file."""
    options = [
        f"training.epochs={EPOCHS}",
        f"training.seed={seed}",
        "inference.precision=auto",
        *recipe.settings,
    ]
    tuned = fine_tune(corpora, load_settings(None, options), keep_pooler=recipe.keeps_pooler)
    made = {"recipe": recipe.name, "settings": list(recipe.settings), "seed": seed}
    return {**made, **tuned.figures, "training_seconds": tuned.seconds}


def write(target: Path, runs: list[dict[str, Any]], num_rows: int) -> None:
    """Replace the file by one with all runs so far."""
    content = {
        "data": "goemotions",
        "training_rows": num_rows,
        "epochs": EPOCHS,
        **describe_machine(),
        "runs": runs,
    }
    target.parent.mkdir(exist_ok=True)
    temporary = target.with_suffix(".part")
    temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    temporary.replace(target)


def table_of(runs: list[dict[str, Any]]) -> Table:
    """Mean and half the range over the seeds, best average precision first.

    Also the least and the greatest difference from the default with the same seed, and the shortest time.
    """
    rows = []
    default = {run["seed"]: run["average_precision"] for run in runs if run["recipe"] == RECIPES[0].name}
    for name in dict.fromkeys(run["recipe"] for run in runs):
        own = [run for run in runs if run["recipe"] == name]
        means = {figure: statistics.mean(run[figure] for run in own) for figure in FIGURES}
        spreads = {
            figure: max(run[figure] for run in own) - min(run[figure] for run in own) for figure in FIGURES
        }
        seconds = min(run["training_seconds"] for run in own)
        apart = [run["average_precision"] - default[run["seed"]] for run in own if run["seed"] in default]
        least = f"{min(apart):+.4f} {max(apart):+.4f}" if apart else ""
        rows.append((means["average_precision"], name, means, spreads, least, seconds, len(own)))
    table = Table(
        "recipe",
        "macro avg prec",
        "from the default",
        "macro ROC-AUC",
        "macro F1",
        "seconds",
        "seeds",
        box=None,
    )
    for _, name, means, spreads, least, seconds, count in sorted(rows, reverse=True, key=lambda row: row[0]):
        cells = [f"{means[figure]:.4f} ±{spreads[figure] / 2:.4f}" for figure in FIGURES]
        table.add_row(name, cells[0], least, *cells[1:], f"{seconds:.0f}", str(count))
    return table


if __name__ == "__main__":
    main()
