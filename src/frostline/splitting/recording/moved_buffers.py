"""Buffers that one run of a model writes or replaces: they belong to the trainable part, or the model is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from frostline.core.errors import NotCacheable
from frostline.splitting.calls import torch_calls
from frostline.splitting.calls.containers import is_same

if TYPE_CHECKING:
    from torch import Tensor

    from frostline.splitting.recording.frost_line import Kinds
    from frostline.splitting.recording.recording import Recording
    from frostline.splitting.recording.tensor_ledger import Values, Versions


class MovedBuffers:
    """The buffers of a model before a run.

    Args:
        kinds: Which modules are frozen, trainable, mixed.
        values: The tensors of the run.
        recording: Takes the buffers that the head has to move.
    """

    def __init__(self, kinds: Kinds, values: Values, recording: Recording) -> None:
        self._kinds, self._values, self._recording = kinds, values, recording
        self._slots = kinds.buffer_slots()
        self._before = {name: buffer.detach().clone() for name, buffer in self._slots.items()}

    def notice(self) -> None:
        """After the run: what was replaced, and what was written.

        Raises:
            NotCacheable: If the frozen part has replaced a buffer.
        """
        self._notice_rebound()
        self._notice_moved()

    def _notice_rebound(self) -> None:
        for name, now in self._kinds.buffer_slots().items():
            if now is self._slots.get(name) or self._is_inside_whole(name):
                continue
            if not self._values.is_tainted(now):
                raise NotCacheable(
                    what=f"The frozen part changes its own state: the buffer {name!r} is replaced in forward.",
                    where=name,
                    received="another tensor under the same name after the forward pass",
                    do="frostline.freeze the module, so that it runs in inference mode; or remove that line.",
                )
            self._recording.rebound[name] = self._values.nodes[id(now)]

    def _notice_moved(self) -> None:
        """By their content: some kernels, such as that of batch normalisation, count no version."""
        for name, buffer in self._slots.items():
            if not is_same(buffer, self._before[name]):
                self._recording.moved.add(name)
                if not self._kinds.has_trainable(self._kinds.model.get_submodule(name.rpartition(".")[0])):
                    self._recording.live.add(name)

    def _is_inside_whole(self, name: str) -> bool:
        """True for a buffer of a module that is called whole: the head replaces it as the model does."""
        return any(name.startswith(f"{module}.") for module in self._recording.modules)


def is_own_state(kinds: Kinds, values: Values, before: Versions) -> bool:
    """True if the call writes buffers of the trainable part: a counter that no trainable value feeds."""
    names = [values.name_of_attribute(tensor) for tensor in values.written(before)]
    return bool(names) and all(name is not None and kinds.is_trainable_state(name) for name in names)


def refuse_moved_buffers(values: Values, written: list[Tensor]) -> None:
    """Refuse that frozen calls write into parameters or buffers.

    Raises:
        NotCacheable: It names the buffer.
    """
    for tensor in written:
        name = values.name_of_memory(tensor)
        if name:
            raise NotCacheable(
                what=f"The frozen part changes its own state: {name!r} is written during the forward pass.",
                where=f"{values.frames.top.frame.name or 'the model'}, {torch_calls.user_line()}",
                received=f"an in-place change of {name!r}",
                do="frostline.freeze the module, so that it runs in inference mode; or remove that line.",
            )
