"""Notes about columns that a guess leaves out."""

import pyarrow as pa
import pytest

from manylabel.config.schema import DataSettings
from manylabel.data.corpus import load_corpus, load_table
from manylabel.values import LabelSet

TEXTS = [f"some words about number {row}" for row in range(10)]
SPAM = ["0", "1"] * 5


def notes(table, labels=None, **options):
    result = load_table(pa.table(table), DataSettings(**options), source="t.csv", labels=labels)
    return {finding.code: finding for finding in result.warnings}


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["yes", "no"] * 5, '"no" and "yes"'),
        (["Y", "n", " y ", "N", "n"] * 2, '"n" and "y"'),
        (["x", ""] * 5, '"x"'),
        (["t", "f"] * 5, '"f" and "t"'),
        (["yes", "no", "no", "yes", "1"] * 2, '"no" and "yes"'),
    ],
)
def test_a_column_of_yes_and_no_is_noted_with_the_ways_to_use_it(cells, words):
    note = notes({"text": TEXTS, "spam": SPAM, "urgent": cells})["D127"]
    assert note.severity == "warning"
    assert note.place == 't.csv, column "urgent"'
    assert f"it holds {words}, not 0 and 1" in note.found
    assert "write 1 and 0" in note.next_step
    assert "--label-columns" in note.next_step


@pytest.mark.parametrize(
    "cells",
    [
        ["true", "false"] * 5,
        [True, False] * 5,
        ["blue", "red"] * 5,
        ["x", "y", "z", "z", "z"] * 2,
        [""] * 10,
        [["yes"], []] * 5,
        [1.5, 2.5] * 5,
    ],
)
def test_labels_and_columns_of_something_else_are_not_noted(cells):
    assert notes({"text": TEXTS, "spam": SPAM, "other": cells}) == {}


def test_what_the_user_or_a_model_says_is_not_doubted():
    table = {"text": TEXTS, "id": ["a", "b"] * 5, "spam": SPAM, "urgent": ["yes", "no"] * 5}
    assert set(notes(table)) == {"D127", "D128"}
    assert set(notes(table, label_columns=("spam",))) == {"D128"}
    assert notes(table, LabelSet(("spam",))) == {}


def test_one_column_of_labels_beside_a_column_of_yes_and_no():
    assert notes({"text": TEXTS, "labels": ["a|b", "b"] * 5, "urgent": ["yes", "no"] * 5}) == {}


def test_an_id_column_whose_values_repeat_is_noted_with_the_ways_out():
    note = notes({"id": ["a", "b"] * 5, "text": TEXTS, "spam": SPAM})["D128"]
    assert note.severity == "warning"
    assert "2 different values in 10 rows" in note.found
    assert '--group-column "id"' in note.next_step
    assert notes({"id": ["a", "b"] * 5, "uuid": list("abcdefghij"), "text": TEXTS, "spam": SPAM}) == {}
    assert notes({"id": ["a", "b"] * 5, "text": TEXTS, "spam": SPAM}, group_column="id") == {}


def test_a_file_has_the_same_notes(tmp_path):
    path = tmp_path / "mails.csv"
    rows = [f"a,{text},{index % 2},yes" for index, text in enumerate(TEXTS)]
    path.write_text("\n".join(["id,text,spam,urgent", *rows]) + "\n")
    found = load_corpus(path, DataSettings()).warnings
    assert [(finding.code, finding.place) for finding in found] == [
        ("D127", 'mails.csv, column "urgent"'),
        ("D128", 'mails.csv, column "id"'),
    ]
