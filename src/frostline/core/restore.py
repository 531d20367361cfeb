"""Context managers that put back what they change in a user's model and process."""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from contextlib import ExitStack, contextmanager
from operator import is_
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from torch import Tensor

GeneratorStates: TypeAlias = "tuple[Any, dict[str, Any], Tensor, tuple[Tensor, ...]]"


def generator_states() -> GeneratorStates:
    """The states of the global python, numpy, torch and, where CUDA is in use, CUDA generators."""
    # Asking would start CUDA, which a forked worker cannot; before it has started, nothing was drawn.
    cuda = tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else ()
    return random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state(), cuda


def drawn_generator(before: GeneratorStates, now: GeneratorStates | None = None) -> str | None:
    """The library whose global generator is not in this state any more: python, numpy or torch; None without one."""
    now = generator_states() if now is None else now
    if before[0] != now[0]:
        return "python"
    if numpy_mark(before[1]) != numpy_mark(now[1]):
        return "numpy"
    if not torch.equal(before[2], now[2]) or not all(map(torch.equal, before[3], now[3])):
        return "torch"
    return None


def numpy_mark(state: Any) -> tuple[Any, ...]:
    """A state of NumPy's global generator as something that can be compared; normal numbers are drawn in pairs."""
    own = state["state"]
    return own["pos"], own["key"].tobytes(), state["has_gauss"], state["gauss"]


def set_generator_states(states: GeneratorStates) -> None:
    """Put the global generators back to `states`."""
    python, numpy, cpu, cuda = states
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(cpu)
    if cuda:
        torch.cuda.set_rng_state_all(list(cuda))
    elif _has_accelerator():
        # nothing was drawn there: CUDA starts with the seed of the others, whoever has started or seeded it since
        torch.cuda.manual_seed_all(torch.initial_seed())


def seed_generators(seed: int) -> None:
    """Seed the global python, numpy and torch generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    if _has_accelerator():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def _has_accelerator() -> bool:
    """False if this build of torch knows none; whether one is there is not asked, since that would start CUDA.

    For devices that have not started, torch keeps a note of the seed with a text of the whole stack of calls, for each
    of CUDA, XPU and MTIA. It takes a good part of a step of a small network, and where none can start nobody reads it.
    """
    return torch.accelerator.current_accelerator() is not None


@contextmanager
def kept_generators() -> Generator[None]:
    """Inside, draw as you like; outside, nobody can tell."""
    states = generator_states()
    try:
        yield
    finally:
        set_generator_states(states)


@contextmanager
def plain_ambient(dtype: torch.dtype = torch.float32) -> Generator[None]:
    """Inside, torch stands as in a fresh process: with gradients, on the CPU by default, without ambient autocast.

    Deterministic algorithms are the caller's wish, and stay as they are.

    Args:
        dtype: The default dtype inside.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(without_autocast())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(default_dtype(dtype))
        yield


@contextmanager
def without_autocast() -> Generator[None]:
    """Inside, operations run in the dtype of their arguments, on the CPU and on the accelerator."""
    accelerator = torch.accelerator.current_accelerator()
    with ExitStack() as stack:
        for kind in ["cpu", *([accelerator.type] if accelerator is not None else [])]:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


@contextmanager
def default_dtype(dtype: torch.dtype) -> Generator[None]:
    """Inside, this is the dtype of new tensors; autocast and gradients stay as the caller has them."""
    was = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(was)


@contextmanager
def plain_kernels() -> Generator[None]:
    """Inside, torch's own kernels run instead of those of cuDNN and of fused attention.

    cuDNN multiplies in TF32, draws the noise of recurrent layers from a generator of its own, and cannot run them
    backward in inference mode; the noise of fused attention follows the layout of its arguments in memory.
    """
    was, torch.backends.cudnn.enabled = torch.backends.cudnn.enabled, False
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.cudnn.enabled = was


@contextmanager
def plain_calls(model: nn.Module) -> Generator[None]:
    """Inside, modules that were compiled in place (`module.compile()`) run as they are written."""
    compiled = [module for module in model.modules() if vars(module).get("_compiled_call_impl") is not None]
    calls = [vars(module).pop("_compiled_call_impl") for module in compiled]
    try:
        yield
    finally:
        for module, call in zip(compiled, calls, strict=True):
            module._compiled_call_impl = call


def _moved_by(model: nn.Module) -> list[nn.Module]:
    """The modules whose state a call may move: of a head, those of the model that it was split from as well."""
    own, bound = [*model.modules()], getattr(model, "bound_model", None)
    known = {id(module) for module in own}
    return own + ([each for each in bound.modules() if id(each) not in known] if isinstance(bound, nn.Module) else [])


@contextmanager
def kept_modes(model: nn.Module) -> Generator[None]:
    """Put every module's `training` flag back; modules that came in meanwhile get that of the model."""
    # a script that torch.jit.freeze made has no mode until one is set
    modes = [(module, getattr(module, "training", False)) for module in _moved_by(model)]
    known, is_training = {id(module) for module, _ in modes}, model.training
    try:
        yield
    finally:
        for module in _moved_by(model):
            if id(module) not in known:
                module.training = is_training
        for module, training in modes:
            if getattr(module, "training", False) is not training:
                module.training = training


@contextmanager
def evaluating(model: nn.Module) -> Generator[None]:
    """Inside, the model is in evaluation; afterwards every module is in its own mode."""
    with kept_modes(model):
        model.eval()
        yield


@contextmanager
def undisturbed(model: nn.Module) -> Generator[None]:
    """Inside, the model may be run in evaluation, without autocast; afterwards it is as it was, and so are generators.

    Buffers that a forward pass moves, what it keeps in attributes, and modes are put back. Calls that hooks make
    outside of the model are not taken back.
    """
    with ExitStack() as stack:
        for kept in (kept_generators(), kept_attributes(model, numbers=True), kept_buffers(model), evaluating(model)):
            stack.enter_context(kept)
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(without_autocast())
        yield


