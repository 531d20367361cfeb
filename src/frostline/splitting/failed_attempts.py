"""Why no attempt at a split holds: one error, which names a fault of the model or of the example where there is one."""

from __future__ import annotations

import linecache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.errors import DataError, FrostlineError, SplitError
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators, kept_gradients, kept_modes
from frostline.splitting.calls.containers import tensors_in
from frostline.splitting.plan.head_graph import NOT_GENERAL
from frostline.splitting.plan.samples import LARGE, batch_of
from frostline.splitting.python_state.kept_state import keeps_state_error, moving_state
from frostline.splitting.python_state.sources import sources_of
from frostline.splitting.recording.graph_writer import UnknownValue

if TYPE_CHECKING:
    from torch import nn

_OURS = str(Path(__file__).parent)
_TORCH = str(Path(torch.__file__).parent)


def failure_of_all(model: nn.Module, example: Any, errors: list[Exception]) -> FrostlineError:
    """The error to raise after every way to record the model has failed.

    Args:
        model: The model.
        example: The batch whose first samples it was recorded on.
        errors: What each way has raised, in order.
    """
    inputs = batch_of(example, LARGE)
    ours = next((error for error in errors if isinstance(error, SplitError)), None)
    if ours is not None:
        moving = _moving(model, inputs) if ours.what == NOT_GENERAL else []
        return keeps_state_error(moving) if moving else ours
    own = _own_failure(model, inputs)
    if own is not None and batches.batch_size(example) > LARGE and _own_failure(model, example) is None:
        return _not_of_rows(own, inputs, example)
    if own is not None:
        return _because(
            own, "The model itself fails on the example, without Frostline.",
            "make `model(example)` and a backward pass run in train() and in eval(), then split again.",
        )  # fmt: skip
    if any(isinstance(error, UnknownValue) for error in errors):
        return SplitError(
            what="The model makes a trainable value by a call that cannot be recorded.",
            where="a value with requires_grad that no recorded torch call, module or autograd Function has made",
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


def _not_of_rows(error: Exception, inputs: Any, example: Any) -> DataError:
    made = DataError(
        what="The example is no table of samples: the model runs on it as a whole, and fails on its first samples.",
        where="the example",
        received=f"{batches.describe(example)}, cut to {batches.describe(inputs)}; {_text(error)}",
        do="give each sample a row of its own in every input: axis 0 of the first tensor counts the samples. Samples "
        "of differing length are padded (nn.utils.rnn.pad_sequence) instead of joined (torch.cat with offsets); or "
        "train with frostline.fit(..., cache=False).",
    )
    made.__cause__ = error
    return made


def _own_failure(model: nn.Module, inputs: Any) -> Exception | None:
    """What the model raises on a batch in training or in evaluation, forward or backward."""
    return next((error for mode in (True, False) if (error := _failure_in(model, inputs, training=mode))), None)


def _failure_in(model: nn.Module, inputs: Any, *, training: bool) -> Exception | None:
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
        received=_text(error),
        do=do,
    )
    made.__cause__ = error
    return made


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"


def _line(error: Exception) -> str:
    """The innermost line of the traceback that is neither torch's nor ours."""
    place, traceback = "", error.__traceback__
    while traceback is not None:
        path, line = traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
        if not path.startswith((_OURS, _TORCH)) and Path(path).name != "inputs.py":
            place = f"{Path(path).name}:{line}: {linecache.getline(path, line).strip()}".rstrip(": ")
        traceback = traceback.tb_next
    return place or "a line of torch"
