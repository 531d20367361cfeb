"""What the proof of a split depends on, as text: the proof holds again only where all of it is the same.

Values of trainable parameters are not part of it. The recordings run at every split and refuse a trainable value that
reaches Python, and the proof itself moves every trainable weight, so that it never rests on their values.
"""

from __future__ import annotations

import dis
import enum
import hashlib
import platform
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import cached_property
from importlib.metadata import version
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.code_names import Cells, is_installed, nested
from frostline.core.digests import code_digest, tensor_digest
from frostline.splitting.calls.containers import outline
from frostline.splitting.proof.reach import hooks_of, reach
from frostline.splitting.python_state.places import Walk, fingerprint
from frostline.splitting.python_state.sources import Source, sources_of

if TYPE_CHECKING:
    from frostline.splitting.parts.head import Head
    from frostline.splitting.plan.graph_plan import Plan

# Raise it when the proof of a split changes: proofs of before are made again.
_SCHEMA = "3"
_GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks", "_global_backward_hooks",
                 "_global_backward_pre_hooks")  # fmt: skip

_NO_VALUES = (property, cached_property, type(threading.Lock()), type(threading.RLock()))

Figures = Mapping[str, float]


class _Reading(Walk):
    """A walk that reads context variables, and passes over locks, and properties: code that names them is followed."""

    def __init__(self, sources: list[Source], modules: Iterable[nn.Module], **options: Any) -> None:
        super().__init__(sources, modules, is_complete=True, follows_modules=True, **options)
        codes = [part for source in self.sources for part in nested(source.code)]
        self._read |= {str(own.argval) for code in codes for own in dis.get_instructions(code)
                       if own.opname == "IMPORT_FROM"}  # fmt: skip

    def held(self, name: str, value: Any) -> None:
        """A value that no table of the model holds."""
        self._value(name, {0: value}, 0, 0)

    def _container(self, name: str, container: Any, depth: int, *, size: str) -> None:
        super()._container(name, container, depth, size=size)
        self._table(f"{name}.", getattr(container, "__dict__", {}), depth + 1)  # a class of the caller's own has some

    def _object(self, name: str, value: Any, depth: int) -> None:
        if isinstance(value, enum.Enum):
            self.library.append(f"{name} = {type(value).__qualname__}.{value.name} {value.value!r}")
        elif isinstance(value, ContextVar):
            self._value(f"{name} here", {0: cast("ContextVar[Any]", value).get(None)}, 0, depth + 1)
        elif not isinstance(value, _NO_VALUES):
            self.library.append(f"{name} is {_code_of(value)}")
            if isinstance(value, FunctionType) and not is_installed(value):  # others of the same code hold other values
                for kind, table in (("closure", Cells(value)), ("defaults", Source.of_function(value).defaults)):
                    for key in table:
                        self._value(f"{name} {kind} {key}", table, key, depth + 1)
            super()._object(name, value, depth)


class ProofMemory(Protocol):
    """Keeps the figures of proofs that were made, beside the rows of the frozen part: a feature cache does."""

    def recall(self, part: Any, key: Mapping[str, str]) -> Figures | None:
        """The figures of the proof of this part with exactly this key, or None."""
        ...

    def keep(self, part: Any, key: Mapping[str, str], figures: Figures) -> None:
        """Remember a proof that held, or the note that it failed."""
        ...


def proof_key(model: nn.Module, plan: Plan, head: Head) -> dict[str, str] | None:
    """All that the proof of a head depends on, each as a text or a digest.

    Returns:
        None if something that the code reads has no text, or hooks of all modules run: such a proof is made every time.
    """
    if any(getattr(torch.nn.modules.module, hooks) for hooks in _GLOBAL_HOOKS):
        return None
    state = _state(model, plan)
    if state is None:
        return None
    return {
        "schema": _SCHEMA,
        "versions": _versions(model),
        "numerics": _numerics(model),
        "recipe": _digest(sorted(plan.recipe.items())),
        "modules": _digest(_modules(model)),
        "weights": _digest(_weights(model, plan)),
        "code and state": _digest(state),
        "head": _digest(_head(plan, head)),
        "samples": samples_text(plan.recorded),
    }


def samples_text(inputs: Any) -> str:
    """The digest of a batch: structure, shapes, dtypes and values."""
    tensors = [(name, tensor_digest(tensor)) for name, tensor in batches.leaves(inputs).items()]
    return _digest([outline(inputs), *tensors])


