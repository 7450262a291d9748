import json
import math

import numpy as np
import pytest
from scipy.special import expit

from manylabel.decisions.calibration import (
    METHODS,
    Beta,
    Calibration,
    Identity,
    Isotonic,
    Platt,
    Temperature,
    sigmoid,
)
from manylabel.errors import BundleError

LOGITS = np.linspace(-12, 12, 241)
ONE_OF_EACH = Calibration(
    ("a", "b", "c", "d", "e", "f"),
    (
        Identity(),
        Temperature(1 / 3),
        Platt(0.1 + 0.2, -1e-17),
        Beta(5e-324, math.pi, -7.0),
        Isotonic((-1e9, 0.1, math.nextafter(0.1, 1)), (0.0, 1 / 3, 1.0)),
        Temperature(1 / 3),
    ),
)


def test_sigmoid_is_the_logistic_function_without_overflow():
    np.testing.assert_allclose(sigmoid(LOGITS), expit(LOGITS), rtol=1e-14)
    assert sigmoid(np.array([-1e308, -1e3, 0.0, 1e3, 1e308])).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


def test_identity_is_sigmoid_to_the_bit_also_beside_other_maps():
    logits_NL = np.random.default_rng(0).normal(scale=5, size=(101, 6)).astype(np.float32)
    assert Calibration.identity("abcdef").apply(logits_NL).tobytes() == sigmoid(logits_NL).tobytes()
    assert ONE_OF_EACH.apply(logits_NL)[:, 0].tobytes() == sigmoid(logits_NL)[:, 0].tobytes()


def test_temperature_platt_and_beta_follow_their_formulas():
    np.testing.assert_allclose(Temperature(0.4).apply(LOGITS), expit(0.4 * LOGITS), rtol=1e-9)
    np.testing.assert_allclose(Platt(0.4, -2.0).apply(LOGITS), expit(0.4 * LOGITS - 2.0), rtol=1e-9)
    # Kull et al. 2017, eq. 5: 1 / (1 + 1 / (e^c s^a / (1 - s)^b)).
    s, a, b, c = expit(LOGITS), 0.3, 1.7, 0.5
    expected = 1 / (1 + 1 / (np.exp(c) * s**a / (1 - s) ** b))
    np.testing.assert_allclose(Beta(a, b, c).apply(LOGITS), expected, rtol=1e-9)


def test_beta_with_equal_rises_is_platt():
    np.testing.assert_allclose(Beta(0.7, 0.7, 0.2).apply(LOGITS), Platt(0.7, 0.2).apply(LOGITS), rtol=1e-9)


def test_isotonic_is_straight_between_knots_and_constant_outside():
    knots = Isotonic((-2.0, 0.0, 1.0), (0.1, 0.1, 0.9))
    assert knots.apply(np.array([-9.0, -2.0, -1.0, 0.0, 0.25, 1.0, 9.0])).tolist() == pytest.approx(
        [0.1, 0.1, 0.1, 0.1, 0.3, 0.9, 0.9]
    )
    np.testing.assert_allclose(
        knots.apply(LOGITS), np.interp(LOGITS, knots.logits, knots.probabilities), rtol=1e-14
    )


def test_rounding_does_not_lift_a_probability_above_the_next_knot():
    # low + (high - low) can exceed high by the last bit; just below a knot the share rounds to 1.
    generator = np.random.default_rng(0)
    low = generator.uniform(0, 0.5, 1000)
    high = generator.uniform(0.5, 1, 1000)
    too_high = low + (high - low) > high
    assert too_high.any()
    for left, right in zip(low[too_high], high[too_high], strict=True):
        knots = Isotonic((-1e3, 1e-20, 1.0), (float(left), float(right), float(right)))
        assert knots.apply(np.array([0.0, 0.5])).tolist() == [right, right]


def test_each_label_gets_its_own_map():
    logits_NL = np.stack([LOGITS] * 6, axis=1)
    probabilities_NL = ONE_OF_EACH.apply(logits_NL)
    assert probabilities_NL.dtype == np.float64
    for column, each in enumerate(ONE_OF_EACH.maps):
        assert probabilities_NL[:, column].tolist() == each.apply(LOGITS).tolist()
    assert ONE_OF_EACH.methods == dict(zip("abcdef", [*METHODS, "temperature"], strict=True))


def test_one_row_gets_what_it_gets_among_others():
    logits_NL = np.random.default_rng(1).normal(scale=5, size=(50, 6)).astype(np.float32)
    rows = [ONE_OF_EACH.apply(logits_NL[i : i + 1]) for i in range(50)]
    assert np.concatenate(rows).tobytes() == ONE_OF_EACH.apply(logits_NL).tobytes()


def test_a_logit_that_is_not_a_number_stays_one():
    assert np.isnan(ONE_OF_EACH.apply(np.full((1, 6), np.nan, np.float32))).all()


@pytest.mark.parametrize("shape", [(3,), (3, 5), (3, 6, 1)])
def test_logits_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="expected 6 columns"):
        ONE_OF_EACH.apply(np.zeros(shape))


