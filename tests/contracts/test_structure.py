"""Rules about the source as a whole: layers, sizes, no pickle, public names, pinned versions."""

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "src" / "manylabel"
MODULES = sorted(SOURCE.rglob("*.py"))
TEXT_FILES = [
    path
    for pattern in (
        "src/**/*",
        "tests/**/*",
        "scripts/*",
        "benchmarks/**/*",
        "docs/**/*",
        "examples/*",
        ".ci/*",
        "*",
    )
    for path in REPOSITORY.glob(pattern)
    if path.suffix in {".py", ".md", ".toml", ".txt", ".yaml", ".json", ".csv", ""} and path.is_file()
]


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def test_a_lower_layer_never_imports_a_higher_one(monkeypatch, capsys):
    monkeypatch.chdir(REPOSITORY)
    status = lint_imports(config_filename=str(REPOSITORY / "pyproject.toml"), no_cache=True, no_logo=True)
    assert status == 0, capsys.readouterr().out


def test_sizes_stay_within_their_limits():
    done = subprocess.run(
        [sys.executable, "scripts/check_sizes.py", "src"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_every_module_says_what_it_is_for():
    silent = [
        relative(path)
        for path in MODULES
        if (text := path.read_text("utf-8")) and not ast.get_docstring(ast.parse(text))
    ]
    assert silent == []


PICKLERS = {"pickle", "cPickle", "joblib", "marshal", "shelve", "dill", "cloudpickle"}


def ways_to_run_a_file(tree: ast.AST) -> Iterator[str]:
    """Imports and calls through which a data file could run code."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names if name.name.split(".")[0] in PICKLERS)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in PICKLERS:
                yield module
            case ast.Call(func=ast.Name(id="eval" | "exec" as name)):
                yield f"{name}("
            case ast.Attribute(value=ast.Name(id="torch"), attr="load" | "save" as name):
                yield f"torch.{name}"
            case ast.Attribute(attr="read_pickle" | "to_pickle" as name):
                yield name
            case ast.keyword(arg="allow_pickle", value=value) if not (
                isinstance(value, ast.Constant) and value.value is False
            ):
                yield "allow_pickle"
            case ast.keyword(arg="trust_remote_code", value=ast.Constant(value=True)):
                yield "trust_remote_code"


@pytest.mark.parametrize(
    "code", ["import pickle", "eval('1')", "torch.load(p)", "np.load(p, allow_pickle=True)"]
)
def test_the_search_for_pickle_finds_it(code):
    assert list(ways_to_run_a_file(ast.parse(code)))


def test_no_file_is_ever_run():
    found = {relative(path): list(ways_to_run_a_file(ast.parse(path.read_text("utf-8")))) for path in MODULES}
    assert {path: ways for path, ways in found.items() if ways} == {}


def modules_with_all() -> list[str]:
    return [
        relative(path).removeprefix("src/").removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in MODULES
        if "__all__" in path.read_text("utf-8")
    ]


@pytest.mark.parametrize("name", modules_with_all())
def test_public_names_are_sorted_and_exist(name):
    module = importlib.import_module(name)
    assert list(module.__all__) == sorted(set(module.__all__))
    assert [public for public in module.__all__ if not hasattr(module, public)] == []


def test_texts_name_no_place_of_a_machine():
    # Put together here, so that this file passes its own test.
    pattern = re.compile(
        "|".join(["/" + "work/", "/" + "root/", "/" + "home/[a-z]", "issue" + r" #?\d", "TO" + "DO:"])
    )
    found = [
        relative(path) for path in TEXT_FILES if pattern.search(path.read_text("utf-8", errors="replace"))
    ]
    assert sorted(set(found)) == []


def test_the_architecture_names_files_that_exist():
    named = re.findall(
        r"`([a-z_]+/(?:[a-z_]+/)*[a-z_]+\.py)`", (REPOSITORY / "ARCHITECTURE.md").read_text("utf-8")
    )
    assert [path for path in named if not (SOURCE / path).exists() and not (REPOSITORY / path).exists()] == []


def test_every_dependency_has_an_exact_version():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[<>=\[ ]", requirement)[0] for requirement in wanted}
    pinned = {
        line.split("==")[0] for line in (REPOSITORY / "constraints.txt").read_text("utf-8").splitlines()
    }

    def canonical(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    assert {canonical(name) for name in names} <= {canonical(name) for name in pinned}
