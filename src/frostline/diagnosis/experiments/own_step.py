"""A step of one's own loop, `step(model, batch) -> loss`, as a model whose output is the loss."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core.arguments import check_callable
from frostline.core.errors import DataError
from frostline.diagnosis.experiments.batches import check_given
from frostline.diagnosis.rules.contract import BY_CHECKUP
from frostline.diagnosis.rules.judge import all_of, diagnosis_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from frostline.core.records import Diagnosis, Finding

_NAME = "model."
_BY_LOSS = "(pass loss_fn and batches of (inputs, target) in place of step)"  # what would judge, where a step was given


class SteppedModel(nn.Module):
    """A model whose forward is a step of a loop, up to its loss.

    Args:
        model: What the step gets.
        step: callable(model, batch) -> loss.
    """

    def __init__(self, model: nn.Module, step: Callable[[Any, Any], Tensor]) -> None:
        super().__init__()
        self.model, self.step = model, step
        self.training = model.training

    def forward(self, batch: Any) -> Tensor:
        """The loss of a batch; the step may ask for gradients on its way, also where the caller wants none."""
        with torch.enable_grad():
            loss: Any = self.step(self.model, batch)
        return loss if torch.is_grad_enabled() or not isinstance(loss, Tensor) else loss.detach()


def the_loss(output: Tensor, _: object) -> Tensor:
    """What a step gives."""
    return output


def as_stepped(
    model: Any, given: Any, loss_fn: Any, step: Any
) -> tuple[Any, Iterable[Any], Callable[[Any, Any], Tensor]]:  # fmt: skip
    """(model, batches, loss_fn) of a loop that is given by its step; as they are where there is none.

    Raises:
        DataError: If both a loss and a step are given, or neither is.
    """
    if step is None and loss_fn is not None:
        return model, given, loss_fn
    if step is None or loss_fn is not None:
        raise DataError(
            what="A checkup takes a loss, or a step of your own loop.", where="checkup(model, batches, ...)",
            received="neither loss_fn nor step" if step is None else "both loss_fn and step",
            do="pass loss_fn=callable(output, target), or step=callable(model, batch) that returns the loss.",
        )  # fmt: skip
    check_callable("checkup", "step", step, takes="(model, batch)")
    check_given(model, given, the_loss, "checkup")
    return SteppedModel(model, step), (({"batch": batch}, None) for batch in given), the_loss


def named_as_given(diagnosis: Diagnosis, model: nn.Module) -> Diagnosis:
    """The findings of a stepped model, with the names of the model that was given, and what else would judge."""
    names = sorted((name for name, _ in model.named_modules() if name), key=len, reverse=True)

    def named(finding: Finding) -> Finding:
        why, advice = finding.why.replace(BY_CHECKUP, _BY_LOSS), finding.advice
        for name in names:
            why, advice = (text.replace(f"'{_NAME}{name}", f"'{name}") for text in (why, advice))
        layer = None if finding.layer is None else finding.layer.removeprefix(_NAME)
        return replace(finding, why=why, advice=advice, layer=layer)

    return diagnosis_of([named(one) for one in all_of(diagnosis)], diagnosis.cause)
