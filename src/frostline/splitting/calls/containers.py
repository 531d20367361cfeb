"""Tensors inside of whatever a model passes around: tuples, mappings, dataclasses, plain objects."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from frostline.core.digests import stored_parts

_CLOSED = (
    str, bytes, int, float, complex, type, nn.Module, FunctionType, BuiltinFunctionType, MethodType, ModuleType,
    torch.dtype, torch.device, torch.Size, torch.Generator, torch.memory_format, torch.layout,
)  # fmt: skip


_ATOMS = frozenset((type(None), bool, int, float, str, torch.dtype, torch.device, torch.Size))  # found at once
_CONTAINERS = frozenset((tuple, list, dict))


@dataclass(frozen=True)
class Step:
    """One step from a value to a part of it: an item (`value[key]`) or an attribute (`value.key`)."""

    key: Any
    is_attribute: bool


Path = tuple[Step, ...]


@dataclass(frozen=True)
class Slot:
    """Stands in a template where the tensor number `index` belongs."""

    index: int


def tensor_paths(value: Any) -> list[tuple[Path, Tensor]]:
    """Every tensor inside `value` with the way to it, in a fixed order."""
    found: list[tuple[Path, Tensor]] = []
    _find(value, (), found, set())
    return found


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor inside `value`."""
    return [tensor for _, tensor in tensor_paths(value)]


def is_plain(value: Any) -> bool:
    """True if `value` is made of tensors, numbers, texts, tuples, lists, slices and dicts alone.

    Any other object may carry tensors from module to module, or be filled by one (a key/value cache).
    """
    if value is None or isinstance(value, (Tensor, *_CLOSED)):
        return True
    if isinstance(value, slice):
        return all(is_plain(part) for part in (value.start, value.stop, value.step))
    if type(value) in (tuple, list) or type(value).__bases__ == (tuple,):  # named tuples, but not a PackedSequence
        return all(is_plain(part) for part in cast("Sequence[Any]", value))
    if type(value) is dict:
        return all(is_plain(part) for part in cast("dict[Any, Any]", value).values())
    return False


def calls_itself_otherwise(module: nn.Module) -> bool:
    """True if the class of a module computes in `__call__`, around its forward."""
    kinds = type(module).__mro__
    return any("__call__" in vars(kind) for kind in kinds[: kinds.index(nn.Module)])


