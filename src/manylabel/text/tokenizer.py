"""Text to token ids, through the `tokenizers` library; called by recipes and the predictor.

What is ours is the armour around it. Measured with the bert-base-uncased vocabulary: a user's `[SEP]` becomes
the real separator unless told otherwise, a lone surrogate raises a TypeError, and 10 MB of text cost 8 s even
when 256 tokens are asked for, because truncation comes after tokenising.
"""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Encoding, Tokenizer, models, normalizers, pre_tokenizers, processors

from manylabel.errors import EncoderError, Finding
from manylabel.text.folding import fold
from manylabel.values import Encodings

CHARACTERS_PER_TOKEN = 64
"""Characters read per allowed token. English needs 4 to 5; 64 leaves room for long words and runs of spaces, and
keeps a 10 MB text under 50 ms at 512 tokens."""
TEXTS_PER_CALL = 8192
CHARACTERS_PER_CALL = 1 << 21
"""Texts and characters handed to the library at once, whichever comes first. Its objects hold what was cut off
too, in about 100 bytes a token; only ids and flags outlive a call."""
SPECIAL_TOKENS = (
    {
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    },
    {
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "mask_token": "<mask>",
    },
)
"""Names of the special tokens in BERT's and RoBERTa's vocabularies."""
Normalization = Literal["nfkc", "fold", "none"]
FOLDING_KEY = "manylabel_normalization"
"""Entry of tokenizer_config.json that says `fold`. A tokenizer.json can hold NFKC but not folding."""


