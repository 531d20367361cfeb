import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.caching import Proofs, builders_of, fill_as_planned
from frostline.caching.fill.builders import Alone


@pytest.fixture
def split():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    fl.freeze(model, through="0")
    return fl.split(model, torch.randn(4, 4))


class Noted(Alone):
    """Notes what a fill asks of it."""

    def __init__(self) -> None:
        self.asked = []

    def agree(self, plan):
        self.asked.append(plan.num_missing)
        return super().agree(plan)

    def read(self, filling, plan, unread, advance):
        self.asked.append(unread)
        super().read(filling, plan, unread, advance)

    def end(self, filling):
        self.asked.append(filling.computed)


def test_a_fill_has_its_samples_read_by_its_builders(split, tmp_path):
    builders, plans = Noted(), []
    dataset = TensorDataset(torch.randn(6, 4), torch.arange(6))
    data = fill_as_planned(fl.FeatureCache(tmp_path).location, split, dataset, 4, progress=False,
                           on_plan=plans.append, builders=builders)  # fmt: skip
    assert builders.asked == [6, range(6), 6]
    assert [plan.num_missing for plan in plans] == [6]
    assert len(data) == 6


def test_the_builders_of_one_process_are_none(split, tmp_path):
    assert builders_of(fl.FeatureCache(tmp_path).location, split, [], 4, 0, engine="local") is None


def test_a_faster_part_is_no_part_that_a_cluster_takes(split, tmp_path):
    pytest.importorskip("ray")
    faster = split.faster(["fold"], 4, Proofs(tmp_path))
    with pytest.raises(fl.DataError, match="cannot be sent"):
        builders_of(fl.FeatureCache(tmp_path).location, faster, [], 4, 0, engine="ray")
