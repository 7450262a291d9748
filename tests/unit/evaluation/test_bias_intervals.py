"""References: scikit-learn's roc_auc_score with `sample_weight`, DeLong's standard error, the paper's formula."""

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from manylabel.config.schema import EvaluationSettings
from manylabel.evaluation.bias import AUCS, bias_aucs
from manylabel.evaluation.bias_intervals import _BiasFigures, _with_means, with_intervals
from manylabel.evaluation.resampling import make_resampler
from manylabel.evaluation.spread import Sampled

LABELS = ("toxic", "threat")
SETTINGS = EvaluationSettings(resamples=300, seed=5)


def sample(count=800, seed=1, unknown=0.0, missing=0.0, decimals=2):
    choose = np.random.default_rng(seed)
    probabilities_NL = choose.random((count, 2)).round(decimals)
    targets_NL = (choose.random((count, 2)) < probabilities_NL).astype(np.int8)
    targets_NL[choose.random((count, 2)) < missing] = -1
    subgroups = {
        name: (choose.random(count) < share).astype(np.int8) for name, share in (("x", 0.3), ("y", 0.1))
    }
    for members_N in subgroups.values():
        members_N[choose.random(count) < unknown] = -1
    return targets_NL, probabilities_NL, subgroups


def parts_of(targets_N, members_N):
    inside, outside = members_N == 1, members_N == 0
    positive, negative = targets_N == 1, targets_N == 0
    return dict(
        zip(
            AUCS,
            (
                inside & (positive | negative),
                (outside & positive) | (inside & negative),
                (outside & negative) | (inside & positive),
            ),
            strict=True,
        )
    )


@pytest.mark.parametrize(("unknown", "missing", "decimals"), [(0.0, 0.0, 2), (0.3, 0.2, 1), (0.3, 0.0, 9)])
def test_aucs_under_weights_are_scikit_learns(unknown, missing, decimals):
    """With unknown members each subgroup has a background of its own; one decimal makes most scores equal."""
    targets_NL, probabilities_NL, subgroups = sample(unknown=unknown, missing=missing, decimals=decimals)
    figures = _BiasFigures(
        bias_aucs(targets_NL, probabilities_NL, LABELS, subgroups), targets_NL, probabilities_NL, subgroups
    )
    weights_NR = np.random.default_rng(3).integers(0, 4, (800, 5)).astype(np.float64)
    found = dict(zip(figures.paths, figures.compute(weights_NR), strict=True))
    assert len(found) == 2 * (2 * 3 + 1)
    for column, label in enumerate(LABELS):
        targets_N, scores_N = targets_NL[:, column], probabilities_NL[:, column]
        parts = {
            ("subgroup", label, name, auc): part
            for name, members_N in subgroups.items()
            for auc, part in parts_of(targets_N, members_N).items()
        }
        for path, part in {**parts, ("all", label): targets_N >= 0}.items():
            expected = [
                roc_auc_score(targets_N[part], scores_N[part], sample_weight=weights_N[part])
                for weights_N in weights_NR.T
            ]
            assert found[path] == pytest.approx(expected, abs=1e-12), path


def delong_error(positives, negatives):
    """DeLong, DeLong and Clarke-Pearson (1988), from its definition."""
    wins = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    of_positives, of_negatives = wins.mean(axis=1), wins.mean(axis=0)
    return np.sqrt(of_positives.var(ddof=1) / len(positives) + of_negatives.var(ddof=1) / len(negatives))


def test_standard_errors_are_delongs():
    targets_NL, probabilities_NL, subgroups = sample(count=3000)
    bias = bias_aucs(targets_NL, probabilities_NL, LABELS, subgroups)
    settings = EvaluationSettings(resamples=1000, seed=1)
    found = with_intervals(
        bias, targets_NL, probabilities_NL, subgroups, groups_N=None, settings=settings
    ).subgroups[0]
    targets_N, scores_N = targets_NL[:, 0], probabilities_NL[:, 0]
    for number, (auc, part) in enumerate(parts_of(targets_N, subgroups["x"]).items()):
        error = delong_error(scores_N[part & (targets_N == 1)], scores_N[part & (targets_N == 0)])
        interval = found.intervals["toxic"][auc]
        assert interval.standard_error == pytest.approx(error, rel=0.12)
        assert interval.value == pytest.approx(bias.subgroups[0].aucs["toxic"][number].value)
        assert [interval.low, interval.high] == pytest.approx(
            [interval.value - 1.96 * error, interval.value + 1.96 * error], abs=0.6 * error
        )


