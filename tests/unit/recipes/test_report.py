"""From a trained model to a file: what is in it, and that nothing is lost when it may not be written."""

import csv
import json
import re

import pytest

from manylabel.config.schema import DataSettings
from manylabel.errors import DataError, UsageError
from manylabel.inference.load import load_model
from manylabel.recipes.breakdown import Breakdown
from manylabel.recipes.compare import compare_models
from manylabel.recipes.report import Page, check_page, report_model, write_comparison
from manylabel.training.observers import SilentObserver


@pytest.fixture(scope="module")
def model(tiny_model):
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def settings(model):
    return model.bundle.settings.evaluation.model_copy(update={"resamples": 50})


@pytest.fixture
def report(model, settings, tiny_mails):
    def write(page, source=tiny_mails):
        return report_model(
            model,
            source,
            page,
            wanted=Breakdown(by_length=True),
            options=DataSettings(),
            settings=settings,
            observer=SilentObserver(),
        )

    return write


def texts_of(path):
    with path.open(encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]


def test_a_report_of_the_training_file_says_do_not_ship(report, tiny_mails, tmp_path):
    written = report(Page(tmp_path / "report.html", title="mine", command="the command", date="today"))
    html = written.out.read_text(encoding="utf-8")
    assert written.num_bytes == len(html.encode()) < 1_000_000
    assert written.verdict == "do not ship"
    assert "Do not ship" in html
    assert any(re.match(r"\d+ rows \(\d+\.\d.%\) made the model", reason) for reason in written.reasons)
    assert all(
        words in html for words in ("mine", "the command", "today", "encoder sha256", "Figures by slice")
    )
    assert not [text for text in texts_of(tiny_mails) if text in html]
    assert set(re.findall(r"mail-\d+", html))


def test_texts_come_only_when_asked_for(report, tiny_mails, tmp_path):
    page = Page(tmp_path / "report.html", texts=True)
    html = report(page).out.read_text(encoding="utf-8")
    assert 0 < sum(text in html for text in texts_of(tiny_mails)) < 60


def test_suspected_labels_of_these_rows_are_shown(report, tiny_mails, tmp_path):
    with tiny_mails.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    suspected = tmp_path / "label-errors.jsonl"
    cells = [
        {"id": row["id"], "label": "praise", "given": int(row["praise"]), "probability": 0.4321, "reason": "model",
         "text": row["text"]}
        for row in rows[:3]
    ]  # fmt: skip
    suspected.write_text("".join(json.dumps(cell) + "\n" for cell in [*cells, {**cells[0], "id": "mail-x"}]))
    html = report(Page(tmp_path / "report.html", label_errors=suspected)).out.read_text(encoding="utf-8")
    assert html.count("<bdi>0.432</bdi>") == 3
    assert "Left out: 1 of other rows or labels." in html
    assert not [text for text in texts_of(tiny_mails) if text in html]
    html = report(Page(tmp_path / "with.html", label_errors=suspected, texts=True)).out.read_text("utf-8")
    assert rows[0]["text"] in html[html.index("Likely label errors</span>") :]
    suspected.write_text('{"id": "1"}\n')
    with pytest.raises(DataError, match="D178"):
        report(Page(tmp_path / "third.html", label_errors=suspected))


def test_an_existing_file_is_kept(report, tmp_path):
    out = tmp_path / "report.html"
    out.write_text("mine")
    with pytest.raises(UsageError, match="U291"):
        report(Page(out))
    assert out.read_text() == "mine"
    report(Page(out, overwrite=True))
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("name", ["", "absent/report.html"])
def test_a_place_that_takes_no_file_is_refused_first(tmp_path, name):
    with pytest.raises(UsageError, match="U209"):
        check_page(tmp_path / name, overwrite=True)


def test_two_models_on_one_page(model, tiny_cls_model, settings, tiny_mails, tmp_path):
    other = load_model(tiny_cls_model)
    compared = compare_models(
        model, other, tiny_mails, options=DataSettings(), observer=SilentObserver(), settings=settings
    )
    size = write_comparison(compared, model, other, out=tmp_path / "pair.html")
    html = (tmp_path / "pair.html").read_text(encoding="utf-8")
    assert size == len(html.encode())
    assert html.index(compared.to_json()["conclusion"].split(":")[0]) < html.index("Averages over labels")
    assert "of the rows made model A" in html
    for name in ("refund", "delivery", "praise"):
        assert html.count(name) >= 4
