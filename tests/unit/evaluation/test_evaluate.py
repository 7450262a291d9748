"""Expected numbers come from scikit-learn called directly, or are worked by hand in the test."""

import json
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics as reference

from manylabel.decisions.thresholds import Thresholds
from manylabel.evaluation import metrics
from manylabel.evaluation.evaluate import evaluate, macro_average_precision

METRICS = ("roc_auc", "average_precision", "precision", "recall", "f1")
PROPER = ("brier", "log_loss", "ece")
AT_K = [f"{metric}_at_{k}" for metric in ("precision", "recall", "ndcg") for k in (1, 3, 5)]


def thresholds_for(num_labels, values=None):
    values_L = np.full(num_labels, 0.5) if values is None else np.array(values)
    names = tuple(f"label{i}" for i in range(num_labels))
    return Thresholds(names, values_L, np.ones(num_labels, dtype=bool), (None,) * num_labels)


@pytest.fixture
def random_case():
    generator = np.random.default_rng(7)
    targets_NL = (generator.random((300, 5)) < [0.1, 0.3, 0.5, 0.7, 0.2]).astype(np.int8)
    # Two decimals, so that equal scores are frequent.
    probabilities_NL = np.round(np.clip(0.3 * targets_NL + 0.7 * generator.random((300, 5)), 0, 1), 2)
    return targets_NL, probabilities_NL, thresholds_for(5, [0.3, 0.4, 0.5, 0.6, 0.7])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_agree_with_scikit_learn(random_case, dtype):
    targets_NL, probabilities_NL, thresholds = random_case
    probabilities_NL = probabilities_NL.astype(dtype)
    evaluation = evaluate(targets_NL, probabilities_NL, thresholds)
    for column, label in enumerate(evaluation.labels):
        targets, scores = targets_NL[:, column], probabilities_NL[:, column]
        decided = scores >= thresholds.values_L[column]
        assert label.roc_auc == pytest.approx(reference.roc_auc_score(targets, scores), abs=1e-12)
        assert label.average_precision == pytest.approx(
            reference.average_precision_score(targets, scores), abs=1e-12
        )
        assert label.precision == pytest.approx(reference.precision_score(targets, decided), abs=1e-12)
        assert label.recall == pytest.approx(reference.recall_score(targets, decided), abs=1e-12)
        assert label.f1 == pytest.approx(reference.f1_score(targets, decided), abs=1e-12)
        assert (label.support, label.annotated) == (targets.sum(), 300)
        assert label.threshold == thresholds.values_L[column]
        assert label.reasons == {}


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
def test_averages_agree_with_scikit_learn(random_case, average):
    targets_NL, probabilities_NL, thresholds = random_case
    ours = getattr(evaluate(targets_NL, probabilities_NL, thresholds), average)
    decided_NL = thresholds.decide(probabilities_NL)
    roc_auc = reference.roc_auc_score(targets_NL, probabilities_NL, average=average)
    precision_of_ranking = reference.average_precision_score(targets_NL, probabilities_NL, average=average)
    decided = reference.precision_recall_fscore_support(targets_NL, decided_NL, average=average)[:3]
    assert [getattr(ours, metric) for metric in METRICS] == pytest.approx(
        [roc_auc, precision_of_ranking, *decided]
    )
    kept = METRICS + (PROPER[:2] if average == "micro" else PROPER)
    assert ours.undefined == dict.fromkeys(kept, 0)


def test_sample_averages_agree_with_scikit_learn(random_case):
    targets_NL, probabilities_NL, thresholds = random_case
    samples = evaluate(targets_NL, probabilities_NL, thresholds).samples
    decided_NL = thresholds.decide(probabilities_NL)
    expected = reference.precision_recall_fscore_support(
        targets_NL, decided_NL, average="samples", zero_division=np.nan
    )[:3]
    assert [samples.precision, samples.recall, samples.f1] == pytest.approx(expected)
    assert samples.undefined["precision"] == (decided_NL.sum(axis=1) == 0).sum() > 0
    assert samples.undefined["recall"] == (targets_NL.sum(axis=1) == 0).sum() > 0


