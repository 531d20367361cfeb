"""Standardise inputs, and scale outputs, inside the model, where the data stay as they are.

Legend: C features (channels of a convolution, else the last axis).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core.arguments import as_name, as_number, check_model
from frostline.core.doors import public
from frostline.core.errors import DataError
from frostline.core.inputs import call_with_model, leaves
from frostline.core.records import Change
from frostline.remedies.batchnorm.insert import watching
from frostline.remedies.batchnorm.insertion_points import CONVOLUTIONS
from frostline.remedies.batchnorm.layers import AnswersForLayer
from frostline.remedies.batchnorm.population import Population, Replay
from frostline.remedies.surgery import Snapshot, replace_everywhere

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOOK_UPS = (nn.Embedding, nn.EmbeddingBag)  # of categories, which stand beside the features
_TAKERS = (nn.Linear, nn.RNNBase, *CONVOLUTIONS)


class Standardised(AnswersForLayer):
    """A layer whose first input is standardised: (x - mean) / deviation, by feature."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, layer: nn.Module, mean_C: Tensor, deviation_C: Tensor, axis: int) -> None:
        super().__init__()
        self.layer, self.axis = layer, axis
        self.register_buffer("mean", mean_C)
        self.register_buffer("deviation", deviation_C)

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the layer makes of the standardised input."""
        shape = [1] * input.dim()
        shape[self.axis] = -1
        scaled = (input - self.mean.reshape(shape)) / self.deviation.reshape(shape)
        return self.layer(scaled.to(input.dtype), *args, **kwargs)


def standardises_inputs(model: nn.Module) -> bool:
    """True if a layer of the model scales its inputs: what comes before it may have any unit."""
    return any(isinstance(module, Standardised) for module in model.modules())


# The unit of the targets belongs into the model: with standardised targets, somebody has to remember to scale every
# prediction back, and the loss would not be that of the caller.
class Rescaled(AnswersForLayer):
    """A layer whose outputs are brought to the unit of the targets: x * deviation + mean."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, layer: nn.Module, mean: float, deviation: float) -> None:
        super().__init__()
        self.layer = layer
        own = next(layer.parameters())
        dtype = torch.promote_types(own.dtype, torch.float32)
        self.register_buffer("mean", torch.tensor(mean, device=own.device, dtype=dtype))
        self.register_buffer("deviation", torch.tensor(deviation, device=own.device, dtype=dtype))

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The layer's outputs, scaled; in float32 at least, which represents large targets."""
        answer: Tensor = self.layer(*args, **kwargs)
        return answer.to(torch.promote_types(answer.dtype, torch.float32)) * self.deviation + self.mean


@public("standardize_inputs")
def standardize_inputs(model: nn.Module, batches: Iterable[Any], *, name: str = "") -> Change:
    """Give the model's first layer inputs of mean 0 and deviation 1, by feature; its weights stay.

    The layer's name stands for the pair then: `fc1` is `fc1.layer`, with the statistics beside it. Features that do
    not vary are only shifted; values that are not finite are left out of the statistics.

    Args:
        model: The model, changed in place.
        batches: Where the statistics come from, as for `insert_batchnorm`.
        name: Of an input, as `checkup` prints it, where the model takes several: selects the layer that takes it.

    Returns:
        The layer that was changed; the undo. Nothing is changed, and a note gives the reason, if the first layer
        that runs is no linear, convolution or recurrent layer.

    Raises:
        DataError: If there are no batches.

    References:
        LeCun et al. (1998), Efficient backprop, section 4.3.
    """
    check_model("standardize_inputs", model)
    snapshot = Snapshot(model)
    name = as_name("standardize_inputs", "name", name) if name != "" else name
    replay = Replay(model, batches)
    found = _first_layer(model, replay, name) or (_first_layer(model, replay) if name else None)
    if found is None:
        return Change((), snapshot.restore, ("the first layer that runs takes no features that can be standardised",))
    name, layer, axis, population = found
    if population.count < 2:
        raise DataError(
            what="The inputs have too few finite values to standardise by.", where=name,
            received=f"{population.count} values per feature", do="pass more batches, or correct the data.",
        )  # fmt: skip
    deviation_C = population.variance.sqrt()
    varies = deviation_C > 1e-6 * (population.mean.abs() + deviation_C.max())
    deviation_C = torch.where(varies, deviation_C, torch.ones_like(deviation_C))
    made = Standardised(layer, population.mean.float(), deviation_C.float(), axis).train(layer.training)
    replace_everywhere(model, layer, made)
    return Change((name,), snapshot.restore)


