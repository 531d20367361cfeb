"""Why a model could not be split, when what stopped it was not an error of ours."""

from __future__ import annotations

import linecache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.errors import SplitError
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators, kept_gradients, kept_modes
from frostline.splitting.graphs import UnknownValue
from frostline.splitting.structure import tensors_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from frostline.splitting.recording import Guard

_OURS = str(Path(__file__).parent)
_TORCH = str(Path(torch.__file__).parent)


def explained_failure(model: nn.Module, inputs: Any, errors: list[Exception]) -> SplitError:
    """The error to raise after every way to record the model has failed.

    Args:
        model: The model.
        inputs: A batch to run it on.
        errors: What each way has raised, in order.
    """
    ours = next((error for error in errors if isinstance(error, SplitError)), None)
    if ours is not None:
        return ours
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


def other_path(inputs: Any, differing: Sequence[tuple[Guard, Any]], found: SplitError | str) -> SplitError:
    """A batch took another path than the one that was recorded, and the head does not hold for it.

    Args:
        inputs: The batch.
        differing: Values that steered the model another way, with what they are now.
        found: What does not hold.
    """
    lines = "; ".join(
        f"{guard.line} gave {guard.value!r} when it was recorded, {now!r} now" for guard, now in differing[:1]
    )
    return SplitError(
        what="The model took another path for this batch than the one that was recorded.",
        where=lines or "the frozen part",
        received=f"{batches.describe(inputs)}: {found if isinstance(found, str) else found.received}",
        do="pass an example that holds such samples (for an attention mask: a batch with padding), to frostline.split "
        "or as frostline.fit(..., example=...); or make the path independent of the values.",
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
