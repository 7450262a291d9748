"""The loop on the tiny encoder: exact micro-batches, same bytes for the same seed, every way to end."""

import numpy as np
import pytest
import torch

from manylabel.config.schema import TrainingSettings
from manylabel.errors import Finding, TrainingError
from manylabel.modeling.native.library import without_library
from manylabel.modeling.weights.hugging_face import load_pretrained
from manylabel.text.tokenizer import TextTokenizer
from manylabel.training.examples import LabelledTexts
from manylabel.training.keeper import NoKeeper
from manylabel.training.loop import StoppedInValidation, Trainer
from manylabel.training.objectives import MultiLabelObjective
from manylabel.training.observers import SilentObserver
from manylabel.training.optimizer import Rates

pytestmark = pytest.mark.slow  # trains or scores with real models throughout

WORDS = (
    "refund",
    "delivery",
    "praise",
    "parcel",
    "late",
    "money",
    "thanks",
    "please",
    "hello",
    "team",
    "order",
)


class Recorder(SilentObserver):
    def __init__(self):
        self.losses, self.validations = [], []

    def step(self, step):
        self.losses.append(step.loss)

    def validated(self, result):
        self.validations.append(result)


def make_data(tiny_encoder, count=40, seed=0):
    choose = np.random.default_rng(seed)
    texts = [" ".join(choose.choice(WORDS, size=choose.integers(1, 30))) for _ in range(count)]
    targets_NL = np.array([[int(word in text.split()) for word in WORDS[:3]] for text in texts], np.int8)
    tokenizer = TextTokenizer.from_folder(tiny_encoder, max_length=64)
    return LabelledTexts(tokenizer.encode(texts), targets_NL, tuple(f"id-{i}" for i in range(count)))


def new_classifier(tiny_encoder, dropout=0.0, head="mean"):
    return load_pretrained(
        tiny_encoder, num_labels=3, head=head, dropout=dropout, attention_dropout=0.0, seed=1
    )


def new_trainer(classifier, data, *, observer=None, should_stop=lambda: False, **settings):
    values = {"epochs": 2, "batch_size": 8, "precision": "fp32", **settings}
    return Trainer(
        classifier,
        data,
        objective=MultiLabelObjective(),
        settings=TrainingSettings(**values),
        rates=Rates(1e-3, 1e-2),
        observer=observer or SilentObserver(),
        should_stop=should_stop,
    )


def train(tiny_encoder, data, *, dropout=0.0, validate=lambda: None, **options):
    torch.manual_seed(99)
    classifier = new_classifier(tiny_encoder, dropout)
    recorder = Recorder()
    outcome = new_trainer(classifier, data, observer=recorder, **options).fit(validate)
    return classifier, recorder, outcome


def test_micro_batches_give_the_gradient_of_the_whole_batch(tiny_encoder):
    data = make_data(tiny_encoder)
    whole, whole_losses, _ = train(tiny_encoder, data, token_budget=100_000)
    parts, part_losses, _ = train(tiny_encoder, data, token_budget=64)
    assert part_losses.losses == pytest.approx(whole_losses.losses, abs=1e-6)
    for name, tensor in whole.state_dict().items():
        difference = (parts.state_dict()[name] - tensor).abs()
        if name.endswith("qkv.bias"):
            # A key's bias shifts all scores of a query alike, so its gradient is 0 and Adam magnifies rounding.
            difference = difference.view(3, -1)[[0, 2]]
        assert difference.max() <= 1e-5, name


def test_micro_batches_weigh_annotated_cells_alike(tiny_encoder):
    """With cells left out unevenly, a mean of means would differ from the mean over the batch."""
    data = make_data(tiny_encoder)
    targets_NL = data.targets_NL.copy()
    targets_NL[np.random.default_rng(1).random(targets_NL.shape) < 0.6] = -1
    data = LabelledTexts(data.encodings, targets_NL, data.ids)
    _, whole, _ = train(tiny_encoder, data, token_budget=100_000)
    _, parts, _ = train(tiny_encoder, data, token_budget=64)
    assert parts.losses == pytest.approx(whole.losses, abs=1e-6)


