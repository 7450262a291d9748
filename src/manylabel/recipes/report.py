"""The HTML report of a model, and the page of two; called by `train`, `manylabel report` and `manylabel compare`."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.bundle.contents import Bundle
from manylabel.bundle.ensemble import NetworkModel
from manylabel.bundle.files import published_file
from manylabel.config.schema import DataSettings, EvaluationSettings
from manylabel.data.duplicates import contradictory_rows
from manylabel.errors import Finding, UsageError, counted
from manylabel.inference.load import LoadedModel
from manylabel.modeling.precision import choose_device
from manylabel.recipes.breakdown import Breakdown, evaluate_in_parts
from manylabel.recipes.compare import ModelComparison
from manylabel.recipes.corpora import Source, all_texts
from manylabel.recipes.evaluate import Judged
from manylabel.recipes.known_errors import errors_of_rows, read_errors
from manylabel.recipes.places import require_place
from manylabel.recipes.provenance import corpus_fingerprint
from manylabel.recipes.scoring import Scored
from manylabel.report.inputs import ReportInputs
from manylabel.report.render import render_comparison, render_report
from manylabel.report.verdict import judge
from manylabel.training.observers import Observer


@dataclass(frozen=True)
class Page:
    """Where a report goes and what only its caller knows; `texts` of users are in it only when asked for.

    `facts` are shown first under provenance, for example the hash of the model's manifest. `label_errors` is a file of
    `manylabel label-errors` about the rows.
    """

    out: Path
    title: str = "Model report"
    overwrite: bool = False
    texts: bool = False
    command: str = ""
    date: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    label_errors: Path | None = None


@dataclass(frozen=True)
class WrittenReport:
    """The file, its size, the verdict (ship, look closer, do not ship) and its reasons as sentences."""

    out: Path
    num_bytes: int
    verdict: str
    reasons: tuple[str, ...]


def report_model(
    model: LoadedModel,
    source: Source,
    page: Page,
    *,
    wanted: Breakdown,
    options: DataSettings,
    settings: EvaluationSettings,
    observer: Observer,
) -> WrittenReport:
    """Evaluate a saved model on a file or an object in memory and write the report.

    Raises UsageError for a file that may not be written, before anything is computed, and DataError with all problems
    of the data at once.
    """
    check_page(page.out, overwrite=page.overwrite)
    start = time.monotonic()
    cells = None if page.label_errors is None else read_errors(page.label_errors)
    judged = evaluate_in_parts(model, source, wanted, options=options, settings=settings, observer=observer)
    if cells is not None and page.label_errors is not None:
        known = errors_of_rows(cells, judged.scored.corpus, page.label_errors.name)
        if known.left_out:
            observer.stage(f"  label errors: {known.left_out}")
        figures = replace(judged.evaluation, label_errors=known.cells, label_errors_left_out=known.left_out)
        judged = replace(judged, evaluation=figures)
    observer.stage("Writing the report")
    return write_report(judged, model.bundle, page, settings=settings, seconds=time.monotonic() - start)


def write_report(
    judged: Judged, bundle: Bundle, page: Page, *, settings: EvaluationSettings, seconds: float | None = None
) -> WrittenReport:
    """Write the report of rows that were judged already; `seconds` is how long that took."""
    inputs = report_inputs(judged, bundle, page, settings=settings, seconds=seconds)
    verdict = judge(inputs)
    num_bytes = write_page(render_report(inputs), page.out, overwrite=page.overwrite)
    reasons = tuple(check.sentence for check in verdict.reasons)
    return WrittenReport(page.out, num_bytes, verdict.outcome, reasons)


def report_inputs(
    judged: Judged, bundle: Bundle, page: Page, *, settings: EvaluationSettings, seconds: float | None = None
) -> ReportInputs:
    """What the report of rows that were judged already is made from."""
    scored = judged.scored
    evaluated = {
        "source": scored.corpus.source,
        "rows": len(scored),
        "sha256": corpus_fingerprint(scored.corpus),
        "texts cut": int(scored.truncated_N.sum()),
        "resamples": settings.resamples,
        "confidence": settings.confidence,
        "seed": settings.seed,
        **({} if seconds is None else {"duration": f"{seconds:.1f} s"}),
    }
    return _inputs(
        scored,
        judged.evaluation.to_json(),
        title=page.title,
        command=page.command,
        date=page.date,
        provenance={**_facts(bundle, page.facts), "Evaluation": {**evaluated, **_machine()}},
        texts=tuple(all_texts(scored.corpus)) if page.texts else None,
    )


def write_comparison(
    comparison: ModelComparison,
    first: LoadedModel,
    second: LoadedModel,
    *,
    out: Path,
    overwrite: bool = False,
    command: str = "",
    date: str = "",
) -> int:
    """Write the page of two models that were compared; returns its size in bytes."""
    inputs = [
        _inputs(scored, {}, title=title, command=command, date=date, provenance=_facts(model.bundle, {}))
        for title, scored, model in (("model A", comparison.a, first), ("model B", comparison.b, second))
    ]
    html = render_comparison(inputs[0], inputs[1], comparison.to_json())
    return write_page(html, out, overwrite=overwrite)


def check_page(out: Path, *, overwrite: bool) -> None:
    """Refuse a file that may not be written, before anything is computed; raises UsageError."""
    require_place(out, "file")
    if out.exists() and not overwrite:
        step = "choose another file, or add --overwrite"
        raise UsageError(Finding("U291", str(out), "it exists already", "a new name", step))


def write_page(html: str, out: Path, *, overwrite: bool) -> int:
    """Write a page whole or not at all; returns its size in bytes. Raises UsageError as `check_page` does."""
    check_page(out, overwrite=overwrite)
    content = html.encode("utf-8")
    with published_file(out) as temporary:
        temporary.write_bytes(content)
    return len(content)


def _inputs(
    scored: Scored,
    evaluation: Mapping[str, Any],
    *,
    title: str,
    command: str,
    date: str,
    provenance: Mapping[str, Any],
    texts: tuple[str, ...] | None = None,
) -> ReportInputs:
    """What the report needs of rows that were scored; probabilities before calibration only where it changed them."""
    before_NL = scored.uncalibrated_NL
    is_calibrated = not np.array_equal(before_NL, scored.probabilities_NL)
    return ReportInputs(
        title=title,
        targets_NL=scored.corpus.targets_NL,
        probabilities_NL=scored.probabilities_NL,
        thresholds=scored.thresholds,
        ids=scored.corpus.ids,
        evaluation=evaluation,
        uncalibrated_NL=before_NL if is_calibrated else None,
        baseline_probabilities_NL=scored.of_baseline_NL,
        provenance=provenance,
        command=command,
        date=date,
        texts=texts,
        decided_NL=scored.decisions_NL,
        contradictory_rows=len(contradictory_rows(scored.corpus)),
    )


def _facts(bundle: Bundle, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Where the model came from, in an order of its own, as the manifest keeps none."""
    found = bundle.provenance
    return {
        "Model": {
            **facts,
            "seed": bundle.settings.training.seed,
            "seed of the split": bundle.settings.split.seed,
            **_model_facts(bundle),
            "encoder sha256": found.encoder_sha256,
        },
        "Training": dict(sorted(found.training.items())),
        "Training data": {name: dict(sorted(part.items())) for name, part in sorted(found.data.items())},
        "Training hardware": dict(sorted(found.hardware.items())),
        "Versions at training": dict(sorted(found.versions.items())),
    }


def _model_facts(bundle: Bundle) -> dict[str, Any]:
    """What the model is made of."""
    if isinstance(bundle.model, NetworkModel):
        return {"head": bundle.model.head, "tokens a text may have": bundle.max_length}
    ensemble = bundle.model
    limit = {} if ensemble.max_length is None else {"tokens every network reads": ensemble.max_length}
    return {
        "ensemble": f"{counted(len(ensemble.models), 'model')}, {ensemble.blend.kind}",
        **{f"component {each.name}": ", ".join(each.models) for each in ensemble.components},
        **limit,
    }


def _machine() -> dict[str, Any]:
    """What the figures were computed on."""
    return {
        "device": choose_device().type,
        "processor": platform.machine(),
        "cores": os.cpu_count() or 0,
        "system": platform.system(),
        "python": platform.python_version(),
    }
