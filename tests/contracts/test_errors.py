"""Each error code has one meaning: it is written in one function, or its meaning stands here.

Users search for codes. A code that is written in two places is fine where both say the same; this list is where that
is looked at. A new code takes a free number.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "manylabel"
CODE = re.compile(r"[A-Z]\d{3}")

SHARED = {
    "B410": "a saved model lacks a file or has one that does not belong to it",
    "B424": "a manifest does not fit what the folder holds",
    "D101": "a file does not exist or cannot be opened",
    "D103": "a file is of a kind that is not read",
    "D104": "a file or table has no rows",
    "D106": "bytes that are not text in the file's encoding",
    "D108": "quotes that are not closed properly",
    "D109": "column names occur twice",
    "D112": "something other than a JSON number in the place of one",
    "D115": "a column with values of several types",
    "D121": "there is no column of this name",
    "D124": "the labels cannot be told from the file",
    "D141": "a text is empty",
    "D142": "something other than a text in the place of one",
    "D143": "ids that are empty or occur twice",
    "D144": "two arguments of different length",
    "D150": "there is no column with a label, or with the labels",
    "D151": "a label that the model does not know, not used",
    "D152": "a label cell that is not 0, 1 or -1",
    "D154": "an unknown label in a list of labels",
    "D160": "too few rows",
    "D178": "no file of suspected labels",
    "D189": "ids of two files that do not belong together, or occur twice",
    "D192": "a translation that is not text",
    "E111": "a model that wants to run its own code",
    "E132": "a JSON file of a checkpoint that cannot be used",
    "E134": "weights that are damaged or incomplete",
    "E157": "an entry of a TensorFlow index that is damaged",
    "E162": "a TensorFlow checkpoint whose tensors contradict its layers",
    "E164": "a bert_config.json that cannot be used",
    "E303": "a vocabulary that is none of WordPiece",
    "T301": "a loss, gradient or logit that is not a number",
    "T310": "a training or search that was stopped and can go on",
    "U201": "the output folder exists already",
    "U204": "the output is the input",
    "U205": "pairs for a model of single texts, or the other way round",
    "U207": "the output folder holds something else, which would be lost",
    "U210": "the output folder is or holds the input",
    "U221": "a work folder that cannot be written",
    "U224": "an unfinished run that cannot be gone on with",
    "U281": "a goal that cannot be guaranteed",
    "U301": "seeds that are not different numbers",
}


def codes_of(tree: ast.AST, name: str = "") -> Iterator[tuple[str, str]]:
    """Every string that is a code, with the function or class that it is written in."""
    for child in ast.iter_child_nodes(tree):
        inside = name
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = f"{name}.{child.name}" if name else child.name
        if isinstance(child, ast.Constant) and isinstance(child.value, str) and CODE.fullmatch(child.value):
            yield child.value, inside
        yield from codes_of(child, inside)


def places_of_codes() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for code, place in codes_of(ast.parse(path.read_text("utf-8"))):
            found.setdefault(code, set()).add(f"{path.relative_to(SOURCE).as_posix()}: {place}")
    return found


def test_the_search_finds_codes_where_they_stand():
    tree = ast.parse("class A:\n  def f(self):\n    return Finding('U100', 'U10', 'x U100')\nB = 'D200'")
    assert sorted(codes_of(tree)) == [("D200", ""), ("U100", "A.f")]


def test_a_code_stands_in_one_function_or_is_explained_here():
    twice = {code: places for code, places in places_of_codes().items() if len(places) > 1}
    assert {code: sorted(places) for code, places in twice.items() if code not in SHARED} == {}


def test_explained_codes_exist_and_no_two_mean_the_same():
    assert set(SHARED) - set(places_of_codes()) == set()
    assert len(set(SHARED.values())) == len(SHARED)