def test_metrics_over_rows_agree_with_scikit_learn(random_case, monkeypatch):
    targets_NL, probabilities_NL, thresholds = random_case
    decided_NL = thresholds.decide(probabilities_NL)
    monkeypatch.setattr(metrics, "CELLS_PER_CHUNK", 37)
    ours = evaluate(targets_NL, probabilities_NL, thresholds)
    assert ours.accuracy == pytest.approx((targets_NL == decided_NL).mean())
    assert ours.subset_accuracy == pytest.approx(reference.accuracy_score(targets_NL, decided_NL))
    assert ours.hamming_loss == pytest.approx(reference.hamming_loss(targets_NL, decided_NL))
    assert ours.ranking_loss == pytest.approx(reference.label_ranking_loss(targets_NL, probabilities_NL))
    assert ours.lrap == pytest.approx(
        reference.label_ranking_average_precision_score(targets_NL, probabilities_NL)
    )
    assert (ours.rows, ours.complete_rows) == (300, 300)


def test_hand_worked_case():
    targets_NL = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], dtype=np.int8)
    probabilities_NL = np.array([[0.9, 0.1], [0.4, 0.8], [0.6, 0.2], [0.1, 0.3]])
    ours = evaluate(targets_NL, probabilities_NL, thresholds_for(2))
    first, second = ours.labels
    # First label, ranked: 1 0 1 0. Three of four pairs in order; precision 1 and 2/3 at its positives.
    assert first.roc_auc == 0.75
    assert first.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert (first.precision, first.recall, first.f1) == (0.5, 0.5, 0.5)
    # Second label, ranked: 1 1 0 0. One of two positives decided, nothing decided wrongly.
    assert (second.roc_auc, second.average_precision) == (1.0, 1.0)
    assert (second.precision, second.recall, second.f1) == (1.0, 0.5, pytest.approx(2 / 3))
    # Cells: wrong are (row 2, first), (row 3, first), (row 4, second).
    assert (ours.accuracy, ours.hamming_loss) == (5 / 8, 3 / 8)
    assert ours.subset_accuracy == 1 / 4
    # Rows 1 and 4 are ranked rightly, rows 2 and 3 carry all labels or none.
    assert (ours.ranking_loss, ours.lrap) == (0.0, 1.0)
    # Rows: precision 1, 1, 0, undefined; recall 1, 1/2, undefined, 0; F1 1, 2/3, 0, 0.
    assert ours.samples.precision == pytest.approx(2 / 3)
    assert ours.samples.recall == pytest.approx(1 / 2)
    assert ours.samples.f1 == pytest.approx(5 / 12)
    assert ours.samples.undefined == {"precision": 1, "recall": 1, "f1": 0}


def test_masked_cells_count_nowhere(random_case):
    targets_NL, probabilities_NL, thresholds = random_case
    masked_NL = targets_NL.copy()
    masked_NL[np.random.default_rng(1).random(masked_NL.shape) < 0.1] = -1
    ours = evaluate(masked_NL, probabilities_NL, thresholds)
    decided_NL = thresholds.decide(probabilities_NL)
    for column, label in enumerate(ours.labels):
        kept = masked_NL[:, column] >= 0
        targets, scores = masked_NL[kept, column], probabilities_NL[kept, column]
        assert label.annotated == kept.sum() < 300
        assert label.roc_auc == pytest.approx(reference.roc_auc_score(targets, scores))
        assert label.f1 == pytest.approx(reference.f1_score(targets, decided_NL[kept, column]))
    cells = masked_NL >= 0
    assert ours.micro.roc_auc == pytest.approx(
        reference.roc_auc_score(masked_NL[cells], probabilities_NL[cells])
    )
    assert ours.micro.f1 == pytest.approx(reference.f1_score(masked_NL[cells], decided_NL[cells]))
    assert ours.accuracy == pytest.approx((masked_NL[cells] == decided_NL[cells]).mean())
    assert ours.hamming_loss == pytest.approx((masked_NL[cells] != decided_NL[cells]).mean())
    complete = cells.all(axis=1)
    assert ours.complete_rows == complete.sum() < 300
    assert ours.subset_accuracy == pytest.approx(
        reference.accuracy_score(masked_NL[complete], decided_NL[complete])
    )
    assert ours.lrap == pytest.approx(
        reference.label_ranking_average_precision_score(masked_NL[complete], probabilities_NL[complete])
    )
    # What stands behind a mask changes nothing.
    changed_NL = np.where(cells, probabilities_NL, 1 - probabilities_NL)
    again = evaluate(masked_NL, changed_NL, thresholds)
    assert (again.labels, again.micro, again.accuracy) == (ours.labels, ours.micro, ours.accuracy)


