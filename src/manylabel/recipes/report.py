"""The HTML report of a model, and the page of two; called by `train`, `manylabel report` and `manylabel compare`."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.bundle.contents import Bundle
from manylabel.bundle.files import published_file
from manylabel.config.schema import DataSettings, EvaluationSettings
from manylabel.data.duplicates import contradictory_rows
from manylabel.errors import Finding, UsageError
from manylabel.inference.load import LoadedModel
from manylabel.modeling.precision import choose_device
from manylabel.recipes.breakdown import Breakdown, evaluate_in_parts
from manylabel.recipes.compare import ModelComparison
from manylabel.recipes.corpora import Source, all_texts
from manylabel.recipes.evaluate import Judged
from manylabel.recipes.provenance import corpus_fingerprint
from manylabel.recipes.scoring import Scored
from manylabel.report.inputs import ReportInputs
from manylabel.report.render import render_comparison, render_report
from manylabel.report.verdict import judge
from manylabel.training.observers import Observer


@dataclass(frozen=True)
class Page:
    """Where a report goes and what only its caller knows; `texts` of users are in it only when asked for.

    `facts` are shown first under provenance, for example the hash of the model's manifest.
    """

    out: Path
    title: str = "Model report"
    overwrite: bool = False
    texts: bool = False
    command: str = ""
    date: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


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
    judged = evaluate_in_parts(model, source, wanted, options=options, settings=settings, observer=observer)
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
    choose = "choose another file"
    if out.is_dir():
        raise UsageError(Finding("U290", str(out), "it is a folder", "a file in an existing folder", choose))
    if not out.resolve().parent.is_dir():
        found = "its folder does not exist"
        raise UsageError(Finding("U290", str(out), found, "a file in an existing folder", choose))
    if out.exists() and not overwrite:
        raise UsageError(
            Finding("U291", str(out), "it exists already", "a new name", f"{choose}, or add --overwrite")
        )


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
            "head": bundle.settings.model.head,
            "tokens a text may have": bundle.tokenizer.max_length,
            "encoder sha256": found.encoder_sha256,
        },
        "Training": dict(sorted(found.training.items())),
        "Training data": {name: dict(sorted(part.items())) for name, part in sorted(found.data.items())},
        "Training hardware": dict(sorted(found.hardware.items())),
        "Versions at training": dict(sorted(found.versions.items())),
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
