"""Measure `manylabel import-tf` on checkpoints that write_tf_checkpoints.py made: `python scripts/tf_table.py FOLDER`.

First table, a row for each layout: the largest difference of our encoder's hidden states from those of transformers'
BertModel on the imported folder and from those that TensorFlow computed from the original; the same for the
pretraining heads in BertForPreTraining; and on how many of 10,000 texts in 10 scripts our tokenizer differs from
transformers' on the original vocab.txt, from AutoTokenizer on the imported folder, and from transformers' old tokenizer
in Python. The last one composes characters first (NFC) and knows the final sigma, which Rust's lower-casing does not;
texts where that matters are counted apart. Second table: what is said about damaged and foreign files.
With `--full-size`: time and peak memory of importing FOLDER instead, in its own process.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import google_crc32c
import numpy as np
import torch

from manylabel.errors import ManylabelError
from manylabel.modeling.packed import to_device
from manylabel.modeling.weights.hugging_face import load_pretrained
from manylabel.recipes.import_tf import import_tensorflow
from manylabel.text.tokenizer import TextTokenizer
from manylabel.values import Batch

PREFIX = "bert_model.ckpt"
INDEX, DATA = f"{PREFIX}.index", f"{PREFIX}.data-00000-of-00001"
MINIATURE = "uncased_L-2_H-128_A-2"
TOLERANCE = 1e-5
NUM_TEXTS = 10_000
SCRIPTS = {
    "Latin": "LATIN", "Greek": "GREEK", "Cyrillic": "CYRILLIC", "Hebrew": "HEBREW", "Arabic": "ARABIC",
    "Devanagari": "DEVANAGARI", "Thai": "THAI", "Han": "CJK UNIFIED", "kana": ("HIRAGANA", "KATAKANA"),
    "Hangul": "HANGUL SYLLABLE",
}  # fmt: skip
"""Ten scripts, by the beginnings of their characters' names in Unicode."""
OTHERS = " .,;:!?()[]{}<>\"'-_/\\@#$%^&*+=~`|0123456789٣४\t\n\u00a0\u200b\u3000—…«»、。！？€©😀🇫🇷\u0301\ufeff"


def alphabets() -> dict[str, list[str]]:
    """Letters and marks of each script in the Basic Multilingual Plane that Unicode 3.2 had already.

    Later ones have other properties in Python's tables than in those of the library in Rust.
    """
    old = unicodedata.ucd_3_2_0
    known = [character for character in map(chr, range(0xFFFF)) if old.category(character)[0] in "LM"]
    return {
        script: [character for character in known if unicodedata.name(character, "").startswith(begin)]
        for script, begin in SCRIPTS.items()
    }


def texts(vocabulary: list[str], *, seed: int = 3) -> Iterator[str]:
    """Made-up texts, a thousand a script: word pieces of the vocabulary, random letters, signs, and foreign words."""
    draw = random.Random(seed)
    letters = alphabets()
    words = {
        script: [
            piece
            for piece in vocabulary
            if len(piece) > 1 and piece.strip("#") and piece.strip("#")[0] in own
        ]
        for script, own in ((script, set(characters)) for script, characters in letters.items())
    }
    for index in range(NUM_TEXTS):
        script = list(SCRIPTS)[index % len(SCRIPTS)]
        pieces = []
        for _ in range(draw.randint(1, 30)):
            chosen = script if draw.random() < 0.85 else draw.choice(list(SCRIPTS))
            pieces.append(word(letters[chosen], words[chosen], draw))
        yield "".join(pieces)


def word(letters: list[str], known: list[str], draw: random.Random) -> str:
    """A word of the vocabulary or a random one, in any case, with a sign or a space after it."""
    if known and draw.random() < 0.6:
        made = draw.choice(known).strip("#") + (draw.choice(known).strip("#") if draw.random() < 0.3 else "")
    else:
        made = "".join(draw.choices(letters, k=draw.randint(1, 8)))
    made = draw.choice((str, str.lower, str.upper, str.capitalize))(made)
    return made + ("".join(draw.choices(OTHERS, k=draw.randint(1, 3))) if draw.random() < 0.3 else " ")