def test_the_means_of_a_resample_are_those_of_the_paper():
    targets_NL, probabilities_NL, subgroups = sample()
    bias = bias_aucs(targets_NL, probabilities_NL, LABELS, subgroups)
    figures = _BiasFigures(bias, targets_NL, probabilities_NL, subgroups)
    whole_N1 = np.ones((800, 1))
    weights_N1 = np.random.default_rng(8).integers(0, 3, (800, 1)).astype(np.float64)
    sampled = Sampled(
        figures.paths,
        figures.compute(whole_N1)[:, 0],
        np.zeros((len(figures.paths), 0)),
        figures.compute(weights_N1),
    )
    units_F = figures.units(make_resampler(targets_NL, seed=1))
    result, units = _with_means(sampled, units_F, bias)
    assert len(units) == len(result.paths) == len(figures.paths) + 4
    values = dict(zip(result.paths, result.value_F, strict=True))
    for label in LABELS:
        assert values["mean", label, "generalised_mean"] == pytest.approx(
            bias.overall[label].generalised_mean
        )
        assert values["mean", label, "final"] == pytest.approx(bias.overall[label].final)
    drawn = dict(zip(result.paths, result.resampled_FR[:, 0], strict=True))
    means = [
        np.mean([drawn["subgroup", "toxic", name, auc] ** -5.0 for name in subgroups]) ** (-1 / 5)
        for auc in AUCS
    ]
    assert drawn["mean", "toxic", "generalised_mean"] == pytest.approx(np.mean(means))
    assert drawn["mean", "toxic", "final"] == pytest.approx(
        0.25 * drawn["all", "toxic"] + 0.75 * np.mean(means)
    )


def test_json_has_limits_or_why_there_are_none():
    targets_NL, probabilities_NL, subgroups = sample()
    few = np.zeros(800, np.int8)
    few[:29] = 1
    subgroups["few"] = few
    rows = (targets_NL, probabilities_NL)
    plain = bias_aucs(*rows, LABELS, subgroups)
    content = with_intervals(plain, *rows, subgroups, groups_N=None, settings=SETTINGS).to_json()
    json.dumps(content, allow_nan=False)
    of_x = content["bias"][0]["labels"]["toxic"]
    assert of_x["intervals"].keys() == set(AUCS)
    for auc in AUCS:
        low, high = of_x["intervals"][auc]
        assert 0.0 <= low < of_x[auc] < high <= 1.0
    assert of_x["interval_reasons"] == {}
    # Of 29 rows there are no AUCs and so no intervals.
    assert "intervals" not in content["bias"][2]["labels"]["toxic"]
    overall = content["bias_overall"]["labels"]["toxic"]
    assert set(overall["intervals"]) == {"generalised_mean", "final"}
    assert overall["intervals"]["final"][0] < overall["final"] < overall["intervals"]["final"][1]
    none = with_intervals(plain, *rows, subgroups, groups_N=None, settings=EvaluationSettings(resamples=0))
    assert none.to_json() == plain.to_json()


def test_groups_are_drawn_as_a_whole_and_few_of_them_give_no_interval():
    targets_NL, probabilities_NL, subgroups = sample()
    rows = (targets_NL, probabilities_NL)
    bias = bias_aucs(*rows, LABELS, subgroups)

    def width(groups_N):
        found = with_intervals(bias, *rows, subgroups, groups_N=groups_N, settings=SETTINGS)
        interval = found.subgroups[0].intervals["toxic"]["bpsn_auc"]
        return None if interval.limits is None else interval.high - interval.low, interval.reason

    ordered = np.argsort(probabilities_NL[:, 0], kind="stable")
    alike_N = np.empty(800, np.int64)
    alike_N[ordered] = np.arange(800) // 20
    # Rows of a group that score alike tell less than as many rows that are independent.
    assert width(alike_N)[0] > 1.5 * width(None)[0]
    assert width(np.arange(800) % 4) == (None, "fewer than 5 groups of a class")
