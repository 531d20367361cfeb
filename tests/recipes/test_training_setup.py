import torch
from torch import nn
from torch.utils.data import TensorDataset

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
