"""A sweep of a whole model and its dataset: rows made as `fit` makes them, heads as `fit` trains them."""

import copy

import pytest
import torch
from torch import nn

import frostline as fl
from helpers_lengths import Sentences, pad, sentences
from helpers_sweep import C, D, Samples, cached, model

CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32 over a few epochs
RATES = [{"lr": 0.03}, {"lr": 0.003}]


def swept(made, data, val, folder, **options):
    return fl.sweep(made, data, RATES, val=val, cache=folder, epochs=3, batch_size=16, progress=False, **options)


@pytest.mark.parametrize(
    ("noise", "options"),
    [(0, {}), (0.5, {"views": 2}), (0, {"storage": "int8"}), (0, {"frozen_pass": "bf16"})],
    ids=str,
)
def test_each_head_is_the_one_that_fit_trains_with_the_same_options(tmp_path, noise, options):
    made = model()
    plain = copy.deepcopy(made)
    val = Samples(count=32)
    result = swept(made, Samples(noise), val, tmp_path / "rows", apply=False, **options)
    for number, setting in enumerate(RATES):
        alone = fl.fit(copy.deepcopy(plain), Samples(noise), val, lr=setting["lr"], epochs=3, batch_size=16,
                       cache=tmp_path / "rows", progress=False, monitor=False, **options)  # fmt: skip
        assert alone.cache.computed == 0  # the rows of the sweep
        own = [epoch.train_loss for epoch in result.history[number]]
        torch.testing.assert_close(own, [epoch.train_loss for epoch in alone.history], **CLOSE)
        own = [epoch.val_loss for epoch in result.history[number]]
        torch.testing.assert_close(own, [epoch.val_loss for epoch in alone.history], **CLOSE)


def test_samples_of_differing_length_are_swept_as_fit_trains_them(tmp_path):
    torch.manual_seed(0)
    made, data = Sentences(), sentences()
    fl.freeze(made, through="low")
    plain = copy.deepcopy(made)
    result = swept(made, data, data[:6], tmp_path, collate_fn=pad, apply=False)
    alone = fl.fit(plain, data, data[:6], lr=0.03, epochs=3, batch_size=16, cache=False, collate_fn=pad,
                   progress=False, monitor=False)  # fmt: skip
    own = [epoch.train_loss for epoch in result.history[0]]
    torch.testing.assert_close(own, [epoch.train_loss for epoch in alone.history], **CLOSE)


def test_the_best_head_is_in_the_model_that_was_given(tmp_path):
    made, val = model(), Samples(count=32)
    frozen = copy.deepcopy(made[0].state_dict())
    result = swept(made, Samples(), val, tmp_path)
    correct = (made(val.inputs).argmax(1) == val.labels).float().mean()
    assert float(correct) == pytest.approx(result.best.score)
    for name, own in made[0].state_dict().items():
        torch.testing.assert_close(own, frozen[name], rtol=0, atol=0)


@pytest.mark.parametrize("option", [{"views": 2}, {"collate_fn": pad}, {"storage": "int8"}, {"frozen_pass": "bf16"}])
def test_stored_rows_take_no_option_of_a_fill(option):
    split, data = cached(model())
    with pytest.raises(fl.DataError, match="Rows that are stored already") as error:
        fl.sweep(split.head, data, RATES, progress=False, **option)
    assert error.value.where == f"sweep({next(iter(option))}=...)"


@pytest.mark.parametrize("cache", [False, "auto"])
def test_a_sweep_needs_rows(cache):
    with pytest.raises(fl.DataError, match="cannot do without them"):
        fl.sweep(model(), Samples(), RATES, cache=cache)


def test_a_head_with_a_dataset_and_a_model_without_a_frozen_part_are_told_apart():
    split, _ = cached(model())
    with pytest.raises(fl.DataError, match="a dataset has none") as error:
        fl.sweep(split.head, Samples(), RATES)
    assert "whole model" in error.value.do
    with pytest.raises(fl.DataError, match="Nothing of this model is frozen"):
        fl.sweep(nn.Linear(D, C), Samples(), RATES)


def test_errors_name_the_arguments_of_the_sweep(tmp_path):
    with pytest.raises(fl.DataError, match="validation data is random") as error:
        swept(model(), Samples(0.5), Samples(0.5), tmp_path, views=2)
    assert error.value.where.startswith("sweep(val=...)")
    with pytest.raises(fl.DataError) as error:
        swept(model(), [(torch.zeros(D), "dog")] * 20, None, tmp_path)
    assert "fit(" not in error.value.where
