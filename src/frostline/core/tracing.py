"""Run a model once and see what feeds what: which layer calls, which function or module takes its output."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from frostline.core.inputs import call_with_model
from frostline.core.restore import kept_buffers, kept_generators, kept_modes

if TYPE_CHECKING:
    from collections.abc import Generator

# Modules that are one step for us, although they may hold others (activations, parametrizations).
_WHOLE = (
    nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.RNNBase, nn.MultiheadAttention,
)  # fmt: skip


@dataclass
class Step:
    """One call of a module, or of a torch function outside of such a module.

    Attributes:
        at: Its place in the order of execution.
        name: The module's first qualified name, or the function's name.
        module: The module, or None for a function.
        takes: Steps whose outputs it takes.
        feeds: Steps that take its output; -1 is the model's own output.
        parameters: Ids of parameters that a function takes itself.
        shapes: Shapes of the tensors it returns.
    """

    at: int
    name: str
    module: nn.Module | None
    takes: set[int] = field(default_factory=lambda: set[int]())
    feeds: set[int] = field(default_factory=lambda: set[int]())
    parameters: set[int] = field(default_factory=lambda: set[int]())
    shapes: list[tuple[int, ...]] = field(default_factory=lambda: list[tuple[int, ...]]())

    @property
    def has_weights(self) -> bool:
        """True if it applies weights of its own, other than those of a norm or an activation."""
        return bool(self.parameters) or (
            self.module is not None and any(parameter.dim() > 1 for parameter in self.module.parameters())
        )


@dataclass(frozen=True)
class Trace:
    """All steps of one run, in order, and what the model returned."""

    steps: list[Step]
    output: Any

    def calls(self, module: nn.Module) -> list[Step]:
        """The calls of one module."""
        return [step for step in self.steps if step.module is module]

    def after(self, step: Step, *, stop: Callable[[Step], bool]) -> Generator[Step]:
        """The steps that a step's output reaches, nearest first, not going past those where `stop` is true."""
        seen, waiting = {step.at}, sorted(step.feeds)
        while waiting:
            at = waiting.pop(0)
            if at < 0 or at in seen:
                continue
            seen.add(at)
            yield self.steps[at]
            if not stop(self.steps[at]):
                waiting += sorted(self.steps[at].feeds)


def trace(model: nn.Module, inputs: Any) -> Trace:
    """Run the model on `inputs` without gradients, in the modes it has, and leave it as it was."""
    recorder = _Recorder(model)
    with ExitStack() as stack:
        for context in (kept_generators(), kept_buffers(model), kept_modes(model), torch.no_grad(), recorder.hooked()):
            stack.enter_context(context)
        with recorder:
            output = call_with_model(model, inputs)
    for tensor in tensors_in(output):
        recorder.consume(tensor, -1)
    return Trace(recorder.steps, output)


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor in a value, also inside dataclasses and other plain objects."""
    found: list[Tensor] = []
    for leaf in tree_leaves(value):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif hasattr(leaf, "__dict__") and not isinstance(leaf, (nn.Module, type)) and not callable(leaf):
            found += [tensor for tensor in tree_leaves(vars(leaf)) if isinstance(tensor, Tensor)]
    return found


def is_in_transform(tensor: Tensor) -> bool:
    """True for a tensor inside of a transform of torch.func (torch.vmap, torch.func.grad): it has no values to read."""
    return is_functorch_wrapped_tensor(tensor)


@contextmanager
def hooked(module: nn.Module, hook: Callable[..., Any]) -> Generator[None]:
    """A forward hook for the time of the block."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self._names = {id(module): name for name, module in model.named_modules()}
        self._units = [module for module in model.modules() if isinstance(module, _WHOLE) or not any(module.children())]
        self._parameters = {id(parameter) for parameter in model.parameters()}
        self._made: dict[int, tuple[int, Tensor]] = {}  # by id; the tensor is held, so that no id comes back
        self._inside: list[Step] = []

    @contextmanager
    def hooked(self) -> Generator[None]:
        handles: list[Any] = []
        for module in self._units:
            handles.append(module.register_forward_pre_hook(self._enter, with_kwargs=True))
            handles.append(module.register_forward_hook(self._leave, with_kwargs=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def consume(self, tensor: Tensor, at: int) -> None:
        known = self._made.get(id(tensor))
        if known is not None:
            self.steps[known[0]].feeds.add(at)
            if at >= 0:
                self.steps[at].takes.add(known[0])

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        found = [] if self._inside else tensors_in(result)
        if found:
            step = self._begin(getattr(func, "__name__", str(func)), None, (args, kwargs))
            self._end(step, found)
        return result

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        step = self._begin(self._names[id(module)], module, (args, kwargs), is_heard=not self._inside)
        self._inside.append(step)

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        step = self._inside.pop()
        if not self._inside:
            self._end(step, tensors_in(output))

    def _begin(self, name: str, module: nn.Module | None, taken: Any, *, is_heard: bool = True) -> Step:
        step = Step(len(self.steps), name, module)
        if not is_heard:
            return step
        self.steps.append(step)
        for tensor in tensors_in(taken):
            self.consume(tensor, step.at)
            if module is None and id(tensor) in self._parameters:
                step.parameters.add(id(tensor))
        return step

    def _end(self, step: Step, found: list[Tensor]) -> None:
        for tensor in found:
            step.shapes.append(tuple(tensor.shape))
            self._made[id(tensor)] = (step.at, tensor)
