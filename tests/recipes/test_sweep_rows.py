import pytest
import torch
from torch import nn

import frostline as fl
from frostline.recipes.sweep_rows import check_rows, split_rows
from frostline.training import make_loss
from helpers_sweep import C, H, N, batch, cached, model, rows


def checked(targets, loss="cross_entropy", outputs=C):
    _, data = cached(model(nn.Linear(H, outputs)), targets)
    check_rows(nn.Linear(H, outputs), batch()[0], loss, make_loss(loss), {"sweep(data)": data})


def test_a_share_of_every_class_is_held_out():
    _, data = cached(model())
    train, held = split_rows(data, None, 0.25, seed=0)
    assert len(train) + len(held) == N
    whole = data.targets.bincount()
    assert held.targets.bincount().tolist() == [round(0.25 * count) for count in whole.tolist()]
    assert [part.targets.tolist() for part in split_rows(data, None, 0.25, seed=0)] == [
        train.targets.tolist(), held.targets.tolist()]  # fmt: skip


def test_numbers_are_held_out_as_they_come():
    _, data = cached(model(), torch.arange(N).float())
    train, held = split_rows(data, None, 0.25, seed=0)
    assert sorted(train.targets.tolist() + held.targets.tolist()) == list(range(N))
    assert len(held) == N // 4
    assert split_rows(data, held, 0.25, seed=0) == (data, held)


def test_what_is_held_out_of_rows_with_views_is_the_first_view_in_every_epoch(tmp_path):
    x_ND, y_N = rows()
    noisy = [(x_ND[at], int(y_N[at])) for at in range(N)]
    split = fl.split(model(), x_ND[:4])
    data = fl.FeatureCache(tmp_path).fill(split, Shaken(noisy), views=3, progress=False)
    train, held = split_rows(data, None, 0.25, seed=0)
    assert (train.views, held.views) == (3, 1)
    loader = held.loader(len(held))
    epochs = [next(iter(loader))[0][0].clone() for _ in range(2)]
    torch.testing.assert_close(*epochs, rtol=0, atol=0)
    first = torch.stack([features[0] for features, _ in data])
    assert all((row == first).all(1).any() for row in epochs[0])
    with pytest.raises(fl.DataError, match="Validation data has several views"):
        split_rows(data, data, 0.25, seed=0)


class Shaken(list):
    """Samples with noise."""

    def __getitem__(self, index):
        inputs, label = super().__getitem__(index)
        return inputs + torch.randn(inputs.shape), label


@pytest.mark.parametrize("odd", [None, [1], torch.ones(3), "data", nn.Linear(2, 2)])
def test_only_stored_rows_are_taken(odd):
    _, data = cached(model())
    with pytest.raises(fl.DataError, match="A sweep trains on stored rows") as caught:
        split_rows(odd, None, 0.2, 0)
    assert "FeatureCache" in caught.value.do
    if odd is not None:
        with pytest.raises(fl.DataError, match="A sweep trains on stored rows") as caught:
            split_rows(data, odd, 0.2, 0)
        assert caught.value.where == "sweep(val=...)"


def test_a_share_that_leaves_nothing_is_refused():
    _, data = cached(model(), torch.arange(N).float())
    with pytest.raises(fl.DataError, match="leaves training or validation without rows"):
        split_rows(data.part([0, 1]), None, 0.01, 0)


def test_a_dataset_without_rows_is_refused(monkeypatch):
    _, data = cached(model())
    monkeypatch.setattr(type(data), "__len__", lambda self: 0)  # `fill` refuses to make one
    with pytest.raises(fl.DataError, match="There are no rows to train on"):
        split_rows(data, None, 0.2, 0)


def test_targets_that_are_not_finite_name_the_row():
    numbers = torch.arange(N).float()
    numbers[7] = float("nan")
    with pytest.raises(fl.DataError, match="The targets are not finite") as caught:
        checked(numbers, "mse", 1)
    assert "row 7" in caught.value.received


def test_one_class_cannot_be_told_apart():
    with pytest.raises(fl.DataError, match="All rows are of one class") as caught:
        checked(torch.ones(N, dtype=torch.int64))
    assert f"{N} labels, each of them 1" in caught.value.received


def test_labels_are_looked_at_before_anything_is_trained():
    with pytest.raises(fl.DataError, match="No row has a label"):
        checked(torch.full((N,), -100))
    odd = rows()[1]
    odd[-1] = C
    with pytest.raises(fl.DataError, match="outside of the range of the model's classes"):
        checked(odd)
    with pytest.raises(fl.DataError, match="A target is no probability"):
        checked(torch.full((N, C), 2.0), "bce")
    checked(rows()[1])
