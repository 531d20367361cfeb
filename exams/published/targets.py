"""Targets and losses: ranges, axes, logarithms, labels the other way round, and weights of classes and tasks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Training, cancer, diabetes, digits, epochs_of, perceptron, published
from .images import UNet, shapes


@published(
    "milesial/Pytorch-UNet#78",
    right={"loss_mismatch", "targets"},
    words=("0 and 1", "from 0 to 1", "255"),
    line="mask = mask / 255",
)
def masks_of_0_and_255(is_sick: bool) -> Training:
    """Masks are read from pictures and stay 0 and 255: the binary loss falls below 0 and has no lower bound."""
    images, masks = shapes(800)
    model = UNet()
    batches = epochs_of(images, 255 * masks if is_sick else masks, 32, 5)
    return Training(model, batches, F.binary_cross_entropy_with_logits, torch.optim.Adam(model.parameters(), 3e-3))


@published(
    "irfanICMLL/structure_knowledge_distillation#11, fawazsammani/knowing-when-to-look-adaptive-attention#6",
    right={"reshape", "loss_mismatch", "FL511"},
    words=("permute", "transpose", "movedim"),
    line="output.permute(0, 2, 3, 1).reshape(-1, 3)",
)
def pixels_read_as_classes(is_sick: bool) -> Training:
    """Logits of shape (N, C, H, W) are viewed as rows of C: values of neighbouring pixels are taken for classes."""
    images, masks = shapes(800)
    sign = 1 - 2 * torch.randint(2, (len(images), 1, 1, 1), generator=torch.Generator().manual_seed(3))
    images, classes = images - masks + sign * masks, (masks * (1.5 - sign / 2))[:, 0].long()
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 3, padding=1), nn.ReLU(),
        nn.Conv2d(12, 3, 3, padding=1),
    )  # fmt: skip

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        rows = output.reshape(-1, 3) if is_sick else output.permute(0, 2, 3, 1).reshape(-1, 3)
        return F.cross_entropy(rows, target.reshape(-1))

    return Training(model, epochs_of(images, classes, 32, 5), loss_fn, torch.optim.Adam(model.parameters(), 3e-3))


def _of_most(output: Tensor, target: Tensor) -> float:
    return float((output.argmax(1) == target.argmax(1)).float().mean())


@published(
    "microsoft/ProDA#20, sebastian-hofstaetter/matchmaker#18",
    right={"loss_mismatch"},
    words=("log_softmax", "log-prob", "logarithm"),
    line="F.kl_div(F.log_softmax(student, dim=1), teacher)",
)
def divergence_of_probabilities(is_sick: bool) -> Training:
    """A student is given to kl_div as probabilities, not as their logarithms: the loss pulls them to a false place."""
    inputs, target = digits()
    teacher = 0.7 * F.one_hot(target, 10).float() + 0.03
    model = perceptron(64, 64, 10)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        student = output.softmax(1) if is_sick else output.log_softmax(1)
        return F.kl_div(student, target, reduction="batchmean")

    batches = epochs_of(inputs, teacher, 32, 6)
    return Training(model, batches, loss_fn, torch.optim.Adam(model.parameters(), 3e-3), measure=_of_most)


def _spoken(count: int) -> tuple[Tensor, Tensor]:
    """(frames_NTD, symbols_NL): four symbols of 1 to 5, each over three or four noisy frames of 14."""
    generator = torch.Generator().manual_seed(0)
    symbols = torch.randint(1, 6, (count, 4), generator=generator)
    at = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3])
    frames = F.one_hot(symbols[:, at], 6).float()
    return frames + 0.3 * torch.randn(frames.shape, generator=generator), symbols


def _read_right(output_NTV: Tensor, symbols_NL: Tensor) -> float:
    """The share of rows whose best path, without repeats and blanks, is their symbols."""
    found = 0
    for path, wanted in zip(output_NTV.argmax(2), symbols_NL, strict=True):
        read = [int(one) for one in torch.unique_consecutive(path) if one != 0]
        found += read == wanted.tolist()
    return found / len(symbols_NL)


class Recogniser(nn.Module):
    """A score of each of 6 symbols, of which 0 is the blank, at each of T frames."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent, self.out = nn.GRU(6, 32, batch_first=True, bidirectional=True), nn.Linear(64, 6)

    def forward(self, frames_NTD: Tensor) -> Tensor:
        return self.out(self.recurrent(frames_NTD)[0])