def tokenizer_differences(original: Path, imported: Path, *, lowercase: bool) -> dict[str, int]:
    """Texts whose ids differ from those of each reference."""
    from transformers import AutoTokenizer, BertTokenizer
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    vocabulary = str(original / "vocab.txt")
    options = {"do_lower_case": lowercase, "model_max_length": 512, "split_special_tokens": True}
    made_up = list(texts((original / "vocab.txt").read_text("utf-8").split("\n")))
    ours = TextTokenizer.from_folder(imported, max_length=512).encode(made_up)
    ids = np.split(ours.ids_T, ours.offsets_N1[1:-1])

    def different(reference: Callable[..., dict[str, list[int]]]) -> np.ndarray:
        theirs = (reference(text, truncation=True)["input_ids"] for text in made_up)
        return np.array([own.tolist() != other for own, other in zip(ids, theirs, strict=True)])

    in_python = different(BertTokenizerLegacy(vocab_file=vocabulary, **options))
    is_plain = np.array([not is_treated_apart(text) for text in made_up])
    folder = AutoTokenizer.from_pretrained(imported, split_special_tokens=True)
    return {
        "transformers": int(different(BertTokenizer(vocab=vocabulary, **options)).sum()),
        "AutoTokenizer on the folder": int(different(folder).sum()),
        f"in Python, {is_plain.sum():,} plain texts": int((in_python & is_plain).sum()),
        f"in Python, {(~is_plain).sum():,} others": int((in_python & ~is_plain).sum()),
    }


def is_treated_apart(text: str) -> bool:
    """Whether the two libraries lower-case or compose a text in different ways."""
    cleaned = "".join(character for character in text if unicodedata.category(character) != "Cf")
    return "\u03a3" in text or not unicodedata.is_normalized("NFC", cleaned)


def hidden_differences(original: Path, imported: Path) -> dict[str, float]:
    """Largest absolute differences: ours to transformers, ours to TensorFlow, heads of transformers to TensorFlow."""
    from transformers import BertForPreTraining, BertModel

    expected = np.load(original / "expected.npz", allow_pickle=False)
    ids, segments = (torch.from_numpy(expected[name]) for name in ("ids", "segments"))
    with torch.inference_mode():
        theirs = BertModel.from_pretrained(imported).eval()(input_ids=ids, token_type_ids=segments)
        pretrained = BertForPreTraining.from_pretrained(imported).eval()
        heads = pretrained(input_ids=ids, token_type_ids=segments)
        classifier = load_pretrained(imported, num_labels=2, head="cls").eval()
        ours = classifier.encoder(
            to_device(packed(expected["ids"], expected["segments"]), "cpu"), first_only=False
        )
        pooled = torch.tanh(classifier.head.dense(ours.view(*ids.shape, -1)[:, 0]))
    ours = ours.view(*ids.shape, -1)
    return {
        "ours - transformers": difference(ours, theirs.last_hidden_state.numpy()),
        "ours - TensorFlow": difference(ours, expected["hidden"]),
        "pooler": difference(pooled, expected["pooled"]),
        "masked head": difference(heads.prediction_logits[:1, :4], expected["masked_logits"]),
        "next sentence head": difference(heads.seq_relationship_logits, expected["next_logits"]),
    }


def packed(ids: np.ndarray, segments: np.ndarray) -> Batch:
    """Rows of equal length as one batch."""
    rows, tokens = ids.shape
    positions = np.tile(np.arange(tokens), rows)
    return Batch(ids.ravel(), segments.ravel(), positions, np.arange(rows + 1) * tokens)


def difference(found: torch.Tensor, expected: np.ndarray) -> float:
    """The largest absolute difference."""
    return float(np.abs(found.numpy() - expected).max())


def layouts_table(checkpoints: Path, work: Path) -> bool:
    """Print the first table; whether all of it is as it must be."""
    fine = True
    for original in sorted(path for path in checkpoints.iterdir() if (path / "expected.npz").is_file()):
        imported = work / original.name
        result = import_tensorflow(original, imported)
        different = hidden_differences(original, imported)
        texts_different = tokenizer_differences(original, imported, lowercase=result.casing == "uncased")
        print(f"{original.name}  {result.num_tensors} tensors  {result.casing} ({result.casing_reason})")
        print("    " + "  ".join(f"{name} {value:.1e}" for name, value in different.items()))
        print(f"    texts of {NUM_TEXTS:,} with other tokens: ", end="")
        print("; ".join(f"{name} {count:,}" for name, count in texts_different.items()), flush=True)
        fine &= max(different.values()) <= TOLERANCE and not any(list(texts_different.values())[:3])
    return fine


Change = Callable[[Path], None]


def change_bytes(name: str, change: Callable[[bytearray], bytearray]) -> Change:
    """Rewrite one file of a folder."""

    def apply(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(bytearray(path.read_bytes())))

    return apply


def flip(at: float) -> Callable[[bytearray], bytearray]:
    """One bit, at this share of the file."""

    def change(content: bytearray) -> bytearray:
        content[int(at * len(content))] ^= 4
        return content

    return change


def as_snappy(content: bytearray) -> bytearray:
    """Say that the first block is compressed, with the checksum that fits."""
    end = next(
        end
        for end in range(len(content))
        if int.from_bytes(content[end + 1 : end + 5], "little") == masked(content[: end + 1])
    )
    content[end] = 1
    content[end + 1 : end + 5] = masked(content[: end + 1]).to_bytes(4, "little")
    return content


