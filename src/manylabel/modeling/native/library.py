"""The shared library of C++ kernels for this processor, where the installation built one; called by `kernels`.

`hatch_build.py` compiles `source/` for two levels of x86-64 when manylabel is installed on Linux and finds g++.
Elsewhere everything runs on PyTorch's own operators: slower, equal up to rounding but for dropout's random numbers.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from ctypes import c_char_p, c_float, c_int, c_int64, c_uint64, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

VARIANTS = {"AVX512": "x86-64-v4", "AVX2": "x86-64-v3"}
"""What PyTorch calls the processor -> the level of x86-64 its library is compiled for."""

POINTER, SIZE, COUNT = c_void_p, c_int64, c_int
BY_FORMAT: dict[str, tuple[Any, ...]] = {
    "draw_mask": (POINTER, SIZE, c_uint64, c_int, c_float, COUNT),
    "join": (*[POINTER] * 8, SIZE, SIZE, c_float, COUNT),
    "unjoin": (*[POINTER] * 12, SIZE, SIZE, COUNT),
    "gelu": (POINTER, POINTER, SIZE, COUNT),
    "gelu_back": (*[POINTER] * 4, SIZE, SIZE, COUNT),
}
"""Kernels there are for each of `FORMATS`, with the types of what they take; their results lie where pointers say."""
FORMATS = {torch.float32: "fp32", torch.bfloat16: "bf16"}


class StepNumbers(ctypes.Structure):
    """`Step` of optimizer.cpp."""

    _fields_ = tuple(
        (name, c_float)
        for name in ("scale", "kept", "rate", "root", "new_mean", "old_square", "new_square", "epsilon")
    )


@dataclass(frozen=True, eq=False)
class Library:
    """The functions of the library, by name and number format, or by name where the format does not matter."""

    by_format: Mapping[tuple[str, torch.dtype], Any]
    attend: Any
    attend_back: Any
    chunk_squares: Any
    adamw: Any


class _Switch:
    """Whether the library is used."""

    is_on = True


def library() -> Library | None:
    """The library for this processor; None where there is none."""
    return _loaded() if _Switch.is_on else None


def level() -> str:
    """The level of x86-64 that the library in use is compiled for, or `none`."""
    return "none" if library() is None else VARIANTS[torch.backends.cpu.get_cpu_capability()]


@contextmanager
def without_library() -> Iterator[None]:
    """Within the block PyTorch's own operators do all: what tests and benchmarks compare with."""
    before, _Switch.is_on = _Switch.is_on, False
    try:
        yield
    finally:
        _Switch.is_on = before


def library_path() -> Path | None:
    """Where the library for this processor lies, if it was built; None for processors that none is made for."""
    level = VARIANTS.get(torch.backends.cpu.get_cpu_capability())
    return None if level is None else Path(__file__).parent / f"kernels-{level}.so"


def source_digest() -> str:
    """SHA-256 of the source that lies beside this module; `hatch_build.py` writes the same into what it compiles."""
    digest = hashlib.sha256()
    for path in sorted((Path(__file__).parent / "source").iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def _loaded() -> Library | None:
    """The library, if it can be loaded, is made of this source, and shares its threads with PyTorch."""
    path = library_path()
    if path is None or not path.is_file():
        return None
    try:
        opened = ctypes.CDLL(str(path))
        told = _typed(opened, "source_digest", (), c_char_p)().decode()
    except (
        OSError,
        AttributeError,
    ):  # no OpenMP library, a folder without the right to execute, a damaged file
        return None
    if told != source_digest() or not _shares_threads(opened):
        return None
    return Library(
        {
            (name, dtype): _typed(opened, f"{name}_{suffix}", types)
            for name, types in BY_FORMAT.items()
            for dtype, suffix in FORMATS.items()
        },
        _typed(opened, "attend", (*[POINTER] * 3, SIZE, *[COUNT] * 3)),
        _typed(opened, "attend_back", (*[POINTER] * 4, SIZE, *[COUNT] * 3)),
        _typed(opened, "chunk_squares", (POINTER, POINTER, SIZE, POINTER, COUNT)),
        _typed(opened, "adamw", (*[POINTER] * 6, SIZE, ctypes.POINTER(StepNumbers), COUNT)),
    )


def _shares_threads(opened: ctypes.CDLL) -> bool:
    """Whether PyTorch, which is loaded already, uses the same OpenMP library.

    With pools of their own, the threads of one would wait for the cores that those of the other keep busy.
    """
    before = torch.get_num_threads()  # Asked for the first time, PyTorch sets its number.
    opened.set_num_threads(before + 1)
    try:
        return torch.get_num_threads() == before + 1
    finally:
        opened.set_num_threads(before)


def _typed(opened: ctypes.CDLL, name: str, types: tuple[Any, ...], result: Any = None) -> Any:  # noqa: ANN401
    function = getattr(opened, name)
    function.argtypes, function.restype = types, result
    return function
