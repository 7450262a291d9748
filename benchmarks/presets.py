"""Presets side by side: the default, the article's and ULMFiT's fine-tuning, on the same rows, over several seeds.

    python benchmarks/presets.py goemotions FOLDER            # FOLDER holds train.tsv, dev.tsv, test.tsv, labels.txt
    python benchmarks/presets.py FILE.csv [--test TEST.csv]   # any file that `manylabel train` takes
    python benchmarks/presets.py examples/customer_emails.csv --rows 120 --seeds 1 --only default --only ulmfit

4,000 training rows by default, so that three seeds of all cases take about 45 minutes on 2 cores with AMX. The cases
beside the three presets part what a preset does from how long it trains and from its rate, which was chosen for
BERT-Base. Every run is `train_model`, as in `manylabel train --preset NAME`; figures are of test rows, which chose
nothing. An interval is of the mean over the seeds, from resamples of the test rows under which all models are
measured alike; what another seed would change is the range beside it. Finished runs are kept in --work and are not
made again.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from machine import describe_machine, write_result
from manylabel.config.load import dump_settings, load_settings
from manylabel.config.presets import PRESETS
from manylabel.config.schema import EvaluationSettings, RunSettings
from manylabel.evaluation.resampling import Resampler, make_resampler
from manylabel.evaluation.spread import Sampled, sample, spread_of
from manylabel.evaluation.weighted import Judged, WeightedFigures
from manylabel.inference.load import load_model
from manylabel.recipes.corpora import Corpora, Others, gather_corpora
from manylabel.recipes.train import Job, train_model
from manylabel.training.observers import SilentObserver
from manylabel.values import Corpus

METRICS = {"average_precision": "macro avg prec", "roc_auc": "macro ROC-AUC", "f1": "macro F1"}
TEXT, PAIR, GROUP = "text of the row", "second text of the row", "group of the row"
"""Columns of the tables in memory; no label is called so."""


@dataclass(frozen=True)
class Case:
    """A preset, or none, and settings above it."""

    name: str
    preset: str | None = None
    changes: tuple[str, ...] = ()


CASES = (
    Case("default"),
    Case("article", "article"),
    Case("ulmfit", "ulmfit"),
    Case("default, 8 epochs", None, ("training.epochs=8", "training.patience=0")),
    Case("ulmfit, 4 epochs", "ulmfit", ("training.epochs=4",)),
    Case(
        "article, rates by width",
        "article",
        ("training.learning_rate=null", "training.head_learning_rate=null", "training.precision=auto"),
    ),
)


@dataclass(frozen=True, eq=False)
class Run:
    """The test rows as one trained model judges them."""

    case: str
    seed: int
    seconds: float
    best_epoch: float
    judged: Judged


def main() -> None:
    """Make the runs that are missing, print the table, write the JSON."""
    arguments = parse()
    corpora = read(arguments)
    assert corpora.test is not None
    cases = [case for case in CASES if not arguments.only or case.name in arguments.only]
    runs = []
    for seed in range(1, arguments.seeds + 1):
        for case in cases:
            runs.append(run_once(case, seed, corpora, arguments))
            print(f"{case.name}, seed {seed}: {runs[-1].seconds:.0f} s", file=sys.stderr, flush=True)
    evaluation = EvaluationSettings(resamples=arguments.resamples)
    figures = measure(runs, corpora.test, evaluation)
    content = {
        "data": arguments.tag or Path(arguments.source).stem,
        "rows": {role: len(corpus) for role, corpus in (*corpora.by_role.items(), ("test", corpora.test))},
        "seeds": arguments.seeds,
        "encoder": Path(arguments.encoder).name,
        "settings": arguments.overrides,
        "resamples": arguments.resamples,
        "confidence": evaluation.confidence,
        **describe_machine(),
        "cases": figures,
    }
    Console(width=150).print(table_of(figures))
    name = f"presets-{content['data']}-{len(corpora.train)}"
    print(f"written to {write_result(name, content, folder=arguments.results).name}")


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="goemotions, or a file")
    parser.add_argument("folder", type=Path, nargs="?", help="of GoEmotions")
    parser.add_argument("--test", type=Path)
    parser.add_argument("--rows", type=int, default=4000, help="training rows, drawn with seed 1; 0 for all")
    parser.add_argument("--test-rows", type=int, default=0, help="test rows, drawn with seed 1; 0 for all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--only", action="append", choices=[case.name for case in CASES], help="repeatable")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="for all cases")
    parser.add_argument("--encoder", default="default")
    parser.add_argument("--tag", default="", help="name of the data in the result")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "manylabel-presets")
    parser.add_argument("--results", type=Path, help="folder of the JSON; benchmarks/results by default")
    arguments = parser.parse_args()
    if (arguments.source == "goemotions") != (arguments.folder is not None):
        parser.error("goemotions goes with a folder, a file without one")
    return arguments


def read(arguments: argparse.Namespace) -> Corpora:
    """Rows by role, the same for all cases and seeds; training and test rows thinned out."""
    folder, options = arguments.folder, list(arguments.overrides)
    source, others = Path(arguments.source), Others(test=arguments.test)
    if folder is not None:
        source, others = folder / "train.tsv", Others(validation=folder / "dev.tsv", test=folder / "test.tsv")
        options += ["data.header=false", f"data.label_names={folder / 'labels.txt'}"]
    settings = load_settings(None, options)
    corpora = gather_corpora(source, others, settings=settings, observer=SilentObserver())
    assert corpora.test is not None
    return replace(
        corpora, train=thinned(corpora.train, arguments.rows), test=thinned(corpora.test, arguments.test_rows)
    )


def thinned(corpus: Corpus, num_rows: int) -> Corpus:
    """`num_rows` rows in their order; 0 keeps all."""
    if not 0 < num_rows < len(corpus):
        return corpus
    return corpus.select(np.sort(np.random.default_rng(1).permutation(len(corpus))[:num_rows]))


def as_table(corpus: Corpus) -> pa.Table:
    """The rows as `train_model` takes them."""
    columns: dict[str, Any] = {TEXT: list(corpus.texts)}
    if corpus.pairs is not None:
        columns[PAIR] = list(corpus.pairs)
    if corpus.groups is not None:
        columns[GROUP] = list(corpus.groups)
    labels = {name: corpus.targets_NL[:, column] for column, name in enumerate(corpus.labels.names)}
    return pa.table({**columns, **labels})


def settings_of(case: Case, seed: int, corpora: Corpora, arguments: argparse.Namespace) -> RunSettings:
    """What `manylabel train --preset NAME` would have, and what the tables need."""
    typed: dict[str, object] = {
        "data.text_column": TEXT,
        "data.label_columns": corpora.train.labels.names,
        "model.encoder": arguments.encoder,
        "training.seed": seed,
        "evaluation.resamples": 0,
        "inference.precision": "auto",
    }
    typed |= {"data.pair_column": PAIR} if corpora.train.pairs is not None else {}
    typed |= {"data.group_column": GROUP} if corpora.train.groups is not None else {}
    kept = [one for one in (*arguments.overrides, *case.changes) if not one.startswith("data.")]
    return load_settings(None, kept, typed=typed, preset=case.preset)


def run_once(case: Case, seed: int, corpora: Corpora, arguments: argparse.Namespace) -> Run:
    """Train and judge the test rows, or take what an earlier call has kept."""
    assert corpora.test is not None
    settings = settings_of(case, seed, corpora, arguments)
    test = corpora.test
    key = hashlib.sha256(dump_settings(settings).encode())
    for corpus in (*corpora.by_role.values(), test):
        key.update("\0".join(corpus.texts).encode())
        key.update(corpus.targets_NL.tobytes())
    kept = arguments.work / f"{key.hexdigest()[:24]}.npz"
    if not kept.exists():
        arguments.work.mkdir(parents=True, exist_ok=True)
        train(settings, corpora, kept)
    with np.load(kept, allow_pickle=False) as arrays:
        judged = Judged(
            test.labels.names, test.targets_NL, arrays["probabilities"], arrays["decisions"], (1.0, 1.0)
        )
        return Run(case.name, seed, float(arrays["seconds"]), float(arrays["best_epoch"]), judged)


def train(settings: RunSettings, corpora: Corpora, target: Path) -> None:
    """One run; what the table needs of it goes into `target`."""
    test = corpora.test
    assert test is not None
    others = {"validation": as_table(corpora.validation), "test": as_table(test)}
    if corpora.calibration is not corpora.validation:
        others["calibration"] = as_table(corpora.calibration)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model"
        job = Job(as_table(corpora.train), out, **others)
        outcome = train_model(job, settings=settings, observer=SilentObserver()).outcome
        predictions = load_model(out).predictor.predict(test.texts, test.pairs)
    best_epoch = settings.training.epochs * outcome.best_step / max(outcome.steps, 1)
    temporary = target.with_suffix(".part.npz")
    np.savez(
        temporary,
        probabilities=predictions.probabilities_BL,
        decisions=predictions.decisions_BL,
        seconds=outcome.seconds,
        best_epoch=best_epoch,
    )
    temporary.replace(target)


def measure(runs: Sequence[Run], test: Corpus, settings: EvaluationSettings) -> list[dict[str, Any]]:
    """For each case the mean over its seeds, its difference from the default, both with intervals."""
    resampler = make_resampler(test.targets_NL, test.groups, seed=settings.seed)
    sampled = sample([WeightedFigures(run.judged) for run in runs], resampler, settings.resamples)
    means: dict[str, Sampled] = {}
    for name in dict.fromkeys(run.case for run in runs):
        means[name] = mean_of([one for one, run in zip(sampled, runs, strict=True) if run.case == name])
    result = []
    for name, mean in means.items():
        own = [(run, one) for run, one in zip(runs, sampled, strict=True) if run.case == name]
        case = next(case for case in CASES if case.name == name)
        told: dict[str, Any] = {
            "case": name,
            "preset": case.preset,
            "settings": {**(PRESETS[case.preset].values if case.preset else {})},
            "changes": list(case.changes),
            "training_seconds": statistics.median(run.seconds for run, _ in own),
            "best_epochs": [round(run.best_epoch, 2) for run, _ in own],
            "macro": figures_of(mean, resampler, settings),
            "by_seed": [{"seed": run.seed, **plain(one)} for run, one in own],
        }
        if name != "default" and "default" in means:
            told["minus_default"] = figures_of(mean.minus(means["default"]), resampler, settings)
        result.append(told)
    return result


def mean_of(sampled: Sequence[Sampled]) -> Sampled:
    """The mean of several models' figures, resample by resample."""

    def mean(field: str) -> Any:
        return reduce(np.add, (getattr(one, field) for one in sampled)) / len(sampled)

    return Sampled(sampled[0].paths, mean("value_F"), mean("jackknife_FB"), mean("resampled_FR"))


