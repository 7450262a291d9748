"""Texts to sentences, by the library `sentencex`, whose rules for some 240 languages need no download.

Called by recipes/adapt.py; nothing else depends on where a sentence ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from manylabel.errors import Finding, UsageError
from manylabel.text.tokenizer import make_encodable

INSTALL = "pip install 'sentencex>=1.0'"
_RULES = "am ar bg bn ca da de el en es fi fr gu hi hy it ja kk kn ml mr my nl pa pl pt ru sk ta te uk"
WITH_RULES = tuple(_RULES.split())
"""Languages of which sentencex 1.0 has rules of their own."""
_OTHERS = """
aa ab ae af ak an as av ay az ba be bh bi bm bo br bs ce ch co cr cs cu cv cy dv dz ee eo et eu fa ff fj fo
fy ga gd gl gn gv ha he ho hr ht hu hz ia id ie ig ii ik io is iu jv ka kg ki kj kl km ko kr ks ku kv kw ky
la lb lg li ln lo lt lu lv mg mh mi mk mn ms mt na nb nd ne ng nn no nr nv ny oc oj om or os pi ps qu rm rn
ro rw sa sc sd se sg si sl sm sn so sq sr ss st su sv sw tg th ti tk tl tn to tr ts tt tw ty ug ur uz ve vi
vo wa wo xh yi yo za zh zu
"""
TWO_LETTERS = frozenset(_OTHERS.split())
"""The other codes of ISO 639-1: sentencex takes the rules of a related language for them, or those of English."""


def known_language(code: str) -> str:
    """The two letters of a code such as de, DE or de-AT; raises UsageError for one that names no known language.

    An unknown code would silently get the rules of English.
    """
    letters = code.strip().lower().replace("_", "-").partition("-")[0]
    if letters in WITH_RULES or letters in TWO_LETTERS:
        return letters
    step = "give the code of the texts' language, such as en, de or zh"
    allowed = f"a two-letter code (ISO 639-1); rules of their own have {', '.join(WITH_RULES)}"
    raise UsageError(Finding("U323", "--language", f"{code!r} is no language that is known", allowed, step))


def has_own_rules(code: str) -> bool:
    """Whether the ends of its sentences are found by rules of its own."""
    return known_language(code) in WITH_RULES


def split_sentences(texts: Sequence[str], *, language: str = "en") -> list[list[str]]:
    """The sentences of each text in order, without the white space around them and without empty ones.

    `language` is a code such as en, de or zh. A text without an end of a sentence is one sentence. Raises UsageError
    for an unknown language, and where the library is not installed.
    """
    language = known_language(language)
    try:
        from sentencex import segment
    except ImportError as error:
        raise UsageError(
            Finding("U320", "sentencex", "not installed; it finds the ends of sentences", next_step=INSTALL)
        ) from error
    return [
        [stripped for sentence in segment(language, make_encodable(text)) if (stripped := sentence.strip())]
        for text in texts
    ]
