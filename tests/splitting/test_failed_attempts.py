import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl


def small():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    fl.freeze(model, through="0")
    return model


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64, torch.uint8])
def test_an_example_of_another_dtype_is_told_which_one_the_model_takes(dtype):
    model = small()
    with pytest.raises(fl.DataError, match="cannot take these inputs") as error:
        fl.split(model, torch.ones(6, 4).to(dtype))
    assert "inputs.to(torch.float32)" in error.value.do
    assert str(dtype).removeprefix("torch.") in error.value.received
    assert fl.split(model, torch.randn(6, 4)).frontier


def test_keys_that_forward_does_not_take_are_named_and_so_is_a_mapping_that_it_takes_whole():
    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.high = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, batch):
            return self.high(self.low(batch["x"]))

    model, batch = Whole(), {"x": torch.randn(6, 4)}
    fl.freeze(model, through="low")
    with pytest.raises(fl.DataError, match="keys that Whole does not take") as error:
        fl.split(model, batch)
    assert "in a tuple: ((inputs,), target)" in error.value.do
    assert [own.name for own in fl.split(model, (batch,)).frontier] == ["low"]


class Bag(nn.Module):
    """Words of all texts of a batch behind each other, as the tutorials of text classification join them."""

    def __init__(self):
        super().__init__()
        self.words, self.out = nn.EmbeddingBag(20, 6), nn.Linear(6, 3)

    def forward(self, words, offsets):
        return self.out(self.words(words, offsets))


def test_an_example_whose_samples_are_joined_is_no_fault_of_the_model():
    model = Bag()
    fl.freeze(model, through="words")
    with pytest.raises(fl.DataError, match="no table of samples") as error:
        fl.split(model, (torch.randint(0, 20, (9,)), torch.tensor([0, 3, 7])))
    assert "pad_sequence" in error.value.do
    assert "cut to (int64 (4,)" in error.value.received


def test_samples_that_a_collate_function_joins_train_without_a_cache_as_in_a_plain_loop():
    items = [(torch.randint(0, 20, (2 + index % 4,)), index % 3) for index in range(10)]

    def joined(batch):
        words = [words for words, _ in batch]
        offsets = torch.tensor([0, *[len(own) for own in words[:-1]]]).cumsum(0)
        return (torch.cat(words), offsets), torch.tensor([label for _, label in batch])

    def trained(train):
        torch.manual_seed(0)
        model = Bag()
        fl.freeze(model, through="words")
        train(model)
        return model.out.weight.detach()

    def by_fit(model):
        fl.fit(model, items, epochs=1, batch_size=len(items), collate_fn=joined, cache=False, progress=False, lr=0.1)

    def plain(model):
        optimizer = torch.optim.AdamW(model.out.parameters(), lr=0.1)
        inputs, target = joined(items)
        F.cross_entropy(model(*inputs), target).backward()
        optimizer.step()

    torch.testing.assert_close(trained(by_fit), trained(plain))


def test_a_model_that_fails_on_its_example_says_so():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.high = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.high(self.low(x))[:, 5].unsqueeze(3)

    model = Broken()
    fl.freeze(model, through="low")
    with pytest.raises(fl.SplitError, match="The model itself fails on the example") as error:
        fl.split(model, torch.randn(6, 4))
    assert "unsqueeze(3)" in error.value.where
