"""The normaliser `fold`: NFKC, no invisible characters, and look-alike letters back to Latin in mixed-script words.

Called by the tokenizer on the part of a text that it reads. What it must never do is change an honest text, so each
step says when it applies. A *word* is a run of letters, digits, underscores and accents.

1. Characters that show nothing go: zero-width spaces, word joiners, soft hyphens, direction marks. Joiners stay where
   a neighbour's script needs them (Arabic, Indic and others) and inside emoji; variation selectors and tags stay
   behind everything but letters of Latin, Greek and Cyrillic; Hangul fillers stay beside Hangul.
2. A word that mixes Latin letters with Cyrillic or Greek ones becomes Latin when all of its other letters look like
   Latin ones. One that does not (the `и` of `SMSки`, the `μ` of `μm`) leaves the word as it is.
3. A mixed word stays where, of the three words before and the three after it, more are plainly Cyrillic or Greek (they
   hold a letter that looks like no Latin one) than hold Latin letters: there it is a loan word with an ending.
4. A word wholly of look-alikes may be honest (Russian `сор`, Greek `ΝΑΤΟ`). It becomes Latin only in a text in which
   a mixed word gives the disguise away (2) and no word is plainly Cyrillic or Greek.
5. Four or more single Latin letters (or look-alikes) with one space between them become a word; this comes before 2.

Folding twice changes nothing more. Time is linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import count

from manylabel.text.look_alikes import CYRILLIC, GREEK, GREEK_INSIDE

MARKS = "\u0300-\u036f"
LATIN = "A-Za-z\u00aa\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0250-\u02af\u1e00-\u1eff"
OTHERS = "\u0370-\u03ff\u1f00-\u1fff\u0400-\u052f\u1c80-\u1c8f\ua640-\ua69f"
"""Greek and Cyrillic."""
NEEDS_JOINERS = (
    "\u0600-\u08ff\u0900-\u0dff\u0f00-\u109f\u1780-\u18af\u1a00-\u1aff\u1b00-\u1c4f\ua800-\ua8ff\ua980-\uabff"
    "\ufb50-\ufdff\ufe70-\ufefc\U00010a00-\U00010aff\U00010f30-\U00010fff\U00011000-\U000117ff\U0001e900-\U0001e95f"
)
"""Arabic, Syriac, N'Ko, Indic, Tibetan, Myanmar, Khmer, Mongolian and their kin: joiners choose forms of letters."""
ALWAYS_INVISIBLE = "\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb"
JOINERS = "\u200c\u200d"
SELECTORS = "\u034f\ufe00-\ufe0f\U000e0100-\U000e01ef"
TAGS = "\U000e0001\U000e0020-\U000e007f"
FILLERS = "\u115f\u1160"
BLACK_FLAG = "\U0001f3f4"
"""Tags behind it spell the flag of a region, such as Scotland's."""
NEIGHBOURS = 3
"""Words on either side that say which language a mixed word is in."""
ZERO_WIDTH_JOINER = "\u200d"

_ALWAYS_INVISIBLE = re.compile(f"[{ALWAYS_INVISIBLE}]+")
_SOMETIMES_INVISIBLE = re.compile(f"([{JOINERS}{SELECTORS}{TAGS}{FILLERS}]+)")
_JOINER = re.compile(f"[{JOINERS}]")
_SELECTOR = re.compile(f"[{SELECTORS}]")
_TAG = re.compile(f"[{TAGS}]")
_JOINED_SCRIPT = re.compile(f"[{NEEDS_JOINERS}]")
_EMOJI = re.compile("[\u00a9\u00ae\u203c-\u3299\U0001f000-\U0001faff]")
_HANGUL = re.compile("[\u1100-\u115e\u1161-\u11ff\ua960-\ua97f\uac00-\ud7ff]")
_ALPHABETS = re.compile(f"[{LATIN}{OTHERS}]")
_LATIN = re.compile(f"[{LATIN}]")
_OTHER = re.compile(f"[{OTHERS}]")
_WORD = re.compile(rf"[\w{MARKS}]+")
_LOOK_ALIKES = "".join((*CYRILLIC, *GREEK))
_SINGLE = f"[{LATIN}{_LOOK_ALIKES}][{MARKS}]*"
_SPACED_LETTERS = re.compile(rf"(?<![\w'’.{MARKS}]){_SINGLE}(?: {_SINGLE}){{3,}}(?![\w'’{MARKS}])")
_EVERYWHERE = str.maketrans({**CYRILLIC, **GREEK})
_INSIDE = re.compile(f"(?<=[a-z])[{''.join(GREEK_INSIDE)}]+(?=[a-z])")
_INSIDE_LATIN = str.maketrans(GREEK_INSIDE)
_ALL_MARKS = "".join(map(chr, range(0x300, 0x370)))


