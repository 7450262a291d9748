"""Training speed beside transformers' Trainer, with equal loss curves: `make bench-train`, about 12 minutes on 2 cores.

    python benchmarks/train_speed.py [--data FOLDER] [--encoder both] [--lengths both] [--rows ours,trainer-tuned]

FOLDER (default: MANYLABEL_DATA, else ../shared/data) holds jigsaw/validation.csv and goemotions/train.tsv. All rows get
the same weights, texts from the same 6,400, batches of 32 and at most 512 tokens a text. Every row is a process of its
own; they work in turn, a round each, and the table shows medians over the rounds. First ours and the tuned Trainer take
turns, then ours and each slow row, and a ratio compares rounds that took turns. A round is

    ours, Trainer tuned        12 batches of texts (BERT-base: Jigsaw 6, GoEmotions 8), the same texts for all
    Trainer's defaults         1 random batch (GoEmotions: 3, BERT-base 2) of expected length and padding
    simpletransformers' way    the same, padded to 512; usually on Jigsaw only, since lengths do not matter to it

and a row takes part in no further round after 90 s (Trainer's defaults 60, simpletransformers 40) of measured time.
Measured is the wall time of optimizer steps, batching included, after a first stage that is not counted (ours: an epoch
over the sample; Trainer: a step on the 32 shortest texts, the tuned rows six more, after which the slower of SDPA and
eager attention is dropped). Building models, tokenising and validation are outside. A batch that does not fit the
memory is computed in parts (gradient accumulation), padded like the whole batch. FLOP/s count real tokens only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from machine import describe_machine, matrix_rate, write_result
from manylabel.modeling.precision import Precision, choose_device, resolve_precision
from train_curves import TASKS, compare_curves
from train_profile import profile_ours
from train_rows import Cell, Row, RowEndedError, RowProcess, all_rows, ended_with, prepare, start_row
from train_sample import SOURCES, Sample, expected_longest, read_sample

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
ENCODERS = {
    "both": ("default", "bert-base"),
    "default": ("default",),
    "bert-base": ("bert-base",),
    "tiny": ("tiny",),
}
LENGTHS = {"both": ("jigsaw", "goemotions"), **{name: (name,) for name in SOURCES}}
BATCHES = {("bert-base", "jigsaw"): 6, ("bert-base", "goemotions"): 8}
SLOW_BATCHES = {("default", "goemotions"): 3, ("bert-base", "goemotions"): 2}
USUAL_ROWS = ("ours", "trainer-defaults", "trainer-tuned", "max-length")
TUNED = ("trainer-tuned", "trainer-tuned-eager")
OURS, OURS_FP32 = "ours", "ours-fp32"
CONSOLE = Console() if sys.stdout.isatty() else Console(width=120)
GIGA = 1e9


def main() -> None:
    """Measure every cell, print tables, write one JSON."""
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    began = time.monotonic()
    result = describe_machine() | {"tables": [], "curves": [], "profiles": []}
    for encoder in ENCODERS[arguments.encoder]:
        for lengths in LENGTHS[arguments.lengths]:
            table = measure_cell(encoder, lengths, arguments)
            if table:
                result["tables"].append(table)
                _write(result, began, arguments)
    if arguments.profile:
        for encoder in ENCODERS[arguments.encoder]:
            result["profiles"].append(profile_cell(encoder, LENGTHS[arguments.lengths][0], arguments))
    if arguments.curves:
        result["curves"] = curves(ENCODERS[arguments.encoder][0], LENGTHS[arguments.lengths][0], arguments)
    target = _write(result, began, arguments)
    CONSOLE.print(f"{result['seconds']} s in all, written to {target}")


def _write(result: dict[str, Any], began: float, arguments: argparse.Namespace) -> Path:
    """Keep what there is so far: what comes next may fail."""
    result["seconds"] = round(time.monotonic() - began)
    return write_result(f"train-speed{arguments.tag and '-' + arguments.tag}", result, folder=arguments.out)


def measure_cell(encoder: str, lengths: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """One table: every row in turn, round by round; empty without rows."""
    rows = chosen_rows(arguments.rows, lengths)
    if not rows:
        return {}
    sample = _sample(encoder, lengths, arguments)
    heats = _heats(rows)
    rates: dict[str, list[float]] = {name: [] for name in DTYPES}
    running: list[RowProcess] = []
    done: list[RowProcess] = []
    with tempfile.TemporaryDirectory() as folder, ended_with(running):
        cell = prepare(Path(folder), encoder, sample, rounds=arguments.rounds, heats=len(heats))
        for heat in heats:
            run_heat(running, heat, cell.with_room_for(len(heat)), f"{encoder}, {lengths}", rates)
            for one in list(running):
                if one.row.name != OURS or heat is heats[-1]:
                    with _told(one.row.name, running):
                        one.finish()
                        done.append(one)
            running[:] = [one for one in running if one not in done]
    done.sort(key=lambda one: one.row.name != OURS)
    medians = {name: statistics.median(measured) for name, measured in rates.items()}
    figures = [row_figures(one, cell, medians) for one in done if one.rounds]
    table = {
        "encoder": encoder,
        "lengths": lengths,
        "population": {
            "texts": len(sample.population_lengths),
            "tokens_per_text": float(sample.population_lengths.mean()),
            "padded_tokens_per_text_of_random_batches": expected_longest(sample.population_lengths, seed=1),
        },
        "matrix_gflops": {name: rate / GIGA for name, rate in medians.items()},
        "rows": figures,
    }
    show(table)
    return table


def chosen_rows(wanted: str, lengths: str) -> list[Row]:
    """The rows asked for by name; trainer-tuned stands for both kinds of attention."""
    device = choose_device()
    fast = "bf16" if resolve_precision("auto", device) == torch.bfloat16 else "fp32"
    rows = all_rows(fast)
    usual = [name for name in USUAL_ROWS if name != "max-length" or lengths == "jigsaw"]
    names = usual if not wanted else wanted.split(",") if wanted != "none" else []
    unknown = set(names) - {row.name for row in rows}
    if unknown:
        raise SystemExit(f"no such rows: {sorted(unknown)}; there are {[row.name for row in rows]}")
    if TUNED[0] in names and TUNED[1] not in names:
        names = [*names, TUNED[1]]
    return [row for row in rows if row.name in names]


def _heats(rows: list[Row]) -> list[list[Row]]:
    """Rows that take turns: ours and the tuned ones first, then ours, which stays, with each slow one.

    All at once would not fit the memory: Trainer's defaults alone take up to 15 GB with BERT-base.
    """
    fast = [row for row in rows if row.name in (OURS, OURS_FP32, *TUNED)]
    return [heat for heat in (fast, *([row] for row in rows if row not in fast)) if heat]


def run_heat(
    running: list[RowProcess], heat: list[Row], cell: Cell, title: str, rates: dict[str, list[float]]
) -> None:
    """Start the rows of a heat and let all that run take turns; matrix rates measured between them join `rates`."""
    for row in heat:
        with CONSOLE.status(f"{title}: {row.title}, first steps"), _told(row.name, running):
            running.append(start_row(cell, row))
            for _ in range(running[-1].first):
                running[-1].advance()
        if row.name == TUNED[1]:
            drop_slower_attention(running)
    running.sort(key=lambda one: one.row.name != OURS)
    for one in running:
        one.begin_heat()
    for number in range(cell.rounds):
        for name, dtype in DTYPES.items():
            rates[name].append(matrix_rate(dtype))
        for one in list(running):
            if one.has_rounds_left:
                with (
                    CONSOLE.status(f"{title}: round {number + 1} of {cell.rounds}, {one.row.title}"),
                    _told(one.row.name, running),
                ):
                    one.advance()
    ours = next((one for one in running if one.row.name == OURS), None)
    for one in running:
        one.rival = ours.rounds[ours.heat :][: len(one.rounds)] if ours else []


@contextmanager
def _told(name: str, running: list[RowProcess]) -> Iterator[None]:
    """A peer that ends is left out of the rest, with a word; ours ends the benchmark."""
    try:
        yield
    except RowEndedError as error:
        if name == OURS:
            raise SystemExit(str(error)) from error
        CONSOLE.print(f"left out: {error}")
        running[:] = [one for one in running if one.row.name != name]


def drop_slower_attention(running: list[RowProcess]) -> None:
    """Keep the tuned row whose second trial was shorter."""
    tuned = [one for one in running if one.row.name in TUNED]
    if len(tuned) == len(TUNED):
        slower = max(tuned, key=lambda one: one.before[-1])
        times = ", ".join(f"{one.row.attention} {one.before[-1]:.1f} s" for one in tuned)
        CONSOLE.print(f"trial of the tuned rows: {times}")
        slower.finish()
        running.remove(slower)


def row_figures(one: RowProcess, cell: Cell, rates: dict[str, float]) -> dict[str, Any]:
    """What is reported of a row; all rounds of a row have the same texts."""
    stage = one.stages[one.first]
    texts, tokens = len(stage.lengths), int(stage.lengths.sum())
    speeds = sorted(texts / seconds for seconds in one.rounds)
    seconds = texts / statistics.median(speeds)
    flops = cell.network.training_flops(stage.lengths) / seconds
    return {
        "name": one.row.name,
        "title": one.row.title,
        "rounds": len(one.rounds),
        "steps_per_round": texts // 32,
        "texts_per_second": texts / seconds,
        "slowest_and_fastest_round": [speeds[0], speeds[-1]],
        "tokens_per_second": tokens / seconds,
        "tokens_per_text": tokens / texts,
        "computed_tokens_per_text": stage.computed_tokens / texts if one.row.kind == "peer" else None,
        "gflops": flops / GIGA,
        "share_of_matrix_rate": flops / rates[one.row.precision],
        "peak_memory_gb": one.peak_bytes / GIGA,
        "parts_of_a_batch": one.parts if one.row.kind == "peer" else None,
        "ours_is_times_as_fast": _ratio(one, cell),
        "seconds_before_rounds": [round(seconds, 2) for seconds in one.before],
    }


def _ratio(one: RowProcess, cell: Cell) -> float | None:
    """How many times as fast ours was in the same heat, by medians."""
    if one.row.name == OURS or not one.rival:
        return 1.0 if one.rival else None
    ours_texts = sum(len(batch) for batch in cell.sample.grouped)
    peer_texts = len(one.stages[one.first].lengths)
    ours = statistics.median(ours_texts / seconds for seconds in one.rival)
    return ours / statistics.median(peer_texts / seconds for seconds in one.rounds)


def show(table: dict[str, Any]) -> None:
    """One table on the terminal, and what its rows are."""
    rates = ", ".join(f"{name} {rate:,.0f}" for name, rate in table["matrix_gflops"].items())
    population = table["population"]
    shown = Table(
        title=f"{table['encoder']} encoder, {table['lengths']} lengths ({population['tokens_per_text']:.1f} tokens a "
        f"text), batch 32, cap 512; matrix products: {rates} GFLOP/s",
        title_justify="left",
    )
    names = (
        "row",
        "texts/s",
        "(rounds)",
        "ours/row",
        "tokens/s",
        "GFLOP/s",
        "share",
        "GB",
        "computed",
        "steps",
    )
    for name in names:
        shown.add_column(name, justify="left" if name == "row" else "right", no_wrap=True)
    for row in table["rows"]:
        ratio, computed = row["ours_is_times_as_fast"], row["computed_tokens_per_text"]
        low, high = row["slowest_and_fastest_round"]
        shown.add_row(
            row["name"],
            f"{row['texts_per_second']:.2f}",
            f"{low:.2f}-{high:.2f}",
            f"{ratio:.2f}" if ratio else "",
            f"{row['tokens_per_second']:,.0f}",
            f"{row['gflops']:,.0f}",
            f"{row['share_of_matrix_rate']:.1%}",
            f"{row['peak_memory_gb']:.1f}",
            f"{computed:.0f}" if computed else "",
            f"{row['rounds']} x {row['steps_per_round']}",
        )
    CONSOLE.print(shown)
    for row in table["rows"]:
        parts = row["parts_of_a_batch"] or 1
        CONSOLE.print(
            f"  {row['name']}: {row['title']}" + (f"; a batch in {parts} parts" if parts > 1 else "")
        )
    CONSOLE.print("  share: of the matrix rate in the row's precision; computed: tokens a text with padding")


def profile_cell(encoder: str, lengths: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The profile of our step on one encoder."""
    sample = _sample(encoder, lengths, arguments)
    precision: Precision = "auto"
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), encoder, sample)
        with CONSOLE.status(f"{encoder}, {lengths}: profile of our step"):
            milliseconds = profile_ours(Path(folder), sample, precision)
    total = sum(milliseconds.values())
    shown = Table(title=f"our step, {encoder} encoder, {lengths} lengths, profiled: {total:,.0f} ms")
    for name in ("kind", "ms", "share"):
        shown.add_column(name, justify="left" if name == "kind" else "right")
    for kind, spent in milliseconds.items():
        shown.add_row(kind, f"{spent:,.1f}", f"{spent / total:.1%}")
    CONSOLE.print(shown)
    return {"encoder": encoder, "lengths": lengths, "milliseconds_per_step": milliseconds}


