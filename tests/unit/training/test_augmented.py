"""Texts changed anew each epoch: the right rows, the tokens of the changed text, and exact resumption."""

import numpy as np
import pytest
import torch

from manylabel.config.schema import AugmentationSettings, TrainingSettings
from manylabel.data.augment import TextAugmenter
from manylabel.data.memory import corpus_from_memory
from manylabel.modeling.weights.hugging_face import load_pretrained
from manylabel.text.tokenizer import TextTokenizer
from manylabel.training.augmented import AugmentedTexts, with_rows_replaced
from manylabel.training.examples import LabelledTexts
from manylabel.training.keeper import NoKeeper
from manylabel.training.loop import Trainer
from manylabel.training.objectives import MultiLabelObjective
from manylabel.training.observers import SilentObserver
from manylabel.training.optimizer import Rates
from manylabel.values import Encodings

WORDS = ("refund", "delivery", "praise", "parcel", "late", "money", "thanks", "please", "hello", "team")
SETTINGS = AugmentationSettings(share=0.5, word_dropout=0.4, word_swap=0.2, translations=0.2)


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder):
    return TextTokenizer.from_folder(tiny_encoder, max_length=64)


def corpus_of(count=40, pairs=False):
    choose = np.random.default_rng(4)
    texts = [" ".join(choose.choice(WORDS, size=choose.integers(2, 30))) for _ in range(count)]
    labels = [[name for name in WORDS[:3] if name in text.split()] for text in texts]
    others = [(f"please {text}", "") for text in texts]
    return corpus_from_memory(
        texts, labels, label_names=WORDS[:3], translations=others, pairs=texts[::-1] if pairs else None
    ).corpus


def augmented(tokenizer, corpus, **changes):
    settings = SETTINGS.model_copy(update=changes)
    unchanged = LabelledTexts(tokenizer.encode(corpus.texts, corpus.pairs), corpus.targets_NL, corpus.ids)
    augmenter = TextAugmenter(settings, seed=3)
    return AugmentedTexts(corpus, unchanged, tokenizer=tokenizer, augmenter=augmenter), unchanged, augmenter


def ids_of(examples, row):
    return examples.batch(np.array([row])).ids_T.tolist()


@pytest.mark.parametrize("pairs", [False, True])
def test_an_epoch_shows_the_tokens_of_the_changed_texts_and_of_all_others_as_they_are(tokenizer, pairs):
    corpus = corpus_of(pairs=pairs)
    examples, unchanged, augmenter = augmented(tokenizer, corpus)
    shown = examples.epoch(5)
    num_changed = 0
    for row, text in enumerate(corpus.texts):
        pair = corpus.pairs[row] if pairs else None
        changed = augmenter.changed(text, pair, epoch=5, row=row, translations=corpus.translations[row])
        num_changed += changed is not None
        own, other = changed or (text, pair)
        expected = tokenizer.encode([own], [other] if pairs else None)
        assert ids_of(shown, row) == expected.ids_T.tolist()
        assert shown.batch(np.array([row])).segments_T.tolist() == expected.segments_T.tolist()
        assert shown.lengths_N[row] == expected.lengths_N[0]
    assert 10 < num_changed < 30
    assert (examples.ids, len(examples)) == (corpus.ids, len(corpus))
    everything = np.arange(len(corpus))
    assert torch.equal(shown.targets(everything), unchanged.targets(everything))


def test_epochs_differ_and_each_is_the_same_again(tokenizer):
    examples, _, _ = augmented(tokenizer, corpus_of())
    everything = np.arange(len(examples))
    ids = [examples.epoch(epoch).batch(everything).ids_T.tolist() for epoch in (0, 1, 0)]
    assert ids[0] == ids[2] != ids[1]


def test_without_a_share_every_epoch_is_the_texts_as_they_are(tokenizer):
    examples, unchanged, _ = augmented(tokenizer, corpus_of(), share=0.0)
    assert examples.epoch(0) is unchanged


def test_a_text_of_megabytes_is_changed_no_further_than_it_is_read(tokenizer):
    corpus = corpus_from_memory(["late " * 1_000_000], [["late"]]).corpus
    examples, _, _ = augmented(tokenizer, corpus, share=1.0, word_dropout=0.1)
    assert examples.epoch(0).lengths_N.tolist() == [64]


def test_encodings_of_another_corpus_are_refused(tokenizer):
    corpus = corpus_of()
    _, unchanged, augmenter = augmented(tokenizer, corpus)
    with pytest.raises(ValueError, match="40 encoded texts for a corpus of 3"):
        AugmentedTexts(corpus.select(np.arange(3)), unchanged, tokenizer=tokenizer, augmenter=augmenter)


def test_replacing_rows_by_hand():
    def encodings(*texts):
        lengths = [len(text) for text in texts]
        ids_T = np.array([token for text in texts for token in text], np.int32)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        cut = np.array([len(text) == 3 for text in texts], np.bool_)
        return Encodings(ids_T, (ids_T % 2).astype(np.uint8), offsets, cut)

    made = with_rows_replaced(encodings([1, 2], [3], [4, 5, 6]), np.array([2, 0]), encodings([7], [8, 9, 10]))
    assert made.ids_T.tolist() == [8, 9, 10, 3, 7]
    assert made.segments_T.tolist() == [0, 1, 0, 1, 1]
    assert made.offsets_N1.tolist() == [0, 3, 4, 5]
    assert made.truncated_N.tolist() == [True, False, False]


class OneCheckpoint(NoKeeper):
    def keep(self, make, *, wait):
        self.checkpoint = make()


def new_trainer(tiny_encoder, examples, should_stop=lambda: False):
    classifier = load_pretrained(tiny_encoder, num_labels=3, head="mean", dropout=0.1, seed=5)
    values = TrainingSettings(epochs=3, batch_size=8, token_budget=128, precision="fp32", patience=0, seed=2)
    trainer = Trainer(
        classifier, examples, objective=MultiLabelObjective(), settings=values, rates=Rates(1e-3, 1e-2),
        observer=SilentObserver(), should_stop=should_stop,
    )  # fmt: skip
    return trainer, classifier


def test_a_run_that_goes_on_in_a_changed_epoch_ends_with_the_same_bits(tiny_encoder, tokenizer):
    examples, unchanged, _ = augmented(tokenizer, corpus_of())
    whole, expected = new_trainer(tiny_encoder, examples)
    whole.fit(lambda: None)
    steps = iter(range(100))
    first, _ = new_trainer(
        tiny_encoder, examples, should_stop=lambda: next(steps) == 6
    )  # In the second epoch.
    keeper = OneCheckpoint()
    assert first.fit(lambda: None, keeper).ending == "interrupted"
    checkpoint = keeper.checkpoint
    assert checkpoint.step == 7
    again, _, _ = augmented(tokenizer, corpus_of())
    second, resumed = new_trainer(tiny_encoder, again)
    second.restore(checkpoint)
    second.fit(lambda: None)
    plain, other = new_trainer(tiny_encoder, unchanged)
    plain.fit(lambda: None)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    assert any(
        not torch.equal(other.state_dict()[name], tensor) for name, tensor in expected.state_dict().items()
    )
