"""Special features of healthy networks, each of which a rule of thumb calls sick."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .recipe import Recipe


class Autocast(nn.Module):
    """Runs a network under bfloat16 autocast and gives out float32."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.inner(x).float()


class Scaled(nn.Module):
    """Raw pixels or raw units come in; the model itself brings them to scale."""

    def __init__(self, inner: nn.Module, factor: float) -> None:
        super().__init__()
        self.inner = inner
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x * self.factor)


def _frozen_first(model: nn.Module, recipe: Recipe) -> nn.Module:
    """The first layer is frozen: its gradients are None."""
    first = next(m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    for parameter in first.parameters():
        parameter.requires_grad_(False)
    return model


def _frozen_half(model: nn.Module, recipe: Recipe) -> nn.Module:
    """A pretrained-like body: the lower half of the parameters is frozen."""
    parameters = list(model.parameters())
    for parameter in parameters[: len(parameters) // 2]:
        parameter.requires_grad_(False)
    return model


def _sparse(model: nn.Module, recipe: Recipe) -> nn.Module:
    """Biases under which a ReLU unit is silent for about 80% of the rows (a standard normal is below 0.84)."""
    hidden = [m for m in model.modules() if isinstance(m, nn.Linear)][:-1]
    with torch.no_grad():
        for layer in hidden:
            layer.bias.fill_(-0.84)
            layer.weight.mul_(1.3)
    return model


def _pruned(model: nn.Module, recipe: Recipe) -> nn.Module:
    """Two of three weights start at exactly zero."""
    with torch.no_grad():
        for layer in (m for m in model.modules() if isinstance(m, nn.Linear)):
            layer.weight.mul_(3**0.5 * (torch.rand_like(layer.weight) < 1 / 3))
    return model


def _some_dead(model: nn.Module, recipe: Recipe) -> nn.Module:
    """A tenth of the hidden units are dead; the rest are enough."""
    with torch.no_grad():
        for layer in [m for m in model.modules() if isinstance(m, nn.Linear)][:-1]:
            layer.bias[: layer.out_features // 10] = -30.0
    return model


def _unused_branch(model: nn.Module, recipe: Recipe) -> nn.Module:
    """A trainable layer that the forward never enters: its gradients stay None."""
    model.add_module("auxiliary", Unused(8))
    return model


class FrozenBatchNorm(nn.BatchNorm2d):
    """BatchNorm that stays in eval mode whatever its model does, as in fine-tuned detectors."""

    def train(self, mode: bool = True) -> FrozenBatchNorm:
        """Does not follow."""
        return super().train(False)


def _frozen_bn(model: nn.Module, recipe: Recipe) -> nn.Module:
    """Every BatchNorm of a pretrained model frozen, statistics and parameters."""
    for name, module in model.named_children():
        if isinstance(module, nn.BatchNorm2d):
            frozen = FrozenBatchNorm(module.num_features)
            frozen.load_state_dict(module.state_dict())
            setattr(model, name, frozen.requires_grad_(False).train())
    return model


def _weight_norm(model: nn.Module, recipe: Recipe) -> nn.Module:
    """Weights that are computed from a direction and a length."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.utils.parametrizations.weight_norm(module)
    return model


class Unused(nn.Module):
    """Holds parameters, passes its input on."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features, features))

    def forward(self, x: Tensor) -> Tensor:
        return x


def _autocast(model: nn.Module, recipe: Recipe) -> nn.Module:
    return Autocast(model)


def _inner_scale(model: nn.Module, recipe: Recipe) -> nn.Module:
    return Scaled(model, 1 / recipe.input_scale)


TRAITS: dict[str, Callable[[nn.Module, Recipe], nn.Module]] = {
    "frozen_first": _frozen_first,
    "frozen_half": _frozen_half,
    "sparse": _sparse,
    "pruned": _pruned,
    "some_dead": _some_dead,
    "unused_branch": _unused_branch,
    "frozen_bn": _frozen_bn,
    "weight_norm": _weight_norm,
    "autocast": _autocast,
    "inner_scale": _inner_scale,
}
# Applied by `training.prepare` before all others: they need a training of their own.
PRETRAINED = frozenset({"pretrained", "new_head"})
# Read by the data and the networks themselves, or applied where a training is prepared.
READ_ELSEWHERE = frozenset({"zero_columns", "zero_gamma", "causal", "post_norm"}) | PRETRAINED


def apply(model: nn.Module, recipe: Recipe) -> nn.Module:
    """The model with the recipe's traits, in their order."""
    for name in recipe.traits:
        if name not in READ_ELSEWHERE:
            model = TRAITS[name](model, recipe)
    return model
