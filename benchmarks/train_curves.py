"""Loss curves of our loop and of transformers' model side by side; used by train_speed.py.

Same weights, texts, batches and AdamW settings, no dropout. Ours goes through the public Trainer; theirs through a
plain loop that takes the rates from ours: BertForSequenceClassification, torch.optim.AdamW, clipping at the same norm.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from manylabel.config.schema import TrainingSettings
from manylabel.modeling.weights.hugging_face import load_classifier, read_config
from manylabel.text.buckets import epoch_batches
from manylabel.training.examples import LabelledTexts
from manylabel.training.loop import Rates, Trainer
from manylabel.training.objectives import MultiLabelObjective
from manylabel.training.observers import Step, Validated
from manylabel.values import Encodings
from train_sample import IntArray, Sample

BETAS, EPSILON = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class CurveTask:
    """What is compared: number format, steps, texts a step, tokens a text, largest relative difference allowed."""

    precision: str
    limit: float
    batch_size: int
    cap: int
    steps: int = 50
    rate: float = 3e-5
    seed: int = 1


TASKS = (
    CurveTask("bf16", limit=1e-2, batch_size=16, cap=128),
    CurveTask("fp32", limit=1e-4, batch_size=8, cap=64),
)


class _Recorder:
    """Keeps the loss and rate of every step."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def stage(self, text: str) -> None:
        """Ignore."""

    def step(self, step: Step) -> None:
        """Keep it."""
        self.steps.append(step)

    def validated(self, result: Validated) -> None:
        """Ignore."""


def compare_curves(folder: Path, sample: Sample, task: CurveTask) -> dict[str, Any]:
    """Both curves and the largest relative difference, from the network in `folder`."""
    encodings = shorten(sample.encodings, task.cap)
    data = LabelledTexts(encodings, sample.targets_NL, tuple(str(i) for i in range(len(encodings))))
    recorded = our_curve(folder, data, task)
    theirs = their_curve(folder, data, task, [step.rate for step in recorded])
    ours = [step.loss for step in recorded]
    differences = np.abs(np.array(ours) / np.array(theirs) - 1)
    return {
        "precision": task.precision,
        "steps": len(ours),
        "batch_size": task.batch_size,
        "cap": task.cap,
        "largest_relative_difference": float(differences.max()),
        "mean_relative_difference": float(differences.mean()),
        "limit": task.limit,
        "passed": bool(differences.max() <= task.limit),
        "ours": [round(loss, 6) for loss in ours],
        "transformers": [round(loss, 6) for loss in theirs],
    }


def shorten(encodings: Encodings, cap: int) -> Encodings:
    """Every text cut to `cap` tokens; the last token becomes the separator it had."""
    lengths_N = np.minimum(encodings.lengths_N, cap)
    offsets_N1 = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths_N)])
    rows = np.arange(offsets_N1[-1]) + np.repeat(encodings.offsets_N1[:-1] - offsets_N1[:-1], lengths_N)
    ids_T = encodings.ids_T[rows]
    ids_T[offsets_N1[1:] - 1] = encodings.ids_T[encodings.offsets_N1[1:] - 1]
    return replace(encodings, ids_T=ids_T, segments_T=encodings.segments_T[rows], offsets_N1=offsets_N1)


def our_curve(folder: Path, data: LabelledTexts, task: CurveTask) -> list[Step]:
    """The steps of our loop."""
    recorder = _Recorder()
    settings = TrainingSettings(
        epochs=-(-task.steps // -(-len(data.encodings) // task.batch_size)),
        batch_size=task.batch_size,
        patience=0,
        precision=task.precision,
        seed=task.seed,
    )
    config, state = read_config(folder), load_file(folder / "model.safetensors")
    trainer = Trainer(
        load_classifier(config, state, num_labels=data.targets_NL.shape[1], head="cls"),
        data,
        objective=MultiLabelObjective(),
        settings=settings,
        rates=Rates(task.rate, task.rate),
        observer=recorder,
        should_stop=lambda: len(recorder.steps) >= task.steps,
    )
    trainer.fit(lambda: None)
    return recorder.steps[: task.steps]


def their_curve(folder: Path, data: LabelledTexts, task: CurveTask, rates: list[float]) -> list[float]:
    """The losses of transformers' model over the same batches."""
    from transformers import BertForSequenceClassification

    from train_peers import Texts, collate

    model = BertForSequenceClassification.from_pretrained(
        folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    ).train()
    settings = TrainingSettings()
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ],
        betas=BETAS,
        eps=EPSILON,
    )
    texts, losses = Texts(data.encodings, data.targets_NL), []
    for rate, indices in zip(rates, _batches(len(texts), task), strict=False):
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = _forward(model, collate([texts[i] for i in indices.tolist()]), task.precision)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def _batches(num_texts: int, task: CurveTask) -> Iterator[IntArray]:
    """The batches of our loop, epoch after epoch."""
    epoch = 0
    while True:
        yield from epoch_batches(num_texts, batch_size=task.batch_size, seed=task.seed, epoch=epoch)
        epoch += 1


def _forward(model: Any, batch: dict[str, Tensor], precision: str) -> Tensor:
    context = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()
    with context:
        loss: Tensor = model(**batch).loss
    return loss
