"""What a model learns from another one: soft targets for labelled rows, pseudo-labels for unlabelled ones.

Called by recipes/train.py for `--teacher`. The teacher is any saved model, an ensemble too. What it saw counts as seen
by the new model, and unlabelled texts that are copies of rows that judge are left out, so no figure rests on rows that
either of the two learned from.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manylabel.bundle.contents import Bundle
from manylabel.bundle.files import MANIFEST
from manylabel.config.schema import RunSettings, TeacherSettings
from manylabel.data.corpus import texts_of
from manylabel.data.duplicates import (
    LeakAudit,
    leak_audit,
    raw_fingerprints,
    text_fingerprints,
)
from manylabel.data.layout import Layout, prediction_columns, with_stored_header
from manylabel.data.read import open_table
from manylabel.data.sketches import nearly_seen, text_sketches
from manylabel.data.words import normalized
from manylabel.digest import sha256_of
from manylabel.errors import ConfigError, Finding, TrainingStopped, UsageError, counted
from manylabel.inference.load import LoadedModel, load_model
from manylabel.recipes.corpora import Corpora, all_texts
from manylabel.recipes.remember import joined_sketches
from manylabel.recipes.scoring import seen_rows
from manylabel.training.observers import Observer
from manylabel.values import NOT_ANNOTATED, Corpus, FloatArray, IntArray

Targets = npt.NDArray[np.float32]
Fingerprints = npt.NDArray[np.uint64]

MOST_SEEN = 0.1
"""Share of the test rows that the teacher may have seen as they are. Public data repeat some texts, and figures without
these rows stand beside the others; more means that the teacher was trained on the test rows."""
SECONDS_BETWEEN_LINES = 20.0
NOT_OF_TEXTS = ("id_column", "group_column", "translation_columns", "label_columns", "labels_column")
"""Columns that are named for the labelled file, and that a file of unlabelled texts need not have."""


@dataclass(frozen=True)
class Teaching:
    """The folder of the teacher, and files with texts that nobody labelled."""

    teacher: Path
    unlabelled: tuple[Path, ...] = ()


@dataclass(frozen=True, eq=False)
class Lesson:
    """What is learned from: M labelled rows and then U unlabelled ones, with `targets_NL` float32, N = M + U.

    A target is a probability from 0 to 1, or -1 where nothing is learned. `seen_texts` and `seen_identical` are
    fingerprints of all that the teacher saw and of the unlabelled texts, `seen_sketches` their sketches.
    """

    rows: Corpus
    targets_NL: Targets
    seen_texts: Fingerprints
    seen_identical: Fingerprints
    seen_sketches: npt.NDArray[np.uint8] | None
    facts: dict[str, dict[str, str | int]]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the unlabelled texts and the targets; hard ones can be the same for other texts."""
        digest = hashlib.sha256(_digest(all_texts(self.rows)).encode())
        digest.update(np.ascontiguousarray(self.targets_NL).tobytes())
        return digest.hexdigest()