def aligned(output_NTV: Tensor, symbols_NL: Tensor, *, is_raw: bool = False) -> Tensor:
    """The CTC loss."""
    scores = output_NTV if is_raw else output_NTV.log_softmax(2)
    frames, symbols = torch.full((len(scores),), scores.shape[1]), torch.full((len(scores),), symbols_NL.shape[1])
    return F.ctc_loss(scores.transpose(0, 1), symbols_NL, frames, symbols)


@published(
    "SeanNaren/deepspeech.pytorch#488, gwx314/STARS#9",
    right={"loss_mismatch"},
    words=("log_softmax", "log-prob"),
    line="ctc_loss(output.log_softmax(2), ...)",
)
def ctc_of_raw_scores(is_sick: bool) -> Training:
    """The CTC loss gets raw scores: it falls without bound as all of them grow."""
    model = Recogniser()
    batches = epochs_of(*_spoken(1200), 32, 6)
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    return Training(
        model, batches, lambda output, target: aligned(output, target, is_raw=is_sick), optimizer, measure=_read_right
    )


def counted(count: int) -> tuple[Tensor, Tensor]:
    """Rows of 8 features and a count that follows exp of a weighted sum of them."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 8, generator=generator)
    weight = 0.4 * torch.randn(8, 1, generator=generator)
    return inputs, torch.poisson((inputs @ weight + 0.5).exp(), generator=generator)


def _follows_log(output: Tensor, target: Tensor) -> float:
    together = torch.corrcoef(torch.stack([output.flatten(), (target.flatten() + 1).log()]))[0, 1]
    return max(0.0, float(together)) if torch.isfinite(together) else 0.0


@published(
    "pytorch/pytorch#184030",
    right={"nonfinite", "loss_mismatch"},
    words=("softplus", "log_input", "positive", "exp("),
    line="F.poisson_nll_loss(output, target, log_input=True)",
)
def rates_below_zero(is_sick: bool) -> Training:
    """A Poisson loss takes the outputs of a linear layer for rates: the logarithm of a negative one is NaN."""
    model = perceptron(8, 32, 1)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return F.poisson_nll_loss(output, target, log_input=not is_sick)

    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    return Training(model, epochs_of(*counted(1600), 32, 6), loss_fn, optimizer, measure=_follows_log)


class Siamese(nn.Module):
    """The distance of two rows of 64 values, given as (N, 2, 64)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = perceptron(64, 64, 8)

    def forward(self, pairs: Tensor) -> Tensor:
        first, second = self.body(pairs[:, 0]), self.body(pairs[:, 1])
        return ((first - second).square().sum(1) + 1e-6).sqrt()


def pairs_of_digits(count: int) -> tuple[Tensor, Tensor]:
    """(pairs, 1 where both are of one class): every second pair is."""
    inputs, target = digits()
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(len(inputs), (count,), generator=generator)
    chosen = torch.randint(len(inputs), (count, 40), generator=generator)
    is_wanted = (target[chosen] == target[first][:, None]) == (torch.arange(count) % 2 == 0)[:, None]
    second = chosen[torch.arange(count), is_wanted.float().argmax(1)]
    return torch.stack([inputs[first], inputs[second]], 1), (target[first] == target[second]).float()


def _is_near(output: Tensor, target: Tensor) -> float:
    return float(((output < 0.5) == (target > 0.5)).float().mean())


