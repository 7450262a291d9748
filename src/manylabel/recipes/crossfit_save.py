"""From out-of-fold logits to a saved ensemble with its figures; called by recipes/crossfit.py."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from manylabel.bundle.contents import Bundle, FittedBaseline
from manylabel.bundle.ensemble import Component, Ensemble
from manylabel.bundle.files import published_file
from manylabel.bundle.manifest import Provenance
from manylabel.bundle.probes import Probes
from manylabel.bundle.save import save_bundle
from manylabel.data.duplicates import text_fingerprints
from manylabel.data.sketches import text_sketches
from manylabel.decisions.blend import Blend
from manylabel.errors import counted
from manylabel.inference.load import build_predictor
from manylabel.recipes.adapted_encoder import adaptation_facts
from manylabel.recipes.corpora import all_texts
from manylabel.recipes.cross_fit import cross_fitted, out_of_fold_baseline
from manylabel.recipes.crossfit_figures import Blended, CrossfitFigures
from manylabel.recipes.crossfit_members import OOF, models_of
from manylabel.recipes.crossfit_plan import CrossfitJob, Plan, encoders_of
from manylabel.recipes.evaluate import Judged, judge_rows
from manylabel.recipes.folds import OutOfFold
from manylabel.recipes.judge import calibrated, chosen_thresholds, fit_linear
from manylabel.recipes.kept_folds import KeptFolds
from manylabel.recipes.provenance import (
    corpus_fingerprint,
    describe_hardware,
    describe_versions,
    encoder_fingerprint,
)
from manylabel.recipes.report import Page, report_inputs
from manylabel.recipes.scoring import Scored, parts_of_seen, rows_by_role, score_rows
from manylabel.report.render import render_report
from manylabel.training.observers import Observer

Logits = npt.NDArray[np.float32]
OUT_OF_FOLD = (
    "each row was scored by models, and blended, calibrated and decided by weights, maps and thresholds, of the other "
    "folds of {folds}; the saved ensemble's own were chosen on all of these rows"
)


@dataclass(frozen=True, eq=False)
class Finished:
    """An ensemble that decides, its rows out of fold as they are judged, and the figures of it all."""

    bundle: Bundle
    out_of_fold: Scored


def finish(
    plan: Plan, kept: KeptFolds, logits_CNL: Logits, blended: Blended, *, blend: Blend, observer: Observer
) -> Finished:
    """Put the ensemble together and choose its calibration and thresholds; figures come later.

    What the saved ensemble decides with is fitted on all rows out of fold, as the blend is.
    """
    corpus, settings = plan.corpus, plan.settings
    components = tuple(
        Component(name, tuple(member.model_name(fold) for fold in range(plan.folds.count)), view)
        for name, member, view in plan.components
    )
    observer.stage("Choosing calibration and thresholds on the rows out of fold")
    logits_NL = blend.apply(logits_CNL)
    calibration = calibrated(logits_NL, corpus, settings).calibration
    thresholds = chosen_thresholds(calibration.apply(logits_NL), corpus, settings)
    of_baseline_NL = out_of_fold_baseline(corpus, plan.folds.fold_N, settings, observer=observer)
    baseline = FittedBaseline(
        fit_linear(corpus, settings), chosen_thresholds(of_baseline_NL, corpus, settings)
    )
    seen = plan.rows.seen_texts()
    observer.stage(f"Putting {counted(len(plan.model_names), 'model')} together")
    bundle = Bundle(
        model=Ensemble(models_of(plan, kept), components, blend),
        thresholds=thresholds,
        layout=plan.rows.layout,
        settings=settings,
        provenance=_provenance(plan, blend),
        seen_texts=np.unique(text_fingerprints(seen)),
        seen_sketches=text_sketches(seen),
        seen_parts=parts_of_seen(plan.rows),
        calibration=calibration,
        baseline=baseline,
        evaluation=None,
        probes=Probes({}),
    )
    predictor = build_predictor(bundle, precision="fp32")
    probes = Probes.record(predictor.probabilities, bundle.labels, takes_pairs=bundle.takes_pairs)
    scored = cross_fitted(
        OutOfFold(blended.logits_NL, plan.folds.fold_N),
        corpus,
        predictor,
        settings,
        of_baseline_NL=of_baseline_NL,
        only_lines=False,
    )
    return Finished(replace(bundle, probes=probes), scored)


def judged_rows(plan: Plan, finished: Finished, *, observer: Observer) -> Judged:
    """Figures of the test rows, none of which was seen; without test rows of all rows out of fold."""
    settings, test = plan.settings, plan.rows.test
    if test is None:
        observer.stage(f"Evaluating {counted(len(plan.corpus), 'row')} out of fold")
        judged = judge_rows(
            finished.out_of_fold, seen=None, roles={}, settings=settings.evaluation, observer=observer
        )
        told = OUT_OF_FOLD.format(folds=plan.folds.count)
        evaluation = replace(judged.evaluation, out_of_fold=plan.folds.count, chosen_on=told)
        return replace(judged, evaluation=evaluation)
    observer.stage(f"Evaluating on {counted(len(test), 'test row')}")
    predictor = build_predictor(finished.bundle, precision=settings.inference.precision)
    scored = score_rows(predictor, finished.bundle.baseline, test)
    bundle = finished.bundle
    roles = rows_by_role(bundle.seen_texts, bundle.seen_parts, all_texts(test))
    if any(roles.values()):
        raise RuntimeError("a test row had a part in making the ensemble")
    return judge_rows(scored, seen=None, roles=roles, settings=settings.evaluation, observer=observer)


def save(
    plan: Plan,
    job: CrossfitJob,
    finished: Finished,
    judged: Judged,
    figures: CrossfitFigures,
    *,
    observer: Observer,
) -> Mapping[str, Any]:
    """Write the ensemble with its figures; returns them."""
    told = {**judged.evaluation.to_json(), "crossfit": figures.to_json()}
    bundle = replace(finished.bundle, evaluation=told)
    inputs = report_inputs(judged, bundle, Page(job.out), settings=plan.settings.evaluation)
    bundle = replace(bundle, report=render_report(inputs))
    observer.stage(f"Saving {job.out}")
    save_bundle(bundle, job.out, overwrite=job.overwrite)
    return told


def write_out_of_fold(
    plan: Plan, logits_CNL: Logits, scored: Scored, *, place: Path, work_folder: Path
) -> None:
    """Write what every row was given by models that never saw it: a table without texts.

    Columns: id, row, fold (from 1); truth:LABEL (1, 0, -1); COMPONENT:LABEL, uncalibrated probabilities; and
    ensemble:LABEL, the blended and calibrated ones that the figures are of. A copy in the work folder says that the
    file is ours to replace when the command goes on.
    """
    corpus, labels = plan.corpus, plan.corpus.labels.names
    columns: dict[str, pa.Array] = {
        "id": pa.array(corpus.ids, pa.string()),
        "row": pa.array(corpus.rows_N.astype(np.int64)),
        "fold": pa.array((plan.folds.fold_N + 1).astype(np.int8)),
    }
    for column, label in enumerate(labels):
        columns[f"truth:{label}"] = pa.array(corpus.targets_NL[:, column].astype(np.int8))
    for (name, _, _), logits_NL in zip(plan.components, logits_CNL, strict=True):
        wide_NL = 1.0 / (1.0 + np.exp(-logits_NL.astype(np.float64)))
        for column, label in enumerate(labels):
            columns[f"{name}:{label}"] = pa.array(wide_NL[:, column].astype(np.float32))
    for column, label in enumerate(labels):
        columns[f"ensemble:{label}"] = pa.array(scored.probabilities_NL[:, column].astype(np.float32))
    table = pa.table(columns)
    for target in (work_folder / OOF, place):
        with published_file(target) as temporary:
            pq.write_table(table, temporary)


def _provenance(plan: Plan, blend: Blend) -> Provenance:
    """Where the ensemble came from; several encoders as one hash over theirs."""
    folders = encoders_of(plan.members)
    prints = [encoder_fingerprint(folder) for folder in folders]
    parts = {"train": plan.corpus, "test": plan.rows.test}
    adapted = {
        f"texts of encoder {number + 1}": facts
        for number, folder in enumerate(folders)
        if (facts := adaptation_facts(folder)) is not None
    }
    return Provenance(
        data={
            name: {"source": corpus.source, "rows": len(corpus), "sha256": corpus_fingerprint(corpus)}
            for name, corpus in parts.items()
            if corpus is not None
        }
        | adapted,
        versions=describe_versions(),
        hardware=describe_hardware(plan.settings),
        encoder_sha256=prints[0]
        if len(prints) == 1
        else hashlib.sha256(" ".join(prints).encode()).hexdigest(),
        training={
            "members": ", ".join(member.name for member in plan.members),
            "folds": plan.folds.count,
            "views": ", ".join(plan.views),
            "blend": blend.kind,
        },
    )
