"""What the C++ kernels save: each beside PyTorch's operators, then whole training steps with and without them.

    python benchmarks/row_kernels.py [--data FOLDER] [--encoder both] [--lengths goemotions] [--rounds 5] [--out FOLDER]

Kernels: milliseconds forward + back for 640 tokens, in fp32 and in bf16, whose operators are measured although an
installation may train in fp32; attention of texts of almost one length, 2,048 tokens, in fp32. Steps: the loop over 12
batches of 32 texts (BERT-base 6) in the number format that training chooses here, with and without kernels in turn,
each once over the sample before it is timed; medians over the rounds. Losses apart: largest relative difference without
dropout.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor

from machine import describe_machine, median_seconds, write_result
from manylabel.config.schema import TrainingSettings
from manylabel.modeling.attention import plan_attention
from manylabel.modeling.attention_steps import attend_backward, attend_forward
from manylabel.modeling.dropout import dropout_mask
from manylabel.modeling.encoder import ACTIVATION_FUNCTIONS
from manylabel.modeling.native.library import library, without_library
from manylabel.modeling.rows import Activation, Norm, activate, activation_gradient, join, unjoin
from manylabel.modeling.weights.hugging_face import load_classifier, read_config
from manylabel.recipes.prepare import choose_rates
from manylabel.training.examples import LabelledTexts
from manylabel.training.loop import Trainer
from manylabel.training.objectives import MultiLabelObjective
from manylabel.training.observers import SilentObserver, Step
from train_rows import prepare
from train_sample import BATCH_SIZE, Sample, read_sample, select
from train_speed import ENCODERS, LENGTHS, default_data

CONSOLE = Console() if sys.stdout.isatty() else Console(width=110)
TOKENS, LONG_TOKENS, HEADS = 640, 2048, 12
WIDTHS = (384, 768)
TEXT_LENGTHS = (8, 16, 24, 32, 48, 64)
BATCHES = {"default": 12, "bert-base": 6, "tiny": 4}
Engine = Callable[[], AbstractContextManager[None]]
ENGINES: dict[str, Engine] = {"kernels": nullcontext, "operators": without_library}


def main() -> None:
    """Measure, print, write one JSON."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    if library() is None:
        raise SystemExit("this installation has no kernels for this processor: there is nothing to compare")
    result = describe_machine() | {"kernels": [], "steps": []}
    result["kernels"] = [in_turn(name, work, arguments.rounds) for name, work in _works()]
    _show("milliseconds, forward + back", result["kernels"])
    for encoder in ENCODERS[arguments.encoder]:
        for lengths in LENGTHS[arguments.lengths]:
            result["steps"].append(steps(encoder, lengths, arguments))
    _show("milliseconds a training step of 32 texts", result["steps"])
    CONSOLE.print(f"written to {write_result('row-kernels', result, folder=arguments.out)}")


def in_turn(name: str, work: Callable[[], object], rounds: int) -> dict[str, Any]:
    """Median milliseconds of both engines, which take turns."""
    times: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for _ in range(rounds):
        for engine, entered in ENGINES.items():
            with entered():
                times[engine].append(median_seconds(work, 5) * 1e3)
    return {"name": name} | {engine: statistics.median(measured) for engine, measured in times.items()}


def _works() -> Iterator[tuple[str, Callable[[], object]]]:
    for width in WIDTHS:
        for dtype in (torch.float32, torch.bfloat16):
            title = f"width {width}, {str(dtype)[6:]}"
            yield f"residual, dropout and norm, {title}", _joining(width, dtype)
            yield f"GELU, {title}", _activating(4 * width, dtype)
        for length in TEXT_LENGTHS:
            yield (
                f"attention of {length} tokens, {HEADS} heads, width {width}, float32",
                _attending(width, length),
            )


def _joining(width: int, dtype: torch.dtype) -> Callable[[], object]:
    changed, kept, gradient = (torch.randn(TOKENS, width).to(dtype) for _ in range(3))
    norm = Norm(torch.rand(width) + 0.5, torch.randn(width), 1e-12)

    def work() -> None:
        mask = dropout_mask(kept, 0.1)
        _, joined = join(changed.clone(), kept, mask, norm)
        unjoin(gradient, joined, mask, norm)

    return work


