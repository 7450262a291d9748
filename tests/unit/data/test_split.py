import os
import subprocess
import sys
import time

import numpy as np
import pytest

from manylabel.data.split import split_corpus
from manylabel.errors import ConfigError, DataError
from manylabel.values import Corpus, LabelSet

pytestmark = pytest.mark.slow  # many seconds together

FRACTIONS = {"validation_fraction": 0.15, "test_fraction": 0.15}


def corpus_of(targets, texts=None, groups=None):
    targets = np.asarray(targets, dtype=np.int8)
    texts = texts or [f"text {row}" for row in range(len(targets))]
    names = tuple(f"label {column}" for column in range(targets.shape[1]))
    ids = tuple(map(str, range(len(targets))))
    return Corpus(
        "t", tuple(texts), LabelSet(names), targets, ids, np.arange(1, len(targets) + 1), groups=groups
    )


def split(corpus, seed=1, similarity=1.0, **fractions):
    return split_corpus(corpus, **(FRACTIONS | fractions), near_duplicate_similarity=similarity, seed=seed)


def sizes(splits):
    return len(splits.train), len(splits.validation), len(splits.test)


def test_160_000_rows_keep_prevalence_within_two_percent_in_five_seconds():
    """Six labels with the prevalences of the Toxic Comment Classification Challenge."""
    generator = np.random.default_rng(0)
    prevalence = np.array([0.096, 0.010, 0.053, 0.003, 0.049, 0.0088])
    targets = generator.random((160_000, 6)) < prevalence
    corpus = corpus_of(targets)
    started = time.perf_counter()
    splits = split(corpus)
    assert time.perf_counter() - started < 5
    assert sizes(splits) == pytest.approx((112_000, 24_000, 24_000), rel=0.005)
    for part in (splits.train, splits.validation, splits.test):
        ratio = targets[part].mean(axis=0) / targets.mean(axis=0)
        enough = targets.sum(axis=0) >= 500
        assert np.abs(ratio[enough] - 1).max() < 0.02


def test_a_long_tail_of_rare_labels_is_in_every_part():
    generator = np.random.default_rng(1)
    targets = generator.random((500, 30)) < 0.3 / np.arange(1, 31) ** 1.2
    splits = split(corpus_of(targets))
    counts = targets.sum(axis=0)
    assert counts.min() < 3
    assert all(counts[int(name.split()[1])] < 3 for _, name in splits.unjudged)
    assert sizes(splits) == pytest.approx((350, 75, 75), abs=8)


def test_groups_and_duplicates_stay_together():
    generator = np.random.default_rng(2)
    targets = generator.random((600, 3)) < 0.2
    groups = tuple(f"author {number}" if number < 60 else "" for number in generator.integers(0, 120, 600))
    texts = [f"text {number}" for number in generator.integers(0, 400, 600)]
    splits = split(corpus_of(targets, texts, groups))
    side = np.zeros(600, dtype=int)
    side[splits.validation], side[splits.test] = 1, 2
    for column in (groups, texts):
        for value in set(column) - {""}:
            assert len({side[row] for row in range(600) if column[row] == value}) == 1
    assert sizes(splits) == pytest.approx((420, 90, 90), abs=30)


def test_a_giant_group_goes_to_training():
    targets = np.tile([[0, 1], [1, 0]], (100, 1))
    groups = tuple("bulk" if row < 120 else "" for row in range(200))
    splits = split(corpus_of(targets, groups=groups))
    assert set(range(120)) <= set(splits.train.tolist())
    assert sizes(splits) == pytest.approx((140, 30, 30), abs=3)


def test_not_annotated_counts_as_no():
    targets = np.full((100, 2), -1)
    targets[:10, 0] = 1
    splits = split(corpus_of(targets))
    assert (targets[splits.test, 0] == 1).any()
    assert {name for _, name in splits.unjudged} == {"label 1"}
    assert {finding.severity for finding in splits.warnings} == {"warning"}
    assert "label 1" in splits.warnings[0].sentence()