def test_macro_average_precision_alone_is_that_of_the_evaluation(random_case):
    targets_NL, probabilities_NL, thresholds = random_case
    targets_NL[::3, 1] = -1
    targets_NL[:, 2] = 0
    ours = evaluate(targets_NL, probabilities_NL, thresholds)
    assert macro_average_precision(targets_NL, probabilities_NL).value == ours.macro.average_precision
    assert macro_average_precision(targets_NL[:, [2]], probabilities_NL[:, [2]]).value is None


def test_undefined_labels_are_none_with_a_reason_and_left_out_of_the_averages():
    # good, no positives, no negatives, nothing annotated, positives but none decided
    targets_NL = np.array([[1, 0, 1, -1, 1], [0, 0, 1, -1, 0], [1, 0, 1, -1, 1]], dtype=np.int8)
    probabilities_NL = np.array(
        [[0.9, 0.9, 0.9, 0.9, 0.3], [0.2, 0.2, 0.2, 0.2, 0.2], [0.8, 0.1, 0.8, 0.5, 0.1]]
    )
    ours = evaluate(targets_NL, probabilities_NL, thresholds_for(5))
    good, no_positives, no_negatives, nothing, undecided = ours.labels
    values = [[getattr(label, metric) for metric in METRICS] for label in ours.labels]
    assert values[0] == [1.0, 1.0, 1.0, 1.0, 1.0]
    assert values[1] == [None] * 5
    assert values[2] == [None, None, 1.0, pytest.approx(2 / 3), pytest.approx(0.8)]
    assert values[3] == [None] * 5
    assert values[4] == [0.5, pytest.approx((1 + 2 / 3) / 2), None, 0.0, 0.0]
    assert good.reasons == {}
    assert no_positives.reasons == dict.fromkeys(METRICS, "no positive rows")
    assert no_negatives.reasons == dict.fromkeys(METRICS[:2], "no negative rows")
    assert nothing.reasons == dict.fromkeys(METRICS + PROPER, "nothing is annotated")
    assert undecided.reasons == {"precision": "nothing is decided positive"}
    assert (ours.macro.roc_auc, ours.macro.f1) == (pytest.approx(0.75), pytest.approx((1 + 0.8 + 0) / 3))
    assert (ours.macro.precision, ours.macro.recall) == (1.0, pytest.approx((1 + 2 / 3) / 3))
    assert ours.macro.undefined == {
        "roc_auc": 3,
        "average_precision": 3,
        "precision": 3,
        "recall": 2,
        "f1": 2,
        "brier": 1,
        "log_loss": 1,
        "ece": 1,
    }
    assert ours.weighted.f1 == pytest.approx((2 * 1 + 3 * 0.8 + 2 * 0) / 7)
    assert ours.weighted.undefined == ours.macro.undefined
    assert (ours.complete_rows, ours.subset_accuracy, ours.ranking_loss, ours.lrap) == (0, None, None, None)
    assert (ours.samples.precision, ours.samples.recall, ours.samples.f1) == (None, None, None)
    assert ours.undefined()["label1.roc_auc"] == "no positive rows"
    assert ours.undefined()["samples/f1"] == "no row has all labels annotated"
    assert ours.undefined()["lrap"] == "no row has all labels annotated"


