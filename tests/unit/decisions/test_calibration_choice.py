import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss

from manylabel.decisions.calibration import Calibration, Isotonic
from manylabel.decisions.calibration_fit import deal_folds, fit_calibration, log_losses, standard_error

METHODS = ("none", "temperature", "platt", "beta", "isotonic")


def fit(targets_NL, logits_NL, method="auto", min_positives=20, seed=1, groups_N=None):
    labels = tuple(f"label {column}" for column in range(targets_NL.shape[1]))
    return fit_calibration(
        targets_NL,
        logits_NL,
        labels,
        method=method,
        min_positives=min_positives,
        seed=seed,
        groups_N=groups_N,
    )


def draw(generator, true_logits_NL):
    return (generator.random(true_logits_NL.shape) < expit(true_logits_NL)).astype(np.int8)


def expected_calibration_error(targets, probabilities, bins=15):
    """Equal-mass bins: mean over bins of |share of positives - mean probability|."""
    parts = np.array_split(np.argsort(probabilities, kind="stable"), bins)
    gaps = [len(part) * abs(targets[part].mean() - probabilities[part].mean()) for part in parts]
    return sum(gaps) / len(targets)


def test_known_miscalibration_is_undone_on_fresh_rows():
    generator = np.random.default_rng(0)
    true_NL = generator.normal(scale=1.5, size=(24_000, 4)) - np.array([0.0, 1.0, 2.0, 3.0])
    targets_NL, logits_NL = draw(generator, true_NL), (3.0 * true_NL + 2.0).astype(np.float32)
    fitted = fit(targets_NL[:4000], logits_NL[:4000])
    fresh = slice(4000, None)
    before_NL = Calibration.identity(fitted.calibration.labels).apply(logits_NL[fresh])
    after_NL = fitted.calibration.apply(logits_NL[fresh])
    for column in range(4):
        before = expected_calibration_error(targets_NL[fresh, column], before_NL[:, column])
        after = expected_calibration_error(targets_NL[fresh, column], after_NL[:, column])
        assert after < before / 3
    assert set(fitted.calibration.methods.values()) == {"platt"}


def test_calibrated_logits_mostly_stay_as_they_are():
    generator = np.random.default_rng(1)
    true_NL = generator.normal(scale=2.0, size=(2000, 60)) - generator.uniform(0, 3, 60)
    fitted = fit(draw(generator, true_NL), true_NL)
    kept = [choice.method for choice in fitted.choices].count("none")
    assert kept >= 54
    assert np.abs(fitted.calibration.apply(true_NL) - expit(true_NL)).max(axis=0).mean() < 0.02


@pytest.mark.parametrize(
    ("method", "bend"),
    [
        ("temperature", lambda z: 0.4 * z),
        ("platt", lambda z: 0.8 * z - 2.0),
        ("beta", lambda z: 1.5 * np.logaddexp(0, z) - 0.3 * np.logaddexp(0, -z) - 2.0),
        ("isotonic", lambda z: np.select([z < -1, z < 1, z < 3], [-4.0, -1.0, 1.0], 4.0)),
    ],
)
def test_auto_finds_the_kind_of_miscalibration(method, bend):
    generator = np.random.default_rng(2)
    logits_NL = generator.normal(scale=3.0, size=(20_000, 1))
    fitted = fit(draw(generator, bend(logits_NL)), logits_NL)
    assert fitted.choices[0].method == method
    assert fitted.choices[0].reason.startswith(f"{method}: ")
    assert set(fitted.choices[0].log_losses) == set(METHODS)


def test_cross_validated_log_losses_are_those_of_held_out_rows():
    # Of none, which is not fitted, the mean over folds is the log loss of all annotated rows.
    generator = np.random.default_rng(3)
    logits_NL = generator.normal(scale=2.0, size=(3000, 1))
    targets_NL = draw(generator, 0.7 * logits_NL)
    targets_NL[::7] = -1
    kept = targets_NL[:, 0] >= 0
    fitted = fit(targets_NL, logits_NL)
    assert fitted.choices[0].log_losses["none"] == pytest.approx(
        log_loss(targets_NL[kept, 0], expit(logits_NL[kept, 0])), rel=1e-12
    )
    assert fitted.choices[0].positives == (targets_NL == 1).sum()


