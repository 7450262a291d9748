"""Which tokens a language model has to guess, and what it sees in their place; called by training/pretraining_examples.

Devlin et al. 2019, section 3.1, task 1: of the chosen tokens 80 % become [MASK], 10 % another token, 10 % stay as they
are. How many of a text are chosen is fixed, as in the release (`create_pretraining_data.py`); which ones and what
becomes of each is drawn.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manylabel.errors import EncoderError, Finding
from manylabel.text.tokenizer import TextTokenizer
from manylabel.values import BoolArray

Ids = npt.NDArray[np.int64]

BECOMES_MASK = 0.8
BECOMES_OTHER = 0.1
SPECIAL_NAMES = frozenset({"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"})
CONTINUES = "##"
"""How a WordPiece begins that continues the word of the one before it."""


@dataclass(frozen=True, eq=False)
class WordPieces:
    """What masking has to know of a vocabulary of V tokens.

    `ordinary_O` are the ids that may be put in another's place: all but special ones. `is_special_V` and
    `continues_V` say of each id whether it is special and whether it continues a word.
    """

    cls_id: int
    sep_id: int
    mask_id: int
    ordinary_O: Ids
    is_special_V: BoolArray
    continues_V: BoolArray

    @classmethod
    def of(cls, tokenizer: TextTokenizer, place: Path) -> WordPieces:
        """The vocabulary of a tokenizer from `place`; raises EncoderError without [CLS], [SEP], [MASK] in it."""
        content = json.loads(tokenizer.to_json())
        tokens: dict[str, int] = dict(content["model"].get("vocab") or {}) if _is_word_piece(content) else {}
        added = content.get("added_tokens") or []
        tokens |= {str(each["content"]): int(each["id"]) for each in added}
        missing = [name for name in ("[CLS]", "[SEP]", "[MASK]") if name not in tokens]
        if missing:
            found = f"its vocabulary has no {', '.join(missing)}"
            step = "choose a BERT encoder, or --encoder default"
            raise EncoderError(
                Finding("E180", f"tokenizer in {place}", found, "a WordPiece vocabulary of BERT", step)
            )
        special = {int(each["id"]) for each in added if each.get("special")}
        special |= {number for token, number in tokens.items() if token in SPECIAL_NAMES}
        size = max(tokens.values()) + 1
        is_special_V, continues_V = np.zeros(size, np.bool_), np.zeros(size, np.bool_)
        is_special_V[sorted(special)] = True
        continues_V[[number for token, number in tokens.items() if token.startswith(CONTINUES)]] = True
        ordinary_O = np.array(sorted(set(tokens.values()) - special), np.int64)
        return cls(tokens["[CLS]"], tokens["[SEP]"], tokens["[MASK]"], ordinary_O, is_special_V, continues_V)


def _is_word_piece(content: dict[str, dict[str, object]]) -> bool:
    return content["model"].get("type") == "WordPiece"


@dataclass(frozen=True, eq=False)
class Masked:
    """A text of t tokens as the model sees it, and the places (ascending) whose true tokens it has to guess."""

    ids_t: Ids
    places_M: Ids


def masked_count(num_tokens: int, share: float) -> int:
    """How many of a text's ordinary tokens are chosen: `share` of them, halves rounded up, at least 1; 0 of none."""
    return min(max(math.floor(share * num_tokens + 0.5), 1), num_tokens)


def mask_tokens(
    ids_t: Ids, choose: np.random.Generator, *, pieces: WordPieces, share: float, whole_words: bool
) -> Masked:
    """Choose tokens of one text, special tokens never, and draw what becomes of each.

    With `whole_words` whole words are chosen, in random order and none that would exceed `masked_count`, so that there
    may be fewer; the first one is always taken, so that there may be more where it alone is longer than that.
    """
    ordinary = np.flatnonzero(~pieces.is_special_V[ids_t])
    count = masked_count(len(ordinary), share)
    if not count:
        return Masked(ids_t, np.zeros(0, np.int64))
    if whole_words:
        places_M = _whole_words(ordinary, pieces.continues_V[ids_t[ordinary]], count, choose)
    else:
        places_M = np.sort(choose.permutation(ordinary)[:count])
    fate_M, others_M = choose.random(len(places_M)), choose.choice(pieces.ordinary_O, size=len(places_M))
    shown_t = ids_t.copy()
    shown_t[places_M] = np.where(
        fate_M < BECOMES_MASK,
        pieces.mask_id,
        np.where(fate_M < BECOMES_MASK + BECOMES_OTHER, others_M, ids_t[places_M]),
    )
    return Masked(shown_t, places_M)


def _whole_words(places: Ids, continues: BoolArray, count: int, choose: np.random.Generator) -> Ids:
    """Places of whole words, about `count` of them; a word begins at a token that does not continue one."""
    begins = ~continues
    begins[1:] |= np.diff(places) > 1  # A special token in between ends a word.
    begins[0] = True
    starts = np.append(np.flatnonzero(begins), len(places))
    taken: list[Ids] = []
    left = count
    for word in choose.permutation(len(starts) - 1):
        part = places[starts[word] : starts[word + 1]]
        if len(part) <= left or not taken:
            taken.append(part)
            left -= len(part)
        if left <= 0:
            break
    return np.sort(np.concatenate(taken))