@pytest.mark.parametrize(
    "targets_NL",
    [
        np.zeros((0, 2), dtype=np.int8),
        np.full((3, 2), -1, dtype=np.int8),
        np.zeros((3, 2), dtype=np.int8),
        np.ones((3, 2), dtype=np.int8),
        np.array([[1, -1], [-1, 0]], dtype=np.int8),
    ],
)
def test_degenerate_tables_give_null_and_never_nan(targets_NL):
    ours = evaluate(targets_NL, np.full(targets_NL.shape, 0.25), thresholds_for(2))
    written = json.dumps(ours.to_json(), allow_nan=False)
    assert ours.macro.roc_auc is None
    assert ours.undefined()["macro/roc_auc"] == "undefined for every label"
    assert json.loads(written)["macro"]["roc_auc"] is None
    assert json.loads(written)["rows"] == len(targets_NL)


def test_one_label_has_no_ranking_over_labels():
    ours = evaluate(np.array([[1], [0]], dtype=np.int8), np.array([[0.9], [0.1]]), thresholds_for(1))
    assert (ours.ranking_loss, ours.lrap) == (None, None)
    assert ours.reasons["lrap"] == "one label cannot be ranked against others"
    assert ours.subset_accuracy == 1.0


def test_json_has_exactly_the_documented_shape(random_case):
    ours = evaluate(*random_case)
    content = ours.to_json()
    overall = ["accuracy", "subset_accuracy", "hamming_loss", "ranking_loss", "lrap", "coverage_error"]
    assert list(content) == [
        *["labels", "macro", "micro", "weighted", "samples"], *overall, *AT_K, "expected_cost", "rows",
        *["complete_rows", "rows_without_label", "undefined", "excluded_from_macro", "unjudged_thresholds", "baseline"],
    ]  # fmt: skip
    assert list(content["labels"]) == [f"label{i}" for i in range(5)]
    assert list(content["labels"]["label0"]) == ["support", *METRICS, "threshold", *PROPER]
    for average in ("macro", "weighted"):
        assert list(content[average]) == [*METRICS, *PROPER]
    assert list(content["micro"]) == [*METRICS, "brier", "log_loss"]
    assert list(content["samples"]) == ["precision", "recall", "f1"]
    assert content["baseline"] is None
    assert content["undefined"] == {}
    assert content["excluded_from_macro"] == {"roc_auc": 0, "average_precision": 0, "f1": 0}
    assert content["macro"]["f1"] == ours.macro.f1


def test_json_counts_what_the_macro_averages_leave_out_and_names_unjudged_labels():
    thresholds = Thresholds(
        ("a", "b"), np.array([0.3, 0.5]), np.array([True, False]), (None, "no positive rows")
    )
    targets_NL, probabilities_NL = np.array([[1, 0], [0, 0]], dtype=np.int8), np.full((2, 2), 0.4)
    content = evaluate(targets_NL, probabilities_NL, thresholds).to_json()
    assert content["excluded_from_macro"] == {"roc_auc": 1, "average_precision": 1, "f1": 1}
    assert content["unjudged_thresholds"] == {"b": "no positive rows"}


def test_json_nests_the_baseline_and_the_rows_not_seen_in_training(random_case):
    ours = evaluate(*random_case)
    unseen = replace(ours, baseline=ours)
    content = replace(ours, baseline=ours, without_seen_rows=unseen, rows_seen_in_training=12).to_json()
    assert content["rows_seen_in_training"] == 12
    assert "baseline" not in content["baseline"]
    assert content["baseline"]["macro"] == content["macro"]
    assert content["without_seen_rows"]["baseline"]["micro"] == content["micro"]
    json.dumps(content, allow_nan=False)


