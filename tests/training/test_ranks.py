import pytest
import torch

from frostline.core.errors import DataError
from frostline.training.ranks import Ranks, nothing


class Two:
    """Fabric with another process, which always has this part."""

    def __init__(self, loss: float, mass: float, count: int) -> None:
        self.other = torch.tensor([loss * mass, mass, count], dtype=torch.float64)

    def all_reduce(self, tensor, reduce_op):
        assert reduce_op == "sum"
        return tensor + self.other


def test_the_loss_of_a_batch_is_the_mean_over_its_parts():
    ranks = Ranks(Two(loss=4.0, mass=1.0, count=1), 0, 2)
    whole, share, count = ranks.joined(torch.tensor(1.0), 3.0, 3)
    assert (float(whole), share, count) == ((3 * 1.0 + 4.0) / 4, 2 * 3 / 4, 4)


def test_a_batch_in_which_nothing_counts_has_no_share():
    assert Ranks(Two(0.0, 0.0, 0), 0, 2).joined(torch.tensor(0.0), 0.0, 0) == (torch.tensor(0.0), 0.0, 0)


def test_the_second_process_has_rows_of_a_batch_of_two():
    ranks = Ranks(None, 1, 2)
    assert [ranks.has_rows(num, 4, 1) for num in (5, 6, 8)] == [False, True, True]


def test_the_noise_of_other_processes_follows_from_the_epoch():
    drawn = []
    for rank, epoch in ((1, 1), (1, 1), (1, 2), (2, 1)):
        Ranks(None, rank, 3).begin_epoch(0, epoch)
        drawn.append(float(torch.rand(())))
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_the_first_process_goes_on_with_its_noise():
    before = torch.get_rng_state()
    Ranks(None, 0, 2).begin_epoch(0, 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_process_tells_itself_nothing():
    assert Ranks().told(3) == 3


def test_weights_that_differ_are_named():
    layer = torch.nn.Linear(2, 1)

    class Other(Ranks):
        def exchanged(self, own):
            return [own, [own[0], own[1] + self.fabric]]

    Other(0.0, 0, 2).check_same(layer, 3)
    with pytest.raises(DataError, match="different weights") as caught:
        Other(0.1, 0, 2).check_same(layer, 3)
    assert caught.value.where == "bias, after epoch 3"


def test_nothing_has_gradients_of_zero_even_of_outputs_that_are_not_finite():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    nothing((weight, weight + torch.tensor([float("nan"), float("inf")]), weight.detach().long())).backward()
    assert torch.equal(weight.grad, torch.zeros(2))
