"""What a cross-fitted ensemble is made of, and on which rows; called by recipes/crossfit.py."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from manylabel.config.schema import RunSettings
from manylabel.data.duplicates import leak_audit
from manylabel.data.folds import Folds
from manylabel.data.layout import Layout
from manylabel.data.validate import check_corpus
from manylabel.decisions.blend import KINDS
from manylabel.errors import DataError, EncoderError, Finding, UsageError, counted, told_together
from manylabel.modeling.weights.locate import locate_encoder
from manylabel.recipes.corpora import Corpora, Source, all_texts, load_source, not_annotated
from manylabel.recipes.folds import fold_identity
from manylabel.recipes.kept_folds import Identity
from manylabel.recipes.provenance import folder_fingerprint
from manylabel.text.views import HEAD, check_views, translation_column, with_translations
from manylabel.training.observers import Observer
from manylabel.values import NOT_ANNOTATED, Corpus

LINEAR = "linear"
AUTO = "auto"
BLENDS = (*KINDS, AUTO)
MAX_SEED = 2**31
NAME_LENGTH = 40


@dataclass(frozen=True, eq=False)
class CrossfitJob:
    """What to train on, of what, and where the ensemble goes.

    `encoders` are names as for `model.encoder`, that setting where there is none; `seeds` are those of the trainings,
    `training.seed` where there is none. `linear` adds a linear member. `blend` is a kind of `decisions.blend`, or auto.
    """

    source: Source
    out: Path
    folds: int = 5
    seeds: tuple[int, ...] = ()
    encoders: tuple[str, ...] = ()
    linear: bool = True
    blend: str = AUTO
    views: tuple[str, ...] = (HEAD,)
    test: Source | None = None
    overwrite: bool = False
    fresh: bool = False

    @property
    def oof_place(self) -> Path:
        """Where the predictions out of fold go."""
        place = self.out.resolve()
        return place.with_name(place.name + ".oof.parquet")

    @property
    def work_folder(self) -> Path:
        """Where finished folds wait for the ensemble."""
        place = self.out.resolve()
        return place.with_name(place.name + ".crossfit")


@dataclass(frozen=True)
class Member:
    """One way to train, of which every fold has a model: an encoder and a seed, or the linear model."""

    name: str
    encoder: Path | None
    seed: int

    def model_name(self, fold: int) -> str:
        """The model without `fold` (from 0), as file and in the ensemble."""
        return f"{self.name}-f{fold + 1}"


@dataclass(frozen=True, eq=False)
class Plan:
    """All members on one division of one corpus; `rows` also knows the test rows."""

    members: tuple[Member, ...]
    folds: Folds
    views: tuple[str, ...]
    rows: Corpora
    settings: RunSettings

    @property
    def corpus(self) -> Corpus:
        """The N rows that are divided."""
        return self.rows.train

    def views_of(self, member: Member) -> tuple[str, ...]:
        """How a member looks at a text; the linear one reads all of it."""
        return (HEAD,) if member.encoder is None else self.views

    @property
    def components(self) -> tuple[tuple[str, Member, str], ...]:
        """Name, member and view of each component of the blend."""
        return tuple(
            (member.name if view == HEAD else f"{member.name} {view}", member, view)
            for member in self.members
            for view in self.views_of(member)
        )

    @property
    def model_names(self) -> tuple[str, ...]:
        """Every model that is trained, in the order of training."""
        return tuple(member.model_name(fold) for member in self.members for fold in range(self.folds.count))

    def described(self) -> str:
        """How many trainings there will be, in words."""
        networks = [member for member in self.members if member.encoder is not None]
        encoders = len({member.encoder for member in networks})
        seeds = len({member.seed for member in networks})
        parts = [
            f"{counted(encoders, 'encoder')} x {counted(seeds, 'seed')} x {self.folds.count} folds = "
            f"{len(networks) * self.folds.count} networks"
        ]
        if len(networks) < len(self.members):
            parts.append(f"{self.folds.count} linear models")
        rows = len(self.corpus) * (self.folds.count - 1) // self.folds.count
        return f"Plan: {' and '.join(parts)}, each from about {counted(rows, 'row')}"


def check_job(job: CrossfitJob) -> None:
    """Refuse what can be known to be wrong before a file is read; raises UsageError with all findings."""
    findings = []
    if any(not 0 <= seed < MAX_SEED for seed in job.seeds) or len(set(job.seeds)) != len(job.seeds):
        findings.append(
            Finding("U301", "--seeds", ",".join(map(str, job.seeds)), f"different numbers from 0 to {MAX_SEED - 1}",
                    "give for example --seeds 1,2")
        )  # fmt: skip
    if job.blend not in BLENDS:
        findings.append(
            Finding("U303", "--blend", job.blend, ", ".join(BLENDS), "give one of these, or leave it out")
        )
    if len(set(job.encoders)) != len(job.encoders):
        findings.append(
            Finding("U307", "--encoder", ", ".join(job.encoders), "each encoder once",
                    "give several --seeds for several trainings of one encoder")
        )  # fmt: skip
    if findings:
        raise UsageError(*findings)
    check_views(job.views)


def members_of(job: CrossfitJob, settings: RunSettings) -> tuple[Member, ...]:
    """The linear member first, whose figures come soonest, then encoder by encoder its seeds.

    Raises EncoderError for every encoder that is not found.
    """
    members = [Member(LINEAR, None, settings.training.seed)] if job.linear else []
    taken, findings = {LINEAR}, list[Finding]()
    for encoder in job.encoders or (settings.model.encoder,):
        try:
            folder = locate_encoder(encoder)
        except EncoderError as error:
            findings += error.findings
            continue
        short = _short_name(encoder, taken)
        taken.add(short)
        for seed in job.seeds or (settings.training.seed,):
            members.append(Member(f"{short}-s{seed}", folder, seed))
    if findings:
        raise EncoderError(*findings)
    return tuple(members)


def encoders_of(members: Sequence[Member]) -> tuple[Path, ...]:
    """The different encoders, in order."""
    return tuple(dict.fromkeys(member.encoder for member in members if member.encoder is not None))


def _short_name(encoder: str, taken: set[str]) -> str:
    """The last part of an encoder's name in lower case, as the name of a folder on any system, not yet taken."""
    last = Path(encoder.rstrip("/\\")).name
    short = re.sub(r"[^a-z0-9]+", "-", last.lower()).strip("-")[:NAME_LENGTH].strip("-") or "encoder"
    names = [short, *(f"{short}-{number}" for number in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)


def gather_rows(job: CrossfitJob, settings: RunSettings, observer: Observer) -> Corpora:
    """All rows of the file with one role, and the test rows that are neither among them nor nearly so.

    Raises DataError with all problems of a file at once, and where no test row is annotated or left; UsageError for a
    view of a column that is not read.
    """
    observer.stage("Reading and checking the data")
    loaded = load_source(job.source, settings.data)
    for line in loaded.layout.describe():
        observer.stage("  " + "  ".join(map(str, line)))
    _tell(loaded.warnings, observer)
    findings = check_corpus(loaded.corpus)
    _tell([finding for finding in findings if finding.severity == "warning"], observer)
    if errors := [finding for finding in findings if finding.severity == "error"]:
        raise DataError(*errors)
    columns = _columns_of(job.views, loaded.layout)
    corpus, test = loaded.corpus, None
    if job.test is not None:
        # Without a view of them translations are for augmentation alone, and rows that judge need none.
        options = settings.data if columns else settings.data.model_copy(update={"translation_columns": None})
        found = load_source(job.test, options, labels=corpus.labels, stored=loaded.layout)
        _tell(found.warnings, observer)
        test, corpus = _apart(_annotated(found.corpus), corpus, settings=settings, observer=observer)
        test = _with_views(test, found.layout, columns)
    corpus = _with_views(corpus, loaded.layout, columns)
    nothing = corpus.select(np.zeros(0, np.int64))
    observer.stage(f"  rows {len(corpus):,}  test {len(test) if test else 0:,}")
    return Corpora(corpus, nothing, nothing, test, loaded.layout, None, corpus)


def _annotated(test: Corpus) -> Corpus:
    """The test rows with an annotated label; the others judge nothing. Raises DataError where there is none."""
    kept = np.flatnonzero((test.targets_NL != NOT_ANNOTATED).any(axis=1))
    if not len(kept):
        step = "give --test rows with answers, or leave --test out: the figures are then out of fold"
        raise DataError(not_annotated(test.source, len(test), step))
    return test.select(kept)


def _apart(
    test: Corpus, corpus: Corpus, *, settings: RunSettings, observer: Observer
) -> tuple[Corpus, Corpus]:
    """Test rows and rows to learn from that share nothing: copies leave the former, or with leaks=drop the latter."""
    similarity = settings.split.near_duplicate_similarity
    if settings.split.leaks == "drop":
        seen_N = leak_audit(all_texts(test), all_texts(corpus), similarity=similarity).seen_N
        copies = counted(int(seen_N.sum()), "row")
        observer.stage(f"  left out of training: {copies}, copies of test rows")
        corpus = corpus.select(np.flatnonzero(~seen_N))
        if errors := [each for each in check_corpus(corpus) if each.severity == "error"]:
            raise DataError(*errors)
    leaks = leak_audit(all_texts(corpus), all_texts(test), similarity=similarity)
    found = leaks.counts()
    observer.stage(
        f"  leak audit: of {len(test):,} test rows {found['exact'] + found['normalised']:,} are copies of rows that "
        f"are learned from, {found['near']:,} more nearly so" + ("; left out" if leaks.seen_N.any() else "")
    )
    if leaks.seen_N.all():
        raise DataError(
            Finding("D300", test.source, "every test row is a copy, exact or near, of a row that is learned from",
                    "rows that no model has seen", "give other --test rows, or --set split.leaks=drop")
        )  # fmt: skip
    return test.select(np.flatnonzero(~leaks.seen_N)), corpus


def _columns_of(views: Sequence[str], layout: Layout) -> tuple[str, ...]:
    """The translation columns that views read; raises UsageError for one that is not read from the file."""
    wanted = tuple(column for view in views if (column := translation_column(view)) is not None)
    if missing := [column for column in wanted if column not in layout.translation_columns]:
        found = f"the column {missing[0]} is not read as a translation"
        allowed = ", ".join(layout.translation_columns) or "none"
        raise UsageError(Finding("U308", "--views", found, allowed, "name it with --translation-columns"))
    return wanted


def _with_views(corpus: Corpus, layout: Layout, columns: Sequence[str]) -> Corpus:
    """The corpus with texts that bring along what these columns say."""
    if not columns or corpus.translations is None:
        return corpus
    cells = dict(zip(layout.translation_columns, zip(*corpus.translations, strict=True), strict=True))
    texts = with_translations(corpus.texts, {name: cells[name] for name in columns if name in cells})
    return replace(corpus, texts=texts)


def identity_of_plan(plan: Plan) -> Identity:
    """What must be the same for finished folds to be used again; not the blend, nor how figures are computed."""
    folders = encoders_of(plan.members)
    identity = fold_identity(plan.corpus, plan.settings, plan.folds, folders[0])
    for name in ("encoder", "training.seed"):
        identity.pop(name)
    return {
        **identity,
        **{f"encoder {number + 1}": folder_fingerprint(folder)[:16] for number, folder in enumerate(folders)},
        "members": ", ".join(member.name for member in plan.members),
        "views": ", ".join(plan.views),
    }


def _tell(findings: Sequence[Finding], observer: Observer) -> None:
    for finding in told_together(findings):
        observer.stage("  note: " + finding.sentence())
