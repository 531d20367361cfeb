"""The head: the trainable part as a module over the model's own submodules, parameters and buffers.

It is made from the recordings of both modes and their graphs; `model_binding.py` holds what ties it to the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, fx, nn

from frostline.core.doors import out_of_memory
from frostline.core.errors import SplitError
from frostline.core.inputs import describe
from frostline.core.layers import is_pinned
from frostline.core.steps import copied
from frostline.splitting.calls.containers import filled
from frostline.splitting.calls.grad_and_autocast import kept_region
from frostline.splitting.parts.model_binding import BoundTensor, ModeGraph, ModelBinding, ReadTensor
from frostline.splitting.python_state.kept_state import watched_places
from frostline.splitting.python_state.module_tables import ModuleTables
from frostline.splitting.python_state.places import has_state
from frostline.splitting.recording.changes import leave

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from frostline.core.given_rows import GivenRows
    from frostline.splitting.parts.frontier import Frontier
    from frostline.splitting.python_state.places import Place
    from frostline.splitting.recording.run_record import Recording

# A layer whose name a GraphModule or a Head has as an attribute, such as `code` or `graph`, is read under this prefix.
_PREFIX = "layer_named_"


class Head(nn.Module):
    """The trainable part of a model: `head(*features)` returns what the model returns.

    It holds the model's own trainable submodules and parameters under their own names, so training it trains the
    model, and `state_dict()` keys are the model's. `head.training` chooses between the recording of `train()` and
    that of `eval()`.

    Args:
        model: The model.
        modes: The recordings in `eval()` and in `train()`, each with its finished graph.
        frontier: The frontier that both graphs read.
        has_queues: Watch queues, sets and iterators of the model too; False where the head itself moves them.

    Attributes:
        code: The Python code of the current mode; `print(head.code)` is readable.
        graph: The `fx.Graph` of the current mode.
        modes: The graphs of `eval()` and of `train()`.
    """

    def __init__(
        self, model: nn.Module, modes: tuple[tuple[Recording, fx.Graph], tuple[Recording, fx.Graph]],
        frontier: Frontier, *, has_queues: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self._frontier = frontier
        evaluated, trained = recordings = (modes[0][0], modes[1][0])
        bound = [tensor for recording in recordings for tensor in _mounted(self, model, recording)]
        # Two graphs over one tree of modules, so that `state_dict()` has the model's names once.
        self.modes = tuple(_mode_graph(self, recording, graph) for recording, graph in modes)
        followed = set(evaluated.modules).intersection(trained.modules)
        self._binding = ModelBinding(
            model, bound,
            read=[ReadTensor(tensor, name, tensor._version) for own in recordings for tensor, name in own.steered_by],
            places=_places(recordings, has_queues=has_queues),
            tables=ModuleTables(model, followed, has_own_forward="own_forward" in trained.constants),
        )  # fmt: skip
        self._unused: set[str] = set()  # parameters that train and that no output needs
        vars(self)["_own_mode"] = model.training

    @property
    def uses_all(self) -> bool:
        """True if every step gives each parameter a gradient, as the calls of a graph do."""
        return not runs_own_forward(self)

    def __getattr__(self, name: str) -> Any:
        if name.startswith(_PREFIX):
            own = name.removeprefix(_PREFIX)
            for table in (self._modules, self._parameters, self._buffers):
                if own in table:
                    return table[own]
        return super().__getattr__(name)

    def prove_sizes_with(self, prove_size: Callable[[int], None]) -> None:
        """Ask for a proof at every batch size that is met for the first time."""
        self._binding.prove_size = prove_size

    # A loop calls `model.train()`, or sets the flags of all modules that it holds: the head follows both.
    @property
    def training(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The mode of the model; that of the head alone in a copy without a model."""
        model = vars(self)["_binding"].model if "_binding" in vars(self) else None
        return vars(self)["_own_mode"] if model is None else model.training

    @training.setter
    def training(self, mode: bool) -> None:
        vars(self)["_own_mode"] = mode
        model = vars(self)["_binding"].model if "_binding" in vars(self) else None
        if model is not None and model.training is not mode:
            for module in model.modules():  # not by `train`, which a model may count; frozen layers keep theirs
                if not is_pinned(module):
                    module.training = mode

    @property
    def given(self) -> GivenRows | None:
        """What loaders have given out for this head; None before its features were filled."""
        return self._binding.given

    def check_batches_with(self, given: GivenRows) -> None:
        """Compare batches in training with what loaders have given out."""
        self._binding.given = given
        self._unused = self._binding.trains_beside(self)

    @property
    def bound_model(self) -> nn.Module | None:
        """The model that the head was split from, whose buffers and attributes a call may move; None in a copy."""
        return self._binding.model

    def adopt(self, other: Head) -> None:
        """Become another head of the same model, which holds for more batches; references to this one stay valid."""
        own = dict(vars(other))
        vars(self).clear()
        vars(self).update(own)

    def check_modules(self) -> None:
        """Raise a SplitError if a module was replaced since the split, or got another forward or a hook."""
        self._binding.check_modules()

    @property
    def code(self) -> str:
        """The Python code of the current mode."""
        return self._mode.code

    @property
    def graph(self) -> fx.Graph:
        """The graph of the current mode."""
        return self._mode.graph

    @property
    def _mode(self) -> ModeGraph:
        return self.modes[int(self.training)]

    def forward(self, *features: Any) -> Any:
        """Run the trainable part.

        Args:
            features: One tensor per frontier entry, as `extract` and the cached loader give them:
                (B, *shape), or the whole tensor for a shared one. All of them may come as one tuple or list, as
                trainers give a module what a loader puts in the first place of a batch.

        Returns:
            What the model returns.

        Raises:
            SplitError: If the features do not fit the frontier, or the model was changed under the head.
            DataError: If a training loop has changed the batch that a loader of these features gave.
        """
        if len(features) == 1 and isinstance(features[0], (tuple, list)):
            features = tuple(cast("Sequence[Any]", features[0]))
        if not all(isinstance(feature, Tensor) for feature in features):
            raise _no_tensors(features)
        if self._binding.prove_size is not None:
            self._binding.prove_size(self._batch_size(features))
        given = self._binding.given
        if given is not None and not torch.compiler.is_compiling():
            if self.training and torch.is_grad_enabled():
                if given.check(features):
                    self._check_line()
            else:
                given.forget()
        return self.recorded(*features)

    def recorded(self, *features: Tensor) -> Any:
        """The trainable part as it was recorded, whatever the batch size."""
        self._check(features)
        mode = self._mode
        if mode.asks_for_gradients and torch.is_grad_enabled():  # reentrant checkpoints give none without
            features = tuple(f.detach().requires_grad_(f.is_floating_point()) for f in features)
        try:
            with kept_region():
                outputs, rebound, left = mode.forward(self, *features)
        except RuntimeError as error:
            raise _failed(error) from error
        for name, value in zip(mode.rebound, rebound, strict=True):
            self._rebind(name, value)
        if self._binding.model is not None:
            leave(self._binding.model, mode.left, left)
        return filled(mode.template, outputs)

    def _check(self, features: tuple[Tensor, ...]) -> None:
        entries = self._frontier.entries
        if len(features) != len(entries):
            raise SplitError(
                what="The head was called with another number of features than the frontier has.",
                where="split.head",
                received=f"{len(features)} tensors; the frontier has {len(entries)}",
                do="call split.head(*features) with the tuple that split.extract or the cached loader gives.",
            )
        for feature, entry in zip(features, entries, strict=True):
            shape = feature.shape if entry.tensor.shared else feature.shape[1:]
            expected = entry.tensor.shape
            if len(shape) != len(expected) or any(b not in (-1, a) for a, b in zip(shape, expected, strict=True)):
                raise SplitError(
                    what=f"The feature {entry.tensor.name!r} has another shape than the frontier.",
                    where=f"split.head, {entry.tensor.name}",
                    received=f"{tuple(feature.shape)}; expected {'' if entry.tensor.shared else 'B x '}"
                    f"{entry.tensor.shape}",
                    do="pass the features of this split, in the order of split.frontier; or split again.",
                )
        self._binding.check()

    def _check_line(self) -> None:
        """Raise if layers below the frost line train now, as callbacks of trainers make them."""
        moved = sorted(self._binding.trains_beside(self) - self._unused)
        if moved:
            raise SplitError(
                what="The frost line was moved after the split: layers train now that the head does not hold.",
                where="split.head", received=f"{', '.join(map(repr, moved[:3]))}{' and more' if moved[3:] else ''}",
                do="thaw first, then call frostline.split(model, example) and FeatureCache.fill again; while the model "
                "trains, frostline.fit(..., thaw={epoch: 'LAYER'}) does it.",
            )  # fmt: skip

    def _batch_size(self, features: tuple[Tensor, ...]) -> int:
        entries = self._frontier.entries
        rows = (feature for feature, entry in zip(features, entries, strict=False) if not entry.tensor.shared)
        return next((len(feature) for feature in rows if feature.dim()), 0)

    def train(self, mode: bool = True) -> Head:
        """Set the mode as the model's own `train` does, which may keep some layers in another one."""
        if self._binding.model is not None:
            self._binding.model.train(mode)
        else:
            super().train(mode)
        self.training = mode  # pyright: ignore[reportIncompatibleVariableOverride]
        return self

    def _rebind(self, name: str, value: Tensor) -> None:
        owner_name, _, leaf = name.rpartition(".")
        self.get_submodule(owner_name)._buffers[leaf] = value
        for tensor in self._binding.tensors:
            if tensor.name == name:
                tensor.follow()


