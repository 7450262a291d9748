"""The same training divided in different ways: processes x micro-batches, losses and final weights side by side.

    python scripts/equivalence_table.py

Each row is a real run of the loop in fp32 without dropout, the processes joined by gloo. The last line says how far the
losses of any step are from those of one process with one micro-batch; the exit code is 1 above 1e-6.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from manylabel.config.schema import TrainingSettings
from manylabel.modeling.classifier import Classifier, build_classifier
from manylabel.modeling.encoder import PackedEncoder
from manylabel.training.examples import LabelledTexts
from manylabel.training.loop import Trainer
from manylabel.training.objectives import MultiLabelObjective
from manylabel.training.observers import SilentObserver, Step
from manylabel.training.optimizer import Rates
from manylabel.training.processes import Processes
from manylabel.values import Encodings

DIVISIONS = ((1, 1), (1, 4), (2, 2), (4, 1), (2, 1), (3, 2))
"""Processes, micro-batches in each."""
BATCH_SIZE, TOKENS_A_TEXT, NUM_TEXTS, NUM_LABELS = 24, 16, 120, 5
TOLERANCE = 1e-6
CONFIG = {
    "model_type": "bert", "vocab_size": 500, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 128, "hidden_act": "gelu", "max_position_embeddings": 64, "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
}  # fmt: skip


class Losses(SilentObserver):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        """None yet."""
        self.values: list[float] = []

    def step(self, step: Step) -> None:
        """Keep it."""
        self.values.append(step.loss)


def network() -> Classifier:
    """A classifier of two layers with weights of one seed."""
    classifier = build_classifier(CONFIG, num_labels=NUM_LABELS, head="mean")
    generator = torch.Generator().manual_seed(1)
    assert isinstance(classifier.encoder, PackedEncoder)
    classifier.encoder.initialise(generator)
    classifier.head.initialise(generator)
    return classifier


def texts() -> LabelledTexts:
    """Random token ids, all texts of one length, so that micro-batches divide evenly; a tenth of the cells is -1."""
    choose = np.random.default_rng(1)
    ids_T = choose.integers(5, 500, NUM_TEXTS * TOKENS_A_TEXT).astype(np.int32)
    offsets_N1 = np.arange(NUM_TEXTS + 1, dtype=np.int64) * TOKENS_A_TEXT
    encodings = Encodings(ids_T, np.zeros(len(ids_T), np.uint8), offsets_N1, np.zeros(NUM_TEXTS, np.bool_))
    targets_NL = choose.choice([0, 1, -1], size=(NUM_TEXTS, NUM_LABELS), p=[0.6, 0.3, 0.1]).astype(np.int8)
    return LabelledTexts(encodings, targets_NL, tuple(map(str, range(NUM_TEXTS))))


def train(micro_batches: int, target: Path) -> None:
    """One process of a run; the first one writes losses and weights."""
    torch.set_num_threads(1)
    with Processes.from_environment() as processes:
        classifier, losses = network(), Losses()
        budget = max(BATCH_SIZE * TOKENS_A_TEXT // (processes.size * micro_batches), TOKENS_A_TEXT)
        settings = TrainingSettings(
            epochs=2, batch_size=BATCH_SIZE, precision="fp32", token_budget=budget, patience=0
        )
        trainer = Trainer(
            classifier, texts(), objective=MultiLabelObjective(), settings=settings, rates=Rates(1e-3, 1e-2),
            observer=losses, should_stop=lambda: False, processes=processes,
        )  # fmt: skip
        trainer.fit(lambda: None)
        if processes.is_main:
            save_file(
                {name: tensor.clone() for name, tensor in classifier.state_dict().items()}, target / "weights"
            )
            (target / "losses").write_text(json.dumps(losses.values), encoding="utf-8")


def run(num_processes: int, micro_batches: int, folder: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Start the processes of one row; losses of every step and the final weights."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    target = folder / f"{num_processes}x{micro_batches}"
    target.mkdir()
    started = []
    for rank in range(num_processes):
        environment = os.environ | {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num_processes),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        command = [sys.executable, __file__, "--worker", str(micro_batches), "--target", str(target)]
        started.append(subprocess.Popen(command, env=environment))
    if any([process.wait() for process in started]):
        raise SystemExit("a process failed")
    return json.loads((target / "losses").read_text()), load_file(target / "weights")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worker", type=int, default=0, help="used by the script itself")
    parser.add_argument("--target", type=Path, help="used by the script itself")
    arguments = parser.parse_args()
    if arguments.worker:
        train(arguments.worker, arguments.target)
        return
    print("processes  micro-batches each  steps  last loss   largest difference of losses  of weights")
    largest, expected = 0.0, None
    with tempfile.TemporaryDirectory() as folder:
        for num_processes, micro_batches in DIVISIONS:
            losses, weights = run(num_processes, micro_batches, Path(folder))
            expected = expected or (losses, weights)
            difference = max(abs(a - b) for a, b in zip(losses, expected[0], strict=True))
            of_weights = max(
                float((weights[name] - tensor).abs().max()) for name, tensor in expected[1].items()
            )
            largest = max(largest, difference)
            print(f"{num_processes:9}  {micro_batches:18}  {len(losses):5}  {losses[-1]:.7f}  {difference:28.1e}  "
                  f"{of_weights:10.1e}", flush=True)  # fmt: skip
    print(f"largest difference of a loss {largest:.1e}, tolerance {TOLERANCE:.0e}")
    sys.exit(largest > TOLERANCE)


if __name__ == "__main__":
    main()
