import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from manylabel.modeling.native import kernels
from manylabel.modeling.native import library as native

REPOSITORY = Path(__file__).resolve().parents[4]
SOURCE = REPOSITORY / "src" / "manylabel" / "modeling" / "native" / "source"


def constant(file, name):
    text = (SOURCE / file).read_text(encoding="utf-8")
    value = text.split(f"{name} = ", 1)[1].split(";")[0].split(",")[0]
    factor, _, shift = value.partition("<<")
    return int(factor) << int(shift or 0)


def build_script():
    spec = importlib.util.spec_from_file_location("hatch_build", REPOSITORY / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(
    not sys.platform.startswith("linux")
    or platform.machine() != "x86_64"
    or shutil.which("g++") is None
    or os.environ.get("MANYLABEL_KERNELS", "").lower() in ("off", "0", "no", "false")
    or native.library_path() is None,
    reason="kernels are for Linux on x86-64 with AVX2, where there is g++",
)
def test_where_there_is_a_compiler_the_installation_has_kernels():
    assert native.library() is not None


def test_constants_are_those_of_the_source():
    assert constant("attention.cpp", "LONGEST") == kernels.LONGEST_TEXT
    assert constant("attention.cpp", "WIDEST") == kernels.WIDEST_HEAD
    assert constant("optimizer.cpp", "CHUNK") == kernels.CHUNK


@pytest.fixture
def reloaded():
    native._loaded.cache_clear()
    yield
    native._loaded.cache_clear()


@pytest.mark.skipif(native.library() is None, reason="no C++ kernels were built for this processor")
@pytest.mark.usefixtures("reloaded")
def test_looking_whether_threads_are_shared_leaves_their_number(monkeypatch):
    before = torch.get_num_threads()
    assert native.library() is not None
    assert torch.get_num_threads() == before
    native._loaded.cache_clear()
    monkeypatch.setattr(torch, "get_num_threads", lambda: before)  # As with an OpenMP library of its own.
    assert native.library() is None


@pytest.mark.skipif(native.library() is None, reason="no C++ kernels were built for this processor")
@pytest.mark.usefixtures("reloaded")
def test_a_library_of_another_source_or_damaged_is_not_used(monkeypatch, tmp_path):
    monkeypatch.setattr(native, "source_digest", lambda: "another")
    assert native.library() is None
    native._loaded.cache_clear()
    damaged = tmp_path / "kernels.so"
    damaged.write_bytes(b"not a library")
    monkeypatch.setattr(native, "library_path", lambda: damaged)
    assert native.library() is None


def test_an_older_processor_has_no_kernels():
    code = "from manylabel.modeling.native.library import library; print(library())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"ATEN_CPU_CAPABILITY": "default"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "None"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"MANYLABEL_KERNELS": "off"}, "MANYLABEL_KERNELS=off"),
        ({"CXX": "no-such-compiler"}, "apt install g++"),
    ],
)
def test_why_nothing_is_compiled_is_said(monkeypatch, environment, said):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "platform", "linux")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert said in build_script().why_nothing_is_compiled([environment.get("CXX", sys.executable)])


def test_a_compiler_that_fails_is_named_with_the_level(tmp_path):
    assert "/bin/false failed for x86-64-v3" in build_script().compile_all(SOURCE, ["/bin/false"], tmp_path)
    assert "cannot be run" in build_script().compile_all(SOURCE, [str(tmp_path)], tmp_path)


class Told:
    """Stands for hatchling's application: what it shows a user."""

    def __init__(self):
        self.warnings = []

    def display_warning(self, text):
        self.warnings.append(text)


@pytest.mark.parametrize("version", ["standard", "editable"])
@pytest.mark.parametrize("works", [True, False])
def test_an_installation_has_all_libraries_or_none_and_says_why(monkeypatch, tmp_path, version, works):
    """With a compiler that writes files; libraries beside the source are left alone unless this one is editable."""
    script, told = build_script(), Told()
    native_folder = tmp_path / script.NATIVE
    (native_folder / "source").mkdir(parents=True)
    former = native_folder / "kernels-x86-64-v3.so"
    former.write_text("of a former installation")
    compiler = tmp_path / "compiler"
    compiler.write_text(
        '#!/bin/sh\nfor last; do :; done\necho made > "$last"\n' + f"exit {0 if works else 1}\n"
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.delenv("MANYLABEL_KERNELS", raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "platform", "linux")
    hook = script.KernelBuildHook(str(tmp_path), {}, None, None, str(tmp_path), "wheel", told)
    build_data = {"force_include": {}}
    hook.initialize(version, build_data)
    packaged = {
        Path(place).name: Path(made).read_text() for made, place in build_data["force_include"].items()
    }
    hook.finalize(version, build_data, "")
    inside = {path.name: path.read_text() for path in native_folder.glob("*.so")}
    made = {f"kernels-{level}.so": "made\n" for level in script.REGISTERS} if works else {}
    assert packaged == (made if version == "standard" else {})
    assert inside == (made if version == "editable" else {former.name: "of a former installation"})
    assert build_data.get("tag") == ("py3-none-linux_x86_64" if works else None)
    assert bool(told.warnings) == (not works)
    assert not hook._scratch.exists()


def test_levels_are_those_that_are_loaded():
    assert set(build_script().REGISTERS) == set(native.VARIANTS.values())