def test_same_seed_same_bytes_with_dropout(tiny_encoder):
    data = make_data(tiny_encoder)
    first, _, _ = train(tiny_encoder, data, dropout=0.2)
    second, _, _ = train(tiny_encoder, data, dropout=0.2)
    other, _, _ = train(tiny_encoder, data, dropout=0.2, seed=2)
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name
    assert any(
        not torch.equal(other.state_dict()[name], tensor) for name, tensor in first.state_dict().items()
    )


def test_it_learns(tiny_encoder):
    _, recorder, outcome = train(tiny_encoder, make_data(tiny_encoder), epochs=30, patience=0)
    assert outcome.ending == "finished"
    assert outcome.steps == 150
    assert recorder.losses[-1] < 0.5 * recorder.losses[0]


def test_best_weights_are_restored_and_patience_ends_the_run(tiny_encoder):
    data = make_data(tiny_encoder)
    scores = iter([0.1, 0.9, 0.5, 0.4, 0.3])
    snapshots = []
    classifier = new_classifier(tiny_encoder)

    def validate():
        snapshots.append({name: tensor.clone() for name, tensor in classifier.state_dict().items()})
        return next(scores)

    outcome = new_trainer(classifier, data, epochs=10, patience=2).fit(validate)
    assert outcome.ending == "stopped early"
    assert (outcome.best_score, outcome.best_step, outcome.steps) == (0.9, 10, 20)
    assert all(torch.equal(tensor, snapshots[1][name]) for name, tensor in classifier.state_dict().items())
    assert not classifier.training


def test_validations_within_an_epoch(tiny_encoder):
    _, recorder, _ = train(tiny_encoder, make_data(tiny_encoder), epochs=1, validations_per_epoch=2)
    assert [result.step for result in recorder.validations] == [2, 5]


class Kept(NoKeeper):
    """Takes every checkpoint that is asked for, each so many steps."""

    def __init__(self, steps=1):
        self.steps, self.checkpoints, self.waited = steps, [], []

    def is_due(self, step):
        return step % self.steps == 0

    def keep(self, make, *, wait):
        self.checkpoints.append(make())
        self.waited.append(wait)


def test_a_stop_ends_after_the_step_and_keeps_its_state(tiny_encoder):
    steps, keeper = iter([False, False, True]), Kept(steps=100)
    trainer = new_trainer(
        new_classifier(tiny_encoder), make_data(tiny_encoder), should_stop=lambda: next(steps)
    )
    outcome = trainer.fit(lambda: 0.5, keeper)
    assert (outcome.ending, outcome.steps) == ("interrupted", 3)
    assert [checkpoint.step for checkpoint in keeper.checkpoints] == [3]
    assert keeper.waited == [True]


class FullDisk(Kept):
    def keep(self, make, *, wait):
        raise TrainingError(Finding("T314", "here", "no room"))


def test_a_full_disk_at_the_very_end_does_not_take_the_model(tiny_encoder):
    trainer = new_trainer(new_classifier(tiny_encoder), make_data(tiny_encoder))
    assert trainer.fit(lambda: 0.5, FullDisk(steps=1000)).ending == "finished"


def test_a_stop_during_validation_keeps_the_state_before_it_and_goes_on_with_it(tiny_encoder):
    data, keeper, asked = make_data(tiny_encoder), Kept(steps=100), []

    def validate():
        asked.append(True)
        raise StoppedInValidation

    trainer = new_trainer(new_classifier(tiny_encoder), data, should_stop=lambda: bool(asked), epochs=1)
    assert trainer.fit(validate, keeper).ending == "interrupted"
    recorder = Recorder()
    again = new_trainer(new_classifier(tiny_encoder), data, observer=recorder, epochs=1)
    again.restore(keeper.checkpoints[-1])
    assert again.fit(lambda: 0.5).best_step == 5
    assert (len(recorder.losses), len(recorder.validations)) == (0, 1)


