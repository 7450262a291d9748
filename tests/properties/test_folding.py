"""Folding twice is folding once, and it never leaves what it promises to take; disguises never crash."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manylabel.text.disguises import ATTACKS, disguise
from manylabel.text.folding import ALWAYS_INVISIBLE, fold
from manylabel.text.look_alikes import CYRILLIC, GREEK, GREEK_INSIDE

TROUBLE = (
    "abzABZ 01.,'’-_\u0301\u0308\u0327\u00ad\u200b\u200c\u200d\u034f\ufe0f\U000e0061\u115f\u1160\u3164\u202e"
    "привКсВё" + "".join((*CYRILLIC, *GREEK, *GREEK_INSIDE)) + "ωμςά"
    "\u0627\u0644\ufdfa\u0915\u094d\u0937\u1100\u1161\u11a8가😀❤🏴👩\ud800\udfff漢ﬁ½ａЀİıß"
)
ANY_TEXT = st.text(st.characters(), max_size=60)
HARD_TEXT = st.text(st.sampled_from(TROUBLE), max_size=40)


@given(ANY_TEXT | HARD_TEXT, st.booleans())
@example("e\u200b\u0301\ufe0f", True)
@example("e\ufe0f\u0301\ufe0f", True)
@example("а с е о idiоt", True)
@example("a b d с\u0301 xс", True)
@example("бa сa aс вв", True)
@example("\u115f\u1100\u1161\u1160", True)
def test_folding_twice_is_folding_once(text, joins):
    folded = fold(text, join_spaced_letters=joins)
    assert fold(folded, join_spaced_letters=joins) == folded


@given(ANY_TEXT | HARD_TEXT)
def test_what_is_left_is_nfkc_without_invisible_characters(text):
    folded = fold(text)
    assert unicodedata.normalize("NFKC", folded) == folded
    assert not set(folded) & set("\u00ad\u200b\u200e\u200f\u2060\ufeff\u202e")
    assert "\u200b" in ALWAYS_INVISIBLE


@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_ascii_stays_but_for_spaced_letters(text):
    assert fold(text, join_spaced_letters=False) == text
    assert fold(text).replace(" ", "") == text.replace(" ", "")


CYRILLIC_WORDS = st.text(
    st.characters(min_codepoint=0x400, max_codepoint=0x45F, categories=("Lu", "Ll")), min_size=1, max_size=12
)
GREEK_WORDS = st.text(
    st.characters(min_codepoint=0x386, max_codepoint=0x3CE, categories=("Lu", "Ll")), min_size=1, max_size=12
)


@given(st.lists(CYRILLIC_WORDS, max_size=6) | st.lists(GREEK_WORDS, max_size=6))
def test_texts_in_one_script_stay(words):
    text = ", ".join(words)
    assert fold(text) == unicodedata.normalize("NFKC", text)


@given(ANY_TEXT | HARD_TEXT, st.sampled_from(sorted(ATTACKS)), st.integers(0, 2**31 - 1))
def test_disguises_never_crash_and_repeat_themselves(text, attack, seed):
    assert disguise(text, attack, seed=seed) == disguise(text, attack, seed=seed)


OTHER_SCRIPTS = st.text(
    st.characters(min_codepoint=0x530, categories=("Lo", "Nd", "Po", "So", "Cs")).filter(
        lambda character: not unicodedata.name(character, "").startswith(("LATIN", "GREEK", "CYRILLIC"))
    ),
    max_size=40,
)


@pytest.mark.parametrize("attack", sorted(ATTACKS))
@given(text=OTHER_SCRIPTS)
@example(text="你好世界 😀 مرحبا שלום नमस्ते 안녕 สวัสดี \ud83d \udc00")
def test_other_scripts_are_left_alone(attack, text):
    assert disguise(text, attack, seed=1) == text