# What modules keep values in; hooks are kept in ordered dicts.
_HOLDERS = frozenset((dict, OrderedDict, list, set, deque))
# Most of what a module keeps: none of it is a record. Models of a hundred modules keep thousands of them.
_NO_RECORDS = _HOLDERS | {bool, int, float, str, tuple, type(None)}


@contextmanager
def kept_attributes(model: nn.Module, *, numbers: bool) -> Generator[None]:
    """Put back what modules keep in plain attributes: caches, stashed values, and lists and dicts they are kept in.

    Args:
        model: The model.
        numbers: Put numbers back too; else they stay as they are, so that a counter that steers is seen to move.
    """
    modules = _moved_by(model)
    tables, kinds = [vars(module) for module in modules], [*map(type, modules)]
    tables += [vars(value) for table in tables for value in table.values() if _is_record(value)]
    with kept_values(tables, numbers=numbers):
        try:
            yield
        finally:
            for module, kind in zip(modules, kinds, strict=True):
                if type(module) is not kind:  # forward may give a module another class
                    module.__class__ = kind


@contextmanager
def kept_values(tables: list[dict[str, Any]], values: Iterable[Any] = (), *, numbers: bool = True) -> Generator[None]:
    """Put back the entries of these tables, and what containers among their entries and these values hold."""
    copies = [(table, table.copy()) for table in tables]
    holders = [own for own in (*values, *(v for _, kept in copies for v in kept.values())) if type(own) in _HOLDERS]
    contents = [holder.copy() if holder else () for holder in holders]
    try:
        yield
    finally:
        for table, kept in copies:
            if len(table) != len(kept) or not all(map(is_, table.values(), kept.values())) or [*table] != [*kept]:
                _put_back(table, kept, numbers=numbers)
        for holder, content in zip(holders, contents, strict=True):
            if not holder and not content:
                continue
            if isinstance(holder, (list, deque)):
                holder.clear()
                holder.extend(content)
            elif isinstance(holder, set) or _differs(holder, content):
                holder.clear()
                holder.update(content)


def _is_record(value: Any) -> bool:
    """True for an object that keeps values in attributes, and is no module, function or class."""
    if type(value) in _NO_RECORDS:
        return False
    is_other = isinstance(value, (nn.Module, type, ModuleType)) or callable(value) or torch.is_tensor(value)
    return hasattr(value, "__dict__") and not is_other


def _put_back(table: dict[str, Any], kept: dict[str, Any], *, numbers: bool) -> None:
    for name in table.keys() | kept.keys():
        if table.get(name, kept) is kept.get(name, table) or name == "training":
            continue  # nothing was changed; `kept_modes` puts modes back
        if isinstance(table.get(name), (bool, int, float)) and not numbers:
            continue
        if name in kept:
            table[name] = kept[name]
        else:
            del table[name]


def _differs(one: dict[Any, Any], other: dict[Any, Any] | tuple[()]) -> bool:
    if not isinstance(other, dict):
        return bool(one)
    return list(one) != list(other) or any(one[key] is not other[key] for key in other)


@contextmanager
def kept_gradients(model: nn.Module) -> Generator[None]:
    """Set every `.grad` aside, and put the same tensors back."""
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient


@contextmanager
def kept_buffers(model: nn.Module) -> Generator[None]:
    """Put every buffer's value back to the bit, in place, and replaced buffers back to their tensors."""
    slots = [
        (module._buffers, name, buffer)
        for module in _moved_by(model)
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    copies = [buffer.detach().clone() for _, _, buffer in slots]
    try:
        yield
    finally:
        with torch.no_grad():
            for (table, name, buffer), copy in zip(slots, copies, strict=True):
                table[name] = buffer
                if buffer.shape != copy.shape:  # the first range that an observer of a quantisation sees
                    buffer.resize_(copy.shape)
                buffer.copy_(copy)


@contextmanager
def kept_parameters(model: nn.Module) -> Generator[None]:
    """Put the value of every trainable parameter back to the bit, in place, and its count of writes."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    copies = [parameter.detach().clone() for parameter in parameters]
    with _unsafe_preserve_version_counter(tuple(parameters)):  # the values are those of that count
        try:
            yield
        finally:
            with torch.no_grad():
                for parameter, copy in zip(parameters, copies, strict=True):
                    parameter.copy_(copy)


class _Copies(TorchDispatchMode):
    """Copies tensors before an operator writes into them, by whatever view of their memory."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()
        self._left = {own.untyped_storage().data_ptr(): own for own in tensors}
        self.made: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.is_mutable:
            given = kwargs or {}
            for at, own in enumerate(func._schema.arguments):
                if own.alias_info is not None and own.alias_info.is_write:
                    written = args[at] if at < len(args) else given.get(own.name)
                    self._copy(written if isinstance(written, (list, tuple)) else [written])
        return func(*args, **(kwargs or {}))

    def _copy(self, written: Iterable[Any]) -> None:
        for tensor in written:
            if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided:
                own = self._left.pop(tensor.untyped_storage().data_ptr(), None)
                if own is not None:
                    self.made.append((own, own.detach().clone()))


@contextmanager
def kept_if_written(tensors: Sequence[Tensor]) -> Generator[None]:
    """Put back those of these tensors that operators of torch write into; only these are copied, before the first."""
    strided = [own for own in tensors if own.layout is torch.strided]
    if not strided:
        yield
        return
    copies = _Copies(strided)
    try:
        with copies:
            yield
    finally:
        with torch.no_grad():
            for tensor, copy in copies.made:
                tensor.copy_(copy)
