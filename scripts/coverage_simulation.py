"""Do 95 % intervals hold the truth 95 times in 100, and do tests of equal models reject 5 times in 100?

    python scripts/coverage_simulation.py            # 500 made-up sets, under four minutes on two cores
    python scripts/coverage_simulation.py --sets 50  # a quick look; the allowed range is for 500 and more

Each set has 1,000 rows of 8 labels that share a hidden cause, prevalence 0.2 to 0.015, and two models whose scores are
normal with a shift for positives and noise of their own: both are equally good. The truth is a set of a million rows.
Prints a table and ends with 1 when a coverage is outside 93-97 % or a share of rejections is further from 5 % than
chance allows (2.6 standard errors, exceeded by chance in 1 of 100).
"""

from __future__ import annotations

import argparse
import functools
import math
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, ndtri

from manylabel.config.schema import EvaluationSettings
from manylabel.decisions.thresholds import Thresholds
from manylabel.evaluation.intervals import bootstrap
from manylabel.evaluation.paired import compare
from manylabel.evaluation.spread import num_threads
from manylabel.evaluation.weighted import Judged, Path, WeightedFigures

PREVALENCE_L = np.array([0.2, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02, 0.015])
SHIFT_L = np.array([2.0, 1.2, 2.0, 1.5, 2.0, 1.5, 2.0, 2.5])
"""How much higher positives score than negatives, in standard deviations of the noise."""
LABELS = ("common", "common, weak", *(f"label {number}" for number in range(3, 8)), "rare")
THRESHOLDS = Thresholds(LABELS, np.linspace(0.35, 0.5, 8), np.ones(8, dtype=np.bool_), (None,) * 8)
ROWS, ROWS_OF_TRUTH = 1_000, 1_000_000
ALLOWED_COVERAGE = (0.93, 0.97)
LEVEL, MAX_ERRORS = 0.05, 2.576

COVERED: tuple[Path, ...] = (
    *(("labels", "common", metric) for metric in ("roc_auc", "average_precision", "f1")),
    *(("macro", metric) for metric in ("roc_auc", "average_precision", "f1")),
    ("micro", "f1"),
)
SHOWN_ONLY: tuple[Path, ...] = (
    ("micro", "average_precision"),
    ("weighted", "average_precision"),
    ("labels", "common", "ece"),
    ("labels", "common, weak", "ece"),
    ("macro", "ece"),
    *(("labels", "rare", metric) for metric in ("roc_auc", "average_precision", "f1")),
)
"""Coverage is printed, but not judged: rare has 15 positive rows a set."""
TESTED: tuple[Path, ...] = (
    ("labels", "common", "average_precision"),
    ("labels", "common", "f1"),
    ("macro", "roc_auc"),
    ("macro", "average_precision"),
    ("macro", "f1"),
    ("micro", "f1"),
)


@dataclass(frozen=True)
class Outcome:
    """Of one set: whether each interval of `COVERED` and `SHOWN_ONLY` holds the truth, and p-values of `TESTED`."""

    covered: tuple[bool | None, ...]
    p_bootstrap: tuple[float, ...]
    p_permutation: tuple[float, ...]


def make_set(
    generator: np.random.Generator, num_rows: int
) -> tuple[npt.NDArray[np.int8], list[npt.NDArray[np.float64]]]:
    """Targets and two equally good models' probabilities; labels of a row are correlated by 0.36."""
    num_labels = len(PREVALENCE_L)
    cause_N1, own_NL = generator.normal(size=(num_rows, 1)), generator.normal(size=(num_rows, num_labels))
    targets_NL = (0.6 * cause_N1 + 0.8 * own_NL > ndtri(1.0 - PREVALENCE_L)).astype(np.int8)
    noise = [generator.normal(size=targets_NL.shape) for _ in range(2)]
    return targets_NL, [expit(SHIFT_L * targets_NL - 2.0 + each) for each in noise]


def true_figures(num_rows: int = ROWS_OF_TRUTH) -> dict[Path, float]:
    """Figures of a set so large that chance plays no part."""
    targets_NL, (probabilities_NL, _) = make_set(np.random.default_rng(2**40), num_rows)
    judged = Judged(LABELS, targets_NL, probabilities_NL, THRESHOLDS.decide(probabilities_NL))
    figures = WeightedFigures(judged)
    return dict(zip(figures.paths, figures.compute(np.ones((num_rows, 1)))[:, 0].tolist(), strict=True))


