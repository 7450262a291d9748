"""Swap two names of the file system in one step; called by files.py when a model replaces another."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

AT_FDCWD = -100
RENAME_EXCHANGE = 2
"""From linux/fcntl.h and linux/fs.h; see renameat2(2)."""


def exchange(first: Path, second: Path) -> bool:
    """Whether the two names were swapped; False, and nothing changed, where the system cannot do it.

    Both names exist at every moment. Needs Linux, a C library with renameat2 and a file system that supports it.
    """
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    if renameat2 is None:
        return False
    failed = renameat2(
        ctypes.c_int(AT_FDCWD),
        ctypes.c_char_p(os.fsencode(first)),
        ctypes.c_int(AT_FDCWD),
        ctypes.c_char_p(os.fsencode(second)),
        ctypes.c_uint(RENAME_EXCHANGE),
    )
    return not failed
