import numpy as np
import pyarrow as pa
import pytest

from manylabel.config.schema import DataSettings
from manylabel.data.corpus import load_corpus, load_table, texts_of, to_corpus
from manylabel.data.layout import Layout, PredictionColumns, guess_layout
from manylabel.data.memory import corpus_from_memory
from manylabel.errors import DataError
from manylabel.values import LabelSet

TEXTS = ["the parcel never came", "please give my money back", "thank you so much"]


def loaded(table, labels=None, **options):
    return load_table(pa.table(table), DataSettings(**options), source="t.csv", labels=labels)


def test_one_hot_values_in_all_spellings():
    table = {
        "text": TEXTS,
        "a": ["0", "1.0", "-1"],
        "b": [1, 0, -1],
        "c": [True, False, True],
        "d": [0.0, 1.0, -1.0],
    }
    corpus = loaded(table).corpus
    assert corpus.labels.names == ("a", "b", "c", "d")
    assert corpus.targets_NL.tolist() == [[0, 1, 1, 0], [1, 0, 0, 1], [-1, -1, 1, -1]]
    assert corpus.targets_NL.dtype == np.int8
    assert corpus.ids == ("1", "2", "3")


def test_columns_are_matched_by_name_not_by_place():
    labels = LabelSet(("b", "a"))
    corpus = loaded({"text": TEXTS, "a": ["1", "0", "0"], "b": ["0", "0", "1"]}, labels).corpus
    assert corpus.targets_NL.tolist() == [[0, 1], [0, 0], [1, 0]]


def test_missing_labels_are_errors_and_unknown_ones_warnings():
    with pytest.raises(DataError) as error:
        loaded(
            {"text": TEXTS, "Refund": ["1", "0", "0"]},
            LabelSet(("refund", "late")),
            label_columns=("Refund",),
        )
    (finding,) = error.value.findings
    assert (finding.code, finding.found) == ("D150", 'no column for the labels "refund", "late"')
    assert finding.next_step == 'did you mean "Refund" for "refund"?'
    with pytest.raises(DataError, match=r'D150.*for the label "late"\. .* Next: rename or add the column;'):
        loaded({"text": TEXTS, "refund": ["1", "0", "0"]}, LabelSet(("refund", "late")))
    # "text" is near "threat", but holds the texts; "insult" is a label of the model with a column of its own.
    with pytest.raises(DataError, match=r'D150.*for the label "threat"\. .* Next: rename or add the column;'):
        loaded({"text": TEXTS, "insult": ["1", "0", "0"]}, LabelSet(("insult", "threat")))
    with pytest.raises(DataError, match='did you mean "treat"'):
        loaded({"text": TEXTS, "treat": ["1", "0", "0"]}, LabelSet(("threat",)), label_columns=("treat",))
    result = loaded({"text": TEXTS, "a": ["1", "0", "0"], "b": ["0", "0", "1"]}, LabelSet(("a",)))
    assert [finding.code for finding in result.warnings] == ["D151"]
    assert result.corpus.targets_NL.shape == (3, 1)


def test_unknown_names_and_ids_in_a_column_are_errors_with_rows(tmp_path):
    labels = LabelSet(("anger", "joy"))
    with pytest.raises(DataError) as error:
        loaded({"text": TEXTS, "labels": ["joy", "jyo|anger", "jyo"]}, labels)
    (finding,) = error.value.findings
    assert (finding.code, finding.rows) == ("D154", (2, 3))
    assert 'did you mean "joy"?' in finding.next_step
    names = tmp_path / "names.txt"
    names.write_text("anger\njoy\n", encoding="utf-8")
    with pytest.raises(DataError, match=r'row 3: unknown label "2"\. Allowed: 0 to 1'):
        loaded({"text": TEXTS, "labels": ["0,1", "01", "2"]}, labels, label_names=str(names))


