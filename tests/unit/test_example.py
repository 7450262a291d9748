"""The shipped example keeps its promises: size, labels, variety, no near duplicates."""

import csv
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from datasketch import MinHash

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "customer_emails.csv"
LABELS = (
    "refund",
    "delivery",
    "damaged_item",
    "billing",
    "account_access",
    "cancel",
    "technical_problem",
    "service_complaint",
    "praise",
    "product_question",
)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    with EXAMPLE.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def targets_NL(rows):
    return np.array([[int(row[label]) for label in LABELS] for row in rows])


def test_columns_and_size(rows):
    assert list(rows[0]) == ["id", "text", *LABELS]
    assert len(rows) >= 900
    assert len({row["id"] for row in rows}) == len(rows)


def test_labels(targets_NL):
    prevalence_L = targets_NL.mean(axis=0)
    per_row_N = targets_NL.sum(axis=1)
    assert 0.03 <= prevalence_L.min() <= 0.04
    assert (per_row_N >= 2).mean() >= 0.35
    assert (per_row_N == 0).sum() >= 20
    assert per_row_N.max() >= 3


def test_lengths_vary(rows):
    words_N = np.array([len(row["text"].split()) for row in rows])
    assert words_N.max() <= 200
    assert np.quantile(words_N, 0.1) <= 15
    assert np.quantile(words_N, 0.9) >= 90


def test_greetings_and_openings_vary(rows):
    openings = {" ".join(row["text"].lower().split()[:4]) for row in rows}
    assert len(openings) >= 0.9 * len(rows)


def test_no_near_duplicates(rows):
    hashes = []
    for row in rows:
        sketch = MinHash(num_perm=128, seed=1)
        sketch.update_batch([word.encode() for word in set(re.findall(r"\w+", row["text"].lower()))])
        hashes.append(sketch.hashvalues)
    hashes_NP = np.array(hashes)
    similar = [
        (first, second)
        for first, second in combinations(range(len(rows)), 2)
        if (hashes_NP[first, :16] == hashes_NP[second, :16]).sum() >= 3
        and (hashes_NP[first] == hashes_NP[second]).mean() >= 0.5
    ]
    assert similar == []