def figures_of(sampled: Sampled, resampler: Resampler, settings: EvaluationSettings) -> dict[str, Any]:
    """Value and limits of the macro figures; no limits without resamples."""
    told = {}
    low_F = high_F = np.full(len(sampled.paths), np.nan)
    if settings.resamples:
        low_F, high_F = spread_of(sampled, resampler, cautious=False).limits(settings.confidence)
    for metric in METRICS:
        place = sampled.paths.index(("macro", metric))
        limits = [number(low_F[place]), number(high_F[place])]
        value = number(sampled.value_F[place])
        told[metric] = {"value": value, "interval": None if None in (value, *limits) else limits}
    return told


def plain(sampled: Sampled) -> dict[str, float | None]:
    """The macro figures of one model."""
    return {metric: number(sampled.value_F[sampled.paths.index(("macro", metric))]) for metric in METRICS}


def number(value: float) -> float | None:
    """To five decimals; None where the figure is undefined."""
    return None if math.isnan(value) else round(float(value), 5)


def table_of(figures: Sequence[dict[str, Any]]) -> Table:
    """One line a case; ± is half the range over the seeds."""
    table = Table("case", *METRICS.values(), "avg prec - default's", "seconds", "best epoch", box=None)
    for case in figures:
        cells = []
        for metric in METRICS:
            values = [seed[metric] for seed in case["by_seed"] if seed[metric] is not None]
            half = (max(values, default=0.0) - min(values, default=0.0)) / 2
            cells.append(f"{shown(case['macro'][metric])} ±{half:.3f}")
        difference = case.get("minus_default", {}).get("average_precision")
        cells.append("" if difference is None else shown(difference, sign="+"))
        epochs = " ".join(f"{epoch:g}" for epoch in case["best_epochs"])
        table.add_row(case["case"], *cells, f"{case['training_seconds']:.0f}", epochs)
    return table


def shown(figure: dict[str, Any], sign: str = "") -> str:
    """Value and interval to three decimals."""
    if figure["value"] is None:
        return "-"
    if figure["interval"] is None:
        return f"{figure['value']:{sign}.3f}"
    low, high = figure["interval"]
    return f"{figure['value']:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


if __name__ == "__main__":
    main()