def test_positions_refer_to_the_names_file_whatever_the_models_order(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("joy\nanger\n", encoding="utf-8")
    result = loaded(
        {"text": TEXTS, "labels": ["0", "1", ""]}, LabelSet(("anger", "joy")), label_names=str(names)
    )
    assert result.corpus.targets_NL.tolist() == [[0, 1], [1, 0], [0, 0]]


def test_lists_of_names():
    corpus = loaded({"text": TEXTS, "labels": [["b", "a"], [], ["b"]]}).corpus
    assert corpus.labels.names == ("a", "b")
    assert corpus.targets_NL.tolist() == [[1, 1], [0, 0], [0, 1]]


def test_empty_texts_are_kept_with_a_warning_and_messages_hold_no_text():
    secret = "my secret words"
    result = loaded({"text": ["", "  ", secret], "a": ["0", "1", "1"]})
    (warning,) = result.warnings
    assert (warning.code, warning.rows, warning.severity) == ("D141", (1, 2), "warning")
    assert len(result.corpus) == 3
    with pytest.raises(DataError) as error:
        loaded({"text": TEXTS, "a": ["0", "1", secret]})
    assert secret not in str(error.value)
    assert "15 characters" in str(error.value)


def test_many_different_wrong_values_are_summed_up():
    values = ["0", "1"] * 40 + [str(number) for number in range(2, 42)]
    table = pa.table({"text": [f"text {row}" for row in range(120)], "a": values})
    layout = guess_layout(table, DataSettings(), "t.csv")
    _, findings = to_corpus(table, layout, "t.csv", rows_N=np.arange(1001, 1121))
    assert len(findings) == 21
    assert sum(len(finding.rows) for finding in findings) == 40
    assert findings[0].rows == (1081,)


def test_groups_pairs_and_rows_travel_along():
    table = {"text_a": TEXTS, "text_b": ["x", "y", "z"], "who": ["u", None, "u"], "a": ["0", "1", "1"]}
    corpus = loaded(table, group_column="who").corpus
    assert corpus.pairs == ("x", "y", "z")
    assert corpus.groups == ("u", "", "u")
    assert corpus.rows_N.tolist() == [1, 2, 3]


def test_frames_batches_and_tables_are_the_same():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"text": TEXTS, "a": [0, 1, 1], "kind": pandas.Categorical(["u", "v", "u"])}, index=[7, 8, 9]
    )
    options = DataSettings()
    from_frame = load_table(frame, options)
    from_table = load_table(pa.Table.from_pandas(frame, preserve_index=False), options)
    from_batch = load_table(pa.RecordBatch.from_pandas(frame, preserve_index=False), options)
    for result in (from_table, from_batch):
        assert result.layout == from_frame.layout
        assert np.array_equal(result.corpus.targets_NL, from_frame.corpus.targets_NL)
    with pytest.raises(DataError, match="cannot become"):
        load_table(5, options)
    with pytest.raises(DataError, match="cannot become"):
        load_table(pandas.DataFrame({"text": ["a", 5]}), options)
    with pytest.raises(DataError, match="no data rows"):
        load_table(frame[:0], options)


def test_texts_to_predict():
    batch = pa.RecordBatch.from_pydict({"t": ["a", "", "c"], "p": ["x", "y", "z"]})
    assert texts_of(batch, PredictionColumns("t", "p")) == (("a", "", "c"), ("x", "y", "z"))
    assert texts_of(pa.table({"t": ["a"]}), Layout("t", "one_hot", ("x",))) == (("a",), None)
    with pytest.raises(DataError, match=r'in.csv, column "t", row 12: the text is missing'):
        texts_of(pa.table({"t": ["a", None]}), PredictionColumns("t"), source="in.csv", first_row=11)
    with pytest.raises(DataError, match="int64, not text"):
        texts_of(pa.table({"t": [1, 2]}), PredictionColumns("t"))


def stored_without_header(tmp_path):
    path = tmp_path / "plain.csv"
    path.write_text("".join(f"text number {row},{'joy' if row % 2 else 'anger'}\n" for row in range(8)))
    return load_corpus(path, DataSettings(header=False))


