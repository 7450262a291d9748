"""Properties of reading and splitting that must hold for all inputs."""

from __future__ import annotations

import csv
import gzip
import json
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from manylabel.config.schema import DataSettings
from manylabel.data.duplicates import duplicate_groups
from manylabel.data.read import read_rows, read_table
from manylabel.data.split import split_corpus, with_groups
from manylabel.data.words import counted_words, jaccard, normalized
from manylabel.errors import DataError
from manylabel.values import Corpus, LabelSet

pytestmark = pytest.mark.slow  # many seconds together

TRAPS = [
    "NA",
    "null",
    "001",
    "",
    " ",
    '"',
    '""',
    ",",
    ";",
    "\t",
    "\n",
    "\r\n",
    "\r",
    "|",
    "=1+1",
    "😀",
    "\ufeff",
    "\0",
]
TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.lists(st.sampled_from(TRAPS), max_size=5).map("".join),
)
ROWS = st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12)


def written(folder: Path, name: str, rows) -> Path:
    path = folder / name
    if name.endswith(".parquet"):
        table = pa.table({"a": pa.array([row[0] for row in rows]), "b": pa.array([row[1] for row in rows])})
        pq.write_table(table, path)
    elif "jsonl" in name:
        lines = [json.dumps({"a": first, "b": second}, ensure_ascii=index % 2 == 0)
                 for index, (first, second) in enumerate(rows)]  # fmt: skip
        content = ("\n".join(lines) + "\n").encode()
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    else:
        separator = "\t" if name.endswith(".tsv") else ","
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    return path


@settings(max_examples=300)
@given(ROWS, st.sampled_from(["t.csv", "t.tsv", "t.jsonl", "t.jsonl.gz", "t.parquet"]))
@example(rows=[("\t\n", "")], name="t.tsv")
def test_texts_survive_reading_unchanged(rows, name):
    with tempfile.TemporaryDirectory() as folder:
        table = read_table(written(Path(folder), name, rows), DataSettings())
    assert table["a"].to_pylist() == [row[0] for row in rows]
    assert table["b"].to_pylist() == [row[1] for row in rows]


@settings(max_examples=300)
@given(st.lists(st.lists(st.text("ab, 1", max_size=4), min_size=1, max_size=5), min_size=1, max_size=20))
def test_rows_in_are_rows_out_plus_rows_reported(rows):
    """Unquoted lines of any width: the reader keeps those of two cells and reports all others that are not blank."""
    lines = [",".join(row) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        path.write_text("a,b\n" + "x,y\n" * 300 + "\n".join(lines) + "\n", encoding="utf-8")
        result = read_rows(path, DataSettings())
    expected = [line.split(",") for line in lines if line]
    good = [row for row in expected if len(row) == 2]
    kept = list(zip(*(result.table[name].to_pylist()[300:] for name in ("a", "b")), strict=True))
    assert kept == [tuple(row) for row in good]
    reported = sorted(row for finding in result.findings for row in finding.rows)
    assert reported == [301 + index for index, row in enumerate(expected) if len(row) != 2]
    assert sorted([*result.rows_N.tolist(), *reported]) == list(range(1, 301 + len(expected)))


@st.composite
def corpora(draw):
    count = draw(st.integers(1, 60))
    num_labels = draw(st.integers(1, 4))
    cells = st.sampled_from([-1, 0, 0, 1])
    targets = draw(
        st.lists(st.lists(cells, min_size=num_labels, max_size=num_labels), min_size=count, max_size=count)
    )
    texts = draw(
        st.lists(st.integers(0, 30).map(lambda number: f"text {number}"), min_size=count, max_size=count)
    )
    groups = draw(
        st.none() | st.lists(st.sampled_from(["", "", "x", "y", "z"]), min_size=count, max_size=count)
    )
    names = tuple(f"label {index}" for index in range(num_labels))
    ids = tuple(map(str, range(count)))
    return Corpus("t", tuple(texts), LabelSet(names), np.array(targets, dtype=np.int8), ids,
                  np.arange(1, count + 1), groups=None if groups is None else tuple(groups))  # fmt: skip


def check_split(corpus, *, validation, test, similarity, seed):
    """Complete, disjoint, clusters whole, no wanted part empty, repeatable; refused only with too few clusters."""
    options = {
        "validation_fraction": validation,
        "test_fraction": test,
        "near_duplicate_similarity": similarity,
    }
    clusters_N = with_groups(duplicate_groups(corpus.texts, similarity=similarity), corpus.groups)
    if len(set(clusters_N.tolist())) < 1 + (validation > 0) + (test > 0):
        with pytest.raises(DataError, match="D171"):
            split_corpus(corpus, **options, seed=seed)
        return
    splits = split_corpus(corpus, **options, seed=seed)
    parts = [splits.train, splits.validation, splits.test]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(corpus)))
    assert [len(part) > 0 for part in parts] == [True, validation > 0, test > 0]
    sides = [set(clusters_N[part].tolist()) for part in parts]
    assert sum(map(len, sides)) == len(set.union(*sides))
    again = split_corpus(corpus, **options, seed=seed)
    assert all(
        np.array_equal(a, b) for a, b in zip(parts, [again.train, again.validation, again.test], strict=True)
    )


