"""Images: their unit, their masks, noise that is left on, rates for another batch size."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron, published

new = partial(published, is_drawn=True)


def shapes(count: int, size: int = 16) -> tuple[Tensor, Tensor]:
    """Noisy images of one bright square each, (N, 1, S, S), and masks of it."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.randint(size - 6, (count, 2), generator=generator)
    side = torch.randint(4, 7, (count,), generator=generator)
    at = torch.arange(size)
    inside = [(at >= corner[:, axis, None]) & (at < (corner[:, axis] + side)[:, None]) for axis in (0, 1)]
    mask_N1SS = (inside[0][:, :, None] & inside[1][:, None, :]).float()[:, None]
    return mask_N1SS + 0.5 * torch.randn(mask_N1SS.shape, generator=generator), mask_N1SS


class UNet(nn.Module):
    """Two levels, with a skip connection."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU())
        self.deep = nn.Sequential(nn.Conv2d(width, 2 * width, 3, padding=1, stride=2), nn.ReLU())
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.last = nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        high = self.down(inputs)
        return self.last(torch.cat([high, self.up(self.deep(high))], 1))


@new("keras-team/keras#255", right={"input_scale", "inputs"}, words=("constant", "the same input", "integer"))
def images_cast_to_integers(is_sick: bool) -> Training:
    """Images are divided by their largest value in an array of integers: nearly every pixel becomes 0."""
    inputs, target = digits(1, 8, 8)
    inputs = (inputs * 0.99).long().float() if is_sick else inputs
    model = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(192, 10))
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    return Training(model, epochs_of(inputs, target, 32, 5), F.cross_entropy, optimizer)


@new(
    "pkmital/pycadl#5, 4uiiurz1/pytorch-nested-unet#62",
    right={"input_scale"},
    words=("standardi",),
    treatment="inputs to scale",
)
def divided_by_255_twice(is_sick: bool) -> Training:
    """Images are divided by 255 a second time before the network gets them."""
    inputs, target = digits()
    model = perceptron(64, 64, 10)
    batches = epochs_of(inputs / 255 if is_sick else inputs, target, 32, 8)
    return Training(model, batches, F.cross_entropy, torch.optim.SGD(model.parameters(), 0.1, momentum=0.9))


@new("huggingface/cookbook#248, mdbloice/Augmentor#188", right={"FL404", "targets"}, words=("belongs", "together"))
def mask_not_moved_with_its_image(is_sick: bool) -> Training:
    """Images are shifted at random, and their masks are not shifted with them."""
    images, masks = shapes(800)
    generator, moved = torch.Generator().manual_seed(1), []
    for _ in range(5):
        by = torch.randint(16, (len(images), 2), generator=generator).tolist()
        shifted = [torch.roll(image, tuple(shift), (1, 2)) for image, shift in zip(images, by, strict=True)]
        wanted = [torch.roll(mask, tuple(shift), (1, 2)) for mask, shift in zip(masks, by, strict=True)]
        moved += epochs_of(torch.stack(shifted), masks if is_sick else torch.stack(wanted), 32, 1)
    model = UNet()
    return Training(model, moved, F.binary_cross_entropy_with_logits, torch.optim.Adam(model.parameters(), 3e-3))


def _dice(probability: Tensor, mask: Tensor) -> Tensor:
    both = (probability * mask).sum((1, 2, 3))
    return 1 - ((2 * both + 1e-5) / (probability.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 1e-5)).mean()


@new("ScrollPrize/villa#1488, jakeret/tf_unet#16", right={"loss_mismatch"}, words=("sigmoid", "probabilit"))
def dice_of_logits(is_sick: bool) -> Training:
    """The Dice loss gets logits in place of probabilities: its denominator crosses 0."""
    model = UNet()

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return _dice(output if is_sick else output.sigmoid(), target)

    return Training(model, epochs_of(*shapes(800), 32, 5), loss_fn, torch.optim.Adam(model.parameters(), 3e-3))


class _AlwaysDropped(nn.Module):
    def __init__(self, *, is_always: bool) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 24), nn.Linear(24, 24), nn.Linear(24, 10)
        self.is_always = is_always

    def forward(self, inputs: Tensor) -> Tensor:
        is_on = self.is_always or self.training
        hidden = F.dropout(self.first(inputs).relu(), 0.5, training=is_on)
        return self.last(F.dropout(self.second(hidden).relu(), 0.5, training=is_on))


@new("Coderx7/SimpleNet#2, Academic-Hammer/SciTSR#16", right={"FL605", "mode"}, words=("self.training",))
def dropout_in_evaluation_too(is_sick: bool) -> Training:
    """Functional dropout is not given the mode of the network, and stays on in evaluation."""
    model = _AlwaysDropped(is_always=is_sick)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    return Training(model, epochs_of(*digits(), 32, 8), F.cross_entropy, optimizer)


class _Block(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.skip = nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return (self.body(inputs) + self.skip(inputs)).relu()


@new(
    "facebookresearch/maskrcnn-benchmark#295",
    right={"learning_rate"},
    words=("learning rate",),
    treatment="learning rate",
)
def rate_for_a_larger_batch(is_sick: bool) -> Training:
    """A residual network keeps the learning rate of a batch many times as large."""
    inputs, target = digits(1, 8, 8)
    blocks = [_Block(1, 8, 1), _Block(8, 16, 2), _Block(16, 16, 2)]
    model = nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    optimizer = torch.optim.SGD(model.parameters(), 8.0 if is_sick else 0.1, momentum=0.9)
    return Training(model, epochs_of(inputs, target, 16, 4), F.cross_entropy, optimizer)


@new("deeplearning.ai forum 324182", right={"loss_mismatch"}, words=("range", "ReLU", "linear"))
def rectifier_as_last_function(is_sick: bool) -> Training:
    """A line through negative and positive values is fitted with a rectifier after the last layer."""
    inputs = torch.linspace(-3, 3, 1200)[:, None]
    model = perceptron(1, 32, 32, 1, last=nn.ReLU() if is_sick else None)
    batches = epochs_of(inputs, inputs - 0.5, 32, 6)
    return Training(model, batches, F.mse_loss, torch.optim.Adam(model.parameters(), 3e-3))


@new(
    "fizyr/keras-retinanet#89, tianzhi0549/FCOS#36",
    right={"input_scale"},
    words=("standardi", "rescale_outputs"),
    treatment="targets to scale",
)
def boxes_in_pixels(is_sick: bool) -> Training:
    """Corners of boxes are regressed in pixels of a large image, from 0 to 1,000."""
    images, masks = shapes(800)
    weight = masks / masks.sum((2, 3), keepdim=True)
    at = torch.arange(16.0) / 16
    centre = torch.stack([(weight.sum(3) * at).sum((1, 2)), (weight.sum(2) * at).sum((1, 2))], 1)
    boxes = torch.cat([centre - 0.15, centre + 0.15], 1)
    boxes = 1000 * boxes if is_sick else (boxes - boxes.mean(0)) / boxes.std(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 4),
    )  # fmt: skip
    return Training(model, epochs_of(images, boxes, 32, 6), F.mse_loss, torch.optim.Adam(model.parameters(), 1e-3))
