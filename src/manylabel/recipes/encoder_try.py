"""Every encoder of a long run tried once before it begins; called by recipes/crossfit.py.

An encoder that cannot be loaded, or cannot be trained with these settings, would otherwise be found when its turn
comes, after the hours that the others took.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from manylabel.config.schema import RunSettings
from manylabel.errors import EncoderError, Finding, ManylabelError, UsageError, counted
from manylabel.modeling.lora import add_lora
from manylabel.recipes.augment import examples_for, pass_for
from manylabel.recipes.fit import tell_unfreezing
from manylabel.recipes.prepare import choose_rates, new_classifier, tokenizer_for
from manylabel.training.loop import Trainer
from manylabel.training.objectives import build_objective
from manylabel.training.observers import Observer, SilentObserver
from manylabel.training.processes import Processes
from manylabel.values import Corpus

ROWS_TRIED = 4


@dataclass(frozen=True)
class DiskNeeds:
    """Bytes on disk: the weights of a trained network as fp32, and one checkpoint while it is trained."""

    weights: int
    checkpoint: int


def try_encoders(
    folders: Sequence[Path], corpus: Corpus, settings: RunSettings, *, observer: Observer
) -> dict[Path, DiskNeeds]:
    """Load each encoder and take a few rows once through the network and back, as training will.

    Raises EncoderError, or UsageError where only settings are wrong, with the findings of all encoders.
    """
    observer.stage(f"Trying {counted(len(folders), 'encoder')} once")
    needs: dict[Path, DiskNeeds] = {}
    errors: list[ManylabelError] = []
    for folder in folders:
        try:
            needs[folder] = _tried(folder, corpus, settings, observer)
        except (EncoderError, UsageError) as error:
            errors.append(type(error)(*(_of_encoder(each, folder) for each in error.findings)))
    if len(errors) == 1:
        raise errors[0]
    if errors:
        kind = EncoderError if any(isinstance(each, EncoderError) for each in errors) else UsageError
        raise kind(*(finding for each in errors for finding in each.findings))
    return needs


def _of_encoder(finding: Finding, folder: Path) -> Finding:
    """The finding with the encoder in its place, where that does not name it."""
    is_named = str(folder) in finding.place
    return finding if is_named else replace(finding, place=f"{finding.place}, encoder {folder}")


def _tried(folder: Path, corpus: Corpus, settings: RunSettings, observer: Observer) -> DiskNeeds:
    """One pass over a few rows, which changes nothing that training will see."""
    classifier = new_classifier(folder, len(corpus.labels), settings, Processes.alone().device)
    tokenizer = tokenizer_for(folder, classifier, settings)
    rows = corpus.select(np.arange(min(ROWS_TRIED, len(corpus))))
    encodings = tokenizer.encode(rows.texts, rows.pairs)
    tell_unfreezing(classifier, settings.training, observer)
    weights = sum(tensor.numel() for tensor in classifier.state_dict().values()) * 4
    if settings.lora.rank:
        generator = torch.Generator().manual_seed(settings.training.seed)
        add_lora(classifier, settings.lora.rank, alpha=settings.lora.alpha, generator=generator)
    trainer = Trainer(
        classifier,
        examples_for(encodings, rows, tokenizer, settings),
        objective=build_objective(settings.loss, rows.targets_NL),
        settings=settings.training,
        rates=choose_rates(settings.training, classifier.encoder.hidden_size),
        observer=SilentObserver(),
        should_stop=lambda: False,
    )
    estimate = trainer.rehearse(pass_for(settings))
    return DiskNeeds(weights, estimate.checkpoint_bytes)
