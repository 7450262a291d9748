"""The loop with a language model: the same promises as for a classifier."""

import numpy as np
import pytest
import torch

from manylabel.config.schema import PretrainingSettings, TrainingSettings
from manylabel.modeling.weights.pretraining_names import load_pretraining
from manylabel.text.masking import WordPieces
from manylabel.text.segments import Sentences
from manylabel.text.tokenizer import TextTokenizer
from manylabel.training.keeper import NoKeeper
from manylabel.training.loop import Trainer
from manylabel.training.observers import SilentObserver
from manylabel.training.optimizer import Rates
from manylabel.training.pretraining import PretrainingObjective, PretrainingPass
from manylabel.training.pretraining_examples import PretrainingExamples

WORDS = ("refund", "money", "late", "parcel", "thanks", "great", "please", "hello", "order", "the")


def examples_of(folder, *, seed=1, max_length=32, **settings):
    """60 documents of one to five sentences, each of words that follow one another in the list."""
    choose = np.random.default_rng(0)
    documents = []
    for _ in range(60):
        begins = choose.integers(0, 10, size=choose.integers(1, 6))
        documents.append(
            [" ".join(WORDS[(b + i) % 10] for i in range(choose.integers(3, 9))) for b in begins]
        )
    tokenizer = TextTokenizer.from_folder(folder, max_length=64)
    encodings = tokenizer.encode([sentence for document in documents for sentence in document])
    sentences = Sentences.of(encodings, [len(document) for document in documents], longest=max_length - 3)
    return PretrainingExamples(
        sentences,
        pieces=WordPieces.of(tokenizer, folder),
        settings=PretrainingSettings(**settings),
        max_length=max_length,
        seed=seed,
    )


class Recorder(SilentObserver):
    def __init__(self):
        self.losses = []

    def step(self, step):
        self.losses.append(step.loss)


class Kept(NoKeeper):
    def __init__(self):
        self.checkpoints = []

    def is_due(self, step):
        return True

    def keep(self, make, *, wait):
        self.checkpoints.append(make())


def train(folder, *, examples=None, dropout=0.0, keeper=None, checkpoint=None, **settings):
    examples = examples or examples_of(folder)
    model = load_pretraining(folder, dropout=dropout, learns_next=examples._settings.next_sentence).model
    recorder = Recorder()
    values = {"epochs": 2, "batch_size": 16, "precision": "fp32", **settings}
    trainer = Trainer(
        model,
        examples,
        objective=PretrainingObjective(),
        settings=TrainingSettings(**values),
        rates=Rates(1e-3, 1e-2),
        observer=recorder,
        should_stop=lambda: False,
    )
    if checkpoint is not None:
        trainer.restore(checkpoint)
    trainer.rehearse(PretrainingPass())
    # A score that goes up and down with the weights, so that the best is not always the last.
    score = lambda: float(torch.sin(1e3 * model.head.dense.weight.detach().sum()))  # noqa: E731
    outcome = trainer.fit(score, keeper, PretrainingPass())
    return model, recorder.losses, outcome


def test_a_row_is_the_same_in_every_batch_of_its_epoch_and_another_in_the_next(tiny_encoder):
    examples = examples_of(tiny_encoder)
    epoch = examples.epoch(3)
    whole, alone = epoch.batch(np.arange(20)), examples_of(tiny_encoder).epoch(3).batch(np.array([7]))
    place = slice(*whole.starts_B1[[7, 8]])
    assert np.array_equal(whole.ids_T[place], alone.ids_T)
    targets, single = epoch.targets(np.arange(20)), epoch.targets(np.array([7]))
    inside = (targets.places_M >= place.start) & (targets.places_M < place.stop)
    assert torch.equal(targets.places_M[inside] - place.start, single.places_M)
    assert torch.equal(targets.words_M[inside], single.words_M)
    differing = [
        not np.array_equal(examples.epoch(4).batch(np.array([i])).ids_T, epoch.batch(np.array([i])).ids_T)
        for i in range(20)
    ]
    assert sum(differing) > 15


