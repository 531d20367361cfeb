import itertools

import pytest
import torch
from torch import nn

from frostline.porting.graphs import examples as examples_of
from frostline.porting.graphs.examples import examples, is_makeable


def runs(model, shapes=()):
    for example in examples(model, shapes):
        try:
            return model(*example) if isinstance(example, tuple) else model(example)
        except (RuntimeError, TypeError, IndexError, ValueError):
            continue
    return None


@pytest.mark.parametrize("model", [
    nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
    nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2)), nn.LSTM(3, 4, batch_first=True), nn.Conv3d(2, 3, 3),
    nn.ConvTranspose2d(2, 3, 3), nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2)), nn.LayerNorm(6), nn.GroupNorm(2, 4),
    nn.Linear(3, 3),
], ids=lambda model: type(model).__name__)  # fmt: skip
def test_usual_networks_run(model):
    assert runs(model.eval()) is not None


def test_shapes_of_the_source_are_tried_first_with_channels_moved():
    first = next(iter(examples(nn.Conv2d(3, 4, 3), [((10, 12, 3), "float32")])))
    assert first.shape == (3, 3, 10, 12)
    image, ids = next(iter(examples(nn.Conv2d(3, 4, 3), [((10, 12, 3), "float32"), ((7,), "int32")])))
    assert (image.shape, ids.shape, ids.dtype) == ((3, 3, 10, 12), (3, 7), torch.long)


def test_channels_of_a_sequence_of_images_may_come_behind_its_length():
    found = itertools.islice(examples(nn.Conv2d(3, 4, 3), [((5, 10, 12, 3), "float32")]), 3)
    assert [tuple(one.shape) for one in found] == [(3, 3, 5, 10, 12), (3, 5, 10, 12, 3), (3, 5, 3, 10, 12)]


def test_a_module_without_layers_has_no_examples():
    assert list(examples(nn.ReLU())) == []


def test_forms_of_many_channels_take_no_memory_and_are_not_tried():
    deep = torch.nn.Sequential(*(torch.nn.Conv2d(2048, 2048, 1, bias=False, device="meta") for _ in range(2)))
    forms = [form for layer in deep for form in examples_of._forms(layer)]
    assert {form.device.type for form in forms} == {"meta"}
    assert max(form.numel() for form in forms) > 1 << 29
    assert all(one.numel() <= 1 << 24 for one in examples_of.examples(deep) if isinstance(one, torch.Tensor))


def test_images_have_as_many_patches_as_the_model_has_positions():
    model = nn.Module()
    model.patches, model.positions = nn.Conv2d(3, 8, 4, stride=4), nn.Parameter(torch.zeros(1, 17, 8))
    assert (3, 3, 16, 16) in [tuple(one.shape) for one in examples(model) if isinstance(one, torch.Tensor)]
    model.patches = nn.Conv2d(3, 8, 4, stride=2)
    assert (3, 3, 16, 16) not in [tuple(one.shape) for one in examples(model) if isinstance(one, torch.Tensor)]


def test_an_input_of_a_stated_size_that_no_memory_holds_is_not_made():
    shapes = (((10**9, 10**9, 4), "float32"),)
    assert not is_makeable((3, 10**9, 10**9, 4))
    assert is_makeable((3, 224, 224, 3))
    assert runs(nn.Linear(4, 2), shapes).shape[-1] == 2
