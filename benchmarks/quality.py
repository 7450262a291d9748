"""Quality on public data: train with the default encoder, evaluate on rows that chose nothing, keep a dated JSON.

    python benchmarks/quality.py goemotions FOLDER     # FOLDER holds train.tsv, dev.tsv, test.tsv, labels.txt
    python benchmarks/quality.py jigsaw FOLDER         # FOLDER holds train.csv, validation.csv (used as test rows)

Each run is the command printed in its first line, through the same code as `manylabel train`. Not part of any
test: GoEmotions takes about 5 minutes on 2 cores with AMX, Jigsaw about 20.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from manylabel.config.load import load_settings
from manylabel.recipes.train import Job, TrainReport, train_model
from manylabel.training.observers import ConsoleObserver

RESULTS = Path(__file__).parent / "results"
RUNS: dict[str, tuple[str, dict[str, str], list[str]]] = {
    "goemotions": (
        "train.tsv",
        {"validation": "dev.tsv", "test": "test.tsv"},
        ["data.header=false", "data.label_names=labels.txt"],
    ),
    "jigsaw": (
        "train.csv",
        {"test": "validation.csv"},
        [
            "split.validation_fraction=0.05",
            "split.calibration_fraction=0",
            "training.validations_per_epoch=2",
        ],
    ),
}


def main() -> None:
    """Run one data set and write `benchmarks/results/DATE-quality-NAME.json`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(RUNS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="as in manylabel train")
    parser.add_argument("--tag", default="", help="added to the name of the result")
    parser.add_argument("--keep", type=Path, help="where the model stays; thrown away otherwise")
    arguments = parser.parse_args()
    source, others, overrides = RUNS[arguments.name]
    overrides = [_with_folder(override, arguments.folder) for override in overrides] + arguments.overrides
    files = {role: arguments.folder / name for role, name in others.items()}
    print(_command(arguments.folder / source, files, overrides))
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = train_model(
            Job(arguments.folder / source, arguments.keep or Path(folder) / "model", **files),
            settings=load_settings(None, overrides),
            observer=ConsoleObserver(),
        )
    result = _result(report, overrides, time.monotonic() - began)
    day = datetime.now(UTC).strftime("%Y-%m-%d")
    tag = f"-{arguments.tag}" if arguments.tag else ""
    target = RESULTS / f"{day}-quality-{arguments.name}{tag}.json"
    RESULTS.mkdir(exist_ok=True)
    target.write_text(json.dumps({"data": arguments.name, **result}, indent=2, allow_nan=False) + "\n")
    print(json.dumps({**result["training"], **result["summary"]}, indent=2))
    print(f"written to {target}")


def _with_folder(override: str, folder: Path) -> str:
    name, _, value = override.partition("=")
    return f"{name}={folder / value}" if name == "data.label_names" else override


def _without_folder(override: str) -> str:
    """No path of the measuring machine in a result."""
    name, _, value = override.partition("=")
    return f"{name}={Path(value).name}"


def _command(source: Path, files: dict[str, Path], overrides: list[str]) -> str:
    words = ["manylabel", "train", str(source), "--out", "model"]
    words += [word for role, path in files.items() for word in (f"--{role}", str(path))]
    words += [word for override in overrides for word in ("--set", override)]
    return "$ " + shlex.join(words)


def _result(report: TrainReport, overrides: list[str], seconds: float) -> dict[str, Any]:
    figures = report.evaluation
    assert figures is not None
    outcome = report.outcome
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": f"{os.cpu_count()} cores, {_processor()}"
        if not torch.cuda.is_available()
        else torch.cuda.get_device_name(),
        "versions": {name: version(name) for name in ("manylabel", "torch", "tokenizers", "scikit-learn")}
        | {"python": platform.python_version()},
        "settings": [_without_folder(override) for override in overrides],
        "training": {
            "training_seconds": round(outcome.seconds, 1),
            "all_seconds": round(seconds, 1),
            "steps": outcome.steps,
            "best_step": outcome.best_step,
            "ending": outcome.ending,
            "tokens_per_second": round(outcome.tokens / outcome.seconds),
        },
        "summary": {
            "rows": figures["rows"],
            "macro": figures["macro"],
            "micro": figures["micro"],
            "baseline_macro": figures["baseline"]["macro"],
        },
        "evaluation": dict(figures),
    }


def _processor() -> str:
    """The processor's name and its matrix instructions."""
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return platform.processor()
    text = path.read_text()
    name = next(
        (line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")), ""
    )
    return name + (", AMX bf16" if "amx_bf16" in text else "")


if __name__ == "__main__":
    sys.exit(main())
