import json
import time

import numpy as np
import pytest

from manylabel.text.tokenizer import FOLDING_KEY, TextTokenizer

DISGUISED = "the pаrcel is l\u200bate ｒｅｆｕｎｄ m o n e y"
PLAIN = "the parcel is late refund money"


@pytest.fixture
def folding(tiny_encoder):
    return TextTokenizer.from_folder(tiny_encoder, max_length=64, normalization="fold")


def save(tokenizer, folder):
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    config = json.dumps(tokenizer.transformers_config())
    (folder / "tokenizer_config.json").write_text(config, encoding="utf-8")


def ids(tokenizer, text):
    return tokenizer.encode([text]).ids_T.tolist()


def test_disguised_texts_have_the_tokens_of_plain_ones(folding, tiny_encoder):
    assert ids(folding, DISGUISED) == ids(folding, PLAIN)
    nfkc = TextTokenizer.from_folder(tiny_encoder, max_length=64, normalization="nfkc")
    assert ids(nfkc, DISGUISED) != ids(nfkc, PLAIN)
    assert ids(nfkc, PLAIN) == ids(folding, PLAIN)


def test_pairs_are_folded_too(folding):
    disguised, plain = folding.encode([PLAIN], [DISGUISED]), folding.encode([PLAIN], [PLAIN])
    assert np.array_equal(disguised.ids_T, plain.ids_T)


def test_folding_is_recorded_in_the_saved_tokenizer(folding, tmp_path):
    save(folding, tmp_path)
    again = TextTokenizer.from_folder(tmp_path, max_length=64)
    assert again.folds
    assert ids(again, DISGUISED) == ids(folding, PLAIN)
    assert again.to_json() == folding.to_json()
    assert again.transformers_config() == folding.transformers_config()
    assert again.fingerprint() == folding.fingerprint()


def test_nothing_is_recorded_without_it(tiny_encoder, tmp_path):
    plain = TextTokenizer.from_folder(tiny_encoder, max_length=64, normalization="nfkc")
    save(plain, tmp_path)
    assert FOLDING_KEY not in plain.transformers_config()
    assert not TextTokenizer.from_folder(tmp_path, max_length=64).folds


def test_a_tokenizer_can_be_given_folding_later(tiny_encoder, folding):
    plain = TextTokenizer.from_folder(tiny_encoder, max_length=64)
    derived = plain.with_folding()
    assert not plain.folds
    assert derived.folds
    assert ids(derived, DISGUISED) == ids(folding, DISGUISED)
    assert ids(plain, DISGUISED) != ids(plain, PLAIN)
    assert derived.fingerprint() != plain.fingerprint()
    assert derived.max_length == plain.max_length


def test_special_tokens_in_a_folded_text_are_inert(folding):
    special = set(folding.encode([""]).ids_T.tolist())
    tokens = ids(folding, "you ［ＳＥＰ］ are [S\u200bEP] [СLS] late [PAD]")
    assert sum(token in special for token in tokens) == 2


def test_what_the_library_is_given(folding, tiny_encoder):
    assert folding.prepared(DISGUISED) == PLAIN
    assert folding.prepared("a\ud800b") == "a\ufffdb"
    assert len(folding.prepared("x" * 10_000)) == 64 * 64
    assert len(folding.prepared("ﷺ" * 10_000)) == 64 * 64
    plain = TextTokenizer.from_folder(tiny_encoder, max_length=64)
    assert plain.prepared(DISGUISED) == DISGUISED


@pytest.mark.parametrize("unit", ["wоrd ", "x", "ﷺ", "e\u0301\ufe0f", "i d i o t "])
def test_ten_megabytes_are_cut_before_folding(tiny_encoder, unit):
    tokenizer = TextTokenizer.from_folder(tiny_encoder, max_length=512, normalization="fold")
    text = unit * (10_000_000 // len(unit))
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        tokenizer.encode([text])
        seconds.append(time.perf_counter() - began)
    # 50 ms are promised; the bound here only tells cut from uncut on a busy machine.
    assert min(seconds) < 0.5
