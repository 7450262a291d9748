"""The Python interface: every kind of source, splits by role, pairs, groups, -1, refusals."""

import csv

import numpy as np
import pyarrow as pa
import pytest

import manylabel
from manylabel.config.schema import DataSettings
from manylabel.data.read import read_table
from manylabel.errors import ConfigError, DataError, UsageError
from manylabel.inference.load import load_model

pytestmark = pytest.mark.slow  # trains or scores with real models throughout

FAST = {
    "training.epochs": 2,
    "training.learning_rate": 0.001,
    "training.precision": "fp32",
    "text.max_length": 64,
}


@pytest.fixture
def settings(tiny_encoder):
    return {**FAST, "model.encoder": str(tiny_encoder)}


@pytest.fixture
def table(tiny_mails):
    return read_table(tiny_mails, DataSettings())


def test_path_table_frame_and_lists_give_the_same_model(tiny_mails, table, settings, tmp_path):
    texts = table["text"].to_pylist()
    names = ("refund", "delivery", "praise")
    lists = [[name for name in names if row[name] == "1"] for row in table.to_pylist()]
    sources = {
        "path": tiny_mails,
        "table": table,
        "frame": table.to_pandas(),
        "lists": (texts, lists),
    }
    results = {}
    for kind, source in sources.items():
        model = manylabel.fit(source, out=tmp_path / kind, settings=settings, quiet=True)
        order = [model.labels.index(name) for name in names]
        results[kind] = model.predict(texts[:5]).probabilities_BL[:, order]
    assert np.array_equal(results["path"], results["table"])
    assert np.array_equal(results["path"], results["frame"])
    assert results["lists"].shape == (5, 3)


def test_a_matrix_of_targets(table, settings, tmp_path):
    texts = table["text"].to_pylist()
    matrix = np.array([[int(row[name]) for name in ("refund", "praise")] for row in table.to_pylist()])
    model = manylabel.fit((texts, matrix), out=tmp_path / "model", settings=settings, quiet=True)
    assert model.labels == ("label_1", "label_2")
    assert model.evaluate((texts, matrix))["rows"] == len(texts)


def test_own_validation_and_test_files_keep_their_roles(tiny_mails, table, settings, tmp_path):
    test = tmp_path / "test.csv"
    with test.open("w", newline="") as file:
        writer = csv.DictWriter(file, table.column_names)
        writer.writeheader()
        writer.writerows({**row, "id": "t-" + row["id"]} for row in table.to_pylist()[:30])
    model = manylabel.fit(tiny_mails, out=tmp_path / "model", test=test, settings=settings, quiet=True)
    provenance = load_model(model.path).bundle.provenance
    assert provenance.data["test"]["source"] == "test.csv"
    assert set(provenance.data) == {"train", "validation", "calibration", "test"}
    assert sum(provenance.data[role]["rows"] for role in ("train", "validation", "calibration")) == 120
    # Every test row is a copy of a row of the training file: the audit must say so.
    assert model.evaluation["rows_seen_in_training"] == 30
    assert model.evaluation["without_seen_rows"]["rows"] == 0


def test_cells_nobody_annotated_count_nowhere(table, settings, tmp_path):
    rows = table.to_pylist()
    for index, row in enumerate(rows):
        if index % 2:
            row["praise"] = "-1"
    model = manylabel.fit(pa.Table.from_pylist(rows), out=tmp_path / "model", settings=settings, quiet=True)
    figures = model.evaluate(pa.Table.from_pylist(rows))
    annotated = [row for index, row in enumerate(rows) if index % 2 == 0]
    assert figures["labels"]["praise"]["support"] == sum(row["praise"] == "1" for row in annotated)


def test_pairs(table, settings, tmp_path):
    rows = [{**row, "reply": row["text"][::-1]} for row in table.to_pylist()]
    source = pa.Table.from_pylist(rows)
    given = {**settings, "data.pair_column": "reply"}
    model = manylabel.fit(source, out=tmp_path / "model", settings=given, quiet=True)
    texts = [row["text"] for row in rows[:3]]
    with_pairs = model.predict(texts, texts[::-1]).probabilities_BL
    assert not np.array_equal(with_pairs, model.predict(texts, ["", "", ""]).probabilities_BL)
    with pytest.raises(UsageError, match="without their pairs"):
        model.predict(texts)
    assert model.evaluate(source)["rows"] == 120


def test_groups_stay_on_one_side(table, settings, tmp_path):
    from manylabel.config.load import load_settings
    from manylabel.recipes.corpora import Others, gather_corpora
    from manylabel.training.observers import SilentObserver

    rows = [{**row, "thread": f"thread-{index % 15}"} for index, row in enumerate(table.to_pylist())]
    resolved = load_settings(None, ["data.group_column=thread"])
    corpora = gather_corpora(
        pa.Table.from_pylist(rows), Others(), settings=resolved, observer=SilentObserver()
    )
    parts = (corpora.train, corpora.validation, corpora.calibration, corpora.test)
    groups = [thread for part in parts for thread in set(part.groups)]
    assert len(groups) == len(set(groups)) == 15


