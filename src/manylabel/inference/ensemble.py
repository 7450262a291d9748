"""Several models as one scorer: each pass encodes what it must, scores it, and the blend makes one logit of all.

Built by `load`. Texts go through in parts of a bounded number, so memory beside the weights does not grow with them.
A text is encoded once for all networks with the same tokenizer, and a network scores it once a view, however many
components ask for the two. Networks run one after the other, each over texts sorted by length.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from manylabel.bundle.ensemble import Component, LinearModel
from manylabel.data.pairs import joined
from manylabel.decisions.blend import Blend
from manylabel.inference.backends.base import Backend
from manylabel.inference.scorer import (
    Flags,
    Logits,
    OnBatch,
    Translations,
    joined_parts,
    passes,
    score,
)
from manylabel.text.folding import fold
from manylabel.text.tokenizer import TextTokenizer
from manylabel.text.views import (
    HEAD,
    WINDOWS,
    TranslatedText,
    encode_view,
    translation_column,
    with_translations,
)
from manylabel.values import Encodings

RAW, FOLDED = "raw", "folded"


@dataclass(frozen=True, eq=False)
class ScoredNetwork:
    """A network ready to score, and its tokenizer."""

    backend: Backend
    tokenizer: TextTokenizer


Models = Mapping[str, ScoredNetwork | LinearModel]


class EnsembleScorer:
    """Components by name, each the mean of its models' probabilities, and the blend of their logits."""

    def __init__(
        self,
        models: Models,
        components: Sequence[Component],
        blend: Blend,
        *,
        token_budget: int,
        folds: bool = False,
    ) -> None:
        """Compose the parts; nothing is loaded here. `folds` undoes disguises before the linear models read a text.

        Networks with equal tokenizers share one, so that it encodes a text once.
        """
        shared: dict[str, TextTokenizer] = {}
        self._keys: dict[str, str] = {}
        self._models: dict[str, ScoredNetwork | LinearModel] = {}
        # By name, and so in the same order whatever the order given: sums then have the same last bits.
        for name, model in sorted(models.items()):
            if isinstance(model, LinearModel):
                self._models[name] = model
                continue
            self._keys[name] = model.tokenizer.fingerprint()
            tokenizer = shared.setdefault(self._keys[name], model.tokenizer)
            self._models[name] = ScoredNetwork(model.backend, tokenizer)
        self._components = {component.name: component for component in components}
        self._blend, self._token_budget, self._folds = blend, token_budget, folds

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """That of the network whose name comes first; None without networks."""
        return next(iter(self._networks().values())).tokenizer if self._keys else None

    @property
    def folds(self) -> bool:
        """Whether every model undoes disguises."""
        networks = self._networks().values()
        linear = len(networks) < len(self._models)
        return all(network.tokenizer.folds for network in networks) and (self._folds or not linear)

    def with_folding(self) -> EnsembleScorer:
        """The same models, which all undo disguises first; a component's view `raw` stays as it is."""
        models: dict[str, ScoredNetwork | LinearModel] = {
            name: model
            if isinstance(model, LinearModel)
            else ScoredNetwork(model.backend, model.tokenizer.folded)
            for name, model in self._models.items()
        }
        return EnsembleScorer(
            models,
            tuple(self._components.values()),
            self._blend,
            token_budget=self._token_budget,
            folds=True,
        )

    def truncated(self, texts: Sequence[str], pairs: Sequence[str] | None) -> Flags:
        """Which texts are longer than one of the networks reads."""
        cut_N = np.zeros(len(texts), np.bool_)
        for tokenizer in {id(each.tokenizer): each.tokenizer for each in self._networks().values()}.values():
            cut_N |= tokenizer.encode(texts, pairs).truncated_N
        return cut_N

    def logits(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        *,
        translations: Translations | None = None,
        on_batch: OnBatch | None = None,
    ) -> tuple[Logits, Flags]:
        """See `Scorer.logits`. A text counts as cut where a network left out a part of it in one of its views."""
        if translations is not None:
            texts = with_translations(texts, translations)
        parts = self._parts(texts, pairs, on_batch)
        return joined_parts([(self._blend.apply(components_CNL), cut_N) for components_CNL, cut_N in parts])

    def component_logits(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Logits:
        """logits_CNL of the C components, in the order of the blend's: what it weighs."""
        parts = [components_CNL for components_CNL, _ in self._parts(texts, pairs, None)]
        if parts:
            return np.concatenate(parts, axis=1)
        return np.zeros((len(self._blend.components), 0, len(self._blend.labels)), np.float32)

    def _parts(
        self, texts: Sequence[str], pairs: Sequence[str] | None, on_batch: OnBatch | None
    ) -> Iterator[tuple[Logits, Flags]]:
        """The components' logits of a bounded number of texts after the other, and which of them were cut."""
        wanted = self._wanted()
        tell = _Progress(on_batch, num_passes=len(wanted))
        for some, of_pairs in passes(texts, pairs):
            scored, cut_N = self._scored(wanted, some, of_pairs, tell)
            yield np.stack([self._component(name, scored) for name in self._blend.components]), cut_N

    def _wanted(self) -> list[tuple[str, str]]:
        """Every (model, view) that a component asks for, once; those that read the same tokens stand together."""
        components = self._components.values()
        asked = {(model, self._view(model, each)) for each in components for model in each.models}
        return sorted(asked, key=lambda each: (self._keys.get(each[0], ""), each[1], each[0]))

    def _view(self, model: str, component: Component) -> str:
        """The component's view; a linear model reads whole texts, which have no windows."""
        return HEAD if model not in self._keys and component.view in WINDOWS else component.view

    def _scored(
        self,
        wanted: Sequence[tuple[str, str]],
        texts: Sequence[str],
        pairs: Sequence[str] | None,
        tell: _Progress,
    ) -> tuple[dict[tuple[str, str], Logits], Flags]:
        """logits_NL of each (model, view), and which texts were cut."""
        cut_N = np.zeros(len(texts), np.bool_)
        found: dict[tuple[str, str], Logits] = {}
        encoded: tuple[tuple[str, str], Encodings] | None = None
        for name, view in wanted:
            model = self._models[name]
            if isinstance(model, LinearModel):
                found[name, view] = model.logits(joined(self._read(texts, view), pairs))
                tell(len(texts))
                continue
            key = (self._keys[name], view)
            if encoded is None or encoded[0] != key:
                encoded = (key, encode_view(model.tokenizer, view, texts, pairs))
                cut_N |= encoded[1].truncated_N
            same = found.get((name, HEAD)) if view in WINDOWS else None
            found[name, view] = self._network_logits(model, encoded[1], tell, same)
        return found, cut_N

    def _network_logits(
        self, model: ScoredNetwork, encodings: Encodings, tell: _Progress, same: Logits | None
    ) -> Logits:
        """logits_NL; `same` are those of the texts that fit, which read alike in every window, where they are known.

        Of 10,000 Wikipedia comments 7 % are longer than 256 tokens and have 22 % of the tokens that head reads: a
        window more costs that share of a pass.
        """
        budget = self._token_budget
        if same is None:
            return score(model.backend, encodings, token_budget=budget, on_batch=tell)
        cut = np.flatnonzero(encodings.truncated_N)
        tell(len(encodings) - len(cut))
        if not len(cut):
            return same
        logits_NL = same.copy()
        logits_NL[cut] = score(model.backend, encodings.take(cut), token_budget=budget, on_batch=tell)
        return logits_NL

    def _component(self, name: str, scored: Mapping[tuple[str, str], Logits]) -> Logits:
        """The mean of its models' probabilities, as a logit."""
        component = self._components[name]
        models = tuple(sorted(component.models))
        logits = [scored[model, self._view(model, component)] for model in models]
        if len(logits) == 1:
            return logits[0]
        return Blend("mean", self._blend.labels, models).apply(np.stack(logits))

    def _read(self, texts: Sequence[str], view: str) -> Sequence[str]:
        """What a linear model reads of each text in a view."""
        if (column := translation_column(view)) is not None:
            texts = [
                text.translations.get(column, text) if isinstance(text, TranslatedText) else text
                for text in texts
            ]
        if view != FOLDED and (view == RAW or not self._folds):
            return texts
        return [fold(unicodedata.normalize("NFKC", text)) for text in texts]

    def _networks(self) -> dict[str, ScoredNetwork]:
        return {name: model for name, model in self._models.items() if not isinstance(model, LinearModel)}


class _Progress:
    """Turns texts done in each of several passes into texts done in all of them."""

    def __init__(self, on_batch: OnBatch | None, *, num_passes: int) -> None:
        self._on_batch, self._num_passes = on_batch, num_passes
        self._done = self._told = 0

    def __call__(self, count: int) -> None:
        self._done += count
        whole = self._done // self._num_passes
        if self._on_batch and whole > self._told:
            self._on_batch(whole - self._told)
            self._told = whole
