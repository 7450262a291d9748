"""References: DeLong's variance of ROC-AUC, SciPy's BCa interval, and the standard error of a mean."""

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from scipy.special import expit

from manylabel.config.schema import EvaluationSettings
from manylabel.decisions.thresholds import Thresholds
from manylabel.evaluation import spread
from manylabel.evaluation.evaluate import evaluate
from manylabel.evaluation.intervals import MIN_UNITS, bootstrap

SCRIPTS = Path(__file__).resolve().parents[3] / "scripts"


def thresholds_for(num_labels, value=0.5):
    names = tuple(f"label{number}" for number in range(num_labels))
    return Thresholds(
        names, np.full(num_labels, value), np.ones(num_labels, dtype=np.bool_), (None,) * num_labels
    )


def make_case(num_rows=600, shares=(0.3, 0.1), seed=1):
    generator = np.random.default_rng(seed)
    targets_NL = (generator.random((num_rows, len(shares))) < shares).astype(np.int8)
    probabilities_NL = expit(2.0 * targets_NL - 1.0 + generator.normal(size=targets_NL.shape))
    return targets_NL, probabilities_NL


def quick(resamples=200, **others):
    return EvaluationSettings(resamples=resamples, **others)


def delong_standard_error(targets_N, scores_N):
    """DeLong, DeLong and Clarke-Pearson (1988), for one ROC curve, from its definition.

    V10(i) is the share of negatives below positive i, V01(j) that of positives above negative j; the variance is
    var(V10) / m + var(V01) / n.
    """
    positives, negatives = scores_N[targets_N == 1], scores_N[targets_N == 0]
    wins = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    of_positives, of_negatives = wins.mean(axis=1), wins.mean(axis=0)
    return np.sqrt(of_positives.var(ddof=1) / len(positives) + of_negatives.var(ddof=1) / len(negatives))


@pytest.mark.parametrize("decimals", [1, 12])
def test_the_standard_error_of_roc_auc_is_delongs(decimals):
    targets_NL, probabilities_NL = make_case(2000)
    probabilities_NL = np.round(probabilities_NL, decimals)
    found = bootstrap(targets_NL, probabilities_NL, thresholds_for(2), settings=quick(1000))
    for column in range(2):
        figure = found.figures["labels", f"label{column}", "roc_auc"]
        error = delong_standard_error(targets_NL[:, column], probabilities_NL[:, column])
        assert figure.standard_error == pytest.approx(error, rel=0.1)
        assert [figure.low, figure.high] == pytest.approx(
            [figure.value - 1.96 * error, figure.value + 1.96 * error], abs=0.6 * error
        )


def test_a_mean_over_rows_has_scipys_interval():
    targets_NL, probabilities_NL = make_case(400, shares=(0.03, 0.02), seed=4)
    found = bootstrap(targets_NL, probabilities_NL, thresholds_for(2), settings=quick(4000))
    for path, values_N in {
        ("overall", "subset_accuracy"): ((probabilities_NL >= 0.5) == targets_NL).all(axis=1).astype(float),
        ("micro", "brier"): np.square(probabilities_NL - targets_NL).mean(axis=1),
    }.items():
        reference = scipy.stats.bootstrap(
            (values_N,), np.mean, method="BCa", n_resamples=4000, rng=np.random.default_rng(2)
        )
        figure = found.figures[path]
        assert figure.value == pytest.approx(values_N.mean())
        assert figure.standard_error == pytest.approx(values_N.std() / 20.0, rel=0.05)
        assert [figure.low, figure.high] == pytest.approx(
            list(reference.confidence_interval), abs=0.15 * figure.standard_error
        )


def test_every_figure_of_an_evaluation_has_an_entry():
    targets_NL, probabilities_NL = make_case()
    settings = quick(cost_false_negative=5.0)
    found = bootstrap(targets_NL, probabilities_NL, thresholds_for(2), settings=settings)
    expected = evaluate(targets_NL, probabilities_NL, thresholds_for(2), cost_false_negative=5.0).figures()
    assert {path: figure.value for path, figure in found.figures.items()} == pytest.approx(
        expected, abs=1e-12
    )
    for path, figure in found.figures.items():
        assert figure.reason is None, path
        assert figure.low < figure.high
        if path[-1] != "ece":
            assert figure.low <= figure.value <= figure.high


def test_json_holds_limits_by_path():
    targets_NL, probabilities_NL = make_case()
    targets_NL[:, 1] = 0
    found = bootstrap(targets_NL, probabilities_NL, thresholds_for(2), settings=quick(confidence=0.9))
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (content["confidence"], content["resamples"], content["unit"]) == (0.9, 200, "row")
    assert set(content) - {"confidence", "resamples", "unit"} == {
        "labels",
        "macro",
        "micro",
        "weighted",
        "samples",
        "overall",
        "reasons",
    }
    figure = found.figures["macro", "f1"]
    assert content["macro"]["f1"] == [figure.low, figure.high]
    assert content["labels"]["label1"]["f1"] is None
    assert content["labels"]["label0"]["f1"] is not None