def is_same(one: Tensor, other: Tensor) -> bool:
    """True for two tensors of the same shape and values, NaN included."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.layout is not torch.strided or other.layout is not torch.strided:
        ours, theirs = stored_parts(one), stored_parts(other)
        return one.layout is other.layout and all(map(is_same, ours, theirs))
    is_equal = torch.equal(one, other)
    if is_equal or not (one.is_floating_point() or one.is_complex()):
        return is_equal
    return bool(((one == other) | ((one != one) & (other != other))).all())


def outline(value: Any) -> Any:
    """The structure of `value` without the contents of tensors: kinds, numbers, texts; two outlines can be compared."""
    if isinstance(value, Tensor):
        return ("tensor", str(value.dtype), value.dim())
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return (type(value).__name__, value)
    if isinstance(value, Mapping):
        parts = cast("Mapping[Any, Any]", value).items()
        return (type(value).__name__, tuple((str(key), outline(part)) for key, part in parts))
    if isinstance(value, (tuple, list)):
        return (type(value).__name__, tuple(map(outline, cast("Sequence[Any]", value))))
    if isinstance(value, (*_CLOSED, slice)):
        return (type(value).__name__, str(value))
    return (type(value).__name__, tuple((name, outline(part)) for name, part in sorted(attributes_in(value).items())))


def replace(value: Any, change: Callable[[Any], Any], kinds: type | tuple[type, ...] = Tensor) -> Any:
    """A copy of `value` in which everything of `kinds` is changed; parts without any are shared."""
    if isinstance(value, kinds):
        return change(value)
    if value is None or isinstance(value, _CLOSED):
        return value
    if isinstance(value, slice):
        return slice(*(replace(part, change, kinds) for part in (value.start, value.stop, value.step)))
    if isinstance(value, (tuple, list)):
        return _replace_sequence(cast("Sequence[Any]", value), change, kinds)
    if isinstance(value, Mapping):
        return _replace_mapping(cast("Mapping[Any, Any]", value), change, kinds)
    return _replace_object(value, change, kinds)


def has_numbers(value: Any) -> bool:
    """True if numbers or texts stand beside the tensors."""
    found: list[Any] = []

    def take(number: Any) -> Any:
        found.append(number)
        return number

    replace(value, take, (bool, int, float, complex, str))
    return bool(found)


def template_of(value: Any) -> tuple[Any, list[Tensor]]:
    """`value` with a `Slot` for every tensor, and the tensors."""
    tensors: list[Tensor] = []

    def take(tensor: Tensor) -> Slot:
        tensors.append(tensor)
        return Slot(len(tensors) - 1)

    return replace(value, take), tensors


def filled(template: Any, tensors: Sequence[Any]) -> Any:
    """The inverse of `template_of`."""
    return replace(template, lambda slot: tensors[slot.index], Slot)


def _find(value: Any, path: Path, found: list[tuple[Path, Tensor]], seen: set[int]) -> None:
    kind = type(value)
    if kind in _ATOMS:
        return
    if isinstance(value, Tensor):
        found.append((path, value))
        return
    if (kind not in _CONTAINERS and isinstance(value, _CLOSED)) or id(value) in seen:
        return
    seen = seen | {id(value)}
    if isinstance(value, (tuple, list)):
        for at, part in enumerate(cast("Sequence[Any]", value)):
            if type(part) not in _ATOMS:
                _find(part, (*path, Step(at, False)), found, seen)
    elif isinstance(value, Mapping):
        for key, part in cast("Mapping[Any, Any]", value).items():
            if type(part) not in _ATOMS:
                _find(part, (*path, Step(key, False)), found, seen)
    elif isinstance(value, slice):
        for key in ("start", "stop", "step"):
            _find(getattr(value, key), (*path, Step(key, False)), found, seen)
    else:
        for key, part in attributes_in(value).items():
            _find(part, (*path, Step(key, True)), found, seen)


def _replace_sequence(value: Sequence[Any], change: Callable[[Any], Any], kinds: Any) -> Any:
    parts = [replace(part, change, kinds) for part in value]
    if all(new is old for new, old in zip(parts, value, strict=True)):
        return value
    if isinstance(value, list):
        return parts
    kind: Any = type(value)
    return tuple.__new__(kind, parts) if hasattr(value, "_fields") else kind(parts)


def _replace_mapping(value: Mapping[Any, Any], change: Callable[[Any], Any], kinds: Any) -> Any:
    parts = {key: replace(part, change, kinds) for key, part in value.items()}
    if all(parts[key] is part for key, part in value.items()):
        return value
    copied = cast("dict[Any, Any]", copy.copy(value))
    for key, part in parts.items():
        copied[key] = part
    return copied


def _replace_object(value: Any, change: Callable[[Any], Any], kinds: Any) -> Any:
    attributes = attributes_in(value)
    parts = {key: replace(part, change, kinds) for key, part in attributes.items()}
    if all(parts[key] is part for key, part in attributes.items()):
        return value
    copied = copy.copy(value)
    for key, part in parts.items():
        object.__setattr__(copied, key, part)  # frozen dataclasses are rebuilt too
    return copied


def attributes_in(value: Any) -> dict[str, Any]:
    """What an object keeps, in slots and attributes."""
    slots = [name for kind in type(value).__mro__ for name in _slot_names(kind)]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return {**found, **getattr(value, "__dict__", {})}


def _slot_names(kind: type) -> Sequence[str]:
    slots: Any = kind.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def detached(value: Any) -> Any:
    """A copy with copies of the tensors, which later writes do not reach."""
    return replace(value, lambda tensor: tensor.detach().clone())
