"""A head that runs the model's own forward: frozen modules return stored features, everything else runs for real.

A recorded graph is one path through Python. Where a model takes as many steps as its batch has rows, reads values of
its trainable part, calls `torch.func`, or keeps a state beside its layers, no graph holds. Here nothing is generalised:
the head calls the model, and each outermost frozen module returns what is stored of it instead of running. Considered:
one graph for each batch size, which would serve loops and floats that follow the batch, and nothing else; this head for
every model, which would keep inputs in memory that a graph does not need.

Legend: B batch.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from frostline.core import inputs as batches
from frostline.core.errors import SplitError
from frostline.splitting.calls import torch_calls
from frostline.splitting.calls.addresses import Frame, Frames
from frostline.splitting.calls.containers import Slot, filled, tensors_in
from frostline.splitting.calls.listener import Listener, TorchCalls, listening
from frostline.splitting.recording.guards import Sizes
from frostline.splitting.recording.run_record import Recording

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from frostline.splitting.parts.frontier import Entry
    from frostline.splitting.recording.frost_line import FrostLine

# Attributes and methods that a tensor without values has as well.
_HARMLESS_NAMES = (
    "shape size dim ndim ndimension numel nelement dtype __len__ requires_grad is_floating_point is_complex"
)
_HARMLESS = frozenset(_HARMLESS_NAMES.split())


@dataclass(frozen=True)
class Place:
    """Where one tensor of the frozen side comes from: a stored feature, or a tensor of this shape without values."""

    entry: int | None
    sizes: Sizes
    dtype: torch.dtype

    def value(self, entries: Sequence[Entry], features: Sequence[Tensor], batch_size: int) -> Tensor:
        """The tensor for a batch; a copy, since the model may write into it."""
        if self.entry is not None:
            return entries[self.entry].layout.from_rows(features[self.entry]).clone()
        shape = [int(size) for size in self.sizes.at(batch_size)]
        return torch.empty(shape, dtype=self.dtype, device="meta")  # no use of it was seen: one that comes fails


@dataclass(frozen=True)
class Answer:
    """What a call of a frozen module returns: its structure, its tensors, and the calls of modules inside of it."""

    template: Any
    places: tuple[Place, ...]
    inner: Counter[str]


@dataclass
class OwnForward:
    """The model as a function of its features.

    Attributes:
        model: The model; None for a copy without it.
        inputs: The structure of its inputs, and their tensors.
        answers: What calls of frozen modules return.
        entries: The frontier.
        is_plain: Answer by the `forward` of the frozen modules themselves where that is the same: wrapping the calls of
            all modules takes Python's caches of their classes in every step, a third of the step of a small model.
    """

    model: nn.Module | None
    inputs: Answer
    answers: dict[Frame, Answer]
    entries: tuple[Entry, ...]
    is_plain: bool = False

    def __call__(self, *features: Tensor) -> Any:
        """What the model returns for the batch of these features."""
        if self.model is None:
            raise SplitError(
                what="This copy of a head has no model, and its head runs the model's own forward.",
                where="split.head",
                received="a deep copy of split.head alone",
                do="copy both at once: model, head = copy.deepcopy((model, split.head)).",
            )
        pairs = zip(features, self.entries, strict=True)
        size = next(len(feature) for feature, entry in pairs if not entry.tensor.shared)

        def made(answer: Answer) -> Any:
            return filled(answer.template, [place.value(self.entries, features, size) for place in answer.places])

        inputs = made(self.inputs)
        found = _plain_modules(self.model, self.answers) if self.is_plain else None
        if found is None:
            with listening(_Answering(self.model, self.answers, made)):
                return batches.call(self.model, inputs)
        with _answering_forward(found, self.answers, made):
            return batches.call(self.model, inputs)

    def __deepcopy__(self, memo: dict[int, Any]) -> OwnForward:
        """Of the copied model, if it is copied with the head; a copy of the head alone must not train the original."""
        return OwnForward(memo.get(id(self.model)), self.inputs, self.answers, self.entries, self.is_plain)


class _Answering(Listener):
    """Listens to a run, and returns for frozen modules."""

    def __init__(self, model: nn.Module, answers: dict[Frame, Answer], made: Callable[[Answer], Any]) -> None:
        self.frames, self.answers, self.made = Frames(model), answers, made

    def module_called(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[], Any]
    ) -> Any:
        frame = self.frames.counted(module)
        # Calls inside of an answered module do not run, but count: later calls are found by their number.
        answer = self.answers.get(frame) if frame is not None else None
        if answer is None:
            return run()
        self.frames.calls.update(answer.inner)
        return self.made(answer)


def _plain_modules(model: nn.Module, answers: dict[Frame, Answer]) -> dict[str, nn.Module] | None:
    """The answered modules by name, if an answer by their own `forward` is all that their call does; else None."""
    names = {frame.name for frame in answers}
    found = {name: model.get_submodule(name) for name in names}
    inner = {name for answer in answers.values() for name in answer.inner}
    aliases = [name for name, module in model.named_modules(remove_duplicate=False) if module in set(found.values())]
    is_plain = all(
        not (own._forward_hooks or own._forward_pre_hooks or "forward" in vars(own) or own._compiled_call_impl)
        and type(own).__call__ is nn.Module.__call__
        for own in found.values()
    )
    return found if is_plain and not inner & names and len(aliases) == len(names) else None


@contextmanager
def _answering_forward(
    modules: dict[str, nn.Module], answers: dict[Frame, Answer], made: Callable[[Answer], Any]
) -> Generator[None]:
    calls: Counter[str] = Counter()

    def forward_of(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            calls[name] += 1
            answer = answers.get(Frame(name, calls[name] - 1))
            return plain(*args, **kwargs) if answer is None else made(answer)

        return forward

    try:
        for name, module in modules.items():
            object.__setattr__(module, "forward", forward_of(name, module.forward))
        yield
    finally:
        for module in modules.values():
            vars(module).pop("forward", None)


class Uses(Listener):
    """Which inputs and which results of frozen modules a run uses for more than to call these modules.

    Args:
        model: The model.
        frames: Calls of frozen modules that are answered later; here they run.
    """

    def __init__(self, model: nn.Module, frames: frozenset[Frame]) -> None:
        self.model, self.frames, self.answered = model, Frames(model), frames
        self._known: dict[int, tuple[Frame | None, int]] = {}
        self._kept: list[Tensor] = []  # what is known by its id has to live on
        self.used: set[tuple[Frame | None, int]] = set()
        self._mode = TorchCalls(self.torch_called)

    def run_once(self, inputs: Any) -> None:
        """Run the model on a batch."""
        self._know(None, inputs)
        with listening(self), self._mode:
            output = batches.call(self.model, inputs)
        self._use(output)

    def module_called(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], run: Callable[[], Any]
    ) -> Any:
        """An answered module is not listened to."""
        frame = self.frames.counted(module)
        if frame is None or frame not in self.answered:
            return run()
        with self._mode.off():
            result = run()
            self._know(frame, result)
        return result

    def autograd_function_called(
        self, function: type[torch.autograd.Function], args: tuple[Any, ...], run: Callable[[], Any]
    ) -> Any:
        """As any other call."""
        self._use(args)
        return run()

    def torch_called(self, func: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Every torch call outside of answered modules."""
        if torch_calls.name_of(func) not in _HARMLESS:
            self._use((args, kwargs))
        return func(*args, **kwargs)

    def _know(self, frame: Frame | None, value: Any) -> None:
        """The first call that returns a tensor is its origin: a module may hand on what another has made."""
        for at, tensor in enumerate(tensors_in(value)):
            self._kept.append(tensor)
            self._known.setdefault(id(tensor), (frame, at))

    def _use(self, value: Any) -> None:
        self.used.update(self._known[id(tensor)] for tensor in tensors_in(value) if id(tensor) in self._known)


def replayed_recording(model: nn.Module, frost_line: FrostLine, forward: OwnForward, *, training: bool) -> Recording:
    """A recording of one call: of `forward`. It holds all that the head may train."""
    graph = fx.Graph()
    recording = Recording(graph, training=training, output=Slot(0), constants={"own_forward": forward})
    features = [graph.placeholder(f"feature_{at}") for at in range(len(forward.entries))]
    result = graph.call_function(torch_calls.call_function, (graph.get_attr("own_forward"), *features))
    graph.output(((result,), (), ()))
    for name, module in model.named_modules():
        if not frost_line.has_frozen(module):
            if not any(name.startswith(f"{outer}.") for outer in recording.modules):
                recording.modules[name] = module
        elif frost_line.has_trainable(module):
            recording.entered[name] = module
            own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            recording.attributes.update(
                {f"{name}.{leaf}" if name else leaf: tensor for leaf, tensor in own
                 if tensor.requires_grad or not isinstance(tensor, nn.Parameter)}
            )  # fmt: skip
    return recording
