"""Each augmentation alone against none: several seeds, macro average precision and F1, and what it costs in time.

    python benchmarks/augmentation.py FOLDER                 # FOLDER holds train.*, dev.* (or validation.*) and test.*
    python benchmarks/augmentation.py FOLDER --rows 43410    # all training rows of GoEmotions; hours on 2 cores
    python benchmarks/augmentation.py FOLDER --set data.translation_columns='["de","fr"]'

A folder with labels.txt is read as GoEmotions is: no header, and labels are positions in that file. By default 2,000
training rows drawn with one seed and 2 epochs. Few rows are where augmentation may help; with all of them it rarely
does. Translations are tried where the file has them, synonyms where WordNet is installed. Epoch and thresholds come
from the dev rows, figures from the test rows. Results are written after every run; a run that is there is not made
again.
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

from machine import describe_machine
from manylabel.config.load import load_settings
from manylabel.config.schema import RunSettings
from manylabel.errors import ConfigError
from manylabel.evaluation.evaluate import evaluate
from manylabel.inference.backends.torch_backend import TorchBackend
from manylabel.modeling.precision import resolve_precision
from manylabel.modeling.weights.locate import locate_encoder
from manylabel.recipes.augment import check_augmentation, examples_for, pass_for
from manylabel.recipes.corpora import Corpora, Others, gather_corpora
from manylabel.recipes.judge import decide_on, validation_score
from manylabel.recipes.prepare import choose_rates, new_classifier, predictor_of, tokenizer_for
from manylabel.training.examples import LabelledTexts
from manylabel.training.head_start import start_head
from manylabel.training.loop import Trainer
from manylabel.training.objectives import build_objective
from manylabel.training.observers import SilentObserver
from manylabel.training.processes import Processes

RESULTS = Path(__file__).parent / "results"
FIGURES = ("average_precision", "f1")


@dataclass(frozen=True)
class Way:
    name: str
    settings: tuple[str, ...] = ()


WAYS = (
    Way("none"),
    Way("typos 0.05", ("augmentation.character_noise=0.05",)),
    Way("word dropout 0.1", ("augmentation.word_dropout=0.1",)),
    Way("word swap 0.1", ("augmentation.word_swap=0.1",)),
    Way("synonyms 0.2", ("augmentation.synonyms=0.2",)),
    Way("translations 1", ("augmentation.translations=1",)),
    Way("mixup 0.4, all texts", ("augmentation.mixup=0.4", "augmentation.share=1")),
    Way("adversarial 1", ("augmentation.adversarial=1",)),
)


def main() -> None:
    """Make the runs that are missing and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=2000, help="training rows")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--only", help="ways whose name contains this")
    parser.add_argument(
        "--set", action="append", default=[], help="settings of all runs, as for manylabel train"
    )
    parser.add_argument("--out", type=Path, help="JSON file; by default one of today under results")
    arguments = parser.parse_args()
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    name = f"{day}-augmentation-{arguments.folder.resolve().name}-{arguments.rows}.json"
    target = arguments.out or RESULTS / name
    runs: list[dict[str, Any]] = json.loads(target.read_text())["runs"] if target.exists() else []
    given = [f"training.epochs={arguments.epochs}", *arguments.set]
    corpora = read(arguments.folder, arguments.rows, given)
    for seed in range(1, arguments.seeds + 1):
        for way in WAYS:
            is_done = any(run["way"] == way.name and run["seed"] == seed for run in runs)
            if is_done or (arguments.only or "") not in way.name:
                continue
            settings = settings_of(
                [*given, f"training.seed={seed}", "inference.precision=auto", *way.settings]
            )
            if (reason := why_not(settings, corpora)) is None:
                runs.append(
                    {
                        "way": way.name,
                        "settings": list(way.settings),
                        "seed": seed,
                        **run_once(settings, corpora),
                    }
                )
                write(target, runs, arguments)
                print(json.dumps(runs[-1]), flush=True)
            else:
                print(f"{way.name}: left out, {reason}", flush=True)
    Console(width=110).print(table_of(runs))


def settings_of(options: list[str]) -> RunSettings:
    return load_settings(None, options)


