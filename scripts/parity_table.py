"""Compare our encoders and classifiers with transformers: `python scripts/parity_table.py`.

For random tiny models of each layout and for the default encoder: the largest absolute difference, in fp32, of the
hidden states to AutoModel (head mean) or of the logits to AutoModelForSequenceClassification (head cls), for all
texts packed into one batch and for one text at a time. Each must be at most 1e-5.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from manylabel.modeling.classifier import HeadName
from manylabel.modeling.packed import PackedBatch, to_device
from manylabel.modeling.weights.hugging_face import (
    load_classifier,
    load_pretrained,
    read_config,
    read_weights,
)
from manylabel.values import Batch

LAYOUTS = ("bert", "roberta", "xlm-roberta")
HEADS: tuple[HeadName, ...] = ("mean", "cls")
NUM_LABELS = 5
TOLERANCE = 1e-5

WEIGHT_GAIN = 1.13
"""Random weights have this standard deviation times 1 / sqrt(width): 0.2 at width 32, ten times what BERT starts from.

Much larger ones make fp32 itself the limit: with 2.26 (0.2 at width 128) logits of transformers are 1e-5 away from its
own in fp64, and so are ours.
"""

OfBatch = Callable[[PackedBatch], torch.Tensor]
OfText = Callable[[np.ndarray, np.ndarray], torch.Tensor]


@dataclass(frozen=True)
class TinyModel:
    """A configuration to compare at; `extra` overrides keys of config.json."""

    layout: str
    num_layers: int = 3
    num_heads: int = 4
    width: int = 32
    seed: int = 1
    extra: dict[str, object] = field(default_factory=dict)

    def config(self) -> dict[str, Any]:
        """The `config.json`, without dropout."""
        is_bert = self.layout == "bert"
        return {
            "model_type": self.layout,
            "vocab_size": 200,
            "hidden_size": self.width,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "intermediate_size": 3 * self.width,
            "hidden_act": "gelu",
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "max_position_embeddings": 128 if is_bert else 130,
            "type_vocab_size": 2 if is_bert else 1,
            "layer_norm_eps": 1e-12 if is_bert else 1e-5,
            "pad_token_id": 0 if is_bert else 1,
            "initializer_range": WEIGHT_GAIN / self.width**0.5,
            **self.extra,
        }


def pack_rows(rows: list[np.ndarray], segments: list[np.ndarray] | None = None) -> Batch:
    """Token ids of texts as one batch."""
    lengths = [len(row) for row in rows]
    return Batch(
        ids_T=np.concatenate(rows).astype(np.int64),
        segments_T=np.concatenate(segments or [np.zeros(length) for length in lengths]).astype(np.int64),
        positions_T=np.concatenate([np.arange(length) for length in lengths]),
        starts_B1=np.concatenate([[0], np.cumsum(lengths)]),
    )


def random_texts(lengths: list[int], vocab_size: int, *, pairs: bool, seed: int) -> list[list[np.ndarray]]:
    """Token ids above the special ones and segments (second half 1 with `pairs`) of each text."""
    draw = np.random.default_rng(seed)
    rows = [draw.integers(5, vocab_size, length) for length in lengths]
    return [rows, [(np.arange(length) >= length // 2).astype(np.int64) * pairs for length in lengths]]


def randomise(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Weights of normalisation and biases too, so that no tensor is left at 0 or 1 by accident."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def reference_model(model: TinyModel, folder: Path, *, with_classifier: bool) -> torch.nn.Module:
    """A model of transformers with random weights, saved to `folder`."""
    from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

    torch.manual_seed(model.seed)
    config = AutoConfig.for_model(**model.config(), num_labels=NUM_LABELS)
    kind = AutoModelForSequenceClassification if with_classifier else AutoModel
    reference = randomise(kind.from_config(config), model.seed)
    reference.save_pretrained(folder)
    return reference


def differences(
    ours: OfBatch, theirs: OfText, rows: list[np.ndarray], segments: list[np.ndarray]
) -> tuple[float, float]:
    """Largest difference (packed, one text at a time); `ours` and `theirs` give a tensor for a batch, for a text."""
    expected = [theirs(row, segment) for row, segment in zip(rows, segments, strict=True)]
    with torch.no_grad():
        packed = ours(to_device(pack_rows(rows, segments), "cpu"))
        single = [
            ours(to_device(pack_rows([row], [segment]), "cpu"))
            for row, segment in zip(rows, segments, strict=True)
        ]
    target = torch.cat(expected)
    return float((packed - target).abs().max()), float((torch.cat(single) - target).abs().max())


def compare(model: TinyModel, head: HeadName, lengths: list[int]) -> tuple[float, float]:
    """Largest difference (packed, one at a time) of logits for `cls`, of hidden states for `mean`."""
    rows, segments = random_texts(lengths, 200, pairs=model.layout == "bert", seed=model.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        reference = reference_model(model, folder, with_classifier=head == "cls")
        if head == "cls":
            state = read_weights(folder)
            classifier = load_classifier(read_config(folder), state, num_labels=NUM_LABELS, head="cls").eval()
            return differences(classifier, _theirs(reference, "logits"), rows, segments)
        encoder = load_pretrained(folder, num_labels=NUM_LABELS, head="mean").eval().encoder

    def ours(batch: PackedBatch) -> torch.Tensor:
        return encoder(batch, first_only=False)

    return differences(ours, _theirs(reference, "last_hidden_state"), rows, segments)


def compare_folder(folder: Path, lengths: list[int]) -> tuple[float, float]:
    """Largest difference (packed, one at a time) of the hidden states of a real encoder."""
    from transformers import AutoModel

    encoder = load_pretrained(folder, num_labels=2, head="mean").eval().encoder
    reference = AutoModel.from_pretrained(folder).eval()
    rows, segments = random_texts(lengths, encoder.shape.vocab_size, pairs=True, seed=3)

    def ours(batch: PackedBatch) -> torch.Tensor:
        return encoder(batch, first_only=False)

    return differences(ours, _theirs(reference, "last_hidden_state"), rows, segments)


def _theirs(reference: torch.nn.Module, output: str) -> OfText:
    def run(row: np.ndarray, segment: np.ndarray) -> torch.Tensor:
        ids, kinds = torch.tensor(row)[None].long(), torch.tensor(segment)[None]
        with torch.no_grad():
            result = getattr(reference(input_ids=ids, token_type_ids=kinds), output)
        return result[0] if output == "last_hidden_state" else result

    return run


def save_folder(folder: Path, config: dict[str, Any], state: dict[str, torch.Tensor]) -> Path:
    """Write `config.json` and `model.safetensors`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(state, folder / "model.safetensors")
    return folder


