"""The competition recipe, top to bottom: folds x seeds x encoders, blended, one model; called by `manylabel crossfit`.

Every figure is out of fold, or of test rows that had no part in making the ensemble: the weights of a blend, its kind,
calibration and thresholds of a row come from folds that the row is not in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manylabel.bundle.files import check_target, require_writable
from manylabel.config.schema import RunSettings
from manylabel.decisions.blend import fit_blend
from manylabel.decisions.goals import Goal
from manylabel.errors import Finding, UsageError
from manylabel.recipes.augment import check_augmentation
from manylabel.recipes.crossfit_figures import (
    Blended,
    blend_out_of_fold,
    measure,
    weights_by_label,
)
from manylabel.recipes.crossfit_members import OOF, logits_out_of_fold, opened_state
from manylabel.recipes.crossfit_plan import (
    CrossfitJob,
    Plan,
    check_job,
    encoders_of,
    gather_rows,
    members_of,
)
from manylabel.recipes.crossfit_save import finish, judged_rows, save, write_out_of_fold
from manylabel.recipes.encoder_try import DiskNeeds, try_encoders
from manylabel.recipes.folds import divide
from manylabel.recipes.kept_folds import KeptFolds
from manylabel.text.views import HEAD, with_head
from manylabel.training.checkpoints import check_space
from manylabel.training.observers import Observer

COPIES = 2
"""The models are on the disk twice for a moment: as finished folds, and in the ensemble that is being written."""


@dataclass(frozen=True, eq=False)
class CrossfitReport:
    """What a run left: the ensemble, the table of predictions out of fold, the figures with a section `crossfit`."""

    folder: Path
    out_of_fold: Path
    evaluation: Mapping[str, Any]


def crossfit_model(
    job: CrossfitJob,
    *,
    settings: RunSettings,
    observer: Observer,
    should_stop: Callable[[], bool] = lambda: False,
) -> CrossfitReport:
    """Train every member on every fold, blend them, and save the ensemble; the same call goes on where it was stopped.

    Raises UsageError for what cannot be asked for, and where the outputs may not be written or another run's folds are
    in the way; DataError with all problems of a file; EncoderError for encoders that cannot be loaded;
    TrainingStopped when asked to stop, with finished folds kept; TrainingError when a loss or logit is not a number.
    """
    check_job(job)
    _check_outputs(job)
    Goal.parse(settings.decisions.goal)
    check_augmentation(settings)
    job = _looking_at_heads(job, observer)
    members = members_of(job, settings)
    rows = gather_rows(job, settings, observer)
    check_augmentation(settings, rows.train)
    needs = try_encoders(encoders_of(members), rows.train, settings, observer=observer)
    folds = divide(rows.train, settings, folds=job.folds, observer=observer)
    plan = Plan(members, folds, job.views, rows, settings)
    _tell_plan(plan, observer)
    _require_room(plan, job, needs)
    with opened_state(job, plan) as kept:
        logits_CNL = logits_out_of_fold(plan, kept, observer=observer, should_stop=should_stop)
        evaluation = _blend_and_save(plan, job, kept, logits_CNL, observer=observer)
    return CrossfitReport(job.out, job.oof_place, evaluation)


def _blend_and_save(
    plan: Plan, job: CrossfitJob, kept: KeptFolds, logits_CNL: npt.NDArray[np.float32], *, observer: Observer
) -> Mapping[str, Any]:
    """From logits out of fold to the saved ensemble; its figures."""
    blended, by_kind = blend_out_of_fold(plan, logits_CNL, wanted=job.blend, observer=observer)
    figures = measure(plan, logits_CNL, blended, by_kind, observer=observer)
    names, labels = tuple(name for name, _, _ in plan.components), plan.corpus.labels.names
    blend = fit_blend(
        blended.kind,
        logits_CNL,
        plan.corpus.targets_NL,
        components=names,
        labels=labels,
        seed=plan.settings.split.seed,
    )
    if (weights_CL := blend.arrays.get("weights_CL")) is not None:
        figures = replace(figures, weights=weights_by_label(weights_CL, names, labels))
    _tell_blend(blended, observer)
    finished = finish(plan, kept, logits_CNL, blended, blend=blend, observer=observer)
    judged = judged_rows(plan, finished, observer=observer)
    write_out_of_fold(
        plan, logits_CNL, finished.out_of_fold, place=job.oof_place, work_folder=job.work_folder
    )
    return save(plan, job, finished, judged, figures, observer=observer)


def _check_outputs(job: CrossfitJob) -> None:
    """Refuse outputs that are there already; the table of an unfinished run of this ensemble is ours to replace."""
    check_target(job.out, job.overwrite)
    require_writable(job.out)
    place = job.oof_place
    if place.exists() and not job.overwrite and not (job.work_folder / OOF).exists():
        next_step = "move it elsewhere, choose another --out, or add --overwrite"
        raise UsageError(Finding("U304", str(place), "it exists already", "a new name", next_step))


def _looking_at_heads(job: CrossfitJob, observer: Observer) -> CrossfitJob:
    """The job with `head` among its views, which is told where it was not asked for."""
    if HEAD not in job.views:
        observer.stage(f"note: {HEAD} is always among the views and was added")
    return replace(job, views=with_head(job.views))


def _tell_plan(plan: Plan, observer: Observer) -> None:
    """How much there is to do."""
    observer.stage(plan.described())
    names = ", ".join(member.name for member in plan.members)
    observer.stage(f"  members: {names}; the time left is told once a network is trained")


def _require_room(plan: Plan, job: CrossfitJob, needs: Mapping[Path, DiskNeeds]) -> None:
    """Refuse a disk that cannot hold all models twice and the checkpoints of the largest one."""
    weights = sum(needs[member.encoder].weights for member in plan.members if member.encoder is not None)
    checkpoints = max(each.checkpoint for each in needs.values()) * (plan.settings.checkpoints.keep + 1)
    held = sum(path.stat().st_size for path in job.work_folder.rglob("*.safetensors"))
    needed = COPIES * weights * plan.folds.count + checkpoints - held
    check_space(job.out.resolve().parent, max(needed, 0), what="models and checkpoints")


def _tell_blend(blended: Blended, observer: Observer) -> None:
    if blended.by_fold:
        observer.stage(f"  blend: {blended.kind}, best by cross-fitted macro average precision")
