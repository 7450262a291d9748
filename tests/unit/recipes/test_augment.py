"""From settings to examples and a pass, and every refusal."""

import csv

import numpy as np
import pytest

from manylabel.config.schema import AugmentationSettings, LossSettings, RunSettings
from manylabel.data.memory import corpus_from_memory
from manylabel.digest import sha256_of
from manylabel.errors import ConfigError
from manylabel.recipes.augment import check_augmentation, described, examples_for, pass_for
from manylabel.text.tokenizer import TextTokenizer
from manylabel.training.adversarial import FgmPass
from manylabel.training.augmented import AugmentedTexts
from manylabel.training.examples import LabelledTexts
from manylabel.training.mixup import MixupPass
from manylabel.training.passes import PlainPass

TEXTS = ["please refund my money", "late parcel", "thanks", "hello team"]
LABELS = [["refund"], ["late"], [], []]


def settings_of(**augmentation):
    return RunSettings(augmentation=AugmentationSettings(**augmentation))


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder):
    return TextTokenizer.from_folder(tiny_encoder, max_length=64)


def examples_of(tokenizer, settings, translations=None, **options):
    corpus = corpus_from_memory(TEXTS, LABELS, translations=translations).corpus
    return examples_for(tokenizer.encode(corpus.texts), corpus, tokenizer, settings, **options), corpus


def test_by_default_nothing_is_changed(tokenizer):
    examples, corpus = examples_of(tokenizer, RunSettings())
    assert isinstance(examples, LabelledTexts)
    assert examples.targets_NL is corpus.targets_NL
    assert isinstance(pass_for(RunSettings()), PlainPass)
    assert described(RunSettings()) is None


@pytest.mark.parametrize("way", ["character_noise", "word_dropout", "word_swap", "translations"])
def test_each_way_alone_changes_some_epoch(tokenizer, way):
    translations = [(text[::-1],) for text in TEXTS]
    examples, _ = examples_of(tokenizer, settings_of(**{way: 0.9, "share": 1.0}), translations)
    assert isinstance(examples, AugmentedTexts)
    everything = np.arange(4)
    plain = tokenizer.encode(TEXTS).ids_T.tolist()
    assert any(examples.epoch(epoch).batch(everything).ids_T.tolist() != plain for epoch in range(3))


def test_the_seed_of_training_decides(tokenizer):
    def shown(seed):
        settings = settings_of(word_dropout=0.5, share=1.0)
        settings = settings.model_copy(
            update={"training": settings.training.model_copy(update={"seed": seed})}
        )
        return examples_of(tokenizer, settings)[0].epoch(0).batch(np.arange(4)).ids_T.tolist()

    assert shown(1) == shown(1)
    assert len({tuple(shown(seed)) for seed in range(6)}) > 1


def test_soft_targets_take_the_place_of_the_corpus(tokenizer):
    soft_NL = np.full((4, 2), 0.3, np.float32)
    for settings in (RunSettings(), settings_of(word_dropout=0.5)):
        examples, _ = examples_of(tokenizer, settings, targets_NL=soft_NL)
        assert examples.epoch(0).targets(np.arange(4)).tolist() == soft_NL.tolist()


def test_passes():
    assert isinstance(pass_for(settings_of(mixup=0.4)), MixupPass)
    assert isinstance(pass_for(settings_of(adversarial=1.0)), FgmPass)
    assert isinstance(pass_for(settings_of(word_dropout=0.1)), PlainPass)
    assert (
        described(settings_of(word_dropout=0.1, mixup=0.4))
        == "word dropout 0.1, mixup 0.4 on 50% of the texts"
    )
    assert described(settings_of(adversarial=1)) == "adversarial 1"


@pytest.mark.parametrize(
    ("augmentation", "code", "mention"),
    [
        ({"share": 0.0, "word_swap": 0.1, "mixup": 0.2}, "D195", "word_swap, mixup would change nothing"),
        ({"mixup": 0.2, "adversarial": 1.0}, "D196", "one of the two"),
    ],
)
def test_combinations_without_sense_are_refused_before_any_row_is_read(augmentation, code, mention):
    with pytest.raises(ConfigError, match=mention) as error:
        check_augmentation(settings_of(**augmentation))
    assert [finding.code for finding in error.value.findings] == [code]


def test_translations_without_columns_are_refused(tokenizer):
    settings = settings_of(translations=0.3)
    check_augmentation(settings)
    with pytest.raises(ConfigError, match=r"D194 .*has no translation columns.*--translation-columns"):
        examples_of(tokenizer, settings)


def test_synonyms_without_wordnet_are_refused(tokenizer, monkeypatch):
    nltk = pytest.importorskip("nltk")
    monkeypatch.setattr(nltk.data, "path", [])
    settings = settings_of(synonyms=0.3)
    with pytest.raises(ConfigError, match="D198"):
        check_augmentation(settings)
    with pytest.raises(ConfigError, match="D198"):
        examples_of(tokenizer, settings)


def test_mixup_goes_with_every_loss():
    for kind in ("bce", "focal", "asymmetric", "distribution_balanced"):
        check_augmentation(
            RunSettings(loss=LossSettings(kind=kind), augmentation=AugmentationSettings(mixup=0.2))
        )


@pytest.fixture(scope="module")
def translated_mails(tiny_mails, tmp_path_factory):
    """The tiny e-mails with each text backwards as its translation."""
    with tiny_mails.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    path = tmp_path_factory.mktemp("translated") / "mails.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "back"])
        writer.writeheader()
        writer.writerows(row | {"back": " ".join(row["text"].split()[::-1])} for row in rows)
    return path


def test_train_uses_every_way_and_equal_runs_give_equal_bytes(
    translated_mails, tiny_encoder, train_tiny, tmp_path
):
    def digest(name, **settings):
        out = train_tiny(
            translated_mails, tiny_encoder, tmp_path / name, training__epochs=1,
            data__translation_columns=["back"], evaluation__resamples=0, **settings,
        )  # fmt: skip
        return sha256_of(out / "model.safetensors")

    made = {
        "none": digest("none"),
        "words": digest("words", augmentation__word_dropout=0.3),
        "translations": digest("translations", augmentation__translations=1.0),
        "mixup": digest("mixup", augmentation__mixup=0.4),
        "adversarial": digest("adversarial", augmentation__adversarial=1.0),
    }
    assert len(set(made.values())) == len(made)
    assert digest("again", augmentation__mixup=0.4, training__seed=1) == made["mixup"]
