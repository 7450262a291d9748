"""References: scikit-learn with `sample_weight`, and `evaluate` on a table in which rows stand as often as drawn."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from manylabel.decisions.thresholds import Thresholds
from manylabel.evaluation.evaluate import evaluate
from manylabel.evaluation.weighted import Judged, Ranking, WeightedFigures

NUM_LABELS = 5
SETTINGS = Thresholds(
    tuple("abcde"), np.array([0.3, 0.4, 0.5, 0.6, 0.35]), np.ones(5, dtype=np.bool_), (None,) * 5
)


def make_case(seed=7, num_rows=300, decimals=2, hidden=0.1):
    """Two decimals make equal scores frequent; a tenth of the cells is not annotated."""
    generator = np.random.default_rng(seed)
    targets_NL = (generator.random((num_rows, NUM_LABELS)) < [0.1, 0.3, 0.5, 0.7, 0.03]).astype(np.int8)
    noise_NL = generator.random((num_rows, NUM_LABELS))
    probabilities_NL = np.round(0.3 * targets_NL + 0.7 * noise_NL, decimals)
    # Whole rows, so that complete ones remain, and single cells.
    targets_NL[generator.random(num_rows) < hidden, generator.integers(0, NUM_LABELS)] = -1
    targets_NL[generator.random((num_rows, NUM_LABELS)) < hidden / 5] = -1
    return targets_NL, probabilities_NL, generator


def figures_of(targets_NL, probabilities_NL, thresholds=SETTINGS, costs=(1.0, 1.0)):
    decisions_NL = thresholds.decide(probabilities_NL)
    return WeightedFigures(Judged(thresholds.labels, targets_NL, probabilities_NL, decisions_NL, costs))


def by_path(figures, weights_NR, column=0):
    return dict(zip(figures.paths, figures.compute(weights_NR)[:, column], strict=True))


@pytest.mark.parametrize("decimals", [1, 2, 12])
def test_ranking_metrics_are_scikit_learns_with_sample_weight(decimals):
    targets_NL, probabilities_NL, generator = make_case(decimals=decimals)
    weights_NR = generator.integers(0, 4, (300, 20)).astype(np.float64)
    figures = figures_of(targets_NL, probabilities_NL)
    values_FR = figures.compute(weights_NR)
    rows_N, columns_N = np.nonzero(targets_NL >= 0)
    for number in range(20):
        values = dict(zip(figures.paths, values_FR[:, number], strict=True))
        for metric, reference in (("roc_auc", roc_auc_score), ("average_precision", average_precision_score)):
            for column, name in enumerate(SETTINGS.labels):
                kept = targets_NL[:, column] >= 0
                expected = reference(
                    targets_NL[kept, column],
                    probabilities_NL[kept, column],
                    sample_weight=weights_NR[kept, number],
                )
                assert values["labels", name, metric] == pytest.approx(expected, abs=1e-12)
            expected = reference(
                targets_NL[rows_N, columns_N],
                probabilities_NL[rows_N, columns_N],
                sample_weight=weights_NR[rows_N, number],
            )
            assert values["micro", metric] == pytest.approx(expected, abs=1e-12)


def test_weights_of_one_give_every_figure_of_evaluate():
    targets_NL, probabilities_NL, _ = make_case()
    values = by_path(figures_of(targets_NL, probabilities_NL, costs=(5.0, 2.0)), np.ones((300, 1)))
    evaluation = evaluate(
        targets_NL, probabilities_NL, SETTINGS, cost_false_negative=5.0, cost_false_positive=2.0
    )
    expected = evaluation.figures()
    assert set(values) == set(expected)
    assert None not in expected.values()
    assert values == pytest.approx(expected, abs=1e-12)


def test_weights_mean_rows_that_stand_so_often():
    targets_NL, probabilities_NL, generator = make_case(seed=8)
    weights_NR = generator.integers(0, 4, (300, 6)).astype(np.float64)
    figures = figures_of(targets_NL, probabilities_NL)
    for number in range(6):
        rows = np.repeat(np.arange(300), weights_NR[:, number].astype(int))
        expected = evaluate(targets_NL[rows], probabilities_NL[rows], SETTINGS).figures()
        values = by_path(figures, weights_NR, number)
        # The bins of the calibration error stay those of the whole table.
        compared = {path for path in expected if path[-1] != "ece"}
        assert {path: values[path] for path in compared} == pytest.approx(
            {path: expected[path] for path in compared}, abs=1e-12
        )


def test_what_evaluate_leaves_undefined_is_nan():
    targets_NL, probabilities_NL, _ = make_case()
    targets_NL[:, 0], targets_NL[:, 1], targets_NL[:, 2] = 0, 1, -1
    probabilities_NL[:, 3] = 0.01
    expected = evaluate(targets_NL, probabilities_NL, SETTINGS).figures()
    values = by_path(figures_of(targets_NL, probabilities_NL), np.ones((300, 1)))
    assert sum(value is None for value in expected.values()) > 20
    for path, value in expected.items():
        assert np.isnan(values[path]) if value is None else values[path] == pytest.approx(value, abs=1e-12)


def test_one_label_has_no_ranking_of_labels():
    targets_NL, probabilities_NL, _ = make_case(hidden=0.0)
    thresholds = Thresholds(("b",), np.array([0.4]), np.ones(1, dtype=np.bool_), (None,))
    expected = evaluate(targets_NL[:, 1:2], probabilities_NL[:, 1:2], thresholds).figures()
    values = by_path(figures_of(targets_NL[:, 1:2], probabilities_NL[:, 1:2], thresholds), np.ones((300, 1)))
    assert set(values) == set(expected)
    assert {path for path in values if np.isnan(values[path])} == {
        path for path in expected if expected[path] is None
    }


def test_a_resample_without_positives_defines_no_ranking_and_no_f1():
    targets_NL, probabilities_NL, _ = make_case(hidden=0.0)
    weights_NR = np.ones((300, 2))
    weights_NR[targets_NL[:, 4] == 1, 0] = 0.0
    weights_NR[targets_NL[:, 4] == 0, 1] = 0.0
    figures = figures_of(targets_NL, probabilities_NL)
    without_positives, without_negatives = (by_path(figures, weights_NR, column) for column in (0, 1))
    for metric in ("roc_auc", "average_precision", "precision", "recall", "f1"):
        assert np.isnan(without_positives["labels", "e", metric])
        others = [without_positives["labels", name, metric] for name in "abcd"]
        assert without_positives["macro", metric] == pytest.approx(np.mean(others))
    assert without_positives["labels", "e", "brier"] < 0.3
    assert np.isnan(without_negatives["labels", "e", "roc_auc"])
    assert np.isnan(without_negatives["labels", "e", "average_precision"])
    assert without_negatives["labels", "e", "precision"] == 1.0


def test_calibration_error_by_hand():
    # Ten rows make two bins of five; the upper half weighs twice.
    probabilities_NL = np.array([[0.1] * 5 + [0.8] * 5])[0][:, None]
    targets_NL = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 0], dtype=np.int8)[:, None]
    thresholds = Thresholds(("x",), np.array([0.5]), np.ones(1, dtype=np.bool_), (None,))
    weights_NR = np.array([[1.0] * 10, [1.0] * 5 + [2.0] * 5, [1.0] * 9 + [6.0]]).T.copy()
    ece_R = [
        by_path(figures_of(targets_NL, probabilities_NL, thresholds), weights_NR, column)[
            "labels", "x", "ece"
        ]
        for column in range(3)
    ]
    # Gaps: 0.1 - 0.2 and 0.8 - 0.8; in the last column 0.8 - 4 / 10, of 15 rows.
    assert ece_R == pytest.approx([0.05, 0.5 / 15, (0.5 + 4.0) / 15])


def test_threads_change_nothing():
    targets_NL, probabilities_NL, generator = make_case()
    weights_NR = generator.integers(0, 3, (300, 9)).astype(np.float64)
    figures = figures_of(targets_NL, probabilities_NL)
    with ThreadPoolExecutor(3) as pool:
        threaded_FR = figures.compute(weights_NR, pool.map)
    np.testing.assert_array_equal(threaded_FR, figures.compute(weights_NR))


def test_sums_beyond_single_precision_are_exact():
    # Two negatives above weigh 2^25 + 1 together, which float32 cannot hold.
    ranking = Ranking(np.array([0, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1]), np.arange(4), num_rows=4)
    heavy = float(2**25)
    roc_auc_R, average_precision_R = ranking.measure(np.array([[heavy], [1.0], [1.0], [1.0]]))
    assert roc_auc_R[0] == pytest.approx(1.0 / (heavy + 2.0), rel=1e-6)
    assert average_precision_R[0] == 1.0 / (heavy + 2.0)


@pytest.mark.parametrize("targets", [[], [1, 1], [0, 0]])
def test_a_list_without_both_classes_has_no_ranking(targets):
    ranking = Ranking(
        np.array(targets, dtype=np.int8), np.full(len(targets), 0.5), np.arange(len(targets)), 2
    )
    assert np.isnan(ranking.measure(np.ones((2, 3)))).all()
