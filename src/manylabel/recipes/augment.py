"""From the settings of augmentation to examples and a pass; called by recipes/train.py and recipes/folds.py."""

from __future__ import annotations

from manylabel.config.schema import AugmentationSettings, RunSettings
from manylabel.data.augment import TextAugmenter
from manylabel.data.synonyms import wordnet_synonyms
from manylabel.errors import ConfigError, Finding
from manylabel.text.tokenizer import TextTokenizer
from manylabel.training.adversarial import FgmPass
from manylabel.training.augmented import AugmentedTexts
from manylabel.training.examples import Examples, LabelledTexts
from manylabel.training.mixup import MixupPass
from manylabel.training.passes import Pass, PlainPass
from manylabel.values import Corpus, Encodings, FloatArray, IntArray

WAYS_OF_TEXTS = ("character_noise", "word_dropout", "word_swap", "synonyms", "translations")


def check_augmentation(settings: RunSettings, corpus: Corpus | None = None) -> None:
    """Refuse what makes no sense before anything is trained.

    `corpus` are the training rows, where they are known already. Raises ConfigError: a share of 0 beside ways to change
    texts (D195), mixup together with adversarial steps (D196), translations where there are none (D194), synonyms
    without WordNet (D198).
    """
    _check(settings, corpus)
    if settings.augmentation.synonyms:
        wordnet_synonyms()


def examples_for(
    encodings: Encodings,
    corpus: Corpus,
    tokenizer: TextTokenizer,
    settings: RunSettings,
    *,
    targets_NL: IntArray | FloatArray | None = None,
) -> Examples:
    """What the loop learns from: the rows of `corpus` as they are, or changed anew each epoch.

    `encodings` are its texts by `tokenizer`. `targets_NL` takes the place of the corpus's targets, for soft ones.
    Raises ConfigError as `check_augmentation`.
    """
    _check(settings, corpus)
    targets_NL = corpus.targets_NL if targets_NL is None else targets_NL
    unchanged = LabelledTexts(encodings, targets_NL, corpus.ids)
    wanted = settings.augmentation
    if not _changes_texts(wanted):
        return unchanged
    synonyms = wordnet_synonyms() if wanted.synonyms else None
    augmenter = TextAugmenter(wanted, seed=settings.training.seed, synonyms=synonyms)
    return AugmentedTexts(corpus, unchanged, tokenizer=tokenizer, augmenter=augmenter)


def pass_for(settings: RunSettings) -> Pass:
    """How a micro-batch becomes a gradient: plain, mixed, or twice with a step against the texts."""
    wanted = settings.augmentation
    if wanted.mixup:
        return MixupPass(wanted.mixup, share=wanted.share)
    return FgmPass(wanted.adversarial) if wanted.adversarial else PlainPass()


def described(settings: RunSettings) -> str | None:
    """The augmentation in a few words for the progress lines; None where there is none."""
    wanted = settings.augmentation
    names = [name for name in (*WAYS_OF_TEXTS, "mixup", "adversarial") if getattr(wanted, name)]
    if not names:
        return None
    values = ", ".join(f"{name.replace('_', ' ')} {getattr(wanted, name):g}" for name in names)
    only_steps = names == ["adversarial"]
    return values if only_steps else f"{values} on {wanted.share:.0%} of the texts"


def _check(settings: RunSettings, corpus: Corpus | None) -> None:
    """All refusals but that of a missing WordNet, which takes a second to read."""
    wanted = settings.augmentation
    findings = []
    ways = [name for name in (*WAYS_OF_TEXTS, "mixup") if getattr(wanted, name)]
    if ways and not wanted.share:
        findings.append(
            Finding("D195", "setting augmentation.share", f"0, so that {', '.join(ways)} would change nothing",
                    "above 0 up to 1", "give the share of the texts to change, or leave the others out")
        )  # fmt: skip
    if wanted.mixup and wanted.adversarial:
        findings.append(
            Finding("D196", "settings augmentation.mixup and augmentation.adversarial", "both are above 0",
                    "one of the two", "leave one of them out")
        )  # fmt: skip
    if wanted.translations and corpus is not None and corpus.translations is None:
        findings.append(
            Finding("D194", "setting augmentation.translations", f"{corpus.source} has no translation columns",
                    "0 without them", "name the columns with --translation-columns, or leave the setting out")
        )  # fmt: skip
    if findings:
        raise ConfigError(*findings)


def _changes_texts(wanted: AugmentationSettings) -> bool:
    return any(getattr(wanted, name) for name in WAYS_OF_TEXTS)
