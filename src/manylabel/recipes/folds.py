"""Predictions out of fold: each row scored by a model that never saw it, nor a copy of it, nor its group.

Called by recipes/label_errors.py, and where there are too few rows to hold any out. For each fold a model is trained as
`train` does, on the rows of the other folds. The rows that choose its epoch are split off those, so that the rows it
then scores choose nothing.

    WORK/lock.json, run.json     see training/run_folder.py
    WORK/fold-1.safetensors      logits and positions of the rows of a finished fold
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.special import expit

from manylabel import __version__
from manylabel.bundle.files import published_file
from manylabel.config.schema import RunSettings
from manylabel.data.folds import Folds, make_folds
from manylabel.data.split import split_corpus
from manylabel.errors import Finding, TrainingError, TrainingStopped, counted
from manylabel.inference.backends.torch_backend import TorchBackend
from manylabel.inference.predictor import score
from manylabel.modeling.classifier import Classifier
from manylabel.modeling.lora import add_lora, merge_lora
from manylabel.modeling.precision import resolve_precision
from manylabel.modeling.weights.locate import locate_encoder
from manylabel.recipes.judge import validation_score
from manylabel.recipes.prepare import choose_rates, has_trained_pooler, new_classifier, tokenizer_for
from manylabel.recipes.provenance import corpus_fingerprint, folder_fingerprint
from manylabel.recipes.run import GO_ON, IDENTITY_SECTIONS
from manylabel.training.head_start import start_head
from manylabel.training.loop import Outcome, Trainer, TrainingData
from manylabel.training.objectives import build_objective
from manylabel.training.observers import Observer
from manylabel.training.processes import Processes
from manylabel.training.run_folder import RunFolder
from manylabel.values import Corpus, Encodings, IntArray

Identity = dict[str, str | int | float | bool | None]
Logits = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

HALF_WRITTEN = re.compile(r"\.writing-.+-fold-\d+\.safetensors")


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """Logits of N rows for L labels, each from the model of the other folds; `fold_N` is 0 to k - 1."""

    logits_NL: Logits
    fold_N: IntArray

    @property
    def probabilities_NL(self) -> npt.NDArray[np.float64]:
        """The logistic function of the logits: uncalibrated, from 0 to 1."""
        probabilities_NL: npt.NDArray[np.float64] = expit(self.logits_NL.astype(np.float64))
        return probabilities_NL


def out_of_fold(
    corpus: Corpus,
    settings: RunSettings,
    *,
    folds: int,
    observer: Observer,
    work_folder: Path,
    should_stop: Callable[[], bool] = lambda: False,
    fresh: bool = False,
) -> OutOfFold:
    """Train `folds` models, each without one fold, and score that fold with it.

    Args:
        corpus: N checked rows with L labels.
        settings: As for `train`; `split.validation_fraction` is the share of a fold's training rows that chooses its
            epoch.
        folds: How many, 2 to 20.
        observer: Hears which fold is at work, and every step.
        work_folder: Where each finished fold is kept; the same call goes on from those. `forget_folds` removes it.
        should_stop: Asked after every step.
        fresh: Discard what another run left in `work_folder`.

    Raises:
        UsageError: `work_folder` is in use or holds folds of other data or settings; or `folds` is out of range.
        DataError: the rows cannot be divided so.
        EncoderError: the encoder cannot be loaded.
        TrainingStopped: `should_stop` said so, or Ctrl-C was pressed; finished folds are kept.
        TrainingError: a loss or logit was not finite.
    """
    encoder_folder = locate_encoder(settings.model.encoder)
    observer.stage(f"Dividing {counted(len(corpus), 'row')} into {folds} folds, duplicates kept together")
    split = settings.split
    divided = make_folds(
        corpus, count=folds, near_duplicate_similarity=split.near_duplicate_similarity, seed=split.seed
    )
    for finding in divided.warnings:
        observer.stage("  note: " + finding.sentence())
    identity = _identity(corpus, settings, encoder_folder, divided)
    logits_NL = np.full(corpus.targets_NL.shape, np.nan, dtype=np.float32)
    with RunFolder(work_folder, own_files=_names(folds)) as folder:
        kept = _KeptFolds(folder, identity, folds)
        kept.open(fresh=fresh)
        trainer = _FoldTrainer(corpus, settings, encoder_folder, divided, observer, should_stop)
        try:
            for fold in range(folds):
                logits_NL[divided.held_out(fold)] = _one_fold(trainer, kept, fold)
        except BaseException as error:
            kept.leave(error)
            raise
    return OutOfFold(logits_NL, divided.fold_N)


def folds_place(out: Path) -> Path:
    """Where finished folds wait for the model `out`."""
    place = out.resolve()
    return place.with_name(place.name + ".folds")


def forget_folds(work_folder: Path) -> None:
    """Remove what `out_of_fold` kept, once its result is safe; files that are not ours stay."""
    names = [path.name for path in work_folder.glob("fold-*.safetensors")]
    with RunFolder(work_folder, own_files=tuple(names)) as folder:
        folder.remove()


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"fold-{fold + 1}.safetensors" for fold in range(count))


def _one_fold(trainer: _FoldTrainer, kept: _KeptFolds, fold: int) -> Logits:
    """The logits of the rows of one fold, kept from an earlier start or made now."""
    folds, observer = trainer.folds, trainer.observer
    rows = folds.held_out(fold)
    name = f"fold {fold + 1} of {folds.count}"
    try:
        stored = kept.read(fold, rows, num_labels=len(trainer.corpus.labels))
    except _DamagedError:
        observer.stage(f"  warning: {name} is damaged in {kept.place} and is made again")
        stored = None
    if stored is not None:
        observer.stage(f"{name[0].upper()}{name[1:]}: kept in {kept.place}")
        return stored
    if trainer.should_stop():
        raise KeyboardInterrupt
    logits_nL = trainer.run(fold, name)
    kept.write(fold, rows, logits_nL)
    return logits_nL


def _identity(corpus: Corpus, settings: RunSettings, encoder_folder: Path, folds: Folds) -> Identity:
    """What must be the same for kept folds to be used again."""
    flat: Identity = {
        f"{section}.{name}": value
        for section in IDENTITY_SECTIONS
        for name, value in getattr(settings, section).model_dump(mode="json").items()
    }
    flat.pop("model.encoder")  # A path; what counts is what lies there.
    device = Processes.alone().device
    return {
        **flat,
        "split.validation_fraction": settings.split.validation_fraction,
        "split.seed": settings.split.seed,
        "rows": corpus_fingerprint(corpus)[:16],
        "number of folds": folds.count,
        "folds": _digest(folds.fold_N, folds.cluster_N)[:16],
        "encoder": folder_fingerprint(encoder_folder)[:16],
        "device": device.type,
        "number format": str(resolve_precision(settings.training.precision, device)),
        "number format of predictions": str(resolve_precision(settings.inference.precision, device)),
        "manylabel": __version__,
    }


def _digest(*arrays: IntArray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return digest.hexdigest()


class _DamagedError(Exception):
    """A kept fold cannot be read, or is of other rows."""


class _KeptFolds:
    """Finished folds on disk; each file appears whole or not at all."""

    def __init__(self, folder: RunFolder, identity: Identity, count: int) -> None:
        self._folder, self._identity, self._count = folder, identity, count
        self._key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()

    @property
    def place(self) -> Path:
        """The folder."""
        return self._folder.path

    def open(self, *, fresh: bool) -> None:
        """Raise UsageError where the folder holds another run and `fresh` is not set."""
        for path in self.place.iterdir():
            if HALF_WRITTEN.fullmatch(path.name):
                path.unlink()  # The lock says that nobody writes it any more.
        self._folder.open(self._identity, fresh=fresh)

    def write(self, fold: int, rows: Indices, logits_nL: Logits) -> None:
        """Keep a finished fold."""
        with published_file(self._path(fold)) as temporary:
            arrays: dict[str, npt.NDArray[Any]] = {
                "logits_nL": np.ascontiguousarray(logits_nL),
                "rows_n": rows.astype(np.int64),
            }
            save_file(arrays, temporary, metadata={"identity": self._key})

    def read(self, fold: int, rows: Indices, *, num_labels: int) -> Logits | None:
        """The logits of a fold; None where it is not kept. Raises _DamagedError."""
        path = self._path(fold)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                is_ours = (file.metadata() or {}).get("identity") == self._key
                logits_nL, rows_n = file.get_tensor("logits_nL"), file.get_tensor("rows_n")
        except (SafetensorError, OSError) as error:
            raise _DamagedError from error
        fits = logits_nL.shape == (len(rows), num_labels) and np.array_equal(rows_n, rows)
        if not (is_ours and fits and np.isfinite(logits_nL).all()):
            raise _DamagedError
        result: Logits = logits_nL.astype(np.float32, copy=False)
        return result

    def leave(self, error: BaseException) -> None:
        """Where nothing is finished leave nothing behind; else say, after an interruption, what is kept."""
        done = sum((self.place / name).exists() for name in _names(self._count))
        if not done:
            self._folder.remove()
        elif isinstance(error, KeyboardInterrupt):
            found = (
                f"the training was interrupted; {counted(done, 'finished fold')} of {self._count} kept there"
            )
            raise TrainingStopped(Finding("T310", str(self.place), found, next_step=GO_ON)) from error

    def _path(self, fold: int) -> Path:
        return self.place / f"fold-{fold + 1}.safetensors"


@dataclass(eq=False)
class _FoldTrainer:
    """Trains the model of one fold after the other; the texts are tokenised once."""

    corpus: Corpus
    settings: RunSettings
    encoder_folder: Path
    folds: Folds
    observer: Observer
    should_stop: Callable[[], bool]
    processes: Processes = field(default_factory=Processes.alone)
    _encodings: Encodings | None = None

    def run(self, fold: int, name: str) -> Logits:
        """logits_nL of the rows of `fold`, from a model of the others. Raises KeyboardInterrupt when asked to stop."""
        settings, rows = self.settings, self.folds.held_out(fold)
        classifier = new_classifier(
            self.encoder_folder, len(self.corpus.labels), settings, self.processes.device
        )
        encodings = self._tokens(classifier)
        train, selection = self._roles(fold)
        self.observer.stage(f"{name[0].upper()}{name[1:]}: training on {counted(len(train), 'row')}, "
                            f"{len(selection):,} choose the epoch, {len(rows):,} are then predicted")  # fmt: skip
        outcome = self._fit(classifier, train, selection)
        if outcome.ending == "interrupted":
            raise KeyboardInterrupt
        if outcome.ending == "non-finite loss":
            raise TrainingError(_not_finite(name, outcome.ids_at_fault))
        dtype = resolve_precision(settings.inference.precision, self.processes.device)
        backend = TorchBackend(classifier, dtype=dtype)
        logits_nL = score(backend, encodings.take(rows), token_budget=settings.inference.token_budget)
        is_bad_n = ~np.isfinite(logits_nL).all(axis=1)
        if is_bad_n.any():
            raise TrainingError(_not_finite(name, tuple(self.corpus.ids[row] for row in rows[is_bad_n])))
        return logits_nL

    def _tokens(self, classifier: Classifier) -> Encodings:
        if self._encodings is None:
            self.observer.stage("Tokenising")
            tokenizer = tokenizer_for(self.encoder_folder, classifier, self.settings)
            self._encodings = tokenizer.encode(self.corpus.texts, self.corpus.pairs)
        return self._encodings

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
        return others[splits.train], others[splits.validation]

    def _fit(self, classifier: Classifier, train: Indices, selection: Indices) -> Outcome:
        """Train as recipes/train.py does; afterwards the classifier holds the best weights."""
        settings, corpus, encodings = self.settings, self.corpus, self._tokens(classifier)
        targets_NL, ids = corpus.targets_NL[train], tuple(corpus.ids[row] for row in train)
        data = TrainingData(encodings.take(train), targets_NL, ids)
        seed = settings.training.seed
        start_head(classifier, data, seed=seed, keep_pooler=has_trained_pooler(self.encoder_folder))
        if settings.lora.rank:
            generator = torch.Generator().manual_seed(seed)
            add_lora(classifier, settings.lora.rank, alpha=settings.lora.alpha, generator=generator)
        trainer = Trainer(
            classifier,
            data,
            objective=build_objective(settings.loss, targets_NL),
            settings=settings.training,
            rates=choose_rates(settings.training, classifier.encoder.hidden_size),
            observer=self.observer,
            should_stop=self.should_stop,
            processes=self.processes,
        )
        dtype = resolve_precision(settings.training.precision, self.processes.device)
        validate = validation_score(
            TorchBackend(classifier, dtype=dtype),
            encodings.take(selection),
            corpus.select(selection),
            token_budget=settings.inference.token_budget,
            processes=self.processes,
            should_stop=self.should_stop,
        )
        outcome = trainer.fit(validate)
        merge_lora(classifier)
        return outcome


def _not_finite(name: str, ids: tuple[str, ...]) -> Finding:
    found = "a loss, gradient or logit was not a number; texts with ids " + ", ".join(ids[:8])
    step = "look at these rows, or train with --set training.precision=fp32 or a lower --set training.learning_rate"
    return Finding("T301", f"training, {name}", found, next_step=step)
