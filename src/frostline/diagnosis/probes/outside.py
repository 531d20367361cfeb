"""Parameters that a model computes with and does not have: layers that are not registered, or made anew in forward.

They get gradients and never move: no optimizer that is made from `model.parameters()` holds them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.restore import seed_generators
from frostline.diagnosis.probes.evaluation_pass import evaluation
from frostline.diagnosis.rules.wiring_records import OutsideFacts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from frostline.diagnosis.experiments.batches import Batch


def facts_of_outside(
    model: nn.Module, batch: Batch, loss_fn: Callable[[Any, Any], Tensor], held: Sequence[Tensor]
) -> OutsideFacts:
    """The leaves of autograd behind a loss that are no parameters of the model.

    Two passes over the same rows, with the same noise. A leaf that is another tensor in the second pass is made in
    forward: one with other values is a layer with new random weights, one with the same values a point at which the
    model asks for a gradient.

    Args:
        model: Runs in evaluation mode, and is left as it is.
        batch: (inputs, target).
        loss_fn: callable(output, target) -> scalar.
        held: What the optimizer moves: a loss may have parameters of its own.
    """
    known = {id(parameter) for parameter in (*model.parameters(), *held)}
    size = batches.batch_size(batch[0])
    of_output: list[Tensor] = []
    with evaluation(model):
        passes = [list(_strangers(model, batch, loss_fn, known, seed, of_output)) for seed in (0, 1)]
    first, second = passes
    in_model = {id(leaf) for leaf in of_output}
    lasting = {id(leaf) for leaf in first} & {id(leaf) for leaf in second}
    made = [
        (old, new) for old, new in zip(first, second, strict=False)
        if id(old) not in lasting and not (old.dim() and len(old) == size)  # an activation has a batch axis
    ] if len(first) == len(second) else []  # fmt: skip
    random = [old for old, new in made if old.shape != new.shape or not torch.equal(old, new)]
    kept = [leaf for leaf in first if id(leaf) in lasting]
    return OutsideFacts(
        _shapes(leaf for leaf in kept if id(leaf) in in_model), _shapes(random),
        _shapes(leaf for leaf in kept if id(leaf) not in in_model),
    )  # fmt: skip


def _strangers(
    model: nn.Module, batch: Batch, loss_fn: Callable[[Any, Any], Tensor], known: set[int], seed: int,
    of_output: list[Tensor],
) -> Iterable[Tensor]:  # fmt: skip
    """Those behind the loss; those behind the model's output are added to `of_output`."""
    inputs, target = batch
    seed_generators(seed)
    with torch.enable_grad():
        output = batches.call(model, inputs)
        loss = loss_fn(output, target)
    tensors = [one for one in batches.leaves(output).values() if one.grad_fn is not None]
    of_output += leaves_behind([one.grad_fn for one in tensors], known)
    return leaves_behind([loss.grad_fn], known)


def leaves_behind(waiting: list[Any], known: set[int]) -> list[Tensor]:
    """The leaves of autograd behind these functions.

    Args:
        waiting: Functions, such as `loss.grad_fn`; used up.
        known: Ids of leaves that are left out.
    """
    found: list[Tensor] = []
    seen = set[Any]()
    while waiting:
        function = waiting.pop()
        if function is None or function in seen:
            continue
        seen.add(function)
        leaf = getattr(function, "variable", None)
        if isinstance(leaf, Tensor) and id(leaf) not in known:
            found.append(leaf)
        waiting += [following for following, _ in function.next_functions]
    return found


def _shapes(leaves: Iterable[Tensor]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(leaf.shape) for leaf in leaves)
