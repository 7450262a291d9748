"""A first row that is data is told, whatever the columns; names of columns are not."""

import pytest

from manylabel.config.schema import DataSettings
from manylabel.data.corpus import load_corpus, read_corpus
from manylabel.errors import DataError

ROWS = [("my parcel came late", 1), ("thanks a lot", 0), ("it is late again", 1), ("all is well", 0)] * 3


def codes(tmp_path, first, *, name="a.csv", rows=ROWS, separator=",", **options):
    path = tmp_path / name
    lines = [first, *(separator.join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    try:
        found = read_corpus(path, DataSettings(**options)).findings
    except DataError as error:
        found = error.findings
    return [(each.code, each.severity) for each in found]


@pytest.mark.parametrize("first", ["where is my order please,1", "no idea,0", '"once, twice",1'])
def test_a_first_row_that_looks_like_data_is_told(tmp_path, first):
    assert ("D129", "warning") in codes(tmp_path, first)


def test_ids_of_labels_in_a_tsv_as_goemotions_has_them(tmp_path):
    rows = [(f"a text of some words {row}", row % 4, f"ee{row}") for row in range(12)]
    found = codes(tmp_path, "My favourite food is cake\t2\tee99", name="a.tsv", rows=rows, separator="\t")
    assert ("D129", "warning") in found


@pytest.mark.parametrize(
    "first",
    ["text,late", "comment text,late", "the text of the,late", "body,1st", "text,does it come too late"],
)
def test_names_of_columns_are_not(tmp_path, first):
    assert "D129" not in dict(codes(tmp_path, first))


def test_columns_numbered_as_classes_are_names(tmp_path):
    rows = [(text, label, 1 - label, 0) for text, label in ROWS]
    assert "D129" not in dict(codes(tmp_path, "text,0,1,2", rows=rows))


def test_a_text_that_says_what_its_column_is_called_is_no_header(tmp_path):
    rows = [*((f"a comment, number {row}", row % 2) for row in range(1000)), ("comment", 0), ("comment", 1)]
    assert "D129" not in dict(
        codes(tmp_path, "comment,late", rows=[(f'"{text}"', one) for text, one in rows])
    )


def test_a_list_of_labels_that_the_rows_have_too_is_told(tmp_path):
    rows = [(f"text {row}", ("refund", "billing", "refund|praise")[row % 3]) for row in range(12)]
    assert ("D129", "warning") in codes(tmp_path, "a nice text,refund|billing", rows=rows)
    assert "D129" not in dict(codes(tmp_path, "text,kind|of", rows=rows))


def test_columns_with_some_of_the_numbers_of_classes_are_names(tmp_path):
    rows = [(text, label, 1 - label, 0) for text, label in ROWS]
    assert "D129" not in dict(codes(tmp_path, "text,1,2,5", rows=rows))


def test_what_the_user_says_of_the_first_row_holds(tmp_path):
    assert "D129" not in dict(codes(tmp_path, "no idea,0", header=True))
    assert "D129" not in dict(codes(tmp_path, "no idea,0", header=False))


def test_a_refused_file_has_the_warning_beside_its_errors(tmp_path):
    rows = [(f"text number {row}", f"another text {row}") for row in range(9)]
    found = codes(tmp_path, "the first text of all of them,the other one", rows=rows)
    assert found[0][1] == "error"
    assert found[-1] == ("D129", "warning")


def test_training_hears_of_it(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("no idea,0\n" + "".join(f"{text},{label}\n" for text, label in ROWS))
    assert "D129" in [each.code for each in load_corpus(path, DataSettings()).warnings]
