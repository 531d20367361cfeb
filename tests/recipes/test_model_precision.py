"""Models of half and double precision."""

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.recipes.model_precision import precision_of
from helpers_fit import data, fit, mlp


def test_only_a_model_of_one_other_precision_has_its_inputs_converted():
    assert precision_of(nn.Linear(2, 2)) is None
    assert precision_of(nn.Linear(2, 2).half()) is torch.float16
    assert precision_of(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).double())) is None


class Sounds(nn.Module):
    """An output at every place of samples of differing length."""

    def __init__(self):
        super().__init__()
        self.low, self.high = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, sound):
        return self.high(self.low(sound).relu())


def padded(items):
    sounds, labels = zip(*items, strict=True)
    pad = nn.utils.rnn.pad_sequence
    return pad(sounds, batch_first=True), pad(labels, batch_first=True, padding_value=-100)


def loss_of_places(output, target):
    return nn.functional.cross_entropy(output.flatten(0, 1), target.flatten())


@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_samples_of_differing_length_are_converted_and_compared_at_their_own_places(tmp_path, precision):
    generator, items, losses = torch.Generator().manual_seed(0), [], []
    for index in range(24):
        length = 3 + index % 5
        items.append((torch.randn(length, 3, generator=generator), torch.full((length,), index % 2)))
    for cache in (tmp_path, False):
        torch.manual_seed(0)
        model = Sounds()
        fl.freeze(model, through="low")
        run = fl.fit(model, items, collate_fn=padded, loss=loss_of_places, precision=precision, cache=cache, epochs=1,
                     batch_size=8, progress=False)  # fmt: skip
        losses.append(run.history[0].train_loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-2 if precision == "bf16-true" else 1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_precision_gets_its_inputs_in_it_cached_and_uncached(tmp_path, dtype):
    ended = []
    for cache in (tmp_path, False):
        model = mlp().to(dtype)
        fl.freeze(model, through="2")
        fit(model, data(), data(16), cache=cache, epochs=1)
        assert {parameter.dtype for parameter in model.parameters()} == {dtype}
        ended.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*ended, strict=True))
