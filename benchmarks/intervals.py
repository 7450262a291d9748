"""Time and memory of bootstrap intervals of every figure, and of a comparison of two models, on made-up rows.

    python benchmarks/intervals.py               # 10,000 x 28 and 100,000 x 6, 1,000 resamples each
    python benchmarks/intervals.py --json OUT    # also writes the times as JSON
    python benchmarks/intervals.py --tiny        # the same path in seconds

Each measurement runs in a process of its own, so that its peak memory is its own. Threads: the cores there are, at
most 4, or OMP_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from manylabel.config.schema import EvaluationSettings
from manylabel.decisions.thresholds import Thresholds
from manylabel.evaluation.intervals import bootstrap
from manylabel.evaluation.paired import compare
from manylabel.evaluation.spread import num_threads


@dataclass(frozen=True)
class Case:
    name: str
    rows: int
    labels: int
    most: float
    least: float
    """Shares of positive rows of the most and the least frequent label; the others lie between."""


GO_EMOTIONS_LIKE = Case("10,000 x 28", 10_000, 28, 0.3, 0.001)
JIGSAW_LIKE = Case("100,000 x 6", 100_000, 6, 0.1, 0.003)
TINY = Case("500 x 4", 500, 4, 0.3, 0.05)


def make_rows(case, seed):
    generator = np.random.default_rng(seed)
    shares_L = np.geomspace(case.most, case.least, case.labels)
    targets_NL = (generator.random((case.rows, case.labels)) < shares_L).astype(np.int8)
    names = tuple(f"label {number + 1}" for number in range(case.labels))
    thresholds = Thresholds(
        names, np.full(case.labels, 0.3), np.ones(case.labels, np.bool_), (None,) * case.labels
    )
    models = [
        1.0 / (1.0 + np.exp(3.0 - 2.5 * targets_NL - generator.normal(size=targets_NL.shape)))
        for _ in range(2)
    ]
    return targets_NL, models, thresholds


def measure(case, kind, resamples):
    """Seconds, and peak memory beyond that of rows and libraries, in MB."""
    targets_NL, (first_NL, second_NL), thresholds = make_rows(case, seed=1)
    settings = EvaluationSettings(resamples=resamples)
    before, began = peak_mb(), time.perf_counter()
    if kind == "intervals":
        found = bootstrap(targets_NL, first_NL, thresholds, settings=settings)
    else:
        found = compare(targets_NL, first_NL, thresholds, second_NL, thresholds, settings=settings)
    seconds = time.perf_counter() - began
    return {
        "what": kind,
        "case": case.name,
        "resamples": resamples,
        "figures": len(found.figures),
        "seconds": round(seconds, 2),
        "peak_mb_added": round(peak_mb() - before),
    }


def peak_mb():
    """The most this process has held; Linux's VmHWM, which unlike getrusage's figure is not the parent's."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1 << 20 if platform.system() == "Darwin" else 1024
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="file for the times")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    cases = [TINY] if options.tiny else [GO_EMOTIONS_LIKE, JIGSAW_LIKE]
    results = []
    print(f"{num_threads()} threads")
    for case in cases:
        for kind in ("intervals", "comparison"):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                results.append(pool.submit(measure, case, kind, options.resamples).result())
            print(
                "{what:12} {case:12} {figures:4} figures {seconds:8.2f} s {peak_mb_added:6} MB".format(
                    **results[-1]
                )
            )
    if options.json:
        content = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "threads": num_threads(),
            "numpy": np.__version__,
            "python": platform.python_version(),
            "cases": [asdict(case) for case in cases],
            "results": results,
        }
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
