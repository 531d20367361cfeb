"""Texts of Python values for the recipe key: two values have one text only if torch computes the same with them.

A value whose content cannot be read has no text. It is never named by its type alone: the split is refused.
"""

from __future__ import annotations

import builtins
import enum
import functools
import hashlib
import numbers
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from frostline.core.code_names import is_library
from frostline.core.digests import code_digest, tensor_digest
from frostline.core.generators import GENERATORS, state_of
from frostline.splitting.calls.containers import attributes_in
from frostline.splitting.calls.size_number import plain
from frostline.splitting.python_state.places import Place, Walk, fingerprint
from frostline.splitting.python_state.scripts import SCRIPTED, UnreadableScript, script_text
from frostline.splitting.python_state.sources import Source

TensorText = Callable[[Tensor], str]

_PLAIN = (bool, int, float, complex, str, bytes)
_SETTINGS = (torch.dtype, torch.layout, torch.memory_format)
_BUFFERS = (bytearray, memoryview, array)
_BUILTIN = (BuiltinFunctionType, np.ufunc, type(Tensor.add), type(Tensor.__add__), type(torch.ops.aten.mul.Tensor))
_MAX_DEPTH = 12  # what lies deeper is refused: a value that holds itself has no end
_TORCH_SPACES = ("aten", "prim", "prims", "quantized", "rngprims", "higher_order", "inductor")
_NO_KERNELS = ("Meta", "Autograd", "Autocast")  # they compute shapes and gradients, or call the kernel again


class Unnamed(Exception):  # noqa: N818 (a signal inside this pillar: `call_log.py` adds where)
    """A value has no text; the message names its type."""


def text_of(value: Any, tensor: TensorText = tensor_digest, *, runs_heard: bool = False, depth: int = 0) -> str:
    """The content of a value as text.

    Args:
        value: Anything that a torch call may take.
        tensor: The text of a tensor.
        runs_heard: Functions and modules among the values are run by calls that are heard: their types are enough.
        depth: How deep the value lies in others.

    Raises:
        Unnamed: If the content cannot be read.
    """
    value = plain(value)  # a size that reports decisions counts as its number
    if isinstance(value, Tensor):
        return tensor(value)
    if depth > _MAX_DEPTH:
        raise Unnamed(f"a value that lies {depth} containers deep")
    part = functools.partial(text_of, tensor=tensor, runs_heard=runs_heard, depth=depth + 1)
    text = _number(value, part)
    if text is None:
        text = _container(value, part)
    if text is None and runs_heard and callable(value):
        text = f"{type(value).__module__}.{type(value).__qualname__}"
        if isinstance(value, type):
            text = f"{value.__module__}.{value.__qualname__}{_class_text(value, is_strict=False)}"
    if text is None:
        text = _callable(value, part)
    return _object(value, part) if text is None else text


def code_text(function: Any, *, is_strict: bool = True) -> str:
    """What a function computes: its code, that of the functions it calls, and the values that these read.

    Args:
        function: A function of Python.
        is_strict: False where its calls are heard: what cannot be read is left out.

    Raises:
        Unnamed: If it reads a value whose content cannot be read, or a trainable weight.
    """
    walk = Walk([Source.of_function(function)], (), is_complete=True, follows_modules=True)
    walk.scopes()
    if not is_strict:  # the calls themselves are in the log: code and plain values are enough
        read = sorted((place.name, repr(fingerprint(place.value))) for place in walk.places)
        return repr((sorted({code_digest(source.code) for source in walk.sources}), read, walk.default_numbers()))
    name = getattr(function, "__qualname__", str(function))
    if walk.unnamed:
        raise Unnamed(f"{walk.unnamed[0]}, which the function {name} reads")
    read = sorted((place.name, _place_text(place, name)) for place in walk.places)
    codes = sorted({code_digest(source.code) for source in walk.sources})
    return repr((codes, read, sorted(walk.library), walk.default_numbers()))


def _place_text(place: Place, function: str) -> str:
    if isinstance(place.value, Tensor) and place.value.requires_grad:
        raise Unnamed(f"the trainable weight {place.name}, which the function {function} reads")
    try:
        return text_of(place.value)
    except Unnamed as unnamed:
        raise Unnamed(f"{place.name}, which the function {function} reads: {unnamed}") from None


def _number(value: Any, part: Callable[[Any], str]) -> str | None:
    """Numbers, texts, arrays and settings."""
    if isinstance(value, enum.Enum):
        return f"{type(value).__qualname__}.{value.name}={part(value.value)}"
    for kind in _PLAIN:  # by the method of the kind itself: a subclass may print itself as another value
        if isinstance(value, kind) and not isinstance(value, np.generic):
            return str(cast("Any", kind).__repr__(value))
    if value is None or value is ... or value is NotImplemented:
        return repr(value)
    if isinstance(value, (np.generic, np.ndarray)):
        return _array(value, part)
    if isinstance(value, _SETTINGS) or (isinstance(value, np.dtype) and not value.hasobject):
        return str(cast("Any", value))
    if isinstance(value, torch.device):
        return value.type  # without its index: the second GPU computes what the first does
    is_library_number = isinstance(value, numbers.Number) and is_library(type(value))
    if is_library_number or isinstance(value, (range, torch.finfo, torch.iinfo)):
        return repr(value)
    if isinstance(value, _BUFFERS):
        view = memoryview(value)
        return f"{type(value).__name__}{view.format}{view.shape}{hashlib.sha256(view.tobytes()).hexdigest()}"
    if isinstance(value, GENERATORS):
        return f"{type(value).__qualname__}{state_of(value)}"
    return None


