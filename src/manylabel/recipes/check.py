"""What training would make of a file; called by `manylabel check`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manylabel.config.schema import RunSettings
from manylabel.data.corpus import to_corpus
from manylabel.data.describe import CorpusSummary, describe_corpus
from manylabel.data.layout import Layout, guess_layout
from manylabel.data.read import read_rows
from manylabel.data.validate import check_corpus
from manylabel.errors import EncoderError, Finding
from manylabel.modeling.weights.locate import locate_encoder
from manylabel.text.tokenizer import TextTokenizer
from manylabel.values import Corpus, IntArray


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
        """Plain values."""
        return {
            "source": self.source,
            "usable": self.usable,
            "layout": [
                dict(zip(("what", "value", "origin"), line, strict=True)) for line in self.layout.describe()
            ],
            **self.summary.to_json(),
            "findings": [
                {
                    "code": finding.code,
                    "severity": finding.severity,
                    "place": finding.place,
                    "found": finding.found,
                    "allowed": finding.allowed,
                    "next_step": finding.next_step,
                    "rows": list(finding.rows),
                }
                for finding in self.findings
            ],
        }


def check_file(path: Path, settings: RunSettings) -> CheckReport:
    """Read a file and describe it, with every problem of every row.

    Raises DataError only when there is nothing to describe: no such file, no rows, no text column.
    """
    rows = read_rows(path, settings.data)
    layout = guess_layout(rows.table, settings.data, path.name)
    corpus, findings = to_corpus(rows.table, layout, path.name, rows_N=rows.rows_N)
    lengths_N, notes = _token_lengths(corpus, settings)
    summary = describe_corpus(corpus, lengths_N, settings.text.max_length)
    all_findings = (*rows.findings, *findings, *check_corpus(corpus), *notes)
    return CheckReport(path.name, layout, summary, all_findings)


def _token_lengths(corpus: Corpus, settings: RunSettings) -> tuple[IntArray | None, list[Finding]]:
    """Tokens of each text with the encoder's tokenizer; a note when there is no encoder at hand."""
    try:
        folder = locate_encoder(settings.model.encoder)
        tokenizer = TextTokenizer.from_folder(
            folder, max_length=settings.text.max_length, normalization=settings.text.normalization
        )
    except EncoderError as error:
        return None, [
            Finding("D190", finding.place, "token lengths are not shown: " + finding.found,
                    next_step=finding.next_step, severity="warning")
            for finding in error.findings
        ]  # fmt: skip
    return tokenizer.token_lengths(corpus.texts, corpus.pairs), []
