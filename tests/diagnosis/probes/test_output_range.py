import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.diagnosis import probe_loss
from frostline.diagnosis.probes.output_range import is_free, last_function, range_of_last

CLASSES = torch.randint(4, (16,), generator=torch.Generator().manual_seed(0))
LOGITS = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
SEVERAL = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0]] * 4)
FREE = LOGITS.clone().requires_grad_()


def test_the_last_function_is_that_of_autograd():
    assert last_function(FREE.sigmoid().view(-1)) == "SigmoidBackward0"
    assert range_of_last(FREE.tanh().unsqueeze(0)) == (-1.0, 1.0)
    assert range_of_last(LOGITS) == (-math.inf, math.inf)


@pytest.mark.parametrize(
    ("output", "expected"),
    [(FREE, True), (FREE.relu(), False), (FREE.mean(), False), (FREE.sigmoid(), False), (FREE.softmax(1), False),
     (FREE.log_softmax(1), False), (LOGITS.softmax(1), False), (F.normalize(FREE), False), (LOGITS[:, 0], True)],
    ids="free relu term sigmoid softmax log-softmax shares normed column".split(),
)  # fmt: skip
def test_outputs_that_can_move_alone(output, expected):
    assert is_free(output) is expected


@pytest.mark.parametrize(
    ("output", "reach"),
    [(LOGITS, (-math.inf, math.inf)), (FREE.relu(), (0.0, math.inf)), (FREE.sigmoid(), (0.0, 1.0)),
     (FREE.tanh(), (-1.0, 1.0)), (LOGITS.softmax(1), (0.0, 1.0)), (LOGITS.log_softmax(1), (-math.inf, math.inf))],
    ids="free relu sigmoid tanh softmax log-softmax".split(),
)  # fmt: skip
def test_the_range_of_the_answers_is_told(output, reach):
    assert probe_loss(F.cross_entropy, output, CLASSES).reach == reach


SHAPES = {
    "squeeze": lambda x: x.unsqueeze(2).squeeze(2), "view": lambda x: x.view(-1, 2).reshape(16, 4),
    "transpose": lambda x: x.transpose(0, 1).transpose(0, 1), "permute": lambda x: x.permute(1, 0).permute(1, 0),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_what_only_gives_another_shape_is_not_the_last_function(shape):
    made = SHAPES[shape](FREE.sigmoid())
    targets = torch.full(made.shape, 2.0) + torch.arange(16.0)[:, None]
    assert probe_loss(F.mse_loss, made, targets).out_of_reach == 1.0
    assert probe_loss(F.mse_loss, made + 0, targets).out_of_reach == 0.0


@pytest.mark.parametrize(("function", "low", "high"), [("sigmoid", 0, 1), ("tanh", -1, 1), ("relu", 0, 99)])
def test_targets_at_the_ends_of_a_range_are_within_it(function, low, high):
    made = getattr(FREE, function)()
    targets = torch.linspace(low, high, 64).view(16, 4) * 1.0
    targets[0, 0], targets[0, 1] = (low + high) / 3, low + 0.25 * (high - low)
    assert probe_loss(F.l1_loss, made, targets).out_of_reach == 0.0
    beyond = targets.clone()
    beyond[:4] = low - 1.0
    assert probe_loss(F.l1_loss, made, beyond).out_of_reach == pytest.approx(0.25)


def test_labels_of_which_several_are_true_are_told_from_shares_of_one():
    several = probe_loss(F.binary_cross_entropy, torch.randn(16, 3, requires_grad=True).softmax(1), SEVERAL)
    assert several.has_several
    assert several.out_of_reach == 0.5  # of the samples
    one = F.one_hot(CLASSES % 3, 3).float()
    assert (
        probe_loss(F.binary_cross_entropy, torch.randn(16, 3, requires_grad=True).softmax(1), one).out_of_reach == 0.0
    )
    assert not probe_loss(
        F.binary_cross_entropy, torch.sigmoid(torch.randn(16, 3, requires_grad=True)), SEVERAL
    ).has_several


@pytest.mark.parametrize("last", [nn.Softmax(dim=1), nn.LogSoftmax(dim=1)])
def test_a_softmax_over_one_value_is_fixed(last):
    target = torch.randn(8, 1)
    for width in (1, 3):
        model = nn.Sequential(nn.Linear(4, width), last)
        assert probe_loss(F.mse_loss, model(torch.randn(8, 4)), target.expand(8, width)).is_fixed == (width == 1)
