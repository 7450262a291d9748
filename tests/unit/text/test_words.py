"""Words of texts in many scripts, and that every token finds its word."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from manylabel.text.tokenizer import TextTokenizer
from manylabel.text.words import NO_WORD, split_words, tokenize_words


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder):
    return TextTokenizer.from_folder(tiny_encoder, max_length=32, normalization="nfkc")


def texts_of(words):
    return [word.text for word in words]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n\t\u3000", []),
        ("my parcel, please!", ["my", "parcel,", "please!"]),
        ("a\u00a0b\u2028c", ["a", "b", "c"]),
        ("我的order没到", ["我", "的", "order", "没", "到"]),
        ("ありがとうUSB", ["あ", "り", "が", "と", "う", "USB"]),
        ("감사 합니다", ["감사", "합니다"]),
        ("ok👍🏽👨‍👩‍👧 ok", ["ok👍🏽👨‍👩‍👧", "ok"]),
    ],
)
def test_words_are_runs_and_single_han_and_kana(text, words):
    assert [text[start:end] for start, end in split_words(text)] == words


def test_tokens_know_their_words(tokenizer):
    read = tokenize_words(tokenizer, "The parcelx, PLEASE")
    assert texts_of(read.words) == ["The", "parcelx,", "PLEASE"]
    assert [word.num_tokens for word in read.words] == [1, 3, 1]  # parcel ##x ,
    assert read.words_T.tolist() == [NO_WORD, 0, 1, 1, 1, 2, NO_WORD]
    assert (read.words[1].start, read.words[1].end, read.words[1].part) == (4, 12, "text")


def test_the_baseline_masks_all_but_special_tokens(tokenizer, tiny_vocabulary):
    read = tokenize_words(tokenizer, "my parcel", "your order")
    mask, separator = tiny_vocabulary.index("[MASK]"), tiny_vocabulary.index("[SEP]")
    assert read.mask_token == "[MASK]"
    assert read.masked_T.tolist() == [
        tiny_vocabulary.index("[CLS]"),
        mask,
        mask,
        separator,
        mask,
        mask,
        separator,
    ]
    assert read.without_word(3).tolist() == [*read.ids_T[:5].tolist(), mask, separator]
    assert [word.part for word in read.words] == ["text", "text", "pair", "pair"]
    assert read.segments_T.tolist() == [0, 0, 0, 0, 1, 1, 1]


def test_typed_special_tokens_are_words(tokenizer, tiny_vocabulary):
    read = tokenize_words(tokenizer, "[MASK] order [SEP]")
    assert texts_of(read.words) == ["[MASK]", "order", "[SEP]"]
    assert tiny_vocabulary.index("[MASK]") not in read.ids_T
    assert (read.words_T == NO_WORD).sum() == 2


def test_words_of_a_folding_tokenizer_are_those_it_reads(tokenizer):
    text = "the p\u0430rcel i\u200bs l\u0430te"  # Cyrillic a, and an invisible space.
    read = tokenize_words(tokenizer.with_folding(), text)
    assert texts_of(read.words) == ["the", "parcel", "is", "late"]
    assert read.ids_T.tolist() == tokenizer.encode(["the parcel is late"]).ids_T.tolist()


def test_words_that_were_cut_are_not_listed(tokenizer):
    read = tokenize_words(tokenizer, "order " * 31)
    assert read.truncated
    assert len(read.words) == 30
    assert not tokenize_words(tokenizer, "order " * 30).truncated


def test_dropped_characters_are_words_without_tokens(tokenizer):
    read = tokenize_words(tokenizer, "order \u200b\u0007 parcel")
    assert [word.num_tokens for word in read.words] == [1, 0, 1]


def test_characters_of_one_token_stay_together():
    special = [(name, -9.0) for name in ("<unk>", "<mask>", "<s>", "</s>")]
    pieces = [*special, ("▁我们", -1.0), ("的", -1.0), ("▁", -3.0)]
    library = Tokenizer(models.Unigram(pieces, unk_id=0))
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    library.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    read = tokenize_words(TextTokenizer(library, max_length=16), "我们的 我们")
    assert texts_of(read.words) == ["我们", "的", "我们"]
    assert read.mask_token == "<mask>"
    assert read.words_T.tolist() == [NO_WORD, 0, 1, 2, NO_WORD]


def test_bytes_of_one_character_stay_together():
    alphabet = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    library = Tokenizer(models.BPE({**alphabet, "<mask>": 256}, []))
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    read = tokenize_words(TextTokenizer(library, max_length=64), "ab 😀é\n\n")
    assert texts_of(read.words) == ["ab", "😀é"]
    # Two letters; the space goes to the word that follows it, the line feeds to the last word: 1 + 4 + 2 + 2 bytes.
    assert [word.num_tokens for word in read.words] == [2, 9]


@given(text=st.text(max_size=60), pair=st.none() | st.text(max_size=60))
@example(text="\ud83d\ude00 \ud800", pair=None)
@example(text="ﬃ ﷺ ½", pair="İ ẞ")
@example(text="0\x1f¢", pair=None)
@pytest.mark.parametrize("folds", [False, True])
def test_words_and_tokens_cover_each_other(tokenizer, folds, text, pair):
    tokenizer = tokenizer.with_folding() if folds else tokenizer
    read = tokenize_words(tokenizer, text, pair)
    encodings = tokenizer.encode([text], None if pair is None else [pair])
    assert read.ids_T.tolist() == encodings.ids_T.tolist()
    owned = read.words_T[read.words_T != NO_WORD]
    assert (owned[1:] >= owned[:-1]).all()
    assert [word.num_tokens for word in read.words] == [
        int((owned == index).sum()) for index in range(len(read.words))
    ]
    # Only [CLS] and [SEP] have no word, as long as there is one.
    if read.words and pair is None:
        assert (read.words_T == NO_WORD).sum() == 2
    if not read.truncated:
        # A character that both are, white space and dropped by the tokenizer, may lie inside a word (U+001F).
        shown = "".join(word.text for word in read.words if word.part == "text")
        assert "".join(shown.split()) == "".join(tokenizer.prepared(text).split())