def test_rows_that_are_not_annotated_have_no_part():
    generator = np.random.default_rng(4)
    logits_NL = generator.normal(scale=2.0, size=(600, 1))
    targets_NL = draw(generator, 0.3 * logits_NL)
    targets_NL[400:] = -1
    absurd_NL = logits_NL.copy()
    absurd_NL[400:] = 1e3
    for method in ("auto", *METHODS):
        assert (
            fit(targets_NL, absurd_NL, method).calibration == fit(targets_NL, logits_NL, method).calibration
        )


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_is_set_is_taken(method):
    generator = np.random.default_rng(5)
    logits_NL = generator.normal(scale=2.0, size=(500, 2))
    fitted = fit(draw(generator, logits_NL), logits_NL, method)
    assert set(fitted.calibration.methods.values()) == {method}
    assert {choice.reason for choice in fitted.choices} == {f"{method} as set"}


def rare_labels(generator):
    """Two common labels, overconfident by 3; two rare ones, overconfident by 2, of which one has no positive."""
    true_NL = generator.normal(scale=2.0, size=(5000, 4)) - np.array([0.0, 1.0, 9.0, 0.0])
    targets_NL = draw(generator, true_NL)
    targets_NL[:, 3] = 0
    return targets_NL, true_NL * np.array([3.0, 3.0, 2.0, 2.0])


def test_rare_labels_share_a_pooled_map():
    targets_NL, logits_NL = rare_labels(np.random.default_rng(6))
    num_positives = (targets_NL == 1).sum(axis=0)
    assert 5 <= num_positives[2] < 60
    fitted = fit(targets_NL, logits_NL, method="platt", min_positives=60)
    maps, choices = fitted.calibration.maps, fitted.choices
    assert [choice.pooled for choice in choices] == [False, False, True, True]
    assert maps[2] == maps[3] != maps[0]
    # Together the two are still too rare, so all labels are pooled.
    together = fit(targets_NL.reshape(-1, 1), logits_NL.reshape(-1, 1), "platt").calibration.maps[0]
    assert maps[2] == together
    assert choices[3].reason == "0 positive rows, at least 60 needed; pooled over all labels: platt as set"
    assert choices[2].positives == num_positives[2]


def test_rare_labels_are_pooled_among_themselves_where_they_suffice():
    generator = np.random.default_rng(7)
    true_NL = generator.normal(scale=1.5, size=(3000, 11)) - np.array([0.0] + [7.0] * 10)
    targets_NL = draw(generator, true_NL)
    fitted = fit(targets_NL, 2.0 * true_NL, min_positives=30)
    assert [choice.pooled for choice in fitted.choices] == [False] + [True] * 10
    assert "pooled over 10 rare labels: " in fitted.choices[1].reason
    alone = fit(targets_NL[:, 1:].reshape(-1, 1), 2.0 * true_NL[:, 1:].reshape(-1, 1), "platt").calibration
    assert fit(targets_NL, 2.0 * true_NL, "platt", 30).calibration.maps[5] == alone.maps[0]


def test_a_label_that_is_nearly_always_on_is_rare_too():
    targets_NL = np.ones((200, 1), np.int8)
    targets_NL[:3] = 0
    choice = fit(targets_NL, np.linspace(-1, 1, 200)[:, None]).choices[0]
    assert choice.reason == "3 negative rows, at least 20 needed; too few in all labels together"
    assert (choice.method, choice.pooled, choice.positives) == ("none", False, 197)


def test_nothing_annotated_is_no_calibration():
    fitted = fit(np.full((50, 3), -1, np.int8), np.zeros((50, 3)))
    assert fitted.calibration == Calibration.identity(fitted.calibration.labels)
    assert "too few in all labels" in fitted.choices[0].reason
    assert fit(np.empty((0, 1), np.int8), np.empty((0, 1))).calibration.methods == {"label 0": "none"}


TROUBLE = "does not rise with the logits"


def uninformative(generator, rows=2000, share=0.05):
    """Logits that know nothing of targets of which 5 % are positive."""
    targets_NL = np.zeros((rows, 1), np.int8)
    targets_NL[: round(share * rows)] = 1
    return targets_NL, generator.normal(scale=2.0, size=(rows, 1))


