"""Plant trouble in a copy of a data file and see how much of it is found.

    python scripts/planted_trouble.py DATA              # a CSV, or a folder with train.tsv and labels.txt (GoEmotions)
    python scripts/planted_trouble.py DATA --fast       # label errors by the linear baseline instead of the encoder

Planted are, each into data that had none of it (one row of every cluster of duplicates is kept):

- copies of training rows among test rows: identical; other case and spaces, or full-width letters; and near copies, one
  or two words of a text of ten words or more replaced. Looked for by the audit of `train` and by that of `evaluate`,
  which has only sketches of the texts.
- a label without positives, one with a single one, one that is always on. They must be named before training.
- flipped labels, half of them added and half removed. Looked for by confident learning on predictions out of fold.
  Errors that the data had before count as false alarms, so the true precision is higher.

The exit code is 1 where a copy that must be found is not (identical and normalised: all; near: 95 %), or a label.
"""

from __future__ import annotations

import argparse
import csv
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from manylabel.config.load import load_settings
from manylabel.config.schema import DataSettings, RunSettings
from manylabel.data.corpus import load_corpus
from manylabel.data.duplicates import duplicate_groups, text_fingerprints
from manylabel.data.folds import make_folds
from manylabel.data.sketches import nearly_seen, text_sketches
from manylabel.evaluation.baseline import fit_baseline
from manylabel.evaluation.label_errors import find_label_errors
from manylabel.recipes.check import check_file
from manylabel.recipes.corpora import Others, all_texts, gather_corpora
from manylabel.recipes.folds import out_of_fold
from manylabel.training.observers import ConsoleObserver, Observer, SilentObserver
from manylabel.values import BoolArray, Corpus, FloatArray

FULL_WIDTH = {code: code + 0xFEE0 for code in range(ord("!"), ord("~") + 1)}
"""Half-width ASCII to its full-width form, which NFKC undoes."""
NEAR_MUST = 0.95
MIN_POSITIVES_TO_FLIP = 30
PLANTED_LABELS = {"planted never": 0, "planted once": 1, "planted always": None}
"""Positives of each label that is planted; None means every row."""


@dataclass(frozen=True)
class Line:
    """A line of the table: what was planted, how many, how many were found, and the share that must be."""

    what: str
    planted: int
    found: int
    must: float | None = None

    @property
    def failed(self) -> bool:
        """Whether too few were found."""
        return self.must is not None and self.found < self.must * self.planted

    def __str__(self) -> str:
        """One line of the table."""
        must = "" if self.must is None else f"{self.must:.0%}"
        verdict = "MISSED" if self.failed else ""
        return f"{self.what:<74}{self.planted:>8,}{self.found:>8,}{self.found / self.planted:>9.1%}{must:>7} {verdict}"


@dataclass(frozen=True)
class Listener(SilentObserver):
    """Remembers what is told."""

    told: list[str]

    def stage(self, text: str) -> None:
        """Remember a line."""
        self.told.append(text)


def load(place: Path) -> Corpus:
    """The rows of a file, or the training rows of GoEmotions."""
    if not place.is_dir():
        return load_corpus(place, DataSettings()).corpus
    options = DataSettings(
        header=False,
        text_column="column_1",
        labels_column="column_2",
        label_separator=",",
        id_column="column_3",
        label_names=str(place / "labels.txt"),
    )
    return load_corpus(place / "train.tsv", options).corpus


def without_copies(corpus: Corpus, similarity: float) -> Corpus:
    """One row of each cluster of duplicates."""
    groups_N = duplicate_groups(all_texts(corpus), similarity=similarity)
    return corpus.select(np.flatnonzero(groups_N == np.arange(len(corpus))))