VALIDATION_FRACTIONS = st.sampled_from([0.0, 0.1, 0.15, 0.4])
TEST_FRACTIONS = st.sampled_from([0.0, 0.15, 0.4])


@settings(max_examples=200)
@given(corpora(), VALIDATION_FRACTIONS, TEST_FRACTIONS, st.integers(0, 5))
def test_splits_are_complete_disjoint_and_keep_clusters(corpus, validation, test, seed):
    check_split(corpus, validation=validation, test=test, similarity=1.0, seed=seed)


@settings(max_examples=60)
@given(corpora(), st.data(), VALIDATION_FRACTIONS, TEST_FRACTIONS, st.integers(0, 5))
def test_near_duplicates_stay_together(corpus, data, validation, test, seed):
    """Few long texts, each with another last word: 21 of 22 or 23 words are common, so all are near."""
    count = len(corpus)
    stems = data.draw(st.lists(st.integers(0, 12), min_size=count, max_size=count))
    endings = data.draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
    texts = tuple(
        " ".join(f"w{stem}x{index}" for index in range(21)) + f" end{ending}"
        for stem, ending in zip(stems, endings, strict=True)
    )
    clusters_N = duplicate_groups(texts, similarity=0.8)
    assert [stems.index(stem) for stem in stems] == clusters_N.tolist()
    near = replace(corpus, texts=texts)
    check_split(near, validation=validation, test=test, similarity=0.8, seed=seed)


@settings(max_examples=100)
@given(st.integers(3, 12), st.integers(30, 120), st.integers(0, 20))
def test_a_label_with_three_positives_is_in_every_part(positives, count, seed):
    """Distinct texts and one rare label, so that no cluster stands in the way."""
    targets = np.zeros((count, 2), dtype=np.int8)
    targets[np.random.default_rng(seed).choice(count, positives, replace=False), 0] = 1
    targets[::2, 1] = 1
    texts = tuple(f"text {index}" for index in range(count))
    corpus = Corpus("t", texts, LabelSet(("rare", "common")), targets, texts, np.arange(1, count + 1))
    splits = split_corpus(
        corpus, validation_fraction=0.15, test_fraction=0.15, near_duplicate_similarity=0.8, seed=seed
    )
    assert splits.unjudged == ()
    for part in (splits.train, splits.validation, splits.test):
        assert targets[part, 0].any()
    assert abs(len(splits.test) - 0.15 * count) <= 3


@given(st.text(), st.text())
def test_normalising_is_idempotent_on_keys_and_similarity_is_symmetric(first, second):
    assert " ".join(normalized(first).split()) == normalized(first)
    one, two = counted_words(first * 9), counted_words(second * 9)
    assert jaccard(one, two) == jaccard(two, one)
    assert len(one) == 0 or jaccard(one, one) == 1.0


FEW_WORDS = st.lists(st.sampled_from(["no", "yes", "a", "b", "I", "you"]), min_size=6, max_size=30)


@given(FEW_WORDS, FEW_WORDS, st.randoms())
def test_similarity_is_that_of_bags_of_words(first, second, random):
    """Smaller counts over greater counts, word by word, as `collections.Counter` has them; order does not matter."""
    one, two = Counter(map(str.casefold, first)), Counter(map(str.casefold, second))
    expected = (one & two).total() / (one | two).total()
    assert jaccard(counted_words(" ".join(first)), counted_words(" ".join(second))) == pytest.approx(expected)
    other_order = random.sample(first, len(first))
    assert np.array_equal(counted_words(" ".join(first)), counted_words(" ".join(other_order)))


@given(st.integers(10, 60), st.integers(0, 10**6))
def test_one_word_of_ten_or_more_may_change(count, seed):
    """It leaves n - 1 of n + 1 words common: 0.82 for ten, far above the default similarity."""
    words = [f"w{seed}x{index}" for index in range(count)]
    changed = [*words[:3], "other", *words[4:]]
    groups = duplicate_groups([" ".join(words), " ".join(changed)], similarity=0.65)
    assert groups.tolist() == [0, 0]


@given(st.lists(st.text(max_size=5), max_size=30), st.randoms())
def test_exact_groups_are_the_classes_of_equal_keys(texts, random):
    random.shuffle(texts)
    groups = duplicate_groups(texts, similarity=1.0)
    keys = [normalized(text) for text in texts]
    assert [keys.index(key) for key in keys] == groups.tolist()
