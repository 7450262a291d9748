"""References: swaps carried out by hand and judged by scikit-learn, Holm's published rule, known-better models."""

import importlib
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from manylabel.config.schema import EvaluationSettings
from manylabel.decisions.thresholds import Thresholds
from manylabel.evaluation.evaluate import evaluate
from manylabel.evaluation.paired import compare, holm, permutation_p_values
from manylabel.evaluation.resampling import make_resampler
from manylabel.evaluation.weighted import Judged

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


def thresholds_for(num_labels, value=0.5):
    names = tuple(f"label{number}" for number in range(num_labels))
    return Thresholds(
        names, np.full(num_labels, value), np.ones(num_labels, dtype=np.bool_), (None,) * num_labels
    )


def make_case(num_rows=600, shares=(0.3, 0.1), shifts=(1.0, 1.0), seed=1):
    """Targets and two models; a shift is how far a model's scores of positives lie above those of negatives."""
    generator = np.random.default_rng(seed)
    targets_NL = (generator.random((num_rows, len(shares))) < shares).astype(np.int8)
    models = [
        expit(np.asarray(shift) * targets_NL - 1.0 + generator.normal(size=targets_NL.shape))
        for shift in shifts
    ]
    return targets_NL, *models


def run(targets_NL, a_NL, b_NL, *, resamples=200, groups_N=None, thresholds_b=None, **settings):
    thresholds = thresholds_for(targets_NL.shape[1])
    return compare(
        targets_NL,
        a_NL,
        thresholds,
        b_NL,
        thresholds_b or thresholds,
        groups_N=groups_N,
        settings=EvaluationSettings(resamples=resamples, **settings),
    )


def test_figures_are_those_of_two_evaluations():
    targets_NL, a_NL, b_NL = make_case()
    found = run(targets_NL, a_NL, b_NL, thresholds_b=thresholds_for(2, 0.4))
    of_a = evaluate(targets_NL, a_NL, thresholds_for(2)).figures()
    of_b = evaluate(targets_NL, b_NL, thresholds_for(2, 0.4)).figures()
    assert {path: figure.a for path, figure in found.figures.items()} == pytest.approx(of_a, abs=1e-12)
    assert {path: figure.b for path, figure in found.figures.items()} == pytest.approx(of_b, abs=1e-12)
    for figure in found.figures.values():
        assert figure.difference == pytest.approx(figure.b - figure.a, abs=1e-12)
        assert figure.low < figure.high
        assert 0.0 < figure.p_bootstrap <= 1.0


def test_the_interval_holds_zero_exactly_where_p_exceeds_the_level():
    differing = 0
    for seed in range(8):
        figures = run(*make_case(200, shifts=(1.0, 1.4), seed=seed)).figures
        for path, figure in figures.items():
            # Quantiles are interpolated between resamples, so at the very limit either may win.
            if figure.reason is None and abs(figure.p_bootstrap - 0.05) > 0.01:
                assert (figure.low <= 0.0 <= figure.high) == (figure.p_bootstrap > 0.05), path
                differing += figure.p_bootstrap < 0.05
    assert differing > 50


def test_exchanged_models_exchange_the_signs():
    targets_NL, a_NL, b_NL = make_case(shifts=(1.0, 1.3))
    forward, back = run(targets_NL, a_NL, b_NL).figures, run(targets_NL, b_NL, a_NL).figures
    for path, figure in forward.items():
        error = figure.high - figure.low
        assert back[path].difference == pytest.approx(-figure.difference, abs=1e-12)
        assert [back[path].low, back[path].high] == pytest.approx(
            [-figure.high, -figure.low], abs=0.02 * error
        )
        assert back[path].p == pytest.approx(figure.p, abs=0.01)


def test_a_model_does_not_differ_from_itself():
    targets_NL, a_NL, _ = make_case()
    found = run(targets_NL, a_NL, a_NL)
    for figure in found.figures.values():
        assert (figure.difference, figure.low, figure.p) == (0.0, None, 1.0)
        assert figure.reason == "the same in every resample"
    assert found.verdict() == "no difference shown"
    assert found.conclusion().startswith("No difference between model B and model A is shown: macro average")
    assert found.differing() == ([], [])


def test_one_conclusion_for_better_worse_and_neither():
    targets_NL, weak_NL, strong_NL = make_case(
        shares=(0.3, 0.2, 0.1), shifts=((1.0, 1.0, 1.0), (2.0, 1.0, 2.5))
    )
    better = run(targets_NL, weak_NL, strong_NL)
    assert better.verdict() == "better"
    assert better.differing() == (["label0", "label2"], [])
    figure = better.figures["macro", "average_precision"]
    assert better.conclusion("the baseline", "the model") == (
        f"The model is better than the baseline: macro average precision {figure.b:.3f} against {figure.a:.3f}, "
        f"difference {figure.difference:+.3f} (95 % interval {figure.low:+.3f} to {figure.high:+.3f}, "
        f"p = {figure.p:.3f}); "
        "after Holm's correction 2 of 3 labels differ (2 better, 0 worse)."
    )
    worse = run(targets_NL, strong_NL, weak_NL)
    assert worse.verdict() == "worse"
    assert worse.conclusion().startswith("Model B is worse than model A: macro average precision ")
    assert worse.conclusion().endswith("2 of 3 labels differ (0 better, 2 worse).")
    neither = run(*make_case(seed=5))
    assert neither.verdict() == "no difference shown"
    assert neither.conclusion().startswith("No difference between model B and model A is shown: macro ")


