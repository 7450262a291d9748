"""Examples whose texts are changed anew each epoch; built by recipes/augment.py, called by the loop.

The rows that choose the epoch never come by here: they are encoded once, as they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from manylabel.data.augment import TextAugmenter
from manylabel.text.tokenizer import CHARACTERS_PER_TOKEN, TextTokenizer
from manylabel.training.examples import LabelledTexts
from manylabel.values import Corpus, Encodings

SPARE_LENGTH = 2
"""So many times the characters that the tokenizer reads are changed: enough where words are left out, and a text of
megabytes does not cost more than others."""


class AugmentedTexts:
    """The texts of a corpus with their targets, changed by `augmenter` as a function of the epoch and the row."""

    def __init__(
        self,
        corpus: Corpus,
        unchanged: LabelledTexts,
        *,
        tokenizer: TextTokenizer,
        augmenter: TextAugmenter,
    ) -> None:
        """`unchanged` are the same N rows as they are, encoded by `tokenizer`; its targets and ids are kept.

        Raises ValueError where the two have different numbers of rows.
        """
        if len(corpus) != len(unchanged):
            raise ValueError(f"{len(unchanged)} encoded texts for a corpus of {len(corpus)}")
        self._corpus, self._unchanged = corpus, unchanged
        self._tokenizer, self._augmenter = tokenizer, augmenter
        self._limit = SPARE_LENGTH * tokenizer.max_length * CHARACTERS_PER_TOKEN

    @property
    def ids(self) -> tuple[str, ...]:
        """One name a row."""
        return self._unchanged.ids

    def __len__(self) -> int:
        return len(self._unchanged)

    def epoch(self, epoch: int) -> LabelledTexts:
        """The rows of an epoch (from 0); those that it changes are tokenised here, before its first step."""
        rows, texts, pairs = self._changed(epoch)
        if not rows:
            return self._unchanged
        changed = self._tokenizer.encode(texts, pairs)
        encodings = with_rows_replaced(self._unchanged.encodings, np.array(rows, np.int64), changed)
        return replace(self._unchanged, encodings=encodings)

    def _changed(self, epoch: int) -> tuple[list[int], list[str], list[str] | None]:
        """Rows that the epoch changes, their texts, and their pairs where there are any."""
        corpus, rows = self._corpus, []
        texts: list[str] = []
        pairs: list[str] = []
        for row, text in enumerate(corpus.texts):
            changed = self._augmenter.changed(
                text[: self._limit],
                None if corpus.pairs is None else corpus.pairs[row][: self._limit],
                epoch=epoch,
                row=row,
                translations=tuple(each[: self._limit] for each in self._translations(row)),
            )
            if changed is not None:
                rows.append(row)
                texts.append(changed[0])
                pairs.append(changed[1] or "")
        return rows, texts, None if corpus.pairs is None else pairs

    def _translations(self, row: int) -> tuple[str, ...]:
        return () if self._corpus.translations is None else self._corpus.translations[row]


def with_rows_replaced(encodings: Encodings, rows: npt.NDArray[np.int64], others: Encodings) -> Encodings:
    """The encodings with text `rows[i]` replaced by text i of `others`."""
    joined = Encodings(
        ids_T=np.concatenate([encodings.ids_T, others.ids_T]),
        segments_T=np.concatenate([encodings.segments_T, others.segments_T]),
        offsets_N1=np.concatenate([encodings.offsets_N1, encodings.offsets_N1[-1] + others.offsets_N1[1:]]),
        truncated_N=np.concatenate([encodings.truncated_N, others.truncated_N]),
    )
    places = np.arange(len(encodings))
    places[rows] = len(encodings) + np.arange(len(others))
    return joined.take(places)
