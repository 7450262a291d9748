"""Every model of a cross-fitted ensemble, trained and kept fold by fold; called by recipes/crossfit.py.

    OUT.crossfit/lock.json, run.json          see training/run_folder.py
    OUT.crossfit/MEMBER-f1.safetensors        a finished fold: its logits in every view, and the model that made them
    OUT.crossfit/MEMBER-f2.run/               the fold at work, with its checkpoints; see recipes/run.py

At most one network is in memory, and the logits of all.
"""

from __future__ import annotations

import filecmp
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from manylabel.bundle.ensemble import LinearModel, NetworkModel
from manylabel.errors import Finding, TrainingStopped, UsageError, counted
from manylabel.evaluation.nb_linear import NbLinear, fit_nb_linear
from manylabel.modeling.weights.hugging_face import load_classifier, read_config, to_hugging_face
from manylabel.recipes.corpora import all_texts
from manylabel.recipes.crossfit_plan import CrossfitJob, Member, Plan, identity_of_plan
from manylabel.recipes.fold_trainer import FoldTrainer, require_apart
from manylabel.recipes.kept_folds import LOGITS, DamagedFoldError, KeptFold, KeptFolds, file_name
from manylabel.recipes.prepare import tokenizer_for
from manylabel.recipes.run import GO_ON, opened_run, run_place
from manylabel.text.views import HEAD
from manylabel.training.observers import Observer
from manylabel.training.processes import Processes
from manylabel.training.run_folder import RunFolder

Logits = npt.NDArray[np.float32]

OOF = "oof.parquet"
OURS = re.compile(rf"[A-Za-z0-9._-]+-f\d+\.(safetensors|run)|\.writing-.+-{re.escape(OOF)}")
"""Files of any run, half-written ones too: the name of a process stands before theirs."""
KEPT = "; the finished folds are kept, and other settings begin anew with --fresh"


@contextmanager
def opened_state(job: CrossfitJob, plan: Plan) -> Iterator[KeptFolds]:
    """The kept folds of this ensemble, locked; on the way out of an interruption says what is kept and how to go on.

    Raises UsageError when another run works there or holds folds of other data or settings.
    """
    place = job.work_folder
    names = plan.model_names
    own = {*map(file_name, names), *(run_place(place / name).name for name in names), OOF}
    if place.is_dir():
        own |= {path.name for path in place.iterdir() if OURS.fullmatch(path.name)}
    with RunFolder(place, own_files=tuple(sorted(own))) as folder:
        kept = KeptFolds(folder, identity_of_plan(plan), names)
        if job.fresh:
            forget_runs(place)
            copy, table = place / OOF, job.oof_place
            # The copy says that an equal table is ours; without it the next start would take that for the user's.
            # Another table is a former run's, which stays until this one has its own.
            if copy.is_file() and table.is_file() and filecmp.cmp(copy, table, shallow=False):
                table.unlink()
        kept.open(fresh=job.fresh)
        try:
            yield kept
        except BaseException as error:
            at_work = any(run_place(place / name).exists() for name in names)
            if not kept.num_done and not at_work:
                folder.remove()
            elif isinstance(error, KeyboardInterrupt | TrainingStopped):
                raise TrainingStopped(_stopped(place, kept.num_done, len(names))) from error
            raise
        forget_runs(place)
        folder.remove()


def forget_runs(place: Path) -> None:
    """Remove what folds at work have left in the folder."""
    for path in sorted(place.glob("*.run")):
        if OURS.fullmatch(path.name):
            with RunFolder(path) as run:
                run.remove()


def _stopped(place: Path, done: int, count: int) -> Finding:
    found = f"the training was interrupted; {counted(done, 'finished fold')} of {count} kept there"
    return Finding("T310", str(place), found, next_step=GO_ON)


def logits_out_of_fold(
    plan: Plan, kept: KeptFolds, *, observer: Observer, should_stop: Callable[[], bool]
) -> Logits:
    """logits_CNL of the components for all rows, each row by the model that never saw it; trains what is not kept.

    Raises KeyboardInterrupt or TrainingStopped when asked to stop, TrainingError when a loss or logit is not a number.
    """
    shape = (len(plan.components), len(plan.corpus), len(plan.corpus.labels))
    logits_CNL = np.full(shape, np.nan, np.float32)
    works = _Works(plan, kept, observer, should_stop)
    for member in plan.members:
        for fold in range(plan.folds.count):
            found = works.fold(member, fold)
            for number, (_, owner, view) in enumerate(plan.components):
                if owner == member:
                    logits_CNL[number, plan.folds.held_out(fold)] = found.logits[_key(view)]
        works.done_with(member)
    if not np.isfinite(logits_CNL).all():
        raise RuntimeError("a row was scored by no model")
    return logits_CNL


def models_of(plan: Plan, kept: KeptFolds) -> tuple[NetworkModel | LinearModel, ...]:
    """Every trained model, read back from what was kept."""
    models: list[NetworkModel | LinearModel] = []
    labels = plan.corpus.labels.names
    for member in plan.members:
        for fold in range(plan.folds.count):
            name = member.model_name(fold)
            try:
                found = _read(plan, kept, member, fold)
            except DamagedFoldError:
                found = None
            if found is None:
                raise UsageError(Finding("U309", str(kept.path(name)), "it is gone or was changed while in use",
                                         next_step="give the same command again"))  # fmt: skip
            if member.encoder is None:
                models.append(LinearModel(name, NbLinear.from_arrays(found.model, labels)))
                continue
            classifier = load_classifier(
                json.loads(found.words["config"]),
                {key: torch.from_numpy(np.array(array)) for key, array in found.model.items()},
                num_labels=len(labels),
                head=plan.settings.model.head,
            )
            tokenizer = tokenizer_for(member.encoder, classifier, plan.settings)
            models.append(NetworkModel(name, classifier, read_config(member.encoder), tokenizer))
    return tuple(models)


