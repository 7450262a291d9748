"""Expected numbers come from scikit-learn row by row, from all orders of tied labels, or are worked by hand."""

from itertools import pairwise, permutations

import numpy as np
import pytest
import sklearn.metrics as reference

from manylabel.evaluation import metrics
from manylabel.evaluation.metrics import Measured
from manylabel.evaluation.ranking import (
    mean_of_rows,
    per_row_coverage,
    per_row_lrap,
    per_row_ndcg_at,
    per_row_precision_at,
    per_row_ranking_loss,
    per_row_rankings,
    per_row_recall_at,
    ranking_means,
)

AT_K = {"precision": per_row_precision_at, "recall": per_row_recall_at, "ndcg": per_row_ndcg_at}
WHOLE_ROWS = {
    "coverage_error": (per_row_coverage, reference.coverage_error),
    "ranking_loss": (per_row_ranking_loss, reference.label_ranking_loss),
    "lrap": (per_row_lrap, reference.label_ranking_average_precision_score),
}


@pytest.fixture(params=[np.float32, np.float64])
def tied(request):
    """200 rows of 7 labels, many ties, some rows without a label and some with all."""
    generator = np.random.default_rng(3)
    targets_RL = (generator.random((200, 7)) < generator.random((200, 1))).astype(np.int8)
    targets_RL[:5], targets_RL[5:10] = 0, 1
    probabilities_RL = np.round(generator.random((200, 7)), 1).astype(request.param)
    return targets_RL, probabilities_RL


@pytest.mark.parametrize("name", WHOLE_ROWS)
def test_whole_rows_agree_with_scikit_learn(tied, name, monkeypatch):
    monkeypatch.setattr(metrics, "CELLS_PER_CHUNK", 50)
    per_row, score = WHOLE_ROWS[name]
    ours_R = per_row(*tied)
    one_by_one = [score(targets[None], scores[None]) for targets, scores in zip(*tied, strict=True)]
    assert ours_R.tolist() == pytest.approx(one_by_one, abs=1e-12)
    assert ranking_means(*tied)[name].value == pytest.approx(score(*tied), abs=1e-12)
    assert ours_R[:5].tolist() == [1.0 if name == "lrap" else 0.0] * 5


@pytest.mark.parametrize("k", [1, 3, 5, 7])
def test_ndcg_agrees_with_scikit_learn(tied, k):
    targets_RL, probabilities_RL = tied
    ours_R = per_row_ndcg_at(targets_RL, probabilities_RL, k)
    labelled_R = targets_RL.any(axis=1)
    assert np.isnan(ours_R[~labelled_R]).all()
    assert not labelled_R[:5].any()
    expected = [
        reference.ndcg_score(targets[None], scores[None], k=k)
        for targets, scores in zip(targets_RL[labelled_R], probabilities_RL[labelled_R], strict=True)
    ]
    assert ours_R[labelled_R].tolist() == pytest.approx(expected, abs=1e-12)


def at_every_order(targets, scores, k):
    """Precision, recall and nDCG at k, averaged over all orders of the labels that sort by falling score."""
    orders = [
        order for order in permutations(range(len(scores)))
        if all(scores[one] >= scores[other] for one, other in pairwise(order))
    ]  # fmt: skip
    discounts = [1 / np.log2(rank + 2) for rank in range(k)]
    ideal = sum(discounts[: int(targets.sum())])
    hits = np.array([[targets[label] for label in order[:k]] for order in orders])
    found = hits.sum(axis=1).mean()
    return found / k, found / targets.sum(), (hits @ discounts).mean() / ideal


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_ties_are_averaged_over_all_their_orders(k):
    generator = np.random.default_rng(k)
    targets_RL = (generator.random((25, 5)) < 0.5).astype(np.int8)
    targets_RL[:, 0] |= ~targets_RL.any(axis=1)
    probabilities_RL = generator.choice([0.2, 0.5, 0.9], size=(25, 5))
    expected = [
        at_every_order(targets, scores, k)
        for targets, scores in zip(targets_RL, probabilities_RL, strict=True)
    ]
    ours = np.stack([per_row(targets_RL, probabilities_RL, k) for per_row in AT_K.values()], axis=1)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def test_hand_worked_rows():
    targets_RL = np.array([[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1]], dtype=np.int8)
    # Ranked: 1 0 1 0 - then the one label shares the second place with two others.
    probabilities_RL = np.array([[0.9, 0.8, 0.7, 0.1], [0.9, 0.5, 0.5, 0.5], [0.5] * 4, [0.1, 0.2, 0.3, 0.4]])
    rows = targets_RL, probabilities_RL
    assert per_row_coverage(*rows).tolist() == [3, 4, 0, 4]
    # Pairs in the wrong order: 1 of 4; all 3, two of them tied.
    assert per_row_ranking_loss(*rows).tolist() == [1 / 4, 1.0, 0.0, 0.0]
    assert per_row_lrap(*rows).tolist() == pytest.approx([(1 + 2 / 3) / 2, 1 / 4, 1.0, 1.0])
    np.testing.assert_allclose(per_row_precision_at(*rows, 1), [1, 0, np.nan, 1])
    np.testing.assert_allclose(per_row_precision_at(*rows, 2), [1 / 2, 1 / 3 / 2, np.nan, 1])
    np.testing.assert_allclose(per_row_recall_at(*rows, 1), [1 / 2, 0, np.nan, 1 / 4])
    np.testing.assert_allclose(per_row_recall_at(*rows, 3), [1, 2 / 3, np.nan, 3 / 4])
    first = (1 + 1 / np.log2(4)) / (1 + 1 / np.log2(3))
    second = (1 / np.log2(3) + 1 / np.log2(4)) / 3
    np.testing.assert_allclose(per_row_ndcg_at(*rows, 3), [first, second, np.nan, 1])


def test_all_at_once_is_each_alone(tied):
    together = per_row_rankings(*tied)
    alone = {name: per_row(*tied) for name, (per_row, _) in WHOLE_ROWS.items()}
    alone |= {f"{name}_at_{k}": per_row(*tied, k) for name, per_row in AT_K.items() for k in (1, 3, 5)}
    assert together.keys() == alone.keys()
    for name, values_R in alone.items():
        np.testing.assert_array_equal(together[name], values_R)
        assert ranking_means(*tied)[name].value == pytest.approx(np.nanmean(values_R), abs=1e-12)


@pytest.mark.parametrize("per_row", AT_K.values())
@pytest.mark.parametrize("k", [0, -1, 8])
def test_impossible_cuts_are_refused(tied, per_row, k):
    with pytest.raises(ValueError, match="allowed are 1 to 7"):
        per_row(*tied, k)


def test_shapes_that_disagree_are_refused():
    with pytest.raises(ValueError, match="disagree"):
        per_row_lrap(np.zeros((2, 3), dtype=np.int8), np.zeros((3, 3)))


def test_means_without_a_meaning_say_why():
    assert mean_of_rows(np.zeros(0)) == Measured(None, "no row has all labels annotated")
    assert mean_of_rows(np.array([np.nan])) == Measured(None, "no positive rows")
    assert mean_of_rows(np.array([np.nan, 0.25, 0.75])) == Measured(0.5)
    one = ranking_means(np.ones((2, 1), dtype=np.int8), np.ones((2, 1)))
    assert {each.reason for each in one.values()} == {"one label cannot be ranked against others"}
