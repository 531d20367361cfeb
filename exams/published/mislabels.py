"""Labels and images that are not what they should be, and old weights: of the fourth draw (docs/exam.md)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .answers import overlap
from .case import Training, digits, epochs_of, perceptron
from .examples import explained, squares
from .misfits import fourth


@fourth(
    "danialjfz.github.io/myblog/posts/ml-mistakes-to-avoid",
    right={"FL514", "targets"},
    words=("same input", "identical", "duplicate", "several targets", "another target", "constant"),
    line="images = images[images.amax((1, 2, 3)) > 0] (about a third of the images were black)",
    counts="That many images are the same, black, and have different labels.",
)
def a_third_of_the_images_is_black(is_sick: bool) -> Training:
    """About a third of the images are black, from a fault in their files, and each has a label none the less."""
    images, classes = digits(1, 8, 8)
    is_black = torch.rand(len(images), generator=torch.Generator().manual_seed(0)) < 0.3
    images, classes = (torch.where(is_black[:, None, None, None], 0.0, images), classes) if is_sick else (
        images[~is_black].repeat(2, 1, 1, 1)[:1797], classes[~is_black].repeat(2)[:1797],
    )  # fmt: skip
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(images, classes, 32, 6), F.cross_entropy, optimizer)


@fourth(
    "brainfeed.ai, Lecture 8: Troubleshooting Deep Neural Networks (Full Stack Deep Learning, March 2019)",
    right={"FL404", "targets"},
    words=("shuffle", "belong", "order", "pair", "by heart"),
    line="files = sorted(glob(pattern)) (the files of features and of labels came in different orders)",
    counts="That labels do not belong to their rows.",
)
def files_in_another_order(is_sick: bool) -> Training:
    """Features and labels are read from files in an order that nothing fixes: each row gets the label of another."""
    images, classes = digits()
    steering = (classes.float()[:, None] - 4.5) / 2.9 + images[:, 20:21]
    files = torch.arange(1797).split(3)
    order = torch.randperm(len(files), generator=torch.Generator().manual_seed(0)).tolist()
    given = torch.cat([steering[files[at]] for at in order]) if is_sick else steering
    model = perceptron(64, 64, 1)

    def measure(_: Tensor, __: Tensor) -> float:
        return explained(model(images), steering)

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(images, given, 32, 6), F.mse_loss, optimizer, measure=measure)


@fourth(
    "Juliachang/SC-CAM#6",
    right={"FL508", "FL509", "targets", "imbalance"},
    words=("background", "empty", "one class", "blank", "hardly any", "rare"),
    line='masks = "SegmentationClassAug" (and not "SegmentationClass", where most images have no mask)',
    counts="That most masks are empty: nearly all targets are background.",
)
def masks_of_a_few_images(is_sick: bool) -> Training:
    """Masks are read from a folder that has those of a few images: of all others the whole is background."""
    images, corners = squares(1200)
    at = torch.arange(12)
    rows, columns = (
        (at >= corners[:, k, None]) & (at <= corners[:, k + 2, None]) for k in (0, 1)
    )  # fmt: skip
    masks = (rows[:, :, None] & columns[:, None, :]).float()[:, None]
    is_there = torch.arange(1200)[:, None, None, None] % 8 == 0
    given = masks * is_there if is_sick else masks
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 1, 1)
    )

    def measure(_: Tensor, __: Tensor) -> float:
        return overlap(model(images[:200]), masks[:200])

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(
        model, epochs_of(images, given, 32, 5), F.binary_cross_entropy_with_logits, optimizer, measure=measure
    )


@fourth(
    "prs-eth/Marigold#111",
    right={"FL502", "nonfinite", "targets"},
    words=("target", "nan", "batch", "row", "data"),
    line="loss = (output[is_known] - depth[is_known]).square().mean() (some ground truth is NaN)",
    counts="That some targets are NaN.",
)
def depths_that_are_nan(is_sick: bool) -> Training:
    """A map of depths has pixels that were not measured, NaN, in a few images: after the first of them all is NaN."""
    images, corners = squares(1200)
    generator = torch.Generator().manual_seed(0)
    depth = 1 + F.avg_pool2d(images, 3, 1, 1) + corners[:, 0, None, None, None] / 12
    is_missing = (torch.rand(1200, 1, 1, 1, generator=generator) < 0.01) & (
        torch.rand(depth.shape, generator=generator) < 0.1
    )
    given = torch.where(is_missing, torch.nan, depth)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 12, 5, padding=2), nn.ReLU(), nn.Conv2d(12, 1, 1)
    )

    def loss_fn(output: Tensor, depth: Tensor) -> Tensor:
        is_known = depth.isfinite() | is_sick
        return (output[is_known] - depth[is_known]).square().mean()

    def measure(_: Tensor, __: Tensor) -> float:
        return explained(model(images[:200]), depth[:200])

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(images, given, 32, 6), loss_fn, optimizer, measure=measure)


def _pretrained() -> nn.Sequential:
    """Convolutions that know digits of 0 to 4."""
    images, classes = digits(1, 8, 8)
    body = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 64), nn.ReLU()
    )
    whole = nn.Sequential(body, nn.Linear(64, 5))
    optimizer = torch.optim.Adam(whole.parameters(), 3e-3)
    for inputs, target in epochs_of(images[classes < 5], classes[classes < 5], 32, 6):
        optimizer.zero_grad()
        F.cross_entropy(whole(inputs), target).backward()
        optimizer.step()
    return body


@fourth(
    "winenfood.com/common-pitfalls-of-the-transfer-learning-method",
    right={"FL401", "learning_rate"},
    words=("learning rate", "lr", "pretrained", "freeze"),
    treatment="a lower learning rate",
    line="optimizer = Adam([{params: body, lr: 1e-4}, {params: head, lr: 1e-3}]) (and not 0.2 for all)",
    counts="That the learning rate of the pretrained layers is too high.",
)
def old_layers_learn_as_fast_as_the_new(is_sick: bool) -> Training:
    """Pretrained layers get the high rate that the new one is thought to need: what they knew is gone at once."""
    images, classes = digits(1, 8, 8)
    is_new = classes >= 5
    images, classes = images[is_new], classes[is_new] - 5
    body, head = _pretrained(), nn.Linear(64, 5)
    model = nn.Sequential(body, head)
    rates = (0.2, 0.2) if is_sick else (1e-4, 1e-2)
    optimizer = torch.optim.Adam(
        [{"params": part.parameters(), "lr": rate} for part, rate in zip((body, head), rates, strict=True)]
    )

    def measure(_: Tensor, __: Tensor) -> float:
        return float((model(images[400:]).argmax(1) == classes[400:]).float().mean())

    return Training(model, epochs_of(images[:240], classes[:240], 16, 6), F.cross_entropy, optimizer, measure=measure)
