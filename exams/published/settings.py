"""Settings and parts: schedules, decay, dropout, clips; layers that are shared, left out, or not between others."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from sklearn import datasets
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron, published
from .sequences import several_labels

new = partial(published, is_drawn=True)


def scheduled(training: Training, monitor: Any, *, size: int) -> None:
    """A usual loop that lowers the rate to a tenth after each so many batches."""
    schedule = torch.optim.lr_scheduler.StepLR(training.optimizer, size, 0.1)
    for inputs, target in training.batches:
        training.optimizer.zero_grad()
        loss = training.loss_fn(training.model(inputs), target)
        loss.backward()
        training.optimizer.step()
        monitor.step(loss)
        schedule.step()


@new(
    "Lornatang/SRGAN-PyTorch#1, ivadomed/ivadomed#55",
    right={"learning_rate", "schedule"},
    words=("scheduler.step", "per epoch", "schedule"),
)
def schedule_stepped_per_batch(is_sick: bool) -> Training:
    """A schedule that was meant per epoch is stepped per batch: after a few batches the rate is nothing."""
    model = perceptron(64, 64, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
    loop = partial(scheduled, size=3 if is_sick else 3 * 56)
    return Training(model, epochs_of(*digits(), 32, 6), F.cross_entropy, optimizer, loop)


class _Heads(nn.Module):
    def __init__(self, *, are_one: bool) -> None:
        super().__init__()
        made = [perceptron(20, 32, 4) for _ in range(4)]
        self.heads = nn.ModuleList([made[0]] * 4 if are_one else made)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.stack([head(inputs) for head in self.heads], 1).flatten(1)


@new("linkedin/Liger-Kernel#269", right={"wiring", "shared", "FL407"}, words=("shared", "same module", "for _ in"))
def heads_of_one_block(is_sick: bool) -> Training:
    """A list multiplied by a number holds one block several times: four heads share their weights."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(1600, 20, generator=generator)
    target = (inputs @ torch.randn(20, 16, generator=generator) / 4).tanh()
    model = _Heads(are_one=is_sick)
    return Training(model, epochs_of(inputs, target, 32, 6), F.mse_loss, torch.optim.Adam(model.parameters(), 5e-3))


class _Encoded(nn.Module):
    def __init__(self, *, how: str) -> None:
        super().__init__()
        self.encoder, self.head, self.how = perceptron(64, 32, 4), nn.Linear(4, 10), how

    def forward(self, inputs: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.how != "no_grad"):
            hidden = self.encoder(inputs)
        return self.head((hidden.detach() if self.how == "detach" else hidden).relu())


@new("rll-research/cic#5", right={"FL405", "wiring"}, words=("no_grad", "detach"))
def encoder_without_gradients(is_sick: bool) -> Training:
    """The encoder runs under no_grad, though its parameters are in the optimizer: it never trains."""
    model = _Encoded(how="no_grad" if is_sick else "")
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    return Training(model, epochs_of(*digits(), 32, 8), F.cross_entropy, optimizer)


@new("lucidrains/CoCa-pytorch#6", right={"FL405", "wiring"}, words=("no_grad", "detach"))
def features_detached_by_an_extractor(is_sick: bool) -> Training:
    """A hook that extracts features detaches them: the encoder behind it never trains."""
    model = _Encoded(how="detach" if is_sick else "")
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    return Training(model, epochs_of(*digits(), 32, 8), F.cross_entropy, optimizer)


@new("ohhhyeahhh/SiamCAR#18, zjunlp/HVPNeT#5", right={"FL405", "wiring"}, words=("optimizer",))
def neck_not_in_the_optimizer(is_sick: bool) -> Training:
    """Parameter groups are listed one by one, and a layer between two of them is forgotten."""
    model = perceptron(64, 32, 4, 10)
    parts = [model[0], model[4]] if is_sick else [model[0], model[2], model[4]]
    optimizer = torch.optim.Adam([{"params": part.parameters()} for part in parts], 5e-3)
    return Training(model, epochs_of(*digits(), 32, 8), F.cross_entropy, optimizer)


@new(
    "pudae/tensorflow-densenet#22, hunkim/DeepLearningZeroToAll#204",
    right={"dropout", "FL408"},
    words=("dropout",),
    treatment="dropout",
)
def keep_probability_as_dropout(is_sick: bool) -> Training:
    """The share of units to keep is given as the share to drop: nine of ten units are zero in each layer."""
    rate = 0.9 if is_sick else 0.1
    layers: list[nn.Module] = []
    for before in (64, 48, 48):
        layers += [nn.Linear(before, 48), nn.ReLU(), nn.Dropout(rate)]
    model = nn.Sequential(*layers, nn.Linear(48, 10))
    return Training(model, epochs_of(*digits(), 32, 6), F.cross_entropy, torch.optim.Adam(model.parameters(), 2e-3))


