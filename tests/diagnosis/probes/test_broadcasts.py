import pytest
import torch
from torch.nn import functional as F

from frostline.diagnosis.probes.broadcasts import joined_shapes

OUTPUT, TARGET, WEIGHT = torch.randn(8, 1), torch.randn(8), torch.rand(8)


@pytest.mark.parametrize(
    "loss_fn",
    [
        lambda o, t: (o - t).square().mean(),
        lambda o, t: (t - o).abs().mean(),
        lambda o, t: ((o - t[:, None]).square() * WEIGHT).mean(),
        lambda o, t: -(o.sigmoid().log() * t).mean(),
    ],
    ids=["error", "error of the other side", "weights", "advantages"],
)
def test_rows_that_meet_all_rows(loss_fn):
    assert set(joined_shapes(loss_fn, OUTPUT, TARGET)) == {(8, 1), (8,)}


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_losses_of_torch_and_outputs_by_name():
    assert joined_shapes(lambda o, t: F.mse_loss(o["value"], t), {"value": OUTPUT, "other": 1}, TARGET) is not None


@pytest.mark.parametrize(
    "loss_fn",
    [
        lambda o, t: F.mse_loss(o[:, 0], t),
        lambda o, t: F.mse_loss(o, t[:, None]),
        lambda o, t: ((o - o[:, 0]).abs() * (t[:, None] == t)).mean(),  # all pairs of outputs, on purpose
        lambda o, t: (o[:, 0] * t.mean()).mean(),
        lambda o, t: o.text,
    ],
    ids=["rows", "columns", "pairs", "a number", "no loss"],
)
def test_rows_that_meet_their_own(loss_fn):
    assert joined_shapes(loss_fn, OUTPUT, TARGET) is None