class TextTokenizer:
    """Turns texts into `Encodings` of at most `max_length` tokens each."""

    def __init__(
        self, tokenizer: Tokenizer, *, max_length: int, normalization: Normalization = "none"
    ) -> None:
        """Take over `tokenizer`; `nfkc` puts Unicode normalisation before its own normaliser.

        `fold` does so too, so that other programs that read the saved tokenizer have at least that, and undoes
        disguises in each text before (see `folding`).
        """
        if normalization != "none":
            steps = [normalizers.NFKC()] + ([tokenizer.normalizer] if tokenizer.normalizer else [])
            tokenizer.normalizer = normalizers.Sequence(steps)
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_length, strategy="longest_first")
        # Special tokens typed by a user are then text like any other.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._folds = normalization == "fold"
        self.max_length = max_length

    @classmethod
    def from_folder(
        cls, folder: Path, *, max_length: int, normalization: Normalization = "none"
    ) -> TextTokenizer:
        """The tokenizer of an encoder folder or bundle, from tokenizer.json or else vocab.txt.

        One that was saved with `nfkc` or `fold` keeps it. Raises EncoderError when the folder has neither file or
        it cannot be read.
        """
        tokenizer = cls(_read_tokenizer(folder), max_length=max_length, normalization=normalization)
        recorded = _tokenizer_options(folder).get(FOLDING_KEY) == "fold"
        return tokenizer.with_folding() if recorded and not tokenizer.folds else tokenizer

    @property
    def folds(self) -> bool:
        """Whether disguises in a text are undone before it is tokenised."""
        return self._folds

    def with_folding(self) -> TextTokenizer:
        """The same vocabulary and length, with disguises undone first."""
        copy = TextTokenizer(Tokenizer.from_str(self._tokenizer.to_str()), max_length=self.max_length)
        copy._folds = True
        return copy

    @cached_property
    def folded(self) -> TextTokenizer:
        """`with_folding`, made once."""
        return self if self._folds else self.with_folding()

    @cached_property
    def raw(self) -> TextTokenizer:
        """The same vocabulary and length without the Unicode normalisation that `nfkc` or `fold` put before; made once.

        What the encoder's own tokenizer does, such as lower case, stays. One of an encoder that itself begins with NFKC
        and has one step after it cannot be told from ours and loses it too.
        """
        document: dict[str, Any] = json.loads(self._tokenizer.to_str())
        normalizer = document["normalizer"] or {}
        steps = normalizer.get("normalizers", [])
        if normalizer.get("type") == "Sequence" and steps[:1] == [{"type": "NFKC"}] and len(steps) <= 2:
            document["normalizer"] = steps[1] if len(steps) > 1 else None
        return TextTokenizer(Tokenizer.from_str(json.dumps(document)), max_length=self.max_length)

    @property
    def vocabulary_size(self) -> int:
        """V, the rows an embedding table needs: the highest id, added tokens included, and one."""
        return max(self._tokenizer.get_vocab(with_added_tokens=True).values(), default=-1) + 1

    def fingerprint(self) -> str:
        """SHA-256 of everything that decides which tokens a text becomes."""
        folding = "fold" if self._folds else ""
        return hashlib.sha256((self._tokenizer.to_str() + folding).encode()).hexdigest()

    def prepared(self, text: str) -> str:
        """What the library is given of a text: valid Unicode, cut to what can matter, folded if this tokenizer folds.

        Places of characters that the library tells are places in this.
        """
        return self._prepared(text, self.max_length * CHARACTERS_PER_TOKEN)

    def _prepared(self, text: str, limit: int) -> str:
        text = make_encodable(text[:limit])
        if not self._folds:
            return text
        # NFKC makes up to 18 characters of one, which would make folding a hostile text take 18 times as long.
        return fold(unicodedata.normalize("NFKC", text)[:limit])[:limit]

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Encodings:
        """Token ids of each text (with its pair), special tokens added, cut to `max_length`.

        Never fails on the content of a text: lone surrogates become U+FFFD, an empty text its special tokens.
        """
        limit = self.max_length * CHARACTERS_PER_TOKEN
        parts = [_compact(encoded) for encoded in self._encoded_chunks(texts, pairs, limit)]
        lengths_N = _concatenated([part.lengths_N for part in parts], np.int64)
        cut = [
            len(text) > limit or (pairs is not None and len(pairs[index]) > limit)
            for index, text in enumerate(texts)
        ]
        return Encodings(
            ids_T=_concatenated([part.ids_T for part in parts], np.int32),
            segments_T=_concatenated([part.segments_T for part in parts], np.uint8),
            offsets_N1=np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths_N)]),
            truncated_N=_concatenated([part.truncated_N for part in parts], np.bool_)
            | np.array(cut, np.bool_),
        )

    @property
    def characters_counted(self) -> int:
        """How much of a text `token_lengths` reads; of a longer one it counts the beginning."""
        return 4 * self.max_length * CHARACTERS_PER_TOKEN

    def token_lengths(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> np.ndarray:
        """Tokens each text would have without the length limit (int64), for reports.

        Texts are still read only up to `characters_counted`, so a huge text counts as very long.
        """
        chunks = self.untruncated(texts, pairs, limit=self.characters_counted)
        return np.array([length for encoded in chunks for length in map(len, encoded)], np.int64)

    def untruncated(
        self, texts: Sequence[str], pairs: Sequence[str] | None, *, limit: int
    ) -> Iterator[list[Encoding]]:
        """The library's objects for texts read up to `limit` characters, no token cut; a bounded number at a time.

        To be used up before this tokenizer is asked for anything else: the length limit is off meanwhile.
        """
        self._tokenizer.no_truncation()
        try:
            yield from self._encoded_chunks(texts, pairs, limit)
        finally:
            self._tokenizer.enable_truncation(self.max_length, strategy="longest_first")

    def _encoded_chunks(
        self, texts: Sequence[str], pairs: Sequence[str] | None, limit: int
    ) -> Iterator[list[Encoding]]:
        """The library's objects for one bounded call after the other; each text is read up to `limit`."""
        for start, stop in call_bounds(texts, pairs, limit):
            clean = [self._prepared(text, limit) for text in texts[start:stop]]
            if pairs is None:
                yield self._tokenizer.encode_batch_fast(clean)
            else:
                clean_pairs = [self._prepared(pair, limit) for pair in pairs[start:stop]]
                yield self._tokenizer.encode_batch_fast(list(zip(clean, clean_pairs, strict=True)))

    def transformers_config(self) -> dict[str, Any]:
        """A tokenizer_config.json with which transformers tokenises as this class does, typed special tokens inert."""
        names = next(
            (
                names
                for names in SPECIAL_TOKENS
                if self._tokenizer.token_to_id(names["pad_token"]) is not None
            ),
            {},
        )
        inputs = ["input_ids", "attention_mask"]
        has_segments = "cls_token" in names and names["cls_token"] == "[CLS]"
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.max_length,
            "model_input_names": ["input_ids", "token_type_ids", "attention_mask"]
            if has_segments
            else inputs,
            "split_special_tokens": True,
            **({FOLDING_KEY: "fold"} if self._folds else {}),
            **names,
        }

    def to_json(self) -> str:
        """The whole tokenizer, normalisation included, as the text of a tokenizer.json."""
        document: dict[str, Any] = json.loads(self._tokenizer.to_str())
        document["truncation"] = None
        document["padding"] = None
        return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


