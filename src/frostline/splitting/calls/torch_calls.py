"""What is known of a torch function by its name: whether it hands values to Python, follows sizes, or draws noise.

Also how a call stands in a graph (`as_node`), and which line of the model's own code makes it (`user_line`).
"""

from __future__ import annotations

import contextlib
import linecache
import operator
import sys
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils.hooks import RemovableHandle

from frostline.core.digests import tensor_digest
from frostline.splitting.calls.containers import tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

# What a tensor may hand to Python without a guard: it follows from the code alone, not from values and not from sizes.
_CONSTANT_NAMES = """
dtype device layout ndim dim ndimension element_size itemsize type get_device is_floating_point is_complex
is_signed is_conj is_neg is_cuda is_cpu is_xpu is_mps is_mtia is_maia is_hpu is_xla is_ipu is_vulkan is_mkldnn
is_sparse is_sparse_csr is_quantized is_meta is_nested is_inference is_leaf requires_grad retains_grad grad_fn
output_nr _backward_hooks _post_accumulate_grad_hooks _version has_names names result_type can_cast is_same_size
is_shared is_pinned _is_view _base __class__ __dict__ __setstate__ is_contiguous
"""
_CONSTANT = frozenset(_CONSTANT_NAMES.split())

# What gives the memory of a tensor to others.
_MEMORY = frozenset(("numpy", "__array__", "__dlpack__", "untyped_storage", "storage", "data_ptr"))

_CONVERSIONS = frozenset(
    ("__bool__", "__int__", "__float__", "__complex__", "__index__", "__array__", "item", "tolist", "numpy")
)

# What follows from sizes. Sizes that follow the batch are expected; others, such as that of `nonzero`, are guarded.
_SIZES = frozenset(("shape", "size", "numel", "nelement", "__len__", "stride", "storage_offset", "nbytes"))

_SIZED_NAMES = "nonzero argwhere unique _unique2 unique_dim unique_consecutive masked_select bincount repeat_interleave"
_SIZED_BY_VALUES = frozenset(_SIZED_NAMES.split())

# Calls whose tensor arguments give shape, dtype and device only: their results hold no values.
_FACTORIES = frozenset(
    [
        "empty",
        "empty_like",
        "new_empty",
        "zeros",
        "zeros_like",
        "new_zeros",
        "ones",
        "ones_like",
        "new_ones",
        "full",
        "full_like",
        "new_full",
    ]
)

_OPERATORS: dict[str, Callable[..., Any]] = {
    "__getitem__": operator.getitem,
    "__setitem__": operator.setitem,
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "matmul": operator.matmul,
    "neg": operator.neg,
}

_MAX_ARGUMENTS = 64
_MAX_COMPARED = 4096  # numbers that are compared one by one; of more, the digest of their tensor
_SETTINGS = (
    Tensor, bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format, type(...),
)  # fmt: skip

_CONTEXTLIB = str(contextlib.__file__)
_TORCH = str(Path(torch.__file__).parent)
_OURS = tuple(str(Path(__file__).parents[2] / name) for name in ("core", "splitting"))


def name_of(func: Any) -> str:
    """The plain name of a torch function, of an attribute for `Tensor.attribute`."""
    name = getattr(func, "__name__", type(func).__name__)
    if name in ("__get__", "__set__"):
        return str(getattr(func.__self__, "__name__", name))
    return str(name)


def failure_of(func: Any) -> str:
    """The name of the event that the call raises an error."""
    return f"{name_of(func)} failed"


def is_setter(func: Any) -> bool:
    """True for `tensor.attribute = value`."""
    return getattr(func, "__name__", "") == "__set__"


def is_size(func: Any) -> bool:
    """True if the call hands sizes of a tensor to Python."""
    return name_of(func) in _SIZES


def is_sized_by_values(func: Any, args: tuple[Any, ...]) -> bool:
    """True if the size of the result follows values: another batch has another one, at the same batch size."""
    if name_of(func) == "__getitem__":
        return any(tensor.dtype in (torch.bool, torch.uint8) for tensor in tensors_in(args[1:]))
    return name_of(func) in _SIZED_BY_VALUES or (name_of(func) == "where" and len(args) == 1)


def asks_for_gradients(func: Any) -> bool:
    """True for `tensor.requires_grad_()` and `tensor.requires_grad = True`: on a frozen value they train nothing."""
    return name_of(func) == "requires_grad_" or (is_setter(func) and name_of(func) == "requires_grad")


def converts(func: Any) -> bool:
    """True for calls that do nothing but turn values into Python's own; torch warns where they lose a gradient."""
    return name_of(func) in _CONVERSIONS


def leaves_torch(func: Any) -> bool:
    """True if what is handed over can be computed with outside of torch, and come back as another tensor."""
    return name_of(func) in _MEMORY


def hands_over(func: Any, result: Any) -> bool:
    """True if the call hands something to Python that may follow values or sizes: everything that is not listed."""
    return name_of(func) not in _CONSTANT and not is_setter(func) and not _is_of_tensors(result)


def _is_of_tensors(result: Any) -> bool:
    if isinstance(result, (tuple, list)) and not isinstance(result, torch.Size):
        return all(map(_is_of_tensors, cast("Sequence[Any]", result)))
    return result is None or result is NotImplemented or isinstance(result, (Tensor, RemovableHandle))


def plain_value(result: Any, tensors: Sequence[Tensor]) -> Any:
    """What was handed over, to be compared later: numbers and texts themselves, else the content of the tensors."""
    if isinstance(result, (bool, int, float, complex, str, bytes)):
        return result
    if isinstance(result, (tuple, list)) and _count(result) <= _MAX_COMPARED:
        return tuple(cast("Sequence[Any]", result)) if not isinstance(result, list) else repr(result)
    return tuple(tensor_digest(tensor) for tensor in tensors)