def _digest(lines: Iterable[Any]) -> str:
    return hashlib.sha256("\n".join(map(str, lines)).encode()).hexdigest()


def _versions(model: nn.Module) -> str:
    """Of Python, Frostline, torch, NumPy, and of the packages whose classes the model is made of."""
    tops = {kind.__module__.split(".")[0] for module in model.modules() for kind in type(module).__mro__}
    found = {top: getattr(sys.modules.get(top), "__version__", None) for top in tops}
    found |= {"python": platform.python_version(), "frostline": version("frostline"), "numpy": np.__version__}
    return " ".join(f"{name} {version}" for name, version in sorted(found.items()) if version)


def _numerics(model: nn.Module) -> str:
    """How and where numbers are computed."""
    device = next(model.parameters()).device.type
    kinds = sorted({str(parameter.dtype) for parameter in model.parameters()})
    autocast = [
        f"{kind} {torch.is_autocast_enabled(kind)} {torch.get_autocast_dtype(kind)}" for kind in sorted({"cpu", device})
    ]
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    switches = (torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic)
    return f"{device} {name}; {kinds}; {autocast}; {switches}"


def _head(plan: Plan, head: Head) -> Iterator[str]:
    """How the model was recorded, and both modes of the head; constants in them follow from code, state and samples."""
    own = plan.settings
    yield f"{own.is_whole} {sorted(map(str, own.quiet))} {sorted(map(str, own.remade))} {bool(own.replayed)}"
    yield f"{sorted(plan.moved)} {sorted(plan.whole)} {plan.has_batch_numbers} {plan.decides_by_size} {plan.is_steered}"
    for mode in head.modes:
        yield f"{mode.code} {mode.rebound} {mode.asks_for_gradients}"


def _modules(model: nn.Module) -> Iterator[str]:
    """Names, classes and modes of all modules, and what hooks run."""
    for name, module in model.named_modules(remove_duplicate=False):
        kind = type(module)
        yield f"{name} {kind.__module__}.{kind.__qualname__} {module.training}"
        for table, hook in hooks_of(module):
            yield f"{table} {_code_of(hook)}"


def _code_of(function: Any) -> str:
    """A function by its code, a class or a module by its name, another object by its class."""
    plain = getattr(function, "__func__", function)
    code = getattr(plain, "__code__", None)
    if isinstance(code, CodeType):
        return code_digest(code)
    if isinstance(plain, ModuleType):
        return plain.__name__
    kind = plain if isinstance(plain, type) else type(plain)
    return f"{kind.__module__}.{kind.__qualname__}"


def _weights(model: nn.Module, plan: Plan) -> Iterator[str]:
    """All parameters and buffers: how they lie in memory, and values of those that training does not move."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    for name, tensor in tensors:
        owner = first.setdefault(id(tensor), name)
        lies = tensor.stride() if tensor.layout is torch.strided else tensor.layout
        yield f"{name} {owner} {tensor.dtype} {tuple(tensor.shape)} {lies} {tensor.requires_grad}"
        if not tensor.requires_grad and name not in plan.moved and name not in plan.digested:  # these are in the recipe
            yield tensor_digest(tensor)


def _state(model: nn.Module, plan: Plan) -> list[str] | None:
    """The code of all modules and of what they call, and the values that it may read; None if one has no text."""
    modules = dict(model.named_modules())
    known = [id(module) for module in modules.values()]
    ran = [*plan.sources, *(own for module in modules.values() for own in sources_of(module))]
    reached = reach(ran, modules.values())
    if reached is None:
        return None
    code = _Reading(reached.sources, modules.values(), known=known)
    code.scopes()
    for name, imported in reached.imported.items():
        code.held(f"the module {name}", imported)
    walks = [code]
    for name, module in modules.items():  # one each: a walk ends at so many places
        own = _Reading([], [module], reads_all=True, known=known)
        own.module(name, module)
        for at, (table, hook) in enumerate(hooks_of(module)):
            own.held(f"{name} {table} {at}", hook)
        walks.append(own)
    if any(walk.unnamed for walk in walks):
        return None
    lines = [*(code_digest(source.code) for source in code.sources), *code.default_numbers()]
    lines += [name for walk in walks for name in walk.library]
    for place in (place for walk in walks for place in walk.places):
        if isinstance(place.value, Iterator):
            return None
        is_trained = isinstance(place.value, Tensor) and place.value.requires_grad
        lines.append(f"{place.name} {'' if is_trained else fingerprint(place.value)}")
    return sorted(set(lines))  # classes and default arguments come in an order of each process