def test_a_map_less_than_labels_is_refused():
    with pytest.raises(ValueError, match="one map a label"):
        Calibration(("a", "b"), (Identity(),))


def test_json_gives_back_every_number_to_the_last_bit():
    text = json.dumps(ONE_OF_EACH.to_json(), allow_nan=False)
    assert Calibration.from_json(json.loads(text)) == ONE_OF_EACH


def test_json_is_readable():
    assert Calibration(("x",), (Platt(2.0, -1.0),)).to_json() == {
        "labels": ["x"],
        "maps": [{"method": "platt", "slope": 2.0, "intercept": -1.0}],
    }


def one_map(**entries):
    return {"labels": ["x"], "maps": [entries]}


KNOTS = {"method": "isotonic", "logits": [0.0, 1.0], "probabilities": [0.2, 0.4]}
MALFORMED = {
    "a list": ([], "not an object"),
    "nothing": ({}, "labels is not a list"),
    "maps missing": ({"labels": ["x"]}, "maps is not a list"),
    "text for a list": ({"labels": "x", "maps": []}, "labels is not a list"),
    "other lengths": ({"labels": ["x", "y"], "maps": [{"method": "none"}]}, "2 labels and 1 maps"),
    "label a number": ({"labels": [1], "maps": [{"method": "none"}]}, "not text"),
    "label a list": ({"labels": [[]], "maps": [{"method": "none"}]}, "not text"),
    "label empty": ({"labels": [""], "maps": [{"method": "none"}]}, "not text"),
    "label twice": ({"labels": ["x"] * 2, "maps": [{"method": "none"}] * 2}, "comes twice"),
    "map a number": ({"labels": ["x"], "maps": [1.0]}, "map 1: it is not an object"),
    "no method": (one_map(slope=1.0), "method is unknown"),
    "unknown method": (one_map(method="spline"), "method is unknown"),
    "method a list": (one_map(method=["none"]), "method is unknown"),
    "entry missing": (one_map(method="platt", slope=1.0), "method, slope, intercept and no others"),
    "entry too many": (one_map(method="none", slope=1.0), "no others"),
    "slope text": (one_map(method="temperature", slope="1"), "slope holds something else"),
    "slope true": (one_map(method="temperature", slope=True), "slope holds something else"),
    "slope null": (one_map(method="temperature", slope=None), "slope holds something else"),
    "slope NaN": (one_map(method="temperature", slope=math.nan), "slope holds something else"),
    "slope infinite": (one_map(method="temperature", slope=math.inf), "slope holds something else"),
    "slope beyond floats": (one_map(method="temperature", slope=10**400), "slope holds something else"),
    "slope 0": (one_map(method="temperature", slope=0), "slope is not positive"),
    "slope falls": (one_map(method="platt", slope=-1.0, intercept=0.0), "slope is not positive"),
    "intercept NaN": (one_map(method="platt", slope=1.0, intercept=math.nan), "intercept holds"),
    "beta falls": (one_map(method="beta", rise_low=-0.1, rise_high=1.0, intercept=0.0), "rise is negative"),
    "beta flat": (one_map(method="beta", rise_low=0.0, rise_high=0.0, intercept=0.0), "both rises are 0"),
    "knots a number": (one_map(**{**KNOTS, "logits": 1.0}), "logits is not a list"),
    "knots of text": (one_map(**{**KNOTS, "logits": ["a", "b"]}), "logits holds something else"),
    "knots NaN": (one_map(**{**KNOTS, "probabilities": [0.1, math.nan]}), "probabilities holds"),
    "knots differ": (one_map(**{**KNOTS, "logits": [0.0, 1.0, 2.0]}), "differ in number"),
    "one knot": (one_map(method="isotonic", logits=[0.0], probabilities=[0.1]), "fewer than two knots"),
    "knots equal": (one_map(**{**KNOTS, "logits": [1.0, 1.0]}), "logits of the knots do not rise"),
    "knots fall": (one_map(**{**KNOTS, "probabilities": [0.4, 0.2]}), "probabilities of the knots fall"),
    "knots above 1": (one_map(**{**KNOTS, "probabilities": [0.4, 1.2]}), "outside"),
    "knots below 0": (one_map(**{**KNOTS, "probabilities": [-0.4, 0.2]}), "outside"),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_json_is_refused_with_a_finding(name):
    content, found = MALFORMED[name]
    with pytest.raises(BundleError) as caught:
        Calibration.from_json(content)
    assert any(found in finding.found for finding in caught.value.findings)
    assert {finding.code for finding in caught.value.findings} == {"B461"}
    assert all(finding.next_step and finding.allowed for finding in caught.value.findings)


def test_all_malformed_maps_are_told_at_once():
    maps = [{"method": "temperature", "slope": -1.0}, {"method": "none"}, {"method": "?"}]
    with pytest.raises(BundleError) as caught:
        Calibration.from_json({"labels": ["a", "b", "c"], "maps": maps})
    assert [finding.found.split(":")[0] for finding in caught.value.findings] == ["map 1", "map 3"]