@pytest.mark.parametrize("count", range(3, 8))
def test_tiny_corpora_leave_no_part_empty(count):
    splits = split(corpus_of([[1]] * count))
    assert sum(sizes(splits)) == count
    assert min(sizes(splits)) >= 1


NEAR = [f"please give my money back for the parcel that never came today {number}" for number in range(40)]


@pytest.mark.parametrize(
    ("options", "fractions", "mentions"),
    [
        ({"texts": ["same"] * 40}, {}, ("40 rows", "1 cluster of duplicates", "split.test_fraction=0")),
        ({"groups": ("one author",) * 40}, {}, ("or of one group", "--group-column", "--validation")),
        (
            {"groups": ("u", "v") * 20},
            {},
            ("2 clusters", "at least 3, one for each of train, validation, test"),
        ),
        ({"texts": NEAR}, {}, ("1 cluster", "--validation")),
        ({"texts": NEAR}, {"test_fraction": 0.0}, ("one for each of train, validation.",)),
    ],
)
def test_rows_that_cannot_be_divided_are_refused(options, fractions, mentions):
    corpus = corpus_of([[0, 1], [1, 0]] * 20, **options)
    with pytest.raises(DataError) as error:
        split(corpus, similarity=0.8, **fractions)
    (finding,) = error.value.findings
    assert finding.code == "D171"
    for mention in mentions:
        assert mention in finding.sentence()


def test_two_groups_are_enough_for_two_parts():
    corpus = corpus_of([[0, 1], [1, 0]] * 20, groups=("u", "v") * 20)
    assert sizes(split(corpus, test_fraction=0.0)) == (20, 20, 0)


@pytest.mark.parametrize(("validation", "test"), [(0.15, 0.0), (0.0, 0.2), (0.0, 0.0)])
def test_parts_that_are_not_wanted_are_empty(validation, test):
    targets = np.tile([[0, 1], [1, 0]], (100, 1))
    splits = split(corpus_of(targets), validation_fraction=validation, test_fraction=test)
    assert len(splits.validation) == pytest.approx(200 * validation, abs=2)
    assert len(splits.test) == pytest.approx(200 * test, abs=2)
    assert (validation > 0) == bool(len(splits.validation))
    assert (test > 0) == bool(len(splits.test))


def test_fractions_that_leave_nothing_are_refused():
    with pytest.raises(ConfigError, match="too little for training"):
        split(corpus_of([[1], [0]]), validation_fraction=0.5, test_fraction=0.5)


def test_seeds_differ_and_hash_seeds_do_not_matter():
    code = """
import hashlib, numpy as np
from manylabel.data.split import split_corpus
from manylabel.values import Corpus, LabelSet
targets = (np.random.default_rng(0).random((300, 4)) < 0.2).astype(np.int8)
texts = tuple(f"some text with many words number {row // 2} and then the rest {row // 2}" for row in range(300))
groups = tuple("g%d" % (row % 90) for row in range(300))
corpus = Corpus("t", texts, LabelSet(("a", "b", "c", "d")), targets, tuple(map(str, range(300))),
                np.arange(1, 301), groups=groups)
for seed in (1, 2):
    parts = split_corpus(corpus, validation_fraction=0.15, test_fraction=0.15, near_duplicate_similarity=0.8, seed=seed)
    rows = [part.tolist() for part in (parts.train, parts.validation, parts.test)]
    print(hashlib.sha256(repr(rows).encode()).hexdigest())
"""
    outputs = []
    for hash_seed in ("0", "4242"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        outputs.append(done.stdout.split())
    assert outputs[0] == outputs[1]
    assert outputs[0][0] != outputs[0][1]


@pytest.mark.data
@pytest.mark.slow
def test_jigsaw_splits_evenly(data_folder):
    from manylabel.config.schema import DataSettings
    from manylabel.data.corpus import load_corpus

    corpus = load_corpus(data_folder / "jigsaw" / "validation.csv", DataSettings()).corpus
    splits = split(corpus, similarity=0.8)
    assert splits.unjudged == ()
    toxic = corpus.targets_NL[:, 0]
    assert toxic[splits.test].mean() == pytest.approx(toxic.mean(), rel=0.03)
