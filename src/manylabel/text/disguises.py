"""Ways in which people hide words from a classifier, to measure what they cost; called by recipes/robustness.py.

Each attack takes a text and a source of chance and gives the disguised text. `disguise` seeds that source with a
SHA-256 of seed, attack and text, and attacks draw from `random()` alone, whose numbers Python promises to keep: the
same seed and text give the same disguise on any machine. Attacks change letters of the scripts they are made for and
leave all else, so a text in another script stays what it is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from random import Random

from manylabel.text.look_alikes import CYRILLIC, GREEK

Attack = Callable[[str, Random], str]

TYPO_RATE = 0.3
"""Share of the words of four letters or more that get one slip."""
SPACING_RATE = 0.3
"""Share of such words that are spaced out."""
LETTER_RATE = 0.5
"""Share of the letters with a stand-in that are replaced, by leet and homoglyphs."""
INSERTION_RATE = 0.3
"""Share of the places between two letters that get an invisible character."""
INVISIBLE = "\u200b\u200c\u200d\u2060\u00ad"
LEET = {"a": "4@", "b": "8", "e": "3", "g": "9", "i": "1!", "l": "1", "o": "0", "s": "5$", "t": "7", "z": "2"}
KEY_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
"""The letters of a US keyboard."""

_LATIN_WORD = re.compile(r"(?<![^\W_])[A-Za-z]{4,}(?![^\W_])")
_BETWEEN_LETTERS = re.compile(r"(?<=[A-Za-z])(?=[A-Za-z])")
_CASED = re.compile(r"[A-Za-z\u00c0-\u024f\u0370-\u03ff\u0400-\u052f\u1e00-\u1fff]")
_WIDE = {
    code: code + 0xFEE0
    for letters in ("09", "AZ", "az")
    for code in range(ord(letters[0]), ord(letters[1]) + 1)
}


def _stand_ins() -> dict[str, str]:
    found: dict[str, str] = {}
    for other, latin in (*CYRILLIC.items(), *GREEK.items()):
        found[latin] = found.get(latin, "") + other
    return found


def _neighbours() -> dict[str, str]:
    return {
        key: row[max(place - 1, 0) : place] + row[place + 1 : place + 2]
        for row in KEY_ROWS
        for place, key in enumerate(row)
    }


HOMOGLYPHS = _stand_ins()
"""Latin letter -> Cyrillic and Greek letters that look like it."""
NEIGHBOURS = _neighbours()
"""Key -> the keys beside it in its row."""


def disguise(text: str, attack: str, *, seed: int) -> str:
    """`text` under the attack of that name; the same for the same three on any machine.

    Raises KeyError for a name that is not in `ATTACKS`.
    """
    content = f"{seed}\0{attack}\0".encode() + text.encode("utf-8", "surrogatepass")
    return ATTACKS[attack](text, Random(int.from_bytes(hashlib.sha256(content).digest(), "big")))


def typo(text: str, generator: Random) -> str:
    """One slip inside some words: two letters swapped, one left out, or a neighbouring key."""
    return _LATIN_WORD.sub(
        lambda word: _slip(word[0], generator) if generator.random() < TYPO_RATE else word[0], text
    )


def _slip(word: str, generator: Random) -> str:
    place = 1 + int(generator.random() * (len(word) - 2))
    kind = int(generator.random() * 3)
    if kind == 0:
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if kind == 1:
        return word[:place] + word[place + 1 :]
    letter = word[place]
    near = _pick(NEIGHBOURS[letter.lower()], generator)
    return word[:place] + (near.upper() if letter.isupper() else near) + word[place + 1 :]


def leet(text: str, generator: Random) -> str:
    """Some letters become digits and signs: `id10t`."""
    return _replaced(text, generator, LEET, lower=True)


def homoglyphs(text: str, generator: Random) -> str:
    """Some letters become Cyrillic or Greek ones that look the same."""
    return _replaced(text, generator, HOMOGLYPHS, lower=False)


def _replaced(text: str, generator: Random, table: Mapping[str, str], *, lower: bool) -> str:
    return "".join(
        _pick(stand_ins, generator)
        if (stand_ins := table.get(character.lower() if lower and character.isascii() else character))
        and generator.random() < LETTER_RATE
        else character
        for character in text
    )


def spacing(text: str, generator: Random) -> str:
    """Some words are spaced out: `i d i o t`."""
    return _LATIN_WORD.sub(
        lambda word: " ".join(word[0]) if generator.random() < SPACING_RATE else word[0], text
    )


def zero_width(text: str, generator: Random) -> str:
    """Characters that nobody sees between some letters."""
    return _BETWEEN_LETTERS.sub(
        lambda _: _pick(INVISIBLE, generator) if generator.random() < INSERTION_RATE else "", text
    )


def full_width(text: str, generator: Random) -> str:
    """All ASCII letters and digits in the wide form of East Asian fonts."""
    return text.translate(_WIDE)


def upper_case(text: str, generator: Random) -> str:
    """All capitals, in Latin, Greek and Cyrillic; a letter whose capital is two letters stays."""
    return _CASED.sub(lambda letter: _capital(letter[0]), text)


def alternating_case(text: str, generator: Random) -> str:
    """A capital, a small letter, a capital, and so on through each text."""
    is_capital = False

    def change(letter: re.Match[str]) -> str:
        nonlocal is_capital
        is_capital = not is_capital
        return _capital(letter[0]) if is_capital else _small(letter[0])

    return _CASED.sub(change, text)


def _capital(letter: str) -> str:
    changed = letter.upper()
    return changed if len(changed) == 1 else letter


def _small(letter: str) -> str:
    changed = letter.lower()
    return changed if len(changed) == 1 else letter


def _pick(choices: str, generator: Random) -> str:
    return choices[int(generator.random() * len(choices))]


ATTACKS: Mapping[str, Attack] = {
    "typo": typo,
    "leet": leet,
    "spacing": spacing,
    "homoglyphs": homoglyphs,
    "zero_width": zero_width,
    "full_width": full_width,
    "upper_case": upper_case,
    "alternating_case": alternating_case,
}
