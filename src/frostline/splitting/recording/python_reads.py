"""What Python reads from tensors while a run is recorded: kept as guards and sizes, or refused.

`guards.py` holds what is kept, and what a later batch must read. The recorder calls this at every read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from frostline.core.tracing import is_in_transform
from frostline.splitting.calls import torch_calls
from frostline.splitting.recording import refusals
from frostline.splitting.recording.guards import Guard

if TYPE_CHECKING:
    from torch import Tensor

    from frostline.splitting.calls.addresses import Frames
    from frostline.splitting.recording.graph_writer import GraphWriter
    from frostline.splitting.recording.noise import Noise
    from frostline.splitting.recording.run_record import Recording
    from frostline.splitting.recording.tensor_ledger import TensorLedger


class PythonReads:
    """The reads of one run.

    Args:
        recording: Takes guards and sizes.
        ledger: The tensors of the run.
        frames: Its open modules.
        noise: Its noise.
        writer: Its graph.
    """

    def __init__(
        self, recording: Recording, ledger: TensorLedger, frames: Frames, noise: Noise, writer: GraphWriter
    ) -> None:  # fmt: skip
        self._recording, self._ledger, self._frames = recording, ledger, frames
        self._noise, self._writer = noise, writer
        self._has_left_torch: str | None = None

    def value(self, func: Any, result: Any, tensors: list[Tensor], tainted: list[Tensor]) -> None:
        """A call has handed something that is no tensor to Python, or is about to.

        Raises:
            SplitError: If it follows trainable weights, or random numbers that decide what runs.
        """
        name, frame = torch_calls.name_of(func), self._frames.top.frame
        if torch_calls.is_size(func):
            self.size(tensors, tainted, is_decided=name == "__len__")  # `len` gives Python a plain number
            return
        if self._noise.is_certain(tainted):
            return
        self._noise.refuse_decision(tainted)
        if tainted:
            raise refusals.trainable_value_error(frame.name, name)
        point = self._frames.top.point(name)
        value = torch_calls.plain_value(result, tensors)
        self._recording.handed.guards[point] = Guard(point, value, torch_calls.user_line())
        for tensor in tensors:
            known = self._ledger.name_of_attribute(tensor)
            if known:
                self._recording.steered_by.append((tensor, known))
        if torch_calls.leaves_torch(func):
            self._has_left_torch = torch_calls.user_line()

    def size(self, tensors: list[Tensor], tainted: list[Tensor], *, is_decided: bool) -> None:
        """Sizes of these tensors were read; `is_decided` if Python has them as plain numbers."""
        if is_decided:
            self._recording.handed.decide(self._frames.top.frame)
        for tensor in tensors:
            origin = None if id(tensor) in {id(own) for own in tainted} else self._ledger.origins.get(id(tensor))
            self._recording.handed.read_size(origin.point if origin else None, self._frames.top.frame)
        for tensor in tainted:
            self._writer.check_sizes(tensor)

    def refuse_unfollowed(self, func: Any, inputs: list[Tensor]) -> None:
        """Refuse tensors whose origin is not in the log.

        Raises:
            SplitError: If this call is made inside of a transform of torch.func.
            NotCacheable: If it makes or takes a tensor that comes back to torch after another library has got one.
        """
        if any(map(is_in_transform, inputs)):
            raise refusals.transform_error(self._frames.top.frame.name)
        if self._has_left_torch is None:
            return
        is_made = torch_calls.name_of(func) in ("tensor", "as_tensor", "asarray")
        if is_made or not all(self._ledger.is_known(tensor) for tensor in inputs):
            raise refusals.outside_of_torch_error(self._frames.top.frame.name, self._has_left_torch)