def fold(text: str, *, join_spaced_letters: bool = True) -> str:
    """`text` without disguises, by the rules in the module's docstring; `join_spaced_letters` is rule 5.

    Never fails on the content of a text; a lone surrogate stays one.
    """
    if not text.isascii():
        text = strip_invisible(text)
    if join_spaced_letters:
        text = _SPACED_LETTERS.sub(lambda run: run[0].replace(" ", ""), text)
    return fold_look_alikes(text)


def strip_invisible(text: str) -> str:
    """NFKC, and no character that shows nothing and does nothing (rule 1)."""
    text = unicodedata.normalize("NFKC", _ALWAYS_INVISIBLE.sub("", unicodedata.normalize("NFKC", text)))
    parts = _SOMETIMES_INVISIBLE.split(text)
    if len(parts) == 1:
        return text
    base = ""
    for index, part in enumerate(parts):
        if index % 2:
            after = parts[index + 1][:1]
            parts[index] = "".join(character for character in part if _is_needed(character, base, after))
        else:
            # An accent may become one with its letter below, so the letter decides.
            base = part.rstrip(_ALL_MARKS)[-1:] or base
    return unicodedata.normalize("NFKC", "".join(parts))


def _is_needed(character: str, base: str, after: str) -> bool:
    """Whether a sometimes invisible character does something between `base` and the character `after` it."""
    if _JOINER.match(character):
        if _JOINED_SCRIPT.match(base) or _JOINED_SCRIPT.match(after):
            return True
        return character == ZERO_WIDTH_JOINER and bool(_EMOJI.match(base) and _EMOJI.match(after))
    if _SELECTOR.match(character):
        return base != "" and not _ALPHABETS.match(base)
    if _TAG.match(character):
        return base == BLACK_FLAG
    return bool(_HANGUL.match(base) or _HANGUL.match(after))


def fold_look_alikes(text: str) -> str:
    """Look-alike letters back to Latin where they are a disguise (rules 2 to 4)."""
    if text.isascii() or not _OTHER.search(text):
        return text
    words = set(_WORD.findall(text))
    latin = {word for word in words if _LATIN.search(word)}
    others = {word for word in words if _OTHER.search(word)}
    mixed = {word: folded for word in latin & others if (folded := _as_latin(word)) is not None}
    if not mixed:
        return text
    plain = {word for word in others - latin if _OTHER.search(word.translate(_EVERYWHERE))}
    whole = {} if plain else {word: word.translate(_EVERYWHERE) for word in others - latin}
    latin_of = {**mixed, **whole}
    kinds = [(word in plain) - (word in latin) for word in _WORD.findall(text)]
    places = count()

    def to_latin(word: re.Match[str]) -> str:
        place = next(places)
        near = sum(kinds[max(place - NEIGHBOURS, 0) : place + NEIGHBOURS + 1]) - kinds[place]
        return word[0] if near > 0 else latin_of.get(word[0], word[0])

    # An accent that stood on a look-alike joins the Latin letter.
    return unicodedata.normalize("NFKC", _WORD.sub(to_latin, text))


def _as_latin(word: str) -> str | None:
    """The word in Latin letters; None where a letter of it looks like none."""
    folded = _INSIDE.sub(lambda run: run[0].translate(_INSIDE_LATIN), word.translate(_EVERYWHERE))
    return None if _OTHER.search(folded) else folded