def copied_head(head: nn.Module, device: torch.device | None = None) -> nn.Module:
    """A copy of a head, or of any module, that can be trained beside it.

    Frozen weights are shared where the copy stays on the device.

    Args:
        head: A head, or a copy of one.
        device: Where the copy goes; None leaves it where the head is.

    Raises:
        DataError: If it cannot be copied.
    """
    model = model_of(head)
    shared = [p for p in model.parameters() if not p.requires_grad and device in (None, p.device)]
    if runs_own_forward(head):
        twin, made = copied(model, head, shared=shared)
        twin.to(device)
    else:
        made = copied(head, shared=shared)[0]
    made.to(device)
    for name, value in vars(made).items():  # constants of its graphs are no buffers
        if isinstance(value, Tensor) and device is not None:
            object.__setattr__(made, name, value.to(device))
    return made


def runs_own_forward(head: nn.Module) -> bool:
    """True for a head that runs the forward of the model that it is bound to, since no graph holds."""
    return isinstance(head, Head) and "train_own_forward" in vars(head)


def model_of(head: nn.Module) -> nn.Module:
    """The model whose weights a head shares; any other module stands for itself."""
    model = head._binding.model if isinstance(head, Head) else None
    return head if model is None else model


_TAKEN = frozenset([*dir(fx.GraphModule), *dir(Head)])