def test_a_label_called_like_an_average_keeps_its_own_reason():
    thresholds = Thresholds(("macro",), np.array([0.5]), np.array([True]), (None,))
    ours = evaluate(np.zeros((2, 1), dtype=np.int8), np.full((2, 1), 0.1), thresholds)
    assert ours.undefined()["macro.f1"] == "no positive rows"
    assert ours.undefined()["macro/f1"] == "undefined for every label"


def test_reason_of_a_default_threshold_is_kept():
    thresholds = Thresholds(
        ("a",), np.array([0.5]), np.array([False]), ("2 positive rows, at least 5 needed",)
    )
    ours = evaluate(np.array([[1], [0]], dtype=np.int8), np.array([[0.9], [0.1]]), thresholds)
    assert ours.labels[0].threshold_reason == "2 positive rows, at least 5 needed"


@pytest.mark.parametrize(
    ("targets", "probabilities", "message"),
    [
        ([[1, 0]], [[0.5, np.nan]], "finite"),
        ([[1, 0]], [[0.5, 1.5]], "finite"),
        ([[1, 0]], [[0.5, -np.inf]], "finite"),
        ([[1, 2]], [[0.5, 0.5]], "only -1, 0 and 1"),
        ([[1, 0, 1]], [[0.5, 0.5]], "disagree"),
        ([[1, 0, 1]], [[0.5, 0.5, 0.5]], "2 labels disagree"),
    ],
)
def test_impossible_inputs_are_refused(targets, probabilities, message):
    with pytest.raises(ValueError, match=message):
        evaluate(np.array(targets, dtype=np.int8), np.array(probabilities), thresholds_for(2))


def test_a_measurement_has_a_value_or_a_reason():
    with pytest.raises(ValueError, match="either"):
        metrics.Measured(None)
    with pytest.raises(ValueError, match="either"):
        metrics.Measured(0.5, "why")


def test_figures_are_those_of_the_json_by_path(random_case):
    targets_NL, probabilities_NL, thresholds = random_case
    targets_NL[:, 2] = 0
    ours = evaluate(targets_NL, probabilities_NL, thresholds)
    content, figures = ours.to_json(), ours.figures()
    for (part, *names), value in figures.items():
        found = content if part == "overall" else content[part]
        for name in names:
            found = found[name]
        assert found == value, (part, *names)
    assert figures["labels", "label2", "f1"] is None
    assert figures["labels", "label2", "brier"] == pytest.approx(np.mean(probabilities_NL[:, 2] ** 2))
    # Five labels, macro and weighted of eight metrics each, micro of seven, samples of three, 16 of all rows.
    assert len(figures) == 7 * 8 + 7 + 3 + 16


def test_proper_scores_of_labels_and_averages_agree_with_scikit_learn(random_case):
    targets_NL, probabilities_NL, thresholds = random_case
    targets_NL[::4, 1] = -1
    ours = evaluate(targets_NL, probabilities_NL, thresholds)
    kept_NL = targets_NL >= 0
    expected = [
        (reference.brier_score_loss(targets, scores), reference.log_loss(targets, scores))
        for column in range(5)
        for kept in [kept_NL[:, column]]
        for targets, scores in [(targets_NL[kept, column], probabilities_NL[kept, column])]
    ]
    assert [(label.brier, label.log_loss) for label in ours.labels] == [pytest.approx(e) for e in expected]
    supports = (targets_NL == 1).sum(axis=0)
    for average, weights in ((ours.macro, None), (ours.weighted, supports)):
        means = np.average(expected, axis=0, weights=weights)
        assert (average.brier, average.log_loss) == pytest.approx(means)
        ece = np.average([label.ece for label in ours.labels], weights=weights)
        assert average.ece == pytest.approx(ece)
    cells = targets_NL[kept_NL], probabilities_NL[kept_NL]
    assert ours.micro.brier == pytest.approx(reference.brier_score_loss(*cells))
    assert ours.micro.log_loss == pytest.approx(reference.log_loss(*cells))
    assert (ours.micro.ece, "ece" in ours.micro.reasons) == (None, False)