def without_last_line(content: bytearray) -> bytearray:
    """All lines but one."""
    return content[: content[:-1].rfind(b"\n") + 1]


def masked(content: bytearray) -> int:
    """CRC32C as it is stored."""
    crc = google_crc32c.value(bytes(content))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def set_config(**values: object) -> Change:
    """Change bert_config.json."""

    def apply(folder: Path) -> None:
        path = folder / "bert_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return apply


DAMAGE: dict[str, Change] = {
    "index cut in half": change_bytes(INDEX, lambda content: content[: len(content) // 2]),
    "index without its last byte": change_bytes(INDEX, lambda content: content[:-1]),
    "bit flipped in a data block of the index": change_bytes(INDEX, flip(0.3)),
    "bit flipped in the index block": change_bytes(INDEX, lambda content: flip(1 - 60 / len(content))(content)),
    "bit flipped in the footer": change_bytes(INDEX, flip(0.9999)),
    "index said to be snappy": change_bytes(INDEX, as_snappy),
    "index is a text file": change_bytes(INDEX, lambda content: bytearray(b"404: Not Found")),
    "no index": lambda folder: (folder / INDEX).unlink(),
    "bit flipped in the data": change_bytes(DATA, flip(0.5)),
    "data cut by 1,000 bytes": change_bytes(DATA, lambda content: content[:-1000]),
    "no data file": lambda folder: (folder / DATA).unlink(),
    "config with another width": set_config(hidden_size=256),
    "config with another vocabulary": set_config(vocab_size=30_000),
    "config with more layers": set_config(num_hidden_layers=4),
    "config with heads that do not divide the width": set_config(num_attention_heads=3),
    "config of another architecture": set_config(model_type="albert"),
    "config is no JSON": change_bytes("bert_config.json", lambda content: content[:-1]),
    "no config": lambda folder: (folder / "bert_config.json").unlink(),
    "vocabulary without its last line": change_bytes("vocab.txt", without_last_line),
    "vocabulary in Latin-1": change_bytes("vocab.txt", lambda content: content + b"\xe9\n"),
    "no vocabulary": lambda folder: (folder / "vocab.txt").unlink(),
}  # fmt: skip


def damage_table(checkpoints: Path, work: Path) -> bool:
    """Print the second table; whether everything was refused and nothing was left behind."""
    fine = True
    for name, change in DAMAGE.items():
        folder = work / "damaged"
        shutil.copytree(checkpoints / MINIATURE, folder)
        change(folder)
        fine &= refused(name, folder, work)
        shutil.rmtree(folder)
    folder = work / "damaged"
    shutil.copytree(checkpoints / "cased_L-24_H-1024_A-16", folder)
    (folder / f"{PREFIX}.data-00001-of-00003").unlink()
    fine &= refused("one of three shards missing", folder, work)
    shutil.rmtree(folder)
    for folder in sorted((checkpoints / "refused").iterdir()):
        fine &= refused(f"written by TensorFlow: {folder.name.replace('_', ' ')}", folder, work)
    return fine


def refused(name: str, folder: Path, work: Path) -> bool:
    """Whether an import ends with a sentence and without a folder; prints the sentence."""
    out = work / "refused"
    before = sorted(work.iterdir())
    try:
        import_tensorflow(folder, out)
    except ManylabelError as error:
        print(f"{name}\n    {str(error).replace(str(folder) + '/', '').replace(str(folder), 'FOLDER')}")
        return sorted(work.iterdir()) == before
    shutil.rmtree(out)
    print(f"{name}\n    NOT REFUSED")
    return False


def full_size(folder: Path) -> bool:
    """Import in a process of its own, and print its time and peak memory; the file is in the cache or not."""
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, "-m", "manylabel", "import-tf", str(folder), "--out", f"{work}/encoder"]
        start = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - start
        size = (Path(work) / "encoder" / "model.safetensors").stat().st_size
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{size / 1e6:,.0f} MB of weights in {seconds:.1f} s, peak memory {peak:,.0f} MiB, start included")
    return seconds < 15 and peak < 1536


def main() -> int:
    """Print the tables; 1 when something is not as it must be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoints", type=Path)
    parser.add_argument("--full-size", action="store_true")
    given = parser.parse_args()
    if given.full_size:
        return not full_size(given.checkpoints)
    with tempfile.TemporaryDirectory() as work:
        fine = layouts_table(given.checkpoints, Path(work))
    with tempfile.TemporaryDirectory() as work:
        fine &= damage_table(given.checkpoints, Path(work))
    print("all as it must be" if fine else "NOT as it must be")
    return not fine


if __name__ == "__main__":
    sys.exit(main())
