"""Views of texts. References: cases worked by hand, the tokenizers library's own truncation, transformers."""

import random
import time

import numpy as np
import pytest

from manylabel.errors import UsageError
from manylabel.text import views as module
from manylabel.text.tokenizer import CHARACTERS_PER_TOKEN, TextTokenizer
from manylabel.text.views import (
    VIEWS,
    TranslatedText,
    check_views,
    encode_view,
    tokens_kept,
    translation_column,
    with_translations,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz"
FULL_WIDTH_AB = "\uff41\uff42"
CYRILLIC_A = "\u0430"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A vocabulary of 26 letters: token 4 is a, 5 is b, and so on; 2 opens and 3 closes a text."""
    path = tmp_path_factory.mktemp("letters")
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    (path / "vocab.txt").write_text("\n".join(tokens) + "\n")
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return TextTokenizer.from_folder(folder, max_length=8, normalization="nfkc")


def letters_of(encodings):
    """Each text's tokens as letters, special tokens as < and >."""
    names = ["", "?", "<", ">", *LETTERS]
    tokens = [names[token] if token < len(names) else "#" for token in encodings.ids_T]
    bounds = encodings.offsets_N1
    return ["".join(tokens[bounds[row] : bounds[row + 1]]) for row in range(len(encodings))]


def spaced(word):
    return " ".join(word)


def test_windows_by_hand(tokenizer):
    text = [spaced("abcdefghijk")]  # 11 letters, room for 6: 5 are too many, 2 before the middle and 3 after.
    assert letters_of(encode_view(tokenizer, "head", text)) == ["<abcdef>"]
    assert letters_of(encode_view(tokenizer, "tail", text)) == ["<fghijk>"]
    assert letters_of(encode_view(tokenizer, "middle", text)) == ["<cdefgh>"]
    for view in ("head", "tail", "middle"):
        assert encode_view(tokenizer, view, text).truncated_N.tolist() == [True]


def test_windows_of_pairs_by_hand(tokenizer):
    # Three special tokens leave room for 5: the pair of 2 stays whole, the text of 6 keeps 3.
    texts, pairs = [spaced("abcdef"), spaced("abcdef")], ["y z", spaced("uvwxyz")]
    assert letters_of(encode_view(tokenizer, "tail", texts, pairs)) == ["<def>yz>", "<ef>xyz>"]
    assert letters_of(encode_view(tokenizer, "middle", texts, pairs)) == ["<bcd>yz>", "<cd>vwx>"]
    assert encode_view(tokenizer, "tail", texts, pairs).segments_T.tolist() == [
        *(0, 0, 0, 0, 0, 1, 1, 1),
        *(0, 0, 0, 0, 1, 1, 1, 1),
    ]


def test_a_text_that_fits_is_the_same_in_every_window(tokenizer):
    texts = ["", "a", spaced("abcdef"), "[SEP] a"]
    head = encode_view(tokenizer, "head", texts)
    for view in ("tail", "middle"):
        other = encode_view(tokenizer, view, texts)
        assert letters_of(other)[:3] == letters_of(head)[:3] == ["<>", "<a>", "<abcdef>"]
        assert other.truncated_N.tolist()[:3] == [False] * 3
    # A typed special token is text like any other, in a window too: no 3 inside.
    assert (encode_view(tokenizer, "tail", texts[3:]).ids_T[1:-1] > 3).sum() >= 1
    assert 3 not in encode_view(tokenizer, "tail", texts[3:]).ids_T[1:-1]


@pytest.mark.parametrize("with_pairs", [False, True])
def test_the_windows_rule_gives_for_head_what_the_library_gives(tokenizer, with_pairs):
    choose = random.Random(5)

    def draw():
        return [spaced(choose.choices(LETTERS, k=choose.randint(0, 15))) for _ in range(600)]

    texts, pairs = draw(), draw() if with_pairs else None
    ours, library = module._windows(tokenizer, "head", texts, pairs), tokenizer.encode(texts, pairs)
    for name in ("ids_T", "segments_T", "offsets_N1", "truncated_N"):
        assert np.array_equal(getattr(ours, name), getattr(library, name)), name


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [(2, 3, (2, 3)), (9, 2, (4, 2)), (2, 9, (2, 4)), (9, 8, (3, 3)), (9, 0, (6, 0)), (0, 9, (0, 6))],
)
def test_tokens_kept_of_a_pair(first, second, kept):
    assert tokens_kept(first, second, 6) == kept


@pytest.mark.encoder
def test_the_tail_equals_the_end_of_what_transformers_gives(default_encoder):
    from transformers import BertTokenizerFast

    choose = random.Random(9)
    words = [
        "The",
        "refund",
        "arrived",
        "untokenizable",
        "caf\u00e9",
        "don't",
        "1,234.56",
        "\u65e5\u672c",
        "!",
    ]
    texts = [" ".join(choose.choices(words, k=choose.randint(0, 60))) for _ in range(500)]
    reference = BertTokenizerFast.from_pretrained(default_encoder)
    ours = TextTokenizer.from_folder(default_encoder, max_length=24)
    for text, found in zip(texts, _lists(encode_view(ours, "tail", texts)), strict=True):
        whole = reference(text, split_special_tokens=True)["input_ids"]
        expected = whole if len(whole) <= 24 else [whole[0], *whole[-23:]]
        assert found == expected