def error_of(calibration, targets_NL, logits_NL):
    """Calibration error of the first label, whose order must be that of its logits."""
    probabilities = calibration.apply(logits_NL)[:, 0]
    assert (np.diff(probabilities[np.argsort(logits_NL[:, 0])]) >= 0).all()
    return expected_calibration_error(targets_NL[:, 0], probabilities, bins=2)


@pytest.mark.parametrize("method", ["auto", "lines", "platt", "beta"])
@pytest.mark.parametrize("seed", range(4))
def test_uninformative_logits_get_the_share_of_positives(method, seed):
    targets_NL, logits_NL = uninformative(np.random.default_rng(seed))
    fitted = fit(targets_NL, logits_NL, method)
    assert error_of(Calibration.identity(("x",)), targets_NL, logits_NL) > 0.4
    assert error_of(fitted.calibration, targets_NL, logits_NL) < 0.015
    assert fitted.calibration.apply(logits_NL).mean() == pytest.approx(0.05, abs=0.001)
    best = min(fitted.choices[0].log_losses.values())
    assert fitted.choices[0].log_losses[fitted.choices[0].method] < best + 0.01


@pytest.mark.parametrize("method", ["auto", "lines", "platt", "beta", "isotonic"])
@pytest.mark.parametrize("value", [0.0, 0.3, 600.0, 1e3])
def test_equal_logits_get_the_share_of_positives(method, value):
    targets_NL, logits_NL = uninformative(np.random.default_rng(0))
    logits_NL[:] = value
    fitted = fit(targets_NL, logits_NL, method)
    assert fitted.calibration.apply(logits_NL) == pytest.approx(100.5 / 2001, rel=1e-4)
    assert fitted.choices[0].method == ("platt" if method in ("auto", "lines") else method)
    assert fitted.choices[0].reason.endswith(
        f"; almost flat, as the fit of {fitted.choices[0].method} {TROUBLE}"
    )


@pytest.mark.parametrize("method", ["auto", "lines", "platt"])
def test_logits_that_point_the_wrong_way_get_a_line_that_barely_rises(method):
    generator = np.random.default_rng(8)
    logits_NL = generator.normal(scale=2.0, size=(500, 1))
    targets_NL = draw(generator, -logits_NL - 3.0)
    fitted = fit(targets_NL, logits_NL, method)
    (line,) = fitted.calibration.maps
    share = (targets_NL.sum() + 0.5) / 501
    assert (line.slope, line.intercept + line.slope * np.median(logits_NL)) == pytest.approx(
        (0.001, np.log(share / (1 - share)))
    )
    assert (np.diff(line.apply(np.sort(logits_NL[:, 0]))) > 0).all()
    assert TROUBLE in fitted.choices[0].reason
    losses = fitted.choices[0].log_losses
    assert losses["platt"] < losses["none"]


def test_rare_labels_without_information_share_the_almost_flat_line():
    generator = np.random.default_rng(3)
    targets_NL = np.zeros((1000, 3), np.int8)
    targets_NL[:10] = 1
    fitted = fit(targets_NL, np.full((1000, 3), 0.5) + generator.normal(size=(1000, 3)) * 1e-9)
    assert [choice.pooled for choice in fitted.choices] == [True] * 3
    assert fitted.calibration.apply(np.full((1, 3), 0.5)) == pytest.approx(30.5 / 3001)


def test_none_stays_where_an_almost_flat_map_is_no_better():
    # Equal logits that are right already; for a set method the choice is between the two alone.
    targets_NL = np.repeat([0, 1], 50).astype(np.int8)[:, None]
    for method in ("auto", "lines", "temperature", "platt", "beta", "isotonic"):
        fitted = fit(targets_NL, np.zeros((100, 1)), method)
        assert fitted.calibration.methods == {"label 0": "none"}
        assert fitted.choices[0].reason.startswith("none: ")
    assert TROUBLE in fitted.choices[0].reason


def test_a_set_temperature_that_cannot_rise_is_almost_flat_where_that_is_better():
    # All logits are above 5 and four rows of five are negative: the best slope through 0 is below 0.
    logits_NL = np.linspace(5, 6, 200)[:, None]
    targets_NL = np.tile([0, 0, 0, 0, 1], 40).astype(np.int8)[:, None]
    fitted = fit(targets_NL, logits_NL, "temperature")
    assert fitted.choices[0].reason == f"temperature as set; almost flat, as the fit of temperature {TROUBLE}"
    assert fitted.calibration.apply(logits_NL) == pytest.approx(0.5, abs=0.002)