def _array(value: Any, part: Callable[[Any], str]) -> str:
    """An array or a number of NumPy: dtype, shape and values, and what a subclass adds."""
    plain_array = np.asarray(value)
    head = f"{plain_array.dtype.str}{plain_array.dtype.fields or ''}{plain_array.shape}"
    if plain_array.dtype.hasobject:  # its bytes are addresses
        content = part(plain_array.ravel().tolist())
    else:
        content = hashlib.sha256(plain_array.tobytes()).hexdigest()
    more = "" if type(value) in (np.ndarray, np.memmap) or isinstance(value, np.generic) else part(dict(vars(value)))
    return f"{head}{content}{more}"


def _container(value: Any, part: Callable[[Any], str]) -> str | None:
    """Containers by what they hold; lists and tuples differ, as they do where they index a tensor."""
    if isinstance(value, Mapping):
        entries = cast("Mapping[Any, Any]", value).items()
        return "{" + ",".join(f"{part(key)}:{part(held)}" for key, held in entries) + "}"
    if isinstance(value, (tuple, deque)):
        return "(" + ",".join(map(part, cast("Sequence[Any]", value))) + ")"
    if isinstance(value, list):
        return "[" + ",".join(map(part, cast("Sequence[Any]", value))) + "]"
    if isinstance(value, (set, frozenset)):  # the order of a set of texts differs between processes
        return "set" + ",".join(sorted(map(part, cast("Iterable[Any]", value))))
    if isinstance(value, slice):
        return f"slice{part((value.start, value.stop, value.step))}"
    return None


def _callable(value: Any, part: Callable[[Any], str]) -> str | None:
    """Functions and classes: those of libraries by name, others by their code and what it reads."""
    if isinstance(value, SCRIPTED):
        try:
            return script_text(value)
        except UnreadableScript as error:
            raise Unnamed(str(error)) from None
    if isinstance(value, (type, *_BUILTIN)):
        return _named(value, part)
    if isinstance(value, FunctionType):
        return f"{value.__module__}.{value.__qualname__}" if is_library_function(value) else code_text(value)
    if isinstance(value, MethodType):
        return f"{part(value.__func__)} of {part(value.__self__)}"
    if isinstance(value, functools.partial):
        return f"partial{part((value.func, value.args, value.keywords))}"
    if isinstance(value, ModuleType) and is_library(value):
        return value.__name__
    return None


def function_text(func: Any) -> str:
    """What a torch call runs beyond its name: the code of a function, or of an operator, that is written in Python.

    Raises:
        Unnamed: If the code of an operator cannot be read.
    """
    if isinstance(func, FunctionType):
        return "" if is_library_function(func) else code_text(func)
    if not isinstance(func, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        return ""
    name = str(getattr(func, "_qualified_op_name", None) or cast("Any", func).name()).split(".")[0]
    if name.split("::")[0] in _TORCH_SPACES:  # torch's own operators: their name says it all
        return ""
    made: Any = cast("Any", torch)._library.custom_ops.OPDEFS.get(name)
    if made is not None and not set(made._backend_fns) - {None}:
        return code_text(made._init_fn)
    kernels: Iterable[str] = getattr(torch.library, "_impls", ())
    start = f"{name.replace('::', '/')}/"
    if made or any(key.startswith(start) and not key.removeprefix(start).startswith(_NO_KERNELS) for key in kernels):
        raise Unnamed(f"the operator {name}, whose kernel was written in Python and registered with torch.library")
    return ""


def is_library_function(function: FunctionType) -> bool:
    """True for a function of a library that is found by its name: one that a library has made holds others."""
    return is_library(function) and function.__closure__ is None


def _named(value: Any, part: Callable[[Any], str]) -> str:
    name = f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', getattr(value, '__name__', value))}"
    owner = getattr(value, "__self__", None)
    # A method of an object (`[1, 2].index`) computes with that object; one of a module or class does not.
    if owner is not None and owner is not builtins and not isinstance(owner, (ModuleType, type)):
        return f"{name} of {part(owner)}"
    if isinstance(value, type) and not is_library(value):
        return f"{name}{_class_text(value)}"
    return name


def _class_text(kind: type, *, is_strict: bool = True) -> str:
    """The methods of a class of the model's own, and of its bases."""
    own = [base for base in kind.__mro__ if not is_library(base)]
    methods = [value for base in own for value in vars(base).values()]
    plain_functions = [getattr(value, "__func__", getattr(value, "fget", value)) for value in methods]
    return repr([code_text(value, is_strict=is_strict) for value in plain_functions if isinstance(value, FunctionType)])


def _object(value: Any, part: Callable[[Any], str]) -> str:
    """An object of a class that was written in Python, by its class and its attributes."""
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(value, (nn.Module, ModuleType)):
        raise Unnamed(f"a module ({name})")
    try:
        attributes = attributes_in(value)
        object.__reduce_ex__(value, 2)  # a class of C keeps what no attribute shows, and fails here
    except Exception:
        raise Unnamed(f"a value of type {name}") from None
    if not attributes:
        raise Unnamed(f"a value of type {name}")
    return f"{part(kind)}{part(attributes)}"
