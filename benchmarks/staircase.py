"""The competition recipe, step by step, on Jigsaw: what each step adds to the one before it, and what it costs.

    python benchmarks/staircase.py FOLDER --work WORK [--rows 8000] [--unlabelled 20000] [--pseudo 8000] [--folds 3]

FOLDER holds train.csv and validation.csv (10,000 natural rows; test rows here, which choose nothing). `--rows` rows of
train.csv are labelled; `--unlabelled` others lend their texts only. Steps: the linear baseline; one model; one from an
encoder adapted to all these texts; its fold models averaged; blended with the linear model; with windows of long
texts as well; and one model that learned from that ensemble's pseudo-labels. Every model is made by the command line,
which is printed; what is in WORK already is not made again. Figures need no threshold: mean ROC-AUC and macro average
precision, with intervals and paired differences to the step before, from the same resamples.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from scipy.special import expit, logit

from machine import describe_machine, write_result
from manylabel.config.schema import EvaluationSettings
from manylabel.data.corpus import load_corpus
from manylabel.decisions.blend import KINDS, cross_fitted, fit_blend
from manylabel.evaluation.evaluate import macro_average_precision
from manylabel.evaluation.intervals import bootstrap_of
from manylabel.evaluation.paired import compare_judged
from manylabel.evaluation.weighted import Judged
from manylabel.inference.ensemble import EnsembleScorer
from manylabel.inference.load import load_model
from manylabel.recipes.corpora import all_texts
from manylabel.recipes.scoring import seen_rows
from manylabel.values import Corpus

LABELS = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
SETTINGS = (
    "text.max_length=128",
    "training.epochs=2",
    "training.learning_rate=1e-4",
    "training.head_learning_rate=1e-3",
    "split.validation_fraction=0.05",
    "split.calibration_fraction=0",
    "split.leaks=drop",
    "inference.precision=bf16",
)
METRICS = ("roc_auc", "average_precision")
SHOWN = (("AUC", "roc_auc"), ("AP", "average_precision"))
Probabilities = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Step:
    """A name, probabilities of the test rows, and the seconds that making it took (None: a part of another step)."""

    name: str
    probabilities_NL: Probabilities
    seconds: float | None
    note: str = ""


def main() -> None:
    """Make what is missing, print the table, write `results/DATE-staircase-jigsaw.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=8_000)
    parser.add_argument("--unlabelled", type=int, default=20_000)
    parser.add_argument("--pseudo", type=int, default=8_000, help="of these, texts that get pseudo-labels")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    arguments = parser.parse_args()
    work: Path = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    _parts(arguments, work)
    # The commands run in WORK.
    commands = _commands(arguments.folder.resolve(), arguments.folds, [*SETTINGS, *arguments.overrides])
    seconds = {name: _made(name, command, work) for name, command in commands.items()}
    steps, test, unseen = _steps(work, arguments.folder / "validation.csv", seconds)
    rows = _table(steps, test, np.arange(len(test)))
    content = {
        "machine": describe_machine(),
        "rows": {
            "labelled": arguments.rows,
            "unlabelled": arguments.unlabelled,
            "pseudo-labelled": arguments.pseudo,
            "test": len(test),
        },
        "commands": {name: shlex.join(_without_folders(command)) for name, command in commands.items()},
        "steps": rows,
        "without_rows_that_made_a_model": {
            "rows": len(unseen),
            "steps": _table(steps, test, unseen),
        },
    }
    _show(rows)
    print(f"written to {write_result('staircase-jigsaw', content)}")


def _parts(arguments: argparse.Namespace, work: Path) -> None:
    """labelled.csv, unlabelled.csv and, a part of the latter, pseudo.csv: fixed parts of the training file."""
    with (arguments.folder / "train.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    random.Random(1).shuffle(rows)
    num_rows = arguments.rows
    parts = {
        "labelled.csv": (rows[:num_rows], ["id", "comment_text", *LABELS]),
        "unlabelled.csv": (rows[num_rows : num_rows + arguments.unlabelled], ["comment_text"]),
        "pseudo.csv": (rows[num_rows : num_rows + arguments.pseudo], ["comment_text"]),
    }
    for name, (part, columns) in parts.items():
        with (work / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, extrasaction="ignore")
            writer.writeheader()
            writer.writerows(part)


def _commands(folder: Path, folds: int, overrides: Sequence[str]) -> dict[str, list[str]]:
    """What makes each model; names of outputs are those of the steps."""
    chosen = [word for override in overrides for word in ("--set", override)]
    test = ["--test", str(folder / "validation.csv")]
    teaching = ["--teacher", "ensemble", "--unlabelled", "pseudo.csv"]
    adapting = ["--text-column", "comment_text", "--set", "text.max_length=128"]
    return {
        "one": ["train", "labelled.csv", "--out", "one", *test, *chosen],
        "encoder": ["adapt", "labelled.csv", "unlabelled.csv", "--out", "encoder", *test, *adapting],
        "adapted": ["train", "labelled.csv", "--out", "adapted", "--encoder", "encoder", *test, *chosen],
        "ensemble": [
            *("crossfit", "labelled.csv", "--out", "ensemble", "--encoder", "encoder"),
            *("--folds", str(folds), "--views", "head,tail,middle", *test, *chosen),
        ],
        "pupil": [
            *("train", "labelled.csv", "--out", "pupil", "--encoder", "encoder", *teaching, *test, *chosen),
            *("--set", "training.epochs=1"),
        ],
    }


def _made(name: str, command: Sequence[str], work: Path) -> float:
    """Seconds that the command took; it is not run again where its output is, and never another in its place."""
    times, place = work / "seconds.json", work / "commands.json"
    known: dict[str, float] = json.loads(times.read_text()) if times.is_file() else {}
    commands: dict[str, list[str]] = json.loads(place.read_text()) if place.is_file() else {}
    if commands.setdefault(name, list(command)) != list(command):
        raise SystemExit(f"{work} holds {name} made by another command: use another --work")
    place.write_text(json.dumps(commands))
    print("$ manylabel " + shlex.join(_without_folders(command)), flush=True)
    if name not in known:
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "manylabel", *command], cwd=work, check=True)
        known[name] = time.monotonic() - began
        times.write_text(json.dumps(known))
    print(f"  {known[name]:,.0f} s", flush=True)
    return known[name]


def _without_folders(command: Sequence[str]) -> list[str]:
    """No path of the measuring machine in a result."""
    return [Path(word).name if "/" in word and "=" not in word else word for word in command]


def _steps(work: Path, test_file: Path, seconds: dict[str, float]) -> tuple[list[Step], Corpus, Any]:
    """Probabilities of the test rows by step, the rows, and the positions of those that made no model."""
    one, adapted, ensemble, pupil = (
        load_model(work / name) for name in ("one", "adapted", "ensemble", "pupil")
    )
    corpus = load_corpus(test_file, one.bundle.settings.data).corpus
    texts = all_texts(corpus)
    seen_N = np.zeros(len(corpus), dtype=np.bool_)
    for model in (one, adapted, ensemble, pupil):
        seen_N |= seen_rows(model.bundle, texts).seen_N
    logits_CNL, names = _component_logits(ensemble, texts)
    table = pq.read_table(work / "ensemble.oof.parquet")
    blends = {
        "fold models": [name for name in names if " " not in name and name != "linear"],
        "+ linear model": [name for name in names if " " not in name],
        "+ windows of long texts": list(names),
    }
    steps = [
        Step("baseline", one.bundle.baseline.model.probabilities(texts), None, "TF-IDF, logistic regression"),
        Step("one model", one.predictor.probabilities(texts), seconds["one"]),
        Step(
            "+ adaptation",
            adapted.predictor.probabilities(texts),
            seconds["adapted"] + seconds["encoder"],
            f"of these {seconds['encoder']:,.0f} s for the encoder",
        ),
    ]
    for name, members in blends.items():
        kind, blended_NL = _blended(table, logits_CNL, names, members)
        whole = seconds["ensemble"] if name == "fold models" else None
        note = (
            f"{kind} of {len(members)}; all three ensembles in one command"
            if whole
            else f"{kind} of {len(members)}"
        )
        steps.append(Step(name, expit(blended_NL.astype(np.float64)), whole, note))
    steps.append(Step("one model from pseudo-labels", pupil.predictor.probabilities(texts), seconds["pupil"]))
    return steps, corpus, np.flatnonzero(~seen_N)


def _component_logits(ensemble: Any, texts: Sequence[str]) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Logits [C, N, L] of every component of an ensemble, and their names."""
    scorer = ensemble.predictor.scorer
    assert isinstance(scorer, EnsembleScorer)
    return scorer.component_logits(texts), list(ensemble.bundle.model.blend.components)


def _blended(
    table: Any, logits_CNL: npt.NDArray[np.float32], names: Sequence[str], members: Sequence[str]
) -> tuple[str, npt.NDArray[np.float32]]:
    """The kind of blend that is best out of fold for these members, and its logits of the test rows."""
    chosen = logits_CNL[[names.index(name) for name in members]]
    if len(members) == 1:
        return "mean", chosen[0]
    column = {name: table[name].to_numpy() for name in table.column_names}
    targets_NL = np.stack([column[f"truth:{label}"] for label in LABELS], axis=1).astype(np.int8)
    of_fold_CNL = np.stack(
        [np.stack([_logit(column[f"{name}:{label}"]) for label in LABELS], axis=1) for name in members]
    ).astype(np.float32)
    named = {"components": tuple(members), "labels": LABELS, "seed": 1}
    reached = {
        kind: macro_average_precision(
            targets_NL, expit(cross_fitted(kind, of_fold_CNL, targets_NL, column["fold"], **named))
        ).value
        or 0.0
        for kind in KINDS
    }
    kind = max(reached, key=reached.__getitem__)
    return kind, fit_blend(kind, of_fold_CNL, targets_NL, **named).apply(chosen)


def _logit(probabilities_N: npt.NDArray[np.float32]) -> Probabilities:
    result: Probabilities = logit(np.clip(probabilities_N.astype(np.float64), 1e-7, 1 - 1e-7))
    return result


def _table(steps: Sequence[Step], test: Corpus, rows: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
    """Figures of each step with intervals, and the paired difference to the step before."""
    settings = EvaluationSettings()
    judged = [
        Judged(LABELS, test.targets_NL[rows], step.probabilities_NL[rows], step.probabilities_NL[rows] >= 0.5)
        for step in steps
    ]
    result = []
    for number, (step, each) in enumerate(zip(steps, judged, strict=True)):
        figures = bootstrap_of(each, settings=settings).figures
        row: dict[str, Any] = {"step": step.name, "seconds": step.seconds, "note": step.note}
        for metric in METRICS:
            interval = figures["macro", metric]
            row[metric] = {"value": interval.value, "interval": interval.limits}
        row["roc_auc_by_label"] = {label: figures["labels", label, "roc_auc"].value for label in LABELS}
        if number:
            compared = compare_judged(judged[number - 1], each, settings=settings)
            row["against_the_step_before"] = {
                "conclusion": compared.conclusion(steps[number - 1].name, step.name),
                **{metric: compared.figures["macro", metric].to_json() for metric in METRICS},
            }
        result.append(row)
    return result


def _show(rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        figures = "  ".join(
            f"{name} {row[metric]['value']:.4f} {_limits(row[metric])}" for name, metric in SHOWN
        )
        seconds = "" if row["seconds"] is None else f"{row['seconds']:,.0f} s"
        print(f"{row['step']:30} {figures}  {seconds}  {row['note']}")
        if "against_the_step_before" in row:
            print(f"{'':30} {row['against_the_step_before']['conclusion']}")


def _limits(figure: dict[str, Any]) -> str:
    return "[{:.4f}, {:.4f}]".format(*figure["interval"])


if __name__ == "__main__":
    main()
