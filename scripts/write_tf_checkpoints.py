"""Write checkpoints with real TensorFlow, to try `manylabel import-tf` on; needs tensorflow-cpu and no manylabel.

    python -m venv tf && tf/bin/pip install tensorflow-cpu
    tf/bin/python scripts/write_tf_checkpoints.py VOCABULARIES OUT

VOCABULARIES is a folder with the vocab.txt of four models of Google under the names bert-base-uncased-vocab.txt,
-cased-, -multilingual-cased- and bert-base-chinese-vocab.txt. OUT gets a folder for each of the six first releases,
with their number of layers and heads and their names of variables, but narrow; and the smallest miniature at its true
size.
Beside each lies expected.npz: hidden states and predictions, computed here with TensorFlow from the formulas of Devlin
et al. 2019, so that a wrong name or a kernel that was not transposed shows. OUT/refused has checkpoints that TensorFlow
writes and the import must refuse. `--full-size` writes a BERT-Base of true size instead, with random numbers.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

Weights = dict[str, np.ndarray]
GAIN = 1.13
"""Standard deviation of random weights times 1 / sqrt(width): large enough that every tensor matters."""
NUM_ROWS, NUM_TOKENS = 4, 20
PREFIX = "bert_model.ckpt"


@dataclass(frozen=True)
class Layout:
    """One release; `shards` files of data, `with_slots` for the optimizer's variables beside the weights."""

    name: str
    vocabulary: str
    num_layers: int
    width: int
    num_heads: int
    shards: int = 1
    with_slots: bool = False
    max_positions: int = 512


SIX = (
    Layout("uncased_L-12_H-768_A-12", "bert-base-uncased", 12, 48, 12, with_slots=True),
    Layout("uncased_L-24_H-1024_A-16", "bert-base-uncased", 24, 64, 16),
    Layout("cased_L-12_H-768_A-12", "bert-base-cased", 12, 48, 12),
    Layout("cased_L-24_H-1024_A-16", "bert-base-cased", 24, 64, 16, shards=3, with_slots=True),
    Layout("multi_cased_L-12_H-768_A-12", "bert-base-multilingual-cased", 12, 48, 12, shards=2),
    Layout("chinese_L-12_H-768_A-12", "bert-base-chinese", 12, 48, 12),
)
MINIATURE = Layout("uncased_L-2_H-128_A-2", "bert-base-uncased", 2, 128, 2)
FULL_SIZE = Layout("full_size_uncased_L-12_H-768_A-12", "bert-base-uncased", 12, 768, 12)


def variables(layout: Layout, num_pieces: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes as in google-research/bert."""
    width, inner = layout.width, 4 * layout.width
    shapes: dict[str, tuple[int, ...]] = {
        "bert/embeddings/word_embeddings": (num_pieces, width),
        "bert/embeddings/token_type_embeddings": (2, width),
        "bert/embeddings/position_embeddings": (layout.max_positions, width),
        **norm("bert/embeddings/LayerNorm", width),
    }
    for index in range(layout.num_layers):
        layer = f"bert/encoder/layer_{index}"
        for part in ("query", "key", "value"):
            shapes |= dense(f"{layer}/attention/self/{part}", width, width)
        shapes |= dense(f"{layer}/attention/output/dense", width, width)
        shapes |= norm(f"{layer}/attention/output/LayerNorm", width)
        shapes |= dense(f"{layer}/intermediate/dense", width, inner)
        shapes |= dense(f"{layer}/output/dense", inner, width)
        shapes |= norm(f"{layer}/output/LayerNorm", width)
    shapes |= dense("bert/pooler/dense", width, width)
    shapes |= dense("cls/predictions/transform/dense", width, width)
    shapes |= norm("cls/predictions/transform/LayerNorm", width)
    shapes["cls/predictions/output_bias"] = (num_pieces,)
    shapes["cls/seq_relationship/output_weights"] = (2, width)
    shapes["cls/seq_relationship/output_bias"] = (2,)
    return shapes


def dense(name: str, num_in: int, num_out: int) -> dict[str, tuple[int, ...]]:
    """A dense layer's variables."""
    return {f"{name}/kernel": (num_in, num_out), f"{name}/bias": (num_out,)}


def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    """A normalisation's variables."""
    return {f"{name}/gamma": (width,), f"{name}/beta": (width,)}


def random_weights(shapes: dict[str, tuple[int, ...]], width: int, seed: int = 5) -> Weights:
    """Normal numbers; gains of normalisations around 1."""
    draw = np.random.default_rng(seed)
    return {
        name: (
            draw.standard_normal(shape, np.float32)
            * np.float32(0.2 if len(shape) == 1 else GAIN / width**0.5)
            + np.float32(name.endswith("gamma"))
        )
        for name, shape in shapes.items()
    }


def save(prefix: Path, weights: dict[str, tf.Tensor | np.ndarray], shards: int = 1) -> None:
    """A checkpoint of version 2, by TensorFlow's own kernels, as its Saver calls them."""
    names = sorted(weights)
    if shards == 1:
        save_part(prefix, names, weights)
        return
    parts = [prefix.with_name(f"{prefix.name}_part{index}") for index in range(shards)]
    for part, some in zip(parts, np.array_split(np.array(names), shards), strict=True):
        save_part(part, some.tolist(), weights)
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=list(map(str, parts)), destination_prefix=str(prefix), delete_old_dirs=False
    )


