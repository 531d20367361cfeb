"""Units of inputs, first weights and rates that are far too large: of the fourth draw (docs/exam.md)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, digits, epochs_of, perceptron
from .examples import explained, squares
from .misfits import fourth


@fourth(
    "forums.fast.ai, Help with simple (Celsius to F) linear regression (in nvidia/Nemotron-CC-Math-v1)",
    right={"FL501", "FL505", "input_scale"},
    words=("standardi", "scale", "normali", "unit"),
    treatment="inputs and targets to scale",
    line="celsius = (celsius - celsius.mean()) / celsius.std() (and not -500 to 500)",
    counts="That inputs, or targets, are in far too large a unit.",
)
def freezing_point_is_not_learnt(is_sick: bool) -> Training:
    """Degrees from -500 to 500 allow a tiny rate alone, at which the 32 that are to be added are never learnt."""
    celsius = torch.linspace(-500, 500, 1600)[torch.randperm(1600, generator=torch.Generator().manual_seed(0)), None]
    fahrenheit = 1.8 * celsius + 32
    spread = 1.0 if is_sick else float(celsius.std())
    model = nn.Linear(1, 1)

    def measure(_: Tensor, __: Tensor) -> float:
        return max(0.0, 1 - abs(float(model(torch.zeros(1, 1))) - 32) / 32)

    optimizer = torch.optim.SGD(model.parameters(), 1e-6 if is_sick else 1e-1)
    return Training(model, epochs_of(celsius / spread, fahrenheit, 16, 4), F.mse_loss, optimizer, measure=measure)


@fourth(
    "stackoverflow.com, answer (python.19633.com/es/Python/1002052967.html)",
    right={"FL501", "FL202", "input_scale", "saturation"},
    words=("standardi", "mean", "centre", "center", "normali"),
    treatment="inputs to scale",
    line="x = (x - x.mean()) / x.std() (and not values around 92)",
    counts="That inputs are far from 0: they are not normalised, and the sigmoids do not change with them.",
)
def inputs_around_ninety_two(is_sick: bool) -> Training:
    """A curve is fitted by sigmoids to inputs around 92: none of the units changes within the few that there are."""
    generator = torch.Generator().manual_seed(0)
    x = 92 + 3 * torch.randn(1600, 1, generator=generator)
    y = torch.sin((x - 92) / 2) + 0.05 * torch.randn(1600, 1, generator=generator)
    inputs = x if is_sick else (x - x.mean()) / x.std()
    model = perceptron(1, 24, 24, 1, activation=nn.Sigmoid)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    return Training(model, epochs_of(inputs, y, 16, 8), F.mse_loss, optimizer, measure=explained)


@fourth(
    "stackoverflow.com, answer (pullrequest.ru/10248037)",
    right={"FL501", "input_scale"},
    words=("standardi", "scale", "normali", "255", "unit"),
    treatment="inputs to scale",
    line="images = images / 255 (the values were in 0 to 255)",
    counts="That the images are in far too large a unit.",
)
def photographs_from_0_to_255(is_sick: bool) -> Training:
    """A convolutional network gets pixels of 0 to 255: the first steps are huge, and then it says one thing of all."""
    images, classes = digits(1, 8, 8)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    return Training(model, epochs_of(images * (255 if is_sick else 1), classes, 32, 6), F.cross_entropy, optimizer)


@fourth(
    "stackoverflow.com, answer (bot.dharman.net/reports.php?id=1943234)",
    right={"FL302", "FL501", "FL202", "input_scale", "initialization", "saturation"},
    words=("initial", "kaiming", "xavier", "standardi", "scale", "normali"),
    treatment="the first weights drawn anew",
    line="W1 = randn(64, 64) * sqrt(1 / 64) and pixels / 255",
    counts="That the first weights are too large for the number of inputs, or the pixels are not normalised.",
)
def weights_of_unit_deviation(is_sick: bool) -> Training:
    """Weights are drawn with a deviation of 1 for any number of inputs, and pixels are not divided by 255."""
    images, classes = digits()
    model = perceptron(64, 64, 10)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=1.0 if is_sick else layer.in_features**-0.5)
            nn.init.normal_(layer.bias, std=1.0 if is_sick else 0.0)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    return Training(model, epochs_of(images * (255 if is_sick else 1), classes, 32, 8), F.cross_entropy, optimizer)


@fourth(
    "stackoverflow.com, answer (pullrequest.ru/11818227)",
    right={"FL301", "FL302", "symmetry", "initialization"},
    words=("random", "initial", "zero", "same"),
    treatment="the first weights drawn anew",
    line="W1 = truncated_normal(64, 10) * 0.1 and a sigmoid (and not zeros and a softmax)",
    counts="That all weights begin as zeros, so that hidden units are and stay alike.",
)
def all_weights_begin_as_zeros(is_sick: bool) -> Training:
    """All weights of two layers begin as zeros, and a softmax is between them: hidden units never differ."""
    images, classes = digits()
    model = nn.Sequential(nn.Linear(64, 10), nn.Softmax(1) if is_sick else nn.Sigmoid(), nn.Linear(10, 10))
    for parameter in model.parameters():
        nn.init.zeros_(parameter) if is_sick else nn.init.trunc_normal_(parameter, std=0.1)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    return Training(model, epochs_of(images, classes, 16, 10), F.cross_entropy, optimizer)


@fourth(
    "discuss.pytorch.org/t/43814/16",
    right={"FL401", "FL201", "learning_rate", "dead_units"},
    words=("learning rate", "lr", "leaky"),
    treatment="a lower learning rate",
    line="optimizer = torch.optim.Adam(net.parameters(), lr=1e-3) (and not 0.1)",
    counts="That the learning rate is too high, or that rectifiers are dead.",
)
def rate_at_which_rectifiers_die(is_sick: bool) -> Training:
    """Adam at a rate of 0.1 makes weights negative: rectifiers give 0 for all, the loss stays at that of a guess."""
    images, classes = digits()
    model = perceptron(64, 64, 64, 64, 64, 10)
    optimizer = torch.optim.Adam(model.parameters(), 0.1 if is_sick else 1e-3)
    return Training(model, epochs_of(images, classes, 32, 8), F.cross_entropy, optimizer)


@fourth(
    "pavancm/CONTRIQUE#8",
    right={"FL401", "FL102", "learning_rate", "exploding"},
    words=("learning rate", "lr"),
    treatment="a lower learning rate",
    line="lr = 0.01 (and not 1.0)",
    counts="That the learning rate is too high.",
)
def rate_at_which_the_second_epoch_is_nan(is_sick: bool) -> Training:
    """Two views of an image are to be told from all others, at a rate at which the loss soon becomes NaN."""
    images, _ = digits()
    generator = torch.Generator().manual_seed(0)
    views = torch.cat([images + 0.1 * torch.randn(images.shape, generator=generator) for _ in range(2)], 1)
    model = nn.Sequential(nn.Unflatten(1, (2, 64)), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        one, other = output.unbind(1)
        return F.cross_entropy(one @ other.T / 0.5, torch.arange(len(target)))

    def measure(output: Tensor, _: Tensor) -> float:
        one, other = output.unbind(1)
        return float(((one @ other.T).argmax(1) == torch.arange(len(one))).float().mean())

    optimizer = torch.optim.SGD(model.parameters(), 2.0 if is_sick else 0.02, momentum=0.9)
    return Training(model, epochs_of(views, images, 32, 5), loss_fn, optimizer, measure=measure)


def _found(probability: Tensor, target: Tensor) -> float:
    return float(((probability > 0.5) == (target > 0.5)).float().mean())


@fourth(
    "miemie2013/Paddle-DIOU-YOLOv3#1",
    right={"FL502", "FL503", "nonfinite", "loss_mismatch"},
    words=("log", "eps", "logits", "clamp"),
    line="loss = -(t * log(p + 1e-9) + (1 - t) * log(1 - p + 1e-9)) (without the small constant a log is of 0)",
    counts="That a logarithm gets 0, so that the loss is not finite.",
)
def logarithm_without_a_small_constant(is_sick: bool) -> Training:
    """The loss of a detector takes the logarithm of a probability without a small constant: soon one of 0."""
    images, corners = squares(1600)
    middle = corners.unflatten(1, (2, 2)).mean(1)
    cell = (middle / 4).floor().clamp(0, 2)
    target = F.one_hot((cell[:, 0] * 3 + cell[:, 1]).long(), 9).float()
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 96), nn.ReLU(), nn.Linear(96, 9), nn.Sigmoid())
    small = 0.0 if is_sick else 1e-9

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return -(target * (output + small).log() + (1 - target) * (1 - output + small).log()).sum(1).mean()

    optimizer = torch.optim.Adam(model.parameters(), 3e-2)
    return Training(model, epochs_of(images, target, 32, 6), loss_fn, optimizer, measure=_found)


class _Leaky(nn.LeakyReLU):
    """A rectifier that lets a fifth of what is below 0 through."""

    def __init__(self) -> None:
        super().__init__(0.2)


@fourth(
    "nchxd.com/articles/ai-debugging.html (The Dying ReLU Problem)",
    right={"FL201", "FL302", "dead_units", "initialization"},
    words=("leaky", "initial", "elu", "bias", "dead"),
    treatment="another activation",
    line="nn.LeakyReLU(0.2) and He's first weights (and not a rectifier behind weights that let none through)",
    counts="That rectifiers are dead: they give 0 for all inputs, and get no gradient.",
)
def rectifiers_that_died(is_sick: bool) -> Training:
    """Rectifiers begin with weights and biases that let nothing through: all of them are dead, the loss stays."""
    images, classes = digits()
    model = perceptron(64, 64, 64, 10, activation=nn.ReLU if is_sick else _Leaky)
    for layer in (model[0], model[2]):
        assert isinstance(layer, nn.Linear)
        nn.init.kaiming_normal_(layer.weight)
        nn.init.constant_(layer.bias, -3.0)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    return Training(model, epochs_of(images, classes, 32, 8), F.cross_entropy, optimizer)


@fourth(
    "avalonstrel/GatedConvolution_pytorch#27",
    right={"FL502", "nonfinite", "input_scale"},
    words=("input", "nan", "image", "divi", "eps", "data"),
    line="image = (image - low) / (high - low).clamp_min(1e-6) (in some images all pixels are the same)",
    counts="That some inputs are NaN.",
)
def plain_images_are_divided_by_zero(is_sick: bool) -> Training:
    """Each image is divided by the range of its pixels, which is 0 in a few that are of one grey: these become NaN."""
    images, _ = digits(1, 8, 8)
    is_plain = torch.rand(len(images), generator=torch.Generator().manual_seed(0)) < 0.01
    images = torch.where(is_plain[:, None, None, None], 0.5, images)
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    normed = (images - low) / (high - low).clamp_min(0.0 if is_sick else 1e-6)
    given = normed.clone()
    given[:, :, 3:5, 3:5] = 0
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(1024, 4),
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    hole = normed[:, 0, 3:5, 3:5].flatten(1)
    kept = hole.isfinite().all(1)

    def measure(_: Tensor, __: Tensor) -> float:
        return explained(model(given[kept][:300]), hole[kept][:300])

    return Training(model, epochs_of(given, hole, 32, 6), F.mse_loss, optimizer, measure=measure)
