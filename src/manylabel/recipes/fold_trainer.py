"""One model after the other, each without one fold, as `train` makes it; called by folds.py and crossfit_members.py.

The rows that choose a model's epoch are split off the rows of the other folds, so that the rows it then scores choose
nothing. That no cluster of duplicates and no group stands on two sides is checked for every model.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from manylabel.config.schema import RunSettings
from manylabel.data.folds import Folds
from manylabel.data.split import split_corpus
from manylabel.errors import Finding, TrainingError, counted
from manylabel.inference.backends.torch_backend import TorchBackend
from manylabel.inference.scorer import score
from manylabel.modeling.classifier import Classifier
from manylabel.modeling.lora import add_lora, merge_lora
from manylabel.modeling.precision import resolve_precision
from manylabel.recipes.augment import examples_for, pass_for
from manylabel.recipes.judge import validation_score
from manylabel.recipes.prepare import choose_rates, has_trained_pooler, new_classifier, tokenizer_for
from manylabel.recipes.run import Run
from manylabel.text.tokenizer import TextTokenizer
from manylabel.text.views import HEAD, encode_view
from manylabel.training.examples import LabelledTexts
from manylabel.training.head_start import start_head
from manylabel.training.loop import Outcome, Trainer
from manylabel.training.objectives import build_objective
from manylabel.training.observers import Observer
from manylabel.training.processes import Processes
from manylabel.values import Corpus, Encodings

Logits = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(eq=False)
class Tokens:
    """The tokenizer of an encoder and the whole corpus as each view of it; trainers of other seeds share them."""

    tokenizer: TextTokenizer | None = None
    by_view: dict[str, Encodings] = field(default_factory=dict)


@dataclass(eq=False)
class FoldTrainer:
    """Trains the model of one fold after the other; the texts are tokenised once.

    `advice` is added to what is said when a loss is not a number.
    """

    corpus: Corpus
    settings: RunSettings
    encoder_folder: Path
    folds: Folds
    observer: Observer
    should_stop: Callable[[], bool]
    processes: Processes = field(default_factory=Processes.alone)
    tokens: Tokens = field(default_factory=Tokens)
    advice: str = ""

    def with_seed(self, seed: int) -> FoldTrainer:
        """The same with another seed of initialisation, order and dropout."""
        training = self.settings.training.model_copy(update={"seed": seed})
        return replace(self, settings=self.settings.model_copy(update={"training": training}))

    def train(self, fold: int, name: str, run: Run | None = None) -> Classifier:
        """The model of `fold`, trained on the others; `name` says which in messages.

        With a `run` it goes on from that run's last checkpoint and keeps further ones there. Raises KeyboardInterrupt
        when asked to stop, TrainingError when a loss was not a number.
        """
        classifier = new_classifier(
            self.encoder_folder, len(self.corpus.labels), self.settings, self.processes.device
        )
        self._encodings(classifier, HEAD)
        train, selection = self._roles(fold)
        held_out = self.folds.held_out(fold)
        self.observer.stage(f"{begun(name)}: training on {counted(len(train), 'row')}, "
                            f"{len(selection):,} choose the epoch, {len(held_out):,} are then predicted")  # fmt: skip
        outcome = self._fit(classifier, train, selection, run)
        if outcome.ending == "interrupted":
            raise KeyboardInterrupt
        if outcome.ending == "non-finite loss":
            raise TrainingError(self._not_finite(name, outcome.ids_at_fault))
        return classifier

    def score(self, classifier: Classifier, fold: int, name: str, view: str = HEAD) -> Logits:
        """logits_nL of the rows of `fold` in one view; raises TrainingError where one is not a number."""
        settings, rows = self.settings, self.folds.held_out(fold)
        dtype = resolve_precision(settings.inference.precision, self.processes.device)
        encodings = self._encodings(classifier, view).take(rows)
        backend = TorchBackend(classifier, dtype=dtype)
        logits_nL = score(backend, encodings, token_budget=settings.inference.token_budget)
        is_bad_n = ~np.isfinite(logits_nL).all(axis=1)
        if is_bad_n.any():
            raise TrainingError(self._not_finite(name, tuple(self.corpus.ids[row] for row in rows[is_bad_n])))
        return logits_nL

    def tokenizer(self, classifier: Classifier) -> TextTokenizer:
        """The encoder's tokenizer."""
        if self.tokens.tokenizer is None:
            self.tokens.tokenizer = tokenizer_for(self.encoder_folder, classifier, self.settings)
        return self.tokens.tokenizer

    def _encodings(self, classifier: Classifier, view: str) -> Encodings:
        """All texts as tokens of one view."""
        if view not in self.tokens.by_view:
            self.observer.stage("Tokenising" + ("" if view == HEAD else f" (view {view})"))
            tokenizer = self.tokenizer(classifier)
            self.tokens.by_view[view] = encode_view(tokenizer, view, self.corpus.texts, self.corpus.pairs)
        return self.tokens.by_view[view]

    def _roles(self, fold: int) -> tuple[Indices, Indices]:
        """Positions of the training and of the selecting rows of a fold; no cluster is on both sides."""
        others = self.folds.others(fold)
        clusters = tuple(map(str, self.folds.cluster_N[others]))
        splits = split_corpus(
            replace(self.corpus.select(others), groups=clusters),
            validation_fraction=self.settings.split.validation_fraction,
            test_fraction=0.0,
            near_duplicate_similarity=1.0,  # The clusters say which texts are near duplicates.
            seed=self.settings.split.seed,
        )
        train, selection = others[splits.train], others[splits.validation]
        require_apart(self.folds, fold, np.concatenate([train, selection]))
        return train, selection

    def _fit(self, classifier: Classifier, train: Indices, selection: Indices, run: Run | None) -> Outcome:
        """Train as recipes/train.py does; afterwards the classifier holds the best weights."""
        settings, encodings = self.settings, self._encodings(classifier, HEAD)
        rows, chosen = self.corpus.select(train), encodings.take(train)
        seed = settings.training.seed
        plain = LabelledTexts(chosen, rows.targets_NL, rows.ids)
        start_head(classifier, plain, seed=seed, keep_pooler=has_trained_pooler(self.encoder_folder))
        if settings.lora.rank:
            generator = torch.Generator().manual_seed(seed)
            add_lora(classifier, settings.lora.rank, alpha=settings.lora.alpha, generator=generator)
        trainer = Trainer(
            classifier,
            examples_for(chosen, rows, self.tokenizer(classifier), settings),
            objective=build_objective(settings.loss, rows.targets_NL),
            settings=settings.training,
            rates=choose_rates(settings.training, classifier.encoder.hidden_size),
            observer=self.observer,
            should_stop=self.should_stop,
            processes=self.processes,
        )
        if run is not None:
            run.resume(trainer, settings.checkpoints, self.observer)
        dtype = resolve_precision(settings.training.precision, self.processes.device)
        validate = validation_score(
            TorchBackend(classifier, dtype=dtype),
            encodings.take(selection),
            self.corpus.select(selection),
            token_budget=settings.inference.token_budget,
            processes=self.processes,
            should_stop=self.should_stop,
        )
        with nullcontext() if run is None else run.keeper(settings.checkpoints, self.observer) as keeper:
            outcome = trainer.fit(validate, keeper, pass_for(settings))
        merge_lora(classifier)
        return outcome

    def _not_finite(self, name: str, ids: tuple[str, ...]) -> Finding:
        found = "a loss, gradient or logit was not a number; texts with ids " + ", ".join(ids[:8])
        step = (
            "look at these rows, or train with --set training.precision=fp32 or a lower "
            f"--set training.learning_rate{self.advice}"
        )
        return Finding("T301", f"training, {name}", found, next_step=step)


def begun(name: str) -> str:
    """A name at the beginning of a line: `Fold 1 of 5`, but a member keeps its letters: `default-s1, fold 1 of 5`."""
    return f"F{name[1:]}" if name.startswith("fold ") else name


def require_apart(folds: Folds, fold: int, learned: Indices) -> None:
    """Raise TrainingError unless no row of `learned`, nor a copy or the group of one, is in `fold`.

    It cannot happen as long as the division keeps clusters whole; a number that rests on it is refused, not reported.
    """
    shared = np.intersect1d(folds.cluster_N[learned], folds.cluster_N[folds.held_out(fold)])
    if len(shared):
        found = f"{counted(len(shared), 'cluster')} of its rows would teach the model that scores them"
        raise TrainingError(Finding("T302", f"fold {fold + 1} of {folds.count}", found, "rows that no model has seen",
                                    "report this as a defect"))  # fmt: skip
