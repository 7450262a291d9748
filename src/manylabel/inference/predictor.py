"""The straight line from texts to decisions; the one way in for Python, command line and every later front door."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from manylabel.decisions.abstain import Zones
from manylabel.decisions.calibration import Calibration
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import Finding, UsageError, counted
from manylabel.inference.backends.base import Backend
from manylabel.text.buckets import plan_batches
from manylabel.text.pack import pack
from manylabel.text.tokenizer import TextTokenizer
from manylabel.values import Encodings, FloatArray, Predictions

TEXTS_PER_PASS = 8192
"""Texts tokenised and sorted by length together: enough that batches hold texts of equal length, and bounded."""


def score(
    backend: Backend,
    encodings: Encodings,
    *,
    token_budget: int,
    on_batch: Callable[[int], None] | None = None,
) -> npt.NDArray[np.float32]:
    """logits_NL of all encoded texts in their order; `on_batch` hears the number of texts done by each batch."""
    rows: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]] = []
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


class Predictor:
    """Texts in, probabilities and decisions out; holds a tokenizer, an engine, a calibration, thresholds and zones."""

    def __init__(
        self,
        backend: Backend,
        tokenizer: TextTokenizer,
        thresholds: Thresholds,
        *,
        token_budget: int,
        takes_pairs: bool = False,
        calibration: Calibration | None = None,
        zones: Zones | None = None,
    ) -> None:
        """Compose the parts; nothing is loaded or checked here. `takes_pairs` says how the model was trained.

        Without `calibration` a probability is the logistic function of its logit; without `zones` nothing is marked
        for a human.
        """
        self._backend, self._tokenizer, self._token_budget = backend, tokenizer, token_budget
        self._takes_pairs = takes_pairs
        self._thresholds = thresholds
        self._calibration = calibration or Calibration.identity(thresholds.labels)
        self._zones = zones

    @property
    def thresholds(self) -> Thresholds:
        """What decides."""
        return self._thresholds

    @property
    def calibration(self) -> Calibration:
        """What turns logits into probabilities."""
        return self._calibration

    @property
    def zones(self) -> Zones | None:
        """What marks a label for a human, which changes no decision."""
        return self._zones

    @property
    def tokenizer(self) -> TextTokenizer:
        """What turns texts into tokens."""
        return self._tokenizer

    def with_thresholds(self, thresholds: Thresholds, calibration: Calibration | None = None) -> Predictor:
        """The same engine, tokenizer and zones with other thresholds, and another calibration where one is given."""
        return self._changed(self._tokenizer, thresholds, calibration or self._calibration)

    def with_tokenizer(self, tokenizer: TextTokenizer) -> Predictor:
        """The same engine and decisions behind another tokenizer, for example one that normalises otherwise."""
        return self._changed(tokenizer, self._thresholds, self._calibration)

    def _changed(
        self, tokenizer: TextTokenizer, thresholds: Thresholds, calibration: Calibration
    ) -> Predictor:
        return Predictor(
            self._backend,
            tokenizer,
            thresholds,
            token_budget=self._token_budget,
            takes_pairs=self._takes_pairs,
            calibration=calibration,
            zones=self._zones,
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names in column order."""
        return self.thresholds.labels

    def probabilities(self, texts: Iterable[str], pairs: Iterable[str] | None = None) -> FloatArray:
        """Only the probabilities_BL of `predict`."""
        return self.predict(texts, pairs).probabilities_BL

    def predict(
        self,
        texts: Iterable[str],
        pairs: Iterable[str] | None = None,
        *,
        on_batch: Callable[[int], None] | None = None,
    ) -> Predictions:
        """Probabilities and decisions of each text, in order; none gives empty arrays.

        `texts` may be anything that gives texts one by one, a generator too; they are read into memory first.
        `pairs` are second texts for models trained on pairs. Texts over the length limit are cut and flagged.
        Raises UsageError for pairs without such a model or such a model without pairs, TypeError for one str in
        place of several and for a text that is no str.
        """
        logits_BL, truncated_B = self.logits(texts, pairs, on_batch=on_batch)
        probabilities_BL = self.calibration.apply(logits_BL)
        return Predictions(
            probabilities_BL=probabilities_BL,
            decisions_BL=self.thresholds.decide(probabilities_BL),
            labels=self.labels,
            truncated_B=truncated_B,
            uncertain_BL=None if self.zones is None else self.zones.inside(probabilities_BL),
        )

    def logits(
        self,
        texts: Iterable[str],
        pairs: Iterable[str] | None = None,
        *,
        on_batch: Callable[[int], None] | None = None,
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """What `predict` decides from: logits_BL, before calibration, and which of the B texts were cut."""
        texts = _listed(texts)
        pairs = None if pairs is None else _listed(pairs)
        self._require_pairs(len(texts), pairs)
        logits = [np.zeros((0, len(self.labels)), np.float32)]
        truncated = [np.zeros(0, np.bool_)]
        for start in range(0, len(texts), TEXTS_PER_PASS):
            stop = start + TEXTS_PER_PASS
            encodings = self._tokenizer.encode(
                texts[start:stop], pairs[start:stop] if pairs is not None else None
            )
            logits.append(score(self._backend, encodings, token_budget=self._token_budget, on_batch=on_batch))
            truncated.append(encodings.truncated_N)
        return np.concatenate(logits), np.concatenate(truncated)

    def _require_pairs(self, num_texts: int, pairs: Sequence[str] | None) -> None:
        """A model of pairs gives plausible nonsense for single texts, and the other way round."""
        if (pairs is not None) != self._takes_pairs:
            was = "pairs of texts" if self._takes_pairs else "single texts"
            found = "texts without their pairs" if self._takes_pairs else "pairs of texts"
            raise UsageError(
                Finding(
                    "U205", "prediction", f"{found}, but the model was trained on {was}", was, f"give {was}"
                )
            )
        if pairs is not None and len(pairs) != num_texts:
            found = f"{counted(num_texts, 'text')} but {counted(len(pairs), 'pair')}"
            raise UsageError(Finding("U208", "prediction", found, "one pair a text"))


def _listed(texts: Iterable[str]) -> Sequence[str]:
    """The texts as a list or tuple. One str is a common slip for a list of them, and None a common cell of a table."""
    if isinstance(texts, str):
        raise TypeError("predict takes a list of texts; put the text into a list: predict([text])")
    if not isinstance(texts, Iterable):
        raise TypeError(f"predict takes a list of texts, not {type(texts).__name__}")
    listed = texts if isinstance(texts, list | tuple) else list(texts)
    for index, text in enumerate(listed):
        if not isinstance(text, str):
            raise TypeError(
                f"text {index} is {type(text).__name__}, expected str; replace missing texts by ''"
            )
    return listed
