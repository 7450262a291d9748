"""From the files a user named to sentences for a language model; called by recipes/adapt.py."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from manylabel.config.schema import RunSettings
from manylabel.data.documents import Documents, hold_out, read_documents, seen_in
from manylabel.errors import Finding, UsageError, counted
from manylabel.recipes.run import Run
from manylabel.text.masking import WordPieces
from manylabel.text.segments import Sentences
from manylabel.text.sentences import has_own_rules, split_sentences
from manylabel.text.tokenizer import TextTokenizer
from manylabel.training.observers import Observer
from manylabel.training.pretraining_examples import capacity
from manylabel.values import BoolArray, IntArray

LONGEST_SENTENCE = 8192
"""Tokens of one sentence that are read; what follows them without the end of a sentence is lost."""


@dataclass(frozen=True)
class TextSources:
    """What to learn the language from: `texts`, without copies of what is in the `test` files.

    `one_a_line` makes each line of a plain text file a document of its own; `language` is a code such as en, for the
    ends of sentences.
    """

    texts: tuple[Path, ...]
    test: tuple[Path, ...] = ()
    language: str = "en"
    one_a_line: bool = False


@dataclass(frozen=True, eq=False)
class GatheredTexts:
    """D documents that are left, which of them only measure, and what was left out, by kind of copy.

    `places_D` counts a document among all that were read, from 0.
    """

    documents: Documents
    is_held_out_D: BoolArray
    left_out: Mapping[str, int]
    test: Documents | None
    places_D: IntArray

    def place_of(self, number: int) -> str:
        """Where document `number`, from 0, stands: `mails.csv, row 7`. Empty documents are not counted."""
        place = int(self.places_D[number])
        for source in self.documents.sources:
            if place < source.num_documents:
                kind = "document" if source.column is None else "row"
                beside = f" of the {kind}s with a text" if source.num_empty else ""
                return f"{source.name}, {kind} {place + 1:,}{beside}"
            place -= source.num_documents
        raise IndexError(number)

    def to_json(self) -> dict[str, Any]:
        """What the encoder's folder says of the texts: names and numbers, no text."""
        return {
            "sha256": self.documents.fingerprint(),
            "documents": len(self.documents),
            "held_out_documents": int(self.is_held_out_D.sum()),
            "sources": _sources(self.documents),
            "test_sources": [] if self.test is None else _sources(self.test),
            "test_sha256": None if self.test is None else self.test.fingerprint(),
            "left_out_as_test_texts": dict(self.left_out),
        }


def gather_texts(sources: TextSources, settings: RunSettings, observer: Observer) -> GatheredTexts:
    """Read all files, leave out what stands in the test files too, choose what is held out.

    Raises DataError with what is wrong with a file, UsageError for an unknown language and when nothing is left.
    """
    observer.stage("Reading the texts")
    documents = read_documents(sources.texts, settings.data, one_a_line=sources.one_a_line)
    for source in documents.sources:
        column = "" if source.column is None else f', column "{source.column}"'
        empty = f", {source.num_empty:,} empty ones left out" if source.num_empty else ""
        observer.stage(f"  {source.name}{column}: {counted(source.num_documents, 'document')}{empty}")
    if not has_own_rules(sources.language):
        observer.stage(
            f"  note: no rules are known for the ends of sentences in {sources.language}; those of a related "
            "language or of English are used"
        )
    test, left_out = None, {"exact": 0, "normalised": 0, "near": 0}
    places_D = np.arange(len(documents))
    if sources.test:
        test = read_documents(sources.test, settings.data, one_a_line=sources.one_a_line)
        found = seen_in(test.texts, documents, similarity=settings.split.near_duplicate_similarity)
        left_out = found.counts()
        observer.stage(
            f"  left out as texts of the test files: {left_out['exact']:,} exact copies, "
            f"{left_out['normalised']:,} after normalisation, {left_out['near']:,} near ones"
        )
        places_D = np.flatnonzero(~found.seen_N)
        kept = tuple(documents.texts[place] for place in places_D)
        if not kept:
            step = "name other texts, or leave --test out for files that are no test files"
            place = ", ".join(path.name for path in sources.texts)
            raise UsageError(Finding("U321", place, "every text is in the test files too", next_step=step))
        documents = Documents(kept, documents.sources)
    fraction, seed = settings.pretraining.held_out_fraction, settings.split.seed
    is_held_out_D = hold_out(documents, fraction=fraction, seed=seed)
    held_out = counted(int(is_held_out_D.sum()), "document")
    observer.stage(f"  {len(documents):,} left, of which {held_out} only measure")
    return GatheredTexts(documents, is_held_out_D, left_out, test, places_D)


def make_sentences(
    gathered: GatheredTexts,
    folder: Path,
    *,
    run: Run,
    settings: RunSettings,
    language: str,
    pieces: WordPieces,
    observer: Observer,
) -> tuple[Sentences, Sentences]:
    """The sentences to learn from and those held out, as tokens of the encoder in `folder`.

    Raises UsageError where either part has no token that can be masked, for example in a script the encoder lacks.
    """
    observer.stage("Splitting into sentences and tokenising")
    documents = gathered.documents
    divided = split_sentences(documents.texts, language=language)
    flat = [sentence for sentences in divided for sentence in sentences]
    tokenizer = TextTokenizer.from_folder(
        folder, max_length=LONGEST_SENTENCE, normalization=settings.text.normalization
    )
    digest = hashlib.sha256(f"{documents.fingerprint()} {tokenizer.fingerprint()} {language}".encode())
    encodings = run.cached(digest.hexdigest(), lambda: tokenizer.encode(flat))
    longest = capacity(settings.text.max_length, settings.pretraining)
    sentences = Sentences.of(encodings, [len(each) for each in divided], longest=longest)
    observer.stage(f"  {counted(len(flat), 'sentence')}, {len(sentences.ids_T):,} tokens")
    if cut := int(encodings.truncated_N.sum()):
        observer.stage(
            f"  note: {counted(cut, 'sentence')} longer than {LONGEST_SENTENCE:,} tokens, the rest is lost"
        )
    learned, held_out = (sentences.select(kept) for kept in (~gathered.is_held_out_D, gathered.is_held_out_D))
    for part, name in ((learned, "learn from"), (held_out, "measure on")):
        if pieces.is_special_V[part.ids_T].all():
            step = "give more texts, another pretraining.held_out_fraction, or an encoder that knows their script"
            raise UsageError(Finding("U322", "texts", f"no known token is left to {name}", next_step=step))
    return learned, held_out


def _sources(documents: Documents) -> list[dict[str, str | int]]:
    return [
        {"source": source.name, "documents": source.num_documents, "empty": source.num_empty}
        for source in documents.sources
    ]