def test_too_few_resamples_for_many_labels_are_said():
    found = run(*make_case(shares=(0.3, 0.2, 0.1), shifts=(1.0, 2.0)), resamples=40)
    assert found.conclusion().endswith("40 resamples are too few to test 3 labels one by one.")


def judged_pair(targets_NL, a_NL, b_NL, value=0.5):
    labels = thresholds_for(targets_NL.shape[1]).labels
    return (Judged(labels, targets_NL, table_NL, table_NL >= value) for table_NL in (a_NL, b_NL))


def all_swaps_p_values(targets_N, a_N, b_N):
    """Exact p-values of one label over all 2^N swaps, each carried out and judged by scikit-learn."""
    ranks = [rankdata(a_N), rankdata(b_N)]
    decisions = [a_N >= 0.5, b_N >= 0.5]
    found = []
    for swap in itertools.product([False, True], repeat=len(targets_N)):
        in_a, in_b = (np.where(np.array(swap) ^ other, ranks[1], ranks[0]) for other in (False, True))
        yes_a, yes_b = (
            np.where(np.array(swap) ^ other, decisions[1], decisions[0]) for other in (False, True)
        )
        found.append(
            [
                roc_auc_score(targets_N, in_b) - roc_auc_score(targets_N, in_a),
                average_precision_score(targets_N, in_b) - average_precision_score(targets_N, in_a),
                f1_score(targets_N, yes_b) - f1_score(targets_N, yes_a),
            ]
        )
    differences = np.abs(np.array(found))
    return (differences >= differences[0] - 1e-12).mean(axis=0)


def test_the_permutation_test_tends_to_that_over_all_swaps():
    targets_N = np.array([1, 0, 1, 0, 0, 1, 0, 0], dtype=np.int8)
    a_N = np.array([0.2, 0.6, 0.4, 0.55, 0.1, 0.6, 0.4, 0.35])
    b_N = np.array([0.9, 0.6, 0.7, 0.3, 0.2, 0.6, 0.1, 0.51])
    exact = all_swaps_p_values(targets_N, a_N, b_N)
    first, second = judged_pair(targets_N[:, None], a_N[:, None], b_N[:, None])
    p_values = permutation_p_values(first, second, make_resampler(targets_N[:, None], seed=1), 4000)
    of_label = [p_values["labels", "label0", metric] for metric in ("roc_auc", "average_precision", "f1")]
    assert np.ptp(exact) > 0.05
    # Four standard errors of a share over 4,000 permutations.
    assert of_label == pytest.approx(exact.tolist(), abs=4 * 0.5 / 4000**0.5)
    # One label is its own macro and micro average.
    assert [p_values["macro", metric] for metric in ("roc_auc", "average_precision", "f1")] == of_label
    assert p_values["micro", "f1"] == of_label[2]


def test_permutations_swap_whole_groups():
    targets_NL, a_NL, b_NL = make_case(120, shifts=(1.0, 1.5), seed=6)
    four_times = np.repeat(np.arange(120), 4)
    alone, as_rows, as_groups = (
        run(targets_NL[rows], a_NL[rows], b_NL[rows], groups_N=groups, resamples=400)
        for rows, groups in ((np.arange(120), None), (four_times, None), (four_times, four_times))
    )
    assert as_groups.unit == "group"
    path = ("macro", "roc_auc")
    p_values = [each.figures[path].p_permutation for each in (alone, as_rows, as_groups)]
    # The same coins fall for 120 groups as for 120 rows; 480 rows that pass for independent seem more certain.
    assert p_values[2] == p_values[0]
    assert p_values[1] < 0.5 * p_values[0]


def test_a_scale_of_its_own_does_not_matter_for_what_ranks():
    targets_NL, a_NL, b_NL = make_case(shifts=(1.0, 1.1))
    same, squeezed = run(targets_NL, a_NL, b_NL).figures, run(targets_NL, a_NL, b_NL**4 / 10).figures
    for path in (("macro", "roc_auc"), ("labels", "label1", "average_precision")):
        assert squeezed[path] == same[path]


