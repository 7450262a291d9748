"""Where a model is good and where not: slices, bias AUCs, disguised texts; called by `evaluate` and `report`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from manylabel.config.schema import DataSettings, EvaluationSettings
from manylabel.errors import counted
from manylabel.evaluation.bias import bias_aucs
from manylabel.evaluation.bias_intervals import with_intervals
from manylabel.evaluation.intervals import bootstrap
from manylabel.evaluation.result import Evaluation
from manylabel.evaluation.slices import Slice, evaluate_slices
from manylabel.inference.load import LoadedModel
from manylabel.recipes.corpora import Source
from manylabel.recipes.evaluate import Judged, judge_model, load_annotated
from manylabel.recipes.robustness import folding_predictor, robustness
from manylabel.recipes.scoring import Scored
from manylabel.recipes.slices import columns_of, slice_table, subgroups
from manylabel.training.observers import Observer
from manylabel.values import IntArray

SHOWN = ("macro", "micro")


@dataclass(frozen=True)
class Breakdown:
    """What to look at beyond the whole: `slice_columns` and `bias_columns` are columns of the file.

    `bias_terms` are words that speak of a group of people; an empty tuple stands for the default English list, None
    for none.
    """

    slice_columns: tuple[str, ...] = ()
    by_length: bool = False
    by_language: bool = False
    bias_terms: tuple[str, ...] | None = None
    bias_columns: tuple[str, ...] = ()
    disguises: bool = False

    @property
    def wants_bias(self) -> bool:
        """Whether bias AUCs are asked for."""
        return self.bias_terms is not None or bool(self.bias_columns)

    @property
    def wants_slices(self) -> bool:
        """Whether slices are asked for."""
        return self.by_length or self.by_language or bool(self.slice_columns)


def evaluate_in_parts(
    model: LoadedModel,
    source: Source,
    wanted: Breakdown,
    *,
    options: DataSettings,
    settings: EvaluationSettings,
    observer: Observer,
) -> Judged:
    """Scores and figures of a saved model on a file or an object in memory, with the parts that `wanted` asks for.

    Raises DataError with all problems of the file at once, for a column too that does not exist or holds no shares,
    and UsageError where a package is missing.
    """
    rows = load_annotated(model, source, options=options, observer=observer)
    corpus = rows.corpus
    names = tuple(dict.fromkeys((*wanted.slice_columns, *wanted.bias_columns)))
    found = columns_of(source, names, corpus, options=options, stored=model.bundle.layout)
    judged = judge_model(model, rows, observer=observer, settings=settings)
    result = judged.evaluation
    if wanted.wants_slices:
        columns = {name: found[name] for name in wanted.slice_columns}
        tokenizer = model.predictor.tokenizer if wanted.by_length else None
        if wanted.by_length and tokenizer is None:
            observer.stage(
                "note: no slices by length: the ensemble has no network, whose tokens measure a text"
            )
        slices = slice_table(corpus, columns, tokenizer=tokenizer, by_language=wanted.by_language)
        observer.stage(f"Figures of {counted(len(slices), 'slice')}")
        result = replace(result, slices=_sliced(judged.scored, slices, settings))
    if wanted.wants_bias:
        shares = {name: found[name] for name in wanted.bias_columns}
        members = subgroups(corpus, terms=wanted.bias_terms, columns=shares)
        observer.stage(f"Bias figures of {counted(len(members), 'subgroup')}")
        result = _with_bias(result, judged.scored, members, settings)
    if wanted.disguises:
        folding = folding_predictor(model.predictor)
        attacks = robustness(model.predictor, folding, corpus, settings=settings, observer=observer)
        result = replace(result, robustness=[each.to_json() for each in attacks])
    return replace(judged, evaluation=result)


def _sliced(scored: Scored, slices: Sequence[Slice], settings: EvaluationSettings) -> list[Mapping[str, Any]]:
    figures = evaluate_slices(
        scored.corpus.targets_NL,
        scored.probabilities_NL,
        scored.thresholds,
        slices,
        intervals=(lambda rows_K: _intervals(scored, rows_K, settings)) if settings.resamples else None,
    )
    return [each.to_json() for each in figures]


def _with_bias(
    result: Evaluation, scored: Scored, members: Mapping[str, IntArray], settings: EvaluationSettings
) -> Evaluation:
    rows = (scored.corpus.targets_NL, scored.probabilities_NL)
    found = bias_aucs(*rows, scored.thresholds.labels, members)
    found = with_intervals(found, *rows, members, groups_N=scored.groups, settings=settings)
    content: dict[str, Any] = found.to_json()
    return replace(result, bias=content["bias"], bias_overall=content["bias_overall"])


def _intervals(scored: Scored, rows_K: IntArray, settings: EvaluationSettings) -> Mapping[str, Any]:
    """Intervals of the averages on these rows."""
    groups = scored.groups
    drawn = bootstrap(
        scored.corpus.targets_NL[rows_K],
        scored.probabilities_NL[rows_K],
        scored.thresholds,
        groups_N=None if groups is None else [groups[row] for row in rows_K],
        settings=settings,
    ).to_json()
    return {average: drawn.get(average, {}) for average in SHOWN}