def test_copies_of_rows_in_separate_files_can_be_left_out(table, settings, tmp_path):
    rows = table.to_pylist()
    test = [
        {**row, "text": row["text"].upper() if index % 2 else row["text"]}
        for index, row in enumerate(rows[:30])
    ]
    given = {**settings, "split.leaks": "drop"}
    model = manylabel.fit(
        table, out=tmp_path / "model", test=pa.Table.from_pylist(test), settings=given, quiet=True
    )
    data = load_model(model.path).bundle.provenance.data
    assert sum(data[role]["rows"] for role in ("train", "validation", "calibration")) <= 90
    assert model.evaluation["rows_seen_in_training"] == 0


def test_validation_rows_calibrate_where_there_are_no_others(table, settings, tmp_path):
    rows = table.to_pylist()
    validation, calibration = (pa.Table.from_pylist(rows[start : start + 20]) for start in (0, 20))
    train = pa.Table.from_pylist(rows[40:])
    both = manylabel.fit(train, out=tmp_path / "a", validation=validation, settings=settings, quiet=True)
    assert "calibration" not in load_model(both.path).bundle.provenance.data
    apart = manylabel.fit(
        train,
        out=tmp_path / "b",
        validation=validation,
        calibration=calibration,
        settings=settings,
        quiet=True,
    )
    assert load_model(apart.path).bundle.provenance.data["calibration"]["rows"] == 20
    assert apart.evaluate(calibration)["roles"] == {"train": 0, "validation": 0, "calibration": 20}


def test_refusals(tiny_mails, settings, tmp_path):
    with pytest.raises(ConfigError, match=r"training\.epochs"):
        manylabel.fit(tiny_mails, out=tmp_path / "m", settings={"training.epoch": 1})
    with pytest.raises(UsageError, match="max_length"):
        manylabel.fit(
            tiny_mails, out=tmp_path / "m", settings={**settings, "text.max_length": 2000}, quiet=True
        )
    with pytest.raises(DataError):
        manylabel.fit((["a"], [["x"], ["y"]]), out=tmp_path / "m", settings=settings, quiet=True)
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="overwrite"):
        manylabel.fit(tiny_mails, out=tmp_path / "there", settings=settings, quiet=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_predict_takes_a_list(tiny_model):
    model = manylabel.load(tiny_model)
    assert len(model.predict([])) == 0
    with pytest.raises(TypeError, match="list of texts"):
        model.predict("one text")
    with pytest.raises(TypeError, match="NoneType"):
        model.predict(["a", None])
    assert model.predict(["x" * 10_000_000, "\ud800 \0"]).probabilities_BL.shape == (2, 3)
    assert "delivery" in repr(model)


def test_bf16_is_near_fp32(tiny_model):
    texts = ["late parcel", "thanks great", "refund money please"]
    exact = manylabel.load(tiny_model).predict(texts).probabilities_BL
    fast = manylabel.load(tiny_model, precision="bf16").predict(texts).probabilities_BL
    assert 0 < np.abs(exact - fast).max() < 0.05


def test_non_finite_training_saves_the_last_good_weights_and_names_the_row(
    table, settings, tmp_path, monkeypatch
):
    """One batch's logits are poisoned in the third step; what was learned before is saved and verified."""
    import torch

    from manylabel.errors import TrainingError
    from manylabel.training.objectives import MultiLabelObjective

    calls, whole = [], MultiLabelObjective.summed_loss

    def poisoned(self, logits_BL, targets_BL):
        calls.append(1)
        return whole(self, logits_BL * (torch.nan if len(calls) == 3 else 1.0), targets_BL)

    monkeypatch.setattr(MultiLabelObjective, "summed_loss", poisoned)
    with pytest.raises(TrainingError, match="mail-"):
        manylabel.fit(table, out=tmp_path / "model", settings=settings, quiet=True)
    model = manylabel.load(tmp_path / "model")
    assert load_model(model.path).bundle.provenance.training["ending"] == "non-finite loss"


def test_pairs_are_not_mixed_up(tiny_model):
    with pytest.raises(UsageError, match="single texts"):
        manylabel.load(tiny_model).predict(["a"], ["b"])


def test_a_tokenizer_of_another_encoder_is_refused(tiny_mails, tiny_encoder, settings, tmp_path):
    import shutil

    from manylabel.errors import EncoderError

    folder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    with (folder / "vocab.txt").open("a") as file:
        file.write("extra\nwords\n")
    with pytest.raises(EncoderError, match="token ids"):
        manylabel.fit(
            tiny_mails, out=tmp_path / "m", settings={**settings, "model.encoder": str(folder)}, quiet=True
        )


def test_an_argument_that_does_not_exist(tiny_mails, tmp_path):
    with pytest.raises(UsageError) as raised:
        manylabel.fit(tiny_mails, out=tmp_path / "model", encoder="default", epochs=3, colour="red")
    message = str(raised.value)
    for expected in (
        "no argument encoder",
        "model.encoder",
        "training.epochs",
        "colour",
        "source, out, settings",
    ):
        assert expected in message
    assert not (tmp_path / "model").exists()
