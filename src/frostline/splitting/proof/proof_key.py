"""What the proof of a split depends on, as text: the proof holds again only where all of it is the same.

Values of trainable parameters are not part of it. The recordings run at every split and refuse a trainable value that
reaches Python, and the proof itself moves every trainable weight, so that it never rests on their values.
"""

from __future__ import annotations

import hashlib
import platform
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.digests import code_digest, tensor_digest
from frostline.splitting.calls.containers import outline
from frostline.splitting.python_state.places import Walk, fingerprint
from frostline.splitting.python_state.sources import sources_of

if TYPE_CHECKING:
    from frostline.splitting.parts.head import Head
    from frostline.splitting.plan.plan import Plan

# Raise it when the proof of a split changes: proofs of before are made again.
_SCHEMA = "1"
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")

_NO_VALUES = (property, cached_property, type(threading.Lock()), type(threading.RLock()))

Figures = Mapping[str, float]


class _Reading(Walk):
    """A walk that reads context variables, and passes over locks, and properties: code that names them is followed."""

    def _object(self, name: str, value: Any, depth: int) -> None:
        if isinstance(value, ContextVar):
            self._value(f"{name} here", {0: cast("ContextVar[Any]", value).get(None)}, 0, depth + 1)
        elif not isinstance(value, _NO_VALUES):
            super()._object(name, value, depth)


class ProofMemory(Protocol):
    """Keeps the figures of proofs that held, beside the rows of the frozen part: a feature cache does."""

    def recall(self, part: Any, key: Mapping[str, str]) -> Figures | None:
        """The figures of the proof of this part with exactly this key, or None."""
        ...

    def keep(self, part: Any, key: Mapping[str, str], figures: Figures) -> None:
        """Remember a proof that held."""
        ...


def proof_key(model: nn.Module, plan: Plan, head: Head) -> dict[str, str] | None:
    """All that the proof of a head depends on, each as a text or a digest.

    Returns:
        None if something that the code reads has no text: such a proof is made every time.
    """
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
        for hooks in _HOOKS:
            yield f"{hooks} {[_code_of(hook) for hook in getattr(module, hooks).values()]}"


def _code_of(function: Any) -> str:
    plain = getattr(function, "__func__", function)
    code = getattr(plain, "__code__", None)
    return code_digest(code) if code is not None else f"{type(plain).__module__}.{type(plain).__qualname__}"


def _weights(model: nn.Module, plan: Plan) -> Iterator[str]:
    """All parameters and buffers: how they lie in memory, and values of those that training does not move."""
    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    for name, tensor in tensors:
        owner = first.setdefault(id(tensor), name)
        yield f"{name} {owner} {tensor.dtype} {tuple(tensor.shape)} {tensor.stride()} {tensor.requires_grad}"
        if not tensor.requires_grad and name not in plan.moved and name not in plan.weights:  # these are in the recipe
            yield tensor_digest(tensor)


def _state(model: nn.Module, plan: Plan) -> list[str] | None:
    """The code of all modules and of what they call, and the values that it may read; None if one has no text."""
    modules = dict(model.named_modules())
    known = [id(module) for module in modules.values()]
    sources = [*plan.sources, *(own for module in modules.values() for own in sources_of(module))]
    code = _Reading(sources, modules.values(), is_complete=True, follows_modules=True, known=known)
    code.scopes()
    walks = [code]
    for name, module in modules.items():  # one each: a walk ends at so many places
        own = _Reading([], [module], is_complete=True, reads_all=True, follows_modules=True, known=known)
        own.module(name, module)
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