def _mounted(head: Head, model: nn.Module, recording: Recording) -> Iterator[BoundTensor]:
    """Give the head the modules and tensors that a recording reads, each under the name that it has in the model."""
    for name in sorted(recording.modules, key=lambda name: name.count(".")):
        mirror, leaf, is_own = _container(head, model, name)
        if not is_own:
            mirror._modules[leaf] = recording.modules[name]
    for name, tensor in recording.attributes.items():
        mirror, leaf, is_own = _container(head, model, name)
        if is_own or leaf in mirror._parameters or leaf in mirror._buffers:
            continue
        owner = model.get_submodule(name.rpartition(".")[0])
        if isinstance(tensor, nn.Parameter):
            mirror.register_parameter(leaf, tensor)
        else:
            mirror.register_buffer(leaf, tensor, persistent=leaf not in owner._non_persistent_buffers_set)
        yield BoundTensor(owner, mirror, leaf, name, tensor)


def _container(head: Head, model: nn.Module, name: str) -> tuple[nn.Module, str, bool]:
    """(module of the head that stands for the owner, leaf, True if that module is the model's own)."""
    path, _, leaf = name.rpartition(".")
    mirror: nn.Module = head
    real: nn.Module = model
    for part in path.split(".") if path else ():
        real = real.get_submodule(part)
        if part not in mirror._modules:
            mirror._modules[part] = nn.Module()
        mirror = mirror.get_submodule(part)
    return mirror, leaf, mirror is real


def _mode_graph(head: Head, recording: Recording, graph: fx.Graph) -> ModeGraph:
    mode = "train" if recording.training else "eval"
    for name, value in recording.constants.items():
        object.__setattr__(head, f"{mode}_{name}", value)
    for node in graph.nodes:
        if node.op == "get_attr" and node.target in recording.constants:
            node.target = f"{mode}_{node.target}"
        if node.op in ("get_attr", "call_module") and str(node.target).partition(".")[0] in _TAKEN:
            node.target = f"{_PREFIX}{node.target}"
    return ModeGraph(
        graph, recording.output, tuple(recording.rebound), tuple(recording.left), recording.asks_for_gradients
    )


def _places(recordings: tuple[Recording, ...], *, has_queues: bool) -> list[Place]:
    """The values that the recorded code may read from the modules that it entered."""
    # A scalar that is annealed during training would stand still in a graph.
    entered = {name: module for recording in recordings for name, module in recording.entered.items()}
    sources = {key: source for recording in recordings for key, source in recording.sources.items()}
    left = {place for recording in recordings for own in recording.left for place in own.places()}
    places = watched_places(entered, sources.values(), left)
    return [place for place in places if has_queues or not has_state(place.value)]


def _no_tensors(features: tuple[Any, ...]) -> SplitError:
    return SplitError(
        what="The head was called with something else than tensors, one for each part of the frontier.",
        where="split.head", received=", ".join(map(describe, features)),
        do="pass the features that a batch of the loader begins with: for features, target in loader: "
        "split.head(*features).",
    )  # fmt: skip


def _failed(error: RuntimeError) -> Exception:
    """An error of the graph, in four parts; running out of memory is raised as it is."""
    if out_of_memory(error) is not None:
        return error
    return SplitError(
        what="The trainable part fails on these features.",
        where="split.head",
        received=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}",
        do="call the model itself on the same inputs: if it fails too, correct it there; if it catches this error, "
        "train with frostline.fit(..., cache=False).",
    )
