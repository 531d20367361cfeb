import pytest
import torch
from torch import nn

from frostline.diagnosis.probes.drowned import drowned_at


class Placed(nn.Module):
    def __init__(self, size):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.recurrent = nn.Embedding(8, 16), nn.GRU(16, 8, batch_first=True)
        self.register_buffer("places", size * torch.randn(6, 16))

    def forward(self, words):
        return self.recurrent(self.embedding(words) + self.places)[0]


@pytest.mark.parametrize(("size", "is_drowned"), [(0.3, False), (5.0, False), (300.0, True)])
def test_what_is_added_may_drown_what_it_is_added_to(size, is_drowned):
    found = drowned_at(Placed(size), {}, torch.randint(8, (32, 6)))
    assert (found is not None) is is_drowned
    assert found is None or (found[0] == "recurrent" and found[1] < 1e-3 and found[2] > 100)


def test_inputs_that_are_so_from_the_first_have_a_rule_of_their_own():
    assert drowned_at(nn.Linear(4, 2), {}, 1000 + torch.randn(32, 4)) is None
    assert drowned_at(nn.Linear(4, 2), {}, 1000 * torch.randn(32, 4)) is None


def test_what_a_batchnorm_takes_away_drowns_nothing():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    nn.init.constant_(model[0].bias, 500.0)
    before = model[1].running_mean.clone()
    assert drowned_at(model, {}, torch.randn(32, 4)) is None
    assert torch.equal(model[1].running_mean, before)
    assert drowned_at(nn.Sequential(model[0], model[2]), {}, torch.randn(32, 4)) is not None