def _lists(encodings):
    bounds = encodings.offsets_N1
    return [encodings.ids_T[bounds[row] : bounds[row + 1]].tolist() for row in range(len(encodings))]


def test_the_tokenizer_cuts_as_before_when_the_windows_are_made(tokenizer):
    text = [spaced("abcdefghijk")]
    encode_view(tokenizer, "tail", text)
    assert letters_of(tokenizer.encode(text)) == ["<abcdef>"]


def test_an_enormous_text_is_read_at_the_right_end_and_quickly(tokenizer):
    limit = module.READ_FACTOR * tokenizer.max_length * CHARACTERS_PER_TOKEN
    filler = "m " * (5_000_000 // 2)
    began = time.perf_counter()
    text = [f"a b c d {filler} w x y z"]
    assert letters_of(encode_view(tokenizer, "tail", text)) == ["<mmwxyz>"]
    assert letters_of(encode_view(tokenizer, "middle", text)) == ["<mmmmmm>"]
    assert time.perf_counter() - began < 1.0
    # What is cut off is blank: nothing but characters is left out, and that is told as in head.
    assert encode_view(tokenizer, "tail", [" " * limit + "a"]).truncated_N.tolist() == [True]


def test_raw_has_no_normalisation_and_folded_undoes_disguises(folder):
    normalised = TextTokenizer.from_folder(folder, max_length=8, normalization="nfkc")
    assert letters_of(encode_view(normalised, "head", [FULL_WIDTH_AB])) == ["<a#>"]
    assert letters_of(encode_view(normalised, "raw", [FULL_WIDTH_AB])) == ["<?>"]
    disguised = [f"b{CYRILLIC_A}d"]
    assert letters_of(encode_view(normalised, "head", disguised)) == ["<?>"]
    assert letters_of(encode_view(normalised, "folded", disguised)) == ["<b##>"]
    folding = TextTokenizer.from_folder(folder, max_length=8, normalization="fold")
    assert letters_of(encode_view(folding, "raw", disguised)) == ["<?>"]
    assert letters_of(encode_view(folding, "folded", disguised)) == ["<b##>"]
    plain = TextTokenizer.from_folder(folder, max_length=8)
    for text in (FULL_WIDTH_AB, "A b", "a" * 99):
        same = [encode_view(plain, view, [text]).ids_T.tolist() for view in ("raw", "head")]
        assert same[0] == same[1]


def test_raw_after_saving_and_loading_is_the_same(folder, tmp_path):
    saved = TextTokenizer.from_folder(folder, max_length=8, normalization="nfkc")
    (tmp_path / "tokenizer.json").write_text(saved.to_json())
    loaded = TextTokenizer.from_folder(tmp_path, max_length=8)
    plain = TextTokenizer.from_folder(folder, max_length=8)
    assert loaded.raw.fingerprint() == saved.raw.fingerprint()
    assert letters_of(loaded.raw.encode(["A B"])) == letters_of(plain.encode(["A B"])) == ["<ab>"]
    assert loaded.raw is loaded.raw


def test_translations_are_read_where_there_are_any(tokenizer):
    texts = with_translations(["a", "b", "c", "d"], {"back": ["x y", None, "  ", "z"], "other": ["q"] * 4})
    assert letters_of(encode_view(tokenizer, "translation:back", texts)) == ["<xy>", "<b>", "<c>", "<z>"]
    assert letters_of(encode_view(tokenizer, "translation:absent", texts)) == ["<a>", "<b>", "<c>", "<d>"]
    assert letters_of(encode_view(tokenizer, "translation:back", ["a"])) == ["<a>"]
    assert texts == ("a", "b", "c", "d")
    assert all(isinstance(text, TranslatedText) and isinstance(text, str) for text in texts)
    assert letters_of(encode_view(tokenizer, "head", texts)) == ["<a>", "<b>", "<c>", "<d>"]


def test_no_texts_give_no_tokens(tokenizer):
    for view in (*VIEWS, "translation:x"):
        found = encode_view(tokenizer, view, [])
        assert (len(found), len(found.ids_T)) == (0, 0)


def test_names_are_checked_all_at_once(tokenizer):
    assert check_views(["head", "translation:de"]) == ("head", "translation:de")
    with pytest.raises(UsageError) as refused:
        check_views(["head", "end", "tail", "tail", "translation:"])
    told = [finding.found for finding in refused.value.findings]
    assert told == [
        'there is no view "end"',
        'there is no view "translation:"',
        'the view "tail" is named twice',
    ]
    with pytest.raises(UsageError):
        encode_view(tokenizer, "end", ["a"])
    assert translation_column("translation:de") == "de"
    assert translation_column("tail") is None
