import importlib.util
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
    or shutil.which("c++") is None
    or native.library_path() is None,
    reason="kernels are for Linux on x86-64 with AVX2, where there is a compiler",
)
def test_where_there_is_a_compiler_the_installation_has_kernels():
    assert native.library() is not None


def test_constants_are_those_of_the_source():
    assert constant("attention.cpp", "LONGEST") == kernels.LONGEST_TEXT
    assert constant("attention.cpp", "WIDEST") == kernels.WIDEST_HEAD
    assert constant("optimizer.cpp", "CHUNK") == kernels.CHUNK


@pytest.mark.skipif(native.library() is None, reason="no C++ kernels were built for this processor")
def test_kernels_and_pytorch_share_their_threads():
    """With a pool of their own, one would wait for the cores that the other keeps busy."""
    before = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert native.library().default_threads() == count
    finally:
        torch.set_num_threads(before)


def test_an_older_processor_has_no_kernels():
    code = "from manylabel.modeling.native.library import library; print(library())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"ATEN_CPU_CAPABILITY": "default"},
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
    assert said in build_script()._why_not([environment.get("CXX", sys.executable)])


def test_levels_are_those_that_are_loaded():
    assert set(build_script().REGISTERS) == set(native.VARIANTS.values())
