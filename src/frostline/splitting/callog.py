"""One line for every frozen call: the graph of the recipe key.

Every line holds the function, its scalar arguments, shapes, the digests of the parameters, buffers and constants it
reads, and the bytecode of the model's own functions that were running.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from frostline.splitting import operations
from frostline.splitting.size_number import plain
from frostline.splitting.structure import tensors_in

if TYPE_CHECKING:
    from frostline.splitting.values import Values


def describe_call(func: Any, args: Any, kwargs: dict[str, Any], result: Any, values: Values) -> str:
    """The line of one frozen call."""
    called = f"{getattr(func, '__module__', None)}.{operations.name_of(func)}"
    code = ",".join(values.code(frame.f_code) for frame in operations.user_frames())
    arguments = f"{_text(args, values)}{_text(kwargs, values)}"
    made = tensors_in(result)
    shapes = [tuple(tensor.shape) for tensor in made]
    settings = f"{torch.is_autocast_enabled('cpu')}{torch.is_autocast_enabled('cuda')}"
    if any(tensor.is_cuda for tensor in made) and operations.is_rounded_on_gpu(func):
        settings += "cuda"
    return f"{called}{arguments}->{shapes}|{settings}|{code}"


def _text(value: Any, values: Values) -> str:
    if isinstance(value, Tensor):
        is_made_in_run = id(value) in values.births
        return f"<{value.dtype}{tuple(value.shape)}>" if is_made_in_run else f"<{values.digest(value)}>"
    value = plain(value)
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return repr(value)
    if isinstance(value, Mapping):
        entries = cast("Mapping[Any, Any]", value).items()
        return "{" + ",".join(f"{key}:{_text(part, values)}" for key, part in entries) + "}"
    if isinstance(value, (tuple, list)):
        return "(" + ",".join(_text(part, values) for part in cast("Sequence[Any]", value)) + ")"
    if isinstance(value, slice):
        return f"slice{_text((value.start, value.stop, value.step), values)}"
    if isinstance(value, (torch.dtype, torch.layout, torch.memory_format, enum.Enum)) or value is ...:
        return str(value)
    if isinstance(value, torch.device):
        return value.type
    if isinstance(value, type):
        return f"{value.__module__}.{value.__qualname__}"
    return type(value).__qualname__