def curves(encoder: str, lengths: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Both comparisons of loss curves."""
    sample = read_sample(lengths, arguments.data, num_grouped=12, num_random=1)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), encoder, sample)
        for task in TASKS:
            with CONSOLE.status(f"{encoder}: loss curves in {task.precision}"):
                compared = compare_curves(Path(folder), sample, task)
            results.append({"encoder": encoder, "lengths": lengths, **compared})
            CONSOLE.print(
                f"loss over {compared['steps']} steps, {task.precision}: largest relative difference to "
                f"transformers {compared['largest_relative_difference']:.1e}, limit {task.limit:g}: "
                f"{'passed' if compared['passed'] else 'FAILED'}"
            )
    return results


def _sample(encoder: str, lengths: str, arguments: argparse.Namespace) -> Sample:
    return read_sample(
        lengths,
        arguments.data,
        num_grouped=arguments.batches or BATCHES.get((encoder, lengths), 12),
        num_random=arguments.slow_batches or SLOW_BATCHES.get((encoder, lengths), 1),
    )


def default_data() -> Path:
    """Where the public data sets lie unless --data says otherwise."""
    return Path(os.environ.get("MANYLABEL_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--encoder", choices=sorted(ENCODERS), default="both", help="tiny: to try the script")
    parser.add_argument("--lengths", choices=sorted(LENGTHS), default="both")
    parser.add_argument(
        "--rows",
        default="",
        help="names separated by commas, or none; see the lines below a table, and ours-fp32",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=0, help="batches of the sample, 0: as above")
    parser.add_argument("--slow-batches", type=int, default=0, help="batches of the slow rows, 0: as above")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--profile", action="store_true", help="a table of our step by kind of work as well")
    parser.add_argument("--curves", action=argparse.BooleanOptionalAction, default=True, help="loss curves")
    parser.add_argument("--tag", default="", help="added to the name of the result")
    parser.add_argument("--out", type=Path, default=None, help="folder of the result, benchmarks/results")
    return parser.parse_args()


if __name__ == "__main__":
    main()
