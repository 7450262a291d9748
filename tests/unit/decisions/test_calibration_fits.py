"""Fits against scikit-learn and scipy; Platt's targets become weights of doubled rows in the reference."""

import numpy as np
import pytest
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from manylabel.decisions.calibration import Beta, Isotonic, Platt, Temperature
from manylabel.decisions.calibrators import (
    FITTERS,
    fit_beta,
    fit_isotonic,
    fit_platt,
    fit_temperature,
    platt_targets,
)


def sample(seed=0, rows=800, slope=0.4, intercept=-1.0, spread=3.0):
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=spread, size=rows)
    return generator.random(rows) < expit(slope * logits + intercept), logits


def reference(positives, features, *, intercept):
    """Unpenalised logistic regression with the targets t as rows of weight t and 1 - t."""
    targets = platt_targets(positives)
    model = LogisticRegression(C=np.inf, fit_intercept=intercept, tol=1e-10, max_iter=10_000)
    model.fit(
        np.concatenate([features, features]),
        np.repeat([1, 0], len(targets)),
        sample_weight=np.concatenate([targets, 1 - targets]),
    )
    return model.coef_[0], model.intercept_[0] if intercept else 0.0


def log_loss(scores, targets):
    return float(np.mean(np.logaddexp(0, scores) - targets * scores))


def test_targets_are_those_of_platt():
    # Three positives and one negative: 4 / 5 and 1 / 3.
    assert platt_targets(np.array([True, False, True, True])).tolist() == pytest.approx(
        [0.8, 1 / 3, 0.8, 0.8]
    )


@pytest.mark.parametrize("seed", range(3))
def test_platt_is_logistic_regression(seed):
    positives, logits = sample(seed)
    (slope,), intercept = reference(positives, logits[:, None], intercept=True)
    fitted = fit_platt(positives, logits)
    assert (fitted.slope, fitted.intercept) == pytest.approx((slope, intercept), rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_temperature_is_logistic_regression_without_intercept(seed):
    positives, logits = sample(seed)
    (slope,), _ = reference(positives, logits[:, None], intercept=False)
    assert fit_temperature(positives, logits).slope == pytest.approx(slope, rel=1e-5)
    targets = platt_targets(positives)
    best = minimize_scalar(lambda a: log_loss(a * logits, targets), bounds=(1e-3, 10), method="bounded",
                           options={"xatol": 1e-9})  # fmt: skip
    assert fit_temperature(positives, logits).slope == pytest.approx(best.x, rel=1e-5)


def beta_optimum(positives, logits):
    targets = platt_targets(positives)

    def loss(parameters):
        low, high, intercept = parameters
        scores = high * np.logaddexp(0, logits) - low * np.logaddexp(0, -logits) + intercept
        residuals = (expit(scores) - targets) / len(targets)
        gradient = [
            residuals @ -np.logaddexp(0, -logits),
            residuals @ np.logaddexp(0, logits),
            residuals.sum(),
        ]
        return log_loss(scores, targets), np.array(gradient)

    bounds = [(0, None), (0, None), (None, None)]
    found = minimize(loss, [1.0, 1.0, 0.0], jac=True, bounds=bounds, method="L-BFGS-B",
                     options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 5000})  # fmt: skip
    return found.x, found.fun, lambda each: loss((each.rise_low, each.rise_high, each.intercept))[0]


@pytest.mark.parametrize("seed", range(3))
def test_beta_is_the_optimum_found_by_scipy(seed):
    positives, logits = sample(seed, slope=0.5, intercept=-0.5)
    parameters, least, loss_of = beta_optimum(positives, logits)
    fitted = fit_beta(positives, logits)
    assert (fitted.rise_low, fitted.rise_high, fitted.intercept) == pytest.approx(tuple(parameters), abs=1e-3)
    assert loss_of(fitted) == pytest.approx(least, abs=1e-10)


@pytest.mark.parametrize("sign", [1, -1])
def test_beta_stays_on_its_bounds(sign):
    # Logits on one side of 0 say less and less, so that the free optimum has a rise below 0 there.
    generator = np.random.default_rng(3)
    logits = generator.normal(scale=3, size=3000)
    chances = expit(np.where(sign * logits < 0, -0.5 * sign * logits, 1.0 * sign * logits) * sign)
    positives = generator.random(3000) < chances
    parameters, least, loss_of = beta_optimum(positives, logits)
    fitted = fit_beta(positives, logits)
    assert min(fitted.rise_low, fitted.rise_high) == 0.0
    assert (fitted.rise_low, fitted.rise_high, fitted.intercept) == pytest.approx(tuple(parameters), abs=1e-3)
    assert loss_of(fitted) == pytest.approx(least, abs=1e-10)


