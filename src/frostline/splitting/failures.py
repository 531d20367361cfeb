"""Why a model could not be split, when what stopped it was not an error of ours."""

from __future__ import annotations

import linecache
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.errors import NotCacheable, SplitError
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators, kept_gradients, kept_modes
from frostline.splitting.calls import torch_calls
from frostline.splitting.calls.containers import tensors_in
from frostline.splitting.plan.batch_sizes import NOT_GENERAL
from frostline.splitting.python_state.kept_state import keeps_state_error, moving_state
from frostline.splitting.python_state.sources import returns_nothing, sources_of
from frostline.splitting.recording.graph_writer import UnknownValue

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn

    from frostline.splitting.recording.guards import Guard

_OURS = str(Path(__file__).parent)
_TORCH = str(Path(torch.__file__).parent)


def explained_failure(model: nn.Module, inputs: Any, errors: list[Exception]) -> SplitError | NotCacheable:
    """The error to raise after every way to record the model has failed.

    Args:
        model: The model.
        inputs: A batch to run it on.
        errors: What each way has raised, in order.
    """
    ours = next((error for error in errors if isinstance(error, SplitError)), None)
    if ours is not None:
        moving = _moving(model, inputs) if ours.what == NOT_GENERAL else []
        return keeps_state_error(moving) if moving else ours
    own = next((error for mode in (True, False) if (error := _own_failure(model, inputs, training=mode))), None)
    if own is not None:
        return _because(
            own, "The model itself fails on the example, without Frostline.",
            "make `model(example)` and a backward pass run in train() and in eval(), then split again.",
        )  # fmt: skip
    if any(isinstance(error, UnknownValue) for error in errors):
        return SplitError(
            what="The model makes a trainable value by a call that cannot be recorded.",
            where="a value with requires_grad whose origin no torch call, module or autograd Function told",
            received="a parameter outside of model.parameters(), a compiled or scripted function, or a transform of "
            "torch.func or torch.autograd.grad",
            do="register the layer in the model (nn.ModuleList instead of a list); or put that step into a module of "
            "its own that holds no frozen layers: it is then called whole.",
        )
    return _because(
        errors[0], "The model's trainable part cannot be recorded or does not run on its own.",
        "put the step into a module of its own that holds no frozen layers, so that it is called whole; or train "
        "without a cache: frostline.fit(..., cache=False).",
    )  # fmt: skip


def _moving(model: nn.Module, inputs: Any) -> list[str]:
    """What one more call of the model changes: a number that is another one in each call looks like a size."""
    modules = dict(model.named_modules())
    sources = [source for module in modules.values() for source in sources_of(module)]
    with kept_attributes(model, numbers=True), kept_buffers(model), kept_generators():
        return moving_state(model, modules, sources, lambda: batches.call(model, inputs))


def other_path(inputs: Any, differing: Sequence[tuple[Guard, Any]], failure: SplitError | None) -> SplitError:
    """A batch took another path than the one that was recorded, and the head does not hold for it.

    Args:
        inputs: The batch.
        differing: Values that steered the model another way, with what they are now.
        failure: What does not hold; None if a feature was not made, or not per sample.
    """
    lines = "; ".join(f"{guard.line} gave {guard.value!r} when it was recorded, {now!r} now" for guard, now in
                      differing[:1])  # fmt: skip
    reason = failure.received if failure is not None else "a tensor that the head needs was not made for every sample"
    return SplitError(
        what="The model took another path for this batch than the one that was recorded.",
        where=lines[:600] or "the frozen part",
        received=f"{batches.describe(inputs)}: {reason}",
        do="pass an example that holds such samples (for an attention mask: a batch with padding), to frostline.split "
        "or as frostline.fit(..., example=...); or make the path independent of the values; or train with "
        "frostline.fit(..., cache=False).",
    )


def other_size(batch_size: int, failure: SplitError) -> SplitError:
    """The model's code reads the size of the batch, and at this size the head is not the model."""
    return SplitError(
        what=f"The model computes in another way for a batch of {batch_size}.",
        where=failure.where,
        received=failure.received,
        do="use another batch size (and drop a short last batch), or make the model independent of the size of the "
        "batch, or train with frostline.fit(..., cache=False).",
    )


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