@pytest.mark.parametrize("method", ["auto", "lines", "temperature", "platt", "beta", "isotonic"])
def test_one_absurd_logit_does_not_spoil_the_map(method):
    generator = np.random.default_rng(4)
    logits_NL = generator.normal(size=(2000, 1)) + 3.0
    targets_NL = draw(generator, 2.0 * logits_NL - 10.5)
    absurd_NL = logits_NL.copy()
    absurd_NL[np.flatnonzero(targets_NL)[0]] = -700.0
    assert absurd_NL[targets_NL == 1].mean() < absurd_NL[targets_NL == 0].mean()
    fitted = fit(targets_NL, absurd_NL, method)
    losses = fitted.choices[0].log_losses
    assert fitted.choices[0].method != "none"
    assert losses[fitted.choices[0].method] < losses["none"]
    if method != "temperature":
        assert error_of(Calibration.identity(("x",)), targets_NL, absurd_NL) > 0.6
        assert error_of(fitted.calibration, targets_NL, absurd_NL) < 0.03
        away = fitted.calibration.apply(logits_NL) - fit(targets_NL, logits_NL, method).calibration.apply(
            logits_NL
        )
        assert np.abs(away).mean() < 0.05


def test_isotonic_is_a_candidate_from_100_rows_of_each_class_on():
    generator = np.random.default_rng(9)
    logits_NL = generator.normal(size=(1000, 2))
    targets_NL = np.zeros((1000, 2), np.int8)
    for column, num_positives in enumerate((99, 100)):
        targets_NL[
            np.argsort(logits_NL[:, column] + generator.normal(size=1000))[-num_positives:], column
        ] = 1
    without, with_it = fit(targets_NL, logits_NL).choices
    assert set(without.log_losses) == set(METHODS) - {"isotonic"}
    assert set(with_it.log_losses) == set(METHODS)


def test_folds_are_stratified_and_keep_groups():
    generator = np.random.default_rng(10)
    positives = generator.random(1003) < 0.03
    folds = deal_folds(positives, np.arange(1003), np.random.default_rng(0))
    for rows in (positives, ~positives):
        assert np.ptp(np.bincount(folds[rows], minlength=5)) <= 1
    groups = generator.integers(0, 200, 1003)
    _, groups = np.unique(groups, return_inverse=True)
    grouped = deal_folds(positives, groups, np.random.default_rng(0))
    assert all(len(np.unique(grouped[groups == group])) == 1 for group in range(groups.max() + 1))
    assert np.ptp(np.bincount(grouped[positives], minlength=5)) <= 3
    assert set(deal_folds(np.array([True, False]), np.array([0, 1]), generator)) == {0, 1}


def test_copies_in_one_group_do_not_make_a_complex_map_look_good():
    # 40 logits, each 50 times with one target: with copies apart, a map has seen the targets it is judged on.
    generator = np.random.default_rng(11)
    logits = generator.normal(size=40)
    targets_NL = np.repeat((generator.random(40) < expit(logits)).astype(np.int8), 50)[:, None]
    logits_NL, groups = np.repeat(logits, 50)[:, None], np.repeat([f"author {i}" for i in range(40)], 50)
    apart, together = fit(targets_NL, logits_NL), fit(targets_NL, logits_NL, groups_N=groups)
    assert apart.choices[0].method in ("beta", "isotonic")
    assert together.choices[0].method in ("none", "temperature")
    assert apart.choices[0].log_losses["isotonic"] < together.choices[0].log_losses["isotonic"] - 0.05


def test_one_group_alone_is_no_ground_for_a_map():
    generator = np.random.default_rng(12)
    logits_NL = generator.normal(size=(400, 1))
    choice = fit(draw(generator, 3 * logits_NL), logits_NL, groups_N=["all"] * 400).choices[0]
    assert choice.method == "none"