def write(corpus: Corpus, path: Path) -> Path:
    """The corpus as a CSV of 0/1 columns."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", *corpus.labels.names])
        for identity, text, targets in zip(corpus.ids, corpus.texts, corpus.targets_NL.tolist(), strict=True):
            writer.writerow([identity, text, *targets])
    return path


def other_spelling(text: str, choose: random.Random) -> str:
    """The same text in other case with other spaces, or in full-width letters."""
    if choose.random() < 0.5:
        spaces = ("  ", "\t", "\u00a0", "\u2003")
        return " " + "".join(choose.choice(spaces) if letter == " " else letter for letter in text.upper())
    return text.translate(FULL_WIDTH)


def near_copy(text: str, words: Sequence[str], choose: random.Random) -> str:
    """The text with one or two words replaced by others."""
    own = text.split()
    for position in choose.sample(range(len(own)), choose.choice((1, 2))):
        own[position] = choose.choice([word for word in choose.sample(words, 8) if word != own[position]])
    return " ".join(own)


def planted_copies(train: Corpus, count: int, min_words: int, choose: random.Random) -> dict[str, list[str]]:
    """Copies of different training rows, by kind."""
    words = sorted({word for text in train.texts[:5000] for word in text.split()})
    rows = choose.sample(range(len(train)), len(train))
    # Only texts with letters have another spelling, and only longer ones near copies.
    plain = [
        row for row in rows if any(map(str.isascii, train.texts[row].strip())) and train.texts[row].strip()
    ]
    identical, spelled = plain[:count], plain[count : 2 * count]
    used = {*identical, *spelled}
    longer = [row for row in rows if row not in used and len(train.texts[row].split()) >= min_words][:count]
    return {
        "identical": [train.texts[row] for row in identical],
        "other case, spaces or Unicode form": [other_spelling(train.texts[row], choose) for row in spelled],
        f"one or two words changed, of {min_words} or more": [
            near_copy(train.texts[row], words, choose) for row in longer
        ],
    }


def find_copies(
    corpus: Corpus, folder: Path, settings: RunSettings, *, count: int, min_words: int
) -> list[Line]:
    """Copies across a split into training and test file, as both audits see them."""
    choose = random.Random(1)
    clean = without_copies(corpus, settings.split.near_duplicate_similarity)
    order = np.random.default_rng(1).permutation(len(clean))
    train, rest = clean.select(order[: len(order) * 4 // 5]), clean.select(order[len(order) * 4 // 5 :])
    copies = planted_copies(train, count, min_words, choose)
    texts = [text for kind in copies.values() for text in kind]
    planted = replace(
        rest,
        texts=(*texts, *rest.texts),
        ids=(*(f"planted-{row}" for row in range(len(texts))), *rest.ids),
        targets_NL=np.concatenate([np.zeros((len(texts), len(rest.labels)), np.int8), rest.targets_NL]),
        rows_N=np.arange(1, len(texts) + len(rest) + 1),
        pairs=None,
        groups=None,
    )
    files = write(train, folder / "train.csv"), write(planted, folder / "test.csv")
    corpora = gather_corpora(files[0], Others(test=files[1]), settings=settings, observer=SilentObserver())
    assert corpora.leaks is not None
    assert corpora.test is not None
    seen = corpora.seen_texts()
    by_audit_N = corpora.leaks.exact_N | corpora.leaks.near_N
    by_sketch_N = seen_by_sketches(seen, all_texts(corpora.test), settings)
    musts = dict(zip(copies, (1.0, 1.0, NEAR_MUST), strict=True))
    lines = []
    for audit, seen_N in (("train", by_audit_N), ("evaluate", by_sketch_N)):
        start = 0
        for kind, made in copies.items():
            found = int(seen_N[start : start + len(made)].sum())
            lines.append(Line(f"copies in test rows, {kind} ({audit})", len(made), found, musts[kind]))
            start += len(made)
        lines.append(Line(f"  rows that are no planted copy ({audit})", len(rest), int(seen_N[start:].sum())))
    return lines


def seen_by_sketches(seen: Sequence[str], texts: Sequence[str], settings: RunSettings) -> BoolArray:
    """Which texts `evaluate` takes for seen, from what a model keeps of its training texts."""
    exact_N = np.isin(text_fingerprints(texts), np.unique(text_fingerprints(seen)))
    similarity = settings.split.near_duplicate_similarity
    near_N: BoolArray = exact_N | nearly_seen(texts, text_sketches(seen), similarity=similarity)
    return near_N


def find_labels(corpus: Corpus, folder: Path, settings: RunSettings) -> list[Line]:
    """Labels that cannot be learned: are they named by `check` or by `train` before it begins?"""
    columns = []
    for positives in PLANTED_LABELS.values():
        column = np.full(len(corpus), 1 if positives is None else 0, np.int8)
        column[: positives or 0] = 1
        columns.append(column)
    labels = replace(corpus.labels, names=(*corpus.labels.names, *PLANTED_LABELS))
    targets_NL = np.concatenate([corpus.targets_NL, np.stack(columns, axis=1)], axis=1)
    path = write(replace(corpus, labels=labels, targets_NL=targets_NL), folder / "labels.csv")
    checked = [finding.sentence() for finding in check_file(path, settings).findings]
    listener = Listener([])
    gather_corpora(path, Others(), settings=settings, observer=listener)
    told = [line for line in listener.told if "note:" in line]
    lines = []
    for name in PLANTED_LABELS:
        for command, sentences in (("check", checked), ("train", told)):
            found = any(f'"{name}"' in sentence for sentence in sentences)
            must = 1.0 if command == "train" else None
            lines.append(Line(f'label "{name}" named ({command})', 1, int(found), must))
    return lines


def flip_labels(corpus: Corpus, count: int) -> tuple[Corpus, BoolArray]:
    """`count` rows with one label flipped, by turns added and removed, among labels that are not rare."""
    choose = np.random.default_rng(1)
    targets_NL = corpus.targets_NL.copy()
    least = min(MIN_POSITIVES_TO_FLIP, int((targets_NL == 1).sum(axis=0).max()))
    common = np.flatnonzero((targets_NL == 1).sum(axis=0) >= least)
    flipped_NL = np.zeros(targets_NL.shape, np.bool_)
    for row in choose.permutation(len(corpus)):
        wanted = int(flipped_NL.sum()) % 2
        candidates = common[targets_NL[row, common] == wanted]
        if len(candidates):
            column = choose.choice(candidates)
            targets_NL[row, column], flipped_NL[row, column] = 1 - wanted, True
        if flipped_NL.sum() == count:
            break
    return replace(corpus, targets_NL=targets_NL), flipped_NL


def baseline_out_of_fold(corpus: Corpus, settings: RunSettings, folds: int) -> FloatArray:
    """Probabilities of the linear baseline, each row by the model of the other folds."""
    similarity = settings.split.near_duplicate_similarity
    divided = make_folds(corpus, count=folds, near_duplicate_similarity=similarity, seed=settings.split.seed)
    probabilities_NL = np.zeros(corpus.targets_NL.shape)
    texts = all_texts(corpus)
    for fold in range(folds):
        others, held_out = divided.others(fold), divided.held_out(fold)
        model = fit_baseline([texts[row] for row in others], corpus.targets_NL[others], corpus.labels.names)
        probabilities_NL[held_out] = model.probabilities([texts[row] for row in held_out])
    return probabilities_NL


def find_flips(corpus: Corpus, probabilities_NL: FloatArray, flipped_NL: BoolArray) -> list[str]:
    """Recall and precision among the likeliest 1 x, 2 x and all suspected labels."""
    column_of = {name: column for column, name in enumerate(corpus.labels.names)}
    suspected = find_label_errors(corpus, probabilities_NL).suspected
    hits = np.array([flipped_NL[cell.row, column_of[cell.label]] for cell in suspected], dtype=np.bool_)
    count, cells = int(flipped_NL.sum()), flipped_NL.size
    lines = [f"{count} flipped labels among {cells:,}; {len(suspected):,} suspected"]
    for first in dict.fromkeys((count, 2 * count, len(suspected))):
        shown = min(first, len(suspected))
        found = int(hits[:first].sum())
        by_chance = count * shown / cells
        lines.append(f"  among the first {shown:>6,}: {found:>3} found, recall {found / count:>6.1%}, "
                     f"precision {found / max(shown, 1):>6.1%} (a random choice finds {by_chance:.1f})")  # fmt: skip
    return lines


def flips_report(
    corpus: Corpus,
    settings: RunSettings,
    *,
    count: int,
    folds: int,
    work_folder: Path | None,
    observer: Observer,
) -> list[str]:
    """Flip labels and look for them; with a work folder by the encoder, else by the linear baseline."""
    wrong, flipped_NL = flip_labels(corpus, count)
    if work_folder is None:
        return find_flips(wrong, baseline_out_of_fold(wrong, settings, folds), flipped_NL)
    predicted = out_of_fold(wrong, settings, folds=folds, observer=observer, work_folder=work_folder)
    return find_flips(wrong, predicted.probabilities_NL, flipped_NL)


def arguments() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(
        description="Plant trouble in a data file and see how much of it is found."
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--fast", action="store_true", help="label errors by the linear baseline")
    parser.add_argument("--copies", type=int, default=500, help="planted copies of each kind")
    parser.add_argument(
        "--min-words", type=int, default=10, help="words of a text that gets near copies, at least"
    )
    parser.add_argument("--flips", type=int, default=40)
    parser.add_argument("--rows", type=int, default=3000, help="rows in which labels are flipped")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    return parser.parse_args()


def main() -> int:
    """Print the table; 1 where something that must be found is not."""
    typed = arguments()
    settings = load_settings(None, ["training.epochs=1", *typed.set])
    corpus = load(typed.data)
    print(f"{typed.data.name}: {len(corpus):,} rows, {len(corpus.labels)} labels\n")
    print(f"{'planted':<74}{'planted':>8}{'found':>8}{'share':>9}{'must':>7}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = find_copies(corpus, folder, settings, count=typed.copies, min_words=typed.min_words)
        lines += find_labels(corpus, folder, settings)
        print("\n".join(map(str, lines)) + "\n", flush=True)
        rows = np.sort(np.random.default_rng(1).permutation(len(corpus))[: typed.rows])
        work_folder = None if typed.fast else folder / "folds"
        found = flips_report(
            corpus.select(rows),
            settings,
            count=typed.flips,
            folds=typed.folds,
            work_folder=work_folder,
            observer=ConsoleObserver(),
        )
        print("\n".join(found))
    return int(any(line.failed for line in lines))


if __name__ == "__main__":
    sys.exit(main())
