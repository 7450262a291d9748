"""Translation columns: never guessed, shown, stored, read row by row, and with their row wherever it goes."""

import json

import numpy as np
import pyarrow as pa
import pytest

from manylabel.config.schema import DataSettings
from manylabel.data.corpus import load_corpus, load_table
from manylabel.data.folds import make_folds
from manylabel.data.layout import Layout, guess_layout, prediction_columns
from manylabel.data.memory import corpus_from_memory
from manylabel.data.split import split_corpus
from manylabel.errors import DataError
from manylabel.values import LabelSet

TEXTS = ["the parcel never came", "please give my money back", "thank you so much", "where is it"]
GERMAN = ["das Paket kam nie an, wirklich nie", "bitte gebt mir mein Geld zurück", None, "  "]
FRENCH = ["le colis n'est jamais venu", "rendez-moi mon argent", "merci beaucoup", "où est-il"]
TABLE = {"text": TEXTS, "de": GERMAN, "fr": FRENCH, "late": ["1", "0", "0", "1"]}
GIVEN = DataSettings(translation_columns=("de", "fr"))


def test_they_are_named_shown_and_not_taken_for_anything_else():
    # Without names this table has two columns that are as good as a text column.
    table = pa.table({"comment 1": TEXTS, "comment 2": [text * 2 for text in TEXTS], "late": TABLE["late"]})
    found = guess_layout(table, DataSettings(translation_columns=("comment 2",)), "t.csv")
    assert (found.text_column, found.label_columns) == ("comment 1", ("late",))
    assert found.ignored_columns == ()
    assert ("translations", "comment 2", "given") in found.describe()
    tags = pa.table({"text": TEXTS, "labels": ["a|b", "b", "a", "b"], "tags": ["x", "y", "x", "z"]})
    assert guess_layout(tags, DataSettings(translation_columns=("labels",)), "t").labels_column == "tags"
    words = pa.table({"text": TEXTS, "de": ["paket", "geld", "danke", "wo"], "late": TABLE["late"]})
    assert guess_layout(words, DataSettings(), "t.csv").id_column == "de"
    assert guess_layout(words, DataSettings(translation_columns=("de",)), "t.csv").id_column is None


def test_without_names_none_are_guessed_and_the_stored_layout_is_as_before():
    found = guess_layout(pa.table(TABLE), DataSettings(), "t.csv")
    assert found.translation_columns == ()
    assert found.ignored_columns == ("de", "fr")
    assert "translation_columns" not in found.to_json()
    assert Layout.from_json(found.to_json()) == found


def test_a_layout_with_them_survives_json_and_fills_what_is_open():
    stored = guess_layout(pa.table(TABLE), GIVEN, "t.csv")
    assert stored.translation_columns == ("de", "fr")
    assert Layout.from_json(json.loads(json.dumps(stored.to_json()))) == stored
    again = guess_layout(pa.table(TABLE), DataSettings(), "t.csv", labels=LabelSet(("late",)), stored=stored)
    assert again.translation_columns == ("de", "fr")
    columns = prediction_columns(pa.table(TABLE), DataSettings(), "t.csv", stored=stored)
    assert columns.translations == ("de", "fr")
    # A file that lacks one of them is used without: rows that judge need no translations.
    fewer = pa.table({name: TABLE[name] for name in ("text", "fr", "late")})
    without = guess_layout(fewer, DataSettings(), "t.csv", labels=LabelSet(("late",)), stored=stored)
    assert without.translation_columns == ()


def test_a_name_that_does_not_exist_or_is_given_twice_is_refused():
    with pytest.raises(DataError, match=r'no column "der" \(--translation-columns\).*did you mean "de"'):
        guess_layout(pa.table(TABLE), DataSettings(translation_columns=("der",)), "t.csv")
    with pytest.raises(DataError, match='"text" is given twice'):
        guess_layout(
            pa.table(TABLE), DataSettings(text_column="text", translation_columns=("text",)), "t.csv"
        )


def test_each_row_has_its_own_and_missing_ones_are_empty(tmp_path):
    corpus = load_table(pa.table(TABLE), GIVEN).corpus
    assert corpus.translations == (
        (GERMAN[0], FRENCH[0]),
        (GERMAN[1], FRENCH[1]),
        ("", FRENCH[2]),
        ("", FRENCH[3]),
    )
    assert corpus.select(np.array([3, 0])).translations == (("", FRENCH[3]), (GERMAN[0], FRENCH[0]))
    path = tmp_path / "t.csv"
    path.write_text("text,fr,late\nhello there,bonjour,1\nbye now,,0\n", encoding="utf-8")
    assert load_corpus(path, DataSettings(translation_columns=("fr",))).corpus.translations == (
        ("bonjour",),
        ("",),
    )
    assert load_corpus(path, DataSettings()).corpus.translations is None


