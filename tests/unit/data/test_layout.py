import json

import pyarrow as pa
import pytest

from manylabel.config.schema import DataSettings
from manylabel.data.layout import Layout, guess_layout, prediction_columns
from manylabel.errors import DataError
from manylabel.values import LabelSet

TEXTS = ["the parcel never came", "please give my money back", "thank you so much", "where is it"]


def layout_of(table, **options):
    return guess_layout(pa.table(table), DataSettings(**options), "t.csv")


def test_one_hot_columns_ids_and_unused_columns():
    found = layout_of({
        "id": ["a", "b", "c", "d"], "body": TEXTS, "price": ["9.5", "3", "7", "8"],
        "refund": ["0", "1", "0", "-1"], "late": ["1.0", "0.0", "0.0", "1.0"], "ok": ["true", "false", "False", "TRUE"],
    })  # fmt: skip
    assert (found.text_column, found.id_column, found.style) == ("body", "id", "one_hot")
    assert found.label_columns == found.label_names == ("refund", "late", "ok")
    assert found.ignored_columns == ("price",)
    assert ("not used", "price", "guessed") in found.describe()


def test_a_column_with_a_wrong_value_is_still_a_label_column():
    found = layout_of({"text": TEXTS, "refund": ["0", "1", "yes", "0"]})
    assert found.label_columns == ("refund",)


def test_the_longest_column_is_the_text():
    found = layout_of({"a": ["x", "y", "z", "w"], "b": TEXTS, "c": ["0", "1", "1", "0"]})
    assert found.text_column == "b"


@pytest.mark.parametrize(
    ("cells", "style", "separator", "names"),
    [
        (["a|b", "b", "", "c c"], "separated", "|", ("a", "b", "c c")),
        (["a, b", "b", "a", "c"], "separated", ",", ("a", "b", "c")),
        (["a;b", "b", "a", ""], "separated", ";", ("a", "b")),
        (["2 10", "10", "2", ""], "separated", " ", ("2", "10")),
        (["x/y", "z", "z", "z"], "separated", ",", ("x/y", "z")),
        (['["a", "b"]', "[]", '["a"]', "[]"], "list", None, ("a", "b")),
        (["['a', 'b']", "[]", "['a']", "[]"], "list", None, ("a", "b")),
        ([["a"], ["b", "a"], [], []], "list", None, ("a", "b")),
        ([[10], [9, 10], [], []], "list", None, ("9", "10")),
    ],
)
def test_one_column_of_labels(cells, style, separator, names):
    found = layout_of({"text": TEXTS, "tags": cells})
    assert (found.labels_column, found.style) == ("tags", style)
    assert (found.separator, found.label_names) == (separator, names)


def test_ids_with_a_names_file_and_no_header(tmp_path):
    names = tmp_path / "labels.txt"
    names.write_text("joy\nanger\nfear", encoding="utf-8")
    table = {"column_1": TEXTS, "column_2": ["0,2", "1", "2", "0"], "column_3": ["q1", "q2", "q3", "q4"]}
    found = layout_of(table, header=False, label_names=str(names))
    assert found.label_names == ("joy", "anger", "fear")
    assert found.ids_are_indices
    assert (found.text_column, found.labels_column, found.id_column) == ("column_1", "column_2", "column_3")
    by_name = layout_of({"text": TEXTS, "labels": ["joy", "fear", "joy,anger", ""]}, label_names=str(names))
    assert by_name.label_names == ("joy", "anger", "fear")
    assert not by_name.ids_are_indices


@pytest.mark.parametrize(
    ("content", "mention"),
    [("a\na\n", "row 2"), ("a\n\nb\n", "row 2"), ("", "one different name"), (None, "no such file")],
)
def test_a_wrong_names_file(tmp_path, content, mention):
    path = tmp_path / "labels.txt"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=mention):
        layout_of({"text": TEXTS, "labels": ["0", "0", "0", "0"]}, label_names=str(path))


def test_flags_win_and_are_shown_as_given():
    table = {
        "text": TEXTS,
        "note": TEXTS,
        "a": ["0", "1", "0", "1"],
        "b": ["1", "1", "0", "0"],
        "who": list("xxyy"),
    }
    found = layout_of(table, text_column="note", label_columns=("b",), group_column="who", id_column="text")
    assert (found.text_column, found.label_names, found.group_column, found.id_column) == (
        "note",
        ("b",),
        "who",
        "text",
    )
    shown = {what: origin for what, _, origin in found.describe()}
    assert shown == {
        "text": "given",
        "id": "given",
        "group": "given",
        "labels": "given",
        "not used": "guessed",
    }


def test_pairs_are_guessed_only_by_both_usual_names():
    found = layout_of({"text_a": TEXTS, "text_b": TEXTS, "same": ["0", "1", "0", "1"]})
    assert (found.text_column, found.pair_column) == ("text_a", "text_b")


def test_misspelt_and_repeated_names_are_reported_together():
    with pytest.raises(DataError) as error:
        layout_of(
            {"text": TEXTS, "toxic": ["0", "1", "0", "1"]},
            text_column="txt",
            label_columns=("Toxic", "x", "x"),
        )
    sentences = [finding.sentence() for finding in error.value.findings]
    assert any('did you mean "text"?' in sentence for sentence in sentences)
    assert any('did you mean "toxic"?' in sentence for sentence in sentences)
    assert any('"x" is given twice' in sentence for sentence in sentences)


@pytest.mark.parametrize(
    ("table", "flag"),
    [
        ({"a": TEXTS, "b": TEXTS[::-1], "c": ["0", "1", "0", "1"]}, "--text-column"),
        ({"text": TEXTS}, "--labels-column"),
        ({"n": [1, 2, 3, 4]}, "--text-column"),
        ({"text": TEXTS, "labels": ["", "", "", ""]}, "--labels-column"),
    ],
)
def test_what_cannot_be_guessed_names_the_flag(table, flag):
    with pytest.raises(DataError, match=flag):
        layout_of(table)


def test_a_layout_survives_json():
    found = layout_of({"text": TEXTS, "tags": ["a|b", "b", "", "c"]})
    assert Layout.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_models_layout_fills_what_is_open():
    stored = layout_of({"body": TEXTS, "a": ["0", "1", "0", "1"]}, text_column="body")
    table = pa.table({"subject": [text * 2 for text in TEXTS], "body": TEXTS, "a": ["0"] * 4, "b": ["1"] * 4})
    found = guess_layout(table, DataSettings(), "t.csv", labels=LabelSet(("a",)), stored=stored)
    assert (found.text_column, found.label_columns) == ("body", ("a",))


def test_columns_for_prediction():
    stored = layout_of({"body": TEXTS, "a": ["0", "1", "0", "1"]})
    both = pa.table({"subject": [text * 2 for text in TEXTS], "body": TEXTS})
    assert prediction_columns(both, DataSettings(), "t.csv", stored=stored).text == "body"
    assert (
        prediction_columns(both, DataSettings(text_column="subject"), "t.csv", stored=stored).text
        == "subject"
    )
    batch = pa.RecordBatch.from_pydict({"whatever": TEXTS})
    assert prediction_columns(batch, DataSettings(), "t.csv", stored=stored).text == "whatever"
    paired = layout_of({"text_a": TEXTS, "text_b": TEXTS, "same": ["0", "1", "0", "1"]})
    with pytest.raises(DataError, match="--pair-column"):
        prediction_columns(batch, DataSettings(), "t.csv", stored=paired)
