"""Heavy libraries are imported only where they are used; each case is a fresh interpreter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
HEAVY = (
    "torch",
    "transformers",
    "pandas",
    "sklearn",
    "scipy",
    "pyarrow",
    "tokenizers",
    "numpy",
    "datasketch",
)
IMPORT_ALL = """
import importlib, pkgutil
package = importlib.import_module("manylabel.{package}")
for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
    importlib.import_module(module.name)
"""
HELP = """
from manylabel.cli.main import main
sys.argv = ["manylabel", "--help"]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
"""


def imported_after(code: str) -> set[str]:
    """Top-level names in sys.modules after running `code` in a new interpreter."""
    program = f"import sys\n{code}\nimport json\nprint()\nprint(json.dumps(sorted(sys.modules)))"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_importing_manylabel_is_light():
    assert imported_after("import manylabel").isdisjoint({*HEAVY, "pydantic", "typer", "rich"})


def test_help_is_light():
    assert imported_after(HELP).isdisjoint(HEAVY)


def test_settings_need_no_numeric_library():
    assert imported_after("import manylabel.config.load").isdisjoint(HEAVY)


@pytest.mark.parametrize("package", ["data", "text", "decisions", "evaluation", "report"])
def test_works_without_torch(package):
    assert imported_after(IMPORT_ALL.format(package=package)).isdisjoint({"torch", "transformers"})
