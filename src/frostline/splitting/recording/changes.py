"""What one run of a model changes in the model: buffers, and attributes such as a penalty that the loss adds.

Buffers that the run writes belong to the trainable part, or the model is refused. Of the attributes, the head sets
those whose values follow from trainable weights; it cannot compute those that follow from frozen weights alone.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from frostline.core.errors import NotCacheable
from frostline.splitting.calls import torch_calls
from frostline.splitting.calls.containers import Slot, filled, is_same, replace, template_of, tensors_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from frostline.splitting.recording.frost_line import FrostLine
    from frostline.splitting.recording.run_record import Recording
    from frostline.splitting.recording.tensor_ledger import TensorLedger, Versions

_TORCH_OWN = frozenset(vars(nn.Module()))
_MAX_TENSORS = 64  # of one attribute


@dataclass(frozen=True)
class LeftValue:
    """One attribute, and what it holds, with a slot for every tensor; of a dict, the entries with tensors."""

    module: str
    name: str
    template: Any

    def places(self) -> set[str]:
        """The places that the head sets, as `places.Place` names them."""
        name = f"{self.module}.{self.name}" if self.module else self.name
        if type(self.template) is dict:
            return {f"keys of {name}", *(f"{name}[{key!r}]" for key in cast("dict[Any, Any]", self.template))}
        return {name}


class LeftValues:
    """The attributes of a model before a run.

    Args:
        model: The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = dict(model.named_modules())
        self._before = {
            (name, key): (value, _content(value))
            for name, module in self._modules.items()
            for key, value in vars(module).items()
            if key not in _TORCH_OWN
        }

    def found(self, ledger: TensorLedger, whole: Iterable[str]) -> tuple[list[LeftValue], list[Tensor], set[str]]:
        """After the run: what follows from trainable weights, its tensors, and the names of others that were changed.

        Args:
            ledger: The tensors of the run.
            whole: Modules that the head calls whole: they leave what they leave.
        """
        left: list[LeftValue] = []
        tensors: list[Tensor] = []
        others: set[str] = set()
        names = tuple(whole)
        for name, module in self._modules.items():
            if any(name == own or name.startswith(f"{own}.") for own in names):
                continue
            for key, value in vars(module).items():
                if key in _TORCH_OWN or not self._is_new(name, key, value):
                    continue
                if type(value) is dict:  # its other entries are configuration, or are refused where a loss reads them
                    value = {entry: held for entry, held in cast("dict[Any, Any]", value).items() if tensors_in(held)}
                own = tensors_in(value)
                is_mixed = type(value) is list and not all(map(tensors_in, cast("list[Any]", value)))
                if (
                    own
                    and not is_mixed
                    and len(own) <= _MAX_TENSORS
                    and all(id(tensor) in ledger.nodes for tensor in own)
                ):
                    left.append(LeftValue(name, key, _shifted(template_of(value)[0], len(tensors))))
                    tensors += own
                else:
                    others.add(key)
        return left, tensors, others

    def _is_new(self, name: str, key: str, value: Any) -> bool:
        was, content = self._before.get((name, key), (None, None))
        return value is not was or (content is not None and not _is_same_content(value, content))


def leave(model: nn.Module, left: Sequence[LeftValue], tensors: Sequence[Tensor]) -> None:
    """Set the attributes as the model's forward pass would have."""
    for own in left:
        table = vars(model.get_submodule(own.module))
        value, held = filled(own.template, tensors), table.get(own.name)
        if type(value) is list and type(held) is list:
            held[:] = value
        elif type(value) is dict and type(held) is dict:
            held.update(cast("dict[Any, Any]", value))
        else:
            table[own.name] = value


def _shifted(template: Any, start: int) -> Any:
    return replace(template, lambda slot: Slot(slot.index + start), Slot)


def _content(value: Any) -> Any:
    return copy.copy(value) if type(value) in (list, dict) else None


def _is_same_content(value: Any, content: Any) -> bool:
    if len(value) != len(content):
        return False
    if isinstance(value, dict):
        return all(key in content and content[key] is own for key, own in cast("dict[Any, Any]", value).items())
    return all(one is other for one, other in zip(value, content, strict=True))


class MovedBuffers:
    """The buffers of a model before a run.

    Args:
        frost_line: Which modules are frozen, trainable, mixed.
        ledger: The tensors of the run.
        recording: Takes the buffers that the head has to move.
    """

    def __init__(self, frost_line: FrostLine, ledger: TensorLedger, recording: Recording) -> None:
        self._frost_line, self._ledger, self._recording = frost_line, ledger, recording
        self._slots = frost_line.buffer_slots()
        self._before = {name: buffer.detach().clone() for name, buffer in self._slots.items()}

    def notice(self) -> None:
        """After the run: what was replaced, and what was written.

        Raises:
            NotCacheable: If the frozen part has replaced a buffer.
        """
        self._notice_rebound()
        self._notice_moved()

    def _notice_rebound(self) -> None:
        for name, now in self._frost_line.buffer_slots().items():
            if now is self._slots.get(name) or self._is_inside_whole(name):
                continue
            if not self._ledger.is_tainted(now):
                raise NotCacheable(
                    what=f"The frozen part changes its own state: the buffer {name!r} is replaced in forward.",
                    where=name,
                    received="another tensor under the same name after the forward pass",
                    do="run the model on a batch once before, if the buffer is a table that is made in the first pass "
                    "(positions, a mask); else remove that line.",
                )
            self._recording.rebound[name] = self._ledger.nodes[id(now)]

    def _notice_moved(self) -> None:
        """By their content: some kernels, such as that of batch normalisation, count no version."""
        for name, buffer in self._slots.items():
            if not is_same(buffer, self._before[name]):
                self._recording.moved.add(name)
                if not self._frost_line.has_trainable(self._frost_line.model.get_submodule(name.rpartition(".")[0])):
                    self._recording.live.add(name)

    def _is_inside_whole(self, name: str) -> bool:
        """True for a buffer of a module that is called whole: the head replaces it as the model does."""
        return any(name.startswith(f"{module}.") for module in self._recording.modules)


def is_own_state(frost_line: FrostLine, ledger: TensorLedger, before: Versions) -> bool:
    """True if the call writes buffers of the trainable part: a counter that no trainable value feeds."""
    names = [ledger.name_of_attribute(tensor) for tensor in ledger.written(before)]
    return bool(names) and all(name is not None and frost_line.is_trainable_state(name) for name in names)


def refuse_moved_buffers(ledger: TensorLedger, written: list[Tensor]) -> None:
    """Refuse that frozen calls write into parameters or buffers.

    Raises:
        NotCacheable: It names the buffer.
    """
    for tensor in written:
        name = ledger.name_of_memory(tensor)
        if name:
            raise NotCacheable(
                what=f"The frozen part changes its own state: {name!r} is written during the forward pass.",
                where=f"{ledger.frames.top.frame.name or 'the model'}, {torch_calls.user_line()}",
                received=f"an in-place change of {name!r}",
                do="frostline.freeze the module, so that it runs in inference mode; or remove that line.",
            )
