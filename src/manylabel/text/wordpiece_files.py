"""The tokenizer files of an encoder folder, from the vocab.txt of an original BERT; called by recipes/import_tf.

Google's releases say nowhere whether a model wants lower-case texts; its scripts take a flag. A wrong choice costs
accuracy without a word, so `decide_casing` looks for every trace there is and says which one it followed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manylabel.errors import EncoderError, Finding
from manylabel.text.tokenizer import SPECIAL_TOKENS, TextTokenizer

VOCABULARY = "vocab.txt"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS_MAP = "special_tokens_map.json"
FILES = (VOCABULARY, TOKENIZER, TOKENIZER_CONFIG, SPECIAL_TOKENS_MAP)

BERT_TOKENS = SPECIAL_TOKENS[0]
KEY = "do_lower_case"
CASE_IN_NAME = re.compile(r"(?<![a-z])(un)?cased(?![a-z])")
LOWERCASED_RELEASES = ("multilingual_L-12_H-768_A-12", "chinese_L-12_H-768_A-12")
"""Releases that lower-case without saying so in their names: google-research/bert, tokenization.py,
`validate_case_matches_checkpoint`."""
UPPER_CASE_SHARE = 0.01
"""Share of word pieces with capital letters from which a vocabulary is of a cased model. Those of Google's cased
models have 16 to 29 %, the uncased and the Chinese one none."""
MARKED = re.compile(r"\[.*\]|<.*>")
"""`[PAD]`, `[unused7]`, `<S>`: tokens with capital letters in any vocabulary."""


@dataclass(frozen=True)
class Casing:
    """Whether texts are lower-cased, why, and what speaks against it (empty where nothing does)."""

    lowercase: bool
    reason: str
    doubt: str = ""

    @property
    def word(self) -> str:
        """`uncased` or `cased`."""
        return "uncased" if self.lowercase else "cased"


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """The word pieces of a vocab.txt in the order of their ids.

    Only line feeds end a line, as some vocabularies hold U+2028. Raises `EncoderError` when the file is missing, no
    UTF-8, or lacks one of BERT's special tokens.
    """
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except FileNotFoundError:
        raise EncoderError(
            _finding(path, "no such file", "copy it from the release of this checkpoint")
        ) from None
    except UnicodeDecodeError as error:
        raise EncoderError(_finding(path, "not UTF-8", "copy the file again")) from error
    if not lines[-1]:
        lines.pop()
    tokens = tuple(line.removesuffix("\r") for line in lines)
    if missing := sorted(set(BERT_TOKENS.values()) - set(tokens)):
        raise EncoderError(
            _finding(path, f"without {', '.join(missing)}", "take the vocab.txt of this checkpoint")
        )
    return tokens


def require_size(vocabulary: Sequence[str], num_expected: int, path: Path) -> None:
    """Refuse a vocabulary whose number of lines is not that of the embedding table; raises `EncoderError`."""
    if len(vocabulary) != num_expected:
        found = f"{len(vocabulary):,} word pieces, the checkpoint has embeddings for {num_expected:,}"
        raise EncoderError(_finding(path, found, "take the vocab.txt of this checkpoint"))


def decide_casing(
    vocabulary: Sequence[str],
    *,
    flag: bool | None,
    configs: Mapping[str, Mapping[str, object]],
    names: Sequence[str],
) -> Casing:
    """Whether a model lower-cases: by the user's `flag`, else `configs`, else `names`, else its vocabulary.

    `configs` are the settings of files by file name, `names` those of the folder and the checkpoint. The doubt says
    where the vocabulary tells another story.
    """
    share = upper_case_share(vocabulary)
    decided = _by_flag(flag) or _by_configs(configs) or _by_names(names) or _by_vocabulary(share)
    return Casing(*decided, doubt=_doubt(decided[0], share))


def upper_case_share(vocabulary: Sequence[str]) -> float:
    """Share of the word pieces that lower-casing changes; special tokens do not count."""
    pieces = [piece for piece in vocabulary if not MARKED.fullmatch(piece)]
    return sum(piece.lower() != piece for piece in pieces) / max(len(pieces), 1)


def _by_flag(flag: bool | None) -> tuple[bool, str] | None:
    return None if flag is None else (flag, f"--{'uncased' if flag else 'cased'} was given")


def _by_configs(configs: Mapping[str, Mapping[str, object]]) -> tuple[bool, str] | None:
    for file, config in configs.items():
        if isinstance(value := config.get(KEY), bool):
            return value, f"{file} says {KEY} {str(value).lower()}"
    return None


def _by_names(names: Sequence[str]) -> tuple[bool, str] | None:
    for name in names:
        if match := CASE_IN_NAME.search(name.lower()):
            return match[1] is not None, f'the name "{name}" says so'
        if name in LOWERCASED_RELEASES:
            return True, f'Google\'s release "{name}" is lower-cased'
    return None


def _by_vocabulary(share: float) -> tuple[bool, str]:
    return (
        share < UPPER_CASE_SHARE,
        f"{100 * share:.1f} % of the vocabulary's word pieces have capital letters",
    )


def _doubt(lowercase: bool, share: float) -> str:
    if lowercase and share >= UPPER_CASE_SHARE:
        return (
            f"{100 * share:.1f} % of the vocabulary's word pieces have capital letters and will never be used"
        )
    if not lowercase and share == 0.0:
        return "no word piece has capital letters: words with one will be unknown"
    return ""


def write_word_piece_files(
    folder: Path, vocabulary: Sequence[str], *, lowercase: bool, max_length: int
) -> None:
    """Write the FILES into `folder`: our tokenizer and transformers' make the same tokens from them.

    As in google-research/bert, tokenization.py: accents are stripped where texts are lower-cased and only there, and
    every Chinese character is a word in every model. `max_length` is in tokens, special tokens included.
    """
    config = {
        "tokenizer_class": "BertTokenizer",
        KEY: lowercase,
        "strip_accents": lowercase,
        "tokenize_chinese_chars": True,
        "model_max_length": max_length,
        **BERT_TOKENS,
    }
    (folder / VOCABULARY).write_bytes(("\n".join(vocabulary) + "\n").encode())
    _write_json(folder / TOKENIZER_CONFIG, config)
    _write_json(folder / SPECIAL_TOKENS_MAP, BERT_TOKENS)
    tokenizer = TextTokenizer.from_folder(folder, max_length=max_length)
    (folder / TOKENIZER).write_text(tokenizer.to_json(), encoding="utf-8")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _finding(path: Path, found: str, next_step: str) -> Finding:
    return Finding("E163", str(path), found, "the WordPiece vocabulary of the checkpoint", next_step)
