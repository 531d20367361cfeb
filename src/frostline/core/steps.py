"""What a step of training needs, checked before torch fails on it, and copies to take trial steps with."""

from __future__ import annotations

import copy
import dis
import gc
from collections.abc import Iterable
from functools import partial
from pickle import PickleError
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from frostline.core.errors import FOREIGN, DataError
from frostline.core.inputs import describe
from frostline.core.layers import compact_recurrent

_LOOKED_AT = 100_000  # objects, among which a hook's model is looked for


def check_loss(loss: Any, where: str) -> None:
    """Raise unless backward can be called on the loss.

    Raises:
        DataError: If it is not a scalar tensor, or nothing that trains is behind it.
    """
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        raise DataError(
            what="The loss is not a scalar.", where=where, received=describe(loss),
            do="return the mean over the samples, one number.",
        )  # fmt: skip
    if not loss.requires_grad:
        raise DataError(
            what="The loss does not depend on any trainable parameter: backward cannot run.",
            where=where, received="a loss without requires_grad",
            do="keep the model's output in the graph (no detach, no torch.no_grad), and thaw some layers.",
        )  # fmt: skip


def check_reached(parameters: Iterable[nn.Parameter], where: str) -> None:
    """Raise if the backward pass that was just run has brought no gradient to any of these.

    Raises:
        DataError: If the loss is a new tensor that asks for a gradient itself.
    """
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    if trainable and all(parameter.grad is None for parameter in trainable):
        raise DataError(
            what="The loss does not depend on any trainable parameter, though backward runs.", where=where,
            received=f"no gradient for any of {len(trainable)} parameters",
            do="return the loss as it was computed: torch.tensor(loss), loss.item() and requires_grad=True make a new "
            "tensor without the graph behind it.",
        )  # fmt: skip


def is_optimizer(given: Any) -> bool:
    """True for an optimizer, or what stands for one; False for its class."""
    return not isinstance(given, type) and isinstance(getattr(given, "param_groups", None), list)


def take_step(optimizer: Optimizer) -> None:
    """`optimizer.step()`.

    Raises:
        DataError: If it does not take sparse gradients, or needs a closure.
    """
    try:
        optimizer.step()
    except TypeError as error:
        if "closure" not in str(error):
            raise
        raise DataError(
            what="The optimizer needs a closure.", where=type(optimizer).__name__, received=str(error),
            do="use one that steps by gradients alone, such as torch.optim.AdamW.",
        ) from error  # fmt: skip
    except RuntimeError as error:
        if "sparse" not in str(error):
            raise
        raise DataError(
            what="The optimizer does not take sparse gradients.", where=type(optimizer).__name__, received=str(error),
            do="use torch.optim.SGD or SparseAdam, or build the nn.Embedding with sparse=False.",
        ) from error  # fmt: skip


def check_dense(model: nn.Module) -> None:
    """Raise if a parameter is itself a sparse tensor; sparse gradients are another thing.

    Raises:
        DataError: It names the parameter.
    """
    for name, parameter in model.named_parameters():
        if parameter.layout is not torch.strided:
            raise DataError(
                what="A parameter is a sparse tensor, which cannot be measured, copied or saved.", where=name,
                received=f"layout {parameter.layout}",
                do="keep it dense, with zeros (torch.nn.utils.prune does that), or train it in your own loop.",
            )  # fmt: skip


