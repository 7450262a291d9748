"""Every setting, written once: type, limit, default and one sentence.

The command line, `docs/reference/settings.md` and the JSON schema are generated from these classes.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["auto", "fp32", "bf16"]


class Settings(BaseModel):
    """Base of all sections: unknown names are errors, values cannot change after creation."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class DataSettings(Settings):
    """How to read a file; what is not given is guessed from the file and shown."""

    text_column: str | None = None
    """Column with the text."""
    pair_column: str | None = None
    """Column with a second text, for tasks on text pairs."""
    id_column: str | None = None
    """Column with an id for each row; ids appear in messages and outputs."""
    group_column: str | None = None
    """Rows with the same value here (an author, a thread) stay in one split."""
    label_columns: tuple[str, ...] | None = None
    """Columns with 1, 0 or -1 (not annotated), one a label."""
    labels_column: str | None = None
    """One column that holds all labels of a row, separated or as a list."""
    label_separator: str | None = Field(default=None, min_length=1, max_length=3)
    """What separates the labels in the labels column, for example | or a comma."""
    label_names: str | None = None
    """File with one label name a line; the labels column then holds 0-based ids or these names."""
    header: bool | None = None
    """Whether line 1 names the columns, else column_1, column_2, ...; by default as in training, else true."""
    encoding: str = "utf-8"
    """Character encoding of a CSV, TSV or JSONL file."""


class TextSettings(Settings):
    """How a text becomes tokens."""

    max_length: int = Field(default=256, ge=8, le=8192)
    """Tokens a text may have, special tokens included; the rest is cut and counted."""
    normalization: Literal["nfkc", "none"] = "nfkc"
    """Unicode form before tokenising; nfkc turns full-width and mathematical letters into plain ones."""


class SplitSettings(Settings):
    """How one file becomes training, validation and test rows."""

    validation_fraction: float = Field(default=0.15, gt=0.0, lt=0.9)
    """Share of the rows that choose the epoch and the thresholds, when no validation file is given."""
    test_fraction: float = Field(default=0.15, ge=0.0, lt=0.9)
    """Share of the rows kept for the final figures, when no test file is given."""
    near_duplicate_similarity: float = Field(default=0.8, gt=0.0, le=1.0)
    """MinHash Jaccard similarity of word shingles from which two texts count as near duplicates."""
    seed: int = Field(default=1, ge=0, lt=2**31)
    """Seed of the split; the same seed gives the same split on any machine."""


class ModelSettings(Settings):
    """The network: an encoder and a head."""

    encoder: str = "default"
    """default (a MiniLM of 22.7M parameters), a folder in transformers' layout, or a hub id."""
    head: Literal["mean", "cls"] = "mean"
    """mean pools all tokens, normalises and projects; cls is BERT's own pooler and loads in transformers."""
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Dropout of hidden states and of the head's input."""
    attention_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Dropout of attention weights; above 0 the fast attention kernels cannot be used."""


class TrainingSettings(Settings):
    """The training loop."""

    epochs: int = Field(default=4, ge=1, le=1000)
    """Passes over the training rows."""
    batch_size: int = Field(default=32, ge=1, le=65536)
    """Texts per optimizer step."""
    learning_rate: float | None = Field(default=None, gt=0.0, le=1.0)
    """Peak rate of the encoder; by default 2e-4 up to width 384, 1e-4 up to 512, 3e-5 above."""
    head_learning_rate: float | None = Field(default=None, gt=0.0, le=1.0)
    """Peak rate of the head; by default ten times the encoder's."""
    weight_decay: float = Field(default=0.01, ge=0.0, le=1.0)
    """Decoupled weight decay; biases and normalisation weights have none."""
    warmup: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the steps in which the rate rises linearly; it then falls linearly to 0."""
    clip_norm: float = Field(default=1.0, gt=0.0)
    """Largest norm of the gradient; longer ones are scaled down."""
    patience: int = Field(default=2, ge=0)
    """Stop after this many validations without a better macro average precision; 0 never stops early."""
    validations_per_epoch: int = Field(default=1, ge=1, le=100)
    """How often an epoch is interrupted to validate."""
    token_budget: int = Field(default=4096, ge=64)
    """Tokens in one forward and backward pass; a batch with more is split, with the same gradient."""
    precision: Precision = "auto"
    """bf16 where the processor has it (AMX, AVX512-BF16, GPU), else fp32."""
    seed: int = Field(default=1, ge=0, lt=2**31)
    """Seed of initialisation, order and dropout."""


class DecisionSettings(Settings):
    """How a probability becomes yes or no."""

    min_positives: int = Field(default=5, ge=1)
    """A label with fewer positive validation rows keeps the default threshold and is reported as unjudged."""
    default_threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Threshold of labels that validation cannot judge."""


class InferenceSettings(Settings):
    """Prediction."""

    precision: Precision = "fp32"
    """fp32 gives the same numbers everywhere; bf16 is faster where the processor has it."""
    token_budget: int = Field(default=8192, ge=64)
    """Tokens in one forward pass."""


class RunSettings(Settings):
    """All settings of a run, as in run.yaml."""

    data: DataSettings = DataSettings()
    text: TextSettings = TextSettings()
    split: SplitSettings = SplitSettings()
    model: ModelSettings = ModelSettings()
    training: TrainingSettings = TrainingSettings()
    decisions: DecisionSettings = DecisionSettings()
    inference: InferenceSettings = InferenceSettings()
