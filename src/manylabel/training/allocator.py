"""Keep freed memory in the process while training on a CPU; called by the loop.

Each step allocates and frees the same few hundred megabytes. glibc hands large blocks back to the system at once and
the system clears them again at the next step: 229-241 texts/s with these options against 210-217 without (default
encoder, bf16, 32 texts of about 20 tokens, 2 cores).
"""

from __future__ import annotations

import ctypes
import sys

# malloc.h of glibc: option numbers of mallopt(3).
M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_MAX = -4
LARGEST_INT = 2**31 - 1
TOP_PAD_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Tell glibc's malloc to reuse large blocks; False where the C library is another one."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, LARGEST_INT), (M_TOP_PAD, TOP_PAD_BYTES))
    return all(bool(mallopt(option, value)) for option, value in options)
