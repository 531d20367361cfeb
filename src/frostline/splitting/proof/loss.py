"""The proof of a loss or a metric: over the head it gives what it gives over the model.

A hook, an attribute or a list may hand values of the frozen part to a loss beside the model's output. Between the model
and its head other samples run, so that what was left there is not that of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.code_names import is_library, nested
from frostline.core.errors import SplitError
from frostline.core.generators import GENERATORS, kept_state
from frostline.core.restore import (
    generator_states,
    kept_attributes,
    kept_buffers,
    kept_generators,
    kept_gradients,
    kept_modes,
    kept_values,
    set_generator_states,
)
from frostline.core.tolerances import batch_tolerance, relative_difference
from frostline.splitting.python_state.sources import Source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from frostline.splitting.parts.head import Head

_TOLERANCE = 1e-3  # of the value; what a loss reads of another batch changes it by far more
_SMALLEST = 1e-3  # a loss that is smaller is compared with this: rounding is as large as such losses


def prove_loss(
    function: Callable[[Any, Any], Any], model: nn.Module, head: Head, reference: Callable[[Any], Any],
    features: tuple[Tensor, ...], batch: tuple[Any, Any], *, training: bool,
) -> None:  # fmt: skip
    """Compare what a loss or metric gives over model and head.

    What the model keeps is put back, and of what the function keeps: numbers, attributes, buffers, generators, and the
    entries of its lists and dicts. Tensors that it writes in place, and lists in lists, are not.

    Args:
        function: Callable(output, target). If it fails on the model's own output, or holds an iterator, nothing is
            said of it here.
        model: The model.
        head: Its head.
        reference: Runs the model on inputs.
        features: Those of the batch.
        batch: Inputs and targets.
        training: The mode.

    Raises:
        SplitError: If they differ.
    """
    if any(isinstance(value, Iterator) for value in _reached(function)):
        return  # what it takes from an iterator cannot be put back
    inputs, targets = batch
    first = torch.zeros(batches.batch_size(inputs) + 1, dtype=torch.long, device=features[0].device)
    others = batches.rows(inputs, first)  # the first sample in every place, and one more place
    with (
        kept_modes(model), kept_modes(head), kept_gradients(model), kept_generators(),
        kept_attributes(model, numbers=True), torch.set_grad_enabled(training),
    ):  # fmt: skip
        model.train(training)
        head.train(training)
        states = generator_states()
        _left_by(model, reference, others)  # also what a first call sets
        set_generator_states(states)
        try:
            with _kept(model):
                expected = _called(function, reference(inputs), targets)
        except Exception:  # the training will raise it
            return
        with _kept(model):
            _left_by(model, reference, others)
        set_generator_states(states)
        with _kept(model):
            output = head(*features)
            try:
                found = _called(function, output, targets)
            except Exception as error:
                said = f"{type(error).__name__}: {error}, over the trainable part"
                raise _reads_frozen_part(function, said) from error
    allowed = max([_TOLERANCE, *(batch_tolerance(own.dtype, is_on_gpu=own.is_cuda) for own in features)])
    if _difference(found, expected) > allowed:
        raise _reads_frozen_part(
            function, f"{_number(expected)} over the model, {_number(found)} over its trainable part"
        )


def _left_by(model: nn.Module, reference: Callable[[Any], Any], others: Any) -> None:
    with kept_buffers(model), suppress(Exception):  # a model may refuse samples that are all the same
        reference(others)


@contextmanager
def _kept(model: nn.Module) -> Generator[None]:
    with kept_buffers(model), kept_attributes(model, numbers=True):
        yield


def _called(function: Callable[[Any, Any], Any], output: Any, target: Any) -> Any:
    with _kept_by(function):
        value = function(output, target)
        return value.detach().clone() if isinstance(value, Tensor) else value


def _reads_frozen_part(function: Any, received: str) -> SplitError:
    return SplitError(
        what="The loss or metric depends on more than the model's output, which a cached training leaves out.",
        where=f"{getattr(function, '__qualname__', type(function).__name__)}: a hook, an attribute, a list or a global",
        received=received,
        do="return that value from forward, beside the output: loss and metric get all of it; or train with "
        "frostline.fit(..., cache=False).",
    )


def _difference(found: Any, expected: Any) -> float:
    if isinstance(found, (int, float)) and isinstance(expected, (int, float)):
        found, expected = torch.tensor(float(found)), torch.tensor(float(expected))
    if isinstance(found, Tensor) and isinstance(expected, Tensor) and found.shape == expected.shape:
        return relative_difference(_floored(found), _floored(expected))
    return 0.0 if type(found) is type(expected) and not isinstance(found, Tensor) else 1.0


def _floored(value: Tensor) -> Tensor:
    return torch.cat([value.double().flatten(), value.new_full((1,), _SMALLEST, dtype=torch.float64)])


def _number(value: Any) -> str:
    return f"{float(value):.6g}" if not isinstance(value, Tensor) or value.numel() == 1 else repr(value)


@contextmanager
def _kept_by(function: Any) -> Generator[None]:
    """Put back what a loss keeps from call to call: in its object, its closure and its globals."""
    with ExitStack() as stack:
        tables: list[dict[str, Any]] = []
        holders: list[Any] = []
        for value in _reached(function):
            if isinstance(value, GENERATORS):
                stack.enter_context(kept_state(value))
            elif isinstance(value, nn.Module):
                stack.enter_context(kept_buffers(value))
                stack.enter_context(kept_attributes(value, numbers=True))
            elif hasattr(value, "__dict__") and not isinstance(value, type) and not is_library(type(value)):
                tables.append(vars(value))
            else:
                holders.append(value)
        stack.enter_context(kept_values(tables, holders))
        cells = [(cell, _content(cell)) for own in _functions(function) for cell in own.__closure__ or ()]
        names = [(own.__globals__, name) for own in _functions(function) for name in own.__code__.co_names]
        entries = [(table, name, table[name]) for table, name in names if name in table]
        try:
            yield
        finally:
            for cell, content in cells:
                if content is not _content(cell):
                    cell.cell_contents = content
            for table, name, value in entries:
                table[name] = value


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # an empty one
        return None


def _functions(function: Any) -> Iterator[FunctionType]:
    inner, table = getattr(function, "func", None), vars(type(function))  # of a partial; of an object
    for own in (function, inner, table.get("__call__"), table.get("forward")):
        plain = getattr(own, "__func__", own)
        if isinstance(plain, FunctionType):
            yield plain


def _reached(function: Any) -> Iterator[Any]:
    for own in (function, getattr(function, "__self__", None)):
        if own is not None:
            yield own
            yield from (value for value in getattr(own, "__dict__", {}).values() if isinstance(value, GENERATORS))
    for plain in _functions(function):
        source = Source.of_function(plain)
        read = {name for code in nested(source.code) for name in (*code.co_names, *code.co_freevars, *code.co_varnames)}
        for table in (source.scope, source.closure, source.defaults):
            yield from (table[name] for name in read if name in table)


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