def test_a_column_without_text_is_refused_and_an_empty_one_told():
    table = {"text": TEXTS, "n": [7, 5, 6, 7], "late": TABLE["late"]}
    with pytest.raises(DataError, match=r'D192 table, column "n": the column holds int64'):
        load_table(pa.table(table), DataSettings(translation_columns=("n",)))
    empty = {"text": TEXTS, "de": [" ", None, "", ""], "late": TABLE["late"]}
    result = load_table(pa.table(empty), DataSettings(translation_columns=("de",)))
    assert [finding.code for finding in result.warnings] == ["D193"]
    assert result.corpus.translations == (("",),) * 4


def test_given_in_memory():
    labels = [["late"], [], ["late"], []]
    rows = list(zip(FRENCH, [text or "" for text in GERMAN], strict=True))
    found = corpus_from_memory(TEXTS, labels, translations=rows)
    assert found.corpus.translations[3] == (FRENCH[3], "")
    assert found.layout.translation_columns == ("translation_1", "translation_2")
    assert corpus_from_memory(TEXTS, labels).layout.translation_columns == ()
    with pytest.raises(DataError, match="3 entries for 4 texts"):
        corpus_from_memory(TEXTS, labels, translations=rows[:3])
    with pytest.raises(DataError, match=r"D192 .*translations, row 2: the number of translations differs"):
        corpus_from_memory(TEXTS, labels, translations=[rows[0], rows[1][:1], rows[2], rows[3]])
    with pytest.raises(DataError, match=r"D192 .*translations, rows 1, 2, 3, 4: the value is not a list"):
        corpus_from_memory(TEXTS, labels, translations=FRENCH)


def corpus_of_rows(count):
    generator = np.random.default_rng(5)
    words = [f"word{number}" for number in range(300)]
    texts = [" ".join(generator.choice(words, 12)) for _ in range(count)]
    labels = [[name for name in "ab" if generator.random() < 0.4] for _ in range(count)]
    translations = [
        (f"traduction: {text}", "" if row % 3 else f"Übersetzung: {text}") for row, text in enumerate(texts)
    ]
    return corpus_from_memory(texts, labels, label_names=("a", "b"), translations=translations).corpus


def of_own_text(corpus):
    return all(
        row == (f"traduction: {text}", "" if (int(name) - 1) % 3 else f"Übersetzung: {text}")
        for text, row, name in zip(corpus.texts, corpus.translations, corpus.ids, strict=True)
    )


def test_a_rows_translations_have_its_role_in_every_split_and_fold():
    corpus = corpus_of_rows(200)
    parts = split_corpus(
        corpus,
        validation_fraction=0.2,
        calibration_fraction=0.1,
        test_fraction=0.2,
        near_duplicate_similarity=0.65,
        seed=3,
    )
    roles = [corpus.select(rows) for rows in (parts.train, parts.validation, parts.calibration, parts.test)]
    assert all(of_own_text(role) for role in roles)
    seen = [translation for role in roles for row in role.translations for translation in row if translation]
    assert sorted(seen) == sorted(text for row in corpus.translations for text in row if text)
    folds = make_folds(corpus, count=4, near_duplicate_similarity=0.65, seed=3)
    for fold in range(4):
        held_out, others = corpus.select(folds.held_out(fold)), corpus.select(folds.others(fold))
        assert of_own_text(held_out)
        assert of_own_text(others)
        own = {text for row in held_out.translations for text in row if text}
        assert not own & {text for row in others.translations for text in row}


def test_translations_decide_nothing_about_a_split():
    """So a data set with translations is divided as it was without them, and results can be compared."""
    corpus = corpus_of_rows(200)
    plain = corpus_from_memory(
        corpus.texts, [[name for name, on in zip("ab", row, strict=True) if on] for row in corpus.targets_NL],
        label_names=("a", "b"),
    ).corpus  # fmt: skip
    options = {"count": 4, "near_duplicate_similarity": 0.65, "seed": 3}
    assert np.array_equal(make_folds(corpus, **options).fold_N, make_folds(plain, **options).fold_N)
