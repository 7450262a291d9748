"""`manylabel crossfit` as it is typed: what it prints, once each, and its settings."""

import pytest

from manylabel.cli.commands.crossfit import below
from manylabel.cli.main import main

FAST = ("training.epochs=1", "training.precision=fp32", "text.max_length=32", "evaluation.resamples=20")


@pytest.fixture
def run(capsys, monkeypatch, tmp_path, tiny_mails, tiny_encoder):
    """A function (arguments) that runs the command with one network a fold: (exit code, output, error)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        options = [part for each in FAST for part in ("--set", each)]
        with pytest.raises(SystemExit) as end:
            main(["crossfit", str(tiny_mails), "--out", "model", "--folds", "2", "--encoder", str(tiny_encoder),
                  *options, *arguments])  # fmt: skip
        told = capsys.readouterr()
        return end.value.code, told.out, " ".join(told.err.split())

    return call


def test_it_says_each_thing_once_and_why_two_figures_differ(run):
    code, out, err = run()
    assert code == 0, err
    told = " ".join(out.split())
    assert "Below, the blend calibrated: the rows of each fold by maps of the other folds" in told
    verdict = next(
        line for line in out.splitlines() if "macro average precision" in line and "difference" in line
    )
    assert " ".join(verdict.split()) not in err
    assert "Saved model, and predictions out of fold in" in told
    assert "Next: manylabel predict model" in told
    assert "Trying 1 encoder once" in err
    assert "tiny-encoder0-s1, fold 1 of 2: training on" in err
    assert "Tiny-encoder" not in err


def test_quiet_prints_figures_and_places_and_nothing_else(run, tmp_path):
    code, out, err = run("--quiet", "--no-linear")
    assert (code, err) == (0, "")
    assert "out of fold" in out
    assert "Saved model, and predictions out of fold in" in out
    assert "model.oof.parquet" in "".join(out.split())
    assert "Next:" not in out
    assert (tmp_path / "model").is_dir()


def test_a_preset_stands_below_what_is_set(run, tmp_path):
    code, _, err = run("--preset", "ulmfit", "--no-linear")
    assert code == 0, err
    assert "in 1 epoch only the head is ever trained (--set training.epochs=4 reaches" in err
    assert "gradual_unfreezing: true" in (tmp_path / "model" / "settings.yaml").read_text()
    code, _, err = run("--preset", "ulmfitt", "--overwrite")
    assert code == 2
    assert err.startswith("C207 --preset ulmfitt")


def test_figures_of_test_rows_are_said_to_be_of_those():
    assert "test rows" in below({})
    assert "calibrated" in below({"out_of_fold": 5})