def test_intervals_widen_with_confidence_and_narrow_with_rows():
    def width(num_rows, confidence):
        targets_NL, probabilities_NL = make_case(num_rows)
        settings = quick(400, confidence=confidence)
        figure = bootstrap(targets_NL, probabilities_NL, thresholds_for(2), settings=settings).figures[
            "macro", "average_precision"
        ]
        return figure.high - figure.low

    assert width(600, 0.8) < 0.8 * width(600, 0.95)
    # Four times the rows: half the width, but for chance.
    assert width(2400, 0.95) == pytest.approx(0.5 * width(600, 0.95), rel=0.25)


@pytest.mark.parametrize("num_positives", [0, 1, MIN_UNITS - 1, MIN_UNITS])
def test_a_label_with_hardly_a_positive_has_no_interval(num_positives):
    targets_NL, probabilities_NL = make_case(300)
    targets_NL[:, 1] = np.arange(300) < num_positives
    figures = bootstrap(targets_NL, probabilities_NL, thresholds_for(2, 0.4), settings=quick()).figures
    for metric in ("roc_auc", "average_precision", "f1", "log_loss"):
        figure = figures["labels", "label1", metric]
        assert (figure.reason is None) == (num_positives == MIN_UNITS)
        assert (figure.low is None) == (figure.standard_error is None) == (num_positives < MIN_UNITS)
    if 0 < num_positives < MIN_UNITS:
        assert figures["labels", "label1", "f1"].reason == f"fewer than {MIN_UNITS} positive rows"
        assert figures["labels", "label1", "f1"].value is not None
    assert figures["macro", "roc_auc"].limits is not None


def test_a_label_that_is_always_on_has_intervals_for_its_decisions_alone():
    targets_NL, probabilities_NL = make_case(300)
    targets_NL[:, 1], targets_NL[0, 1] = 1, 0
    figures = bootstrap(targets_NL, probabilities_NL, thresholds_for(2), settings=quick()).figures
    assert figures["labels", "label1", "recall"].limits is not None
    for metric in ("roc_auc", "brier"):
        assert figures["labels", "label1", metric].reason == f"fewer than {MIN_UNITS} negative rows"


def test_a_figure_that_never_varies_has_no_interval():
    targets_NL, _ = make_case(300)
    figures = bootstrap(targets_NL, targets_NL * 0.98 + 0.01, thresholds_for(2), settings=quick()).figures
    figure = figures["macro", "f1"]
    assert (figure.value, figure.limits) == (1.0, None)
    assert figure.reason == "the same in every resample"


def test_a_figure_that_resamples_often_lack_has_no_interval():
    targets_NL, probabilities_NL = make_case(300)
    probabilities_NL[:, 1] = 0.01
    probabilities_NL[np.flatnonzero(targets_NL[:, 1])[0], 1] = 0.9
    figure = bootstrap(targets_NL, probabilities_NL, thresholds_for(2), settings=quick()).figures[
        "labels", "label1", "precision"
    ]
    # One row is decided: e^-1 of the resamples lack it.
    assert figure.defined == pytest.approx(200 * (1 - np.exp(-1)), abs=25)
    assert figure.reason == "undefined in many resamples"


def test_groups_of_equal_rows_count_once():
    targets_NL, probabilities_NL = make_case(300)
    four_times = np.repeat(np.arange(300), 4)
    alone, as_rows, as_groups = (
        bootstrap(
            targets_NL[rows], probabilities_NL[rows], thresholds_for(2), groups_N=groups, settings=quick(400)
        )
        for rows, groups in ((np.arange(300), None), (four_times, None), (four_times, four_times))
    )
    assert as_groups.unit == "group"
    for path in (("macro", "roc_auc"), ("micro", "f1"), ("overall", "lrap")):
        errors = [each.figures[path].standard_error for each in (alone, as_rows, as_groups)]
        assert errors[1] == pytest.approx(0.5 * errors[0], rel=0.15)
        assert errors[2] == pytest.approx(errors[0], rel=0.15)


@pytest.mark.parametrize("truth", [0.0, 0.1])
def test_the_calibration_error_of_honest_and_of_shifted_probabilities(truth):
    generator = np.random.default_rng(3)
    probabilities_NL = generator.uniform(0.1, 0.8, (1500, 1))
    targets_NL = (generator.random((1500, 1)) < probabilities_NL).astype(np.int8)
    figures = bootstrap(targets_NL, probabilities_NL + truth, thresholds_for(1), settings=quick(400)).figures
    figure = figures["labels", "label0", "ece"]
    # The figure of honest probabilities is noise alone; the interval holds 0 nevertheless.
    assert figure.value > 0.01
    assert 0.0 <= figure.low <= truth <= figure.high
    assert (figure.low > 0.0) == (truth > 0.0)


