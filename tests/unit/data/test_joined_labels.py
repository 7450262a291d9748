"""Texts and labels of two files, matched by id; every refusal by name and row."""

import pytest

from manylabel.config.schema import DataSettings
from manylabel.data.joined_labels import join_labels
from manylabel.errors import DataError
from manylabel.values import LabelSet

NAMES = LabelSet(("mild", "bad"))
TEXTS = "id,comment_text\n007,one text here\n1e5,another text\nx3,a third text\n"
LABELS = "id,mild,bad\nx3,1,0\n007,-1,-1\n1e5,0,1\n"


def join(folder, texts=TEXTS, labels=LABELS, **options):
    (folder / "test.csv").write_text(texts)
    (folder / "test_labels.csv").write_text(labels)
    return join_labels(
        folder / "test.csv",
        folder / "test_labels.csv",
        DataSettings(**options),
        names=NAMES,
        stored=None,
    )


def refused(folder, **files):
    with pytest.raises(DataError) as error:
        join(folder, **files)
    return [(each.code, each.place, each.found, each.rows) for each in error.value.findings]


def test_rows_are_matched_by_id_in_the_order_of_the_texts(tmp_path):
    table = join(tmp_path)
    assert table.to_pydict() == {
        "id": ["007", "1e5", "x3"],
        "comment_text": ["one text here", "another text", "a third text"],
        "mild": ["-1", "0", "1"],
        "bad": ["-1", "1", "0"],
    }


def test_ids_that_do_not_match_are_told_by_file_and_row(tmp_path):
    found = refused(tmp_path, labels="id,mild,bad\nx3,1,0\nx3,0,0\n,0,0\nno,0,1\n1e5,0,1\n")
    assert found == [
        ("D189", 'test.csv, column "id"', "the id is not in test_labels.csv", (1,)),
        ("D189", 'test_labels.csv, column "id"', "the id is empty", (3,)),
        ("D189", 'test_labels.csv, column "id"', "the id occurs twice", (1, 2)),
        ("D189", 'test_labels.csv, column "id"', "the id is not in test.csv", (4,)),
    ]


def test_a_wrong_label_is_told_with_the_row_of_its_own_file(tmp_path):
    found = refused(tmp_path, labels="id,mild,bad\nx3,1,0\n007,-1,2\n1e5,0,1\n")
    assert found == [("D152", 'test_labels.csv, column "bad"', 'the value is "2"', (2,))]


def test_problems_of_ids_rows_and_cells_come_together(tmp_path):
    found = refused(
        tmp_path, texts=TEXTS + "y,too,many\n", labels="id,mild,bad\nx3,1,9\n007,0,0\n1e5,0,1\nq,1,1\n"
    )
    assert [(code, rows) for code, _, _, rows in found] == [("D107", (4,)), ("D189", (4,)), ("D152", (1,))]


def test_a_label_column_that_is_missing_or_in_both_files_is_refused(tmp_path):
    (missing,) = refused(tmp_path, labels="id,mild\nx3,1\n007,0\n1e5,0\n")
    assert missing[:2] == ("D150", "test_labels.csv")
    (twice,) = refused(tmp_path, texts="id,comment_text,bad\n007,one,0\n1e5,two,0\nx3,three,1\n")
    assert twice[::2] == ("D158", 'labels are in both files: "bad"')


def test_files_without_a_common_id_column_are_refused(tmp_path):
    (found,) = refused(tmp_path, labels=LABELS.replace("id,", "key,", 1))
    assert found[::2] == ("D157", "the files have no id column in common")
    with pytest.raises(DataError) as error:
        join(tmp_path, id_column="number")
    assert "number" in str(error.value)


def test_another_id_column_is_used_when_it_is_named(tmp_path):
    texts, labels = (each.replace("id,", "nr,", 1) for each in (TEXTS, LABELS))
    table = join(tmp_path, texts=texts, labels=labels, id_column="nr")
    assert table["nr"].to_pylist() == ["007", "1e5", "x3"]
