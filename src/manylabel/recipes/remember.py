"""Rows that chose something count as seen from then on; called by the recipes that make a new version of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from manylabel.bundle.contents import Bundle
from manylabel.data.duplicates import raw_fingerprints, text_fingerprints
from manylabel.data.sketches import Sketches, text_sketches


def remembering(bundle: Bundle, texts: Sequence[str]) -> Bundle:
    """The bundle, in which these texts count as calibration rows: a later evaluation on them says so."""
    normalised = text_fingerprints(texts)
    parts: dict[str, npt.NDArray[np.uint64]] = dict(bundle.seen_parts)
    parts["calibration"] = np.union1d(parts.get("calibration", normalised[:0]), normalised)
    if "identical" in parts:
        parts["identical"] = np.union1d(parts["identical"], raw_fingerprints(texts))
    sketches = bundle.seen_sketches
    if sketches is not None:
        sketches = joined_sketches(sketches, text_sketches(texts))
    return replace(
        bundle,
        seen_texts=np.union1d(bundle.seen_texts, normalised),
        seen_parts=parts,
        seen_sketches=sketches,
    )


def joined_sketches(some_MB: Sketches, others_MB: Sketches) -> Sketches:
    """The different sketches of both, in rising order."""
    whole_MB = np.concatenate([some_MB, others_MB])
    width = whole_MB.shape[1]
    different = np.unique(np.ascontiguousarray(whole_MB).view(f"V{width}").ravel())
    return different.view(np.uint8).reshape(-1, width)
