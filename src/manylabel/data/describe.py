"""What a corpus looks like in numbers. Called by `check` and by the training recipe; knows no tokeniser."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from manylabel.data.duplicates import contradictory_rows, exact_groups
from manylabel.data.pairs import joined
from manylabel.values import NOT_ANNOTATED, Corpus, IntArray

QUANTILES = (0.50, 0.90, 0.95, 0.99)


@dataclass(frozen=True)
class LabelSummary:
    """Rows where somebody looked for the label, and rows that carry it."""

    name: str
    annotated: int
    positives: int

    @property
    def prevalence(self) -> float | None:
        """Share of annotated rows that carry the label, 0 to 1; None when none is annotated."""
        return self.positives / self.annotated if self.annotated else None


@dataclass(frozen=True)
class LengthSummary:
    """Tokens per text: quantiles, the longest, and how many texts exceed `max_length` and are cut.

    `counted_in_part` are texts of which only the beginning was counted; they have more tokens than the figures say.
    """

    p50: int
    p90: int
    p95: int
    p99: int
    longest: int
    max_length: int
    truncated: int
    truncated_share: float
    counted_in_part: int = 0


@dataclass(frozen=True)
class CorpusSummary:
    """A corpus in numbers; `lengths` is None when the texts were not tokenised.

    `duplicates` counts texts that repeat an earlier one, `contradictory` rows whose equal texts have
    different labels.
    """

    source: str
    rows: int
    labels: tuple[LabelSummary, ...]
    rows_without_label: int
    labels_per_row: float
    duplicates: int
    contradictory: int
    lengths: LengthSummary | None

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON report."""
        values = asdict(self)
        values["labels"] = {
            label.name: {
                "annotated": label.annotated,
                "positives": label.positives,
                "prevalence": label.prevalence,
            }
            for label in self.labels
        }
        return values


def describe_corpus(
    corpus: Corpus, token_lengths_N: IntArray | None, max_length: int, *, counted_in_part: int = 0
) -> CorpusSummary:
    """The summary of a corpus.

    Args:
        corpus: N rows.
        token_lengths_N: Tokens of each text before any cut, special tokens included; None if unknown.
        max_length: Tokens a text may have.
        counted_in_part: Texts whose length is only that of their beginning.

    Returns:
        Counts, shares from 0 to 1 and lengths in tokens.
    """
    targets_NL = corpus.targets_NL
    positives_NL = targets_NL == 1
    labels = tuple(
        LabelSummary(name, int(annotated), int(positives))
        for name, annotated, positives in zip(
            corpus.labels.names,
            (targets_NL != NOT_ANNOTATED).sum(axis=0),
            positives_NL.sum(axis=0),
            strict=True,
        )
    )
    groups_N = exact_groups(joined(corpus.texts, corpus.pairs))
    return CorpusSummary(
        source=corpus.source,
        rows=len(corpus),
        labels=labels,
        rows_without_label=int((~positives_NL.any(axis=1)).sum()),
        labels_per_row=float(positives_NL.sum() / len(corpus)) if len(corpus) else 0.0,
        duplicates=int(len(corpus) - len(np.unique(groups_N))),
        contradictory=len(contradictory_rows(corpus)),
        lengths=_lengths(token_lengths_N, max_length, counted_in_part),
    )


def _lengths(token_lengths_N: IntArray | None, max_length: int, counted_in_part: int) -> LengthSummary | None:
    if token_lengths_N is None or len(token_lengths_N) == 0:
        return None
    p50, p90, p95, p99 = (
        int(value) for value in np.quantile(token_lengths_N, QUANTILES, method="inverted_cdf")
    )
    truncated = int((token_lengths_N > max_length).sum())
    longest, share = int(token_lengths_N.max()), truncated / len(token_lengths_N)
    return LengthSummary(p50, p90, p95, p99, longest, max_length, truncated, share, counted_in_part)
