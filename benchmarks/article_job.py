"""A whole fine-tuning job on one GPU: 159,571 texts with Jigsaw's lengths, 4 epochs, batch 32, cap 512, BERT-base.

    python benchmarks/article_job.py --data FOLDER            # FOLDER holds jigsaw/validation.csv
    python benchmarks/article_job.py --lengths-file FILE      # one length in tokens a line, where FOLDER is not at hand
    python benchmarks/article_job.py --data FOLDER --save-lengths FILE
    python benchmarks/article_job.py --tiny                   # the same path on a CPU in under a minute, no data needed

Lengths are drawn from those of validation.csv; tokens are random, and so are labels, at the prevalence of Jigsaw's
training file; weights are random. Reported: wall time of the whole job through our loop, tokens/s, share of the bf16
matrix rate, and how much longer transformers' Trainer would take, in bf16 with its other defaults and tuned, each
measured on a slice: steps of the job's own texts after a part that is not counted.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from machine import Network, describe_machine, matrix_rate, peak_memory, synchronise, write_result
from manylabel.config.schema import TrainingSettings
from manylabel.modeling.precision import choose_device, resolve_precision
from manylabel.recipes.prepare import choose_rates
from manylabel.training.examples import LabelledTexts
from manylabel.training.loop import Outcome, Trainer
from manylabel.training.objectives import MultiLabelObjective
from manylabel.training.observers import ConsoleObserver, Step
from manylabel.values import Encodings
from train_rows import BERT_BASE, TINY, new_classifier, write_network
from train_sample import CAP, IntArray, read_lengths

POSITIVES = np.array([15_294, 1_595, 8_449, 478, 7_877, 1_405])
"""Texts of Jigsaw's training file that carry each of its six labels, of 159,571."""
NUM_TEXTS = 159_571
PRECISIONS = {torch.bfloat16: "bf16", torch.float32: "fp32"}
FIRST_WORD, BEGIN, END = 1000, 101, 102
"""Ids of bert-base-uncased: below 1,000 are special and unused ones; every text is [CLS] ... [SEP]."""
FULL_GROUP = 50
"""Batches of a group of Trainer's group_by_length; a slice is whole groups."""


@dataclass(frozen=True)
class Job:
    """The sizes of the job; a slice of Trainer is `warmup_steps`, not counted, and `slice_steps`."""

    encoder: str
    num_texts: int
    epochs: int
    batch_size: int
    warmup_steps: int
    slice_steps: int


ARTICLE = Job("bert-base", NUM_TEXTS, 4, 32, FULL_GROUP, 2 * FULL_GROUP)
SMALL = Job("tiny", 200, 2, 8, 2, 4)


class _Timer:
    """Times the steps of a slice; the first `skipped` are not counted."""

    def __init__(self, skipped: int, counted: int) -> None:
        self._skipped, self._last = skipped, skipped + counted
        self._began, self._done, self.seconds = 0.0, 0, math.nan

    def after_step(self) -> bool:
        """Whether more steps are wanted."""
        self._done += 1
        if self._done == self._skipped:
            synchronise()
            self._began = time.perf_counter()
        if self._done == self._last:
            synchronise()
            self.seconds = time.perf_counter() - self._began
        return self._done < self._last


class _Progress(ConsoleObserver):
    """The usual bar; ends the run after `max_steps`, for trying out."""

    def __init__(self, max_steps: int) -> None:
        super().__init__()
        self._max_steps, self.stopped = max_steps, False

    def step(self, step: Step) -> None:
        """Show it."""
        super().step(step)
        self.stopped = step.step == self._max_steps


def random_data(job: Job, lengths: IntArray, *, seed: int) -> tuple[Encodings, npt.NDArray[np.int8]]:
    """Texts of random tokens with lengths drawn from `lengths`, and random labels at Jigsaw's prevalence."""
    choose = np.random.default_rng(seed)
    lengths_N = choose.choice(lengths, job.num_texts).astype(np.int64)
    offsets_N1 = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths_N)])
    ids_T = choose.integers(FIRST_WORD, BERT_BASE["vocab_size"], offsets_N1[-1], dtype=np.int32)
    ids_T[offsets_N1[1:] - 1] = END
    ids_T[offsets_N1[:-1]] = BEGIN
    targets_NL = choose.random((job.num_texts, len(POSITIVES))) < POSITIVES / NUM_TEXTS
    flags_N = np.zeros(job.num_texts, np.bool_)
    return Encodings(ids_T, np.zeros(len(ids_T), np.uint8), offsets_N1, flags_N), targets_NL.astype(np.int8)


def run_ours(
    job: Job, folder: Path, encodings: Encodings, targets_NL: npt.NDArray[np.int8], max_steps: int
) -> tuple[Outcome, float]:
    """The whole job through our loop with its default settings, and its wall time in seconds.

    Writes the weights it begins with into `folder`.
    """
    classifier, config = new_classifier(job.encoder, targets_NL.shape[1], dropout=0.1)
    write_network(folder, classifier, config)
    classifier.to(choose_device())
    settings = TrainingSettings(epochs=job.epochs, batch_size=job.batch_size, patience=0)
    observer = _Progress(max_steps)
    trainer = Trainer(
        classifier,
        LabelledTexts(encodings, targets_NL, tuple(map(str, range(len(encodings))))),
        objective=MultiLabelObjective(),
        settings=settings,
        rates=choose_rates(settings, classifier.encoder.hidden_size),
        observer=observer,
        should_stop=lambda: observer.stopped,
    )
    synchronise()
    began = time.perf_counter()
    outcome = trainer.fit(lambda: None)
    synchronise()
    return outcome, time.perf_counter() - began


