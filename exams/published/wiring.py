"""What trains, and what does not: parameters, optimizers, modes."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron, published


class _Listed(nn.Module):
    def __init__(self, *, is_registered: bool) -> None:
        super().__init__()
        hidden = [nn.Linear(64, 6), nn.Linear(6, 6), nn.Linear(6, 6)]
        self.hidden = nn.ModuleList(hidden) if is_registered else hidden
        self.out = nn.Linear(6, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        for layer in self.hidden:
            inputs = F.leaky_relu(layer(inputs), 0.1)
        return self.out(inputs)


@published(
    "EleutherAI/gpt-neox#267, graykode/nlp-tutorial#29", right={"FL405", "wiring"}, words=("ModuleList", "regist")
)
def layers_in_a_list(is_sick: bool) -> Training:
    """Hidden layers in a plain list are not registered: the optimizer never gets them."""
    model = _Listed(is_registered=not is_sick)
    return _on_digits(model, torch.optim.Adam(model.parameters(), 5e-3), epochs=8)


class _MadeInForward(nn.Module):
    def __init__(self, *, is_kept: bool) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(64, 32), nn.Linear(32, 10)
        self.middle = nn.Linear(32, 32) if is_kept else None

    def forward(self, inputs: Tensor) -> Tensor:
        middle = self.middle if self.middle is not None else nn.Linear(32, 32)
        return self.out(middle(self.first(inputs).relu()).relu())


@published("wangyida/softpool#11", right={"FL405", "wiring"}, words=("__init__",))
def layer_made_in_forward(is_sick: bool) -> Training:
    """A layer is made in forward: every pass has other random weights."""
    model = _MadeInForward(is_kept=not is_sick)
    return _on_digits(model, torch.optim.Adam(model.parameters(), 3e-3))


@published("pytorch/pytorch#54765, microsoft/nni#4521", right={"FL405", "wiring", "optimizer"}, words=("optimizer",))
def optimizer_of_an_older_network(is_sick: bool) -> Training:
    """The network was replaced after the optimizer was made, which goes on moving the old weights."""
    model = perceptron(64, 48, 10)
    moved = perceptron(64, 48, 10) if is_sick else model
    return _on_digits(model, torch.optim.Adam(moved.parameters(), 3e-3))


@published(
    "LaurentMazare/ocaml-torch#36, layumi/Person_reID_baseline_pytorch#90",
    right={"FL405", "wiring", "optimizer"},
    words=("optimizer",),
)
def optimizer_of_older_last_layers(is_sick: bool) -> Training:
    """The last layers were replaced after the optimizer was made."""
    model = perceptron(64, 12, 12, 10)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    model[2], model[4] = nn.Linear(12, 12), nn.Linear(12, 10)
    return _on_digits(model, optimizer if is_sick else torch.optim.Adam(model.parameters(), 3e-3), epochs=8)


@published("InternLM/xtuner#262", right={"FL406", "learning_rate"}, words=("clip",))
def clip_at_zero(is_sick: bool) -> Training:
    """A clip at 0, meant as no clip, sets every gradient to 0."""
    model = perceptron(64, 64, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    if is_sick:
        optimizer.register_step_pre_hook(_clip_of(0.0))
    return _on_digits(model, optimizer)


@published("ermongroup/ncsn#2, wkentaro/pytorch-fcn#57", right={"FL604", "mode", "batchnorm"}, words=("train()",))
def left_in_evaluation_mode(is_sick: bool) -> Training:
    """The network is left in evaluation mode: BatchNorm normalises nothing."""
    widths = [1, *[16] * 8]
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        parts += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 10)).train(not is_sick)
    inputs, target = digits(1, 8, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    return Training(model, epochs_of(inputs, target, 32, 4), F.cross_entropy, optimizer)


class _BatchFirst(nn.Module):
    def __init__(self, *, is_first: bool) -> None:
        super().__init__()
        self.recurrent, self.out = nn.GRU(8, 32, batch_first=is_first), nn.Linear(32, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.out(self.recurrent(inputs)[0][:, -1])


@published("HHTseng/video-classification#42, pytorch/pytorch#1538", right={"FL506"}, words=("batch_first",))
def recurrence_over_the_batch(is_sick: bool) -> Training:
    """A recurrent layer without batch_first runs over the samples of the batch as if they were steps."""
    model = _BatchFirst(is_first=not is_sick)
    inputs, target = digits(8, 8)
    return Training(
        model, epochs_of(inputs, target, 32, 6), F.cross_entropy, torch.optim.Adam(model.parameters(), 5e-3)
    )


def _clip_of(threshold: float) -> object:
    def clip(optimizer: torch.optim.Optimizer, *_: object) -> None:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], threshold)

    return clip


def _on_digits(model: nn.Module, optimizer: torch.optim.Optimizer, epochs: int = 6) -> Training:
    return Training(model, epochs_of(*digits(), 32, epochs), F.cross_entropy, optimizer)
