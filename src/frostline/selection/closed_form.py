"""The output layer of a head, solved instead of trained: ridge regression, or L-BFGS on a convex loss.

The features are standardised for the solution, which is folded back into plain weights. The penalty is on the weights
of the standardised features: `weight_decay / 2` times the sum of their squares, beside the mean loss; the bias is free.

Legend: N rows, B batch, D inputs and C outputs of the output layer.

References:
    Hoerl and Kennard 1970, Ridge Regression, section 2. Liu and Nocedal 1989, On the limited memory BFGS method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.errors import DataError
from frostline.core.layers import submodule
from frostline.core.restore import kept_generators, kept_modes
from frostline.selection.variants import OutputLayer, dropout_layers, find_output_layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

_IN_MEMORY = 2**30  # bytes of rows that are kept; beyond, every look at all rows runs the head again
_MOST_STEPS = 300  # of L-BFGS; 50,000 x 512 rows of 10 classes took about 60 (benchmarks/sweep.py)
_GRADIENT = 1e-5  # the largest entry of the gradient of the mean loss where L-BFGS stops


@dataclass(frozen=True)
class LinearSolution:
    """An output layer that minimises the loss over the rows.

    Attributes:
        layer: The qualified name of the layer.
        weight: (C, D).
        bias: (C,); None if the layer has none.
        loss: The mean loss over the rows, without the penalty.
        num_rows: Rows.
        steps: Of L-BFGS; 0 for ridge regression.
        is_converged: False if L-BFGS stopped before the gradient was small.
    """

    layer: str
    weight: Tensor
    bias: Tensor | None
    loss: float
    num_rows: int
    steps: int
    is_converged: bool

    def put_into(self, head: nn.Module) -> None:
        """Write the weights into the layer of a head."""
        layer: Any = submodule(head, self.layer)
        with torch.no_grad():
            layer.weight.copy_(self.weight)
            if self.bias is not None:
                layer.bias.copy_(self.bias)


@dataclass(frozen=True)
class _Rows:
    """The inputs of the output layer by batch, as often as they are iterated, and their (D,) means and deviations."""

    batches: Callable[[], Iterator[tuple[Tensor, Any]]]
    mean: Tensor
    scale: Tensor
    count: int

    def standardised(self) -> Iterator[tuple[Tensor, Any]]:
        for h_BD, target in self.batches():
            yield (h_BD - self.mean) / self.scale, target


def solve_linear_head(
    head: nn.Module, data: Iterable[tuple[Any, Any]], *, loss: Callable[[Any, Any], Tensor], is_squared: bool,
    counted: Callable[[Any], int], pick: Callable[[Any], Tensor], weight_decay: float | None = None,
    in_training: bool = False,
) -> LinearSolution:  # fmt: skip
    """Solve for the output layer of a head; everything before it stays as it is, in evaluation mode by default.

    Args:
        head: A copy that may be run.
        data: Batches of (features, target), as often as they are iterated.
        loss: callable(output (B, C), target) -> mean over the batch, convex in the output.
        is_squared: The loss is the mean squared error: ridge regression, in one pass.
        counted: callable(target) -> how much a batch counts.
        pick: callable(output of the head) -> the tensor in it that is the layer's output.
        weight_decay: The penalty; None is 1 / N, as scikit-learn's `LogisticRegression` has it with C = 1.
        in_training: What is before the layer runs in training mode, without dropout: a BatchNorm then normalises by its
            batch, as in the steps that follow.

    Raises:
        DataError: If the head's output is not that of one linear layer, its inputs are no vectors, or targets or
            features cannot be solved for.
    """
    layer = _checked_layer(head, data, pick)
    linear: Any = submodule(head, layer.name)
    has_bias = linear.bias is not None
    rows = _measured(partial(_inputs_of, head, layer, data, in_training=in_training), counted, centres=has_bias)
    decay = 1 / rows.count if weight_decay is None else weight_decay
    if is_squared:
        (v_CD, c_C), steps, is_converged = _ridge(rows, decay, linear), 0, True
    else:
        (v_CD, c_C), steps, is_converged = _lbfgs(rows, decay, linear, loss, counted)
    weight_CD = v_CD / rows.scale.double()
    bias_C = c_C - weight_CD @ rows.mean.double() if has_bias else None
    weight_CD, bias_C = weight_CD.to(linear.weight), None if bias_C is None else bias_C.to(linear.weight)
    total = 0.0
    with torch.no_grad():
        for h_BD, target in rows.batches():
            total += float(loss(nn.functional.linear(h_BD, weight_CD, bias_C), target)) * counted(target)
    return LinearSolution(layer.name, weight_CD, bias_C, total / rows.count, rows.count, steps, is_converged)


def _checked_layer(head: nn.Module, data: Iterable[tuple[Any, Any]], pick: Callable[[Any], Tensor]) -> OutputLayer:
    inputs, _ = next(iter(data))
    layer = find_output_layer(head, inputs, pick)
    if layer is None:
        raise DataError(
            what="Only a linear output layer can be solved for.", where="the head",
            received=f"a {type(head).__name__} whose output is not that of one trainable nn.Linear, called once",
            do="train it instead: leave out init_head, or give an optimizer by name.",
        )  # fmt: skip
    if layer.inputs.dim() != 2:
        raise DataError(
            what="The inputs of the output layer are no vectors.", where=f"the layer {layer.name!r}",
            received=f"{batches.describe(layer.inputs)} for a batch",
            do="pool them to one vector for each sample before the layer (mean over places), or train it instead.",
        )  # fmt: skip
    return layer


def _inputs_of(
    head: nn.Module, layer: OutputLayer, data: Iterable[tuple[Any, Any]], *, in_training: bool
) -> Iterator[tuple[Tensor, Any]]:
    """(inputs of the layer, target) of every batch."""
    heard: list[Tensor] = []
    handle = submodule(head, layer.name).register_forward_pre_hook(lambda _, args: heard.append(args[0]))
    try:
        with torch.no_grad(), kept_generators(), kept_modes(head):
            head.train(in_training)
            for noisy in dropout_layers(head).values():  # one draw of noise would be fitted
                noisy.training = False
            for inputs, target in data:
                batches.call(head, inputs)
                yield heard.pop(), batches.move(target, layer.inputs.device)
    finally:
        handle.remove()


def _measured(
    given: Callable[[], Iterator[tuple[Tensor, Any]]], counted: Callable[[Any], int], *, centres: bool
) -> _Rows:  # fmt: skip
    """The rows, kept in memory where they fit, and their statistics."""
    kept: list[tuple[Tensor, Any]] | None = []
    sums: list[Tensor] = []
    count = num_bytes = num_rows = 0
    kind = torch.float32
    for h_BD, target in given():
        kind = torch.promote_types(h_BD.dtype, torch.float32)  # half precision is solved in single
        if not batches.are_finite((h_BD, target)):
            raise DataError(
                what="Features or targets are not finite: nothing can be solved for.", where="the rows",
                received="NaN or Inf in the features" if not batches.are_finite(h_BD) else "NaN or Inf in the targets",
                do="remove or correct these samples, and fill the cache again.",
            )  # fmt: skip
        wide = h_BD.double()
        own = [wide.sum(0), (wide * wide).sum(0)]
        sums = own if not sums else [one + other for one, other in zip(sums, own, strict=True)]
        count, num_rows, num_bytes = count + counted(target), num_rows + len(h_BD), num_bytes + h_BD.nbytes
        kept = [*kept, (h_BD, target)] if kept is not None and num_bytes <= _IN_MEMORY else None
    _check_targets(kept, count)
    mean_D = sums[0] / num_rows
    deviation_D = (sums[1] / num_rows - mean_D * mean_D).clamp(min=0).sqrt()
    is_constant_D = deviation_D <= 1e-6 * mean_D.abs()
    scale_D = torch.where(is_constant_D, 1.0, deviation_D)
    held = kept
    return _Rows(
        given if held is None else lambda: iter(held), (mean_D if centres else torch.zeros_like(mean_D)).to(kind),
        scale_D.to(kind), count,
    )  # fmt: skip


def _check_targets(kept: list[tuple[Tensor, Any]] | None, count: int) -> None:
    known = {int(one) for _, target in kept or () if isinstance(target, Tensor) and target.dim() == 1
             and not target.is_floating_point() for one in target.unique().tolist()}  # fmt: skip
    known.discard(-100)
    is_one_class = kept is not None and len(known) == 1
    if not count or is_one_class:
        raise DataError(
            what="All rows are of one class: there is nothing to solve for." if is_one_class
            else "No row has a label: there is nothing to solve for.",
            where="the rows", received=f"the label {known.pop()} only" if is_one_class else "ignored labels only",
            do="pass rows of two classes or more.",
        )  # fmt: skip


def _ridge(rows: _Rows, decay: float, linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """(C, D) and (C,) of the standardised features."""
    device = rows.mean.device
    products_DD = torch.zeros(linear.in_features, linear.in_features, dtype=torch.float64, device=device)
    products_DC = torch.zeros(linear.in_features, linear.out_features, dtype=torch.float64, device=device)
    sum_C, count = torch.zeros(linear.out_features, dtype=torch.float64, device=device), 0
    for z_BD, target in rows.standardised():
        z_BD, y_BC = z_BD.double(), torch.as_tensor(target).double().reshape(len(z_BD), -1)
        products_DD += z_BD.T @ z_BD
        products_DC += z_BD.T @ y_BC
        sum_C += y_BC.sum(0)
        count += len(z_BD)
    # The mean over outputs halves nothing: each output has its own equations, with the penalty C / 2 times as large.
    penalty = decay * linear.out_features / 2 * count
    identity = torch.eye(linear.in_features, dtype=torch.float64, device=device)
    v_DC = torch.linalg.solve(products_DD + penalty * identity, products_DC) if penalty else torch.linalg.lstsq(
        products_DD, products_DC, driver="gelsd" if device.type == "cpu" else None).solution  # fmt: skip
    return v_DC.T, sum_C / count


def _lbfgs(
    rows: _Rows, decay: float, linear: nn.Linear, loss: Callable[[Any, Any], Tensor], counted: Callable[[Any], int]
) -> tuple[tuple[Tensor, Tensor], int, bool]:  # fmt: skip
    """((C, D) and (C,) of the standardised features, steps, True if the gradient is small)."""
    from scipy.optimize import minimize

    shape, device = (linear.out_features, linear.in_features), rows.mean.device
    size = shape[0] * shape[1]

    def of_all(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        values = torch.from_numpy(theta).to(device)
        v_CD = values[:size].view(shape).to(rows.mean).requires_grad_()
        c_C = values[size:].to(rows.mean).requires_grad_()
        total = 0.0
        for z_BD, target in rows.standardised():
            share = counted(target) / rows.count
            if share:
                with torch.enable_grad():
                    own = loss(nn.functional.linear(z_BD, v_CD, c_C), target) * share
                own.backward()
                total += float(own.detach())
        found_CD = values[:size].view(shape)
        total += decay / 2 * float((found_CD * found_CD).sum())
        assert v_CD.grad is not None
        gradient_CD = v_CD.grad.double() + decay * found_CD
        free_C = c_C.grad.double() if c_C.grad is not None and linear_has_bias else torch.zeros_like(values[size:])
        return total, torch.cat([gradient_CD.flatten(), free_C]).cpu().numpy()

    linear_has_bias = "bias" in dict(linear.named_parameters())
    found: Any = minimize(
        of_all, np.zeros(size + shape[0]), jac=True, method="L-BFGS-B",
        options={"maxiter": _MOST_STEPS, "gtol": _GRADIENT, "ftol": 1e-10},
    )  # fmt: skip
    theta = torch.from_numpy(found.x).to(device)
    return (theta[:size].view(shape), theta[size:]), int(found.nit), bool(found.success)