VARIANTS = {
    "fp32": {},
    "bf16": {"precision": "bf16"},
    "average": {"ema_decay": 0.9},
    "layers": {"layer_decay": 0.8, "gradual_unfreezing": True, "schedule": "cosine"},
    "frozen": {"freeze_embeddings": True, "frozen_layers": 1},
    "recomputed": {"gradient_checkpointing": True},
    "patience": {"epochs": 8, "patience": 3},
}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
def test_going_on_from_any_checkpoint_ends_with_the_same_weights(tiny_encoder, options):
    data, keeper = make_data(tiny_encoder), Kept()
    options = {"validations_per_epoch": 2, "patience": 0, **options}

    def run(checkpoint, keeper=None):
        classifier = new_classifier(tiny_encoder, dropout=0.2)
        trainer = new_trainer(classifier, data, **options)
        if checkpoint is not None:
            trainer.restore(checkpoint)
        # A score that goes up and down with the weights, so that the best is not always the last.
        score = lambda: float(torch.sin(1e3 * classifier.head.projection.weight.detach().sum()))  # noqa: E731
        return trainer.fit(score, keeper), classifier.state_dict()

    expected, weights = run(None, keeper)
    last = expected.steps
    assert [checkpoint.step for checkpoint in keeper.checkpoints] == [*range(1, last + 1), last]
    assert (expected.ending == "stopped early") == (options["patience"] > 0)
    for checkpoint in keeper.checkpoints[1::3]:
        torch.manual_seed(checkpoint.step)
        outcome, again = run(checkpoint)
        assert (outcome.steps, outcome.best_step) == (expected.steps, expected.best_step)
        assert all(torch.equal(again[name], tensor) for name, tensor in weights.items())


def test_word_rows_give_what_adamw_on_the_whole_table_gives(tiny_encoder, monkeypatch):
    data = make_data(tiny_encoder)
    rows, _, _ = train(tiny_encoder, data, epochs=4, patience=0)
    monkeypatch.setattr(Trainer, "_sparse_table", lambda self: None)
    table, _, _ = train(tiny_encoder, data, epochs=4, patience=0)
    name = "encoder.embeddings.word.weight"
    moved = (table.state_dict()[name] - new_classifier(tiny_encoder).state_dict()[name]).abs().max()
    assert moved > 1e-3
    assert (rows.state_dict()[name] - table.state_dict()[name]).abs().max() < 1e-3 * moved


def test_recomputed_layers_give_the_same_gradient(tiny_encoder):
    data = make_data(tiny_encoder)
    _, kept, _ = train(tiny_encoder, data, dropout=0.2)
    _, recomputed, _ = train(tiny_encoder, data, dropout=0.2, gradient_checkpointing=True)
    assert recomputed.losses == pytest.approx(kept.losses, abs=1e-6)


def test_gradual_unfreezing_begins_with_the_head(tiny_encoder):
    data, classifier = make_data(tiny_encoder), new_classifier(tiny_encoder)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    changed = []

    def validate():
        changed.append(
            {
                name
                for name, tensor in classifier.state_dict().items()
                if not torch.equal(tensor, before[name])
            }
        )

    new_trainer(classifier, data, gradual_unfreezing=True, epochs=5, patience=0).fit(validate)
    assert {name.split(".")[0] for name in changed[0]} == {"head"}
    assert {name.rpartition(".layers.")[2][:1] for name in changed[1] - changed[0]} == {"1"}
    assert {name.rpartition(".layers.")[2][:1] for name in changed[2] - changed[1]} == {"0"}
    assert all("embeddings" in name for name in changed[3] - changed[2])


class Moves(SilentObserver):
    """The largest change of a parameter in each step, beside the rate of the step."""

    def __init__(self, classifier, name):
        self.classifier, self.name, self.moved = classifier, name, []
        self.last = self.now()

    def now(self):
        return self.classifier.state_dict()[self.name].detach().clone()

    def step(self, step):
        now = self.now()
        self.moved.append((float((now - self.last).abs().max()), step.rate))
        self.last = now


@pytest.mark.parametrize("name", ["encoder.layers.0.up.weight", "encoder.embeddings.word.weight"])
def test_a_layer_that_wakes_begins_with_its_own_rate(tiny_encoder, name):
    """AdamW's first step is as large as the rate; with a bias correction that ran on it would be 3 times that."""
    data, classifier = make_data(tiny_encoder, count=800), new_classifier(tiny_encoder)
    moves = Moves(classifier, name)
    options = {"gradual_unfreezing": True, "epochs": 4, "patience": 0, "batch_size": 2, "weight_decay": 0.0}
    new_trainer(classifier, data, observer=moves, **options).fit(lambda: None)
    first, rate = next((moved, rate) for moved, rate in moves.moved if moved > 0)
    assert first == pytest.approx(rate, rel=0.02)


