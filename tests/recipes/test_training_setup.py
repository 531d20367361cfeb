import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.recipes.training_setup import Ready, TrainingSetup
from frostline.training import make_fabric


def setup(**options):
    data = TensorDataset(torch.randn(10, 3), torch.arange(10) % 2)
    fabric = make_fabric("32-true", 1, None)
    return TrainingSetup(nn.Linear(3, 2), data, options.pop("val", None), False, fabric, None, 4, 7, False, **options)


def test_training_batches_are_shuffled_by_the_seed_and_validation_batches_are_not():
    data = TensorDataset(torch.randn(10, 3), torch.arange(10) % 2)
    made = setup(val=data)
    assert (made.plain.shuffle, made.plain.seed) == (True, 7)
    assert not made.plain_val.shuffle
    assert setup().plain_val is None
    assert made.few_inputs().shape[1:] == (3,)


def test_an_uncached_run_costs_the_frozen_part_of_every_epoch_more():
    ready = Ready(nn.Linear(3, 2), [], None, figures=object(), frozen_epoch_s=2.0)
    assert ready.uncached_s(10.0, 3) == 16.0
    assert Ready(nn.Linear(3, 2), [], None).uncached_s(10.0, 3) is None


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_stream_is_refused_whatever_the_loss_is(is_cached, tmp_path):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([(torch.randn(4), 0)] * 8)

    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 2))
    fl.freeze(model, through="0")
    for train, val in ((Stream(), None), ([(torch.randn(4), 0)] * 8, Stream())):
        with pytest.raises(fl.DataError, match="not a map-style dataset"):
            fl.fit(model, train, val, loss=torch.nn.CrossEntropyLoss(), progress=False,
                   cache=tmp_path if is_cached else False)  # fmt: skip


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.low, self.high = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x, mask=None):
        return self.high(self.low(x if mask is None else x * mask))


@pytest.mark.parametrize("loss", ["cross_entropy", nn.CrossEntropyLoss()])
def test_parts_that_the_model_could_take_as_well_as_the_loss_are_asked_about(loss, tmp_path):
    items = [(torch.randn(4), torch.ones(4), index % 2) for index in range(8)]

    def fit(given, **options):
        model = Masked()
        fl.freeze(model, through="low")
        return fl.fit(model, given, epochs=1, cache=tmp_path, progress=False, **{"loss": loss, **options})

    with pytest.raises(fl.DataError, match="unclear which parts of an item are inputs") as error:
        fit(items)
    assert "((a, b), target)" in error.value.do
    assert "example=(a, b)" in error.value.do
    fit(items, example=(torch.randn(4, 4), torch.ones(4, 4)))
    fit([(parts[:2], parts[2]) for parts in items])
    fit(items, loss=lambda output, target: nn.functional.cross_entropy(output, target[1]))
