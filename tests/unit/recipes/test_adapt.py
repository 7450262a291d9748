"""Adapting the tiny encoder: figures, files, going on after a stop, and what becomes of test texts."""

import json
import random
import shutil

import numpy as np
import pytest
import torch

from manylabel.config.load import load_settings
from manylabel.config.schema import TrainingSettings
from manylabel.errors import DataError, EncoderError, TrainingError, TrainingStopped, UsageError
from manylabel.inference.load import load_model
from manylabel.modeling.weights.hugging_face import read_config
from manylabel.modeling.weights.pretraining_names import load_pretraining, to_hugging_face
from manylabel.recipes.adapt import AdaptJob, adapt_encoder, choose_adaptation_rates
from manylabel.recipes.adapt_texts import TextSources, gather_texts
from manylabel.recipes.adapted_encoder import read_adaptation
from manylabel.recipes.prepare import has_trained_pooler
from manylabel.training.observers import SilentObserver
from manylabel.training.pretraining import PretrainingObjective

pytestmark = pytest.mark.slow  # trains or scores with real models throughout

WORDS = ("refund", "money", "late", "parcel", "thanks", "great", "please", "hello", "order", "the")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """120 documents of sentences in which each word is followed by the next one in the list."""
    choose = random.Random(3)
    documents = []
    for _ in range(120):
        sentences = []
        for _ in range(choose.randint(1, 5)):
            begin = choose.randrange(10)
            words = [WORDS[(begin + place) % 10] for place in range(choose.randint(4, 9))]
            sentences.append(" ".join(words).capitalize() + ".")
        documents.append(" ".join(sentences))
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n\n".join(documents), encoding="utf-8")
    return path


def settings_for(encoder, **overrides):
    values = {
        "model.encoder": str(encoder),
        "text.max_length": 48,
        "training.precision": "fp32",
        "training.epochs": 2,
        "training.batch_size": 8,
        "training.learning_rate": 0.002,
        "pretraining.held_out_fraction": 0.2,
        **{name.replace("__", "."): value for name, value in overrides.items()},
    }
    return load_settings(None, typed=values)


class Told(SilentObserver):
    def __init__(self):
        self.lines, self.steps = [], []

    def stage(self, text):
        self.lines.append(text)

    def step(self, step):
        self.steps.append(step)


def adapt(
    texts, encoder, out, *, test=(), observer=None, should_stop=lambda: False, fresh=False, **overrides
):
    sources = TextSources((texts,), tuple(test))
    return adapt_encoder(
        AdaptJob(sources, out, fresh=fresh),
        settings=settings_for(encoder, **overrides),
        observer=observer or Told(),
        should_stop=should_stop,
    )


@pytest.fixture(scope="module")
def adapted(texts, tiny_encoder, tmp_path_factory):
    """Until it knows which word follows which: the report, and the lines that were told."""
    told = Told()
    out = tmp_path_factory.mktemp("adapted") / "encoder"
    options = {"training__epochs": 30, "training__learning_rate": 0.004, "training__patience": 0}
    return adapt(texts, tiny_encoder, out, observer=told, model__dropout=0.0, **options), told


def test_held_out_figures_get_better_and_are_recorded(adapted):
    report, told = adapted
    before, after = report.before, report.after
    assert after.loss < 0.8 * before.loss
    assert after.accuracy > before.accuracy + 0.1
    assert after.perplexity == pytest.approx(np.exp(after.loss))
    assert (after.masked, after.pairs) == (before.masked, before.pairs)
    assert 0 <= after.next_accuracy <= 1
    found = read_adaptation(report.folder)
    assert found["held_out"] == {"before": before.to_json(), "after": after.to_json()}
    assert found["texts"]["documents"] == 120
    assert 20 <= found["texts"]["held_out_documents"] <= 28  # About a fifth; some documents are copies.
    assert found["training"]["steps"] == len(told.steps) == report.outcome.steps
    assert found["encoder"]["heads_found"] == ["pooler"]
    assert found["pooler_trained"] is True
    assert sum("held-out loss of masked tokens" in line for line in told.lines) == 30
    assert not report.folder.with_name("encoder.run").exists()