@new("wandb/senpai#978", right={"clip", "learning_rate", "FL409"}, words=("clip",))
def clip_far_below_the_gradients(is_sick: bool) -> Training:
    """Every gradient is clipped to a small part of its size: steps are too small to get anywhere."""
    model = perceptron(64, 64, 10)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    threshold = 1e-3 if is_sick else 5.0

    def clip(own: torch.optim.Optimizer, *_: object) -> None:
        nn.utils.clip_grad_norm_([p for group in own.param_groups for p in group["params"]], threshold)

    optimizer.register_step_pre_hook(clip)
    return Training(model, epochs_of(*digits(), 32, 6), F.cross_entropy, optimizer)


@new(
    "offbit/evo-design#3",
    right={"weight_decay", "FL410"},
    words=("weight_decay", "weight decay"),
    treatment="weight decay",
)
def rate_given_as_weight_decay(is_sick: bool) -> Training:
    """The learning rate is passed as weight_decay: weights are pulled to 0."""
    model = perceptron(64, 64, 64, 10)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, weight_decay=0.1 if is_sick else 1e-4)
    return Training(model, epochs_of(*digits(), 32, 8), F.cross_entropy, optimizer)


@new("aymericdamien/TensorFlow-Examples#270, nutonomy/nuscenes-devkit#728", right={"activation", "wiring", "FL409"},
     words=("activation",))  # fmt: skip
def no_activation_between_layers(is_sick: bool) -> Training:
    """No activation stands between linear layers: the network is linear, and cannot tell a circle from a ring."""
    table, classes = datasets.make_circles(1200, noise=0.1, factor=0.5, random_state=1)
    inputs, target = torch.tensor(table, dtype=torch.float32), torch.tensor(classes)
    model = perceptron(2, 32, 32, 2, activation=nn.Identity if is_sick else nn.ReLU)
    return Training(
        model, epochs_of(inputs, target, 32, 6), F.cross_entropy, torch.optim.Adam(model.parameters(), 5e-3)
    )


@new(
    "ageron/handson-ml#176",
    right={"vanishing", "initialization"},
    words=("initializ", "draw", "BatchNorm"),
    treatment="new weights",
)
def weights_that_start_too_small(is_sick: bool) -> Training:
    """Weights of a deep network start ten times too small: for a long time nothing seems to move."""
    model = perceptron(64, 64, 64, 64, 64, 64, 10)
    for layer in model if is_sick else ():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    return Training(model, epochs_of(*digits(), 32, 6), F.cross_entropy, optimizer)


@new("open-mmlab/mmpretrain#783", right={"loss_mismatch"}, words=("sigmoid", "binary"))
def several_labels_share_a_softmax(is_sick: bool) -> Training:
    """Rows with several true labels are trained with a softmax, for which one label is the enemy of the other."""
    inputs, target = several_labels(1600)
    model = perceptron(20, 64, 6)
    loss_fn = F.cross_entropy if is_sick else F.binary_cross_entropy_with_logits
    return Training(model, epochs_of(inputs, target, 32, 6), loss_fn, torch.optim.Adam(model.parameters(), 3e-3))


@new("PacktPublishing/PyTorch-Ultimate-2023#3", right={"loss_mismatch"}, words=("sigmoid",))
def sigmoid_before_a_loss_with_logits(is_sick: bool) -> Training:
    """Probabilities of several labels are given to a loss that takes logits."""
    inputs, target = several_labels(1600)
    model = perceptron(20, 64, 6, last=nn.Sigmoid() if is_sick else None)
    batches = epochs_of(inputs, target, 32, 6)
    return Training(model, batches, F.binary_cross_entropy_with_logits, torch.optim.Adam(model.parameters(), 3e-3))


@new("tensorflow/models#4215, ultralytics/yolov5#2582", right={"order"}, words=("shuffle",))
def shuffled_copy_is_dropped(is_sick: bool) -> Training:
    """The shuffled copy of the data is made and not used: batches come in the order of their source."""
    inputs, target = digits(1, 8, 8)
    order = target.argsort(stable=True)
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    batches = epochs_of(inputs[order], target[order], 24, 4, shuffle=not is_sick)
    return Training(model, batches, F.cross_entropy, torch.optim.SGD(model.parameters(), 0.05, momentum=0.9))
