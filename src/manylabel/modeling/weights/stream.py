"""A safetensors file written tensor by tensor, so that a model larger than the memory can be converted.

The library's own `save_file` wants all tensors at once and copies them. Format: eight bytes with the length of a JSON
header, the header, the numbers (huggingface/safetensors, README "Format"). Called by recipes/import_tf.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

ALIGNMENT = 8
"""The header is filled up with spaces, so that the numbers begin at a multiple of this."""
FLOAT32_BYTES = 4


def write_float32(
    path: Path,
    shapes: Iterable[tuple[str, tuple[int, ...]]],
    read: Callable[[str], npt.NDArray[np.float32]],
) -> None:
    """Write fp32 tensors of these names and shapes in this order; `read` gives one at a time.

    Raises ValueError when `read` gives another shape than announced; OSError where nothing can be written.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    listed = list(shapes)
    end = 0
    for name, shape in listed:
        start, end = end, end + FLOAT32_BYTES * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name, shape in listed:
            array = read(name)
            if array.shape != shape:
                raise ValueError(f"{name} is {array.shape}, announced was {shape}")
            file.write(np.ascontiguousarray(array, np.dtype("<f4")).data)