def varied_lengths(num_texts: int, longest: int, seed: int = 5) -> list[int]:
    """Lengths from 2 to `longest`, many short ones, some repeated."""
    draw = np.random.default_rng(seed).beta(1.0, 2.5, num_texts - 2)
    return [2, longest, *(2 + (draw * (longest - 2)).astype(int)).tolist()]


def main() -> int:
    """Print the table; the exit code is 1 if a difference is above the tolerance."""
    import transformers

    from manylabel.errors import EncoderError
    from manylabel.modeling.weights.locate import default_encoder

    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(2)
    print(f"{'model':38} {'head':5} {'compared':14} {'packed':>9} {'single':>9}")
    worst = 0.0
    for layout in LAYOUTS:
        for width, num_heads, num_layers in ((32, 4, 3), (48, 3, 2)):
            for head in HEADS:
                model = TinyModel(layout, num_layers=num_layers, num_heads=num_heads, width=width)
                pair = compare(model, head, varied_lengths(24, 120))
                name = f"random {layout}, {num_layers} x {width}, {num_heads} heads"
                compared = "logits" if head == "cls" else "hidden states"
                print(f"{name:38} {head:5} {compared:14} {pair[0]:9.1e} {pair[1]:9.1e}")
                worst = max(worst, *pair)
    try:
        pair = compare_folder(default_encoder(), varied_lengths(64, 256))
    except EncoderError as error:
        print(f"default encoder left out: {error}")
    else:
        print(
            f"{'default encoder, 6 x 384, 12 heads':38} {'mean':5} {'hidden states':14} {pair[0]:9.1e} {pair[1]:9.1e}"
        )
        worst = max(worst, *pair)
    print(f"largest difference {worst:.1e}, tolerance {TOLERANCE:.0e}")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
