"""`manylabel adapt` as it is typed: output, exit codes, no text of the user anywhere."""

import json

import pytest

from manylabel.cli.main import main

SENTENCES = ("The late parcel.", "Please refund the money.", "Hello great team.", "Thanks for the order.")


@pytest.fixture
def run(capsys, monkeypatch, tmp_path, tiny_encoder):
    """A function (arguments) that runs the command on 40 documents: (exit code, standard output, error)."""
    monkeypatch.chdir(tmp_path)
    texts = [f"{SENTENCES[i % 4]} {SENTENCES[i % 3]} number {i}" for i in range(40)]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
    fast = ("training.precision=fp32", "text.max_length=32", "training.batch_size=8")

    def call(*arguments):
        options = [part for each in fast for part in ("--set", each)]
        with pytest.raises(SystemExit) as end:
            main(["adapt", *arguments, "--encoder", str(tiny_encoder), *options])
        told = capsys.readouterr()
        return end.value.code, told.out, told.err

    return call


def test_what_it_prints_and_writes(run, tmp_path):
    code, out, err = run("texts.txt", "--document-per-line", "--out", "encoder")
    assert code == 0, err
    assert "guessed right" in out
    assert "manylabel train FILE --out MODEL --encoder encoder" in out
    assert "texts.txt: 40 documents" in err
    assert "macro average precision" not in err
    told = out + err + (tmp_path / "encoder" / "adaptation.json").read_text()
    assert not any(sentence in told for sentence in SENTENCES)
    log = [json.loads(line) for line in (tmp_path / "encoder.log.jsonl").read_text().splitlines()]
    assert {"stage", "step"} <= {line["event"] for line in log}
    code, _, err = run("texts.txt", "--document-per-line", "--out", "encoder")
    assert code == 2
    assert "--overwrite" in err
    code, out, _ = run(
        "texts.txt", "--document-per-line", "--out", "encoder", "--overwrite", "--json", "--quiet"
    )
    assert code == 0
    assert json.loads(out)["after"]["masked_tokens"] > 0


def test_without_blank_lines_a_plain_text_is_one_document(run):
    code, _, err = run("texts.txt", "--out", "encoder")
    assert code == 1
    assert "D169" in err
    assert "blank line" in err


def test_quiet_prints_the_result_and_nothing_else(run):
    code, out, err = run("texts.txt", "--document-per-line", "--out", "encoder", "--quiet")
    assert (code, err) == (0, "")
    assert "guessed right" in out
    assert "Saved encoder." in out
    assert "Next:" not in out


def test_an_unknown_language_is_refused(run, tmp_path):
    code, _, err = run("texts.txt", "--document-per-line", "--out", "encoder", "--language", "xx")
    assert code == 2
    assert err.startswith("U323 --language: 'xx'")
    assert not (tmp_path / "encoder").exists()
