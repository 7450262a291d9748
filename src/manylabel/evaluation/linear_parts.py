"""What both linear models share: the columns they keep, and their arrays in files. Called by `baseline`, `nb_linear`.

Letters: N texts, K columns in use, L labels.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Arrays = Mapping[str, npt.NDArray[np.generic]]
Kinds = Mapping[str, tuple[type[np.generic], str]]
"""Type and shape of each stored array by its name; the letters of a shape stand for sizes."""


def named_arrays(model: object, kinds: Kinds) -> dict[str, npt.NDArray[np.generic]]:
    """The fields of `model` that `kinds` names, for a file without pickle."""
    return {name: np.ascontiguousarray(getattr(model, name)) for name in kinds}


def array_problems(arrays: Arrays, kinds: Kinds, *, num_labels: int) -> list[str]:
    """Arrays that are missing, of another type or shape than stated, or hold a number that is not finite.

    K is the length of `columns_K`, L `num_labels`.
    """
    if missing := [f"{name} is missing" for name in kinds if name not in arrays]:
        return missing
    sizes = {"K": arrays["columns_K"].size, "L": num_labels, "1": 1}
    problems = []
    for name, (kind, letters) in kinds.items():
        array, shape = arrays[name], tuple(sizes[letter] for letter in letters)
        if array.dtype != kind or array.shape != shape:
            problems.append(f"{name} is {array.dtype} {array.shape}, expected {np.dtype(kind)} {shape}")
        elif not np.isfinite(array).all():
            problems.append(f"{name} holds a number that is not finite")
    return problems


def choose_columns(
    texts_with_K: npt.NDArray[np.int64], num_texts: int, *, min_texts: int, most: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """The columns that `min_texts` or more of the texts hold, those of the most texts where they are more than `most`.

    `texts_with_K` counts the texts of every column there could be. Returns the columns in rising order and their
    smoothed inverse document frequency ln((1 + N) / (1 + n)) + 1.
    """
    columns = np.flatnonzero(texts_with_K >= min_texts)
    if len(columns) > most:
        most_texts_first = np.argsort(-texts_with_K[columns], kind="stable")
        columns = np.sort(columns[most_texts_first[:most]])
    frequency = np.log((1.0 + num_texts) / (1.0 + texts_with_K[columns])) + 1.0
    return columns.astype(np.int32), frequency.astype(np.float32)
