"""Each change of a text by hand or by its definition, and that it is a function of seed, epoch and row."""

import numpy as np
import pytest

from manylabel.config.schema import AugmentationSettings
from manylabel.data.augment import (
    NEIGHBOURS,
    TextAugmenter,
    translated,
    with_swapped_words,
    with_synonyms,
    with_typos,
    without_words,
)

TEXT = "The parcel came late,\nand nobody answered my 3 mails to @shop about [NAME]!"
SYNONYMS = {"parcel": ("package",), "late": ("tardy",), "mails": (), "answered": ("replied",)}


def generator(seed=0):
    return np.random.default_rng(seed)


def synonyms_of(word):
    return SYNONYMS.get(word, ())


def test_with_chance_1_every_word_that_has_a_synonym_becomes_it():
    changed = with_synonyms("The PARCEL, (Late) LATE Parcel!\n mails", 1.0, generator(), synonyms_of)
    assert changed == "The PACKAGE, (Tardy) TARDY Package!\n mails"


def test_a_synonym_is_drawn_among_all_and_words_with_signs_are_not_looked_up():
    several = {with_synonyms("late", 1.0, generator(seed), lambda word: ("x", "y")) for seed in range(20)}
    assert several == {"x", "y"}
    kept = "@late #late [late] late2 la_te http://late"
    assert with_synonyms(kept, 1.0, generator(), lambda word: ("x",)) == kept


def test_swaps_with_chance_1_change_every_pair_within_its_line():
    assert with_swapped_words("a b c d  e\nf", 1.0, generator()) == "b a d c  e\nf"
    assert with_swapped_words("a b\nc d", 1.0, generator()) == "b a\nd c"


def test_left_out_words_take_the_space_before_them_and_one_stays():
    left = {without_words(" a  b\tc ", 0.5, generator(seed)) for seed in range(200)}
    assert left == {" a  b\tc ", " a  b ", " a\tc ", " b\tc ", " a ", " b ", " c "}
    assert {without_words("a b c", 0.999999, generator(seed)) for seed in range(60)} == {"a", "b", "c"}


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_a_text_without_words_stays(text):
    for change in (with_typos, without_words, with_swapped_words):
        assert change(text, 0.99, generator()) == text


@pytest.mark.parametrize("negation", ["not", "Never,", "don't", "DON’T!", "(without)", "no"])
def test_words_that_negate_stay_as_and_where_they_are(negation):
    for seed in range(30):
        text = f"bad {negation} good"
        assert negation in without_words(text, 0.9, generator(seed)).split()
        assert with_swapped_words(text, 1.0, generator(seed)) == text
        assert with_typos(text, 1.0, generator(seed)).split()[1] == negation
        assert with_synonyms(negation, 1.0, generator(seed), lambda word: ("yes",)) == negation


def edits(word):
    """Everything one typo can make of a word of letters: the definition, written out."""
    places = range(len(word))
    swapped = {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in places[:-1]}
    left_out = {word[:i] + word[i + 1 :] for i in places}
    doubled = {word[:i] + word[i] + word[i:] for i in places}
    replaced = {
        word[:i] + (near.upper() if word[i].isupper() else near) + word[i + 1 :]
        for i in places
        for near in NEIGHBOURS[word[i].lower()]
    }
    return swapped | left_out | doubled | replaced | {word}


def test_every_typo_of_a_word_and_nothing_else_occurs():
    made = {with_typos('"Refund!"', 1.0, generator(seed)) for seed in range(6000)}
    assert made == {f'"{word}!"' for word in edits("Refund")}


def test_keyboard_neighbours_by_hand():
    assert set(NEIGHBOURS["s"]) == set("qweadzxc")
    assert set(NEIGHBOURS["p"]) == set("ol")
    assert set(NEIGHBOURS["z"]) == set("asx")


def test_other_scripts_are_misspelt_by_letters_of_the_word_and_signs_are_left_alone():
    made = {with_typos("письмо", 1.0, generator(seed)) for seed in range(800)}
    assert len(made) > 30
    assert {letter for word in made for letter in word} == set("письмо")
    kept = "a is 12:30 @someone #topic [NAME] x2y <b> http://a.example/path mail@a.example :-)"
    assert with_typos(kept, 1.0, generator()) == kept


def test_characters_of_chinese_are_words_of_their_own():
    assert with_swapped_words("我很好 abc", 1.0, generator()) == "很我abc 好"
    assert set(without_words("我很好", 0.9, generator(3))) <= set("我很好")


def test_translations_that_are_missing_are_not_chosen():
    chosen = {translated("t", ("", "de", "fr"), 1.0, generator(seed)) for seed in range(30)}
    assert chosen == {"de", "fr"}
    assert translated("t", ("", ""), 1.0, generator()) == "t"
    assert translated("t", (), 1.0, generator()) == "t"
    share = np.mean([translated("t", ("de",), 0.3, generator(seed)) == "de" for seed in range(2000)])
    assert share == pytest.approx(0.3, abs=0.05)


def augmenter(seed=1, **settings):
    values = {"share": 0.5, "character_noise": 0.3, "word_dropout": 0.2, "word_swap": 0.1, **settings}
    return TextAugmenter(AugmentationSettings(**values), seed=seed, synonyms=synonyms_of)


def test_the_share_of_the_texts_is_changed_and_others_are_none():
    one = augmenter(share=0.25, word_dropout=0.9, character_noise=0.0)
    changed = [one.changed(TEXT, epoch=0, row=row) for row in range(3000)]
    assert np.mean([text is not None for text in changed]) == pytest.approx(0.25, abs=0.03)
    assert TEXT not in changed
    assert augmenter(share=0.0).changed(TEXT, epoch=0, row=0) is None


def test_a_change_depends_on_seed_epoch_and_row_alone():
    first = [augmenter().changed(TEXT, epoch=3, row=row) for row in range(50)]
    backwards = augmenter()
    assert [backwards.changed(TEXT, epoch=3, row=row) for row in range(49, -1, -1)] == first[::-1]
    assert [augmenter().changed(TEXT, epoch=4, row=row) for row in range(50)] != first
    assert [augmenter(seed=2).changed(TEXT, epoch=3, row=row) for row in range(50)] != first
    assert len(set(first)) > 10


def test_a_pair_is_changed_beside_its_text_and_never_mixed_with_it():
    one = augmenter(share=1.0, word_swap=1.0, character_noise=0.0, word_dropout=0.0, translations=1.0)
    assert one.changed("a b", "c d", epoch=0, row=0) == ("b a", "d c")
    assert one.changed("a b", "c d", epoch=0, row=0, translations=("x y",)) == ("y x", "d c")
    assert one.changed("a", "c", epoch=0, row=0) is None
