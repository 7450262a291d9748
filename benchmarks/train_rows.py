"""The rows of the training benchmark and the processes that run them; used by train_speed.py.

Every row is a process of its own (train_worker.py): its memory is its own, and only one of them works at a time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from machine import Network, available_memory
from manylabel.modeling.classifier import Classifier, build_classifier
from manylabel.modeling.encoder import PackedEncoder
from manylabel.modeling.weights.hugging_face import load_pretrained, read_config, to_hugging_face
from manylabel.modeling.weights.locate import locate_encoder
from train_sample import BATCH_SIZE, CAP, IntArray, Sample

DROPOUT = 0.1
BERT_BASE: dict[str, object] = {
    "model_type": "bert",
    "vocab_size": 30_522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "initializer_range": 0.02,
    "pad_token_id": 0,
}
"""config.json of the original release."""
TINY = BERT_BASE | {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 256,
}
"""For trying the scripts out."""
MEMORY_SHARE = 0.7
"""Part of the free memory that the activations of the row at work may take."""
BYTES_A_WEIGHT = 18
"""Of a waiting row: weight, gradient and two moments in fp32, and some room."""
HIDDEN_BYTES = {"fp32": 76, "bf16": 64}
"""What BertModel keeps for the way back, a hidden value and layer, scores apart (saved_tensors_hooks, torch 2.13)."""
DROPPED_SCORE_BYTES, EAGER_SCORE_BYTES = 12, 8
"""The same of each score, with attention dropout and with eager attention; the fused kernel keeps none."""
TRIAL_STEPS = 3


class RowEndedError(Exception):
    """The process of a row is gone, for example because the memory did not suffice."""


@dataclass(frozen=True)
class Row:
    """One line of the table. `batching`: random, grouped (by length) or max_length; `seconds` ends its rounds."""

    name: str
    title: str
    kind: str
    precision: str
    batching: str
    seconds: float
    attention: str = "sdpa"
    attention_dropout: float = 0.0


def all_rows(fast: str) -> tuple[Row, ...]:
    """Every row; `fast` is the machine's fast precision.

    One of the two tuned rows is dropped after a trial; they come first, before the others take memory.
    """
    tuned = f"Trainer tuned: {fast}, grouped by length, fused AdamW, attention dropout 0"
    padded = "simpletransformers' batching (all padded to 512) through Trainer, fp32"
    return (
        Row("trainer-tuned", f"{tuned}, SDPA", "peer", fast, "grouped", 90.0),
        Row("trainer-tuned-eager", f"{tuned}, eager", "peer", fast, "grouped", 90.0, attention="eager"),
        Row("ours", f"manylabel, {fast}", "ours", fast, "random", 90.0),
        Row("ours-fp32", "manylabel, fp32", "ours", "fp32", "random", 90.0),
        Row("trainer-defaults", "Trainer's defaults: fp32, random, dynamic padding", "peer", "fp32", "random", 60.0,
            attention_dropout=0.1),
        Row("max-length", padded, "peer", "fp32", "max_length", 40.0, attention_dropout=0.1),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Cell:
    """What all rows of one table have in common."""

    folder: Path
    sample: Sample
    network: Network
    rounds: int
    heats: int
    num_weights: int
    activation_bytes: float = 0.0

    def with_room_for(self, num_rows: int) -> Cell:
        """With the memory that the activations of one of so many rows may take that are about to start."""
        waiting = self.num_weights * BYTES_A_WEIGHT * num_rows
        return replace(self, activation_bytes=MEMORY_SHARE * max(available_memory() - waiting, 0))


@dataclass(frozen=True, eq=False)
class Stage:
    """What a row does between two waits: lengths of its texts, and tokens it computes with padding."""

    lengths: IntArray
    computed_tokens: int


@dataclass(eq=False)
class RowProcess:
    """A running row: its stages (first step, trial of the tuned rows, then rounds) and what they took."""

    row: Row
    process: subprocess.Popen[str]
    log: Path
    stages: list[Stage]
    parts: int
    first: int
    """Stages before the first round."""
    rounds: list[float] = field(default_factory=list)
    before: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    heat: int = 0
    """Rounds before the present heat."""
    rival: list[float] = field(default_factory=list)
    """Rounds of ours in the heat of a peer."""

    def begin_heat(self) -> None:
        """Its time counts anew: ours takes part in every heat, a peer in one."""
        self.heat = len(self.rounds)

    def advance(self) -> float:
        """Let the row work through its next stage; the seconds it took."""
        answer = self._ask("go")
        seconds = float(answer["seconds"])
        stage = self.stages[len(self.before) + len(self.rounds)]
        if answer["texts"] and (answer["texts"], answer["tokens"]) != (
            len(stage.lengths),
            stage.lengths.sum(),
        ):
            raise SystemExit(f"{self.row.name}: other texts than planned were trained on")
        (self.before if len(self.before) < self.first else self.rounds).append(seconds)
        return seconds

    @property
    def has_rounds_left(self) -> bool:
        """Whether it takes part in another round."""
        done = len(self.before) + len(self.rounds)
        return done < len(self.stages) and sum(self.rounds[self.heat :]) < self.row.seconds

    def finish(self) -> None:
        """End it and keep its peak memory."""
        answer = {} if self.process.stdin is None or self.process.stdin.closed else self._ask("stop")
        self.peak_bytes = answer.get("peak_bytes", 0)
        self.process.wait(timeout=120)

    def _ask(self, word: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(word + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # It has already answered, or died; reading tells which.
        return self.read()

    def read(self) -> dict[str, Any]:
        """The next answer; raises RowEndedError with the row's last words when there is none."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            words = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RowEndedError(f"{self.row.name} ended with status {self.process.wait()}:\n{words}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def prepare(folder: Path, encoder: str, sample: Sample, *, rounds: int = 1, heats: int = 1) -> Cell:
    """Write weights (through our names table) and texts for all rows."""
    classifier, config = new_classifier(encoder, sample.targets_NL.shape[1])
    write_network(folder, classifier, config)
    encodings = sample.encodings
    np.savez(
        folder / "data.npz",
        ids_T=encodings.ids_T,
        offsets_N1=encodings.offsets_N1,
        targets_NL=sample.targets_NL,
    )
    num_weights = sum(parameter.numel() for parameter in classifier.parameters())
    return Cell(folder, sample, Network.from_config(config), rounds, heats, num_weights)


