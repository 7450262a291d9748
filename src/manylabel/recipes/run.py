"""One training run on disk: its folder beside the model, its checkpoints, and going on from them.

Called by recipes/train.py and recipes/adapt.py. Only the first of several processes writes; all of them read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from manylabel.config.schema import CheckpointSettings, RunSettings
from manylabel.errors import Finding, TrainingError, TrainingStopped
from manylabel.recipes.corpora import Corpora
from manylabel.recipes.provenance import corpus_fingerprint, describe_engine, folder_fingerprint
from manylabel.text import token_cache
from manylabel.text.token_cache import cached_encodings
from manylabel.text.tokenizer import TextTokenizer
from manylabel.training.checkpoints import CheckpointStore, check_space
from manylabel.training.keeper import CheckpointKeeper
from manylabel.training.loop import Outcome, Trainer
from manylabel.training.observers import Observer
from manylabel.training.processes import Processes
from manylabel.training.run_folder import RunFolder
from manylabel.values import Corpus, Encodings

GO_ON = "the same command goes on from it (--fresh begins anew)"
IDENTITY_SECTIONS = ("text", "model", "training", "loss", "augmentation", "lora")
"""Settings that decide what a step does; a run goes on only with the same ones."""


def run_place(out: Path) -> Path:
    """Where the run that makes the model `out` keeps its state."""
    place = out.resolve()
    return place.with_name(place.name + ".run")


class Run:
    """An open run folder; on processes other than the first it only reads."""

    def __init__(self, place: Path, folder: RunFolder | None, processes: Processes) -> None:
        """Used by `opened_run`."""
        self.place, self._folder, self._processes = place, folder, processes
        self._opened: CheckpointStore | None = None
        self.has_begun = False

    def begin(self, identity: dict[str, str | int | float | bool | None], *, fresh: bool) -> None:
        """Say what run this is; raises UsageError when the folder holds another one and `fresh` is not set."""
        if self._folder is not None:
            self._folder.open(identity, fresh=fresh)
            self.has_begun = True
        self._processes.barrier()

    def resume(self, trainer: Trainer, settings: CheckpointSettings, observer: Observer) -> None:
        """Let the trainer go on from the newest intact checkpoint, if there is one; damaged ones are told."""
        found = self._store(settings).newest()
        for finding in found.damaged:
            observer.stage(f"  warning: {finding.sentence()}")
        step = found.checkpoint.step if found.checkpoint is not None else 0
        if self._processes.sum_float(step) != step * self._processes.size:
            finding = Finding("T313", str(self.place), "the processes see different checkpoints", "one shared folder",
                              "give --out on a file system that all machines share")  # fmt: skip
            raise TrainingError(finding)
        if found.checkpoint is not None:
            trainer.restore(found.checkpoint)
            observer.stage(f"Going on from step {step:,}, kept in {self.place} (--fresh begins anew)")

    def encodings(self, tokenizer: TextTokenizer, corpus: Corpus) -> Encodings:
        """The texts as tokens, from an earlier start of this run or from the first process where they are there."""
        key = hashlib.sha256(f"{corpus_fingerprint(corpus)} {tokenizer.fingerprint()}".encode()).hexdigest()

        def make() -> Encodings:
            return tokenizer.encode(corpus.texts, corpus.pairs)

        return self.cached(key, make)

    def cached(self, key: str, make: Callable[[], Encodings]) -> Encodings:
        """What `make` gives, or gave under this key to an earlier start or to the first process."""
        if self._processes.is_main:
            result = cached_encodings(self.place, key, make, may_write=True)
            self._processes.barrier()
            return result
        self._processes.barrier()
        return cached_encodings(self.place, key, make, may_write=False)

    @contextmanager
    def keeper(self, settings: CheckpointSettings, observer: Observer) -> Iterator[CheckpointKeeper | None]:
        """What takes the checkpoints; None on processes that do not write."""
        if self._folder is None:
            yield None
            return
        keeper = CheckpointKeeper(self._store(settings), settings)
        yield keeper  # On the way out of an error nobody waits for what is being written; it is whole or not there.
        try:
            keeper.close()
        except TrainingError as failure:
            observer.stage("  warning: " + "; ".join(finding.sentence() for finding in failure.findings))

    def require_space(self, num_bytes: int) -> None:
        """Raise unless the disk has room for the checkpoints of the run."""
        if self._folder is not None:
            held = sum(path.stat().st_size for path in self.place.glob("checkpoints/*/*"))
            check_space(self.place, max(num_bytes - held, 0))

    def finish(self) -> None:
        """The model is saved: the run is no longer needed."""
        if self._folder is not None:
            self._folder.remove()

    def _store(self, settings: CheckpointSettings) -> CheckpointStore:
        """One store for reading and writing: it remembers which checkpoints it found damaged."""
        if self._opened is None:
            self._opened = CheckpointStore(self.place / "checkpoints", keep=settings.keep)
        return self._opened


@contextmanager
def opened_run(out: Path, processes: Processes) -> Iterator[Run]:
    """The run that makes `out`, locked against a second training; raises UsageError when one is going on."""
    place = run_place(out)
    if not processes.is_main:
        yield Run(place, None, processes)
        return
    with RunFolder(place, own_files=token_cache.FILES) as folder:
        run = Run(place, folder, processes)
        try:
            yield run
        except BaseException as error:
            if folder.holds_nothing_to_go_on_from():
                if run.has_begun:
                    folder.remove()
            elif isinstance(error, KeyboardInterrupt):
                raise _interrupted(place) from error
            raise


def identity_of(
    corpora: Corpora, encoder_folder: Path, settings: RunSettings, processes: Processes
) -> dict[str, str | int | float | bool | None]:
    """What must be the same for a run to go on: data, encoder, number of processes and the settings of a step."""
    parts = {**corpora.by_role, "test": corpora.test}
    flat: dict[str, str | int | float | bool | None] = {
        f"{section}.{name}": value
        for section in IDENTITY_SECTIONS
        for name, value in getattr(settings, section).model_dump(mode="json").items()
    }
    flat.pop("model.encoder")  # A path; what counts is what lies there.
    return {
        **flat,
        **{
            f"{role} rows": corpus_fingerprint(corpus)[:16]
            for role, corpus in parts.items()
            if corpus is not None
        },
        "encoder": folder_fingerprint(encoder_folder)[:16],
        "processes": processes.size,
        **describe_engine(settings.training.precision, processes.device),
    }


def _interrupted(place: Path) -> TrainingStopped:
    """What a training says that was ended at once, or after its last step."""
    found = "the training was interrupted; its state up to the last checkpoint is saved there"
    return TrainingStopped(Finding("T310", str(place), found, next_step=GO_ON))


def stopped(outcome: Outcome, out: Path) -> TrainingStopped:
    """What a training that was asked to stop says."""
    found = f"the training was stopped at step {outcome.steps:,}; its state is saved there"
    return TrainingStopped(Finding("T310", str(run_place(out)), found, next_step=GO_ON))
