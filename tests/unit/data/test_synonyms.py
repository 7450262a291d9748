"""Synonyms from a WordNet of nine senses in the format of Princeton's files, which NLTK's own reader accepts too."""

import shutil
import sys

import pytest

from manylabel.data.synonyms import wordnet_synonyms
from manylabel.errors import ConfigError

pytest.importorskip("nltk")

# Part of speech, words, and how often the first of them occurs in this sense; a word's senses by falling frequency.
SENSES = (
    ("n", ("refund", "repayment", "Rueckzahlung", "money_back"), 4),
    ("n", ("book", "volume"), 20),
    ("v", ("book", "reserve", "hold"), 3),
    ("n", ("bank", "depository"), 9),
    ("n", ("bank", "riverside"), 7),
    ("a", ("fast", "speedy", "quick"), 1),
    ("n", ("he", "helium"), 5),
    ("n", ("back", "rear"), 5),
    ("s", ("dim", "faint(p)"), 2),
)
FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
NUMBERS = {"n": 1, "v": 2, "a": 3, "s": 5, "r": 4}
LICENCE = "  1 This software and database is provided\n  2 as is\n"


def write_wordnet(folder):
    """index.*, data.*, index.sense, cntlist.rev, lexnames and the (empty) lists of exceptions."""
    folder.mkdir(parents=True)
    (folder / "lexnames").write_text("00\tall\t1\n")
    keys, counts = [], []
    for part, file in FILES.items():
        places, text = {}, LICENCE
        for number, (own, words, count) in enumerate(SENSES):
            if own.replace("s", "a") != part:
                continue
            offset = len(text)
            listed = " ".join(f"{word} {number}" for word in words)
            text += f"{offset:08d} 00 {own} {len(words):02x} {listed} 000 | a sense  \n"
            for word in (name.removesuffix("(p)") for name in words):
                places.setdefault(word.lower(), []).append(offset)
                key = f"{word.lower()}%{NUMBERS[own]}:00:{number:02d}::"
                keys.append(f"{key} {offset:08d} {len(places[word.lower()])} 0")
                if word == words[0]:
                    counts.append(f"{key} {len(places[word.lower()])} {count}")
        (folder / f"data.{file}").write_text(text)
        lines = [
            f"{word} {part} {len(found)} 0 {len(found)} 0 {' '.join(f'{offset:08d}' for offset in found)}  \n"
            for word, found in sorted(places.items())
        ]
        (folder / f"index.{file}").write_text(LICENCE + "".join(lines))
        (folder / f"{file}.exc").write_text("")
    (folder / "index.sense").write_text("".join(f"{line}\n" for line in sorted(keys)))
    (folder / "cntlist.rev").write_text("".join(f"{line}\n" for line in sorted(counts)))


@pytest.fixture
def nltk_folder(tmp_path, monkeypatch):
    """Where NLTK looks for data, and nowhere else."""
    import nltk

    folder = tmp_path / "nltk_data"
    folder.mkdir()
    monkeypatch.setattr(nltk.data, "path", [str(folder)])
    return folder


@pytest.mark.parametrize("is_packed", [False, True])
def test_synonyms_are_single_words_of_the_most_frequent_sense(nltk_folder, is_packed):
    write_wordnet(nltk_folder / "corpora" / "wordnet")
    if is_packed:
        shutil.make_archive(
            str(nltk_folder / "corpora" / "wordnet"), "zip", nltk_folder / "corpora", "wordnet"
        )
        shutil.rmtree(nltk_folder / "corpora" / "wordnet")
    synonyms = wordnet_synonyms()
    assert synonyms("refund") == ("repayment",)
    assert synonyms("book") == ("volume",)
    assert synonyms("reserve") == ("book", "hold")
    assert synonyms("bank") == ("depository",)
    assert synonyms("fast") == ("quick", "speedy")
    assert synonyms("dim") == ("faint",)
    # Inflected, too short, of little content, not known.
    assert [synonyms(word) for word in ("refunds", "he", "back", "xyzzy")] == [()] * 4


def test_without_wordnet_the_command_that_installs_it_is_named(nltk_folder):
    with pytest.raises(ConfigError, match=r"D198 setting augmentation\.synonyms.*nltk\.downloader wordnet"):
        wordnet_synonyms()


def test_without_nltk_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "nltk.data", None)
    with pytest.raises(ConfigError, match=r"NLTK is not installed.*pip install nltk"):
        wordnet_synonyms()


def test_a_damaged_wordnet_is_refused(nltk_folder):
    folder = nltk_folder / "corpora" / "wordnet"
    write_wordnet(folder)
    (folder / "index.noun").write_text("refund n x\n")
    with pytest.raises(ConfigError, match=r"cannot be read"):
        wordnet_synonyms()
    (folder / "index.noun").unlink()
    with pytest.raises(ConfigError, match=r"D198"):
        wordnet_synonyms()


@pytest.mark.filterwarnings(
    "ignore"
)  # NLTK's reader leaves its files open and says that it knows no other language.
def test_nltks_own_reader_finds_the_same_senses(nltk_folder):
    """The synonyms and counts of the first senses that NLTK gives, of all words that are no satellites."""
    from nltk.corpus.reader.wordnet import WordNetCorpusReader

    write_wordnet(nltk_folder / "corpora" / "wordnet")
    reader = WordNetCorpusReader(str(nltk_folder / "corpora" / "wordnet"), None)
    synonyms = wordnet_synonyms()
    for word in (
        "refund",
        "repayment",
        "book",
        "volume",
        "reserve",
        "hold",
        "bank",
        "depository",
        "fast",
        "quick",
    ):
        senses = [sense for part in "nvar" for sense in reader.synsets(word, pos=part)[:1]]
        lemmas = [lemma for sense in senses for lemma in sense.lemmas() if lemma.name() == word]
        names = max(lemmas, key=lambda lemma: lemma.count()).synset().lemma_names()
        assert synonyms(word) == tuple(
            sorted(name for name in names if name.isalpha() and name.islower() and name != word)
        )
    for file in (reader._key_count_file, *reader._data_file_map.values()):
        file.close()
