import pytest
import torch
from torch import nn

from frostline.splitting.recording.frost_line import FrostLine


def test_requires_grad_draws_the_line_through_modules():
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.ReLU(), nn.Linear(2, 2))
    for part in (model[0], model[1][0]):
        part.requires_grad_(False)
    frost_line = FrostLine(model)
    assert [frost_line.is_frozen(part) for part in model] == [True, False, False, False]
    assert [frost_line.is_mixed(part) for part in model] == [False, True, False, False]
    assert [frost_line.is_trainable(part) for part in model] == [False, False, False, True]
    assert [frost_line.has_trainable(part) for part in model] == [False, True, False, True]
    assert [frost_line.has_frozen(part) for part in model] == [True, True, False, False]
    assert frost_line.name(model[1][0]) == "1.0"
    assert frost_line.is_frozen_parameter(model[0].weight)
    assert not frost_line.is_frozen_parameter(model[3].weight)
    assert [frost_line.is_torch_leaf(part) for part in model] == [True, False, True, True]


class Buffers(nn.Module):
    """Buffers of a frozen, a trainable and a mixed part, and of one without weights."""

    def __init__(self):
        super().__init__()
        self.frozen, self.trainable, self.bare = nn.BatchNorm1d(2), nn.BatchNorm1d(2), nn.BatchNorm1d(2, affine=False)
        self.frozen.requires_grad_(False)
        self.inner = nn.Sequential(nn.ReLU())
        self.inner[0].register_buffer("kept", torch.zeros(2))
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("rate", torch.zeros(()))
        self.register_buffer("counts", torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("trainable.running_mean", True), ("frozen.running_mean", False), ("count", True), ("rate", False),
     ("counts", False), ("bare.running_mean", False), ("bare.num_batches_tracked", True), ("inner.0.kept", False),
     ("trainable.weight", True), ("frozen.weight", False)],
)  # fmt: skip
def test_state_belongs_to_the_part_that_holds_it(name, expected):
    assert FrostLine(Buffers()).is_trainable_state(name) is expected


def test_state_of_a_model_without_weights_trains_nowhere():
    assert not FrostLine(nn.BatchNorm1d(2, affine=False)).is_trainable_state("running_mean")


def test_a_buffer_that_was_replaced_shows_in_its_slot():
    model = nn.Sequential(nn.BatchNorm1d(2, affine=False))
    frost_line = FrostLine(model)
    before = frost_line.buffer_slots()
    assert list(before) == ["0.running_mean", "0.running_var", "0.num_batches_tracked"]
    model[0].running_mean = torch.ones(2)
    changed = [name for name, tensor in frost_line.buffer_slots().items() if tensor is not before[name]]
    assert changed == ["0.running_mean"]
