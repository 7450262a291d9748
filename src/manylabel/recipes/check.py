"""What training would make of a file; called by `manylabel check`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manylabel.config.schema import RunSettings, SplitSettings
from manylabel.data.corpus import read_corpus
from manylabel.data.describe import CorpusSummary, describe_corpus
from manylabel.data.layout import Layout
from manylabel.data.split import split_corpus
from manylabel.data.validate import check_corpus
from manylabel.errors import ConfigError, DataError, EncoderError, Finding
from manylabel.modeling.shape import PACKED_LAYOUTS, from_config
from manylabel.modeling.weights.locate import locate_encoder
from manylabel.text.tokenizer import TextTokenizer
from manylabel.values import Corpus, IntArray

MAX_ROWS_COMPARED = 20_000
"""Rows among which near duplicates are looked for, about 0.1 ms each; of more, only equal texts and groups can
make a split impossible."""
MAX_LENGTH_WITHOUT_LIMIT = 8192
"""The largest text.max_length there is."""


@dataclass(frozen=True, eq=False)
class CheckReport:
    """Layout, description and findings of a file; `rows` are usable, `rows_reported` were left out."""

    source: str
    layout: Layout
    summary: CorpusSummary
    findings: tuple[Finding, ...]

    @property
    def usable(self) -> bool:
        """Whether training would take the file."""
        return not any(finding.severity == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `error` is there when training would refuse the file, and is the first of its errors."""
        errors = [finding for finding in self.findings if finding.severity == "error"]
        return {
            **({"error": errors[0].to_json()} if errors else {}),
            "source": self.source,
            "usable": self.usable,
            "layout": [
                dict(zip(("what", "value", "origin"), line, strict=True)) for line in self.layout.describe()
            ],
            **self.summary.to_json(),
            "findings": [finding.to_json() for finding in self.findings],
        }


def check_file(path: Path, settings: RunSettings) -> CheckReport:
    """Read a file and describe it, with every problem of every row and everything training would refuse.

    Raises DataError, with all findings, only when there is nothing to describe: no such file, no rows, no text
    column.
    """
    read = read_corpus(path, settings.data)
    lengths, of_encoder = _token_lengths(read.corpus, settings)
    summary = describe_corpus(
        read.corpus, lengths.tokens_N, settings.text.max_length, counted_in_part=lengths.in_part
    )
    findings = [*read.findings, *check_corpus(read.corpus), *_split_findings(read.corpus, settings.split)]
    return CheckReport(read.corpus.source, read.layout, summary, (*findings, *of_encoder))


def max_length_findings(wanted: int, possible: int) -> list[Finding]:
    """The error for a `text.max_length` above the `possible` tokens of an encoder, or nothing."""
    if wanted <= possible:
        return []
    allowed = f"8 to {possible} for this encoder"
    next_step = f"--set text.max_length={possible}"
    return [Finding("U202", "setting text.max_length", str(wanted), allowed, next_step)]


def _split_findings(corpus: Corpus, settings: SplitSettings) -> list[Finding]:
    """Why the rows cannot be split as wanted, if so."""
    similarity = settings.near_duplicate_similarity if len(corpus) <= MAX_ROWS_COMPARED else 1.0
    try:
        split_corpus(
            corpus,
            validation_fraction=settings.validation_fraction,
            test_fraction=settings.test_fraction,
            calibration_fraction=settings.calibration_fraction,
            near_duplicate_similarity=similarity,
            seed=settings.seed,
        )
    except (ConfigError, DataError) as error:
        return list(error.findings)
    return []


@dataclass(frozen=True, eq=False)
class _Lengths:
    """Tokens of each text, None without a tokenizer; of the texts in part only the beginning was counted."""

    tokens_N: IntArray | None = None
    in_part: int = 0


def _token_lengths(corpus: Corpus, settings: RunSettings) -> tuple[_Lengths, list[Finding]]:
    """Tokens of each text with the encoder's tokenizer, and why training could not use the encoder so.

    Training needs the encoder, so one that cannot be found is an error, with the command that installs it.
    """
    wanted = settings.text.max_length
    try:
        folder = locate_encoder(settings.model.encoder)
        findings = max_length_findings(wanted, _max_tokens(folder))
        tokenizer = TextTokenizer.from_folder(
            folder, max_length=wanted, normalization=settings.text.normalization
        )
    except EncoderError as error:
        return _Lengths(), list(error.findings)
    most = tokenizer.characters_counted
    both = zip(corpus.texts, corpus.pairs or corpus.texts, strict=True)
    in_part = sum(len(text) > most or len(pair) > most for text, pair in both)
    return _Lengths(tokenizer.token_lengths(corpus.texts, corpus.pairs), in_part), findings


def _max_tokens(folder: Path) -> int:
    """Longest text of an encoder in tokens, by its config.json."""
    # These import torch, which takes longer than reading most files.
    from manylabel.modeling.auto_encoder import FIRST_POSITION_AFTER_PADDING
    from manylabel.modeling.weights.hugging_face import read_config

    config = read_config(folder)
    if config.get("model_type") in PACKED_LAYOUTS:
        return from_config(config).max_tokens
    positions, pad_id = config.get("max_position_embeddings"), config.get("pad_token_id")
    if not isinstance(positions, int):
        return MAX_LENGTH_WITHOUT_LIMIT
    if config.get("model_type") in FIRST_POSITION_AFTER_PADDING and isinstance(pad_id, int):
        return positions - pad_id - 1
    return positions
