"""The competition recipe: who sees what, going on after every kind of end, the figures, the refusals."""

import csv
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from manylabel.bundle.ensemble import Ensemble
from manylabel.config.load import load_settings
from manylabel.config.schema import DataSettings
from manylabel.data.corpus import load_corpus
from manylabel.data.folds import Folds
from manylabel.decisions.blend import KINDS, cross_fitted
from manylabel.errors import DataError, EncoderError, TrainingError, TrainingStopped, UsageError
from manylabel.inference.load import load_model
from manylabel.recipes import crossfit as recipe
from manylabel.recipes import crossfit_members, fold_trainer
from manylabel.recipes.crossfit import crossfit_model
from manylabel.recipes.crossfit_figures import automatic, best_kind
from manylabel.recipes.crossfit_members import duration
from manylabel.recipes.crossfit_plan import CrossfitJob, members_of
from manylabel.recipes.fold_trainer import require_apart
from manylabel.training.observers import SilentObserver

pytestmark = pytest.mark.slow  # trains or scores with real models throughout

FOLDS, SEEDS = 2, (1, 2)
MODELS = FOLDS * (len(SEEDS) + 1)


@pytest.fixture(autouse=True)
def one_thread(two_threads):
    """Networks so small are slower on two where cores are busy."""
    torch.set_num_threads(1)


class Listener(SilentObserver):
    def __init__(self):
        self.stages, self.steps = [], 0

    def stage(self, text):
        self.stages.append(text)

    def step(self, step):
        self.steps += 1


class Killed(BaseException):
    """What no handler of ours expects, like a process that is gone."""


@pytest.fixture(scope="module")
def settings(tiny_encoder):
    return made_settings(tiny_encoder)


def made_settings(encoder, **more):
    values = {
        "model.encoder": str(encoder),
        "training.epochs": 3,
        "training.batch_size": 8,
        "training.patience": 0,
        "training.learning_rate": 0.003,
        "training.precision": "fp32",
        "text.max_length": 48,
        "evaluation.resamples": 40,
        "checkpoints.steps": 2,
        "checkpoints.minutes": 0,
        **more,
    }
    return load_settings(None, [f"{name}={value}" for name, value in values.items()])


def run(source, out, settings, observer=None, **job):
    job = {"folds": FOLDS, "seeds": SEEDS, **job}
    should_stop = job.pop("should_stop", lambda: False)
    return crossfit_model(
        CrossfitJob(source, out, **job),
        settings=settings,
        observer=observer or SilentObserver(),
        should_stop=should_stop,
    )


@pytest.fixture(scope="module")
def whole(tiny_mails, settings, tmp_path_factory):
    """An ensemble made in one go, and what it said."""
    torch.set_num_threads(1)  # As in the tests; the last bits depend on it.
    out = tmp_path_factory.mktemp("crossfit") / "model"
    listener = Listener()
    return run(tiny_mails, out, settings, listener), listener


