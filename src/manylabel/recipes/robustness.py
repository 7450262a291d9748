"""What disguised texts cost a model, with and without the folding normaliser; called by `evaluate --robustness`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

import numpy as np

from manylabel.config.schema import EvaluationSettings
from manylabel.errors import counted
from manylabel.evaluation.slices import AverageFigures, average_figures
from manylabel.inference.predictor import Predictor
from manylabel.recipes.corpora import all_texts
from manylabel.text.disguises import ATTACKS, disguise
from manylabel.training.observers import Observer
from manylabel.values import Corpus, IntArray

MAX_ROWS = 2000
"""Rows scored under each attack; more cost time and move the figures little."""
CLEAN = "clean"


@dataclass(frozen=True)
class AttackFigures:
    """Figures under one attack: as the model is (`plain`) and with folding; None where it folds already.

    `changed` of `rows` rows have a text that the attack changes.
    """

    attack: str
    rows: int
    changed: int
    plain: AverageFigures
    folded: AverageFigures | None

    def to_json(self) -> dict[str, object]:
        """Plain values, undefined figures as null."""
        return {
            "attack": self.attack,
            "rows": self.rows,
            "changed_rows": self.changed,
            **self.plain.to_json(),
            "folded": None if self.folded is None else self.folded.to_json(),
        }


def folding_predictor(predictor: Predictor) -> Predictor | None:
    """The same model behind a tokenizer that undoes disguises; None where its own does so already."""
    tokenizer = predictor.tokenizer
    return None if tokenizer.folds else predictor.with_tokenizer(tokenizer.with_folding())


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

    The sample and the attacks depend on `settings.seed` alone, so two models are attacked with the same texts.
    """
    sample = corpus.select(sampled_rows(len(corpus), max_rows=max_rows, seed=settings.seed))
    found = []
    for attack in (CLEAN, *ATTACKS):
        observer.stage(f"Robustness: {counted(len(sample), 'row')}, {attack.replace('_', ' ')}")
        attacked = sample if attack == CLEAN else _attacked(sample, attack, settings.seed)
        plain = _figures(predictor_plain, attacked)
        folded = None if predictor_folded is None else _figures(predictor_folded, attacked)
        found.append(AttackFigures(attack, len(sample), _num_changed(sample, attacked), plain, folded))
    return found


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


def _figures(predictor: Predictor, corpus: Corpus) -> AverageFigures:
    predictions = predictor.predict(corpus.texts, corpus.pairs)
    return average_figures(corpus.targets_NL, predictions.probabilities_BL, predictions.decisions_BL)