def test_transformers_loads_it_as_it_was_measured(adapted):
    from transformers import AutoTokenizer, BertForPreTraining

    folder = adapted[0].folder
    _, report = BertForPreTraining.from_pretrained(folder, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokens = AutoTokenizer.from_pretrained(folder).tokenize("late parcel")
    assert tokens == ["late", "parcel"]


def test_training_takes_it_and_the_model_says_so(adapted, tiny_mails, train_tiny, tmp_path):
    folder = adapted[0].folder
    model = train_tiny(tiny_mails, folder, tmp_path / "model", training__epochs=1)
    data = load_model(model).bundle.provenance.data
    found = read_adaptation(folder)
    assert data["texts of the encoder"] == {
        "source": "texts.txt",
        "rows": 120,
        "sha256": found["texts"]["sha256"],
        "steps": found["training"]["steps"],
    }


def test_a_pooler_counts_as_trained_only_where_pairs_were_learned(adapted, texts, tiny_encoder, tmp_path):
    (tmp_path / "sentences").mkdir()
    for path in tiny_encoder.iterdir():
        (tmp_path / "sentences" / path.name).write_bytes(path.read_bytes())
    (tmp_path / "sentences" / "modules.json").write_text("[]")
    assert not has_trained_pooler(tmp_path / "sentences")
    options = {"training__epochs": 1, "training__batch_size": 64}
    adapt(texts, tmp_path / "sentences", tmp_path / "plain", pretraining__next_sentence=False, **options)
    assert not has_trained_pooler(tmp_path / "plain")
    adapt(texts, tmp_path / "plain", tmp_path / "pairs", **options)
    assert has_trained_pooler(tmp_path / "pairs")
    former = read_adaptation(tmp_path / "pairs")["encoder"]["adapted_before"]
    assert former == read_adaptation(tmp_path / "plain")


def test_a_stopped_run_goes_on_and_ends_with_the_same_bytes(texts, tiny_encoder, tmp_path):
    options = {"model__dropout": 0.2, "checkpoints__minutes": 0}
    whole, part = tmp_path / "whole" / "encoder", tmp_path / "part" / "encoder"
    steps = adapt(texts, tiny_encoder, whole, **options).outcome.steps
    told = Told()
    with pytest.raises(TrainingStopped, match="same command goes on"):
        adapt(
            texts,
            tiny_encoder,
            part,
            observer=told,
            should_stop=lambda: len(told.steps) >= steps // 2,
            **options,
        )
    assert not part.exists()
    with pytest.raises(UsageError, match="fresh"):
        adapt(texts, tiny_encoder, part, pretraining__mask_share=0.2, **options)
    again = Told()
    adapt(texts, tiny_encoder, part, observer=again, **options)
    assert len(told.steps) + len(again.steps) == steps
    assert any("Going on from step" in line for line in again.lines)
    names = sorted(path.name for path in whole.iterdir())
    facts = {f"{name}.json" for name in ("adaptation", "config", "encoder", "tokenizer", "tokenizer_config")}
    assert set(names) == facts | {"model.safetensors"}
    assert all((whole / name).read_bytes() == (part / name).read_bytes() for name in names)


def test_texts_of_the_test_files_are_left_out(texts, tiny_encoder, tmp_path):
    documents = texts.read_text().split("\n\n")
    lines = ["text,refund", *(json.dumps(text) + ",1" for text in documents[:10])]
    lines.append(json.dumps(documents[10].upper()) + ",0")
    (tmp_path / "test.csv").write_text("\n".join(lines) + "\n")
    told = Told()
    adapt(texts, tiny_encoder, tmp_path / "encoder", test=[tmp_path / "test.csv"], observer=told)
    found = read_adaptation(tmp_path / "encoder")["texts"]
    assert found["left_out_as_test_texts"]["exact"] >= 10
    assert found["left_out_as_test_texts"]["normalised"] >= 1
    assert found["documents"] == 120 - sum(found["left_out_as_test_texts"].values())
    assert found["test_sources"] == [{"source": "test.csv", "documents": 11, "empty": 0}]
    assert any("left out as texts of the test files" in line for line in told.lines)
    with pytest.raises(UsageError, match="U321"):
        adapt(texts, tiny_encoder, tmp_path / "none", test=[texts])


def test_what_cannot_be_done_is_refused_before_training(texts, tiny_encoder, adapted, tmp_path):
    with pytest.raises(UsageError, match="U201"):
        adapt(texts, tiny_encoder, adapted[0].folder)
    with pytest.raises(UsageError, match="512"):
        adapt(texts, tiny_encoder, tmp_path / "long", text__max_length=600)
    (tmp_path / "one.txt").write_text("only one document")
    with pytest.raises(DataError, match="D169"):
        adapt(tmp_path / "one.txt", tiny_encoder, tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.txt"]


def test_texts_of_unknown_signs_alone_are_refused(texts, tiny_encoder, tmp_path):
    (tmp_path / "signs.txt").write_text(
        "\n\n".join("\u16a0" * number for number in range(1, 9)), encoding="utf-8"
    )
    with pytest.raises(UsageError, match=r"U322 .*no known token is left to learn from"):
        adapt(tmp_path / "signs.txt", tiny_encoder, tmp_path / "signs")


def test_a_pooler_that_never_took_a_step_is_not_called_trained(texts, tiny_encoder, tmp_path, monkeypatch):
    source = tmp_path / "sentences"
    shutil.copytree(tiny_encoder, source)
    (source / "modules.json").write_text("[]")
    plain = PretrainingObjective.loss

    def broken(self, outputs, targets, counts):
        return plain(self, outputs, targets, counts) * float("nan")

    monkeypatch.setattr(PretrainingObjective, "loss", broken)
    with pytest.raises(TrainingError, match=r"T301 .*texts: texts\.txt, document \d+; "):
        adapt(texts, source, tmp_path / "encoder")
    assert read_adaptation(tmp_path / "encoder")["training"]["best_step"] == 0
    assert not has_trained_pooler(tmp_path / "encoder")


def test_a_damaged_record_is_refused(adapted, tmp_path):
    (tmp_path / "adaptation.json").write_text('{"format_version": 1}')
    with pytest.raises(EncoderError, match="E183"):
        read_adaptation(tmp_path)
    assert read_adaptation(tmp_path / "elsewhere") is None


def test_rates_and_epochs_that_were_not_set():
    open_, given = TrainingSettings(), TrainingSettings(learning_rate=3e-4, head_learning_rate=2e-4)
    assert choose_adaptation_rates(open_, 384, fresh_head=True).head == pytest.approx(1e-3)
    assert choose_adaptation_rates(open_, 384, fresh_head=False).head == pytest.approx(1e-4)
    assert choose_adaptation_rates(open_, 768, fresh_head=False).encoder == pytest.approx(5e-5)
    rates = choose_adaptation_rates(given, 768, fresh_head=True)
    assert (rates.encoder, rates.head) == (3e-4, 2e-4)


def test_one_epoch_unless_another_number_was_set(texts, tiny_encoder, tmp_path):
    settings = load_settings(
        None, ["training.precision=fp32", "text.max_length=32"], typed={"model.encoder": str(tiny_encoder)}
    )
    told = Told()
    job = AdaptJob(TextSources((texts,)), tmp_path / "encoder")
    report = adapt_encoder(job, settings=settings, observer=told)
    assert report.outcome.steps == told.steps[-1].num_steps
    assert {step.epoch for step in told.steps} == {0}
    assert {step.num_texts for step in told.steps[:-1]} == {32}


def test_an_adapted_encoder_whose_weights_were_exchanged_is_refused(
    adapted, tiny_encoder, tiny_mails, train_tiny, tmp_path
):
    folder = tmp_path / "encoder"
    shutil.copytree(adapted[0].folder, folder)
    shutil.copyfile(tiny_encoder / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(EncoderError, match=r"E184 .*as manylabel adapt recorded it"):
        train_tiny(tiny_mails, folder, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_texts_at_fault_are_named_by_file_and_row(texts, tiny_encoder, tmp_path):
    first, second, test = tmp_path / "a.csv", tmp_path / "b.txt", tmp_path / "test.txt"
    lines = texts.read_text().split("\n\n")
    first.write_text("id,text\n1,the late parcel\n2,\n3,please refund the money\n")
    second.write_text("\n\n".join(["thanks for the order", "hello great team", *lines]))
    test.write_text("the late parcel")
    sources = TextSources((first, second), (test,))
    gathered = gather_texts(sources, settings_for(tiny_encoder), Told())
    # The first row is in the test file, the second is empty.
    assert gathered.documents.texts[:3] == (
        "please refund the money",
        "thanks for the order",
        "hello great team",
    )
    assert [gathered.place_of(number) for number in range(3)] == [
        "a.csv, row 2 of the rows with a text",
        "b.txt, document 1",
        "b.txt, document 2",
    ]


def test_an_unknown_language_is_refused_before_anything_is_read(tiny_encoder, tmp_path):
    job = AdaptJob(TextSources((tmp_path / "absent.txt",), language="xx"), tmp_path / "encoder")
    with pytest.raises(UsageError, match=r"U323 --language: 'xx' is no language"):
        adapt_encoder(job, settings=settings_for(tiny_encoder), observer=Told())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", ["torch_dtype", "dtype"])
def test_the_configuration_says_the_number_format_of_the_weights(tiny_encoder, key):
    loaded = load_pretraining(tiny_encoder, dropout=0.0, attention_dropout=0.0, seed=1, learns_next=True)
    config, tensors = to_hugging_face(loaded.model, {**read_config(tiny_encoder), key: "bfloat16"})
    assert config[key] == "float32"
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert not {"torch_dtype", "dtype"} & set(to_hugging_face(loaded.model, read_config(tiny_encoder))[0])
