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
    translation_columns: tuple[str, ...] | None = None
    """Columns with the text in other words, such as back-translations; they stay with their row, whatever its role."""
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
    normalization: Literal["nfkc", "fold", "none"] = "nfkc"
    """Unicode form before tokenising; nfkc turns full-width letters into plain ones, fold also undoes disguises."""


class SplitSettings(Settings):
    """How one file becomes training, validation and test rows."""

    validation_fraction: float = Field(default=0.1, gt=0.0, lt=0.9)
    """Share of the rows that choose the epoch, when no validation file is given."""
    calibration_fraction: float = Field(default=0.15, ge=0.0, lt=0.9)
    """Share of the rows that choose calibration and thresholds, when no validation or calibration file is given."""
    test_fraction: float = Field(default=0.15, ge=0.0, lt=0.9)
    """Share of the rows kept for the final figures, when no test file is given."""
    near_duplicate_similarity: float = Field(default=0.65, gt=0.0, le=1.0)
    """Jaccard similarity of counted words, in any order, from which texts count as near duplicates; 1: copies only."""
    leaks: Literal["tell", "drop"] = "tell"
    """What becomes of training rows that are copies, exact or near, of rows in a separate file: told, or left out."""
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
    """Share of the steps in which the rate rises linearly from 0; it then falls as `schedule` says."""
    schedule: Literal["linear", "cosine", "slanted_triangular"] = "linear"
    """How the rate falls after warmup: linear and cosine to 0, slanted_triangular linearly to 1/32 of the peak."""
    layer_decay: float = Field(default=1.0, gt=0.0, le=1.0)
    """Each layer learns at this multiple of the rate of the layer above it; the embeddings come last."""
    frozen_layers: int = Field(default=0, ge=0, le=200)
    """The embeddings and so many layers from below keep their weights; 0 trains all."""
    freeze_embeddings: bool = False
    """The embeddings keep their weights."""
    gradual_unfreezing: bool = False
    """The first epoch trains the head alone, and each further epoch one layer more, from above."""
    ema_decay: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Validate and save an exponential moving average of the weights with this decay a step; 0 uses the weights."""
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
    gradient_checkpointing: bool = False
    """Compute the layers again on the way back instead of keeping what they made; less memory, more time."""
    gradient_compression: Literal["none", "bf16"] = "none"
    """Number format in which several processes add up their gradients; none is fp32."""
    seed: int = Field(default=1, ge=0, lt=2**31)
    """Seed of initialisation, order and dropout."""


class LossSettings(Settings):
    """What training minimises."""

    kind: Literal["bce", "focal", "asymmetric", "distribution_balanced"] = "bce"
    """Binary cross-entropy, focal, asymmetric (ASL) or distribution-balanced loss."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=0.5)
    """Targets become this instead of 0 and 1 minus this instead of 1."""
    label_weights: Literal["none", "positive", "class_balanced"] = "none"
    """positive weights the ones of a label by zeros / ones; class_balanced weights a label by its effective number."""
    positive_weight_cap: float = Field(default=10.0, ge=1.0)
    """Largest weight of a positive, for label_weights=positive."""
    class_balanced_beta: float = Field(default=0.999, ge=0.0, lt=1.0)
    """How slowly another example of a label stops counting, for label_weights=class_balanced."""
    focal_gamma: float = Field(default=2.0, ge=0.0)
    """How strongly focal loss fades out what is already right."""
    gamma_positive: float = Field(default=0.0, ge=0.0)
    """Focusing of positives in the asymmetric loss."""
    gamma_negative: float = Field(default=4.0, ge=0.0)
    """Focusing of negatives in the asymmetric loss."""
    margin: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Negatives with a probability below this cost nothing in the asymmetric loss."""


class AugmentationSettings(Settings):
    """Changes of training texts and features, drawn anew each epoch; rows that judge are never changed."""

    share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the training texts that an epoch changes in each way below that is not 0; adversarial takes all."""
    character_noise: float = Field(default=0.0, ge=0.0, le=1.0)
    """Chance that a word of a changed text gets a typo: two letters swapped, one left out, doubled or replaced."""
    word_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Chance that a word of a changed text is left out; one always stays."""
    word_swap: float = Field(default=0.0, ge=0.0, le=1.0)
    """Chance that a word of a changed text changes places with the next one."""
    synonyms: float = Field(default=0.0, ge=0.0, le=1.0)
    """Chance that a word of a changed text becomes a synonym, from the WordNet that is installed for NLTK."""
    translations: float = Field(default=0.0, ge=0.0, le=1.0)
    """Chance that a changed text is replaced by one of its translation columns."""
    mixup: float = Field(default=0.0, ge=0.0, le=10.0)
    """Alpha of mixup: features and targets of two texts are mixed by a Beta(alpha, alpha) share; 0 mixes none."""
    adversarial: float = Field(default=0.0, ge=0.0, le=100.0)
    """Length of the step against each text's embeddings in a second pass (FGM); 0 makes no second pass."""