def test_the_average_of_the_weights_is_what_is_validated_and_kept(tiny_encoder):
    data, classifier, seen = make_data(tiny_encoder), new_classifier(tiny_encoder), []

    def validate():
        seen.append(classifier.head.projection.bias.detach().clone())
        return 0.5 + 0.1 * len(seen)

    new_trainer(classifier, data, ema_decay=0.99).fit(validate)
    plain, _, _ = train(tiny_encoder, data)
    assert torch.equal(classifier.head.projection.bias, seen[-1])
    assert not torch.equal(classifier.head.projection.bias, plain.head.projection.bias)


def test_a_rehearsal_estimates_and_changes_nothing(tiny_encoder):
    data = make_data(tiny_encoder)
    plain, expected, _ = train(tiny_encoder, data)
    recorder, classifier = Recorder(), new_classifier(tiny_encoder)
    trainer = new_trainer(classifier, data, observer=recorder)
    estimate = trainer.rehearse()
    trainer.fit(lambda: None)
    assert recorder.losses == expected.losses
    assert all(torch.equal(t, plain.state_dict()[n]) for n, t in classifier.state_dict().items())
    assert 0 < estimate.seconds < 600
    parameters = sum(parameter.numel() for parameter in classifier.parameters())
    assert estimate.memory_bytes > 16 * parameters
    assert estimate.checkpoint_bytes > 16 * parameters


def poisoned(tiny_encoder, at_fault):
    """Data whose text `at_fault` alone holds a certain token, and a classifier with NaN for this token."""
    data = make_data(tiny_encoder)
    texts = TextTokenizer.from_folder(tiny_encoder, max_length=64)
    poison = int(texts.encode(["yesterday"]).ids_T[1])
    ids_T = data.encodings.ids_T.copy()
    ids_T[data.encodings.offsets_N1[at_fault] + 1] = poison
    encodings = type(data.encodings)(
        ids_T, data.encodings.segments_T, data.encodings.offsets_N1, data.encodings.truncated_N
    )
    classifier = new_classifier(tiny_encoder)
    with torch.no_grad():
        classifier.encoder.embeddings.word.weight[poison] = float("nan")
    return classifier, LabelledTexts(encodings, data.targets_NL, data.ids)


@pytest.mark.parametrize("token_budget", [64, 100_000])
def test_a_loss_that_is_not_a_number_stops_the_run_and_names_the_text(tiny_encoder, token_budget):
    """One token's embedding is poisoned; only the text that holds it may be named, and no weight may change."""
    classifier, data = poisoned(tiny_encoder, 17)
    outcome = new_trainer(classifier, data, token_budget=token_budget).fit(lambda: 0.1)
    assert outcome.ending == "non-finite loss"
    assert outcome.ids_at_fault == ("id-17",)
    finite = {name: torch.isfinite(tensor) for name, tensor in classifier.state_dict().items()}
    assert all(mask.all() for name, mask in finite.items() if "word" not in name)


LATE = {
    "plain": {},
    "bf16": {"precision": "bf16"},
    "clipped": {"clip_norm": 0.01},
    "average": {"ema_decay": 0.9, "validations_per_epoch": 2},
}


@pytest.fixture
def operators_alone():
    """As on a GPU, which has none of our kernels: what reads late there is compared to the bit."""
    with without_library():
        yield