def test_expected_cost_weighs_the_two_errors():
    # Wrong cells: two missed labels and one false alarm among seven annotated ones.
    targets_NL = np.array([[1, 0], [1, 1], [0, -1], [0, 1]], dtype=np.int8)
    probabilities_NL = np.array([[0.9, 0.1], [0.4, 0.8], [0.6, 0.9], [0.1, 0.3]])
    table = targets_NL, probabilities_NL, thresholds_for(2)
    assert evaluate(*table).expected_cost == evaluate(*table).hamming_loss == 3 / 7
    costly = evaluate(*table, cost_false_negative=10.0, cost_false_positive=0.5)
    assert costly.expected_cost == pytest.approx((2 * 10 + 0.5) / 7)
    assert replace(costly, expected_cost=3 / 7) == evaluate(*table)


def test_complete_rows_and_those_without_a_label_are_counted():
    targets_NL = np.array([[1, 0], [0, 0], [0, -1], [0, 0]], dtype=np.int8)
    ours = evaluate(targets_NL, np.array([[0.9, 0.1]] * 4), thresholds_for(2))
    content = ours.to_json()
    assert (content["rows"], content["complete_rows"], content["rows_without_label"]) == (4, 3, 2)
    # As the docstring says: 1 for a row without label in LRAP, 0 in ranking loss and coverage error.
    assert (ours.lrap, ours.ranking_loss, ours.coverage_error) == (1.0, 0.0, pytest.approx(1 / 3))
    assert ours.at_k["precision_at_1"] == 1.0


def test_cuts_above_the_number_of_labels_are_left_out():
    targets_NL = np.array([[1, 0, 0, 1], [0, 0, 0, 0]], dtype=np.int8)
    ours = evaluate(targets_NL, np.array([[0.9, 0.8, 0.1, 0.2], [0.5] * 4]), thresholds_for(4))
    assert list(ours.at_k) == [f"{name}_at_{k}" for name in ("precision", "recall", "ndcg") for k in (1, 3)]
    assert (ours.at_k["precision_at_3"], ours.at_k["recall_at_3"]) == (pytest.approx(2 / 3), 1.0)
    assert ours.at_k["recall_at_1"] == 0.5
    none = evaluate(targets_NL[1:], np.full((1, 4), 0.5), thresholds_for(4))
    assert (none.at_k["ndcg_at_3"], none.reasons["ndcg_at_3"]) == (None, "no positive rows")
    one = evaluate(targets_NL[:, :1], np.array([[0.9], [0.1]]), thresholds_for(1))
    assert one.at_k == dict.fromkeys(["precision_at_1", "recall_at_1", "ndcg_at_1"])
    assert one.reasons["recall_at_1"] == "one label cannot be ranked against others"


def test_what_others_found_is_in_the_json_where_it_exists(random_case):
    ours = evaluate(*random_case)
    parts = {
        "intervals": {"confidence": 0.95, "resamples": 10, "macro": {"f1": [0.1, 0.2]}},
        "calibration": {"method": {"label0": "platt"}, "ece_before": 0.2, "ece_after": 0.1},
        "slices": [{"column": "length", "value": "1-16", "rows": 3, "macro": {}, "micro": {}}],
        "bias": [],
        "bias_overall": {"labels": {}},
        "robustness": [],
        "roles": {"train": 0},
        "seen_in_training": {"exact": 1},
        "chosen_on": "why",
        "against_baseline": {},
    }
    content = replace(ours, **parts, baseline=replace(ours, slices=[])).to_json()
    assert {name: content[name] for name in parts} == parts
    assert content["baseline"]["slices"] == []
    assert not {*parts} & {*ours.to_json()}
    assert {name: value for name, value in content.items() if name not in parts and name != "baseline"} == {
        name: value for name, value in ours.to_json().items() if name != "baseline"
    }
