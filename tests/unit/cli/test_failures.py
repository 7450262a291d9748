"""How failures are told: sentences, JSON, advice, suggestions; in this process, without torch."""

import errno
import json
import os

import pytest
import typer

from manylabel.cli import failures
from manylabel.cli.commands.predict import ADD_INPUT, ADD_OUTPUT
from manylabel.cli.main import COMMANDS, main

NASTY = "\x1b]0;owned\x07\u202e\x9b2J"


@pytest.fixture
def run(capsys):
    """A function that runs a command line: exit code, standard output, standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([*map(str, arguments)])
        shown = capsys.readouterr()
        return stop.value.code, shown.out, shown.err

    return run


@pytest.fixture
def mails(tmp_path):
    path = tmp_path / "mails.csv"
    path.write_text("text,late\n" + "".join(f"late parcel {row},{row % 2}\n" for row in range(40)))
    return path


@pytest.fixture
def wrong(tmp_path):
    """A file with two problems that leave nothing to describe."""
    path = tmp_path / "wrong.csv"
    path.write_text("id,words\n1,hello\n2,you,there\n3,all\n")
    return path


# -------------------------------------------------------------------------------------------------- --json


def test_a_refused_file_is_one_json_object_beside_the_sentences(run, wrong):
    code, out, err = run("check", wrong, "--json")
    told = json.loads(out)
    assert code == 1
    assert set(told) == {"error", "findings"}
    assert [finding["code"] for finding in told["findings"]] == ["D107", "D124"]
    assert told["error"] == told["findings"][0]
    assert told["error"]["rows"] == [2]
    assert told["error"]["next_step"]
    assert set(told["error"]) == {"code", "severity", "place", "found", "allowed", "next_step", "rows"}
    assert [line[:5] for line in err.splitlines()] == ["D107 ", "D124 "]
    assert run("check", wrong)[1] == ""


@pytest.mark.parametrize(
    ("arguments", "code", "name"),
    [
        (("verify", "absent"), 1, "B401"),
        (("predict", "absent", "text"), 1, "B401"),
        (("predict", "absent"), 2, "U203"),
        (("check", "absent.csv"), 1, "D101"),
        (("check", "absent.csv", "--set", "training.epoch=1"), 2, "C204"),
        (("check",), 2, "U200"),
        (("check", "a.csv", "--no-such-option"), 2, "U200"),
    ],
)
def test_every_failure_is_one_json_object(run, tmp_path, monkeypatch, arguments, code, name):
    monkeypatch.chdir(tmp_path)
    ended, out, err = run(*arguments, "--json")
    assert ended == code
    assert json.loads(out)["error"]["code"] == name
    assert err.strip()
    assert run(*arguments)[:2] == (code, "")


def test_a_text_called_json_is_a_text(run, tmp_path):
    assert run("predict", tmp_path / "absent", "--", "--json")[1] == ""


@pytest.mark.parametrize("cell", ["0", "7"])
def test_a_described_file_has_an_error_only_when_it_is_refused(run, tmp_path, tiny_encoder, cell):
    path = tmp_path / "a.csv"
    path.write_text(
        "text,late\n" + "".join(f"late parcel {row},{row % 2}\n" for row in range(40)) + f"one,{cell}\n"
    )
    code, out, _ = run("check", path, "--json", "--set", f"model.encoder={tiny_encoder}")
    report = json.loads(out)
    assert (code, report["usable"]) == ((0, True) if cell == "0" else (1, False))
    assert report.get("error", {}).get("code") == (None if cell == "0" else "D152")


def test_a_failed_write_and_a_defect_are_json_too(capsys):
    assert (
        failures.tell_system_error(OSError(errno.EACCES, "Permission denied", "out.csv"), as_json=True) == 1
    )
    assert json.loads(capsys.readouterr().out)["error"]["place"] == "out.csv"
    assert failures.tell_defect(ValueError("user text"), as_json=True) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["error"]["code"] == "S002"
    assert "--debug" in shown.err
    assert "user text" not in shown.out + shown.err


def test_the_help_of_json_says_so(run):
    assert "with error and findings" in " ".join(run("evaluate", "--help")[1].split())


# ------------------------------------------------------------------------------------------------ sentences


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EDQUOT, "free space"),
        (errno.EACCES, "permissions"),
        (errno.EPERM, "permissions"),
        (errno.EROFS, "choose another place"),
        (errno.EISDIR, "name a file"),
        (errno.EIO, "choose another place"),
    ],
)
def test_advice_fits_the_systems_error(capsys, number, advice):
    failures.tell_system_error(OSError(number, os.strerror(number), "out.csv"), as_json=False)
    line = capsys.readouterr().err
    assert line.startswith(f"S001 out.csv: {os.strerror(number)}. Next: ")
    assert advice in line
    assert ("free space" in line) == (number in (errno.ENOSPC, errno.EDQUOT))
    assert "what was there before is unchanged" in line


@pytest.mark.parametrize(
    ("arguments", "found", "next_step"),
    [
        ((), "nothing to predict: no text and no --input", "manylabel predict MODEL"),
        (("--input", "a.csv"), "--input without --output", ADD_OUTPUT),
        (("--output", "b.csv"), "--output without --input", ADD_INPUT),
        (("text", "--input", "a.csv"), "texts and --input at once", "leave out one"),
        (("text", "--input", "a.csv", "--output", "b.csv"), "texts and --input at once", "leave out one"),
        (("text", "--output", "b.csv"), "texts with --output", "leave out --output"),
    ],
)
def test_each_wrong_combination_says_its_own_cause(run, arguments, found, next_step):
    code, _, err = run("predict", "model", *arguments)
    assert code == 2
    assert err.startswith(f"U203 manylabel predict: {found}")
    assert f"Next: {next_step}" in err


@pytest.mark.parametrize(
    ("arguments", "suggested"),
    [
        (("check", "a.csv", "--txt", "x"), " Did you mean --text-column?"),
        (("predict", "m", "--txt", "x"), " Did you mean --text or --text-column?"),
        (("check", "a.csv", "--quite"), " Did you mean --quiet?"),
        (("check", "a.csv", "--label-column", "x"), " Did you mean --label-columns or --labels-column"),
        (("check", "a.csv", "--zzz"), ""),
    ],
)
def test_a_misspelt_option_is_recognised_by_its_first_word(run, arguments, suggested):
    code, _, err = run(*arguments)
    assert code == 2
    misspelt = next(argument for argument in arguments if argument.startswith("--"))
    command = arguments[0]
    told = f"U200 manylabel {command}: No such option: {misspelt}.{suggested}"
    assert err.startswith(told)
    assert f"Next: manylabel {command} --help." in err.splitlines()[0]
    assert "--set" not in err


@pytest.mark.parametrize(
    "arguments",
    [
        (f"non{NASTY}sense",),
        ("check", f"a{NASTY}.csv", f"--wid{NASTY}"),
        ("check", "a.csv", f"ex{NASTY}tra"),
        ("predict", "m", "text", "--precision", NASTY),
        ("check", f"a{NASTY}.csv"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_control_characters_of_arguments_never_reach_the_terminal(run, arguments, options):
    code, out, err = run(*arguments, *options)
    assert code in (1, 2)
    assert err
    assert (out + err).replace("\n", "").isprintable()


def test_messages_of_typer_that_are_not_escaped_are_made_inert(capsys):
    error = typer.BadParameter(f"{NASTY} is wrong\nand goes on")
    assert failures.tell_wrong_usage(error, as_json=False) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("U200 manylabel: Invalid value: ")
    assert shown.endswith("is wrong and goes on. Next: manylabel --help.\n")
    assert shown.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("check",), "Missing argument"),
        (("chek", "a.csv"), "No such command 'chek'. Did you mean 'check'?"),
        (("evaluate", "m", "a.csv", "--resamples", "x"), "Invalid value for '--resamples'"),
        (("evaluate", "m", "a.csv", "--resamples", "-1"), "Invalid value for '--resamples'"),
        (("predict", "m", "t", "--precision", "fp8"), "'fp8' is not one of"),
        (("check", "a.csv", "--set"), "Option '--set' requires an argument"),
        (("check", "a.csv", "more"), "unexpected extra argument"),
        (("check", "a.csv", "--zzz"), "No such option: --zzz"),
        (("--json",), "No such option: --json"),
    ],
)
def test_what_the_parser_refuses_is_told_like_other_wrong_usage(run, arguments, found):
    command = "manylabel" if arguments[0] not in COMMANDS else f"manylabel {arguments[0]}"
    code, out, err = run(*arguments)
    assert (code, out) == (2, "") or "--json" in arguments
    line = err.splitlines()[0]
    assert line.startswith(f"U200 {command}: ")
    assert found in line
    assert "Value error" not in line
    assert line.endswith(f"Next: {command} --help.")
    with_json = arguments if "--json" in arguments else (*arguments[:1], "--json", *arguments[1:])
    code, out, again = run(*with_json)
    told = json.loads(out)["error"]
    assert (code, told["code"], told["place"]) == (2, "U200", command)
    assert found in told["found"]
    assert told["next_step"] == f"{command} --help"
    assert again == err


def test_manylabel_alone_is_answered_with_its_help(run):
    code, _, err = run()
    assert code == 2
    assert err.startswith("Usage: manylabel [OPTIONS] COMMAND")
    assert "Error" not in err


def test_the_help_of_precision_agrees_with_the_settings(run):
    from manylabel.config.schema import InferenceSettings

    shown = " ".join(run("predict", "--help")[1].split())
    assert "by default the model's inference.precision, which is fp32 unless it was set" in shown
    assert InferenceSettings().precision == "fp32"


@pytest.mark.parametrize(
    ("rows", "truncated", "told"),
    [
        (1, 1, "1 row written to out.csv; 1 text was longer than the model reads and was cut"),
        (1200, 0, "1,200 rows written to out.csv; 0 texts were longer than the model reads and were cut"),
    ],
)
def test_one_text_was_and_two_texts_were(capsys, monkeypatch, rows, truncated, told):
    from pathlib import Path

    from manylabel.cli.commands import predict
    from manylabel.config.schema import DataSettings
    from manylabel.recipes.predict import PredictedFile

    written = PredictedFile(rows, truncated)
    monkeypatch.setattr("manylabel.recipes.predict.predict_file", lambda *_, **__: written)
    predict._predict_file(
        None, Path("in.csv"), Path("out.csv"), options=DataSettings(), keep_text=True, quiet=False
    )
    assert " ".join(capsys.readouterr().err.split()) == told


@pytest.mark.parametrize("words", [["--guarantee", "recall=0.9"], ["at=0.4", "--label", "x", "recall=0.9"]])
def test_a_goal_without_its_label_is_told_how_it_is_meant(tmp_path, capsys, words):
    with pytest.raises(SystemExit):
        main(["thresholds", str(tmp_path), "--data", str(tmp_path / "a.csv"), *words])
    said = " ".join(capsys.readouterr().err.split())
    assert "U280" in said
    assert ("--goal recall=0.9" in said) == ("--guarantee" in words)
