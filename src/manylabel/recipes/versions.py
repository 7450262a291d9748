"""A model with other thresholds as a new version beside the old one; called by `manylabel thresholds`."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import count
from pathlib import Path

from manylabel.bundle import files
from manylabel.bundle.card import GOAL_FITTED
from manylabel.bundle.contents import Bundle
from manylabel.bundle.save import save_bundle
from manylabel.errors import Finding, UsageError, counted
from manylabel.recipes.corpora import all_texts
from manylabel.recipes.new_thresholds import NewThresholds
from manylabel.recipes.provenance import corpus_fingerprint
from manylabel.recipes.remember import remembering
from manylabel.recipes.zones import ZONES_FITTED


def version_target(model: Path, bundle: Bundle, out: Path | None) -> Path:
    """Where the new version goes: `out`, or the next free of MODEL-2, MODEL-3; raises UsageError where it cannot."""
    target = _next_version(model, bundle) if out is None else out
    place, source = target.resolve(), model.resolve()
    if source in (place, *place.parents):
        found = "the model's own folder" if place == source else "in the model's own folder"
        raise UsageError(Finding("U282", str(target), found, "another folder", "choose another --out"))
    files.check_target(target, overwrite=False)
    files.require_writable(target)
    return target


def _next_version(model: Path, bundle: Bundle) -> Path:
    """The number at the end of a name counts versions only where the model is one."""
    stem = model.resolve().name
    if GOAL_FITTED in bundle.provenance.training:
        stem = re.sub(r"-\d+$", "", stem)
    names = (model.with_name(f"{stem}-{number}") for number in count(2))
    return next(name for name in names if not name.exists())


def save_version(bundle: Bundle, new: NewThresholds, target: Path) -> None:
    """Save the model with its new thresholds as the new folder `target`.

    The figures of the old thresholds are left out: they no longer hold. Raises what `save_bundle` raises.
    """
    training = {**bundle.provenance.training, **_facts(bundle, new)}
    training.pop(ZONES_FITTED, None)
    if new.zones.goal is not None:
        training[ZONES_FITTED] = new.zones.goal
    provenance = bundle.provenance.model_copy(update={"training": training})
    version = replace(
        remembering(bundle, all_texts(new.corpus)),
        thresholds=new.thresholds,
        zones=new.zones.zones,
        baseline=new.baseline,
        evaluation=None,
        report=None,
        provenance=provenance,
    )
    save_bundle(version, target)


def _facts(bundle: Bundle, new: NewThresholds) -> dict[str, str | int | float | None]:
    """What was done, for the manifest; goals of single labels are in decisions.json."""
    wish, own = new.wish, len(new.wish.per_label)
    goal = str(wish.missed_share or wish.goal or ("" if own else bundle.settings.decisions.goal))
    words = [goal] if goal else []
    words += [f"{'another' if goal else 'one'} for {counted(own, 'label')}"] if own else []
    return {
        GOAL_FITTED: ", ".join(words),
        "thresholds guaranteed labels": len(new.guaranteed),
        "thresholds rows": len(new.corpus),
        "thresholds rows sha256": corpus_fingerprint(new.corpus),
    }