def peers(precision: str, names: str) -> dict[str, tuple[str, Any]]:
    """Name -> (description, set-up) of the rows of Trainer that were asked for."""
    from train_peers import Peer

    grouped = (("train_sampling_strategy", "group_by_length"), ("optim", "adamw_torch_fused"))
    loaders = (("dataloader_num_workers", 4),) if torch.cuda.is_available() else ()
    found = {
        "defaults": (f"Trainer in {precision}, other defaults", Peer(precision)),
        "tuned": (
            f"Trainer tuned: {precision}, group_by_length, fused AdamW, attention dropout 0, SDPA",
            Peer(precision, attention_dropout=0.0, options=grouped + loaders),
        ),
        "compiled": (
            "the same with torch_compile",
            Peer(precision, attention_dropout=0.0, options=(*grouped, *loaders, ("torch_compile", True))),
        ),
    }
    return {name: found[name] for name in names.split(",") if name}


def peer_steps_per_second(
    job: Job, folder: Path, peer: Any, encodings: Encodings, targets_NL: npt.NDArray[np.int8]
) -> float:
    """Optimizer steps a second of Trainer on a slice of the job."""
    from train_peers import Texts, train_peer

    timer = _Timer(job.warmup_steps, job.slice_steps)
    texts = Texts(encodings, targets_NL)
    train_peer(folder, peer, texts, batch_size=job.batch_size, after_step=timer.after_step)
    return job.slice_steps / timer.seconds


def measure(
    job: Job, lengths: IntArray, *, names: str, max_steps: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """The job and the slices, one after the other; all figures."""
    dtype = resolve_precision("auto", choose_device())
    rate = matrix_rate(dtype, num_tokens=4096)
    encodings, targets_NL = random_data(job, lengths, seed=1)
    steps = job.epochs * -(-job.num_texts // job.batch_size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outcome, seconds = run_ours(job, folder, encodings, targets_NL, max_steps)
        network = Network.from_config(TINY if job.encoder == "tiny" else BERT_BASE)
        flops = network.training_flops(encodings.lengths_N) / int(encodings.lengths_N.sum()) * outcome.tokens
        result = {
            **describe_machine(),
            "job": vars(job),
            "precision": PRECISIONS[dtype],
            "matrix_gflops": rate / 1e9,
            "seconds": seconds,
            "steps": outcome.steps,
            "steps_of_the_job": steps,
            "tokens": outcome.tokens,
            "tokens_per_second": outcome.tokens / seconds,
            "share_of_matrix_rate": flops / seconds / rate,
            "peak_memory_gb": peak_memory() / 1e9,
            "peers": [],
        }
        say(
            f"ours: {outcome.steps:,} of {steps:,} steps in {seconds:,.1f} s, "
            f"{result['tokens_per_second']:,.0f} tokens/s, {result['share_of_matrix_rate']:.1%} of the matrix rate"
        )
        for title, peer in peers(PRECISIONS[dtype], names).values():
            speed = peer_steps_per_second(job, folder, peer, encodings, targets_NL)
            figures = {
                "title": title,
                "steps_per_second": speed,
                "seconds_for_the_job": steps / speed,
                "ours_is_times_as_fast": outcome.steps / seconds / speed,
            }
            result["peers"].append(figures)
            say(
                f"{title}: {figures['seconds_for_the_job']:,.1f} s for the job; "
                f"ours is {figures['ours_is_times_as_fast']:.2f} times as fast"
            )
    return result


def main() -> None:
    """Run it and write `benchmarks/results/DATE-article-job.json`."""
    arguments = _arguments()
    job = SMALL if arguments.tiny else ARTICLE
    lengths = _lengths(arguments)
    if arguments.save_lengths:
        np.savetxt(arguments.save_lengths, lengths, fmt="%d")
        return
    result = measure(job, lengths, names=arguments.peers, max_steps=arguments.max_steps, say=print)
    target = write_result(f"article-job{'-tiny' * arguments.tiny}", result, folder=arguments.out)
    print(f"written to {target}")


def _lengths(arguments: argparse.Namespace) -> IntArray:
    """Tokens of texts as they come: from a file, from Jigsaw's validation rows, or invented ones."""
    if arguments.lengths_file:
        return np.loadtxt(arguments.lengths_file, dtype=np.int64, ndmin=1).clip(2, CAP)
    if arguments.tiny:
        # Median and 90th percentile of Jigsaw: 52 and 204 tokens.
        return np.random.default_rng(0).lognormal(math.log(52), 1.07, 1000).astype(np.int64).clip(2, CAP)
    return read_lengths("jigsaw", arguments.data)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default_data = os.environ.get("MANYLABEL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=Path(default_data))
    parser.add_argument("--lengths-file", type=Path)
    parser.add_argument("--save-lengths", type=Path, help="write the lengths and end")
    parser.add_argument("--tiny", action="store_true", help="2 layers, 200 texts")
    parser.add_argument(
        "--max-steps", type=int, default=0, help="end our run after so many steps; 0: the whole job"
    )
    parser.add_argument(
        "--peers", default="defaults,tuned", help="of defaults, tuned, compiled; empty for none"
    )
    parser.add_argument("--out", type=Path, default=None, help="folder of the result, benchmarks/results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