def files_of(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def differing(first, second):
    """Names of files that two folders do not share byte by byte."""
    ours, theirs = files_of(first), files_of(second)
    return [name for name in sorted({*ours, *theirs}) if ours.get(name) != theirs.get(name)]


def test_the_ensemble_holds_every_model_and_is_whole(whole, tiny_mails):
    report, listener = whole
    loaded = load_model(report.folder)  # Every hash and every probe.
    ensemble = loaded.bundle.model
    assert isinstance(ensemble, Ensemble)
    assert len(ensemble.models) == MODELS
    assert [len(component.models) for component in ensemble.components] == [FOLDS] * 3
    assert sorted(path.name for path in report.folder.parent.iterdir()) == ["model", "model.oof.parquet"]
    assert any(
        stage.startswith("Plan: 1 encoder x 2 seeds x 2 folds = 4 networks and 2 linear")
        for stage in listener.stages
    )
    assert any("3 of 6 done, about" in stage for stage in listener.stages)
    # Its own rows count as seen.
    figures = recipe_evaluation(loaded, tiny_mails)
    assert figures["rows_seen_in_training"] == 120


def recipe_evaluation(loaded, source, **options):
    from manylabel.recipes.evaluate import evaluate_model

    result = evaluate_model(loaded, source, options=DataSettings(**options), observer=SilentObserver())
    return result.to_json()


def test_the_table_out_of_fold_is_what_the_figures_are_of(whole, tiny_mails):
    report, _ = whole
    corpus = load_corpus(tiny_mails, DataSettings()).corpus
    table = pq.read_table(report.out_of_fold)
    labels = corpus.labels.names
    assert table.column("id").to_pylist() == list(corpus.ids)
    assert "text" not in "".join(table.column_names)
    truth = np.column_stack([table.column(f"truth:{name}") for name in labels])
    assert np.array_equal(truth, corpus.targets_NL)
    crossfit = report.evaluation["crossfit"]
    for name, found in crossfit["components"].items():
        scores = np.column_stack([table.column(f"{name}:{label}") for label in labels])
        assert found["average_precision"]["value"] == pytest.approx(
            average_precision_score(truth, scores, average="macro"), abs=1e-6
        )
        assert found["roc_auc"]["value"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)
        if name != "linear":  # That one makes no mistake here, in any resample.
            low, high = found["average_precision"]["interval"]
            assert low < found["average_precision"]["value"] < high
    ensemble = np.column_stack([table.column(f"ensemble:{label}") for label in labels])
    # The figures are of the calibrated probabilities, whose maps differ from fold to fold.
    assert report.evaluation["macro"]["roc_auc"] == pytest.approx(roc_auc_score(truth, ensemble), abs=1e-6)
    assert report.evaluation["out_of_fold"] == FOLDS
    assert report.evaluation["rows"] == 120


def test_blends_are_cross_fitted_from_that_table(whole, tiny_mails):
    report, _ = whole
    table, crossfit = pq.read_table(report.out_of_fold), report.evaluation["crossfit"]
    corpus = load_corpus(tiny_mails, DataSettings()).corpus
    labels, names = corpus.labels.names, tuple(crossfit["components"])
    assert set(crossfit["blends"]) == set(KINDS)
    assert crossfit["chosen"] == "mean"  # Two folds leave no third to choose on.
    probabilities = np.stack(
        [np.column_stack([table.column(f"{name}:{label}") for label in labels]) for name in names]
    ).astype(np.float64)
    logits = np.log(probabilities) - np.log1p(-probabilities)
    fold_N = np.array(table.column("fold"))
    for kind in ("mean", "greedy", "stacked"):
        found = cross_fitted(kind, logits, corpus.targets_NL, fold_N, components=names, labels=labels, seed=1)
        expected = average_precision_score(corpus.targets_NL, expit(found), average="macro")
        assert crossfit["blends"][kind]["average_precision"]["value"] == pytest.approx(expected, abs=2e-3)
    best = max(names, key=lambda name: crossfit["components"][name]["average_precision"]["value"])
    assert crossfit["best_component"] == best
    assert best in crossfit["against_best_component"]["conclusion"]


def test_each_row_is_scored_by_models_that_never_saw_it(tiny_mails, settings, tmp_path, monkeypatch):
    learned, divided = [], []
    real_trainer, real_score, real_linear = (
        fold_trainer.Trainer,
        fold_trainer.validation_score,
        crossfit_members.fit_nb_linear,
    )

    def trainer(model, examples, **options):
        learned.append([set(examples.ids)])
        return real_trainer(model, examples, **options)

    def score(backend, encodings, validation, **options):
        learned[-1].append(set(validation.ids))
        return real_score(backend, encodings, validation, **options)

    def linear(texts, targets_NL, labels):
        learned.append([set(texts)])
        return real_linear(texts, targets_NL, labels)

    real_divide = recipe.divide
    monkeypatch.setattr(fold_trainer, "Trainer", trainer)
    monkeypatch.setattr(fold_trainer, "validation_score", score)
    monkeypatch.setattr(crossfit_members, "fit_nb_linear", linear)
    monkeypatch.setattr(recipe, "divide", lambda *a, **k: divided.append(real_divide(*a, **k)) or divided[-1])
    run(tiny_mails, tmp_path / "model", settings)
    corpus = load_corpus(tiny_mails, DataSettings()).corpus
    assert len(learned) == MODELS
    for number, sets in enumerate(learned):
        held_out = divided[0].held_out(number % FOLDS)
        names = corpus.texts if number < FOLDS else corpus.ids  # The linear member comes first.
        assert not set().union(*sets) & {names[row] for row in held_out}
        assert set().union(*sets) | {names[row] for row in held_out} == set(names)


def test_what_only_a_memoriser_could_know_is_not_known(tiny_encoder, tmp_path):
    """Labels drawn by lot, a word of its own in each text: in the training rows all of it can be learnt by heart."""
    generator, path = np.random.default_rng(4), tmp_path / "lots.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "x", "y"])
        for row in range(160):
            own = "".join(generator.choice(list("abcdefghij"), 12))
            writer.writerow([f"{own} {own} {own} row {row}", *generator.integers(0, 2, 2)])
    settings = made_settings(tiny_encoder, **{"training.epochs": 1, "evaluation.resamples": 0})
    report = run(path, tmp_path / "model", settings, folds=4, seeds=(1,))
    crossfit = report.evaluation["crossfit"]
    for found in [*crossfit["components"].values(), *crossfit["blends"].values(), report.evaluation["macro"]]:
        value = found["roc_auc"]["value"] if isinstance(found["roc_auc"], dict) else found["roc_auc"]
        # 0.5 by chance, with a standard error of 0.033 for two labels of 160 rows; stacking may turn an order around.
        assert 0.35 < value < 0.65
    assert set(crossfit["blends"]) == {*KINDS, "auto"}
    assert len(crossfit["chosen_by_fold"]) == 4


@pytest.mark.parametrize("when", ["between folds", "within a fold", "killed", "killed in saving"])
def test_going_on_gives_the_bytes_of_a_run_that_was_never_stopped(
    whole, tiny_mails, settings, tmp_path, when, monkeypatch
):
    report, complete = whole
    out = tmp_path / "model"
    work, listener = tmp_path / "model.crossfit", Listener()
    with monkeypatch.context() as patch:
        if when == "killed in saving":
            patch.setattr(recipe, "save", lambda *a, **k: (_ for _ in ()).throw(Killed))
        elif when == "killed":
            listener.step = dies_after(listener, complete.steps * 5 // 8)

        def should_stop():
            if when == "between folds":
                return (work / "tiny-encoder0-s1-f1.safetensors").exists() or len(
                    list(work.glob("*-s1-f1.*"))
                ) > 1
            return when == "within a fold" and listener.steps >= complete.steps * 5 // 8

        expected = Killed if "killed" in when else TrainingStopped
        with pytest.raises(expected) as stopped:
            run(tiny_mails, out, settings, listener, should_stop=should_stop)
    if expected is TrainingStopped:
        assert "T310" in str(stopped.value)
        assert "of 6 kept there" in str(stopped.value)
        assert "same command goes on" in str(stopped.value)
    assert not out.exists()
    assert work.is_dir()
    again = Listener()
    report_again = run(tiny_mails, out, settings, again)
    assert again.steps + listener.steps <= complete.steps + 4
    assert differing(report.folder, out) == []
    assert report_again.out_of_fold.read_bytes() == report.out_of_fold.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.oof.parquet"]


def dies_after(listener, count):
    def step(_):
        listener.steps += 1
        if listener.steps >= count:
            raise Killed

    return step


def test_stopped_before_anything_is_finished_nothing_is_left(tiny_mails, settings, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tiny_mails, tmp_path / "model", settings, should_stop=lambda: True)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def stopped_early(tiny_mails, settings, tmp_path):
    """A run that has its two linear folds."""
    work = tmp_path / "model.crossfit"
    with pytest.raises(TrainingStopped):
        run(tiny_mails, tmp_path / "model", settings,
            should_stop=(work / "linear-f2.safetensors").exists)  # fmt: skip
    return tmp_path


def test_other_settings_are_refused_until_fresh(stopped_early, tiny_mails, settings, tiny_encoder):
    out, work = stopped_early / "model", stopped_early / "model.crossfit"
    before = files_of(work)
    for change, job in (
        ({"training.epochs": 1}, {}),
        ({}, {"seeds": (1, 3)}),
        ({}, {"folds": 3}),
        ({}, {"linear": False}),
    ):
        with pytest.raises(UsageError, match="U223"):
            run(tiny_mails, out, made_settings(tiny_encoder, **change), **job)
    assert files_of(work) == before
    # What decides nothing about a fold may change, and a damaged fold is made again.
    (work / "linear-f1.safetensors").write_bytes(before["linear-f1.safetensors"][:-1])
    listener = Listener()
    with pytest.raises(TrainingStopped):
        run(tiny_mails, out, settings, listener, blend="stacked",
            should_stop=(work / "linear-f1.safetensors").exists)  # fmt: skip
    assert any("linear, fold 1 of 2 is damaged" in stage for stage in listener.stages)
    assert any("linear, fold 2 of 2: kept" in stage for stage in listener.stages)
    assert files_of(work) == before
    report = run(
        tiny_mails, out, made_settings(tiny_encoder, **{"training.epochs": 1}), seeds=(5,), fresh=True
    )
    assert report.evaluation["crossfit"]["chosen"] == "mean"
    assert not work.exists()


def test_a_model_whose_loss_is_no_number_stops_the_run_and_the_rest_is_kept(
    tiny_mails, settings, tmp_path, monkeypatch
):
    real = fold_trainer.Trainer
    count = 0

    def diverging(model, examples, **options):
        nonlocal count
        count += 1
        if count == 2:
            with torch.no_grad():
                next(model.parameters()).fill_(float("inf"))
        return real(model, examples, **options)

    monkeypatch.setattr(fold_trainer, "Trainer", diverging)
    with pytest.raises(TrainingError, match=r"T301.*fold 2 of 2.*finished folds are kept.*--fresh"):
        run(tiny_mails, tmp_path / "model", settings)
    kept = sorted(path.name for path in (tmp_path / "model.crossfit").glob("*.safetensors"))
    assert len(kept) == 3  # Two linear folds and the first network's.


def test_test_rows_judge_only_where_nothing_is_like_them(tiny_mails, settings, tmp_path):
    rows = list(csv.reader(tiny_mails.read_text(encoding="utf-8").splitlines()))
    learned, test = tmp_path / "learned.csv", tmp_path / "test.csv"
    write(learned, rows[:91])
    write(test, [rows[0], *rows[91:], *([f"copy-{row[0]}", *row[1:]] for row in rows[1:6])])
    listener = Listener()
    report = run(learned, tmp_path / "model", settings, listener, seeds=(1,), test=test)
    assert report.evaluation["rows"] == 30
    assert any(
        "5 are copies of rows that are learned from" in stage and "left out" in stage
        for stage in listener.stages
    )
    # The same figures as evaluate gives of the saved ensemble on these rows.
    write(test, [rows[0], *rows[91:]])
    again = recipe_evaluation(load_model(tmp_path / "model"), test)
    assert again["macro"] == pytest.approx(report.evaluation["macro"], abs=1e-6)
    assert again["rows_seen_in_training"] == 0
    with pytest.raises(DataError, match="D300"):
        run(learned, tmp_path / "other", settings, test=learned)
    write(test, [rows[0], *([*row[:2], "-1", "-1", "-1"] for row in rows[91:])])
    with pytest.raises(DataError, match=r"D167 test\.csv: none of its 30 rows is annotated"):
        run(learned, tmp_path / "other", settings, test=test)
    assert not (tmp_path / "other.crossfit").exists()


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def test_views_are_components_of_one_model(tiny_mails, settings, tmp_path):
    report = run(
        tiny_mails,
        tmp_path / "model",
        settings,
        seeds=(1,),
        linear=False,
        views=("tail",),  # As tta, it adds head, without which no model predicts.
        blend="greedy",
        observer=(listener := Listener()),
    )
    assert "note: head is always among the views and was added" in listener.stages
    head, tail = report.evaluation["crossfit"]["components"]
    assert tail == f"{head} tail"
    assert report.evaluation["crossfit"]["chosen"] == "greedy"
    weights = report.evaluation["crossfit"]["weights"]["refund"]
    assert sum(weights.values()) == pytest.approx(1.0)
    ensemble = load_model(tmp_path / "model").bundle.model
    assert len(ensemble.models) == FOLDS
    assert {component.view for component in ensemble.components} == {"head", "tail"}


def test_a_translation_is_a_view_of_the_row(tiny_mails, settings, tmp_path):
    rows = list(csv.reader(tiny_mails.read_text(encoding="utf-8").splitlines()))
    for row in rows[1:]:
        row.append(" ".join(reversed(row[1].split())))
    rows[0].append("back")
    learned, test = tmp_path / "learned.csv", tmp_path / "test.csv"
    write(learned, rows[:100])
    unknown = [[row[0], row[1], "-1", "-1", "-1", row[5]] for row in rows[110:]]
    write(test, [rows[0], *rows[100:110], *unknown])
    translated = settings.model_copy(
        update={"data": settings.data.model_copy(update={"translation_columns": ("back",)})}
    )
    views = ("head", "translation:back")
    report = run(learned, tmp_path / "model", translated, seeds=(1,), linear=False, views=views, test=test)
    assert report.evaluation["rows"] == 10  # Rows without an annotated label judge nothing.
    head, back = report.evaluation["crossfit"]["components"].values()
    assert head["roc_auc"]["value"] != back["roc_auc"]["value"]
    found = recipe_evaluation(load_model(tmp_path / "model"), test, translation_columns=("back",))
    assert found["macro"] == pytest.approx(report.evaluation["macro"], abs=1e-6)


def test_two_encoders_of_one_name_are_told_apart(tiny_encoder, tmp_path, settings):
    folders = [tmp_path / part / "encoder" for part in "ab"]
    for folder in folders:
        shutil.copytree(tiny_encoder, folder)
    job = CrossfitJob(None, tmp_path / "out", encoders=tuple(map(str, folders)), seeds=(1, 2))
    names = [member.name for member in members_of(job, settings)]
    assert names == ["linear", "encoder-s1", "encoder-s2", "encoder-2-s1", "encoder-2-s2"]


@pytest.mark.parametrize(
    ("job", "code"),
    [
        ({"seeds": (1, 1)}, "U301"),
        ({"seeds": (-1,)}, "U301"),
        ({"blend": "magic"}, "U303"),
        ({"views": ("head", "translation:de")}, "U308"),
        ({"views": ("head", "sideways")}, "U310"),
        ({"encoders": ("default", "default")}, "U307"),
        ({"folds": 1}, "U246"),
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_is_left(job, code, tiny_mails, settings, tmp_path):
    with pytest.raises(UsageError, match=code):
        run(tiny_mails, tmp_path / "model", settings, **job)
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_are_there_are_left_alone(tiny_mails, settings, tmp_path):
    (tmp_path / "model.oof.parquet").write_bytes(b"mine")
    with pytest.raises(UsageError, match="U304"):
        run(tiny_mails, tmp_path / "model", settings)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").write_text("mine")
    with pytest.raises(UsageError, match="U201"):
        run(tiny_mails, tmp_path / "other", settings)
    assert (tmp_path / "model.oof.parquet").read_bytes() == b"mine"


def test_rows_on_both_sides_are_refused_not_reported():
    folds = Folds(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 2]), 2)
    with pytest.raises(TrainingError, match="T302"):
        require_apart(folds, 0, folds.others(0))
    require_apart(folds, 0, np.array([3]))


def test_the_kind_of_a_fold_is_chosen_without_its_labels():
    generator = np.random.default_rng(8)
    targets_NL = (generator.random((600, 2)) < 0.3).astype(np.int8)
    logits_CNL = (2 * targets_NL + generator.normal(size=(3, 600, 2)) * [[[1]], [[2]], [[9]]]).astype(
        np.float32
    )
    fold_N = np.arange(600) % 3
    named = {"components": ("a", "b", "c"), "labels": ("x", "y"), "seed": 1}
    before_NL, before = automatic(logits_CNL, targets_NL, fold_N, **named)
    changed = targets_NL.copy()
    changed[fold_N == 0] = 1 - changed[fold_N == 0]
    after_NL, after = automatic(logits_CNL, changed, fold_N, **named)
    assert before[0] == after[0]
    assert np.array_equal(before_NL[fold_N == 0], after_NL[fold_N == 0])
    assert not np.array_equal(before_NL[fold_N != 0], after_NL[fold_N != 0])
    # One component is noise, so weights pay.
    assert set(before) <= {"greedy", "stacked"}
    assert best_kind({"mean": 0.5, "ranks": 0.5, "greedy": 0.5, "stacked": 0.4}) == "mean"


def test_durations_are_said_as_people_say_them():
    assert [duration(seconds) for seconds in (40.2, 720, 12_000)] == ["40 s", "12 min", "3 h 20 min"]


def test_the_command_prints_tables_and_json(whole, tiny_mails, tiny_encoder, tmp_path, capsys):
    from manylabel.cli.commands.crossfit import crossfit_tables
    from manylabel.cli.main import main

    options = [
        "--folds",
        "2",
        "--seeds",
        "3",
        "--no-linear",
        "--blend",
        "mean",
        "--encoder",
        str(tiny_encoder),
    ]
    sets = ["training.epochs=1", "text.max_length=48", "evaluation.resamples=0", "training.precision=fp32"]
    given = [part for setting in sets for part in ("--set", setting)]
    with pytest.raises(SystemExit) as ended:
        main(["crossfit", str(tiny_mails), "--out", str(tmp_path / "m"), "--json", *options, *given])
    assert ended.value.code == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["crossfit"]["against_best_component"] is None
    first, *rest = crossfit_tables(whole[0].evaluation["crossfit"])
    assert [str(cell) for cell in first.columns[0].cells][-1] == "blend: stacked"
    assert "the blend" in rest[0].lower()
    with pytest.raises(SystemExit) as ended:
        main(["crossfit", str(tiny_mails), "--out", str(tmp_path / "n"), "--seeds", "a", *options[:2]])
    assert ended.value.code == 2
    assert "U301" in capsys.readouterr().err


def test_encoders_are_tried_before_anything_is_trained(tiny_mails, tiny_encoder, tmp_path, settings):
    broken = tmp_path / "broken"
    shutil.copytree(tiny_encoder, broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    listener = Listener()
    with pytest.raises(EncoderError) as refused:
        run(tiny_mails, tmp_path / "model", settings, listener, encoders=(str(tiny_encoder), str(broken)))
    assert [finding.code for finding in refused.value.findings] == ["E134"]
    with pytest.raises(EncoderError) as refused:
        run(tiny_mails, tmp_path / "model", settings, listener, encoders=("./none", "./nothing"))
    assert len(refused.value.findings) == 2
    assert not any("training on" in stage for stage in listener.stages)
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


@pytest.fixture
def tiny_foreign_encoder(tiny_encoder, tmp_path_factory):
    """A DistilBERT, which runs through transformers and not packed."""
    from transformers import DistilBertConfig, DistilBertModel

    folder = tmp_path_factory.mktemp("foreign")
    words = len((tiny_encoder / "vocab.txt").read_text().splitlines())
    sizes = {"dim": 32, "n_heads": 4, "n_layers": 2, "hidden_dim": 64}
    DistilBertModel(DistilBertConfig(vocab_size=words, **sizes)).save_pretrained(folder)
    for name in ("vocab.txt", "tokenizer_config.json"):
        shutil.copyfile(tiny_encoder / name, folder / name)
    return folder


def test_an_encoder_that_cannot_be_trained_so_is_refused_with_its_name(
    tiny_mails, tmp_path, tiny_foreign_encoder
):
    adversarial = made_settings(tiny_foreign_encoder, **{"augmentation.adversarial": 1.0})
    with pytest.raises(UsageError) as refused:
        run(tiny_mails, tmp_path / "model", adversarial)
    assert [(each.code, str(tiny_foreign_encoder) in each.place) for each in refused.value.findings] == [
        ("D199", True)
    ]
    with pytest.raises(UsageError, match="C221"):
        run(
            tiny_mails,
            tmp_path / "model",
            made_settings(tiny_foreign_encoder, **{"training.frozen_layers": 9}),
        )
    assert list(tmp_path.iterdir()) == []


def test_the_disk_must_hold_the_models_twice_and_checkpoints(tiny_mails, settings, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(recipe, "check_space", lambda place, count, what: asked.append((count, what)))
    monkeypatch.setattr(recipe, "opened_state", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        run(tiny_mails, tmp_path / "model", settings)
    ((bytes_asked, what),) = asked
    weights = (settings_weights(settings) + (32 + 1) * 3) * 4  # The encoder and a head of three labels.
    models = 2 * len(SEEDS) * FOLDS * weights
    # Three checkpoints, each with the weights, two moments and the best so far.
    assert models + 3 * 3 * weights < bytes_asked < models + 3 * (6 * weights + (1 << 20))
    assert what == "models and checkpoints"


def settings_weights(settings):
    from safetensors.numpy import load_file

    tensors = load_file(f"{settings.model.encoder}/model.safetensors")
    return sum(tensor.size for name, tensor in tensors.items() if not name.startswith("pooler"))


@pytest.mark.parametrize("name", ["oof.parquet", "linear-f1.safetensors", "other-s9-f1.safetensors"])
def test_fresh_discards_what_a_killed_process_left_half_written(stopped_early, tiny_mails, settings, name):
    work = stopped_early / "model.crossfit"
    (work / f".writing-host-999999999-{name}").write_bytes(b"half")
    run(tiny_mails, stopped_early / "model", settings, seeds=(5,), fresh=True)
    assert sorted(path.name for path in stopped_early.iterdir()) == ["model", "model.oof.parquet"]


def test_fresh_discards_the_table_of_the_run_it_discards(tiny_mails, settings, tmp_path, monkeypatch):
    out = tmp_path / "model"
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "save", lambda *a, **k: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run(tiny_mails, out, settings, seeds=(1,))
    assert (tmp_path / "model.oof.parquet").exists()
    work = tmp_path / "model.crossfit"
    with pytest.raises(TrainingStopped):
        run(
            tiny_mails,
            out,
            settings,
            seeds=(2,),
            fresh=True,
            should_stop=(work / "linear-f1.safetensors").exists,
        )
    run(tiny_mails, out, settings, seeds=(2,))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.oof.parquet"]