def test_the_words_that_are_asked_for_stand_where_they_were(tiny_encoder, tiny_vocabulary):
    examples = examples_of(tiny_encoder)
    epoch = examples.epoch(0)
    rows = np.arange(len(examples))
    batch, targets = epoch.batch(rows), epoch.targets(rows)
    assert np.array_equal(np.diff(batch.starts_B1), epoch.lengths_N)
    assert batch.positions_T.tolist() == [p for n in epoch.lengths_N for p in range(n)]
    restored = batch.ids_T.copy()
    restored[targets.places_M.numpy()] = targets.words_M.numpy()
    names = [tiny_vocabulary[number] for number in restored]
    for row, (start, stop) in enumerate(zip(batch.starts_B1[:-1], batch.starts_B1[1:], strict=True)):
        text, segments = names[start:stop], batch.segments_T[start:stop]
        is_pair = int(targets.next_B[row]) >= 0
        assert text.count("[SEP]") == 1 + is_pair
        assert (text[0], text[-1]) == ("[CLS]", "[SEP]")
        assert set(text[1:-1]) - {"[SEP]"} <= set(WORDS)
        # Segment 0 ends with the first [SEP].
        assert segments.tolist() == [int(place > text.index("[SEP]")) for place in range(len(text))]


def test_without_next_sentence_every_example_is_one_segment(tiny_encoder):
    epoch = examples_of(tiny_encoder, next_sentence=False).epoch(0)
    assert epoch.num_pairs == 0
    assert (epoch.targets(np.arange(5)).next_B == -1).all()
    assert (epoch.batch(np.arange(5)).segments_T == 0).all()
    assert epoch.lengths_N.max() <= 32


def test_micro_batches_give_the_gradient_of_the_whole_batch(tiny_encoder):
    whole, whole_losses, _ = train(tiny_encoder, token_budget=100_000)
    parts, part_losses, _ = train(tiny_encoder, token_budget=64)
    assert part_losses == pytest.approx(whole_losses, abs=1e-5)
    for name, tensor in whole.state_dict().items():
        difference = (parts.state_dict()[name] - tensor).abs()
        if name.endswith("qkv.bias"):
            difference = difference.view(3, -1)[
                [0, 2]
            ]  # A key's bias has no gradient, Adam magnifies rounding.
        assert difference.max() <= 2e-5, name


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_going_on_from_a_checkpoint_ends_with_the_same_weights(tiny_encoder, precision):
    keeper, options = (
        Kept(),
        {"dropout": 0.2, "validations_per_epoch": 2, "patience": 0, "precision": precision},
    )
    whole, _, expected = train(tiny_encoder, keeper=keeper, **options)
    for checkpoint in keeper.checkpoints[1::4]:
        again, _, outcome = train(tiny_encoder, checkpoint=checkpoint, **options)
        assert (outcome.steps, outcome.best_step) == (expected.steps, expected.best_step)
        assert all(torch.equal(again.state_dict()[n], tensor) for n, tensor in whole.state_dict().items())


def test_a_head_that_does_not_learn_keeps_its_weights(tiny_encoder):
    before = load_pretraining(tiny_encoder).model.head
    model, _, _ = train(tiny_encoder, examples=examples_of(tiny_encoder, next_sentence=False))
    assert torch.equal(model.head.pooler.weight, before.pooler.weight)
    assert torch.equal(model.head.relation.weight, before.relation.weight)
    assert not torch.equal(model.head.dense.weight, before.dense.weight)


def test_it_learns(tiny_encoder):
    _, losses, outcome = train(tiny_encoder, epochs=12, patience=0)
    assert outcome.ending == "finished"
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_a_loss_that_is_not_a_number_names_the_document(tiny_encoder, tiny_vocabulary):
    """The embedding of one word is poisoned; only documents that show it are named, and no weight changes."""
    examples = examples_of(tiny_encoder, max_length=16)
    model = load_pretraining(tiny_encoder).model
    poison = tiny_vocabulary.index("thanks")
    with torch.no_grad():
        model.encoder.embeddings.word.weight[poison] = torch.inf
    settings = TrainingSettings(epochs=1, batch_size=4, precision="fp32")
    trainer = Trainer(
        model,
        examples,
        objective=PretrainingObjective(),
        settings=settings,
        rates=Rates(1e-3, 1e-2),
        observer=SilentObserver(),
        should_stop=lambda: False,
    )
    outcome = trainer.fit(lambda: 0.5, None, PretrainingPass())
    assert outcome.ending == "non-finite loss"
    assert set(outcome.ids_at_fault) <= set(examples.ids)
    assert 1 <= len(outcome.ids_at_fault) <= 4
