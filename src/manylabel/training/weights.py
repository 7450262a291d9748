"""The weights while they are trained: one flat fp32 vector, its gradient beside it, and copies that the passes read.

Made and driven by the loop: `begin` before the passes of a batch, `collect` and `step` after them. The module's
parameters are views of the flat vector, so that AdamW runs over it in pieces that fit the cache, and averaging and
adding up over processes are operations on one long vector; in bf16 the linear layers read a copy that is made once a
step instead of once a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from manylabel.modeling.native import kernels
from manylabel.training.averaging import WeightAverage
from manylabel.training.flat_adamw import PIECE, FlatAdamW, Place, norm_of
from manylabel.training.optimizer import ParameterGroup
from manylabel.training.readings import Scale
from manylabel.training.word_rows import WordRows

ALIGNMENT = 16
"""Every parameter begins at a multiple of so many values (64 bytes), as vector and tile instructions like it."""


@dataclass(eq=False)
class _Slot:
    """One parameter: who owns it, what the passes read, and where its gradient is collected.

    `arrived` is the gradient of the first pass of a batch as the pass left it; a second one moves it to `gradient`.
    """

    owner: nn.Module
    attribute: str
    master: nn.Parameter
    working: nn.Parameter
    start: int
    stop: int
    gradient: Tensor
    arrived: Tensor | None = None
    is_filled: bool = False

    def add(self, gradient: Tensor) -> None:
        """Take the gradient of one pass; sums are in fp32."""
        if self.arrived is None and not self.is_filled:
            self.arrived = gradient
            return
        self.flatten()
        self.gradient.add_(gradient)

    @property
    def has_any(self) -> bool:
        """Whether a pass left a gradient."""
        return self.is_filled or self.arrived is not None

    @property
    def came(self) -> Tensor | None:
        """The gradient wherever it lies, None if no pass left one."""
        return self.arrived if self.arrived is not None else self.gradient if self.is_filled else None

    def flatten(self) -> None:
        """Let `gradient` hold all that arrived, zero if nothing did."""
        if self.arrived is not None:
            self.gradient.copy_(self.arrived)
        elif not self.is_filled:
            self.gradient.zero_()
        self.arrived, self.is_filled = None, True


@dataclass(frozen=True)
class _Segment:
    """The part of the flat vector that belongs to one group, and the numbers of its slots."""

    group: int
    start: int
    stop: int
    slots: range


class Weights:
    """The trained parameters of a module, in groups of one rate and decay."""

    def __init__(
        self,
        module: nn.Module,
        groups: Sequence[ParameterGroup],
        *,
        dtype: torch.dtype,
        ema_decay: float = 0.0,
        sparse_table: str | None = None,
        num_steps: int = 0,
    ) -> None:
        """Take over the parameters that `groups` name, until `release`.

        `dtype` is what linear layers compute in. `sparse_table` names a word embedding whose rows are updated only
        when a batch reads them (see `word_rows`), over a run of `num_steps`.
        """
        self.groups = tuple(groups)
        parameters = dict(module.named_parameters())
        device = next(iter(parameters.values())).device
        self._hooks: list[RemovableHandle] = []
        self._rows: WordRows | None = None
        self._table: nn.Embedding | None = None
        self._row_group = 0
        self._row_gradients: list[tuple[Tensor, Tensor]] = []
        if sparse_table is not None:
            self._take_rows(module, sparse_table, num_steps)
        self._segments, places, length = _layout(parameters, self.groups, without=sparse_table)
        self.master = torch.zeros(length, device=device)
        self.gradient = torch.zeros(length, device=device)
        self._copy = torch.zeros(length, dtype=dtype, device=device) if dtype != torch.float32 else None
        self._slots = [self._take(module, name, parameters[name], start) for name, start in places.items()]
        for slot in self._slots:
            self._watch(slot.working, partial(_collect, slot))
        self._optimizer = FlatAdamW(self.master, len(self.groups))
        self._piece = torch.zeros(PIECE, device=device)
        self._average = WeightAverage([self.master]) if ema_decay else None
        self._ema_decay = ema_decay
        self._is_awake = (True,) * len(self.groups)
        self._working = {name: slot.working for name, slot in zip(places, self._slots, strict=True)}
        if sparse_table is not None:
            self._working[sparse_table] = parameters[sparse_table]
        self._show(working=True)

    def begin(self, ids_T: Tensor, is_awake: Sequence[bool]) -> None:
        """Before the passes of a batch that reads these token ids; groups that are not awake take no gradient."""
        self._is_awake = tuple(is_awake)
        for group, awake in zip(self.groups, is_awake, strict=True):
            for name in group.names:
                self._working[name].requires_grad_(awake)
        for slot in self._slots:
            slot.arrived, slot.is_filled = None, False
        self._row_gradients.clear()
        if self._rows is not None:
            self._rows.refresh(torch.unique(ids_T))

    def collect(self, sum_: Callable[[Tensor], object] | None) -> Tensor:
        """After the passes: the norm (0-d) of the whole gradient, added up by `sum_` if there are several processes."""
        if self._by_kernels:
            if sum_ is not None:
                for slot in self._slots:
                    slot.flatten()
                sum_(self.gradient)
            norm = torch.tensor(self._table_of(self._slots).norm(), dtype=torch.float64)
        elif sum_ is None and self.master.device.type == "cpu":
            # Read where they lie: a copy of all gradients costs more than their norm.
            parts = [slot.gradient if slot.arrived is None else slot.arrived for slot in self._slots]
            present = [part for part, slot in zip(parts, self._slots, strict=True) if slot.has_any]
            norm = torch.tensor(norm_of(present, self._piece), dtype=torch.float64)
        else:
            for slot in self._slots:
                slot.flatten()
            if sum_ is not None:
                sum_(self.gradient)
            norm = torch.linalg.vector_norm(self.gradient)
        if self._row_gradients:
            self._row_gradients[:] = [_sum_rows(self._row_gradients)]
            norm = torch.hypot(norm.double(), torch.linalg.vector_norm(self._row_gradients[0][1]).double())
        return norm

    def step(self, rates: Sequence[float], scale: Scale) -> None:
        """One AdamW step with the gradient times `scale`; `rates` has one rate for each group."""
        for segment in self._segments:
            # A group that sleeps is left alone, so that its bias correction begins when it wakes.
            if self._is_awake[segment.group]:
                self._update(segment, rates[segment.group], scale)
        if self._rows is not None and self._is_awake[self._row_group]:
            rows_U, gradient_UD = self._row_gradients[0] if self._row_gradients else self._no_rows
            self._rows.update(rows_U, gradient_UD.mul_(scale.factor), rates[self._row_group])
        if self._average is not None:
            self._average.update(self._ema_decay, scale.skip)

    @torch.no_grad()
    def _update(self, segment: _Segment, rate: float, scale: Scale) -> None:
        """AdamW and the new working copy for one group, piece by piece."""
        decay = self.groups[segment.group].weight_decay
        self._optimizer.begin(segment.group, scale.skip)
        if self._by_kernels and isinstance(scale.factor, float):
            table = self._table_of([self._slots[index] for index in segment.slots])
            self._optimizer.update_table(
                segment.group, table, self._copy, rate=rate, weight_decay=decay, scale=scale.factor
            )
            return
        size = PIECE if self.master.device.type == "cpu" else segment.stop - segment.start
        for start, stop, slots in _pieces([self._slots[index] for index in segment.slots], size):
            gradient = self._gradient_of(start, stop, slots, scale)
            place = Place(start, stop, segment.group)
            self._optimizer.update(place, gradient, rate=rate, weight_decay=decay, skip=scale.skip)
            if self._copy is not None:
                self._copy[start:stop].copy_(self.master[start:stop])

    @property
    def _by_kernels(self) -> bool:
        """Whether C++ kernels read the gradients where they lie, in one pass."""
        return kernels.serves(self.master) and (self._copy is None or self._copy.dtype == torch.bfloat16)

    def _table_of(self, slots: Sequence[_Slot]) -> kernels.GradientTable:
        """The gradients of these slots as they came."""
        return kernels.GradientTable(
            [slot.came for slot in slots],
            [slot.start for slot in slots],
            [slot.stop - slot.start for slot in slots],
        )

    def _gradient_of(self, start: int, stop: int, slots: Sequence[_Slot], scale: Scale) -> Tensor:
        """The scaled gradient from `start` to `stop`, in fp32; valid until the next call."""
        arrived = slots[0].arrived if len(slots) == 1 else None
        if arrived is not None and stop - start <= len(self._piece):
            own = arrived.reshape(-1)[start - slots[0].start : stop - slots[0].start]
            gradient = (
                self._piece[: stop - start].zero_() if len(own) < stop - start else self._piece[: len(own)]
            )
            gradient[: len(own)].copy_(own)
            return gradient if scale.is_one else gradient.mul_(scale.factor)
        for slot in slots:
            slot.flatten()
        gradient = self.gradient[start:stop]
        return gradient if scale.is_one else gradient.mul_(scale.factor)

    @contextmanager
    def exposed(self) -> Iterator[None]:
        """Within the block the module holds the fp32 weights as they would be saved: all rows, averaged if asked."""
        kept = self._expose()
        try:
            yield
        finally:
            if kept is not None:
                self.master.copy_(kept)
            self._show(working=True)

    def release(self) -> None:
        """Leave the module with its fp32 weights, as `exposed` shows them, for good."""
        self._expose()
        for hook in self._hooks:
            hook.remove()
        if self._table is not None:
            self._table.sparse = False

    def copy_from(self, share: Callable[[Tensor], object]) -> None:
        """Let `share` put the same weights into the flat vector of every process."""
        share(self.master)
        self._show(working=True)

    def state(self) -> dict[str, Tensor]:
        """Everything that a checkpoint needs, not copied."""
        state = {"weights": self.master}
        state |= {f"adamw.{name}": value for name, value in self._optimizer.state().items()}
        if self._rows is not None:
            state |= {f"rows.{name}": value for name, value in self._rows.state().items()}
        if self._average is not None:
            state |= {f"average.{name}": value for name, value in self._average.state().items()}
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state()`; raises KeyError or RuntimeError when it belongs to another network."""
        with torch.no_grad():
            self.master.copy_(state["weights"])
        self._optimizer.restore(_below(state, "adamw."))
        if self._rows is not None:
            self._rows.restore(_below(state, "rows."))
        if self._average is not None:
            self._average.restore(_below(state, "average."))
        self._show(working=True)

    def _take(self, module: nn.Module, name: str, parameter: nn.Parameter, start: int) -> _Slot:
        """Move one parameter into the flat vector; linear layers get a working copy in the lower precision."""
        owner, attribute = _owner(module, name)
        place = slice(start, start + parameter.numel())
        view = self.master[place].view(parameter.shape)
        view.copy_(parameter.detach())
        parameter.data = view
        working = parameter
        if self._copy is not None and isinstance(owner, nn.Linear):
            working = nn.Parameter(self._copy[place].view(parameter.shape))
        gradient = self.gradient[place].view(parameter.shape)
        return _Slot(owner, attribute, parameter, working, start, start + parameter.numel(), gradient)

    def _take_rows(self, module: nn.Module, name: str, num_steps: int) -> None:
        """Keep the rows of a word embedding apart from the flat vector."""
        owner, _ = _owner(module, name)
        assert isinstance(owner, nn.Embedding)
        table = dict(module.named_parameters())[name]
        self._row_group = next(index for index, group in enumerate(self.groups) if name in group.names)
        decay = self.groups[self._row_group].weight_decay
        self._rows = WordRows(table, weight_decay=decay, num_steps=num_steps)
        self._watch(table, self._collect_rows)
        self._no_rows = (torch.zeros(0, dtype=torch.int64), owner.weight.detach()[:0])
        self._table = owner
        owner.sparse = True

    def _watch(self, parameter: Tensor, collect: Callable[[Tensor], None]) -> None:
        """Let `collect` take every gradient of the parameter as soon as it is there."""
        self._hooks.append(parameter.register_post_accumulate_grad_hook(collect))  # type: ignore[no-untyped-call]

    def _collect_rows(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._row_gradients.append((parameter.grad._indices()[0], parameter.grad._values()))
        parameter.grad = None
        # Passes that read more rows than the table has are added up early, to bound the memory.
        if sum(len(ids) for ids, _ in self._row_gradients) > len(parameter):
            self._row_gradients[:] = [_sum_rows(self._row_gradients)]

    @torch.no_grad()
    def _expose(self) -> Tensor | None:
        """Show the weights to be saved; what the flat vector held, where an average was put in its place."""
        if self._rows is not None:
            self._rows.refresh()
        self._show(working=False)
        if self._average is None:
            return None
        kept = self.master.clone()
        self.master.copy_(self._average.values[0])
        return kept

    @torch.no_grad()
    def _show(self, *, working: bool) -> None:
        """Let the module's parameters be the working copies, made anew, or the fp32 weights."""
        if working and self._copy is not None:
            self._copy.copy_(self.master)
        for slot in self._slots:
            slot.owner._parameters[slot.attribute] = slot.working if working else slot.master


def _layout(
    parameters: Mapping[str, nn.Parameter], groups: Sequence[ParameterGroup], *, without: str | None
) -> tuple[list[_Segment], dict[str, int], int]:
    """The segment of every group that has members, the first value of every parameter, and the length of all."""
    segments: list[_Segment] = []
    starts: dict[str, int] = {}
    position = 0
    for index, group in enumerate(groups):
        begin, first = position, len(starts)
        for name in group.names:
            if name != without:
                starts[name] = position
                position += -(-parameters[name].numel() // ALIGNMENT) * ALIGNMENT
        if position > begin:
            segments.append(_Segment(index, begin, position, range(first, len(starts))))
    return segments, starts, position


def _collect(slot: _Slot, parameter: Tensor) -> None:
    """Take what a backward pass left, so that the next one begins anew."""
    assert parameter.grad is not None
    slot.add(parameter.grad)
    parameter.grad = None


def _pieces(slots: Sequence[_Slot], size: int) -> Iterator[tuple[int, int, list[_Slot]]]:
    """Parts of at most `size` values that follow one another: pieces of a large slot, or several small ones whole."""
    waiting: list[_Slot] = []
    for slot in slots:
        end = _end(slot)
        is_large = slot.stop - slot.start > size // 8
        if waiting and (is_large or end - waiting[0].start > size):
            yield waiting[0].start, _end(waiting[-1]), waiting
            waiting = []
        if is_large:
            for start in range(slot.start, end, size):
                yield start, min(start + size, end), [slot]
        else:
            waiting.append(slot)
    if waiting:
        yield waiting[0].start, _end(waiting[-1]), waiting


def _end(slot: _Slot) -> int:
    """Where the next slot begins."""
    return slot.start + -(-(slot.stop - slot.start) // ALIGNMENT) * ALIGNMENT


def _owner(module: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The submodule that holds a parameter, and its name there."""
    path, _, attribute = name.rpartition(".")
    return module.get_submodule(path), attribute


def _sum_rows(gradients: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Rows and gradients of several passes, in which a row may occur often, as each row once with the sum."""
    ids_T = torch.cat([ids for ids, _ in gradients])
    values_TD = torch.cat([values for _, values in gradients])
    rows_U, places_T = torch.unique(ids_T, return_inverse=True)
    return rows_U, values_TD.new_zeros(len(rows_U), values_TD.shape[1]).index_add_(0, places_T, values_TD)


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
