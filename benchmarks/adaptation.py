"""Does `manylabel adapt` pay? The same fine-tuning from the plain and from the adapted encoder, several seeds.

    python benchmarks/adaptation.py goemotions FOLDER --work WORK
    python benchmarks/adaptation.py jigsaw FOLDER --work WORK
    python benchmarks/adaptation.py goemotions FOLDER --work WORK --rows 0     # all labelled rows

FOLDER holds train.tsv, dev.tsv, test.tsv and labels.txt, or train.csv and validation.csv (used as test rows). The
encoder is adapted once, on `--text-rows` texts of the training file (all by default; labels unread, test texts left
out). Then for each seed the classifier is trained on the same `--rows` labelled rows with the same settings, once from
each encoder. Epoch and thresholds come from other rows than training, figures from the test rows, which chose nothing.
Intervals are from the paired bootstrap over test rows, the same resample for all models; the difference is the mean
over the seeds. What is in WORK already is not made again, and a stopped adaptation goes on: use another folder for
other options.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fine_tune import FIGURES, fine_tune
from machine import describe_machine
from manylabel.config.load import load_settings
from manylabel.recipes.adapt import AdaptJob, adapt_encoder
from manylabel.recipes.adapt_texts import TextSources
from manylabel.recipes.adapted_encoder import ADAPTATION, read_adaptation
from manylabel.recipes.corpora import Corpora, Others, gather_corpora
from manylabel.training.observers import ConsoleObserver, SilentObserver

RESULTS = Path(__file__).parent / "results"
RESAMPLES = 1000
RANKING = ("average_precision", "roc_auc")


@dataclass(frozen=True)
class Data:
    """The files of a data set and how to read them."""

    train: str
    test: str
    validation: str | None
    settings: tuple[str, ...]


DATA = {
    "goemotions": Data(
        "train.tsv",
        "test.tsv",
        "dev.tsv",
        ("data.header=false", "data.label_names=labels.txt"),
    ),
    "jigsaw": Data("train.csv", "validation.csv", None, ("split.validation_fraction=0.05",)),
}


def main() -> None:
    """Adapt, train what is missing, and write the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(DATA))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=4000, help="labelled rows; 0 for all")
    parser.add_argument("--text-rows", type=int, default=0, help="texts to adapt on; 0 for all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2, help="of the fine-tuning")
    parser.add_argument("--adapt-epochs", type=int, default=1)
    parser.add_argument("--adapt-set", action="append", default=[], help="settings of the adaptation")
    parser.add_argument("--set", action="append", default=[], help="settings of the fine-tuning")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for the encoder and the finished runs"
    )
    parser.add_argument("--out", type=Path, help="JSON file; by default one of today under results")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    settings = settings_of(arguments, DATA[arguments.name])
    corpora = read(arguments, DATA[arguments.name], settings)
    encoder, adaptation_seconds = adapted(arguments, DATA[arguments.name])
    runs: list[dict[str, Any]] = []
    probabilities: dict[str, list[np.ndarray]] = {"plain": [], "adapted": []}
    for seed in range(1, arguments.seeds + 1):
        for kind, name in (("plain", "default"), ("adapted", str(encoder))):
            run, scored_NL = cached_run(arguments, corpora, kind=kind, encoder=name, seed=seed)
            runs.append(run)
            probabilities[kind].append(scored_NL)
            print(json.dumps(run), flush=True)
    assert corpora.test is not None
    found = differences(corpora.test.targets_NL, probabilities, runs)
    result = {
        "data": arguments.name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **describe_machine(),
        "labelled_rows": len(corpora.train),
        "test_rows": len(corpora.test),
        "epochs": arguments.epochs,
        "settings": arguments.set,
        "adaptation_seconds": adaptation_seconds,
        "adaptation": read_adaptation(encoder),
        "runs": runs,
        "differences": found,
    }
    target = arguments.out or RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-adaptation-{arguments.name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
    print(json.dumps(found, indent=1))
    print(f"written to {target}")


def settings_of(arguments: argparse.Namespace, data: Data) -> list[str]:
    """The settings of all fine-tunings, paths made whole."""
    given = [
        f"data.label_names={arguments.folder / 'labels.txt'}" if each.startswith("data.label_names") else each
        for each in data.settings
    ]
    return [*given, f"training.epochs={arguments.epochs}", *arguments.set]


def read(arguments: argparse.Namespace, data: Data, options: list[str]) -> Corpora:
    """The rows by role, the training rows thinned out; no copies of test rows among them."""
    folder = arguments.folder
    validation = None if data.validation is None else folder / data.validation
    others = Others(validation=validation, test=folder / data.test)
    settings = load_settings(None, [*options, "split.leaks=drop"])
    corpora = gather_corpora(folder / data.train, others, settings=settings, observer=SilentObserver())
    chosen = np.sort(np.random.default_rng(1).permutation(len(corpora.train))[: arguments.rows or None])
    return replace(corpora, train=corpora.train.select(chosen))


def adapted(arguments: argparse.Namespace, data: Data) -> tuple[Path, float | None]:
    """The adapted encoder, made unless it is there, and the seconds that took in this call."""
    out = arguments.work / "encoder"
    if (out / ADAPTATION).is_file():
        return out, None
    texts = arguments.work / "texts.csv"
    write_texts(texts, arguments, data, which=data.train, limit=arguments.text_rows)
    tests = [data.test] if data.validation is None else [data.test, data.validation]
    for number, name in enumerate(tests):
        write_texts(arguments.work / f"test-{number}.csv", arguments, data, which=name, limit=0)
    sources = TextSources(
        (texts,), tuple(arguments.work / f"test-{number}.csv" for number in range(len(tests)))
    )
    options = [f"training.epochs={arguments.adapt_epochs}", *arguments.adapt_set]
    began = time.monotonic()
    adapt_encoder(AdaptJob(sources, out), settings=load_settings(None, options), observer=ConsoleObserver())
    return out, round(time.monotonic() - began, 1)


def write_texts(target: Path, arguments: argparse.Namespace, data: Data, *, which: str, limit: int) -> None:
    """The texts of one file, without its labels, the first `limit` of them in a fixed random order."""
    settings = load_settings(None, settings_of(arguments, data))
    corpora = gather_corpora(arguments.folder / which, Others(), settings=settings, observer=SilentObserver())
    texts = [text for corpus in (*corpora.by_role.values(), corpora.test) if corpus for text in corpus.texts]
    order = np.random.default_rng(1).permutation(len(texts))[: limit or None]
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text"])
        writer.writerows([texts[row]] for row in np.sort(order))


def cached_run(
    arguments: argparse.Namespace, corpora: Corpora, *, kind: str, encoder: str, seed: int
) -> tuple[dict[str, Any], np.ndarray]:
    """One fine-tuning and its probabilities of the test rows."""
    place = arguments.work / f"{kind}-{seed}.npz"
    if not place.exists():
        options = settings_of(arguments, DATA[arguments.name])
        options += [f"model.encoder={encoder}", f"training.seed={seed}", "inference.precision=auto"]
        tuned = fine_tune(corpora, load_settings(None, options))
        made = {
            "encoder": kind,
            "seed": seed,
            **tuned.figures,
            "seconds": tuned.seconds,
            "steps": tuned.steps,
        }
        temporary = place.with_suffix(".part.npz")  # A run that is killed here is made again.
        np.savez(temporary, scored=tuned.probabilities_NL, run=np.array(json.dumps(made)))
        temporary.replace(place)
    with np.load(place) as kept:
        return json.loads(str(kept["run"])), kept["scored"]


def differences(
    targets_NL: np.ndarray, probabilities: dict[str, list[np.ndarray]], runs: list[dict[str, Any]]
) -> dict[str, Any]:
    """Adapted minus plain, the mean over seeds, with 95 % intervals over test rows, and seed by seed."""
    choose = np.random.default_rng(1)
    num_rows = len(targets_NL)
    weights_RN = [np.ones(num_rows)]
    weights_RN += [
        np.bincount(choose.integers(0, num_rows, num_rows), minlength=num_rows).astype(float)
        for _ in range(RESAMPLES)
    ]
    means = {
        kind: np.mean([ranked(targets_NL, scored_NL, weights_RN) for scored_NL in models], axis=0)
        for kind, models in probabilities.items()
    }
    change_RM = means["adapted"] - means["plain"]
    found: dict[str, Any] = {}
    for place, name in enumerate(RANKING):
        low, high = np.quantile(change_RM[1:, place], [0.025, 0.975])
        found[name] = {
            "plain": round(float(means["plain"][0, place]), 5),
            "adapted": round(float(means["adapted"][0, place]), 5),
            "difference": round(float(change_RM[0, place]), 5),
            "low": round(float(low), 5),
            "high": round(float(high), 5),
        }
    for name in FIGURES:
        by_seed = {(run["encoder"], run["seed"]): run[name] for run in runs}
        seeds = sorted({run["seed"] for run in runs})
        found.setdefault(name, {})["by_seed"] = [
            round(by_seed["adapted", seed] - by_seed["plain", seed], 5) for seed in seeds
        ]
    return found


def ranked(targets_NL: np.ndarray, scored_NL: np.ndarray, weights_RN: list[np.ndarray]) -> np.ndarray:
    """[R, 2]: macro average precision and ROC-AUC under each vector of row weights, ties in the order of the rows."""
    order_NL = np.argsort(-scored_NL, axis=0, kind="stable")
    of_labels = []
    for label in range(targets_NL.shape[1]):
        order = order_NL[:, label]
        order = order[targets_NL[order, label] >= 0]
        is_one = targets_NL[order, label] == 1
        rows = []
        for weights_N in weights_RN:
            weight = weights_N[order]
            ones, all_ = np.cumsum(weight * is_one), np.cumsum(weight)
            num_ones, num_zeros = ones[-1], all_[-1] - ones[-1]
            if not num_ones or not num_zeros:
                rows.append((np.nan, np.nan))
                continue
            own = weight * is_one
            precision = (own * ones / np.maximum(all_, 1e-12)).sum() / num_ones
            area = (weight * ~is_one * ones).sum() / (num_ones * num_zeros)
            rows.append((precision, area))
        of_labels.append(rows)
    return np.asarray(np.nanmean(np.array(of_labels), axis=0))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