def test_threads_and_chunks_change_nothing(monkeypatch):
    targets_NL, probabilities_NL = make_case(300)

    def run():
        return bootstrap(targets_NL, probabilities_NL, thresholds_for(2), settings=quick(70)).to_json()

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert spread.num_threads() == 1
    alone = run()
    monkeypatch.setattr(spread, "num_threads", lambda: 3)
    assert run() == alone
    monkeypatch.setattr(spread, "MAX_TOGETHER", 7)
    in_sevens = run()
    assert in_sevens["macro"]["f1"] == pytest.approx(alone["macro"]["f1"], abs=1e-12)
    assert in_sevens["labels"]["label1"]["ece"] == pytest.approx(alone["labels"]["label1"]["ece"], abs=1e-9)


@pytest.mark.parametrize(("rows", "resamples"), [(0, 100), (50, 0)])
def test_nothing_to_draw_gives_no_figures(rows, resamples):
    targets_NL, probabilities_NL = make_case(50)
    found = bootstrap(
        targets_NL[:rows], probabilities_NL[:rows], thresholds_for(2), settings=quick(resamples)
    )
    assert found.to_json() == {"confidence": 0.95, "resamples": resamples, "unit": "row"}


def test_three_rows_give_figures_without_intervals():
    targets_NL, probabilities_NL = np.array([[1, 0], [0, 1], [1, -1]], dtype=np.int8), np.full((3, 2), 0.5)
    found = bootstrap(targets_NL, probabilities_NL, thresholds_for(2), settings=quick(50))
    assert all(figure.limits is None for figure in found.figures.values())
    assert found.figures["overall", "accuracy"].reason == "fewer than 5 rows"


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="disagree"):
        bootstrap(np.zeros((3, 2), dtype=np.int8), np.zeros((2, 2)), thresholds_for(2), settings=quick())


def test_the_coverage_simulation_judges_what_it_counts(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    simulation = importlib.import_module("coverage_simulation")
    truth = simulation.true_figures(20_000)
    outcome = simulation.simulate(0, truth=truth, seed=1, resamples=50)
    assert len(outcome.covered) == len(simulation.COVERED + simulation.SHOWN_ONLY)
    assert all(0.0 < p <= 1.0 for p in outcome.p_bootstrap + outcome.p_permutation)

    num_intervals, num_tests = len(outcome.covered), len(outcome.p_bootstrap)

    def outcomes(num_held, num_rejected):
        return [
            simulation.Outcome(
                (number < num_held,) * num_intervals,
                (0.01 if number < num_rejected else 0.5,) * num_tests,
                (0.02 if number < num_rejected else 0.5,) * num_tests,
            )
            for number in range(1000)
        ]

    for held, good in ((929, False), (930, True), (970, True), (971, False)):
        assert simulation.coverage_lines(outcomes(held, 50))[1] is good
    # 5 % +- 2.576 standard errors of 0.69 %.
    for rejected, good in ((32, False), (33, True), (67, True), (68, False)):
        assert simulation.rejection_lines(outcomes(950, rejected))[1] is good


def test_many_labels_with_one_positive_do_not_push_the_intervals_beside_the_figure():
    generator = np.random.default_rng(3)
    targets_NL = np.zeros((1500, 121), dtype=np.int8)
    targets_NL[:400, 0] = 1
    targets_NL[np.arange(600, 720), np.arange(1, 121)] = 1
    probabilities_NL = generator.random(targets_NL.shape) * 0.4
    probabilities_NL[:360, 0] = 0.9
    figures = bootstrap(targets_NL, probabilities_NL, thresholds_for(121), settings=quick()).figures
    for path in (("micro", "recall"), ("micro", "f1"), ("overall", "hamming_loss"), ("overall", "lrap")):
        figure = figures[path]
        assert figure.low < figure.value < figure.high, path


def test_json_says_why_a_defined_figure_has_no_interval():
    targets_NL, probabilities_NL = make_case()
    targets_NL[:, 1] = 0
    targets_NL[:3, 1] = 1
    content = bootstrap(targets_NL, probabilities_NL, thresholds_for(2), settings=quick()).to_json()
    assert content["labels"]["label1"]["roc_auc"] is None
    assert content["reasons"]["label1.roc_auc"] == "fewer than 5 positive rows"
    assert not any(key.startswith("label0.") for key in content["reasons"])
    # A figure that is undefined has its reason among the undefined ones.
    targets_NL[:, 1] = 0
    content = bootstrap(targets_NL, probabilities_NL, thresholds_for(2), settings=quick()).to_json()
    assert not any(key.startswith("label1.recall") for key in content["reasons"])
