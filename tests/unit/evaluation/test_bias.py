"""Reference: scikit-learn's roc_auc_score on the rows that the definitions name."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from manylabel.evaluation.bias import (
    IDENTITY_TERMS,
    bias_aucs,
    generalised_mean,
    subgroup_of_column,
    subgroups_of_terms,
)
from manylabel.evaluation.metrics import Measured

LABELS = ("toxic", "threat")


def sample(count=600, seed=1, unknown=0.0, missing=0.0):
    choose = np.random.default_rng(seed)
    probabilities_NL = choose.random((count, 2)).round(2)
    targets_NL = (choose.random((count, 2)) < probabilities_NL).astype(np.int8)
    targets_NL[choose.random((count, 2)) < missing] = -1
    subgroups = {
        name: (choose.random(count) < share).astype(np.int8) for name, share in (("x", 0.3), ("y", 0.1))
    }
    for members_N in subgroups.values():
        members_N[choose.random(count) < unknown] = -1
    return targets_NL, probabilities_NL, subgroups


def brute_force(targets_N, scores_N, members_N):
    """The three AUCs as the paper defines them: row by row who takes part, then scikit-learn."""
    inside, outside = members_N == 1, members_N == 0
    positive, negative = targets_N == 1, targets_N == 0
    parts = (
        inside & (positive | negative),
        (outside & positive) | (inside & negative),
        (outside & negative) | (inside & positive),
    )
    return [roc_auc_score(targets_N[part], scores_N[part]) for part in parts]


@pytest.mark.parametrize(("unknown", "missing"), [(0.0, 0.0), (0.4, 0.0), (0.2, 0.3)])
def test_aucs_equal_brute_force(unknown, missing):
    targets_NL, probabilities_NL, subgroups = sample(unknown=unknown, missing=missing)
    found = bias_aucs(targets_NL, probabilities_NL, LABELS, subgroups)
    for each in found.subgroups:
        for column, label in enumerate(LABELS):
            expected = brute_force(
                targets_NL[:, column], probabilities_NL[:, column], subgroups[each.subgroup]
            )
            assert [auc.value for auc in each.aucs[label]] == pytest.approx(expected, abs=1e-12)


def test_final_score_equals_the_competition_formula():
    targets_NL, probabilities_NL, subgroups = sample()
    found = bias_aucs(targets_NL, probabilities_NL, LABELS, subgroups)
    for column, label in enumerate(LABELS):
        targets_N, scores_N = targets_NL[:, column], probabilities_NL[:, column]
        aucs_SA = np.array([brute_force(targets_N, scores_N, members) for members in subgroups.values()])
        means_A = np.power(np.mean(np.power(aucs_SA, -5), axis=0), 1 / -5)
        expected = 0.25 * roc_auc_score(targets_N, scores_N) + 0.25 * means_A.sum()
        assert found.overall[label].final == pytest.approx(expected, abs=1e-12)
        assert found.overall[label].generalised_mean == pytest.approx(means_A.mean(), abs=1e-12)


def test_a_hand_worked_case():
    """Harmless rows of the subgroup score as high as toxic ones of the background: BPSN tells, BNSP does not."""
    targets_NL = np.array([[1], [1], [0], [0], [1], [0]], np.int8)
    scores_NL = np.array([[0.7], [0.9], [0.1], [0.2], [0.95], [0.8]])
    members_N = np.array([0, 0, 0, 0, 1, 1], np.int8)
    found = bias_aucs(targets_NL, scores_NL, ("toxic",), {"x": members_N}, min_rows=1, min_of_class=1)
    assert [auc.value for auc in found.subgroups[0].aucs["toxic"]] == [1.0, 0.5, 1.0]
    # Of 3 x 3 pairs over all rows one is wrong: 0.7 (toxic) below 0.8 (not).
    assert found.overall["toxic"].overall_auc.value == pytest.approx(8 / 9)
    assert found.overall["toxic"].final == pytest.approx(0.25 * (8 / 9 + 1.0 + 0.5 + 1.0))


@given(
    st.lists(
        st.tuples(st.integers(-1, 1), st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.integers(-1, 1)), max_size=30
    )
)
def test_no_rows_can_crash_it_and_what_is_undefined_has_a_reason(rows):
    targets_NL = np.array([[row[0]] for row in rows], np.int8).reshape(-1, 1)
    scores_NL = np.array([[row[1]] for row in rows]).reshape(-1, 1)
    members_N = np.array([row[2] for row in rows], np.int8)
    found = bias_aucs(targets_NL, scores_NL, ("a",), {"x": members_N}, min_rows=1, min_of_class=1)
    content = found.to_json()
    json.dumps(content, allow_nan=False)
    of_label = content["bias"][0]["labels"]["a"]
    values = [of_label[name] for name in ("subgroup_auc", "bpsn_auc", "bnsp_auc")]
    assert (of_label["reason"] is None) == (None not in values)
    assert all(value is None or 0.0 <= value <= 1.0 for value in values)
    overall = content["bias_overall"]["labels"]["a"]
    assert (overall["final"] is None) == (overall["reason"] is not None)


def test_small_subgroups_are_counted_and_left_out():
    targets_NL, probabilities_NL, subgroups = sample()
    few = np.zeros(600, np.int8)
    few[:29] = 1
    alone = bias_aucs(targets_NL, probabilities_NL, LABELS, subgroups)
    found = bias_aucs(targets_NL, probabilities_NL, LABELS, {**subgroups, "few": few})
    content = found.to_json()
    assert content["bias"][2]["rows"] == 29
    assert "29 rows, at least 30 needed" in content["bias"][2]["labels"]["toxic"]["reason"]
    overall = content["bias_overall"]["labels"]["toxic"]
    assert overall["subgroups_left_out"] == {"subgroup_auc": 1, "bpsn_auc": 1, "bnsp_auc": 1}
    assert overall["final"] == alone.overall["toxic"].final


def test_reasons_say_which_side_is_missing():
    targets_NL, probabilities_NL, _ = sample(count=200)
    all_in = np.ones(200, np.int8)
    content = bias_aucs(targets_NL, probabilities_NL, LABELS, {"all": all_in}).to_json()
    reason = content["bias"][0]["labels"]["toxic"]["reason"]
    assert reason == (
        "bpsn_auc: no positive rows in the background; bnsp_auc: no negative rows in the background"
    )
    assert content["bias_overall"]["labels"]["toxic"]["final"] is None
    nothing = bias_aucs(targets_NL, probabilities_NL, LABELS, {})
    assert nothing.overall["toxic"].final is None


def test_the_generalised_mean_leans_to_the_worst():
    values = [Measured(0.9), Measured(0.5), Measured(None, "none")]
    assert generalised_mean(values).value == pytest.approx(((0.9**-5 + 0.5**-5) / 2) ** (-1 / 5))
    assert 0.5 < generalised_mean(values).value < 0.7
    assert generalised_mean([Measured(0.0), Measured(1.0)]).value == 0.0
    assert generalised_mean([Measured(0.2), Measured(0.6)], power=1.0).value == pytest.approx(0.4)
    assert generalised_mean([]).value is None


def test_terms_are_found_as_whole_words_in_any_case():
    texts = ["GAY pride", "gaye", "a middle-aged man", "middle  aged", "the old man.", "bold", "", "(Old)"]
    found = subgroups_of_terms(texts, ["gay", "middle aged", "old", "..."])
    assert found["gay"].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]
    assert found["middle aged"].tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert found["old"].tolist() == [0, 0, 0, 0, 1, 0, 0, 1]
    assert found["..."].tolist() == [0] * 8


def test_word_boundaries_are_those_of_other_scripts_too():
    texts = ["Он ЕВРЕЙ.", "еврейский", "die STRASSE", "cafe\u0301", "हिन्दू लोग", "हिन्दूवाद"]
    found = subgroups_of_terms(texts, ["еврей", "straße", "café", "हिन्दू", "हिन"])
    assert found["еврей"].tolist() == [1, 0, 0, 0, 0, 0]
    assert found["straße"].tolist() == [0, 0, 1, 0, 0, 0]
    assert found["café"].tolist() == [0, 0, 0, 1, 0, 0]
    assert found["हिन्दू"].tolist() == [0, 0, 0, 0, 1, 0]
    assert found["हिन"].tolist() == [0] * 6


def test_the_default_terms():
    assert len(IDENTITY_TERMS) == len(set(IDENTITY_TERMS)) == 50
    found = subgroups_of_terms(["an african american woman"])
    assert [term for term, members in found.items() if members[0]] == [
        "african",
        "african american",
        "american",
    ]


def test_columns_of_shares_become_members():
    values = ["1", "0", "0.5", "0.49", None, "", "nan", "-1", "true", "False", "1.0"]
    assert subgroup_of_column(values).tolist() == [1, 0, 1, 0, -1, -1, -1, -1, 1, 0, 1]
    for wrong in ("1.5", "-0.2", "woman", "inf"):
        with pytest.raises(ValueError, match="row 1"):
            subgroup_of_column(["0", wrong])


def test_shapes_must_agree():
    targets_NL, probabilities_NL, subgroups = sample(count=40)
    with pytest.raises(ValueError, match="disagree"):
        bias_aucs(targets_NL, probabilities_NL[:, :1], LABELS, subgroups)
    with pytest.raises(ValueError, match="one number a row"):
        bias_aucs(targets_NL, probabilities_NL, LABELS, {"x": np.zeros(3, np.int8)})


def test_a_handful_of_rows_of_a_class_gives_no_figure():
    targets_NL = np.array([[1]] * 4 + [[0]] * 40, dtype=np.int8)
    scores_NL = np.linspace(1.0, 0.0, 44)[:, None]
    (found,) = bias_aucs(targets_NL, scores_NL, ("a",), {"x": np.ones(44, np.int8)}).subgroups
    assert found.aucs["a"][0].reason == "fewer than 5 positive rows in the subgroup"