def call_bounds(texts: Sequence[str], pairs: Sequence[str] | None, limit: int) -> Iterator[tuple[int, int]]:
    """Start and stop of consecutive calls: TEXTS_PER_CALL texts or CHARACTERS_PER_CALL characters at most.

    A text counts with at most `limit` characters, its pair likewise; a call has at least one text.
    """
    start = characters = 0
    for index, text in enumerate(texts):
        own = min(len(text), limit) + (min(len(pairs[index]), limit) if pairs is not None else 0)
        if index > start and (index - start >= TEXTS_PER_CALL or characters + own > CHARACTERS_PER_CALL):
            yield start, index
            start, characters = index, 0
        characters += own
    if start < len(texts):
        yield start, len(texts)


@dataclass(frozen=True, eq=False)
class _CompactCall:
    """What is kept of one call: ids and segments of its texts one after the other, lengths and flags."""

    ids_T: np.ndarray
    segments_T: np.ndarray
    lengths_N: np.ndarray
    truncated_N: np.ndarray


def _compact(encoded: list[Encoding]) -> _CompactCall:
    ids = [np.array(encoding.ids, np.int32) for encoding in encoded]
    return _CompactCall(
        ids_T=_concatenated(ids, np.int32),
        segments_T=_concatenated([np.array(encoding.type_ids, np.uint8) for encoding in encoded], np.uint8),
        lengths_N=np.array([len(part) for part in ids], np.int64),
        truncated_N=np.array([bool(encoding.overflowing) for encoding in encoded], np.bool_),
    )


def _concatenated(parts: Sequence[np.ndarray], dtype: npt.DTypeLike) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def make_encodable(text: str) -> str:
    """`text` as valid Unicode: surrogate pairs joined, lone surrogates replaced by U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _read_tokenizer(folder: Path) -> Tokenizer:
    """tokenizer.json if it is there, else a WordPiece tokenizer from vocab.txt."""
    path = folder / "tokenizer.json"
    if path.is_file():
        try:
            return Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except Exception as error:
            raise EncoderError(
                Finding("E301", str(path), f"not a tokenizer ({type(error).__name__})", "a tokenizers JSON file",
                        "copy the file again from where the encoder came from")
            ) from error  # fmt: skip
    vocabulary = folder / "vocab.txt"
    if vocabulary.is_file():
        return _word_piece(vocabulary, _tokenizer_options(folder))
    raise EncoderError(
        Finding("E302", str(folder), "no tokenizer", "tokenizer.json or vocab.txt in the encoder's folder",
                "copy the file from where the encoder came from, or use --encoder default")
    )  # fmt: skip


def _tokenizer_options(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    try:
        options = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise EncoderError(
            Finding("E304", str(path), "not valid JSON", "one JSON object", "copy the file again")
        ) from error
    return options if isinstance(options, dict) else {}


def _read_vocabulary(path: Path) -> list[str]:
    """One token a line. Only line feeds end a line: some vocabularies hold U+0085 or U+2028 as a token."""
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise EncoderError(
            Finding("E303", str(path), "not UTF-8", "a WordPiece vocabulary of BERT", "copy the file again")
        ) from error
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _word_piece(vocabulary: Path, options: dict[str, Any]) -> Tokenizer:
    """BERT's WordPiece as in the original release: 100 characters a word at most, [CLS] text [SEP] pair [SEP]."""
    tokens = _read_vocabulary(vocabulary)
    ids = {token: index for index, token in enumerate(tokens)}
    missing = [token for token in ("[UNK]", "[CLS]", "[SEP]") if token not in ids]
    if missing:
        raise EncoderError(
            Finding("E303", str(vocabulary), f"{', '.join(missing)} missing", "a WordPiece vocabulary of BERT",
                    "use the vocab.txt the encoder was trained with")
        )  # fmt: skip
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=options.get("tokenize_chinese_chars", True),
        strip_accents=options.get("strip_accents"),
        lowercase=options.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    special = [token for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]") if token in ids]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return tokenizer
