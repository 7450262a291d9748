"""Texts to logits: what a predictor holds. One network is here, an ensemble in `ensemble`; called by the predictor.

Both take any number of texts, tokenise a bounded number of them together and put texts of equal length into a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from manylabel.inference.backends.base import Backend
from manylabel.text.buckets import plan_batches
from manylabel.text.pack import pack
from manylabel.text.tokenizer import TextTokenizer
from manylabel.values import Encodings

TEXTS_PER_PASS = 8192
"""Texts tokenised and sorted by length together: enough that batches hold texts of equal length, and bounded."""

Logits = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
OnBatch = Callable[[int], None]
Translations = Mapping[str, Sequence[str | None]]
"""Column name -> what it says of each of N texts; missing or blank where it says nothing."""


class Scorer(Protocol):
    """Computes the logits that a calibration and thresholds make decisions of."""

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """By whose tokens a text is long or short; None where nothing reads tokens."""
        ...

    @property
    def folds(self) -> bool:
        """Whether disguises in a text are undone before it is read."""
        ...

    def with_folding(self) -> Scorer:
        """The same models, which undo disguises first."""
        ...

    def truncated(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Flags:
        """Which of N texts (with their pairs) a model cuts, without scoring them."""
        ...

    def logits(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        *,
        translations: Translations | None = None,
        on_batch: OnBatch | None = None,
    ) -> tuple[Logits, Flags]:
        """logits_NL in the order of the texts, and which of them were cut.

        `on_batch` hears how many more texts are done; the numbers add up to N. `translations` are for models that look
        at them; where they are missing such a model reads the text itself.
        """
        ...


class SingleScorer:
    """One network behind one tokenizer."""

    def __init__(self, backend: Backend, tokenizer: TextTokenizer, *, token_budget: int) -> None:
        """Compose the parts; nothing is loaded or checked here. A batch has at most `token_budget` tokens."""
        self._backend, self._tokenizer, self._token_budget = backend, tokenizer, token_budget

    @property
    def tokenizer(self) -> TextTokenizer:
        """What turns texts into tokens."""
        return self._tokenizer

    @property
    def folds(self) -> bool:
        """Whether the tokenizer undoes disguises."""
        return self._tokenizer.folds

    def with_folding(self) -> SingleScorer:
        """The same network behind a tokenizer that undoes disguises first."""
        return SingleScorer(self._backend, self._tokenizer.folded, token_budget=self._token_budget)

    def truncated(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Flags:
        """Which texts are longer than the network reads."""
        return self._tokenizer.encode(texts, pairs).truncated_N

    def logits(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        *,
        translations: Translations | None = None,
        on_batch: OnBatch | None = None,
    ) -> tuple[Logits, Flags]:
        """See `Scorer.logits`; one network reads the text alone."""
        parts: list[tuple[Logits, Flags]] = []
        for some, of_pairs in passes(texts, pairs):
            encodings = self._tokenizer.encode(some, of_pairs)
            scored = score(self._backend, encodings, token_budget=self._token_budget, on_batch=on_batch)
            parts.append((scored, encodings.truncated_N))
        return joined_parts(parts)


def score(
    backend: Backend,
    encodings: Encodings,
    *,
    token_budget: int,
    on_batch: OnBatch | None = None,
) -> Logits:
    """logits_NL of all encoded texts in their order; `on_batch` hears the number of texts done by each batch."""
    rows: list[tuple[npt.NDArray[np.int64], Logits]] = []
    for indices in plan_batches(encodings.lengths_N, token_budget):
        rows.append((indices, backend.logits(pack(encodings, indices))))
        if on_batch:
            on_batch(len(indices))
    if not rows:
        return np.zeros((0, 0), np.float32)
    logits_NL = np.concatenate([logits for _, logits in rows])
    result = np.empty_like(logits_NL)
    result[np.concatenate([indices for indices, _ in rows])] = logits_NL
    return result


def passes(
    texts: Sequence[str], pairs: Sequence[str] | None
) -> Iterator[tuple[Sequence[str], Sequence[str] | None]]:
    """The texts and their pairs in parts of at most TEXTS_PER_PASS; nothing without texts."""
    for start in range(0, len(texts), TEXTS_PER_PASS):
        stop = start + TEXTS_PER_PASS
        yield texts[start:stop], None if pairs is None else pairs[start:stop]


def joined_parts(parts: Sequence[tuple[Logits, Flags]]) -> tuple[Logits, Flags]:
    """One after the other; 0 x 0 logits where there is none."""
    if not parts:
        return np.zeros((0, 0), np.float32), np.zeros(0, np.bool_)
    return np.concatenate([logits for logits, _ in parts]), np.concatenate([cut for _, cut in parts])