@public("rescale_outputs")
def rescale_outputs(model: nn.Module, batches: Iterable[Any], mean: float, deviation: float) -> Change:
    """Scale the outputs of the model's last layer to the unit of the targets: times `deviation`, plus `mean`.

    The outputs of a new network are about 1, and targets may be far from that. With the mean and deviation of the
    training targets, the task is that of standardised targets, and predictions need not be scaled
    back. Squared errors of plain SGD are then `deviation` squared times as steep: divide the learning rate
    by that. The layer's name stands for the pair: `head` is `head.layer`, with the two numbers beside it.

    Args:
        model: The model, changed in place; its output is one tensor, that of a linear or convolution layer.
        batches: The first one shows which layer that is.
        mean: Of the targets.
        deviation: Of the targets, above 0.

    Returns:
        The layer that was changed; the undo. Nothing is changed, and a note gives the reason, if the output is not that
        of such a layer, or the model is nothing but that layer.

    Raises:
        DataError: If there are no batches, or the deviation is not above 0.
    """
    check_model("rescale_outputs", model)
    mean = as_number("rescale_outputs", "mean", mean)
    deviation = as_number("rescale_outputs", "deviation", deviation, above=0)
    snapshot = Snapshot(model)
    inputs = Replay(model, batches).first()
    name, layer, before = _last_layer(model, inputs)
    if layer is not None and name:
        replace_everywhere(model, layer, Rescaled(layer, mean, deviation).train(layer.training))
        try:
            after = _last_layer(model, inputs)[2]
        except Exception:
            snapshot.restore()
            raise
        wanted = before.to(after.dtype) * deviation + mean
        if torch.allclose(after, wanted, rtol=1e-3, atol=1e-3 * deviation, equal_nan=True):
            return Change((name,), snapshot.restore)
        snapshot.restore()
    return Change((), snapshot.restore, ("the output does not come from a linear or convolution layer inside",))


def _last_layer(model: nn.Module, inputs: Any) -> tuple[str, nn.Module | None, Tensor]:
    """(name, layer, output) of the layer whose output is the model's output, in another shape perhaps."""
    names = {id(module): name for name, module in model.named_modules()}
    layers = [module for module in model.modules() if isinstance(module, (nn.Linear, *CONVOLUTIONS))]
    answers: list[tuple[nn.Module, Tensor]] = []

    def hear(module: nn.Module, _: Any, answer: Tensor) -> None:
        answers.append((module, answer))

    handles = [layer.register_forward_hook(hear) for layer in layers]
    try:
        with watching(model):
            made = call_with_model(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    if isinstance(made, Tensor):
        for layer, answer in reversed(answers):
            if answer.data_ptr() == made.data_ptr() and answer.numel() == made.numel():
                return names[id(layer)], layer, made.detach().clone()
    return "", None, made if isinstance(made, Tensor) else torch.empty(0)


def _first_layer(
    model: nn.Module, replay: Replay, wanted: str = ""
) -> tuple[str, nn.Module, int, Population] | None:  # fmt: skip
    """(name, layer, axis of its features, statistics of its input) of the first layer with weights that runs.

    Beside real inputs, look-ups of categories are passed over; where an input is wanted, all that take another.
    """
    names = {id(module): name for name, module in model.named_modules()}
    first: list[nn.Module] = []
    population, has_values = Population(), False
    meant: Tensor | None = None

    def hear(module: nn.Module, args: tuple[Any, ...]) -> None:
        has_weights = next(module.parameters(recurse=False), None) is not None
        is_other = (has_values and isinstance(module, _LOOK_UPS)) or not _is_given(args, meant)
        if not first and has_weights and not is_other:
            first.append(module)
        if first and module is first[0] and isinstance(module, _TAKERS) and args and isinstance(args[0], Tensor):
            _add(population, args[0], 1 if isinstance(module, CONVOLUTIONS) else -1)
            raise _InputReached

    handles = [module.register_forward_pre_hook(hear) for module in model.modules()]
    try:
        with watching(model):
            for inputs in replay:
                named = leaves(inputs)
                has_values, meant = any(tensor.is_floating_point() for tensor in named.values()), named.get(wanted)
                try:
                    call_with_model(model, inputs)
                except _InputReached:
                    continue
    finally:
        for handle in handles:
            handle.remove()
    if not first or not population.num_batches or not names[id(first[0])]:
        return None
    return names[id(first[0])], first[0], 1 if isinstance(first[0], CONVOLUTIONS) else -1, population


def _is_given(args: tuple[Any, ...], meant: Tensor | None) -> bool:
    """Whether the first of these is that tensor, in another shape perhaps; any will do if none is meant."""
    given = args[0] if args else None
    return meant is None or (isinstance(given, Tensor) and given.data_ptr() == meant.data_ptr())


def _add(population: Population, given: Tensor, axis: int) -> None:
    values = given.detach()
    if values.layout is not torch.strided or not values.numel():
        return
    is_finite = torch.isfinite(values).flatten(1).all(dim=1) if values.dim() > 1 else torch.isfinite(values)
    if bool(is_finite.any()):
        population.add(values[is_finite], axis)


class _InputReached(Exception):  # noqa: N818 (no error: a pass that went as far as it had to)
    pass
