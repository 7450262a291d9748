"""Predictions out of fold: each row scored by a model that never saw it, nor a copy of it, nor its group.

Called by recipes/label_errors.py, and where there are too few rows to hold any out. For each fold a model is trained as
`train` does, on the rows of the other folds. The rows that choose its epoch are split off those, so that the rows it
then scores choose nothing.

    WORK/lock.json, run.json     see training/run_folder.py
    WORK/fold-1.safetensors      logits and positions of the rows of a finished fold
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from manylabel.config.schema import RunSettings
from manylabel.data.folds import Folds, make_folds
from manylabel.errors import Finding, TrainingStopped, counted, told_together
from manylabel.modeling.precision import resolve_precision
from manylabel.modeling.weights.locate import locate_encoder
from manylabel.recipes.augment import check_augmentation
from manylabel.recipes.fold_trainer import FoldTrainer
from manylabel.recipes.kept_folds import (
    LOGITS,
    DamagedFoldError,
    Identity,
    KeptFold,
    KeptFolds,
    file_name,
)
from manylabel.recipes.provenance import corpus_fingerprint, describe_engine, folder_fingerprint
from manylabel.recipes.run import GO_ON, IDENTITY_SECTIONS
from manylabel.training.observers import Observer
from manylabel.training.processes import Processes
from manylabel.training.run_folder import RunFolder
from manylabel.values import Corpus, IntArray

Logits = npt.NDArray[np.float32]
SECTIONS = tuple(dict.fromkeys((*IDENTITY_SECTIONS, "augmentation")))


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
        ConfigError: an augmentation makes no sense.
        EncoderError: the encoder cannot be loaded.
        TrainingStopped: `should_stop` said so, or Ctrl-C was pressed; finished folds are kept.
        TrainingError: a loss or logit was not finite.
    """
    check_augmentation(settings, corpus)
    encoder_folder = locate_encoder(settings.model.encoder)
    divided = divide(corpus, settings, folds=folds, observer=observer)
    names = _names(folds)
    identity = fold_identity(corpus, settings, divided, encoder_folder)
    logits_NL = np.full(corpus.targets_NL.shape, np.nan, dtype=np.float32)
    with RunFolder(work_folder, own_files=tuple(map(file_name, names))) as folder:
        kept = KeptFolds(folder, identity, names)
        kept.open(fresh=fresh)
        trainer = FoldTrainer(corpus, settings, encoder_folder, divided, observer, should_stop)
        try:
            for fold, name in enumerate(names):
                logits_NL[divided.held_out(fold)] = _one_fold(trainer, kept, fold, name)
        except BaseException as error:
            _leave(kept, folder, error, count=folds)
            raise
    return OutOfFold(logits_NL, divided.fold_N)


def divide(corpus: Corpus, settings: RunSettings, *, folds: int, observer: Observer) -> Folds:
    """The rows in folds, as `split` of the settings says; what is to be known about them is told."""
    observer.stage(f"Dividing {counted(len(corpus), 'row')} into {folds} folds, duplicates kept together")
    split = settings.split
    divided = make_folds(
        corpus, count=folds, near_duplicate_similarity=split.near_duplicate_similarity, seed=split.seed
    )
    for finding in told_together(divided.warnings):
        observer.stage("  note: " + finding.sentence())
    return divided


def folds_place(out: Path) -> Path:
    """Where finished folds wait for the model `out`."""
    place = out.resolve()
    return place.with_name(place.name + ".folds")


def forget_folds(work_folder: Path) -> None:
    """Remove what `out_of_fold` kept, once its result is safe; files that are not ours stay."""
    names = [path.name for path in work_folder.glob("fold-*.safetensors")]
    with RunFolder(work_folder, own_files=tuple(names)) as folder:
        folder.remove()


def fold_identity(corpus: Corpus, settings: RunSettings, folds: Folds, encoder_folder: Path) -> Identity:
    """What must be the same for kept folds to be used again."""
    flat: Identity = {
        f"{section}.{name}": value
        for section in SECTIONS
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
        **describe_engine(settings.training.precision, device),
        "number format of predictions": str(resolve_precision(settings.inference.precision, device)),
        **translations_identity(corpus),
    }


def translations_identity(corpus: Corpus) -> Identity:
    """The translations of a corpus, which its fingerprint leaves out; nothing where there are none."""
    return {} if corpus.translations is None else {"translations": _digest_of_texts(corpus)[:16]}


def _names(count: int) -> tuple[str, ...]:
    return tuple(f"fold-{fold + 1}" for fold in range(count))


def _one_fold(trainer: FoldTrainer, kept: KeptFolds, fold: int, name: str) -> Logits:
    """The logits of the rows of one fold, kept from an earlier start or made now."""
    folds, observer = trainer.folds, trainer.observer
    rows, said = folds.held_out(fold), f"fold {fold + 1} of {folds.count}"
    try:
        stored = kept.read(name, rows, logits=(LOGITS,), num_labels=len(trainer.corpus.labels))
    except DamagedFoldError:
        observer.stage(f"  warning: {said} is damaged in {kept.place} and is made again")
        stored = None
    if stored is not None:
        observer.stage(f"{said[0].upper()}{said[1:]}: kept in {kept.place}")
        return stored.logits[LOGITS]
    if trainer.should_stop():
        raise KeyboardInterrupt
    logits_nL = trainer.score(trainer.train(fold, said), fold, said)
    kept.write(name, KeptFold(rows, {LOGITS: logits_nL}))
    return logits_nL


def _leave(kept: KeptFolds, folder: RunFolder, error: BaseException, *, count: int) -> None:
    """Where nothing is finished leave nothing behind; else say, after an interruption, what is kept."""
    done = kept.num_done
    if not done:
        folder.remove()
    elif isinstance(error, KeyboardInterrupt):
        found = f"the training was interrupted; {counted(done, 'finished fold')} of {count} kept there"
        raise TrainingStopped(Finding("T310", str(kept.place), found, next_step=GO_ON)) from error


def _digest(*arrays: IntArray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return digest.hexdigest()


def _digest_of_texts(corpus: Corpus) -> str:
    digest = hashlib.sha256()
    for row in corpus.translations or ():
        for text in row:
            encoded = text.encode("utf-8", "surrogatepass")
            digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()