class PretrainingSettings(Settings):
    """What `adapt` trains the language model on."""

    mask_share: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Share of the tokens to be predicted: of these 80 % become [MASK], 10 % another token, 10 % stay."""
    whole_words: bool = False
    """Mask all pieces of a word together."""
    next_sentence: bool = True
    """Also learn whether a second segment follows the first in its document or comes from another one."""
    held_out_fraction: float = Field(default=0.05, gt=0.0, lt=0.9)
    """Share of the documents that only measure masked accuracy and perplexity."""


class TeacherSettings(Settings):
    """What `train --teacher MODEL` learns from another model's probabilities."""

    weight: float = Field(default=0.5, ge=0.0, le=1.0)
    """Share of the teacher's probability in the target of a labelled training row; the label has the rest."""
    pseudo_labels: Literal["soft", "hard"] = "soft"
    """Targets of unlabelled rows: the teacher's probabilities, or 1 and 0 where it is confident and else nothing."""
    confidence: float = Field(default=0.9, gt=0.5, lt=1.0)
    """How probable an answer of the teacher must be to become a hard pseudo-label."""


class LoraSettings(Settings):
    """Low-rank adaptation: small trained updates beside frozen linear layers, merged when the model is saved."""

    rank: int = Field(default=0, ge=0, le=1024)
    """Rank of the updates; 0 trains the weights themselves."""
    alpha: float = Field(default=16.0, gt=0.0)
    """The update is scaled by alpha / rank."""


class CheckpointSettings(Settings):
    """Checkpoints of a running training, in OUT.run beside the model; the same command goes on from the last one."""

    minutes: float = Field(default=5.0, ge=0.0)
    """Minutes between two checkpoints; 0 writes one only when the run is stopped."""
    steps: int = Field(default=0, ge=0)
    """Steps between two checkpoints; 0 goes by minutes alone."""
    keep: int = Field(default=2, ge=1, le=100)
    """How many of the newest checkpoints stay on disk."""


class DecisionSettings(Settings):
    """How a logit becomes a probability and a probability becomes yes or no."""

    calibration: Literal["auto", "none", "temperature", "platt", "beta", "isotonic"] = "auto"
    """What turns logits into probabilities, label by label; auto takes the best by cross-validated log loss."""
    calibration_min_positives: int = Field(default=20, ge=2)
    """A label with fewer positive calibration rows takes the calibrator pooled over such labels."""
    goal: str = "f1"
    """What thresholds aim at: f1, f0.5, f2, recall=R, precision=P, cost=FN:FP, alerts=N a 10,000, at=T or one (cut)."""
    min_positives: int = Field(default=5, ge=1)
    """A label with fewer positive or negative rows keeps the default threshold and is reported as unjudged."""
    default_threshold: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Threshold of labels that validation cannot judge."""


class EvaluationSettings(Settings):
    """How figures are computed."""

    resamples: int = Field(default=1000, ge=0, le=100_000)
    """Bootstrap resamples for the intervals; 0 gives figures without intervals."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """Confidence level of the intervals."""
    seed: int = Field(default=1, ge=0, lt=2**31)
    """Seed of the resamples and of the perturbed texts."""
    cost_false_negative: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    """What a missed label costs, for the expected cost per text and label."""
    cost_false_positive: float = Field(default=1.0, ge=0.0, allow_inf_nan=False)
    """What a false alarm costs, in the same unit."""


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
    loss: LossSettings = LossSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    pretraining: PretrainingSettings = PretrainingSettings()
    teacher: TeacherSettings = TeacherSettings()
    lora: LoraSettings = LoraSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    decisions: DecisionSettings = DecisionSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    inference: InferenceSettings = InferenceSettings()