@pytest.mark.usefixtures("operators_alone")
@pytest.mark.parametrize("options", LATE.values(), ids=LATE.keys())
def test_reading_a_step_when_the_next_is_queued_changes_nothing(tiny_encoder, monkeypatch, options):
    """As on a GPU: same weights to the bit, same losses in the same order, whole before each validation."""
    data = make_data(tiny_encoder)
    monkeypatch.setattr(Trainer, "_sparse_table", lambda self: None)
    recorder, losses_seen = Recorder(), []
    classifier = new_classifier(tiny_encoder, 0.2)
    at_once, expected, _ = train(tiny_encoder, data, dropout=0.2, **options)
    monkeypatch.setattr(Trainer, "_reads_late", lambda self: True)
    new_trainer(classifier, data, observer=recorder, **options).fit(
        lambda: losses_seen.append(len(recorder.losses))
    )
    assert recorder.losses == expected.losses
    assert losses_seen == [result.step for result in recorder.validations]
    assert all(torch.equal(t, at_once.state_dict()[n]) for n, t in classifier.state_dict().items())


def test_a_stop_with_a_step_unread_keeps_that_step(tiny_encoder, monkeypatch):
    monkeypatch.setattr(Trainer, "_reads_late", lambda self: True)
    steps, keeper, recorder = iter([False, False, True]), Kept(steps=100), Recorder()
    trainer = new_trainer(
        new_classifier(tiny_encoder),
        make_data(tiny_encoder),
        should_stop=lambda: next(steps),
        observer=recorder,
    )
    assert trainer.fit(lambda: 0.5, keeper).ending == "interrupted"
    assert [checkpoint.step for checkpoint in keeper.checkpoints] == [3]
    assert len(recorder.losses) == 3


@pytest.mark.usefixtures("operators_alone")
@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("at_fault", range(0, 40, 8))
def test_read_late_the_weights_are_those_before_the_step_that_was_not_finite(
    tiny_encoder, monkeypatch, at_fault, ema_decay
):
    """The step after it was queued already, and would have been made of good texts: the guard leaves it out too."""
    monkeypatch.setattr(Trainer, "_sparse_table", lambda self: None)

    def run():
        classifier, data = poisoned(tiny_encoder, at_fault)
        recorder = Recorder()
        trainer = new_trainer(classifier, data, observer=recorder, weight_decay=0.0, ema_decay=ema_decay)
        keeper = Kept()
        outcome = trainer.fit(lambda: None, keeper)
        kept = [(checkpoint.step, checkpoint.tensors["adamw.steps"]) for checkpoint in keeper.checkpoints]
        return outcome, (recorder.losses, kept), classifier.state_dict()

    outcome, (losses, kept), weights = run()
    monkeypatch.setattr(Trainer, "_reads_late", lambda self: True)
    late, (late_losses, late_kept), late_weights = run()
    assert [step for step, _ in late_kept] == [step for step, _ in kept]
    assert all(torch.equal(counts, late) for (_, counts), (_, late) in zip(kept, late_kept, strict=True))
    assert late.ending == outcome.ending == "non-finite loss"
    assert late.ids_at_fault == outcome.ids_at_fault == (f"id-{at_fault}",)
    assert (late.steps, late.tokens, late_losses) == (outcome.steps, outcome.tokens, losses)
    assert all(torch.equal(late_weights[n].nan_to_num(), t.nan_to_num()) for n, t in weights.items())


def test_weights_that_diverged_are_never_kept(tiny_encoder):
    """The second validation finds logits that are not finite: the weights of the first come back."""
    scores = iter([0.4, float("nan"), float("nan")])
    classifier, kept = new_classifier(tiny_encoder), []

    def validate():
        kept.append({name: tensor.clone() for name, tensor in classifier.state_dict().items()})
        return next(scores)

    outcome = new_trainer(classifier, make_data(tiny_encoder), epochs=3, patience=0).fit(validate)
    assert (outcome.best_score, outcome.best_step) == (0.4, 5)
    assert all(torch.equal(tensor, kept[0][name]) for name, tensor in classifier.state_dict().items())


def test_diverging_in_the_first_step_leaves_the_initial_weights(tiny_encoder):
    classifier = new_classifier(tiny_encoder)
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    outcome = new_trainer(classifier, make_data(tiny_encoder), epochs=1).fit(lambda: float("nan"))
    assert outcome.best_step == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())


def test_bf16_learns_too(tiny_encoder):
    _, recorder, _ = train(tiny_encoder, make_data(tiny_encoder), epochs=20, precision="bf16", patience=0)
    assert recorder.losses[-1] < 0.6 * recorder.losses[0]
