"""Insert BatchNorm between a layer and its activation."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core.arguments import check_model
from frostline.core.doors import public
from frostline.core.errors import DataError
from frostline.core.inputs import call_with_model
from frostline.core.records import Change
from frostline.core.restore import kept_buffers, kept_generators, kept_modes
from frostline.core.tracing import hooked, tensors_in, trace
from frostline.remedies.batchnorm.insertion_points import Place, find_places
from frostline.remedies.batchnorm.layers import LastAxisBatchNorm, Normalised
from frostline.remedies.batchnorm.population import Population, Replay
from frostline.remedies.surgery import Snapshot, adopt, dismiss, grouped, replace_everywhere, slots

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from torch.optim import Optimizer

# How far outputs may move where they should stay, relative to the largest one. Chosen by us: about a hundred roundings.
_SLACK = {torch.float64: 1e-6, torch.float32: 1e-3}


class _FarEnough(Exception):  # noqa: N818 (ends a pass early, is no error)
    pass


@public("insert_batchnorm")
def insert_batchnorm(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    where: Iterable[str] | str | None = None,
    start: str = "identity",
    optimizer: Optimizer | None = None,
) -> Change:
    """Put a BatchNorm between layers and their activations: after linear and (transposed) convolution layers.

    Which activation follows a layer is found by running the model. Nothing is inserted after an output layer or where
    a norm follows already. The layer's own bias becomes redundant: it moves into the BatchNorm as its beta, the same
    Parameter, with the optimizer's state; the layer's bias is None then. In the model, the layer's name stands for the
    pair: `fc1` is now `fc1.layer` and `fc1.norm`.

    Args:
        model: The model, changed in place.
        batches: What statistics come from, a finite iterable of `(inputs, target)` or inputs; an iterator is kept in
            memory. Measured in inference mode: dropout off, BatchNorms that are there already with their running
            statistics.
        where: Names or globs; a layer that is named itself gets a BatchNorm even if no activation follows, if it is
            frozen or part of a transformer block. None is every layer that an activation follows.
        start: `identity` keeps the outputs: gamma and beta are the layer's own deviation and mean over all batches (in
            training mode the outputs differ by what a batch differs from all). `normalised` starts from gamma 1 and
            beta 0, with statistics measured layer by layer, from below. As a cure only the second helps.
        optimizer: Gets the new weights in the group of the layer's weight.

    Returns:
        The layers that got a BatchNorm, in the order of execution; the undo; what was left alone, and why.

    Raises:
        DataError: If `start` is not known, there are no batches, a channel has fewer than two values, values are not
            finite, or the outputs do not stay although they should.
        LayerNotFound: If a name or glob fits nothing.

    References:
        Ioffe, Szegedy (2015), Batch normalization, section 3.2.
    """
    check_model("insert_batchnorm", model)
    if start not in ("identity", "normalised"):
        raise DataError(
            what="There is no such start for a BatchNorm.", where="insert_batchnorm(start=...)", received=repr(start),
            do="use 'identity', which keeps the outputs, or 'normalised', which cures.",
        )  # fmt: skip
    snapshot, data = Snapshot(model, optimizer), Replay(model, batches)
    with watching(model):
        first = data.first()
        model.eval()
        traced = trace(model, first)
        places, notes = find_places(model, traced, where)
        try:
            for group in [places] if start == "identity" else [[place] for place in places]:
                populations = _measure(model, data, group)
                for place, population in zip(group, populations, strict=True):
                    notes += _insert(model, place, population, start == "identity", optimizer)
            _check(tensors_in(traced.output), tensors_in(call_with_model(model, first)), start)
        except Exception:
            snapshot.restore()
            raise
    for place in places:
        pair = model.get_submodule(place.name)
        for part in (pair, pair.norm):  # the layer's own mode is known again
            part.training = place.layer.training  # type: ignore[union-attr]
    return Change(tuple(place.name for place in places), snapshot.restore, grouped(notes))


@contextmanager
def watching(model: nn.Module) -> Generator[None]:
    """Look at the model as it is at prediction, and leave it as it was."""
    with ExitStack() as stack:
        for context in (kept_generators(), kept_modes(model), kept_buffers(model), torch.no_grad()):
            stack.enter_context(context)
        yield


def _measure(model: nn.Module, data: Replay, places: list[Place]) -> list[Population]:
    """What each layer puts out, over all batches; a pass ends once the last layer has been heard."""
    populations = [Population() for _ in places]
    last = places[-1].layer if places else None
    for inputs in data if places else ():
        with ExitStack() as stack:
            for place, population in zip(places, populations, strict=True):

                def hear(
                    module: nn.Module, _: Any, output: Tensor, place: Place = place, to: Population = population
                ) -> None:
                    to.add(output, place.axis)
                    if module is last:
                        raise _FarEnough

                stack.enter_context(hooked(place.layer, hear))
            with suppress(_FarEnough):
                call_with_model(model, inputs)
    for place, population in zip(places, populations, strict=True):
        population.check(place.name)
    return populations


def _insert(
    model: nn.Module, place: Place, population: Population, is_identity: bool,
    optimizer: Optimizer | None,
) -> list[tuple[str, str]]:  # fmt: skip
    layer, weight = place.layer, place.weight
    norm = _norm_for(place)
    bias = layer._parameters.get("bias")
    mean_C, own_C = population.mean, 0.0
    if bias is not None:
        own_C = bias.detach().to(mean_C)
        layer._parameters["bias"] = None
        if slots(model, bias) == 0 and bias.dtype == norm.weight.dtype:
            norm.bias = bias
        elif slots(model, bias) == 0:
            dismiss(optimizer, bias)
    norm.running_mean.copy_(mean_C - own_C)  # type: ignore[union-attr]
    norm.running_var.copy_(population.variance)  # type: ignore[union-attr]
    norm.num_batches_tracked.fill_(population.num_batches)  # type: ignore[union-attr]
    if is_identity:
        norm.weight.copy_((norm.running_var.double() + norm.eps).sqrt())  # type: ignore[union-attr]
        norm.bias.copy_(mean_C)
    else:
        norm.bias.zero_()
    norm.weight.requires_grad_(weight.requires_grad)
    norm.bias.requires_grad_(weight.requires_grad if norm.bias is not bias else norm.bias.requires_grad)
    replace_everywhere(model, layer, Normalised(layer, norm))
    new = [(f"{place.name}.norm.weight", norm.weight)]
    new += [(f"{place.name}.norm.bias", norm.bias)] if norm.bias is not bias else []
    if adopt(optimizer, new, weight) or not weight.requires_grad:
        return []
    return [
        (place.name, "its BatchNorm has new weights that no optimizer trains; pass optimizer=, or add them to yours")
    ]


def _norm_for(place: Place) -> Any:
    """A BatchNorm for the layer's output; statistics of half precision are kept in float32."""
    dtype = torch.float32 if place.weight.dtype in (torch.float16, torch.bfloat16) else place.weight.dtype
    if place.axis == -1:
        kind = nn.BatchNorm1d if place.dims == 2 else LastAxisBatchNorm
    else:
        kind = {3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}[place.dims]
    return kind(place.channels, device=place.weight.device, dtype=dtype)


def _check(before: list[Tensor], after: list[Tensor], start: str) -> None:
    if start != "identity":
        return
    for old, new in zip(before, after, strict=True):
        if not old.is_floating_point() or not old.numel():
            continue
        moved = float((new - old).abs().max()) / max(float(old.abs().max()), 1e-30)
        if not moved <= _SLACK.get(old.dtype, 5e-2):
            raise DataError(
                what="The inserted BatchNorms do not keep the outputs, although they should.",
                where="insert_batchnorm(start='identity')",
                received=f"outputs moved by {moved:.1e} of the largest one; the model is as it was",
                do="name fewer layers in where=; a forward that checks the types of its layers cannot be changed.",
            )