def prepare_lesson(
    teaching: Teaching,
    corpora: Corpora,
    settings: RunSettings,
    *,
    observer: Observer,
    should_stop: Callable[[], bool] = lambda: False,
) -> Lesson:
    """Let the teacher score the training rows and the unlabelled texts.

    Raises BundleError for a teacher that is not whole, UsageError for one with other labels or that saw more than a
    tenth of the test rows, ConfigError for a loss that takes no soft targets, DataError with every unusable row of an
    unlabelled file, TrainingStopped when `should_stop` said so.
    """
    _require_soft_loss(settings)
    observer.stage(f"Loading the teacher {teaching.teacher}")
    loaded = load_model(teaching.teacher)
    columns_L = _columns(loaded, corpora, teaching.teacher)
    _require_unseen_test(loaded.bundle, corpora, teaching.teacher)
    _tell_judging(loaded.bundle, corpora, observer)
    unlabelled = _unlabelled_rows(teaching, corpora, settings, observer)
    rows = _joined(corpora.train, unlabelled)
    probabilities_NL = _scored(loaded, rows, observer, should_stop)[:, columns_L]
    num_labelled = len(corpora.train)
    targets_NL = np.concatenate(
        [
            soft_targets(corpora.train.targets_NL, probabilities_NL[:num_labelled], settings.teacher.weight),
            pseudo_targets(probabilities_NL[num_labelled:], settings.teacher),
        ]
    )
    _tell(targets_NL[num_labelled:], observer)
    texts, sketches = all_texts(unlabelled), loaded.bundle.seen_sketches
    return Lesson(
        rows,
        targets_NL,
        np.union1d(loaded.bundle.seen_texts, text_fingerprints(texts)),
        np.union1d(
            loaded.bundle.seen_parts.get("identical", np.zeros(0, np.uint64)), raw_fingerprints(texts)
        ),
        text_sketches(texts) if sketches is None else joined_sketches(sketches, text_sketches(texts)),
        {
            "teacher": {"source": teaching.teacher.name, "rows": num_labelled,
                        "sha256": sha256_of(teaching.teacher / MANIFEST)},
            "unlabelled": {"source": unlabelled.source, "rows": len(unlabelled), "sha256": _digest(texts)},
        },
    )  # fmt: skip


def seen_by_either(
    leaks: LeakAudit, lesson: Lesson, texts: Sequence[str], settings: RunSettings
) -> LeakAudit:
    """The audit of N test texts, in which what made the teacher, or was pseudo-labelled, counts as seen too."""
    exact_N = leaks.exact_N | np.isin(text_fingerprints(texts), lesson.seen_texts)
    near_N = leaks.near_N
    if lesson.seen_sketches is not None:
        similarity = settings.split.near_duplicate_similarity
        near_N = near_N | nearly_seen(texts, lesson.seen_sketches, similarity=similarity)
    identical_N = leaks.identical_N | np.isin(raw_fingerprints(texts), lesson.seen_identical)
    return LeakAudit(exact_N, near_N & ~exact_N, identical_N)


def remembering_lesson(bundle: Bundle, lesson: Lesson) -> Bundle:
    """The pupil's bundle, in which what made the teacher counts as seen, and which names its teacher."""
    parts = dict(bundle.seen_parts)
    parts["identical"] = np.union1d(parts.get("identical", lesson.seen_identical), lesson.seen_identical)
    sketches = bundle.seen_sketches
    if sketches is not None and lesson.seen_sketches is not None:
        sketches = joined_sketches(sketches, lesson.seen_sketches)
    provenance = bundle.provenance.model_copy(update={"data": {**bundle.provenance.data, **lesson.facts}})
    return replace(
        bundle,
        seen_texts=np.union1d(bundle.seen_texts, lesson.seen_texts),
        seen_parts=parts,
        seen_sketches=sketches,
        provenance=provenance,
    )


def soft_targets(targets_ML: IntArray, probabilities_ML: FloatArray, weight: float) -> Targets:
    """With `weight` w: w p + (1 - w) y where somebody annotated, else p (Hinton, Vinyals and Dean 2015)."""
    mixed_ML = weight * probabilities_ML + (1.0 - weight) * targets_ML
    soft_ML: Targets = np.where(targets_ML == NOT_ANNOTATED, probabilities_ML, mixed_ML).astype(np.float32)
    return soft_ML


def pseudo_targets(probabilities_UL: FloatArray, settings: TeacherSettings) -> Targets:
    """The probabilities; or with hard pseudo-labels (Lee 2013) 1 and 0 where they are sure enough, and else -1."""
    if settings.pseudo_labels == "soft":
        return probabilities_UL.astype(np.float32)
    sure = settings.confidence
    hard_UL: Targets = np.select(
        [probabilities_UL >= sure, 1.0 - probabilities_UL >= sure], [1.0, 0.0], float(NOT_ANNOTATED)
    ).astype(np.float32)
    return hard_UL