def unnamed_error(value: str, module: str) -> NotCacheable:
    """The recipe key would be the same for two models that compute different features."""
    return NotCacheable(
        what="The recipe key cannot hold an argument of a frozen call: its content cannot be read.",
        where=f"{module or 'the model'}, {torch_calls.user_line()}",
        received=value,
        do="pass a number, a tensor, an array, a container of these, or a plain function of them; or train with "
        "frostline.fit(..., cache=False).",
    )


def unheard_error() -> NotCacheable:
    """A frozen value that follows the batch came from a call without a line in the log."""
    return NotCacheable(
        what="The frozen part makes a tensor from its inputs by a call that cannot be recorded.",
        where="a frozen tensor that follows the batch, and that no torch call, script or autograd Function made",
        received="the result of another thread, of a compiled extension, or of a library that is not torch",
        do="call torch in the thread that runs the model; or move the step into the dataset's transform; or train with "
        "frostline.fit(..., cache=False).",
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


def refuse_unmade(names: Iterable[str]) -> None:
    """Refuse a loss or metric that reads what the frozen part leaves in these attributes: the head does not run it.

    Raises:
        SplitError: If there is one.
    """
    name = min(names, default=None)
    if name is None:
        return
    raise SplitError(
        what=f"The loss or metric reads {name!r}, which the model's forward sets from its frozen part.",
        where=f"the loss or metric, at .{name}",
        received="an attribute that a cached training does not set",
        do="return that value from forward, beside the output: loss and metric get all of it; or train with "
        "frostline.fit(..., cache=False).",
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


def autograd_error(module: str) -> SplitError:
    """The graph of autograd of a recording is not that of the head."""
    return SplitError(
        what="The model reaches into the autograd graph of its trainable part.",
        where=f"{module or 'the model'}, {torch_calls.user_line()}",
        received="Tensor.grad_fn: a hook on it, or a decision by it, would be missing in the head",
        do="use tensor.register_hook; or put the step into a module of its own that holds no frozen layers; or train "
        "with frostline.fit(..., cache=False).",
    )


def changed_error(names: Sequence[str]) -> SplitError:
    """The frozen part is not the one that was split any more."""
    shown = ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return SplitError(
        what="The frozen part was changed after the model was split.",
        where=shown or "its code, its numbers, or what is frozen",
        received="other content than the split and its stored features were made from",
        do="call frostline.split(model, example) again, then FeatureCache.fill; load weights before the split.",
    )


def changed_model_error(name: str, received: str) -> SplitError:
    """What the head was made from is another one now."""
    return SplitError(
        what=f"The model was changed after it was split: {name!r} is not what the head was made from.",
        where=name,
        received=received,
        do="call frostline.split(model, example) again after such a change.",
    )


def frozen_weight_error(name: str) -> NotCacheable:
    """A frozen look-up table that its own forward changes."""
    return NotCacheable(
        what=f"The frozen part changes its own weights: {name!r} is scaled to max_norm in every forward pass.",
        where=f"{name}, {torch_calls.user_line()}",
        received="a frozen embedding with max_norm",
        do="set max_norm = None on the nn.Embedding that holds it, or leave it out of F.embedding; then split again.",
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


def _own_failure(model: nn.Module, inputs: Any, *, training: bool) -> Exception | None:
    with (
        kept_modes(model), kept_buffers(model), kept_attributes(model, numbers=True), kept_gradients(model),
        kept_generators(), torch.enable_grad(),
    ):  # fmt: skip
        model.train(training)
        try:
            outputs = [tensor for tensor in tensors_in(batches.call(model, inputs)) if tensor.requires_grad]
            if outputs:
                torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])
        except Exception as error:
            return error
    return None


def _because(error: Exception, what: str, do: str) -> SplitError:
    made = SplitError(
        what=what,
        where=_line(error),
        received=f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}",
        do=do,
    )
    made.__cause__ = error
    return made


def _line(error: Exception) -> str:
    """The innermost line of the traceback that is neither torch's nor ours."""
    place, traceback = "", error.__traceback__
    while traceback is not None:
        path, line = traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        if not path.startswith((_OURS, _TORCH)) and Path(path).name != "inputs.py":
            place = f"{Path(path).name}:{line}: {linecache.getline(path, line).strip()}".rstrip(": ")
        traceback = traceback.tb_next
    return place or "a line of torch"