def read(folder: Path, num_rows: int, given: list[str]) -> Corpora:
    """The rows of the three files, the training rows thinned out."""
    names = folder / "labels.txt"
    data = ["data.header=false", f"data.label_names={names}"] if names.exists() else []
    others = Others(validation=only_file(folder, "dev", "validation"), test=only_file(folder, "test"))
    settings = settings_of([*data, *given])
    corpora = gather_corpora(only_file(folder, "train"), others, settings=settings, observer=SilentObserver())
    chosen = np.sort(np.random.default_rng(1).permutation(len(corpora.train))[:num_rows])
    return replace(corpora, train=corpora.train.select(chosen))


def only_file(folder: Path, *stems: str) -> Path:
    found = [path for path in sorted(folder.iterdir()) if path.name.split(".")[0] in stems]
    if len(found) != 1:
        raise SystemExit(f"{folder} must hold one file named {' or '.join(stems)}; found {len(found)}")
    return found[0]


def why_not(settings: RunSettings, corpora: Corpora) -> str | None:
    """What these rows or this machine lack for the augmentation; None where it can be tried."""
    try:
        check_augmentation(settings, corpora.train)
    except ConfigError as error:
        return error.findings[0].found
    return None


def run_once(settings: RunSettings, corpora: Corpora) -> dict[str, float]:
    """Train and score; the figures."""
    processes, folder, train = Processes.alone(), locate_encoder(settings.model.encoder), corpora.train
    classifier = new_classifier(folder, len(train.labels), settings, processes.device)
    tokenizer = tokenizer_for(folder, classifier, settings)
    encodings = tokenizer.encode(train.texts, train.pairs)
    unchanged = LabelledTexts(encodings, train.targets_NL, train.ids)
    start_head(classifier, unchanged, seed=settings.training.seed, keep_pooler=False)
    trainer = Trainer(
        classifier,
        examples_for(encodings, train, tokenizer, settings),
        objective=build_objective(settings.loss, train.targets_NL),
        settings=settings.training,
        rates=choose_rates(settings.training, classifier.encoder.hidden_size),
        observer=SilentObserver(),
        should_stop=lambda: False,
    )
    validate = validation_score(
        TorchBackend(classifier, dtype=resolve_precision(settings.training.precision, processes.device)),
        tokenizer.encode(corpora.validation.texts, corpora.validation.pairs),
        corpora.validation,
        token_budget=settings.inference.token_budget,
        processes=processes,
    )
    outcome = trainer.fit(validate, None, pass_for(settings))
    predictor = predictor_of(classifier, tokenizer, corpora, settings, precision="auto")
    predictor, _ = decide_on(predictor, corpora.calibration, settings)
    test = corpora.test
    assert test is not None
    probabilities_NL = predictor.predict(test.texts, test.pairs).probabilities_BL
    macro = evaluate(test.targets_NL, probabilities_NL, predictor.thresholds).macro
    figures = {name: round(float(getattr(macro, name)), 5) for name in FIGURES}
    return {**figures, "training_seconds": round(outcome.seconds, 1)}


def write(target: Path, runs: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Replace the file by one with all runs so far."""
    content = {
        "data": arguments.folder.resolve().name,
        "training_rows": arguments.rows,
        "epochs": arguments.epochs,
        "settings": arguments.set,
        **describe_machine(),
        "runs": runs,
    }
    target.parent.mkdir(exist_ok=True)
    temporary = target.with_suffix(".part")
    temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    temporary.replace(target)


def table_of(runs: list[dict[str, Any]]) -> Table:
    """Mean and half the range over the seeds, and the mean difference to none with the same seed."""
    plain = {run["seed"]: run for run in runs if run["way"] == "none"}
    table = Table(
        "augmentation", "macro avg prec", "macro F1", "avg prec against none", "seconds", "seeds", box=None
    )
    for name in dict.fromkeys(run["way"] for run in runs):
        own = [run for run in runs if run["way"] == name]
        cells = []
        for figure in FIGURES:
            values = [run[figure] for run in own]
            cells.append(f"{statistics.mean(values):.4f} ±{(max(values) - min(values)) / 2:.4f}")
        gains = [
            run["average_precision"] - plain[run["seed"]]["average_precision"]
            for run in own
            if name != "none" and run["seed"] in plain
        ]
        gain = f"{statistics.mean(gains):+.4f} ({min(gains):+.4f} to {max(gains):+.4f})" if gains else ""
        seconds = statistics.median(run["training_seconds"] for run in own)
        table.add_row(name, *cells, gain, f"{seconds:.0f}", str(len(own)))
    return table


if __name__ == "__main__":
    main()
