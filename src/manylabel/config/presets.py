"""Named sets of settings, from papers; taken by `load_settings` and shown by `manylabel settings --preset`.

A preset stands above the defaults and below everything a user gives: defaults < preset < --config < --set and flags.
It names no encoder: only a user may name one that has to be downloaded.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from manylabel.errors import ConfigError, Finding

MAX_NAME_SHOWN = 60

Value = str | int | float | bool


@dataclass(frozen=True)
class Choice:
    """One setting of a preset: its dotted path, its value, and where that comes from."""

    path: str
    value: Value
    source: str


@dataclass(frozen=True)
class Preset:
    """A recipe by name; `left_out` are choices of its source that are not taken over, each one sentence."""

    name: str
    summary: str
    choices: tuple[Choice, ...]
    left_out: tuple[str, ...]

    @property
    def values(self) -> Mapping[str, Value]:
        """The value of each dotted path."""
        return {choice.path: choice.value for choice in self.choices}


ARTICLE = Preset(
    "article",
    "The 2019 article that fine-tuned BERT-Base on toxic comments: one sigmoid a label, plain fine-tuning.",
    (
        Choice("text.max_length", 512, "as in the article; all that BERT has positions for"),
        Choice("model.head", "cls", "BERT's pooler and a linear layer, as BertForSequenceClassification"),
        Choice("model.dropout", 0.1, "BERT's own, also before the linear layer"),
        Choice("loss.kind", "bce", "binary cross-entropy with logits, one decision a label"),
        Choice("training.epochs", 4, "as in the article"),
        Choice("training.batch_size", 32, "as in the article"),
        Choice("training.learning_rate", 3e-5, "as in the article"),
        Choice("training.head_learning_rate", 3e-5, "the article has one rate for everything"),
        Choice("training.warmup", 0.1, "a tenth of the steps"),
        Choice("training.schedule", "linear", "down to 0, as BertAdam's warmup_linear"),
        Choice("training.weight_decay", 0.01, "none for biases and normalisation, as in the article"),
        Choice("training.patience", 0, "all epochs run; the article never stops early"),
        Choice("training.precision", "fp32", "the article could not train in FP16; auto is faster"),
    ),
    (
        "The encoder is yours to name: --encoder bert-base-uncased for the article's.",
        "Attention dropout 0.1: ours is 0, which the fast kernels need; --set model.attention_dropout=0.1 has it.",
        "Padding to 512 tokens: texts are packed without padding, which gives the same logits.",
        "The last epoch's weights: the best epoch on validation rows is saved.",
        "BertAdam without bias correction, clipping each weight's gradient by itself: ours is AdamW, and one norm.",
        "A rate scaled twice, by the loop and by BertAdam, so that it falls as the square of the line: ours once.",
        "No dropout after the first epoch, whose validation left it switched off: ours has it in all epochs.",
        "DataParallel: several processes, --processes N.",
    ),
)

ULMFIT = Preset(
    "ulmfit",
    "The fine-tuning of ULMFiT (Howard & Ruder 2018): discriminative rates, slanted triangle, gradual unfreezing.",
    (
        Choice("training.layer_decay", 1 / 2.6, "section 3.2: each layer at the rate of the one above / 2.6"),
        Choice("training.schedule", "slanted_triangular", "section 3.2, with a ratio of 32"),
        Choice("training.warmup", 0.1, "section 3.2: cut_frac"),
        Choice("training.gradual_unfreezing", True, "section 3.3: the head first, one layer more each epoch"),
        Choice("training.epochs", 8, "until all of the default encoder learns: layers + 2"),
        Choice("training.patience", 0, "stopping early would leave layers asleep"),
    ),
    (
        "The language model on your own texts (section 3.2) is a step before this one.",
        "50 epochs for the classifier: ours are layers + 2, so --set training.epochs=14 for BERT-Base.",
        "Rate 0.01 and Adam with beta1 0.7, which were for an LSTM: the rate goes by width, beta1 is 0.9.",
        "Concatenated pooling of last, maximum and mean state: the head is model.head.",
        "A rise from 1/32 of the peak: ours begins near 0.",
    ),
)

PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in (ARTICLE, ULMFIT)}


def find_preset(name: str) -> Preset:
    """The preset of this name; raises ConfigError with the names there are."""
    if name in PRESETS:
        return PRESETS[name]
    shown = name if len(name) <= MAX_NAME_SHOWN else f"{name[:MAX_NAME_SHOWN]}..."
    close = difflib.get_close_matches(name.lower(), PRESETS, n=1, cutoff=0.5)
    step = f"did you mean {close[0]}" if close else "manylabel settings --preset NAME shows what one sets"
    raise ConfigError(Finding("C207", f"--preset {shown}", "there is no such preset", _names(), step))


def one_preset(names: Iterable[str]) -> str | None:
    """The one name given, None without any; raises ConfigError where two presets contradict each other."""
    different = [*dict.fromkeys(names)]
    if len(different) > 1:
        presets = [find_preset(name).name for name in different]
        step = "give one, and single settings of the other with --set"
        found = f"{' and '.join(presets)} contradict each other"
        raise ConfigError(Finding("C208", "--preset", found, f"one of {_names()}", step))
    return different[0] if different else None


def nothing_left(preset: Preset, differing: Iterable[str]) -> Finding:
    """The finding where everything a preset sets was given otherwise, so that nothing of it would be in force."""
    paths = [*differing]
    found = f"all it sets is given by the file, --set or a flag, and {', '.join(paths)} differently"
    return Finding(
        "C209",
        f"--preset {preset.name}",
        found,
        f"a preset ({_names()}) of which something is left",
        "leave out --preset, or what contradicts it (the settings.yaml of a saved model names every setting)",
    )


def _names() -> str:
    return ", ".join(sorted(PRESETS))
