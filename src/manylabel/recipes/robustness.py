"""What disguised texts cost a model, with and without the folding normaliser; called by `evaluate --robustness`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import numpy as np

from manylabel.config.schema import EvaluationSettings
from manylabel.errors import counted
from manylabel.evaluation.intervals import Interval, nested
from manylabel.evaluation.slices import AverageFigures, average_figures
from manylabel.evaluation.weighted import Judged, Path
from manylabel.evaluation.weighted_averages import changes_from
from manylabel.inference.predictor import Predictor
from manylabel.recipes.corpora import all_texts
from manylabel.recipes.scoring import units_of
from manylabel.text.disguises import ATTACKS, disguise
from manylabel.training.observers import Observer
from manylabel.values import Corpus, IntArray

MAX_ROWS = 2000
"""Rows scored under each attack; more cost time and move the figures little."""
CLEAN = "clean"


@dataclass(frozen=True)
class AttackFigures:
    """Figures under one attack: as the model is (`plain`) and with folding; None where it folds already.

    `changed` of `rows` rows have a text that the attack changes. `change` and `folded_change` are the differences to
    the clean texts as the model reads them, by ("macro", METRIC) and ("micro", "f1"), on the same rows and resamples.
    """

    attack: str
    rows: int
    changed: int
    plain: AverageFigures
    folded: AverageFigures | None
    change: Mapping[Path, Interval] = field(default_factory=dict)
    folded_change: Mapping[Path, Interval] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Plain values, undefined figures as null; `change` is left out of the clean texts."""
        folded = None if self.folded is None else {**self.folded.to_json(), **_changes(self.folded_change)}
        return {
            "attack": self.attack,
            "rows": self.rows,
            "changed_rows": self.changed,
            **self.plain.to_json(),
            **_changes(self.change),
            "folded": folded,
        }


def _changes(found: Mapping[Path, Interval]) -> dict[str, Any]:
    """Each difference with its limits, or why it has none."""
    if not found:
        return {}
    return {
        "change": nested(
            {
                path: {
                    "difference": each.value,
                    "low": each.low,
                    "high": each.high,
                    **({} if each.reason is None else {"reason": each.reason}),
                }
                for path, each in found.items()
            }
        )
    }


def folding_predictor(predictor: Predictor) -> Predictor | None:
    """The same model reading texts without their disguises; None where it does so already."""
    return None if predictor.folds else predictor.with_folding()


def robustness(
    predictor_plain: Predictor,
    predictor_folded: Predictor | None,
    corpus: Corpus,
    *,
    settings: EvaluationSettings,
    observer: Observer,
    max_rows: int = MAX_ROWS,
) -> list[AttackFigures]:
    """Figures of a seeded sample of rows as they are (first entry, `clean`) and under each attack.

    The sample and the attacks depend on `settings.seed` alone, so two models are attacked with the same texts. What
    an attack costs is the paired difference to the clean texts, with an interval by the units of the other figures.
    """
    sample = corpus.select(sampled_rows(len(corpus), max_rows=max_rows, seed=settings.seed))
    found, judged = [], []
    for attack in (CLEAN, *ATTACKS):
        observer.stage(f"Robustness: {counted(len(sample), 'row')}, {attack.replace('_', ' ')}")
        attacked = sample if attack == CLEAN else _attacked(sample, attack, settings.seed)
        both = [_judged(each, attacked) for each in (predictor_plain, predictor_folded) if each is not None]
        plain, *folded = (_figures(each) for each in both)
        changed = _num_changed(sample, attacked)
        found.append(AttackFigures(attack, len(sample), changed, plain, folded[0] if folded else None))
        judged += both
    if not len(sample):
        return found
    observer.stage("Robustness: differences to the clean texts")
    clean, *others = judged
    changes = iter(changes_from(clean, others, groups_N=units_of(sample.groups), settings=settings))
    return [
        replace(
            each,
            change={} if each.attack == CLEAN else next(changes),
            folded_change={} if each.folded is None else next(changes),
        )
        for each in found
    ]


def sampled_rows(num_rows: int, *, max_rows: int, seed: int) -> IntArray:
    """At most `max_rows` of N row indices, rising; the same seed gives the same rows on any machine."""
    generator = Random(seed)
    keys = np.array([generator.random() for _ in range(num_rows)])
    return np.sort(np.argsort(keys, kind="stable")[:max_rows])


def _attacked(corpus: Corpus, attack: str, seed: int) -> Corpus:
    def disguised(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(disguise(text, attack, seed=seed) for text in texts)

    pairs = None if corpus.pairs is None else disguised(corpus.pairs)
    return replace(corpus, texts=disguised(corpus.texts), pairs=pairs)


def _num_changed(before: Corpus, after: Corpus) -> int:
    rows = zip(all_texts(before), all_texts(after), strict=True)
    return sum(old != new for old, new in rows)


def _judged(predictor: Predictor, corpus: Corpus) -> Judged:
    predictions = predictor.predict(corpus.texts, corpus.pairs)
    return Judged(predictor.labels, corpus.targets_NL, predictions.probabilities_BL, predictions.decisions_BL)


def _figures(judged: Judged) -> AverageFigures:
    return average_figures(judged.targets_NL, judged.probabilities_NL, judged.decisions_NL)
