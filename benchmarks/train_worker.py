"""One row of the training benchmark in a process of its own; started by train_rows.py, not by hand.

    python benchmarks/train_worker.py FOLDER ROW

FOLDER holds config.json, model.safetensors, data.npz and ROW.json. The process trains through the public loop of the
row's library and stops after each stage (a number of optimizer steps) until its standard input says `go`; a word that
is not `go` ends it. Every answer on standard output is a line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from machine import peak_memory, synchronise
from manylabel.config.schema import TrainingSettings
from manylabel.modeling.precision import choose_device
from manylabel.modeling.weights.hugging_face import load_classifier, read_config
from manylabel.recipes.prepare import choose_rates
from manylabel.training.examples import LabelledTexts
from manylabel.training.loop import Trainer
from manylabel.training.objectives import MultiLabelObjective
from manylabel.training.observers import Step, Validated
from manylabel.values import Encodings
from train_sample import select

Row = dict[str, Any]


class Pacer:
    """Counts and times steps; at the end of a stage it answers and waits for the word to go on."""

    def __init__(self, stages: list[int], answers: IO[str]) -> None:
        self._stages, self._answers = stages, answers
        self._stage = self._steps = self._texts = self._tokens = 0
        self._began = 0.0

    def begin(self) -> bool:
        """Say that the row is ready and wait; False when it is not wanted."""
        self.answer(ready=True)
        return self._wait()

    def answer(self, **fields: object) -> None:
        """One line of JSON."""
        self._answers.write(json.dumps(fields) + "\n")
        self._answers.flush()

    def restart(self) -> None:
        """What happened since the last step (a validation) does not count, unless steps were made since."""
        if self._steps == 0:
            synchronise()
            self._began = time.perf_counter()

    def after_step(self, texts: int = 0, tokens: int = 0) -> bool:
        """Count a step; False when training is to end."""
        self._steps, self._texts, self._tokens = self._steps + 1, self._texts + texts, self._tokens + tokens
        if self._steps < self._stages[self._stage]:
            return True
        synchronise()
        seconds = time.perf_counter() - self._began
        self.answer(seconds=seconds, steps=self._steps, texts=self._texts, tokens=self._tokens)
        self._stage, self._steps, self._texts, self._tokens = self._stage + 1, 0, 0, 0
        return self._stage < len(self._stages) and self._wait()

    def _wait(self) -> bool:
        going = sys.stdin.readline().strip() == "go"
        self._began = time.perf_counter()
        return going


class PacingObserver:
    """Tells a pacer about our loop's steps; validations are not timed."""

    def __init__(self, pacer: Pacer) -> None:
        self._pacer, self.stopped = pacer, False

    def stage(self, text: str) -> None:
        """Ignore."""

    def step(self, step: Step) -> None:
        """Count it."""
        self.stopped = self.stopped or not self._pacer.after_step(step.num_texts, step.num_tokens)

    def validated(self, result: Validated) -> None:
        """Do not time it."""
        self._pacer.restart()


def read_data(folder: Path) -> tuple[Encodings, npt.NDArray[np.integer]]:
    """Encodings and targets of data.npz."""
    with np.load(folder / "data.npz") as arrays:
        ids_T, offsets_N1, targets_NL = arrays["ids_T"], arrays["offsets_N1"], arrays["targets_NL"]
    flags_N = np.zeros(len(offsets_N1) - 1, np.bool_)
    return Encodings(ids_T, np.zeros(len(ids_T), np.uint8), offsets_N1, flags_N), targets_NL


def run_ours(folder: Path, row: Row, pacer: Pacer) -> None:
    """Our loop with public settings only; a stage is an epoch over the sample."""
    encodings, targets_NL = read_data(folder)
    first_texts = np.arange(row["num_texts"])
    encodings, targets_NL = select(encodings, first_texts), targets_NL[first_texts]
    config = read_config(folder)
    classifier = load_classifier(
        config,
        load_file(folder / "model.safetensors"),
        num_labels=targets_NL.shape[1],
        head="cls",
        dropout=row["dropout"],
    ).to(choose_device())
    settings = TrainingSettings(
        epochs=len(row["stages"]), batch_size=row["batch_size"], patience=0, precision=row["precision"]
    )
    observer = PacingObserver(pacer)
    data = LabelledTexts(encodings, targets_NL, tuple(str(i) for i in range(len(encodings))))
    trainer = Trainer(
        classifier,
        data,
        objective=MultiLabelObjective(),
        settings=settings,
        rates=choose_rates(settings, classifier.encoder.hidden_size),
        observer=observer,
        should_stop=lambda: observer.stopped,
    )
    if pacer.begin():
        trainer.fit(lambda: None)


def run_peer(folder: Path, row: Row, pacer: Pacer) -> None:
    """Trainer of transformers over the batches of the row's plan."""
    from train_peers import Peer, Texts, train_peer

    encodings, targets_NL = read_data(folder)
    texts = Texts(encodings, targets_NL)
    plan = [
        (index, pad_to)
        for batch, pad_to in zip(row["batches"], row["pad_to"], strict=True)
        for index in batch
    ]
    peer = Peer(row["precision"], row["attention"], row["attention_dropout"], row["parts"])
    if pacer.begin():
        train_peer(folder, peer, texts, batch_size=row["batch_size"], after_step=pacer.after_step, plan=plan)


def main() -> None:
    """Answers go to the real standard output; what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    folder, name = Path(sys.argv[1]), sys.argv[2]
    row: Row = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    torch.set_num_threads(row["threads"])
    pacer = Pacer(row["stages"], answers)
    (run_ours if row["kind"] == "ours" else run_peer)(folder, row, pacer)
    pacer.answer(peak_bytes=peak_memory())


if __name__ == "__main__":
    main()
