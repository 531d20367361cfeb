"""Items of other forms than (inputs, target): the example of the split says what is an input."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import frostline as fl
from frostline.caching.part import items_of
from frostline.core.inputs import call
from frostline.core.item_form import PAIRS, ItemForm
from helpers_caching import Part, fill

N = 24
A, B = torch.randn(2, N, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(N) % 3


class Two(nn.Module):
    """Two inputs, one frozen layer and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.low, self.head = nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, a, b=None):
        return self.head((self.low(a) + (0 if b is None else self.low(b))).tanh())


def two():
    torch.manual_seed(0)
    model = Two()
    fl.freeze(model, through="low")
    return model


ITEMS = {
    "two inputs and a target": ([(A[i], B[i], Y[i]) for i in range(N)], (A[:4], B[:4])),
    "two inputs": ([(A[i], B[i]) for i in range(N)], (A[:4], B[:4])),
    "one input": ([(A[i],) for i in range(N)], A[:4]),
    "a tensor": ([A[i] for i in range(N)], A[:4]),
    "an input and two targets": ([(A[i], Y[i], i) for i in range(N)], A[:4]),
    "a mapping of inputs": ([{"a": A[i], "b": B[i]} for i in range(N)], {"a": A[:4], "b": B[:4]}),
    "a mapping": ([{"a": A[i], "mask": Y[i]} for i in range(N)], {"a": A[:4]}),
}


def uncached(items, example):
    """Inputs and target of every batch, by hand."""
    for batch in DataLoader(items, batch_size=8):
        if isinstance(example, dict):
            inputs = {key: batch[key] for key in example}
            yield inputs, [value for key, value in batch.items() if key not in example]
        else:
            parts = [batch] if isinstance(batch, torch.Tensor) else batch
            count = len(example) if isinstance(example, tuple) else 1
            yield parts[0] if count == 1 else tuple(parts[:count]), parts[count:]


@pytest.mark.parametrize("kind", ITEMS)
def test_a_fill_takes_items_of_the_form_that_the_example_shows(kind, tmp_path):
    items, example = ITEMS[kind]
    model = two()
    split = fl.split(model, example)
    data = fl.FeatureCache(tmp_path).fill(split, items, progress=False)
    for (features, target), (inputs, rest) in zip(data.loader(8), uncached(items, example), strict=True):
        expected = call(model, inputs)
        assert torch.allclose(split.head(*features), expected, atol=1e-6)
        found = [*target] if isinstance(target, (tuple, list)) else [target]
        assert all(torch.equal(one, other) for one, other in zip(found, rest, strict=True))
    assert len(data.collate([data[0], data[1]])[0]) == len(split.frontier)


@pytest.mark.parametrize("is_cached", [True, False])
def test_fit_takes_more_inputs_than_one_and_mappings_without_a_label(is_cached, tmp_path):
    class Both(Two):
        def forward(self, a, b):
            return super().forward(a, b)

    found = []
    for items in (ITEMS["two inputs and a target"][0], [{"a": A[i], "b": B[i], "mask": Y[i]} for i in range(N)]):
        torch.manual_seed(0)
        model = Both()
        fl.freeze(model, through="low")
        cache = tmp_path if is_cached else False
        result = fl.fit(model, items, loss="cross_entropy", epochs=1, cache=cache, progress=False, monitor=False)
        found.append(result.history[0].train_loss)
    model = two()
    expected = nn.functional.cross_entropy(model(A, B), Y)
    assert found == pytest.approx([expected.item()] * 2, abs=1e-5)
    with pytest.raises(fl.DataError, match="The items hold inputs only"):
        fl.fit(Both(), ITEMS["two inputs"][0], cache=False, progress=False)


def test_a_part_that_shows_no_example_takes_pairs_and_the_labels_that_are_inputs(tmp_path):
    assert items_of(Part()) == PAIRS
    part = Part()
    part.frontier = (fl.FrontierTensor("input.labels", (), torch.int64, 8, False),)
    assert items_of(part) == ItemForm(frozenset({"labels"}))
    with pytest.raises(fl.DataError, match="A dataset item must be"):
        fill(tmp_path, data=[(A[0], B[0], 1)] * 4)
