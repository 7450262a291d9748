import json

import pytest

from manylabel.errors import EncoderError
from manylabel.text.tokenizer import TextTokenizer
from manylabel.text.wordpiece_files import (
    FILES,
    decide_casing,
    read_vocabulary,
    require_size,
    upper_case_share,
    write_word_piece_files,
)

SPECIAL = ("[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<S>")
LOWER = (*SPECIAL, "he", "llo", "##llo", "e", "中", "é")
MIXED = (*LOWER, "He", "É")


def decide(vocabulary, flag=None, configs=(), names=()):
    return decide_casing(vocabulary, flag=flag, configs=dict(configs), names=names)


@pytest.mark.parametrize(
    ("arguments", "lowercase", "reason"),
    [
        ({"flag": True, "names": ["cased_L-2"]}, True, "--uncased was given"),
        ({"flag": False, "configs": {"a.json": {"do_lower_case": True}}}, False, "--cased was given"),
        (
            {"configs": {"a.json": {}, "b.json": {"do_lower_case": False}}},
            False,
            "b.json says do_lower_case false",
        ),
        (
            {"configs": {"a.json": {"do_lower_case": "yes"}}, "names": ["uncased_L-2_H-4"]},
            True,
            "uncased_L-2_H-4",
        ),
        ({"names": ["wwm_cased_L-24", "x"]}, False, "wwm_cased_L-24"),
        ({"names": ["Uncased-model"]}, True, "Uncased-model"),
        ({"names": ["chinese_L-12_H-768_A-12"]}, True, "Google's release"),
        ({"names": ["multilingual_L-12_H-768_A-12"]}, True, "Google's release"),
        ({"names": ["multi_cased_L-12_H-768_A-12"]}, False, "multi_cased"),
        ({"names": ["outcased", "casedeep"]}, True, "0.0 % of the vocabulary"),
    ],
)
def test_the_first_trace_of_casing_decides(arguments, lowercase, reason):
    casing = decide(LOWER, **arguments)
    assert casing.lowercase is lowercase
    assert reason in casing.reason
    assert casing.word == ("uncased" if lowercase else "cased")


def test_the_vocabulary_decides_without_other_traces_and_doubts_a_contradiction():
    assert upper_case_share(LOWER) == 0.0
    assert upper_case_share(MIXED) == pytest.approx(2 / 8)
    assert decide(MIXED) == decide(MIXED, names=["model"])
    assert not decide(MIXED).lowercase
    assert decide(MIXED).doubt == decide(LOWER).doubt == ""
    assert "never be used" in decide(MIXED, flag=True).doubt
    assert "will be unknown" in decide(LOWER, flag=False).doubt


def test_a_vocabulary_keeps_its_ids_with_any_line_ends_and_odd_tokens(tmp_path):
    path = tmp_path / "vocab.txt"
    tokens = (*SPECIAL, "\u2028", "\x85", "a")
    for end in ("\n", "\r\n"):
        path.write_bytes(end.join(tokens).encode())
        assert read_vocabulary(path) == tokens
        path.write_bytes((end.join(tokens) + end).encode())
        assert read_vocabulary(path) == tokens
    require_size(tokens, 10, path)
    with pytest.raises(EncoderError, match=r"E163 .*10 word pieces, the checkpoint has embeddings for 11"):
        require_size(tokens, 11, path)


def test_what_is_no_vocabulary_is_refused(tmp_path):
    path = tmp_path / "vocab.txt"
    with pytest.raises(EncoderError, match=r"E163 .*no such file"):
        read_vocabulary(path)
    path.write_bytes(b"\xff")
    with pytest.raises(EncoderError, match=r"E163 .*not UTF-8"):
        read_vocabulary(path)
    path.write_text("[PAD]\n[UNK]\n[SEP]\n")
    with pytest.raises(EncoderError, match=r"without \[CLS\], \[MASK\]"):
        read_vocabulary(path)


@pytest.mark.parametrize("lowercase", [True, False])
def test_written_files_tokenise_as_transformers_does(tmp_path, lowercase):
    from transformers import AutoTokenizer
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    write_word_piece_files(tmp_path, MIXED, lowercase=lowercase, max_length=32)
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    assert read_vocabulary(tmp_path / "vocab.txt") == MIXED
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert (config["do_lower_case"], config["strip_accents"]) == (lowercase, lowercase)
    ours = TextTokenizer.from_folder(tmp_path, max_length=32)
    auto = AutoTokenizer.from_pretrained(tmp_path)
    old = BertTokenizerLegacy(vocab_file=str(tmp_path / "vocab.txt"), do_lower_case=lowercase)
    for text in ("Hello", "hello", "HELLO É é", "he中llo", "中E", "", "hello" * 25):
        ids = ours.encode([text]).ids_T.tolist()
        assert ids == auto(text, truncation=True)["input_ids"]
        assert ids == old(text, truncation=True, max_length=32)["input_ids"]
    assert auto.model_max_length == 32
    assert (auto("Hello")["input_ids"] == auto("hello")["input_ids"]) is lowercase
    # Chinese characters are words of their own, whatever stands beside them.
    assert auto.tokenize("he中llo") == ["he", "中", "llo"]