def simulate(number: int, *, truth: dict[Path, float], seed: int, resamples: int) -> Outcome:
    """Intervals and tests of set `number`."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
    targets_NL, (a_NL, b_NL) = make_set(generator, ROWS)
    settings = EvaluationSettings(resamples=resamples, seed=number)
    intervals = bootstrap(targets_NL, a_NL, THRESHOLDS, settings=settings).figures
    compared = compare(targets_NL, a_NL, THRESHOLDS, b_NL, THRESHOLDS, settings=settings).figures
    covered = []
    for path in COVERED + SHOWN_ONLY:
        limits = intervals[path].limits
        covered.append(None if limits is None else limits[0] <= truth[path] <= limits[1])
    found = [compared[path] for path in TESTED]
    p_values = [(figure.p_bootstrap, figure.p_permutation) for figure in found]
    return Outcome(
        tuple(covered),
        tuple(math.nan if first is None else first for first, _ in p_values),
        tuple(math.nan if second is None else second for _, second in p_values),
    )


def coverage_lines(outcomes: list[Outcome]) -> tuple[list[str], bool]:
    """The first table, and whether all that is judged lies within `ALLOWED_COVERAGE`."""
    lines, good = [f"{'interval':36} coverage    without one"], True
    for column, path in enumerate(COVERED + SHOWN_ONLY):
        seen = [outcome.covered[column] for outcome in outcomes]
        held = [each for each in seen if each is not None]
        share = sum(held) / max(len(held), 1)
        inside = ALLOWED_COVERAGE[0] <= share <= ALLOWED_COVERAGE[1]
        judged = column < len(COVERED)
        good &= inside or not judged
        remark = "" if not judged else "  good" if inside else "  OUTSIDE"
        lines.append(f"{'/'.join(path[-2:]):36} {100 * share:6.1f} %    {len(seen) - len(held):6}{remark}")
    return lines, good


def rejection_lines(outcomes: list[Outcome]) -> tuple[list[str], bool]:
    """The second table, and whether every share of rejections is 5 % but for chance."""
    margin = MAX_ERRORS * math.sqrt(LEVEL * (1.0 - LEVEL) / len(outcomes))
    lines, good = [f"{'test of equal models':36} bootstrap  permutation   (5 % +- {100 * margin:.1f})"], True
    for column, path in enumerate(TESTED):
        shares = [
            float(np.mean([kind(outcome)[column] <= LEVEL for outcome in outcomes]))
            for kind in (lambda outcome: outcome.p_bootstrap, lambda outcome: outcome.p_permutation)
        ]
        inside = all(abs(share - LEVEL) <= margin for share in shares)
        good &= inside
        numbers = f"{100 * shares[0]:7.1f} %     {100 * shares[1]:6.1f} %"
        lines.append(f"{'/'.join(path[-2:]):36} {numbers}  {'good' if inside else 'OUTSIDE'}")
    return lines, good


def run(sets: Iterable[int], *, seed: int, resamples: int, processes: int) -> list[Outcome]:
    """All sets, in processes of one thread each."""
    work = functools.partial(simulate, truth=true_figures(), seed=seed, resamples=resamples)
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(work, sets, chunksize=5))


def main(arguments: list[str] | None = None) -> int:
    """Print both tables; 1 when something is outside its range."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=400, help="resamples and permutations a set")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=num_threads())
    options = parser.parse_args(arguments)
    began = time.perf_counter()
    outcomes = run(
        range(options.sets), seed=options.seed, resamples=options.resamples, processes=options.processes
    )
    coverage, covers = coverage_lines(outcomes)
    rejections, rejects = rejection_lines(outcomes)
    print("\n".join([*coverage, "", *rejections]))
    print(f"\n{options.sets} sets of {ROWS:,} rows, {time.perf_counter() - began:.0f} s")
    return 0 if covers and rejects else 1


if __name__ == "__main__":
    sys.exit(main())
