"""Guarantees: by hand, against scipy, and by simulation (the long one is scripts/risk_simulation.py)."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from manylabel.decisions.binomial import chance_of_at_least, clopper_pearson
from manylabel.decisions.risk import (
    Controlled,
    _last_rejected,
    certify_precision,
    control_missed_share,
    control_misses,
)

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "risk_simulation.py"


def positives(scores):
    """These positives and as many negatives that score 0."""
    return np.repeat([1, 0], len(scores)).astype(np.int8), np.append(scores, np.zeros(len(scores)))


@pytest.mark.parametrize(("hits", "trials"), [(0, 5), (5, 5), (3, 10), (80, 100), (0, 1)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_the_exact_interval_is_scipys(hits, trials, confidence):
    expected = binomtest(hits, trials).proportion_ci(confidence, method="exact")
    assert clopper_pearson(hits, trials, confidence=confidence) == pytest.approx(
        (expected.low, expected.high)
    )


def test_no_trials_have_no_interval_and_nonsense_is_refused():
    assert clopper_pearson(0, 0) is None
    for arguments in ((2, 1, 0.95), (-1, 1, 0.95), (1, 1, 1.0)):
        with pytest.raises(ValueError, match="successes"):
            clopper_pearson(arguments[0], arguments[1], confidence=arguments[2])


def test_the_chance_of_at_least_is_scipys():
    hits, trials = np.array([0, 0, 1, 5, 7, 10]), np.array([0, 9, 9, 9, 7, 40])
    for share in (0.1, 0.5, 0.9):
        expected = binom.sf(hits - 1, trials, share)
        assert chance_of_at_least(hits, trials, share) == pytest.approx(expected)


@pytest.mark.parametrize(("alpha", "rank"), [(0.05, 1), (0.1, 2), (0.099, 1), (0.5, 10), (0.999, 19)])
def test_misses_are_controlled_by_the_kth_lowest_positive(alpha, rank):
    # Of n = 19 positives the floor(20 alpha)-th lowest.
    scores = np.linspace(0.05, 0.95, 19)
    controlled = control_misses(*positives(scores), alpha=alpha)
    assert controlled.threshold == scores[rank - 1]
    assert controlled.risk == pytest.approx((rank - 1) / 19)
    assert controlled.rows == 19


def test_the_last_bit_does_not_cost_a_rank():
    assert 1 - 0.9 < 0.1  # So that floor(10 (1 - 0.9)) is 0.
    assert control_misses(*positives(np.linspace(0.1, 0.9, 9)), alpha=1 - 0.9).threshold == 0.1


@pytest.mark.parametrize(("alpha", "needed"), [(0.05, 19), (0.1, 9), (0.01, 99), (0.03, 33)])
def test_too_few_positives_are_refused_with_their_number(alpha, needed):
    enough, too_few = np.linspace(0.1, 0.9, needed), np.linspace(0.1, 0.9, needed - 1)
    assert control_misses(*positives(enough), alpha=alpha).threshold == 0.1
    refused = control_misses(*positives(too_few), alpha=alpha)
    assert refused.threshold is None
    assert refused.reason == f"{needed - 1} positive rows, at least {needed} needed for {alpha:g}"


def test_ties_are_never_missed_in_part():
    scores = np.array([0.2, 0.2, 0.2, 0.2, 0.6, 0.7, 0.8, 0.9, 0.95])
    assert control_misses(*positives(scores), alpha=0.3).threshold == 0.2  # Rank 3 of 9.
    assert control_misses(*positives(scores), alpha=0.5).threshold == 0.6


def test_the_share_of_a_rows_labels_by_hand():
    # Nine rows: one with two labels at 0.1 and 0.3, one with one label at 0.2, seven without labels or with 0.9.
    targets_NL, scores_NL = np.zeros((9, 2), dtype=np.int8), np.zeros((9, 2))
    targets_NL[0], scores_NL[0] = 1, (0.1, 0.3)
    targets_NL[1, 0], scores_NL[1, 0] = 1, 0.2
    targets_NL[2:5, 1], scores_NL[2:5, 1] = 1, 0.9
    # Losses just above 0.1: 1/2; above 0.2: 3/2; above 0.3: 2. (sum + 1) / 10 is at most 0.15, 0.25, 0.3.
    for alpha, threshold in ((0.1, 0.1), (0.149, 0.1), (0.15, 0.2), (0.25, 0.3), (0.3, 0.9), (0.6, 1.0)):
        assert control_missed_share(targets_NL, scores_NL, alpha=alpha).threshold == threshold
    # Five rows with a label: (sum + 1) / 6.
    only = control_missed_share(targets_NL, scores_NL, alpha=0.25, labelled_only=True)
    assert (only.threshold, only.rows) == (0.2, 5)
    assert only.risk == pytest.approx(0.5 / 5)


def test_rows_without_labels_or_annotation():
    targets_NL = np.array([[0, 0]] * 9 + [[1, -1]] * 10 + [[-1, -1]] * 5, dtype=np.int8)
    scores_NL = np.full((24, 2), 0.4)
    assert control_missed_share(targets_NL, scores_NL, alpha=0.06).rows == 19
    assert control_missed_share(targets_NL, scores_NL, alpha=0.1, labelled_only=True).rows == 10
    empty = control_missed_share(np.zeros((50, 2), dtype=np.int8), np.zeros((50, 2)), alpha=0.1)
    assert empty.threshold is None
    assert "at least 9 needed" in empty.reason


def test_a_single_label_is_the_same_by_rows_with_a_label():
    generator = np.random.default_rng(5)
    targets_N = (generator.random(200) < 0.4).astype(np.int8)
    scores_N = generator.random(200).round(2)
    one = control_misses(targets_N, scores_N, alpha=0.1)
    rows = control_missed_share(targets_N[:, None], scores_N[:, None], alpha=0.1, labelled_only=True)
    assert rows == one


def test_the_fallback_procedure_by_hand():
    # Two starts with 0.05 each. A rejection hands its level on, a failure loses it.
    starts = np.array([True, False, True, False, False])

    def last(*p_values):
        return _last_rejected(np.array(p_values), starts, 0.1)

    assert last(0.05, 0.05, 0.1, 0.1, 0.2) == 3  # The level is 0.1 from the second start on.
    assert last(0.06, 0.00, 0.06, 0.0, 0.0) is None  # Lost at the first, 0.05 is too little for the third.
    assert last(0.05, 0.06, 0.05, 0.05, 0.051) == 3
    assert last(1.0, 1.0, 1.0, 1.0, 1.0) is None


def test_a_precise_label_is_certified_and_the_last_threshold_is_the_lowest():
    # 400 rows above 0.5, all positive; 400 below 0.4, none positive: any cut between is perfect.
    targets_N = np.repeat([1, 0], 400).astype(np.int8)
    scores_N = np.append(np.linspace(0.5, 0.99, 400), np.linspace(0.0, 0.4, 400))
    certified = certify_precision(targets_N, scores_N, precision=0.9, delta=0.05)
    decided = scores_N >= certified.threshold
    assert decided[:400].all()
    hits, count = 400, int(decided.sum())
    assert certified.risk == pytest.approx(1 - hits / count)
    assert binom.sf(hits - 1, count, 0.9) <= 0.05
    # Every row more would be one that no test at the whole level could pass.
    next_grid = math.log(certified.threshold / (1 - certified.threshold)) - 0.05
    below = int((scores_N >= 1 / (1 + math.exp(-next_grid))).sum())
    assert binom.sf(hits - 1, below, 0.9) > 0.05


def test_what_cannot_be_certified_says_why():
    ones, scores = np.ones(40, dtype=np.int8), np.full(40, 0.99)
    # 0.9^k <= 0.05 / 7 needs k = 47.
    refused = certify_precision(ones, scores, precision=0.9, delta=0.05)
    assert refused == Controlled(
        None,
        "at most 40 rows are decided, at least 47 without an error are needed for 0.9 with confidence 0.95",
        40,
        None,
    )
    enough = certify_precision(np.ones(47, np.int8), np.full(47, 0.99), precision=0.9, delta=0.05)
    assert enough.threshold is not None
    noise = np.tile([0, 1], 300).astype(np.int8)
    refused = certify_precision(noise, np.linspace(0, 1, 600), precision=0.9, delta=0.05)
    assert refused.reason == "no threshold has precision 0.9 with confidence 0.95 on these rows"


@pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, float("nan")])
def test_settings_out_of_range_are_refused(bad):
    rows = positives(np.linspace(0.1, 0.9, 30))
    with pytest.raises(ValueError, match="alpha"):
        control_misses(*rows, alpha=bad)
    with pytest.raises(ValueError, match="precision"):
        certify_precision(*rows, precision=bad, delta=0.1)
    with pytest.raises(ValueError, match="delta"):
        certify_precision(*rows, precision=0.9, delta=bad)


@pytest.fixture(scope="module")
def simulation():
    specification = importlib.util.spec_from_file_location("risk_simulation", SCRIPT)
    module = importlib.util.module_from_spec(specification)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, "risk_simulation", module)  # Its dataclasses look there.
        specification.loader.exec_module(module)
        yield module


def test_guarantees_hold_by_simulation(simulation):
    rows = simulation.synthetic_rows(7, 40_000)
    statements = simulation.simulate(rows, draws=150, num_calibration=600, seed=8)
    checked = [each for each in statements if each.bound is not None]
    assert len(checked) == 12
    assert [each for each in checked if not each.holds] == []
    # Nor are the thresholds merely low: where positives are many, misses come close to what is allowed.
    tight = [each for each in checked if each.kind == "misses of a label" and each.label == "calibrated"]
    assert tight[0].measured > 0.08


def test_the_simulation_finds_a_promise_that_is_broken(simulation, monkeypatch, capsys):
    def careless(targets_N, scores_N, *, precision, delta):
        return Controlled(float(np.quantile(scores_N, 0.5)), None, len(scores_N), None)

    monkeypatch.setattr(simulation, "certify_precision", careless)
    monkeypatch.setattr(simulation, "SYNTHETIC_ROWS", 5_000)
    rows = simulation.synthetic_rows(7, 5_000)
    monkeypatch.setattr(simulation, "synthetic_rows", lambda seed: rows)
    assert simulation.main(["--draws", "40", "--rows", "300"]) == 1
    assert "FAILS" in capsys.readouterr().out


def test_a_promise_that_is_never_made_fails_the_simulation(simulation, monkeypatch):
    rows = simulation.synthetic_rows(7, 5_000)
    options = {"draws": 20, "num_calibration": 600, "seed": 8}
    assert all(each.holds for each in simulation.simulate(rows, **options))

    def never(targets_N, scores_N, *, precision, delta):
        return Controlled(None, "never", len(scores_N), None)

    monkeypatch.setattr(simulation, "certify_precision", never)
    failed = [each for each in simulation.simulate(rows, **options) if not each.holds]
    assert [(each.kind, each.label) for each in failed] == [("certified precision broken", "calibrated")]
    # Rows of a file may have no label that can be certified.
    of_file = simulation.Rows(rows.labels, rows.targets_NL, rows.probabilities_NL, True)
    assert all(each.holds for each in simulation.simulate(of_file, **options))


def test_the_simulation_reads_a_file(simulation, tmp_path, capsys):
    rows = simulation.synthetic_rows(7, 3_000)
    np.savez(tmp_path / "rows.npz", targets=rows.targets_NL, probabilities=rows.probabilities_NL)
    assert simulation.main(["--npz", str(tmp_path / "rows.npz"), "--draws", "60", "--rows", "400"]) == 0
    assert "from 3,000 rows" in capsys.readouterr().out
