"""What stops a recording: errors of the recorder, each with the line of the model that it is about."""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

from frostline.core.errors import NotCacheable, SplitError
from frostline.core.layers import is_pinned
from frostline.splitting.calls import torch_calls
from frostline.splitting.calls.containers import tensors_in
from frostline.splitting.python_state.sources import returns_nothing

if TYPE_CHECKING:
    from torch import nn


def trainable_value_error(module: str, name: str) -> SplitError:
    """A value of the trainable part steers Python: the head could not follow it."""
    return SplitError(
        what="A value that depends on trainable weights is handed to Python.",
        where=f"{module or 'the model'}, {torch_calls.user_line()}",
        received=f"Tensor.{name}() of a value that will change while the head trains",
        do="keep the value in torch (torch.where, tensor arithmetic), or freeze the layers it comes from.",
    )


def outside_of_torch_error(module: str, since: str) -> NotCacheable:
    """What numpy computes on the frozen side leaves no trace in the recipe."""
    return NotCacheable(
        what="The frozen part computes outside of torch: what it computes there cannot be fingerprinted.",
        where=f"{module or 'the model'}, {torch_calls.user_line()}",
        received=f"a tensor made from numpy data, after {since}",
        do="write that step in torch, or move it into the dataset's transform.",
    )


def trainable_failure_error(module: str, error: Exception) -> SplitError:
    """A call of the trainable part fails and the model goes on: whether it fails will follow the weights."""
    return SplitError(
        what="The model catches an error of its trainable part.",
        where=f"{module or 'the model'}, {torch_calls.user_line()}",
        received=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}",
        do="put the step, with its try, into a module of its own that holds no frozen layers, so that it is called "
        "whole; or train with frostline.fit(..., cache=False).",
    )


def autograd_error(module: str) -> SplitError:
    """The graph of autograd of a recording is not that of the head."""
    return SplitError(
        what="The model reaches into the autograd graph of its trainable part.",
        where=f"{module or 'the model'}, {torch_calls.user_line()}",
        received="Tensor.grad_fn: a hook on it, or a decision by it, would be missing in the head",
        do="use tensor.register_hook; or put the step into a module of its own that holds no frozen layers; or train "
        "with frostline.fit(..., cache=False).",
    )


def transform_error(module: str) -> SplitError:
    """Inside of a transform, tensors stand for parts of others: a call there has no values of its own to store."""
    return SplitError(
        what="A transform of torch.func runs in a module that holds frozen layers: its calls cannot be recorded.",
        where=f"{module or 'the model'}, {torch_calls.user_line()}",
        received="torch.vmap, torch.func.grad, jacrev or the like, around calls of torch",
        do="put the transform, and what it calls, into a module of its own that holds no frozen layers; where frozen "
        "layers are called in it, let them compute the whole batch; or train with frostline.fit(..., cache=False).",
    )


def frozen_weight_error(name: str) -> NotCacheable:
    """A frozen look-up table that its own forward changes."""
    return NotCacheable(
        what=f"The frozen part changes its own weights: {name!r} is scaled to max_norm in every forward pass.",
        where=f"{name}, {torch_calls.user_line()}",
        received="a frozen embedding with max_norm",
        do="set max_norm = None on the nn.Embedding that holds it, or leave it out of F.embedding; then split again.",
    )


def refuse_moved_line(name: str | None, parameter: nn.Parameter, is_wanted: bool) -> None:
    """A forward pass that freezes or thaws a weight moves the frost line.

    Raises:
        SplitError: If it does.
    """
    if parameter.requires_grad == is_wanted:
        return
    raise SplitError(
        what=f"The forward pass {'thaws' if is_wanted else 'freezes'} the weight {name or 'outside of the model'!r}.",
        where=torch_calls.user_line(),
        received=f"requires_grad = {is_wanted} on a weight that is {'frozen' if is_wanted else 'trainable'}",
        do="set what trains before the training, with frostline.freeze and frostline.thaw; or use torch.no_grad() "
        "where no gradients are wanted.",
    )


def refuse_backward_hooks(module: nn.Module, name: str) -> None:
    """Hooks on the backward pass of a module that is entered are not in a graph; those that only look are no matter.

    Raises:
        SplitError: If one may change gradients.
    """
    hooks = [*module._backward_hooks.values(), *module._backward_pre_hooks.values()]
    if all(map(returns_nothing, hooks)):
        return
    raise SplitError(
        what=f"A hook may change gradients on their way back through {name or 'the model'}.",
        where=name or type(module).__name__,
        received="register_full_backward_hook or register_full_backward_pre_hook on a module with frozen layers",
        do="let the hook return None, if it only looks; or register it on a module that holds no frozen layers, or on "
        "a tensor; or train with frostline.fit(..., cache=False).",
    )


def refuse_closed_over_tensors(hook: Any, module: str) -> None:
    """A hook on an activation is kept as it was made in the recording: with the tensors of that run, it would be wrong.

    Raises:
        SplitError: If the hook holds tensors of the run that made it.
    """
    cells = getattr(hook, "__closure__", None) or ()
    held = [cell.cell_contents for cell in cells if cell.cell_contents is not None]
    if isinstance(hook, FunctionType) and not tensors_in(held):
        return
    raise SplitError(
        what="A hook on an activation holds values of one batch.",
        where=f"{module or 'the model'}, {torch_calls.user_line()}",
        received=f"{getattr(hook, '__name__', type(hook).__name__)}, which keeps tensors or an object with a state",
        do="compute with the gradient alone in the hook; or put that step into a module of its own that holds no "
        "frozen layers; or train with frostline.fit(..., cache=False).",
    )


def freeze_first(model: nn.Module) -> str:
    """The remedy for a model whose parameters all train."""
    bare = next((name for name, part in model.named_modules() if is_pinned(part) and not list(part.parameters())), None)
    if bare is not None:
        return (
            f"train with frostline.fit(..., cache=False): {bare!r} is frozen but has no parameters (it is quantised, "
            "or its weights were folded into constants), and a frost line lies behind frozen parameters; or freeze the "
            "model that it was made from."
        )
    if len(list(model.modules())) > 2:
        return 'frostline.freeze(model, through="LAYER") first, then split.'
    return "pass a model of several layers, and freeze the lower ones: one layer has no line to split at."