@pytest.mark.parametrize("decimals", [1, 6])
def test_isotonic_blocks_are_those_of_scikit_learn(decimals):
    positives, logits = sample(4, rows=2000)
    logits = logits.round(decimals)
    model = IsotonicRegression().fit(logits, positives)
    expected = model.predict(logits)
    values = np.unique(expected)
    fitted = fit_isotonic(positives, logits)
    assert len(fitted.logits) == len(values) > 5
    # Inside, a knot is the block's mean logit and its share; the ends move off 0 and 1.
    assert fitted.probabilities[1:-1] == pytest.approx(values[1:-1].tolist())
    centres = [logits[expected == value].mean() for value in values]
    assert fitted.logits == pytest.approx(centres)


def test_isotonic_by_hand():
    # Logits 2 and 3 are violators (1, 0) and pool to 1/2; -1 and 0 have no positive row, 5 no negative one.
    positives = np.array([False, False, True, False, True])
    fitted = fit_isotonic(positives, np.array([-1.0, 0.0, 2.0, 3.0, 5.0]))
    assert fitted.logits == (-0.5, 2.5, 5.0)
    assert fitted.probabilities == pytest.approx((0.5 / 3, 0.5, 1 - 0.5 / 2))


def test_ends_of_isotonic_do_not_cross_their_neighbours():
    # Blocks (1 row, none positive) and (10 rows, one positive): 0.5 / 2 would be above 0.1.
    positives = np.array([False, True] + [False] * 9)
    fitted = fit_isotonic(positives, np.array([0.0] + [1.0] * 10))
    assert fitted.probabilities == pytest.approx((0.1, 0.1))
    mirrored = fit_isotonic(~positives, -np.array([0.0] + [1.0] * 10))
    assert mirrored.probabilities == pytest.approx((0.9, 0.9))


@pytest.mark.parametrize("method", ["temperature", "platt", "beta", "isotonic"])
def test_separable_rows_give_finite_maps_away_from_certainty(method):
    logits = np.concatenate([np.linspace(-3, -1, 50), np.linspace(1, 3, 10)])
    fitted = FITTERS[method](logits > 0, logits)
    probabilities = fitted.apply(logits)
    assert (probabilities[:50] < 0.3).all()
    assert (probabilities[50:] > 0.6).all()
    assert 0.001 < probabilities[0] < probabilities[-1] < 0.999


@pytest.mark.parametrize("method", ["temperature", "platt", "beta"])
def test_falling_labels_have_no_map(method):
    positives, logits = sample(5, slope=1.0, intercept=0.0)
    assert FITTERS[method](~positives, logits) is None


def test_one_block_is_no_isotonic_map():
    assert fit_isotonic(np.array([True, False]), np.array([0.0, 1.0])) is None
    assert fit_isotonic(np.array([True, False]), np.array([1.0, 1.0])) is None


def test_logits_that_differ_by_rounding_alone_have_no_slope():
    logits = np.array([0.0, 5e-324] * 20)
    positives = logits > 0
    assert fit_temperature(positives, logits) is None
    assert fit_platt(positives, logits) is None
    assert fit_beta(positives, logits) is None


def test_fits_find_their_own_shape_again():
    generator = np.random.default_rng(6)
    logits = generator.normal(scale=3, size=200_000)
    for true in (
        Temperature(0.3), Platt(0.4, -1.5), Beta(0.2, 1.1, -0.7), Isotonic((-2.0, 2.0), (0.05, 0.7)),
    ):  # fmt: skip
        fitted = FITTERS[true.method](generator.random(len(logits)) < true.apply(logits), logits)
        assert np.abs(fitted.apply(logits) - true.apply(logits)).mean() < 0.01


def test_lines_between_knots_come_nearer_to_a_smooth_truth_than_steps():
    generator = np.random.default_rng(7)
    excess = {"lines": 0.0, "steps": 0.0}
    for _ in range(10):
        positives, logits = sample(generator.integers(1000), rows=5000, slope=0.5, intercept=-2.0)
        fresh = generator.normal(scale=3.0, size=20_000)
        truth = expit(0.5 * fresh - 2.0)
        fitted = fit_isotonic(positives, logits)
        # scikit-learn keeps every block level; its 0 and 1 are moved to where the lines end.
        steps = IsotonicRegression(out_of_bounds="clip").fit(logits, positives).predict(fresh)
        steps = np.clip(steps, fitted.probabilities[0], fitted.probabilities[-1])
        for name, found in (("lines", fitted.apply(fresh)), ("steps", steps)):
            divergence = truth * np.log(truth / found) + (1 - truth) * np.log((1 - truth) / (1 - found))
            excess[name] += divergence.mean()
    assert excess["lines"] < 0.8 * excess["steps"]