def test_a_model_trained_without_header_reads_a_file_with_one_when_told_so(tmp_path):
    trained = stored_without_header(tmp_path)
    assert not trained.layout.header
    headed = tmp_path / "headed.csv"
    headed.write_text("text,labels\nfirst words,joy\nother words,anger\n")
    labels = trained.corpus.labels
    given = load_corpus(headed, DataSettings(header=True), labels=labels, stored=trained.layout)
    assert given.corpus.texts == ("first words", "other words")
    assert given.corpus.targets_NL.tolist() == [[0, 1], [1, 0]]
    assert given.layout.header
    plain = tmp_path / "more.csv"
    plain.write_text("first words,joy\nother words,anger\n")
    left_open = load_corpus(plain, DataSettings(), labels=labels, stored=trained.layout)
    assert len(left_open.corpus) == 2
    assert not left_open.layout.header
    refused = load_corpus(plain, DataSettings(header=False), labels=labels)
    assert len(refused.corpus) == 2


def test_empty_labels_in_lists_are_no_labels(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one", "labels": [""]}\n{"text": "two", "labels": ["joy", " "]}\n')
    corpus = load_corpus(path, DataSettings()).corpus
    assert corpus.labels.names == ("joy",)
    assert corpus.targets_NL.tolist() == [[0], [1]]
    written = loaded({"text": TEXTS, "labels": ['["", "a"]', "[]", '["b"]']})
    assert written.corpus.labels.names == ("a", "b")
    from_lists = corpus_from_memory(TEXTS, [["a", ""], [""], ["b"]], known=LabelSet(("a", "b")))
    assert from_lists.corpus.targets_NL.tolist() == [[1, 0], [0, 0], [0, 1]]


def test_a_json_key_without_name_is_no_label(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one", "": 1, "a": 0}\n{"text": "two", "": 0, "a": 1}\n')
    assert load_corpus(path, DataSettings()).corpus.labels.names == ("a",)


@pytest.mark.parametrize("columns", [(), ("",), ("a", "")])
def test_label_columns_without_a_name_are_refused(columns):
    with pytest.raises(DataError, match=r"D126.*--label-columns a,b,c"):
        loaded({"text": TEXTS, "a": ["0", "1", "1"]}, label_columns=columns)


def test_lists_of_objects_are_refused():
    with pytest.raises(DataError, match=r"D124.*lists of struct"):
        loaded({"text": TEXTS, "labels": [[{"name": "a"}], [], [{"name": "b"}]]})


@pytest.mark.parametrize(
    "other",
    [pa.array([{"k": 1}] * 3), pa.nulls(3), pa.array([[("k", 1)]] * 3, pa.map_(pa.string(), pa.int64()))],
)
def test_an_id_column_of_objects_or_nothing_is_not_used(other):
    table = pa.table({"id": other, "text": TEXTS, "a": ["0", "1", "1"]})
    assert load_table(table, DataSettings()).layout.id_column is None


SECRETS = ["Mueller", "diabetes", "555-123-4567", "4929123456781", "anna@b.de"]


@pytest.mark.parametrize("secret", SECRETS)
def test_words_of_a_wrong_column_are_not_shown(secret):
    labels = LabelSet(("anger", "joy"))
    with pytest.raises(DataError) as error:
        loaded({"text": TEXTS, "labels": ["joy", secret, "anger"]}, labels)
    assert secret not in str(error.value)
    assert f"a text of {len(secret)} characters" in str(error.value)
    with pytest.raises(DataError) as error:
        loaded({"text": TEXTS, "a": ["0", secret, "1"]})
    assert secret not in str(error.value)


def test_labels_of_a_named_column_and_misspelt_ones_are_shown():
    labels = LabelSet(("anger", "joy"))
    table = {"text": TEXTS, "labels": ["joy", "sadness", "angr"]}
    for options, shown in [({}, ("angr",)), ({"labels_column": "labels"}, ("angr", "sadness"))]:
        with pytest.raises(DataError) as error:
            loaded(table, labels, **options)
        assert [f'"{word}"' in str(error.value) for word in ("angr", "sadness")] == [
            word in shown for word in ("angr", "sadness")
        ]


def test_control_characters_never_reach_a_message():
    escape = "\x1b[2J\u202e"
    for table, options in [
        ({"text": TEXTS, f"a{escape}": ["0", "1", f"2{escape}"]}, {"label_columns": (f"a{escape}",)}),
        ({"text": TEXTS, "labels": ["joy", f"jo{escape}", "joy"]}, {"labels_column": "labels"}),
        ({f"n{escape}": [1, 2, 3]}, {"text_column": "n"}),
    ]:
        with pytest.raises(DataError) as error:
            loaded(table, LabelSet(("joy",)) if "labels" in table else None, **options)
        assert str(error.value).replace("\n", "").isprintable()
        assert r"\x1b[2J\u202e" in str(error.value)


def test_a_matrix_and_lists_of_names_from_memory():
    from_matrix = corpus_from_memory(
        TEXTS, np.array([[1, 0], [0, -1], [0, 1]]), label_names=["a", "b"]
    ).corpus
    assert from_matrix.targets_NL.tolist() == [[1, 0], [0, -1], [0, 1]]
    from_lists = corpus_from_memory(TEXTS, [["a"], [], ["b", "a"]])
    assert from_lists.corpus.targets_NL.tolist() == [[1, 0], [0, 0], [1, 1]]
    assert from_lists.layout.label_names == ("a", "b")
    known = corpus_from_memory(
        TEXTS, [[1, 0], [0, 1], [0, 0]], label_names=["a", "b"], known=LabelSet(("b", "a"))
    )
    assert known.corpus.targets_NL.tolist() == [[0, 1], [1, 0], [0, 0]]
    unnamed = corpus_from_memory(TEXTS, [[1, 0], [0, 1], [0, 0]])
    assert unnamed.corpus.labels.names == ("label_1", "label_2")


@pytest.mark.parametrize(
    ("texts", "labels", "options", "mention"),
    [
        (["a", 5], [[1], [0]], {}, "row 2: the value is not a text"),
        (["a", "b"], [[1], [2]], {}, 'label "label_1", row 2: a value is not 0, 1 or -1'),
        (["a", "b"], [0, 1], {}, "1 dimension"),
        (["a", "b"], [[1]], {}, "1 entry for 2 texts. Allowed: one a text. Next: give labels as many"),
        (["a", "b"], [["x"], ["y"]], {"known": LabelSet(("x",))}, 'row 2: unknown label "y"'),
        (["a", "b"], [[], []], {}, "no text has a label"),
        (["a", "b"], [[1, 0], [0, 1]], {"label_names": ["x"]}, "1 label name for 2 columns"),
        (["a", "b"], [[1], [0]], {"ids": ["q", "q"]}, "ids occur twice"),
        (["a", "b"], [[1], [0]], {"known": LabelSet(("x", "y")), "label_names": ["z"]}, 'labels "x", "y"'),
        (["a", "b"], [["x"], []], {"label_names": ["x", "x"]}, "names repeat"),
        (["a", "b"], [[1, 0], [0, 1]], {"label_names": ["x", ""]}, "names repeat or are empty"),
        ("ab", [[1], [0]], {}, "put it in a list"),
        ([], [], {}, "no texts"),
        (["a", "b"], [[1], [float("nan")]], {}, "row 2"),
        (["a"] * 1002, [*[["x"]] * 1001, [5]], {}, "neither a matrix nor lists of names"),
        (["a", "b"], object(), {}, "D1"),
    ],
)
def test_wrong_values_from_memory(texts, labels, options, mention):
    with pytest.raises((DataError, TypeError)) as error:
        corpus_from_memory(texts, labels, **options)
    assert isinstance(error.value, DataError)
    assert mention in str(error.value)


@pytest.mark.data
def test_goemotions_labels(data_folder):
    folder = data_folder / "goemotions"
    options = DataSettings(header=False, label_names=str(folder / "labels.txt"))
    train = load_corpus(folder / "dev.tsv", options)
    assert train.warnings == ()
    assert (train.layout.text_column, train.layout.labels_column, train.layout.id_column) == (
        "column_1", "column_2", "column_3")  # fmt: skip
    again = load_corpus(folder / "test.tsv", DataSettings(), labels=train.corpus.labels, stored=train.layout)
    assert len(again.corpus) == 5_427
    assert (
        dict(zip(again.corpus.labels.names, again.corpus.targets_NL.sum(axis=0).tolist(), strict=True))[
            "neutral"
        ]
        == 1_787
    )
