"""No calibration map ever turns the order of two logits around, whatever it was fitted to."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from manylabel.decisions.calibration import (
    Beta,
    Calibration,
    Identity,
    Isotonic,
    Platt,
    Temperature,
    sigmoid,
)
from manylabel.decisions.calibration_fit import fit_calibration

SLOPES = st.one_of(st.sampled_from([5e-324, 1e-9, 1e-3, 1.0, 1e9]), st.floats(1e-12, 1e9))
RISES = st.one_of(st.just(0.0), SLOPES)
INTERCEPTS = st.one_of(st.sampled_from([0.0, -0.7, 1e9, -1e9]), st.floats(-50, 50))


@st.composite
def isotonic(draw):
    logits = sorted(draw(st.sets(st.floats(-1e3, 1e3), min_size=2, max_size=8)))
    numbers = st.floats(0, 1)
    probabilities = sorted(draw(st.lists(numbers, min_size=len(logits), max_size=len(logits))))
    return Isotonic(tuple(logits), tuple(probabilities))


MAPS = st.one_of(
    st.builds(Temperature, SLOPES),
    st.builds(Platt, SLOPES, INTERCEPTS),
    st.tuples(RISES, RISES, INTERCEPTS)
    .filter(lambda each: each[0] + each[1] > 0)
    .map(lambda each: Beta(*each)),
    isotonic(),
)


def neighbours(start, steps=200):
    """Float64 numbers that follow one another with nothing between."""
    numbers = [start]
    for _ in range(steps):
        numbers.append(np.nextafter(numbers[-1], np.inf))
    return numbers


CENTRES = st.one_of(
    st.sampled_from([-1e3, -700.0, -0.9, -1e-9, 0.0, 1e-12, 0.7, 36.0, 1e3]), st.floats(-1e3, 1e3)
)
SPREAD = [-1e308, -1e3, -745.0, *np.linspace(-40, 40, 81), 745.0, 1e3, 1e308, np.inf, -np.inf]


def rising(probabilities):
    return bool((np.diff(probabilities) >= 0).all()) and 0 <= probabilities[0] <= probabilities[-1] <= 1


@given(MAPS, CENTRES, st.lists(st.floats(-1e3, 1e3), max_size=50))
def test_every_map_rises_even_between_neighbouring_float64_logits(each, centre, others):
    logits = np.sort(np.array([*neighbours(centre), *others, *SPREAD]))
    assert rising(each.apply(logits))


@given(isotonic(), st.floats(0, 1))
def test_isotonic_rises_around_its_knots(each, share):
    around = [x for knot in each.logits for x in (np.nextafter(knot, -np.inf), *neighbours(knot, 3))]
    between = [
        low + share * (high - low) for low, high in zip(each.logits[:-1], each.logits[1:], strict=True)
    ]
    assert rising(each.apply(np.sort(np.array(around + between))))


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=50), st.floats(-20, 20, width=32))
def test_without_calibration_float32_logits_keep_their_order(others, start):
    near = start
    logits = [np.float32(start)]
    for _ in range(100):
        near = np.nextafter(np.float32(near), np.float32(np.inf))
        logits.append(near)
    assert rising(Identity().apply(np.sort(np.array([*logits, *others], np.float32))))


LOGITS = st.one_of(
    st.sampled_from([-1e3, -1.0, 0.0, 0.5, 1.0, 1e3, 5e-324]),
    st.floats(-10, 10, width=32),
    st.floats(-1e3, 1e3),
)
METHODS = st.sampled_from(["auto", "lines", "none", "temperature", "platt", "beta", "isotonic"])
ROWS = st.lists(st.tuples(st.sampled_from([-1, 0, 1]), LOGITS), max_size=40)
SHAPES = ("as drawn", "separable", "falling", "one value", "copies")


def shaped(rows, shape):
    """The rows as a label of N targets and logits that is separable, falls and so on."""
    targets = np.array([target for target, _ in rows], dtype=np.int8)
    logits = np.array([logit for _, logit in rows], dtype=np.float64)
    if shape == "separable":
        targets = np.where(targets >= 0, logits > 0.5, targets).astype(np.int8)
    elif shape == "falling":
        targets = np.where(targets >= 0, logits <= 0.5, targets).astype(np.int8)
    elif shape == "one value":
        logits = np.full_like(logits, 0.25)
    elif shape == "copies":
        targets, logits = np.repeat(targets, 8), np.repeat(logits, 8)
    return targets[:, None], logits[:, None]


@given(ROWS, st.sampled_from(SHAPES), METHODS, st.integers(2, 5), st.booleans(), CENTRES)
def test_fits_to_any_rows_rise_and_survive_json(rows, shape, method, min_positives, grouped, centre):
    targets_NL, logits_NL = shaped(rows, shape)
    fitted = fit_calibration(
        targets_NL,
        logits_NL,
        ("only",),
        method=method,
        min_positives=min_positives,
        seed=3,
        groups_N=np.arange(len(targets_NL)) // 3 if grouped else None,
    )
    (choice,) = fitted.choices
    assert choice.method == fitted.calibration.methods["only"]
    assert all(np.isfinite(loss) for loss in choice.log_losses.values())
    if method == "lines":
        assert choice.method in ("none", "temperature", "platt")
    elif method not in ("auto", "none"):
        assert choice.method in ("none", method)
    again = Calibration.from_json(json.loads(json.dumps(fitted.calibration.to_json(), allow_nan=False)))
    assert again == fitted.calibration
    wanted = np.sort(np.array([*neighbours(centre, 50), *SPREAD, *logits_NL[:, 0]]))[:, None]
    if choice.method == "none":
        wanted = np.sort(np.clip(wanted, -1e38, 1e38).astype(np.float32), axis=0)
        assert again.apply(wanted).tobytes() == sigmoid(wanted).tobytes()
    assert rising(again.apply(wanted)[:, 0])
    if choice.method == "isotonic":
        values = again.apply(logits_NL)
        assert ((values > 0) & (values < 1)).all()


@given(
    st.lists(st.tuples(*[st.tuples(st.sampled_from([-1, 0, 1]), LOGITS)] * 3), min_size=1, max_size=30),
    METHODS,
)
def test_labels_in_a_pool_rise_too(rows, method):
    targets_NL = np.array([[target for target, _ in row] for row in rows], dtype=np.int8)
    logits_NL = np.array([[logit for _, logit in row] for row in rows])
    fitted = fit_calibration(targets_NL, logits_NL, "abc", method=method, min_positives=8, seed=0)
    for column, choice in enumerate(fitted.choices):
        order = np.argsort(logits_NL[:, column], kind="stable")
        if choice.method != "none":
            assert rising(fitted.calibration.apply(logits_NL[order])[:, column])