def is_factory(func: Any) -> bool:
    """True if the call uses its tensor arguments for shape, dtype and device only."""
    return name_of(func) in _FACTORIES


def is_small(value: Any) -> bool:
    """True if arguments are tensors, sizes, numbers and settings, few enough to stand in the code of a graph."""
    return _count(value) <= _MAX_ARGUMENTS


def _count(value: Any) -> int:
    if isinstance(value, (tuple, list)):
        return sum(map(_count, cast("Sequence[Any]", value)))
    if isinstance(value, dict):
        return sum(map(_count, cast("dict[Any, Any]", value).values()))
    if isinstance(value, slice):
        return sum(_count(part) for part in (value.start, value.stop, value.step))
    return 1 if value is None or isinstance(value, _SETTINGS) else _MAX_ARGUMENTS + 1


def as_node(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, Any, tuple[Any, ...]]:
    """How the call reads in an `fx.Graph`: (op, target, args)."""
    name = name_of(func)
    if getattr(func, "__name__", "") == "__get__":
        return "call_function", getattr, (args[0], name)
    if getattr(func, "__name__", "") == "__set__":
        return "call_function", setattr, (args[0], name, args[1])
    if name == "register_hook":
        return "call_function", hook_into, args
    is_method = getattr(torch.Tensor, name, None) is func
    if is_method and name in _OPERATORS and not kwargs:
        return "call_function", _OPERATORS[name], args
    if is_method:
        return "call_method", name, args
    if isinstance(func, FunctionType) and getattr(sys.modules.get(func.__module__), func.__name__, None) is not func:
        for method in (f"__{name}__", f"__r{name}__"):
            if getattr(torch.Tensor, method, None) is func:
                return "call_method", method, args
        return "call_function", call_function, (func, *args)
    return "call_function", func, args


def is_hook(func: Any) -> bool:
    """True for `tensor.register_hook(hook)`, which changes gradients."""
    return name_of(func) == "register_hook"


def hook_into(tensor: Tensor, hook: Callable[[Tensor], Any]) -> None:
    """Register a hook on an activation, where gradients flow."""
    if tensor.requires_grad:
        tensor.register_hook(hook)


def call_function(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A function that has no name to be found by in the graph's code: it is kept as a constant."""
    return func(*args, **kwargs)


def apply_function(function: type[torch.autograd.Function], *args: Any) -> Any:
    """A custom autograd Function as one call of the graph."""
    return function.apply(*args)


def uses_batch_statistics(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """True for a functional batch normalisation by the statistics of the batch, and where such statistics are kept."""
    name = name_of(func)
    if name == "batch_norm":
        return bool(kwargs.get("training", args[5] if len(args) > 5 else False))
    if name == "instance_norm":  # each sample by its own statistics; what is kept of them is a mean over the batch
        place = 3 if func is torch.instance_norm else 1
        kept = kwargs.get("running_mean", args[place] if len(args) > place else None)
        return kept is not None and bool(kwargs.get("use_input_stats", args[5] if len(args) > 5 else True))
    return False


def renormalises(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """True for a look-up that first scales the rows of its weight down to `max_norm`, in place."""
    place = {"embedding": 3, "embedding_bag": 4}.get(name_of(func))
    if place is None or len(args) < 2:
        return False
    return kwargs.get("max_norm", args[place] if len(args) > place else None) is not None


def is_batch_norm_in_training(module: nn.Module) -> bool:
    """True for a normalisation layer that uses and moves batch statistics now."""
    is_by_sample = isinstance(module, _InstanceNorm) and module.running_mean is None
    return isinstance(module, _NormBase) and module.training and not is_by_sample


def is_rounded_on_gpu(func: Any) -> bool:
    """True for calls of cuDNN, which multiplies float32 in TF32 by default: results are 3e-4 from those of a CPU."""
    return any(kind in name_of(func) for kind in ("conv", "rnn", "lstm", "gru"))


def noise_state() -> tuple[Tensor, ...]:
    """The states of the generators that torch draws from by default."""
    cuda = tuple(torch.cuda.get_rng_state_all()) if torch.cuda.is_initialized() else ()
    return (torch.get_rng_state(), *cuda)


def set_noise_state(state: tuple[Tensor, ...]) -> None:
    """Put them back."""
    torch.set_rng_state(state[0])
    if len(state) > 1:
        torch.cuda.set_rng_state_all(list(state[1:]))


def is_same_noise(before: tuple[Tensor, ...], after: tuple[Tensor, ...]) -> bool:
    """True if nothing was drawn in between."""
    return all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def user_frames() -> list[FrameType]:
    """The Python frames of the model's own code that are running now, innermost first."""
    found: list[FrameType] = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(_OURS):
            if frame.f_code.co_name == "run_once":
                break
        elif not path.startswith(_TORCH):
            found.append(frame)
        frame = frame.f_back
    return found


def is_of_model() -> bool:
    """True if the call that runs now stands in the model's own code, not in torch's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((*_OURS, _CONTEXTLIB)):
        frame = frame.f_back
    return frame is not None and not frame.f_code.co_filename.startswith(_TORCH)


def user_line() -> str:
    """The line of the model's own code that is running now: `file.py:12: if x.sum() > 0:`."""
    frames = user_frames()
    if not frames:
        return "a line that is not Python"
    path, line = frames[0].f_code.co_filename, frames[0].f_lineno
    text = linecache.getline(path, line).strip()
    return f"{Path(path).name}:{line}: {text}" if text else f"{Path(path).name}:{line}"