def test_what_is_undefined_is_left_out():
    targets_NL, a_NL, b_NL = make_case(shares=(0.3, 0.2, 0.1), shifts=(1.0, 2.0))
    targets_NL[:, 1] = 0
    targets_NL[:3, 2] = -1
    found = run(targets_NL, a_NL, b_NL)
    empty = found.figures["labels", "label1", "f1"]
    assert (empty.a, empty.difference, empty.p, empty.p_corrected) == (None, None, None, None)
    assert empty.reason == "the figure itself is undefined"
    assert "of 2 labels differ" in found.conclusion()
    values = found.figures["macro", "f1"]
    assert values.a == pytest.approx(evaluate(targets_NL, a_NL, thresholds_for(3)).macro.f1)


def test_labels_without_a_positive_cannot_be_compared():
    targets_NL, a_NL, b_NL = make_case()
    found = run(np.zeros_like(targets_NL), a_NL, b_NL)
    assert found.verdict() == "not comparable"
    assert "cannot be compared" in found.conclusion()
    json.dumps(found.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("p_values", "expected"),
    [
        ([], []),
        ([0.03], [0.03]),
        # Sorted: 4 x 0.005, 3 x 0.01, 2 x 0.03, and 1 x 0.04 raised to the one before.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.6, 0.5], [1.0, 1.0]),
    ],
)
def test_holms_correction(p_values, expected):
    assert holm(p_values) == pytest.approx(expected)


def test_p_values_of_labels_are_corrected_for_each_metric():
    found = run(*make_case(shares=(0.3, 0.2, 0.1), shifts=(1.0, 1.2)))
    for metric in ("average_precision", "brier"):
        of_labels = [found.figures["labels", f"label{number}", metric] for number in range(3)]
        assert [figure.p_corrected for figure in of_labels] == pytest.approx(
            holm([each.p for each in of_labels])
        )
    assert found.figures["labels", "label0", "f1"].p == found.figures["labels", "label0", "f1"].p_permutation
    assert found.figures["labels", "label0", "brier"].p_permutation is None
    assert found.figures["macro", "f1"].p_corrected is None


def test_json_has_figures_by_name_and_labels_by_metric():
    found = run(*make_case(shifts=(1.0, 2.0)), resamples=100)
    content = json.loads(json.dumps(found.to_json("the baseline", "the model"), allow_nan=False))
    assert content["verdict"] == "better"
    assert content["conclusion"] == found.conclusion("the baseline", "the model")
    assert content["labels_better"] == ["label0", "label1"]
    assert set(content["labels"]) == {"label0", "label1"}
    assert set(content["figures"]) == {"/".join(path) for path in found.figures if path[0] != "labels"}
    figure = found.figures["macro", "f1"]
    assert content["figures"]["macro/f1"]["difference"] == figure.difference
    assert content["figures"]["macro/f1"]["low"] == figure.low
    assert (
        content["labels"]["label0"]["f1"]["p_corrected"]
        == found.figures["labels", "label0", "f1"].p_corrected
    )


def test_no_rows_give_no_figures():
    targets_NL, a_NL, b_NL = make_case(50)
    found = run(targets_NL[:0], a_NL[:0], b_NL[:0], resamples=100)
    assert (found.figures, found.verdict()) == ({}, "not comparable")
    json.dumps(found.to_json(), allow_nan=False)


def test_without_resamples_there_are_figures_and_no_intervals():
    targets_NL, a_NL, b_NL = make_case(50)
    found, drawn = (run(targets_NL, a_NL, b_NL, resamples=count) for count in (0, 50))
    assert set(found.figures) == set(drawn.figures)
    for path, figure in found.figures.items():
        assert figure.difference == pytest.approx(drawn.figures[path].difference, nan_ok=True, abs=1e-12)
        assert (figure.low, figure.p) == (None, None)
    assert "no resamples" in found.conclusion()
    json.dumps(found.to_json(), allow_nan=False)


def test_models_must_have_the_same_labels_and_rows():
    targets_NL, a_NL, b_NL = make_case(50)
    settings = EvaluationSettings(resamples=10)
    other = Thresholds(("x", "label1"), np.full(2, 0.5), np.ones(2, dtype=np.bool_), (None,) * 2)
    with pytest.raises(ValueError, match="different labels"):
        compare(targets_NL, a_NL, thresholds_for(2), b_NL, other, settings=settings)
    with pytest.raises(ValueError, match="disagree"):
        compare(targets_NL, a_NL[1:], thresholds_for(2), b_NL, thresholds_for(2), settings=settings)


def test_the_benchmark_runs(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("intervals", None)
    benchmark = importlib.import_module("intervals")
    results = [benchmark.measure(benchmark.TINY, kind, 20) for kind in ("intervals", "comparison")]
    # Four labels of 8 figures, macro and weighted 8 each, micro 7, samples 3, 3 of cells, 4 of rows, 6 at k.
    assert [result["figures"] for result in results] == [71, 71]
    assert all(result["seconds"] > 0.0 for result in results)