def new_classifier(
    encoder: str, num_labels: int, *, dropout: float = 0.0
) -> tuple[Classifier, Mapping[str, Any]]:
    """A classifier with the head that transformers knows, and its config: default, bert-base or tiny (random)."""
    if encoder == "default":
        folder = locate_encoder("default")
        classifier = load_pretrained(folder, num_labels=num_labels, head="cls", dropout=dropout)
        return classifier, read_config(folder)
    config = {"bert-base": BERT_BASE, "tiny": TINY}[encoder]
    classifier = build_classifier(config, num_labels=num_labels, head="cls", dropout=dropout)
    generator = torch.Generator().manual_seed(1)
    assert isinstance(classifier.encoder, PackedEncoder)
    classifier.encoder.initialise(generator)
    classifier.head.initialise(generator)
    return classifier, config


def write_network(folder: Path, classifier: Classifier, config: Mapping[str, Any]) -> None:
    """config.json and model.safetensors, which both libraries load."""
    labels = [f"label_{index}" for index in range(classifier.num_labels)]
    written, tensors = to_hugging_face(classifier, config, labels)
    (folder / "config.json").write_text(json.dumps(written), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def start_row(cell: Cell, row: Row) -> RowProcess:
    """Start a row and wait until it is ready to train."""
    sample = cell.sample
    plan, first = [(sample.grouped, 0)] * (cell.rounds * cell.heats + 1), 1
    if row.kind == "peer":
        plan, first = _peer_plan(cell, row)
    pad_to = [_longest(sample, batch, least) for batches, least in plan for batch in batches]
    parts = 1
    if row.kind == "peer":
        parts = parts_of_a_batch(row, cell.network, max(pad_to), cell.activation_bytes)
    stages = [_stage(sample, batches, least) for batches, least in plan]
    document = {
        "kind": row.kind,
        "precision": row.precision,
        "attention": row.attention,
        "attention_dropout": row.attention_dropout,
        "dropout": DROPOUT,
        "batch_size": BATCH_SIZE,
        "parts": parts,
        "threads": torch.get_num_threads(),
        "num_texts": sample.num_texts,
        "stages": [len(batches) for batches, _ in plan],
        "batches": [batch.tolist() for batches, _ in plan for batch in batches],
        "pad_to": pad_to,
    }
    (cell.folder / f"{row.name}.json").write_text(json.dumps(document), encoding="utf-8")
    started = RowProcess(
        row, _start(cell.folder, row.name), cell.folder / f"{row.name}.log", stages, parts, first
    )
    started.read()
    return started


def _peer_plan(cell: Cell, row: Row) -> tuple[list[tuple[IntArray, int]], int]:
    """Batches of every stage with the length they are padded to at least, and the number of stages before round 1."""
    plan, batches = [(cell.sample.shortest_batch()[None], 0)], cell.sample.grouped
    if row.batching == "grouped":
        # Twice, since the first time also allocates; the second is compared.
        plan += [(batches[_trial(len(batches))], 0)] * 2
    else:
        batches = cell.sample.random
    padded = CAP if row.batching == "max_length" else 0
    return plan + [(batches, padded)] * cell.rounds, len(plan)


def _start(folder: Path, name: str) -> subprocess.Popen[str]:
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("train_worker.py")), str(folder), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"},
        )


@contextmanager
def ended_with(started: list[RowProcess]) -> Iterator[None]:
    """Within the block rows may be started into the list; none of them outlives it."""
    try:
        yield
    finally:
        for one in started:
            if one.process.poll() is None:
                one.process.kill()
            one.process.wait()


def _trial(num_batches: int) -> IntArray:
    """A long, a middling and a short batch."""
    places = (np.arange(TRIAL_STEPS) + 0.5) / TRIAL_STEPS * num_batches
    return np.unique(places.astype(np.int64))


def _stage(sample: Sample, batches: IntArray, pad_to: int) -> Stage:
    computed = sum(_longest(sample, batch, pad_to) * len(batch) for batch in batches)
    return Stage(sample.lengths_N[batches.reshape(-1)], computed)


def _longest(sample: Sample, batch: IntArray, pad_to: int) -> int:
    return max(int(sample.lengths_N[batch].max()), pad_to)


def parts_of_a_batch(row: Row, network: Network, longest: int, activation_bytes: float) -> int:
    """1, 2, 4, ...: parts in which the activations of 32 texts padded to `longest` fit `activation_bytes`."""
    tokens = BATCH_SIZE * longest
    needed = HIDDEN_BYTES[row.precision] * tokens * network.width
    if row.attention_dropout > 0 or row.attention == "eager":
        score_bytes = DROPPED_SCORE_BYTES if row.attention_dropout > 0 else EAGER_SCORE_BYTES
        needed += score_bytes * network.num_heads * tokens * longest
    parts = 1
    while parts < BATCH_SIZE and network.num_layers * needed / parts > activation_bytes:
        parts *= 2
    return parts
