"""Changes of training texts that keep their labels: typos, left out and swapped words, synonyms, translations.

Pure functions of a text, a chance and a generator, and `TextAugmenter`, which applies those that the settings ask for.
Called by training/augmented.py, once a text and epoch. What is drawn depends on the seed, the epoch and the row alone,
so it is the same on every process and after every restart.

A word is a run without white space; Han and Kana characters are words of their own. White space stays where it is.
Words that negate stay as and where they are: "not bad" must not become "bad". Only English ones are known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from manylabel.config.schema import AugmentationSettings

Synonyms = Callable[[str], tuple[str, ...]]
"""A word to the words that may stand in its place; none is fine."""

PURPOSE = 0xA06
"""Sets these draws apart from others that are made from the seed and two small numbers."""
HAN_AND_KANA = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
WORD = re.compile(f"[{HAN_AND_KANA}]|[^\\s{HAN_AND_KANA}]+")
LETTERS = r"[^\W\d_]+"
PLAIN = re.compile(rf"""(["'“‘(¿¡]*)({LETTERS}(?:['’-]{LETTERS})*)(["'”’).,;:!?…]*)""")
"""A word of letters between marks. Numbers, addresses, #tags, @names and [PLACEHOLDERS] are none and get no typos."""
SHORTEST = 3
"""Letters of the shortest word that is misspelt: a shorter one becomes another word too often."""
NEGATIONS = frozenset(
    ("no", "not", "never", "none", "nor", "neither", "nobody", "nothing", "nowhere", "without", "cannot")
)
NEGATING_ENDINGS = ("n't", "n’t")
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _neighbours() -> dict[str, str]:
    """For each letter those beside, above and below it on a keyboard."""
    places = {letter: (row, column) for row, keys in enumerate(KEYS) for column, letter in enumerate(keys)}
    return {
        letter: "".join(
            other
            for other, (other_row, other_column) in places.items()
            if other != letter and abs(other_row - row) <= 1 and abs(other_column - column) <= 1
        )
        for letter, (row, column) in places.items()
    }


NEIGHBOURS = _neighbours()


class TextAugmenter:
    """The changes that the settings ask for, text by text."""

    def __init__(
        self, settings: AugmentationSettings, *, seed: int, synonyms: Synonyms | None = None
    ) -> None:
        """`synonyms` is needed where `settings.synonyms` is not 0."""
        self._settings, self._seed, self._synonyms = settings, seed, synonyms

    def changed(
        self, text: str, pair: str | None = None, *, epoch: int, row: int, translations: Sequence[str] = ()
    ) -> tuple[str, str | None] | None:
        """The text and its pair as `epoch` shows them; None where that is as they are.

        Epochs and rows count from 0. `translations` are the text in other words, empty where one is missing; the pair
        has none.
        """
        generator = np.random.default_rng([PURPOSE, self._seed, epoch, row])
        if generator.random() >= self._settings.share:
            return None
        result = (
            self._reworded(translated(text, translations, self._settings.translations, generator), generator),
            None if pair is None else self._reworded(pair, generator),
        )
        return None if result == (text, pair) else result

    def _reworded(self, text: str, generator: np.random.Generator) -> str:
        """Synonyms first, which look words up, and typos last, after which none would be found."""
        settings = self._settings
        if settings.synonyms and self._synonyms is not None:
            text = with_synonyms(text, settings.synonyms, generator, self._synonyms)
        if settings.word_dropout:
            text = without_words(text, settings.word_dropout, generator)
        if settings.word_swap:
            text = with_swapped_words(text, settings.word_swap, generator)
        if settings.character_noise:
            text = with_typos(text, settings.character_noise, generator)
        return text


def translated(text: str, translations: Sequence[str], chance: float, generator: np.random.Generator) -> str:
    """With `chance` one of the translations that are not empty, each as likely; else the text."""
    present = [translation for translation in translations if translation]
    if not present or generator.random() >= chance:
        return text
    return present[generator.integers(len(present))]


def with_typos(text: str, chance: float, generator: np.random.Generator) -> str:
    """Each plain word of three letters or more gets one typo with `chance`.

    Two neighbouring letters swapped, one left out, doubled, or replaced by a neighbour on the keyboard (in other
    scripts by another letter of the word), each kind as likely. A word whose typo cannot be seen stays as it is.
    """
    words, gaps = _split(text)
    for index in _drawn(len(words), chance, generator):
        found = PLAIN.fullmatch(words[index])
        if found is not None and not _negates(words[index]):
            before, core, after = found.groups()
            words[index] = before + _misspelt(core, generator) + after
    return _joined(words, gaps)


def without_words(text: str, chance: float, generator: np.random.Generator) -> str:
    """Each word is left out with `chance`, with the space before it; a text keeps at least one of its words."""
    words, gaps = _split(text)
    dropped = {index for index in _drawn(len(words), chance, generator) if not _negates(words[index])}
    if words and len(dropped) == len(words):
        dropped.remove(int(generator.integers(len(words))))
    kept = [index for index in range(len(words)) if index not in dropped]
    between = [gaps[index] for index in kept[1:]]
    return _joined([words[index] for index in kept], [gaps[0], *between, gaps[-1]] if kept else gaps)


def with_swapped_words(text: str, chance: float, generator: np.random.Generator) -> str:
    """Each word changes places with the next one with `chance`, but never across the end of a line, and only once."""
    words, gaps = _split(text)
    free = 0
    for index in _drawn(len(words) - 1, chance, generator):
        is_fixed = _negates(words[index]) or _negates(words[index + 1]) or "\n" in gaps[index + 1]
        if index >= free and not is_fixed:
            words[index], words[index + 1] = words[index + 1], words[index]
            free = index + 2
    return _joined(words, gaps)


def with_synonyms(text: str, chance: float, generator: np.random.Generator, synonyms: Synonyms) -> str:
    """Each plain word that has synonyms becomes one of them with `chance`, written in upper case as the word was."""
    words, gaps = _split(text)
    for index in _drawn(len(words), chance, generator):
        found = PLAIN.fullmatch(words[index])
        if found is None or _negates(words[index]):
            continue
        before, core, after = found.groups()
        if choices := synonyms(core.lower()):
            words[index] = before + _in_case_of(core, choices[generator.integers(len(choices))]) + after
    return _joined(words, gaps)


def _split(text: str) -> tuple[list[str], list[str]]:
    """The words, and what stands before, between and after them: one more."""
    words, gaps, end = [], [], 0
    for found in WORD.finditer(text):
        words.append(found.group())
        gaps.append(text[end : found.start()])
        end = found.end()
    return words, [*gaps, text[end:]]


def _joined(words: list[str], gaps: list[str]) -> str:
    return "".join(gap + word for gap, word in zip(gaps, [*words, ""], strict=True))


def _drawn(count: int, chance: float, generator: np.random.Generator) -> list[int]:
    """Which of `count` things happen, each with `chance`, in order."""
    drawn: list[int] = np.flatnonzero(generator.random(max(count, 0)) < chance).tolist()
    return drawn


def _negates(word: str) -> bool:
    """Whether a word turns its sentence around, in English; marks around it do not matter."""
    bare = word.strip("\"'“”‘’().,;:!?…").casefold()
    return bare in NEGATIONS or bare.endswith(NEGATING_ENDINGS)


def _misspelt(core: str, generator: np.random.Generator) -> str:
    """A word with one typo; as it is when it is too short or the typo would change nothing."""
    places = [place for place, character in enumerate(core) if character.isalpha()]
    if len(places) < SHORTEST:
        return core
    kind, place = generator.integers(4), places[generator.integers(len(places))]
    letter = core[place]
    if kind == 0:
        following = core[place + 1 : place + 2]
        return core[:place] + following + letter + core[place + 2 :] if following.isalpha() else core
    if kind == 1:
        return core[:place] + core[place + 1 :]
    if kind == 2:
        return core[:place] + letter + core[place:]
    others = NEIGHBOURS.get(letter.lower()) or "".join(
        character for character in core if character.isalpha() and character != letter
    )
    other = others[generator.integers(len(others))] if others else letter
    return core[:place] + (other.upper() if letter.isupper() else other) + core[place + 1 :]


def _in_case_of(word: str, synonym: str) -> str:
    """`synonym` in capitals, with a capital or as it is, like `word`."""
    if word.isupper() and len(word) > 1:
        return synonym.upper()
    return synonym[:1].upper() + synonym[1:] if word[:1].isupper() else synonym