def test_the_same_seed_gives_the_same_maps_and_names_of_groups_do_not_matter():
    generator = np.random.default_rng(13)
    logits_NL = generator.normal(scale=2, size=(600, 3))
    targets_NL = draw(generator, 0.5 * logits_NL)
    groups = generator.integers(0, 100, 600)
    first = fit(targets_NL, logits_NL, groups_N=groups)
    assert first == fit(targets_NL, logits_NL, groups_N=[f"g{group}" for group in groups])
    other = fit(targets_NL, logits_NL, groups_N=groups, seed=2)
    assert other.choices[0].log_losses != first.choices[0].log_losses


def test_a_label_does_not_depend_on_its_neighbours():
    generator = np.random.default_rng(14)
    logits_NL = generator.normal(scale=2, size=(600, 3))
    targets_NL = draw(generator, 0.5 * logits_NL)
    assert fit(targets_NL[:, :2], logits_NL[:, :2]).choices == fit(targets_NL, logits_NL).choices[:2]


def test_standard_error_is_that_of_a_mean_and_of_group_sums():
    differences = np.random.default_rng(15).normal(size=60)
    expected = differences.std(ddof=1) / np.sqrt(60)
    assert standard_error(differences, np.arange(60)) == pytest.approx(expected)
    # Rows of a group repeat one another: as many as groups is what counts.
    assert standard_error(np.repeat(differences, 4), np.repeat(np.arange(60), 4)) == pytest.approx(expected)
    assert standard_error(differences, np.zeros(60, np.int64)) == np.inf


def test_log_losses_are_finite_for_certain_mistakes():
    found = log_losses(np.array([True, False, True]), np.array([0.0, 1.0, 0.25]))
    assert found.tolist() == pytest.approx([52 * np.log(2), 52 * np.log(2), 2 * np.log(2)])


def test_many_pooled_cells_are_sampled_by_row(monkeypatch):
    monkeypatch.setattr("manylabel.decisions.calibration_fit.MAX_POOLED_CELLS", 2000)
    generator = np.random.default_rng(16)
    logits_NL = generator.normal(size=(1500, 4)) - 2
    fitted = fit(draw(generator, logits_NL), 3 * logits_NL, "temperature", min_positives=280)
    assert all(choice.pooled and choice.positives < 280 for choice in fitted.choices)
    # A third of the rows is left: close to what all of them give, and not the same.
    everything = fit(
        draw(np.random.default_rng(16), logits_NL), 3 * logits_NL, "temperature", min_positives=2
    )
    slope = fitted.calibration.maps[0].slope
    assert slope == pytest.approx(1 / 3, rel=0.15)
    assert slope not in {each.slope for each in everything.calibration.maps}


@pytest.mark.parametrize(
    ("targets", "logits", "options", "message"),
    [
        (np.zeros((3, 2), np.int8), np.zeros((3, 1)), {}, "disagree"),
        (np.zeros((3, 1), np.int8), np.array([[0.0], [np.nan], [0.0]]), {}, "finite"),
        (np.zeros((3, 1), np.int8), np.zeros((3, 1)), {"method": "spline"}, "method must be"),
        (np.zeros((3, 1), np.int8), np.zeros((3, 1)), {"groups_N": ["a"]}, "1 groups for 3 rows"),
    ],
)
def test_wrong_arguments_are_refused(targets, logits, options, message):
    with pytest.raises(ValueError, match=message):
        fit(targets, logits, **options)


def test_isotonic_can_be_set_for_fewer_rows():
    generator = np.random.default_rng(17)
    logits_NL = generator.normal(scale=2, size=(120, 1))
    assert isinstance(fit(draw(generator, logits_NL), logits_NL, "isotonic").calibration.maps[0], Isotonic)


def test_lines_chooses_among_straight_lines_only():
    generator = np.random.default_rng(8)
    bent_NL = generator.normal(scale=2.0, size=(6000, 1))
    true_NL = np.where(bent_NL > 0.0, 0.2 * bent_NL, 2.0 * bent_NL)
    targets_NL = draw(generator, true_NL)
    assert fit(targets_NL, bent_NL).calibration.methods["label 0"] in ("beta", "isotonic")
    lines = fit(targets_NL, bent_NL, method="lines")
    assert lines.calibration.methods["label 0"] in ("none", "temperature", "platt")
    assert set(lines.choices[0].log_losses) == {"none", "temperature", "platt"}