def save_part(prefix: Path, names: list[str], weights: dict[str, tf.Tensor | np.ndarray]) -> None:
    """One shard."""
    tensors = [tf.convert_to_tensor(weights[name]) for name in names]
    tf.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=tensors
    )


def with_slots(weights: Weights) -> Weights:
    """The weights, the two moments of each, and the counter of steps."""
    slots = {
        f"{name}/{slot}": 0.1 * array for name, array in weights.items() for slot in ("adam_m", "adam_v")
    }
    return {**weights, **slots, "global_step": np.array(1_000_000, np.int64)}


class Bert:
    """The forward pass of the paper in TensorFlow, without dropout and without padding."""

    def __init__(self, weights: Weights, layout: Layout) -> None:
        """Take the variables by their TensorFlow names."""
        self.weights, self.layout = weights, layout

    def dense(self, name: str, states: tf.Tensor) -> tf.Tensor:
        """Kernels multiply from the right."""
        return tf.matmul(states, self.weights[f"{name}/kernel"]) + self.weights[f"{name}/bias"]

    def norm(self, name: str, states: tf.Tensor) -> tf.Tensor:
        """Layer normalisation with epsilon 1e-12, as tf.contrib.layers.layer_norm."""
        mean, variance = tf.nn.moments(states, [-1], keepdims=True)
        scaled = (states - mean) / tf.sqrt(variance + 1e-12)
        return scaled * self.weights[f"{name}/gamma"] + self.weights[f"{name}/beta"]

    def attention(self, layer: str, states: tf.Tensor) -> tf.Tensor:
        """Scaled dot products of all heads; states are [rows, tokens, width]."""
        rows, tokens, width = states.shape
        heads = self.layout.num_heads

        def split(part: str) -> tf.Tensor:
            whole = self.dense(f"{layer}/attention/self/{part}", states)
            return tf.transpose(tf.reshape(whole, [rows, tokens, heads, width // heads]), [0, 2, 1, 3])

        scores = tf.matmul(split("query"), split("key"), transpose_b=True) / (width // heads) ** 0.5
        mixed = tf.matmul(tf.nn.softmax(scores), split("value"))
        return tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [rows, tokens, width])

    def hidden(self, ids: np.ndarray, segments: np.ndarray) -> tf.Tensor:
        """The last hidden states."""
        table = "bert/embeddings"
        states = tf.gather(self.weights[f"{table}/word_embeddings"], ids)
        states += tf.gather(self.weights[f"{table}/token_type_embeddings"], segments)
        states += self.weights[f"{table}/position_embeddings"][: ids.shape[1]]
        states = self.norm(f"{table}/LayerNorm", states)
        for index in range(self.layout.num_layers):
            layer = f"bert/encoder/layer_{index}"
            mixed = self.dense(f"{layer}/attention/output/dense", self.attention(layer, states))
            states = self.norm(f"{layer}/attention/output/LayerNorm", mixed + states)
            inner = gelu(self.dense(f"{layer}/intermediate/dense", states))
            states = self.norm(
                f"{layer}/output/LayerNorm", self.dense(f"{layer}/output/dense", inner) + states
            )
        return states

    def masked_logits(self, states: tf.Tensor) -> tf.Tensor:
        """Scores of every word piece at every token; the product with the embedding table."""
        head = "cls/predictions"
        states = self.norm(f"{head}/transform/LayerNorm", gelu(self.dense(f"{head}/transform/dense", states)))
        table = self.weights["bert/embeddings/word_embeddings"]
        return tf.matmul(states, table[None], transpose_b=True) + self.weights[f"{head}/output_bias"]

    def pooled(self, states: tf.Tensor) -> tf.Tensor:
        """The first token's state through the pooler."""
        return tf.tanh(self.dense("bert/pooler/dense", states[:, 0]))

    def next_logits(self, pooled: tf.Tensor) -> tf.Tensor:
        """Scores of "is the next sentence" and "is not"."""
        head = "cls/seq_relationship"
        weights = self.weights[f"{head}/output_weights"]
        return tf.matmul(pooled, weights, transpose_b=True) + self.weights[f"{head}/output_bias"]


def gelu(states: tf.Tensor) -> tf.Tensor:
    """With the error function, as the paper's first code."""
    return states * 0.5 * (1.0 + tf.math.erf(states / 2.0**0.5))


def expected(weights: Weights, layout: Layout, num_pieces: int) -> dict[str, np.ndarray]:
    """Inputs and what they give."""
    draw = np.random.default_rng(9)
    ids = draw.integers(0, num_pieces, (NUM_ROWS, NUM_TOKENS))
    segments = np.broadcast_to(np.arange(NUM_TOKENS) >= NUM_TOKENS // 2, ids.shape).astype(np.int64)
    bert = Bert(weights, layout)
    hidden = bert.hidden(ids, segments)
    pooled = bert.pooled(hidden)
    return {
        "ids": ids,
        "segments": segments,
        "hidden": hidden.numpy(),
        "pooled": pooled.numpy(),
        "masked_logits": bert.masked_logits(hidden[:1, :4]).numpy(),
        "next_logits": bert.next_logits(pooled).numpy(),
    }


def write(layout: Layout, vocabularies: Path, out: Path) -> tuple[Path, Weights]:
    """One release: checkpoint, bert_config.json, vocab.txt."""
    folder = out / layout.name
    folder.mkdir(parents=True)
    shutil.copyfile(vocabularies / f"{layout.vocabulary}-vocab.txt", folder / "vocab.txt")
    num_pieces = (folder / "vocab.txt").read_bytes().count(b"\n")
    weights = random_weights(variables(layout, num_pieces), layout.width)
    save(folder / PREFIX, with_slots(weights) if layout.with_slots else weights, layout.shards)
    config = {
        "attention_probs_dropout_prob": 0.1,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1,
        "hidden_size": layout.width,
        "initializer_range": 0.02,
        "intermediate_size": 4 * layout.width,
        "max_position_embeddings": layout.max_positions,
        "num_attention_heads": layout.num_heads,
        "num_hidden_layers": layout.num_layers,
        "type_vocab_size": 2,
        "vocab_size": num_pieces,
    }
    (folder / "bert_config.json").write_text(json.dumps(config, indent=2))
    print(
        f"{layout.name}: {len(weights)} weights, {layout.shards} shards, slots: {layout.with_slots}",
        flush=True,
    )
    return folder, weights


def write_refused(miniature: Path, weights: Weights, out: Path) -> None:
    """Checkpoints that TensorFlow writes and that hold no complete BERT."""
    last = "bert/encoder/layer_1/output/dense/kernel"
    not_a_number = weights[last].copy()
    not_a_number[3, 4] = np.nan
    changed = {
        "missing_tensor": {name: array for name, array in weights.items() if name != last},
        "not_a_number": {**weights, last: not_a_number},
        "whole_numbers": {**weights, last: np.ones(weights[last].shape, np.int32)},
        "half_a_head": {
            name: array for name, array in weights.items() if name != "cls/predictions/output_bias"
        },
    }
    for name, tensors in changed.items():
        save(refused_folder(miniature, out / name) / PREFIX, tensors)
    folder = refused_folder(miniature, out / "object_based")
    tf.train.Checkpoint(weights=[tf.Variable(array) for array in weights.values()]).write(
        str(folder / PREFIX)
    )
    folder = refused_folder(miniature, out / "slices")
    names = sorted(weights)
    height, width = weights[last].shape
    slices = [f"{height} {width} 0,{height // 2}:0,{width}" if name == last else "" for name in names]
    tensors = [weights[name][: height // 2] if name == last else weights[name] for name in names]
    tf.raw_ops.SaveV2(
        prefix=str(folder / PREFIX), tensor_names=names, shape_and_slices=slices, tensors=tensors
    )


def refused_folder(miniature: Path, folder: Path) -> Path:
    """A new folder with the miniature's configuration and vocabulary."""
    folder.mkdir(parents=True)
    for name in ("bert_config.json", "vocab.txt"):
        shutil.copyfile(miniature / name, folder / name)
    return folder


def main() -> None:
    """Write everything, or the one of full size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vocabularies", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--full-size", action="store_true")
    given = parser.parse_args()
    if given.full_size:
        write(FULL_SIZE, given.vocabularies, given.out)
        return
    for layout in (*SIX, MINIATURE):
        folder, weights = write(layout, given.vocabularies, given.out)
        num_pieces = len(weights["cls/predictions/output_bias"])
        np.savez(folder / "expected.npz", **expected(weights, layout, num_pieces))
    write_refused(folder, weights, given.out / "refused")


if __name__ == "__main__":
    main()
