"""One run of a model: when its layers begin and end, and which tensors are still needed at any moment."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from frostline.core.inputs import call_with_model, leaves

if TYPE_CHECKING:
    from collections.abc import Generator


@dataclass
class Call:
    """The calls of one module in a run, by the clock of the run.

    Attributes:
        name: The module's first qualified name; "" is the model.
        first: When its first call began.
        last: When its last call ended.
        times: How often it was called.
        takes: Place among the tensors of its first call's arguments, and bytes, of the largest one; None without any.
    """

    name: str
    first: int
    last: int = -1
    times: int = 1
    takes: tuple[int, int] | None = None


@dataclass
class LiveTensors:
    """What one run showed.

    Attributes:
        calls: The calls of each module that ran, by its name, in the order in which they began.
        num_samples: Samples of the batch.
    """

    calls: dict[str, Call] = field(default_factory=lambda: dict[str, Call]())
    num_samples: int = 0
    _spans: dict[int, tuple[int, int, int]] = field(default_factory=lambda: dict[int, tuple[int, int, int]]())

    def sizes_at(self, moment: int) -> list[int]:
        """Bytes of each tensor that was made before this moment and is read at it or later, largest first.

        Parameters, buffers, what does not follow the batch, and what no layer has computed do not count: a mask that
        was made from whole numbers and spread over pairs of positions may be larger than the features.
        """
        live = [size for made, read, size in self._spans.values() if made < moment <= read and size]
        return sorted(live, reverse=True)


class _Run(TorchFunctionMode):
    """Counts moments; every torch call, and every beginning and end of a module's call, is one."""

    def __init__(self, model: nn.Module, found: LiveTensors) -> None:
        super().__init__()
        self.found, self.clock, self.kept = found, 0, list[Tensor]()
        self.held = {id(tensor) for tensor in (*model.parameters(), *model.buffers())}
        self.carrying = {id(parameter) for parameter in model.parameters()}  # and all that is computed from them

    def made(self, tensors: list[Tensor], *, carries: bool) -> None:
        for tensor in tensors:
            known = self.found._spans.get(id(tensor))
            if id(tensor) in self.held or (known is not None and (known[2] or not carries)):
                continue
            size = _size(tensor, self.found.num_samples) if carries else 0
            if carries:
                self.carrying.add(id(tensor))
            if known is None:
                self.kept.append(tensor)  # its id is not given away again while it lives
            self.found._spans[id(tensor)] = (known[0] if known else self.clock, self.clock, size)

    def read(self, tensors: list[Tensor]) -> None:
        for tensor in tensors:
            if (span := self.found._spans.get(id(tensor))) is not None:
                self.found._spans[id(tensor)] = (span[0], self.clock, span[2])

    def begins(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.clock += 1
        given = _tensors((args, kwargs))
        self.read(given)
        if name in self.found.calls:
            self.found.calls[name].times += 1
            return
        with torch._C.DisableTorchFunction():
            sizes = [tensor.numel() * tensor.element_size() for tensor in given]
        largest = max(range(len(sizes)), key=lambda at: sizes[at]) if sizes else None
        takes = (largest, sizes[largest]) if largest is not None else None
        self.found.calls[name] = Call(name, self.clock, takes=takes)

    def ends(self, name: str) -> None:
        self.clock += 1
        self.found.calls[name].last = self.clock

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.clock += 1
        given = _tensors((args, kwargs))
        self.read(given)
        before = _versions(given)
        result = func(*args, **(kwargs or {}))
        carries = any(id(tensor) in self.carrying for tensor in given)
        written = [tensor for tensor, own, new in zip(given, before, _versions(given), strict=True) if own != new]
        self.made([*_tensors(result), *written], carries=carries)
        return result


def live_tensors(model: nn.Module, inputs: Any) -> LiveTensors:
    """Run the model once as it stands, and note what lives when; hooks are taken off again.

    Args:
        model: The model, in the mode in which it is to run.
        inputs: A small batch, as the model takes it.
    """
    found = LiveTensors()
    run = _Run(model, found)
    given = list(leaves(inputs).values())
    found.num_samples = next((tensor.shape[0] for tensor in given if tensor.dim()), 0)
    for tensor in given:  # whole numbers are masks and positions, or are looked up in a table of weights
        run.made([tensor], carries=tensor.is_floating_point() or tensor.is_complex())
    with _hooked(model, run), run:
        call_with_model(model, inputs)
    return found


@contextmanager
def _hooked(model: nn.Module, run: _Run) -> Generator[None]:
    with ExitStack() as stack:
        for name, module in model.named_modules():

            def begins(_: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
                run.begins(name, args, kwargs)

            def ends(_: nn.Module, args: Any, output: Any, name: str = name) -> None:
                run.ends(name)

            stack.callback(module.register_forward_pre_hook(begins, with_kwargs=True).remove)
            stack.callback(module.register_forward_hook(ends).remove)
        yield


def _size(tensor: Tensor, num_samples: int) -> int:
    """Bytes; 0 for what does not follow the batch."""
    with torch._C.DisableTorchFunction():
        follows = tensor.dim() and tensor.shape[0] % max(2, num_samples) == 0
        return tensor.numel() * tensor.element_size() if follows else 0


def _versions(tensors: list[Tensor]) -> list[int]:
    with torch._C.DisableTorchFunction():
        return [0 if tensor.is_inference() else tensor._version for tensor in tensors]


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]