def _require_soft_loss(settings: RunSettings) -> None:
    """Weights by counts and the distribution-balanced loss are made of zeros and ones."""
    loss = settings.loss
    if loss.kind == "distribution_balanced" or loss.label_weights != "none":
        found = f"loss.kind={loss.kind}, loss.label_weights={loss.label_weights} with a teacher"
        allowed = "bce, focal or asymmetric without weights, which take soft targets"
        raise ConfigError(Finding("C350", "setting loss", found, allowed, "choose --set loss.kind=bce"))


def _columns(loaded: LoadedModel, corpora: Corpora, folder: Path) -> IntArray:
    """Where each label of the file is among the teacher's."""
    known, wanted = loaded.predictor.labels, corpora.train.labels.names
    if missing := [name for name in wanted if name not in known]:
        found = f"it does not know {', '.join(missing[:8])}"
        step = "give a teacher that was trained on these labels, or the columns it knows with --label-columns"
        raise UsageError(Finding("U351", f"--teacher {folder}", found, ", ".join(wanted), step))
    if loaded.bundle.takes_pairs != (corpora.layout.pair_column is not None):
        was = "pairs of texts" if loaded.bundle.takes_pairs else "single texts"
        raise UsageError(
            Finding("U352", f"--teacher {folder}", f"it reads {was}, and the file has others", was,
                    "give a teacher of the same kind")
        )  # fmt: skip
    return np.array([known.index(name) for name in wanted])


def _require_unseen_test(bundle: Bundle, corpora: Corpora, folder: Path) -> None:
    """Figures on rows that taught the teacher would be of rows that taught the pupil too."""
    if corpora.test is None:
        return
    audit = seen_rows(bundle, all_texts(corpora.test))
    seen = int(audit.exact_N.sum())
    if seen > MOST_SEEN * len(corpora.test):
        found = f"{seen:,} of {counted(len(corpora.test), 'test row')} made the teacher"
        allowed = f"at most {MOST_SEEN:.0%}, so that the figures are of rows neither model has seen"
        step = "give --test FILE with rows that the teacher has not seen, or --set split.test_fraction=0"
        raise UsageError(Finding("U353", f"--teacher {folder}", found, allowed, step))


def _tell_judging(bundle: Bundle, corpora: Corpora, observer: Observer) -> None:
    """Rows that choose and that the teacher knows flatter what they choose, a little; that is said, not refused."""
    for role, rows in corpora.by_role.items():
        seen = int(seen_rows(bundle, all_texts(rows)).exact_N.sum()) if role != "train" else 0
        if seen:
            observer.stage(
                f"  note: {seen:,} of {counted(len(rows), f'{role} row')} made the teacher, which may have let their "
                f"labels through; --{role} FILE with rows it has not seen keeps the choice clear of them"
            )


def _unlabelled_rows(
    teaching: Teaching, corpora: Corpora, settings: RunSettings, observer: Observer
) -> Corpus:
    """The texts of all files, each once, without those that judge or are labelled already."""
    texts: list[str] = []
    pairs: list[str] = []
    for path in teaching.unlabelled:
        more, seconds = _read_texts(path, corpora.layout, settings)
        texts += more
        pairs += seconds
    has_pairs = corpora.layout.pair_column is not None
    read = _as_corpus(teaching, texts, pairs if has_pairs else None, corpora)
    judging = [rows for role, rows in corpora.by_role.items() if role != "train"]
    judging += [corpora.test] if corpora.test is not None else []
    judges = [text for rows in judging for text in all_texts(rows)]
    whole = all_texts(read)
    audit = leak_audit(judges, whole, similarity=settings.split.near_duplicate_similarity)
    known = {normalized(text) for text in all_texts(corpora.train)}
    kept = [
        row for row, text in enumerate(whole) if not audit.seen_N[row] and _is_new(normalized(text), known)
    ]
    if teaching.unlabelled:
        copies = int(audit.seen_N.sum())
        observer.stage(
            f"  unlabelled: {counted(len(kept), 'text')} to learn from; left out {copies:,} that copy rows which "
            f"judge, {len(whole) - copies - len(kept):,} that repeat others"
        )
    return read.select(np.array(kept, dtype=np.int64))


