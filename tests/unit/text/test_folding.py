import time
import unicodedata
from pathlib import Path

import pytest

from manylabel.text.disguises import disguise
from manylabel.text.folding import fold, fold_look_alikes, strip_invisible
from manylabel.text.look_alikes import CYRILLIC, GREEK, GREEK_INSIDE

HONEST = [
    line
    for line in (Path(__file__).parent / "honest_words.txt").read_text("utf-8").split("\n")
    if line and not line.startswith("#")
]
ENGLISH = """
You are the stupidest person I have ever met and nobody should listen to you
Please stop deleting my articles from the encyclopedia without giving any reason
I will come to your house and you will be sorry for everything you wrote
Thank you so much for the quick delivery of the parcel it arrived yesterday
The refund has not been paid although the shop promised it twelve days ago
Would somebody explain why this page was removed again by the same user
What an idiot he must be to believe such a ridiculous story about cats
My grandmother bakes delicious bread every Sunday morning before church
""".strip().split("\n")


def nfkc(text):
    return unicodedata.normalize("NFKC", text)


def test_the_honest_words_are_many_and_need_their_joiners():
    assert len(HONEST) >= 240
    assert sum("\u200c" in line or "\u200d" in line for line in HONEST) >= 10


@pytest.mark.parametrize("line", HONEST)
def test_honest_words_stay_alone_and_in_an_english_sentence(line):
    for text in (line, f"He wrote {line} to us yesterday"):
        assert fold(text) == nfkc(text)


def test_honest_words_stay_beside_each_other():
    text = "\n".join(HONEST)
    assert fold(text) == nfkc(text)


@pytest.mark.parametrize("attack", ["homoglyphs", "zero_width", "full_width"])
def test_disguised_english_words_are_recovered(attack):
    pairs = [
        (word, again)
        for seed in range(30)
        for line in ENGLISH
        for word, again in zip(line.split(), fold(disguise(line, attack, seed=seed)).split(), strict=True)
    ]
    recovered = sum(word == again for word, again in pairs) / len(pairs)
    assert len(pairs) > 3000
    # Measured 1.0 in sentences; a word alone whose letters are all replaced is not (see rule 4).
    assert recovered >= 0.99


@pytest.mark.parametrize("attack", ["homoglyphs", "zero_width", "full_width"])
def test_disguised_words_alone_are_recovered(attack):
    words = sorted({word for line in ENGLISH for word in line.split()})
    recovered = sum(fold(disguise(word, attack, seed=1)) == word for word in words) / len(words)
    assert recovered >= 0.95


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("idiоt", "idiot"),
        ("ІDІОT", "IDIOT"),
        ("bαd sαυsage", "bad sausage"),
        ("id\u200bi\u00ado\ufefft", "idiot"),
        ("id\ufe0fiot", "idiot"),
        ("id\U000e0061iot", "idiot"),
        ("id\u3164iot", "idiot"),
        ("id\u200ciot", "idiot"),
        ("\u202eidiot\u202c", "idiot"),
        ("𝐢𝐝𝐢𝐨𝐭 ⓘⓓⓘⓞⓣ", "idiot idiot"),
        ("you i d i o t!", "you idiot!"),
        ("і d і o t", "idiot"),
        ("he wrоte с\u0301a", "he wrote ća"),
        ("the аsshоle said а", "the asshole said a"),
    ],
)
def test_disguises_are_undone(disguised, plain):
    assert fold(disguised) == plain


@pytest.mark.parametrize(
    "text",
    [
        "the word сор alone",  # All look-alikes, and nothing gives a disguise away.
        "SMSки и VIPы",
        "он купил PDFа вчера",
        "a b c",
        "U.S.S.R. a.b.c.d",
        "1 2 3 4 5",
        "我 不 知 道",
    ],
)
def test_rules_know_their_limits(text):
    assert fold(text) == text


def test_a_disguised_word_among_honest_russian_words_is_undone():
    """The words beside it decide, not the whole text."""
    text = "you are an idiоt and a fool, привет всем моим друзьям из Ленинграда, скачал PDFа вчера"
    assert fold(text) == text.replace("idiоt", "idiot")


def test_single_letters_are_joined_only_when_asked_for():
    assert fold("i d i o t", join_spaced_letters=False) == "i d i o t"


def test_every_look_alike_is_one_letter_and_not_latin():
    for table, script in ((CYRILLIC, "CYRILLIC"), (GREEK, "GREEK"), (GREEK_INSIDE, "GREEK")):
        for other, latin in table.items():
            assert latin.isascii()
            assert latin.isalpha()
            assert unicodedata.name(other).startswith(script)
            assert nfkc(other) == other
            assert other.isupper() == latin.isupper()


def test_the_steps_do_their_own_part_only():
    assert strip_invisible("idi\u200bоt") == "idiоt"
    assert fold_look_alikes("idi\u200bоt") == "idi\u200bot"


@pytest.mark.parametrize(
    "text",
    [
        "wоrd ",
        "ﷺ",
        "e\u0301\ufe0f",
        "\u0301\ufe0f\u0301",
        "a ",
        "а ",
        "бa ",
        "a\u200d",
        "\ud800",
        "aα",
        "x\u0301",
    ],
)
def test_time_is_linear_in_hostile_texts(text):
    def seconds(size):
        hostile = (text * size)[:size]
        times = []
        for _ in range(3):
            began = time.perf_counter()
            fold(hostile)
            times.append(time.perf_counter() - began)
        return min(times)

    # 16 times the text takes about 16 times as long; 256 would be quadratic. 5 ms are the clock and the start.
    assert seconds(320_000) < 80 * seconds(20_000) + 0.005
