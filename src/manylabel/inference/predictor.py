"""The straight line from texts to decisions; the one way in for Python, command line and every later front door.

What computes the logits is a scorer: one network or an ensemble. All that follows is the same for both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from manylabel.decisions.abstain import Zones
from manylabel.decisions.calibration import Calibration
from manylabel.decisions.thresholds import Thresholds
from manylabel.errors import Finding, UsageError, counted
from manylabel.inference.scorer import Flags, Logits, OnBatch, Scorer, Translations
from manylabel.text.tokenizer import TextTokenizer
from manylabel.values import FloatArray, Predictions


class Predictor:
    """Texts in, probabilities and decisions out; holds a scorer, a calibration, thresholds and zones."""

    def __init__(
        self,
        scorer: Scorer,
        thresholds: Thresholds,
        *,
        takes_pairs: bool = False,
        calibration: Calibration | None = None,
        zones: Zones | None = None,
    ) -> None:
        """Compose the parts; nothing is loaded or checked here. `takes_pairs` says how the model was trained.

        Without `calibration` a probability is the logistic function of its logit; without `zones` nothing is marked
        for a human.
        """
        self._scorer = scorer
        self._takes_pairs = takes_pairs
        self._thresholds = thresholds
        self._calibration = calibration or Calibration.identity(thresholds.labels)
        self._zones = zones

    @property
    def scorer(self) -> Scorer:
        """What turns texts into logits."""
        return self._scorer

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
    def tokenizer(self) -> TextTokenizer | None:
        """By whose tokens a text is long or short; None for an ensemble without networks."""
        return self._scorer.tokenizer

    @property
    def folds(self) -> bool:
        """Whether disguises in a text are undone before it is read."""
        return self._scorer.folds

    def truncated(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Flags:
        """Which of the texts `predict` would cut, without predicting."""
        return self._scorer.truncated(texts, pairs)

    def with_thresholds(self, thresholds: Thresholds, calibration: Calibration | None = None) -> Predictor:
        """The same scorer and zones with other thresholds, and another calibration where one is given."""
        return self._changed(self._scorer, thresholds, calibration or self._calibration)

    def with_folding(self) -> Predictor:
        """The same models and decisions behind tokenizers that undo disguises first."""
        return self._changed(self._scorer.with_folding(), self._thresholds, self._calibration)

    def _changed(self, scorer: Scorer, thresholds: Thresholds, calibration: Calibration) -> Predictor:
        return Predictor(
            scorer,
            thresholds,
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
        translations: Translations | None = None,
        on_batch: OnBatch | None = None,
    ) -> Predictions:
        """Probabilities and decisions of each text, in order; none gives empty arrays.

        `texts` may be anything that gives texts one by one, a generator too; they are read into memory first.
        `pairs` are second texts for models trained on pairs. Texts over the length limit are cut and flagged.
        `translations`, one text a text under the name of its column, are read by an ensemble that was made with them;
        without them it reads the text itself in their place. `on_batch` hears how many more texts are done.
        Raises UsageError for pairs without such a model or such a model without pairs, TypeError for one str in
        place of several and for a text that is no str.
        """
        logits_BL, truncated_B = self.logits(texts, pairs, translations=translations, on_batch=on_batch)
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
        translations: Translations | None = None,
        on_batch: OnBatch | None = None,
    ) -> tuple[Logits, Flags]:
        """What `predict` decides from: logits_BL, before calibration, and which of the B texts were cut."""
        texts = _listed(texts)
        pairs = None if pairs is None else _listed(pairs)
        self._require_pairs(len(texts), pairs)
        if not texts:
            return np.zeros((0, len(self.labels)), np.float32), np.zeros(0, np.bool_)
        return self._scorer.logits(texts, pairs, translations=translations, on_batch=on_batch)

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
    if hasattr(texts, "columns"):  # A frame of pandas gives the names of its columns, one by one.
        raise TypeError("predict takes the texts, not a table; give one column of it, as in table['text']")
    if not isinstance(texts, Iterable):
        raise TypeError(f"predict takes a list of texts, not {type(texts).__name__}")
    if hasattr(texts, "to_pylist"):  # A column of an Arrow table.
        texts = texts.to_pylist()
    listed = texts if isinstance(texts, list | tuple) else list(texts)
    for index, text in enumerate(listed):
        if not isinstance(text, str):
            step = "; replace missing texts by ''" if text is None or isinstance(text, float) else ""
            raise TypeError(f"text {index} is {type(text).__name__}, expected str{step}")
    return listed