def _is_new(text: str, known: set[str]) -> bool:
    if text in known:
        return False
    known.add(text)
    return True


def _read_texts(path: Path, layout: Layout, settings: RunSettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Texts and second texts (none without pairs) of a file; labels in it are not looked at, and may be missing."""
    options = with_stored_header(settings.data.model_copy(update=dict.fromkeys(NOT_OF_TEXTS)), layout)
    stream = open_table(path, options)
    stream.check()
    table = pa.Table.from_batches(list(stream), schema=stream.schema)
    columns = prediction_columns(table, options, stream.source, stored=layout)
    texts, pairs = texts_of(table, columns, source=stream.source)
    return texts, pairs or ()


def _as_corpus(teaching: Teaching, texts: list[str], pairs: list[str] | None, corpora: Corpora) -> Corpus:
    labels = corpora.train.labels
    return Corpus(
        source=", ".join(path.name for path in teaching.unlabelled),
        texts=tuple(texts),
        labels=labels,
        targets_NL=np.full((len(texts), len(labels)), NOT_ANNOTATED, dtype=np.int8),
        ids=tuple(f"unlabelled {row + 1}" for row in range(len(texts))),
        rows_N=np.arange(1, len(texts) + 1, dtype=np.int64),
        pairs=None if pairs is None else tuple(pairs),
    )


def _joined(labelled: Corpus, unlabelled: Corpus) -> Corpus:
    """Both as one corpus; groups are of no more use here."""
    return replace(
        labelled,
        texts=labelled.texts + unlabelled.texts,
        targets_NL=np.concatenate([labelled.targets_NL, unlabelled.targets_NL]),
        ids=labelled.ids + unlabelled.ids,
        rows_N=np.concatenate([labelled.rows_N, unlabelled.rows_N]),
        pairs=None if labelled.pairs is None else labelled.pairs + (unlabelled.pairs or ()),
        groups=None,
        translations=_joined_translations(labelled, len(unlabelled)),
    )


def _joined_translations(labelled: Corpus, num_unlabelled: int) -> tuple[tuple[str, ...], ...] | None:
    """Those of the labelled rows; an unlabelled one has none."""
    if labelled.translations is None:
        return None
    nothing = ("",) * len(labelled.translations[0])
    return labelled.translations + (nothing,) * num_unlabelled


def _scored(
    loaded: LoadedModel, rows: Corpus, observer: Observer, should_stop: Callable[[], bool]
) -> FloatArray:
    """The teacher's calibrated probabilities of N rows, with a line of progress now and then."""
    observer.stage(f"The teacher scores {counted(len(rows), 'text')}")
    began = told = time.monotonic()
    done = 0

    def tell(count: int) -> None:
        nonlocal done, told
        done += count
        now = time.monotonic()
        if should_stop():
            raise TrainingStopped(
                Finding("T350", "the teacher's scoring", f"stopped after {done:,} of {len(rows):,} texts",
                        next_step="the same command begins it anew")
            )  # fmt: skip
        if now - told > SECONDS_BETWEEN_LINES:
            told = now
            left = (now - began) / done * (len(rows) - done)
            observer.stage(f"  {done:,} of {len(rows):,} texts, about {left:,.0f} s left")

    return loaded.predictor.predict(rows.texts, rows.pairs, on_batch=tell).probabilities_BL


def _tell(targets_UL: Targets, observer: Observer) -> None:
    if not len(targets_UL):
        return
    learned = float((targets_UL != NOT_ANNOTATED).mean())
    likely = float((targets_UL >= 0.5).any(axis=1).mean())
    observer.stage(
        f"  {learned:.1%} of the unlabelled cells have a target, {likely:.1%} of the texts a likely label"
    )


def _digest(texts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()
