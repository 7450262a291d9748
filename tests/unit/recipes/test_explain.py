"""`manylabel explain` from end to end: JSON, terminal, page, and refusals."""

import json
import re

import pytest

from manylabel.cli.main import main
from manylabel.errors import BundleError, UsageError
from manylabel.inference.explain import ExplainOptions
from manylabel.recipes.explain import explain_text

HOSTILE = "[red]late[/red] \x1b[31mparcel \u202eevil\u2069 :smile: <script>alert(1)</script> \x9b2J שלום"
MASKING = ("--method", "occlusion")


@pytest.fixture
def command(tiny_model, capsys):
    """A function that runs `manylabel explain` on the tiny model: exit code, standard output, standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main(["explain", str(tiny_model), *map(str, arguments)])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


def test_python_and_command_give_the_same_numbers(command, tiny_model, tmp_path):
    page = tmp_path / "page.html"
    text = "my parcel is late, money back please"
    options = ("--label", "refund", "--label", "praise", "--steps", 32)
    code, out, err = command(text, *options, "--json", "--html", page)
    assert (code, err) == (0, "")
    content = json.loads(out)
    assert content.pop("html") == str(page)
    expected = explain_text(tiny_model, text, options=ExplainOptions(("refund", "praise"), steps=32))
    assert content == json.loads(json.dumps(expected.to_json()))
    assert "parcel" in page.read_text("utf-8")


def test_the_terminal_says_sign_strength_and_caution(command):
    code, out, err = command("my parcel is late", "--label", "delivery")
    assert (code, err) == (0, "")
    assert re.search(r"delivery: probability 0\.\d{3}, threshold 0\.\d{3}, decided (yes|no)\n", out)
    rows = [line.split() for line in out.splitlines() if re.match(r" +[+-]\d\.\d\d +[+-]", line)]
    assert [row[2] for row in rows] == ["my", "parcel", "is", "late"]
    for weight, bar, _ in rows:
        assert set(bar) == {weight[0]}
    assert max(len(bar) for _, bar, _ in rows) == 10
    assert "most for it:" in out
    assert "rank correlation with masking word by word: " in out
    assert "It is no proof" in out


def test_colour_is_used_where_there_is_any(command, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    _, out, _ = command("my parcel is late", "--label", "delivery")
    assert "\x1b[" in out
    plain = re.sub(r"\x1b\[[0-9;]*m", "", out)
    assert "\x1b" not in plain
    assert re.search(r"[+-]\d\.\d\d +[+-]+ +parcel", plain)


def test_hostile_texts_do_nothing_to_a_terminal(command):
    for options in (("--steps", 8), (*MASKING, "--quiet"), (*MASKING, "--json")):
        code, out, _ = command(HOSTILE, *options)
        assert code == 0
        assert out.replace("\n", "").isprintable()
    _, out, _ = command(HOSTILE, "--steps", 8)
    for shown in ("[red]late[/red]", ":smile:", "\N{REPLACEMENT CHARACTER}[31mparcel", "evil"):
        assert shown in out


def hidden(out):
    """How many words the table of a long text does not show."""
    return sum(map(int, re.findall(r"\((\d+) of little weight\)", out)))


def test_weak_words_of_long_texts_share_a_row(command):
    _, out, _ = command("order " * 62, *MASKING, "--label", "refund")
    rows = [line for line in out.splitlines() if re.fullmatch(r" +[-+.\d]+ .* order *", line)]
    assert len(rows) + hidden(out) == 62
    _, short, _ = command("\u200b " * 50 + "late parcel", *MASKING, "--label", "delivery")
    assert "of little weight" not in short
    _, long, _ = command("\u200b " * 70 + "late parcel " + "\u200b " * 3, *MASKING, "--label", "delivery")
    assert "(70 of little weight)" in long
    assert "(3 of little weight)" in long


def test_an_empty_text_is_answered(command):
    code, out, _ = command("", "--label", "refund")
    assert code == 0
    assert "warning: the text is empty" in out
    assert "weight" not in out.split("note:")[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("x", "--label", "refnd"), r"U262 .*did you mean 'refund'\?"),
        (("x", "--pair", "y"), "U205 "),
        (("x", "--method", "magic"), "magic"),
        (("x", "--steps", 1), "--steps.*greater than or equal to 8"),
        ((), "Missing argument 'TEXT'"),
    ],
)
def test_wrong_usage_is_said(command, arguments, said):
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert re.search(said, err)


def test_a_page_that_cannot_be_written_is_refused_first(tmp_path):
    for page in (tmp_path, tmp_path / "absent" / "page.html"):
        with pytest.raises(UsageError, match="U209"):
            explain_text(tmp_path / "no-model", "x", page=page)
    with pytest.raises(BundleError):
        explain_text(tmp_path / "no-model", "x", page=tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []
