"""Zones on rows: counted by hand, and with groups."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from manylabel.decisions.abstain import ABOVE_ALL, Zones
from manylabel.decisions.binomial import clustered_interval
from manylabel.evaluation.review import review_figures

ZONES = Zones(("a", "b"), np.array([0.4, 0.5]), np.array([0.6, ABOVE_ALL]), (None, None), (None, None))
#             a in the zone: rows 2 and 3    b in the zone: rows 0 and 3, 'yes' is never sure
PROBABILITIES_NL = np.array([[0.9, 0.7], [0.1, 0.2], [0.5, 0.1], [0.4, 0.99], [0.8, 0.3], [0.2, 0.4]])
TARGETS_NL = np.array([[1, 1], [0, 1], [1, 0], [0, 1], [0, -1], [1, 0]], np.int8)
DECISIONS_NL = PROBABILITIES_NL >= 0.5


def test_the_work_and_what_is_decided_outside_are_counted():
    found = review_figures(ZONES, TARGETS_NL, PROBABILITIES_NL, DECISIONS_NL)
    assert (found.rows.count, found.rows.total) == (3, 6)
    assert found.rows.interval == pytest.approx(tuple(binomtest(3, 6).proportion_ci(0.95, method="exact")))
    a, b = found.labels["a"], found.labels["b"]
    assert (a.sent.count, a.sent.total) == (2, 6)
    # Outside: rows 0 (right), 1 (right), 4 (a false alarm), 5 (a miss).
    assert (a.accuracy.count, a.accuracy.total) == (2, 4)
    assert (a.precision.count, a.precision.total) == (1, 2)
    assert (a.missed.count, a.missed.total) == (1, 3)
    # Rows 1 (a miss), 2 and 5 (right); row 4 is not annotated.
    assert (b.accuracy.count, b.accuracy.total) == (2, 3)
    assert (b.precision.share, b.precision.interval) == (None, None)
    assert (b.missed.count, b.missed.total) == (1, 3)
    assert (found.cells.sent.count, found.cells.sent.total) == (4, 12)
    assert (found.cells.accuracy.count, found.cells.accuracy.total) == (4, 7)


def test_cells_of_a_row_and_rows_of_a_group_are_one_unit():
    groups = ["x", "x", "y", "y", "z", "z"]
    alone = review_figures(ZONES, TARGETS_NL, PROBABILITIES_NL, DECISIONS_NL)
    inside_NL = ZONES.inside(PROBABILITIES_NL)
    assert alone.cells.sent.interval == pytest.approx(
        clustered_interval(inside_NL.sum(axis=1), np.full(6, 2))
    )
    together = review_figures(
        ZONES, TARGETS_NL, PROBABILITIES_NL, DECISIONS_NL, groups_N=groups, confidence=0.9
    )
    assert together.rows.interval == pytest.approx(
        clustered_interval(np.array([1, 2, 0]), np.full(3, 2), confidence=0.9)
    )
    assert together.rows.count == alone.rows.count


def test_json_is_plain():
    content = review_figures(ZONES, TARGETS_NL, PROBABILITIES_NL, DECISIONS_NL).to_json()
    assert json.loads(json.dumps(content, allow_nan=False)) == content
    assert content["labels"]["b"]["high"] == ABOVE_ALL
    assert content["labels"]["b"]["precision"] == {"count": 0, "of": 0, "share": None, "interval": None}
    nothing = review_figures(ZONES, TARGETS_NL[:0], PROBABILITIES_NL[:0], DECISIONS_NL[:0])
    assert (nothing.rows.share, nothing.cells.accuracy.interval) == (None, None)