def _key(view: str) -> str:
    return LOGITS if view == HEAD else f"{LOGITS}.{view}"


def _read(plan: Plan, kept: KeptFolds, member: Member, fold: int) -> KeptFold | None:
    """A kept fold; None where it is not there. Raises DamagedFoldError."""
    return kept.read(
        member.model_name(fold),
        plan.folds.held_out(fold),
        logits=[_key(view) for view in plan.views_of(member)],
        num_labels=len(plan.corpus.labels),
    )


@dataclass(eq=False)
class _Pace:
    """How long a fold of each kind takes, for the time left."""

    seconds: dict[Path | None, list[float]] = field(default_factory=dict)

    def add(self, encoder: Path | None, seconds: float) -> None:
        self.seconds.setdefault(encoder, []).append(seconds)

    def left(self, waiting: list[Path | None]) -> float | None:
        """Seconds for the folds that wait; None until a network was timed. An untimed encoder counts as the others."""
        networks = [each for encoder, times in self.seconds.items() if encoder is not None for each in times]
        if not networks:
            return None
        usual = sum(networks) / len(networks)
        means = {encoder: sum(times) / len(times) for encoder, times in self.seconds.items()}
        return sum(means.get(encoder, usual) for encoder in waiting)


@dataclass(eq=False)
class _Works:
    """Makes or finds one fold after the other."""

    plan: Plan
    kept: KeptFolds
    observer: Observer
    should_stop: Callable[[], bool]
    pace: _Pace = field(default_factory=_Pace)
    trainers: dict[Path, FoldTrainer] = field(default_factory=dict)
    num_done: int = 0

    def fold(self, member: Member, fold: int) -> KeptFold:
        """A fold of a member, kept from an earlier start or made now; its model is left on the disk."""
        name, said = member.model_name(fold), f"{member.name}, fold {fold + 1} of {self.plan.folds.count}"
        try:
            found = _read(self.plan, self.kept, member, fold)
        except DamagedFoldError:
            self.observer.stage(f"  warning: {said} is damaged in {self.kept.place} and is made again")
            self.kept.forget(name)
            found = None
        if found is None:
            if self.should_stop():
                raise KeyboardInterrupt
            began = time.monotonic()
            found = self._linear(fold, said) if member.encoder is None else self._network(member, fold, said)
            self.pace.add(member.encoder, time.monotonic() - began)
            self._tell(said)
        else:
            self.observer.stage(f"{said}: kept in {self.kept.place}")
        self.num_done += 1
        return KeptFold(found.rows_n, found.logits)

    def done_with(self, member: Member) -> None:
        """Let go of the tokens of an encoder after its last member."""
        members = self.plan.members
        rest = members[members.index(member) + 1 :]
        if member.encoder is not None and all(each.encoder != member.encoder for each in rest):
            self.trainers.pop(member.encoder, None)

    def _linear(self, fold: int, said: str) -> KeptFold:
        corpus, folds = self.plan.corpus, self.plan.folds
        held_out, others = folds.held_out(fold), folds.others(fold)
        require_apart(folds, fold, others)
        self.observer.stage(f"{said}: training on {counted(len(others), 'row')}")
        rows = corpus.select(others)
        fitted = fit_nb_linear(all_texts(rows), rows.targets_NL, rows.labels.names)
        logits_nL = LinearModel("linear", fitted).logits(all_texts(corpus.select(held_out)))
        found = KeptFold(held_out, {LOGITS: logits_nL}, fitted.to_arrays())
        self.kept.write(f"linear-f{fold + 1}", found)
        return found

    def _network(self, member: Member, fold: int, said: str) -> KeptFold:
        """Train on the other folds, going on from a checkpoint where there is one."""
        assert member.encoder is not None
        trainer = self._trainer(member.encoder).with_seed(member.seed)
        name, rows = member.model_name(fold), self.plan.folds.held_out(fold)
        with opened_run(self.kept.place / name, Processes.alone()) as run:
            run.begin({**identity_of_plan(self.plan), "fold": name}, fresh=False)
            classifier = trainer.train(fold, said, run)
            logits = {
                _key(view): trainer.score(classifier, fold, said, view) for view in self.plan.views_of(member)
            }
            labels = self.plan.corpus.labels.names
            config, weights = to_hugging_face(classifier, read_config(member.encoder), labels)
            arrays = {key: tensor.contiguous().numpy() for key, tensor in weights.items()}
            found = KeptFold(rows, logits, arrays, {"config": json.dumps(config, sort_keys=True)})
            self.kept.write(name, found)
            run.finish()
        return found

    def _trainer(self, encoder: Path) -> FoldTrainer:
        if encoder not in self.trainers:
            plan = self.plan
            self.trainers[encoder] = FoldTrainer(
                plan.corpus, plan.settings, encoder, plan.folds, self.observer, self.should_stop, advice=KEPT
            )
        return self.trainers[encoder]

    def _tell(self, said: str) -> None:
        """How far it is and how long it will still take."""
        every = [member.encoder for member in self.plan.members for _ in range(self.plan.folds.count)]
        waiting = every[self.num_done + 1 :]
        left = self.pace.left(waiting)
        when = "" if left is None or not waiting else f", about {duration(left)} left"
        self.observer.stage(f"  {said} is kept; {self.num_done + 1} of {len(every)} done{when}")


def duration(seconds: float) -> str:
    """`40 s`, `12 min` or `3 h 20 min`."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{round(seconds):,} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