def copied(model: nn.Module, *others: Any, shared: Iterable[Tensor] = ()) -> tuple[Any, ...]:
    """The model and what goes with it (its optimizer), copied together.

    Weights that a hook computes before every forward (pruning, `nn.utils.weight_norm`) are copied as values: the
    copy's own hook computes them anew. What an optimizer does before each step (a clip as a hook) the copy does too,
    with its own parameters and memory; hooks after the step (averages of weights, logs) are left behind.

    Args:
        model: The model.
        others: What is copied with it.
        shared: Tensors that the copies hold themselves, such as frozen weights.

    Raises:
        DataError: If the model cannot be copied, or a hook cannot be turned to the copy.
    """
    check_dense(model)
    computed = [
        value for module in model.modules() for value in vars(module).values()
        if isinstance(value, Tensor) and value.grad_fn is not None
    ]  # fmt: skip
    memo: dict[int, Any] = {id(value): value.detach().clone() for value in computed}
    memo |= {id(tensor): tensor for tensor in shared}
    try:
        twins = copy.deepcopy((model, *others), memo)
        for given, twin in zip(others, twins[1:], strict=True):
            _add_own_attributes(given, twin, memo)
    except (RuntimeError, TypeError) as error:
        raise DataError(
            what="The model cannot be copied, so nothing can be tried on it.", where=type(model).__name__,
            received=f"{type(error).__name__}: {error}",
            do="keep no tensors with a gradient history and no open files on the model; or use frostline.Monitor.",
        ) from error  # fmt: skip
    for given, twin in zip(others, twins[1:], strict=True):
        if isinstance(given, Optimizer):
            for hook in given._optimizer_step_pre_hooks.values():
                twin.register_step_pre_hook(_turned(hook, memo))
    compact_recurrent(twins[0])
    return twins


def _add_own_attributes(given: Any, twin: Any, memo: dict[int, Any]) -> None:
    """Give the copy of an optimizer what its class keeps beside torch's own: torch copies neither.

    Functions are left out: a scheduler puts one before `step`, which steps the original.
    """
    if not isinstance(given, Optimizer):
        return
    for name, value in vars(given).items():
        if name not in vars(twin) and not callable(value):
            setattr(twin, name, copy.deepcopy(value, memo))
        if isinstance(value, Optimizer):
            _add_own_attributes(value, vars(twin)[name], memo)


def _turned(hook: Any, memo: dict[int, Any]) -> Any:
    """A hook that does to the copies what it does to what they were made of: all that it holds is copied with them."""
    try:
        turned = _copied_function(hook, memo)
        if _holds_original(turned, memo):
            raise TypeError("it reaches the model by a global name")
    except (*FOREIGN, PickleError) as error:
        raise DataError(
            what="A hook on the optimizer's step cannot be turned to a copy of the model.",
            where=str(getattr(hook, "__qualname__", type(hook).__name__)), received=f"{type(error).__name__}: {error}",
            do="let the hook take the parameters from its first argument, optimizer.param_groups; or remove it "
            "meanwhile.",
        ) from error  # fmt: skip
    return turned


def _copied_function(hook: Any, memo: dict[int, Any]) -> Any:
    if isinstance(hook, MethodType):
        return MethodType(hook.__func__, copy.deepcopy(hook.__self__, memo))
    if isinstance(hook, partial):
        made = copy.deepcopy((hook.args, hook.keywords), memo)
        return partial(_copied_function(hook.func, memo), *made[0], **made[1])
    if not isinstance(hook, FunctionType):
        return copy.deepcopy(hook, memo)
    cells = tuple(CellType(_copied_function(cell.cell_contents, memo)) for cell in hook.__closure__ or ())
    made = FunctionType(hook.__code__, hook.__globals__, hook.__name__, None, cells)
    made.__defaults__, made.__kwdefaults__ = copy.deepcopy((hook.__defaults__, hook.__kwdefaults__), memo)
    made.__dict__.update({key: _copied_function(value, memo) for key, value in vars(hook).items()})
    return made


def _holds_original(hook: Any, memo: dict[int, Any]) -> bool:
    """Whether anything that it reaches is the model that was copied, or a part of it."""
    seen: set[int] = set()
    waiting = [hook]
    while waiting and len(seen) < _LOOKED_AT:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, (ModuleType, type, str, int, float)):
            continue
        seen.add(id(one))
        if isinstance(one, (nn.Module, Tensor, Optimizer)):
            if id(one) in memo:
                return True
            continue
        waiting += _reached_from(one) if isinstance(one, FunctionType) else gc.get_referents(one)
    return False


def _reached_from(function: FunctionType) -> list[Any]:
    """What it was given, and the globals that it names."""
    codes, names = [function.__code__], set[str]()
    while codes:
        code = codes.pop()
        names.update(line.argval for line in dis.get_instructions(code) if line.opname == "LOAD_GLOBAL")
        codes += [value for value in code.co_consts if isinstance(value, CodeType)]
    named = [function.__globals__[name] for name in names if name in function.__globals__]
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return [*cells, *named, function.__defaults__, function.__kwdefaults__, vars(function)]