def _activating(width: int, dtype: torch.dtype) -> Callable[[], object]:
    x, gradient = (torch.randn(TOKENS, width).to(dtype) for _ in range(2))
    gelu = Activation("gelu", ACTIVATION_FUNCTIONS["gelu"])

    def work() -> tuple[Tensor, Tensor]:
        activate(gelu, x)
        return activation_gradient("gelu", gradient.clone(), x)

    return work


def _attending(width: int, longest: int) -> Callable[[], object]:
    draw = np.random.default_rng(1)
    lengths_B = draw.integers(max(longest - longest // 6, 1), longest + 1, LONG_TOKENS // longest)
    plan = plan_attention(lengths_B, torch.device("cpu")).for_heads(HEADS)
    qkv, gradient = torch.randn(int(lengths_B.sum()), 3 * width), torch.randn(int(lengths_B.sum()), width)

    def work() -> Tensor:
        _, attended = attend_forward(qkv, plan)
        return attend_backward(gradient, attended, plan)

    return work


class _Recorder(SilentObserver):
    """Seconds and losses of all steps."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.losses: list[float] = []

    def step(self, step: Step) -> None:
        """Remember."""
        self.seconds.append(step.seconds)
        self.losses.append(step.loss)


def steps(encoder: str, lengths: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Both engines over one sample: milliseconds a step in its second epoch, and how far their losses are apart."""
    sample = read_sample(lengths, arguments.data, num_grouped=BATCHES[encoder], num_random=1)
    times: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    losses: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), encoder, sample)
        for number in range(arguments.rounds + 1):
            for engine, entered in ENGINES.items():
                with entered(), CONSOLE.status(f"{encoder}, {lengths}: round {number}, {engine}"):
                    recorder = _trained(Path(folder), sample, dropout=0.1 if number else 0.0)
                if number:
                    epoch = recorder.seconds[len(sample.grouped) :]
                    times[engine].append(statistics.mean(epoch) * 1e3)
                else:
                    losses[engine] = recorder.losses
    apart = np.array(losses["kernels"]) / np.array(losses["operators"]) - 1
    measured = {engine: statistics.median(found) for engine, found in times.items()}
    return {"name": f"{encoder}, {lengths}", **measured, "losses_apart": float(np.abs(apart).max())}


def _trained(folder: Path, sample: Sample, *, dropout: float) -> _Recorder:
    """Two epochs over the sample."""
    num_texts, recorder = len(sample.grouped) * BATCH_SIZE, _Recorder()
    settings = TrainingSettings(epochs=2, batch_size=BATCH_SIZE, patience=0)
    classifier = load_classifier(
        read_config(folder),
        load_file(folder / "model.safetensors"),
        num_labels=sample.targets_NL.shape[1],
        head="cls",
        dropout=dropout,
    )
    texts = select(sample.encodings, np.arange(num_texts))
    Trainer(
        classifier,
        LabelledTexts(texts, sample.targets_NL[:num_texts], tuple(map(str, range(num_texts)))),
        objective=MultiLabelObjective(),
        settings=settings,
        rates=choose_rates(settings, classifier.encoder.hidden_size),
        observer=recorder,
        should_stop=lambda: False,
    ).fit(lambda: None)
    return recorder


def _show(title: str, rows: list[dict[str, Any]]) -> None:
    table = Table("", "kernels", "operators", "times as fast", "losses apart", title=title, box=None)
    for row in rows:
        apart = f"{row['losses_apart']:.1e}" if "losses_apart" in row else ""
        ratio = row["operators"] / row["kernels"]
        table.add_row(row["name"], f"{row['kernels']:.2f}", f"{row['operators']:.2f}", f"{ratio:.2f}", apart)
    CONSOLE.print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--encoder", choices=ENCODERS, default="both")
    parser.add_argument("--lengths", choices=LENGTHS, default="goemotions")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=None, help="folder of the result, benchmarks/results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
