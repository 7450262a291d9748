"""The other side of the training benchmarks: transformers' own Trainer, set up by default or as an expert would.

Used by train_worker.py and article_job.py. The Trainer is the real one; only the order of the texts may be given to it.
A sampler yields (text, length to pad to), so that a batch computed in parts is padded like the whole batch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler
from transformers import BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

from manylabel.values import Encodings

Item = tuple[int, int]
DROPOUT = 0.1


@dataclass(frozen=True)
class Peer:
    """What distinguishes one set-up of Trainer from another; the defaults are Trainer's and BERT's own.

    `parts`: a batch is computed in so many parts (gradient accumulation). `options` go to TrainingArguments.
    """

    precision: str = "fp32"
    attention: str = "sdpa"
    attention_dropout: float = 0.1
    parts: int = 1
    options: tuple[tuple[str, Any], ...] = ()


class Texts(Dataset[dict[str, Any]]):
    """Encoded texts as Trainer wants them; asked for an index, or for (index, length to pad to)."""

    def __init__(self, encodings: Encodings, targets_NL: npt.NDArray[np.integer]) -> None:
        self._ids = torch.from_numpy(encodings.ids_T.astype(np.int64))
        self._offsets = encodings.offsets_N1.tolist()
        self._targets_NL = torch.from_numpy(targets_NL.astype(np.float32))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def __getitem__(self, key: int | Item) -> dict[str, Any]:
        index, pad_to = key if isinstance(key, tuple) else (key, 0)
        ids = self._ids[self._offsets[index] : self._offsets[index + 1]]
        return {"input_ids": ids, "labels": self._targets_NL[index], "pad_to": pad_to}


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    """A batch padded to its longest text, or to what its texts ask for; what DataCollatorWithPadding does."""
    length = max(max(len(item["input_ids"]), item["pad_to"]) for item in items)
    ids = torch.zeros(len(items), length, dtype=torch.int64)
    mask = torch.zeros(len(items), length, dtype=torch.int64)
    for row, item in enumerate(items):
        ids[row, : len(item["input_ids"])] = item["input_ids"]
        mask[row, : len(item["input_ids"])] = 1
    labels = torch.stack([item["labels"] for item in items])
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "token_type_ids": torch.zeros_like(ids),
        "labels": labels,
    }


class Planned(Sampler[Item]):
    """Given batches, one after the other."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Item]:
        return iter(self._items)


class PlannedTrainer(Trainer):
    """Trainer that visits the texts in a given order; everything else is inherited."""

    plan: Sequence[Item] = ()

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[Item]:
        return Planned(self.plan)


class AfterStep(TrainerCallback):
    """Calls `after_step` after every optimizer step; training stops when it returns False."""

    def __init__(self, after_step: Callable[[], bool]) -> None:
        self._after_step = after_step

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> Any:
        if not self._after_step():
            control.should_training_stop = True
        return control


def load_peer(folder: Path, peer: Peer) -> BertForSequenceClassification:
    """The network in `folder` (config.json, model.safetensors) in transformers."""
    return BertForSequenceClassification.from_pretrained(
        folder,
        attn_implementation=peer.attention,
        hidden_dropout_prob=DROPOUT,
        attention_probs_dropout_prob=peer.attention_dropout,
    )


def train_peer(
    folder: Path,
    peer: Peer,
    texts: Texts,
    *,
    batch_size: int,
    after_step: Callable[[], bool],
    plan: Sequence[Item] | None = None,
) -> None:
    """Train for an epoch or until `after_step` returns False; `plan` replaces the order of Trainer's sampler."""
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=batch_size // peer.parts,
            gradient_accumulation_steps=peer.parts,
            num_train_epochs=1,
            bf16=peer.precision == "bf16",
            use_cpu=not torch.cuda.is_available(),
            # What follows keeps files and terminal clean and `pad_to` in the batch; nothing of it is timed.
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            **dict(peer.options),
        )
        trainer = (Trainer if plan is None else PlannedTrainer)(
            model=load_peer(folder, peer),
            args=arguments,
            train_dataset=texts,
            data_collator=collate,
            callbacks=[AfterStep(after_step)],
        )
        if plan is not None:
            trainer.plan = plan
        trainer.train()