@published(
    "VinhLoiIT/signet-pytorch#2",
    right={"loss_mismatch", "targets"},
    words=("sign", "swap", "the other way", "reversed"),
    line="loss = label * distance ** 2 + (1 - label) * clamp(margin - distance, min=0) ** 2",
)
def pairs_labelled_the_other_way(is_sick: bool) -> Training:
    """A contrastive loss takes 1 for pairs that differ, and the data give 1 to pairs of one class."""
    model = Siamese()

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        label = 1 - target if is_sick else target
        return (label * output.square() + (1 - label) * (1 - output).relu().square()).mean()

    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return Training(model, epochs_of(*pairs_of_digits(2000), 32, 6), loss_fn, optimizer, measure=_is_near)


@published(
    "IndicoDataSolutions/finetune#181",
    right={"targets", "loss_mismatch", "class_weights"},
    words=("class weight", "weight="),
    line="weight = 1 + (counts.max() / counts).log()",
)
def commonest_class_weighs_nothing(is_sick: bool) -> Training:
    """The weight of a class is the logarithm of how rare it is: that of the commonest is 0, and it is never learnt."""
    inputs, target = digits()
    target = (target - 4).clamp_min(0)
    counts = torch.bincount(target).float()
    weight = (counts.max() / counts).log() + (0 if is_sick else 1)
    model = perceptron(64, 64, 6)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target, weight=weight)

    return Training(model, epochs_of(inputs, target, 32, 6), loss_fn, torch.optim.Adam(model.parameters(), 3e-3))


def _right_class(output: Tensor, target: Tensor) -> float:
    return float((output[:, :10].argmax(1) == target[:, 0]).float().mean())


@published(
    "ludwig-ai/ludwig#641, vlfeat/matconvnet#1146",
    right={"input_scale", "loss_mismatch", "FL505"},
    words=("standardi", "weight of", "rescale_outputs"),
    line="loss = cross_entropy + mse / target.var()",
)
def one_task_drowns_the_other(is_sick: bool) -> Training:
    """Squared errors of a quantity of several hundred are added to a cross-entropy, which then counts for nothing."""
    inputs, target = digits()
    quantity = 1000 * inputs.mean(1)
    quantity = quantity if is_sick else (quantity - quantity.mean()) / quantity.std()
    model = perceptron(64, 64, 11)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output[:, :10], target[:, 0].long()) + F.mse_loss(output[:, 10], target[:, 1])

    batches = epochs_of(inputs, torch.stack([target.float(), quantity], 1), 32, 6)
    return Training(model, batches, loss_fn, torch.optim.Adam(model.parameters(), 3e-3), measure=_right_class)


@published(
    "FenTechSolutions/CausalDiscoveryToolbox#12",
    right={"loss_mismatch"},
    words=("range", "scale the targets", "activation"),
    line="target = target / 2 + 0.5",
)
def labels_below_a_sigmoid(is_sick: bool) -> Training:
    """Labels are -1 and 1, and the last function is a sigmoid, which never gets below 0."""
    inputs, classes = cancer(is_standardised=True)
    target = classes[:, None].float()
    model = perceptron(30, 16, 1, last=nn.Sigmoid())
    batches = epochs_of(inputs, 2 * target - 1 if is_sick else target, 16, 8)
    return Training(model, batches, F.mse_loss, torch.optim.Adam(model.parameters(), 3e-3))


@published(
    "Kim-Minseon/RoCL#3, tensorflow/tensorflow#37896",
    right={"loss_mismatch"},
    words=("sign", "minus"),
    line="loss = -F.cosine_similarity(output, target).mean()",
)
def likeness_is_made_small(is_sick: bool) -> Training:
    """The cosine of output and target is taken as the loss, without a minus: outputs turn away from their targets."""
    inputs, target = diabetes()
    target = torch.cat([target, inputs[:, :3].roll(1, 1) - target], 1)
    model = perceptron(10, 64, 4)

    def loss_fn(output: Tensor, target: Tensor) -> Tensor:
        likeness = F.cosine_similarity(output, target).mean()
        return likeness if is_sick else -likeness

    def measure(output: Tensor, target: Tensor) -> float:
        return max(0.0, float(F.cosine_similarity(output, target).mean()))

    return Training(
        model, epochs_of(inputs, target, 16, 10), loss_fn, torch.optim.Adam(model.parameters(), 2e-3), measure=measure
    )
