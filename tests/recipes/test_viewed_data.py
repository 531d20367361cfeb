import random

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import frostline as fl
from frostline.caching import Views
from frostline.recipes.viewed_data import viewed_data
from helpers_caching import fill
from helpers_views import Random

N, EPOCHS = 48, 5


class Pictures(Dataset):
    """Small pictures, mirrored and moved at random."""

    def __init__(self, is_random=True):
        generator = torch.Generator().manual_seed(0)
        self.inputs = torch.randn(N, 1, 8, 8, generator=generator)
        self.is_random = is_random

    def __len__(self):
        return N

    def __getitem__(self, index):
        inputs = self.inputs[index]
        if self.is_random:
            inputs = inputs.flip(-1) if torch.rand(()) < 0.5 else inputs
            inputs = inputs.roll(random.randrange(3), -1) + 0.1 * torch.randn(())
        return inputs, index % 4


def network(is_frozen=True):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3), nn.Linear(144, 4)
    )
    if is_frozen:
        fl.freeze(model, through="2")
    return model


def trained(cache, *, model=None, train=None, **options):
    model = network() if model is None else model
    options = {"epochs": EPOCHS, "views": 3, **options}
    result = fl.fit(model, Pictures() if train is None else train, batch_size=16, cache=cache, progress=False,
                    monitor=False, **options)  # fmt: skip
    return result, model


def losses(result):
    return [epoch.train_loss for epoch in result.history]


def same(one, other, tolerance=1e-5):
    """Losses and weights differ by what convolutions round differently in batches of another order."""
    for ours, theirs in zip(losses(one[0]), losses(other[0]), strict=True):
        assert ours == pytest.approx(theirs, rel=tolerance)
    for ours, theirs in zip(one[1].parameters(), other[1].parameters(), strict=True):
        assert torch.allclose(ours, theirs, atol=tolerance)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_cached_run_is_the_uncached_one(tmp_path, workers):
    cached, uncached = trained(tmp_path, num_workers=workers), trained(False)
    same(cached, uncached)
    figures = cached[0].cache
    assert (figures.samples, figures.views, figures.computed) == (N, 3, 3 * N)
    again = trained(tmp_path)
    assert (again[0].cache.computed, losses(again[0])) == (0, losses(cached[0]))


def test_the_views_differ_from_one_frozen_augmentation_and_do_not_follow_the_seed(tmp_path):
    one, several = trained(tmp_path, views=1), trained(tmp_path)
    assert losses(one[0])[0] == losses(several[0])[0]
    assert losses(one[0])[1] != losses(several[0])[1]
    assert several[0].cache.reused == N
    assert trained(tmp_path, seed=5)[0].cache.computed == 0


def test_views_are_said_with_the_data(tmp_path, capsys):
    fl.fit(network(), Pictures(), epochs=2, batch_size=16, views=2, cache=tmp_path, monitor=False)
    assert f"data: {N} training samples, no validation data; 2 views of each training sample" in capsys.readouterr().err


def test_views_that_no_epoch_would_show_are_not_computed(tmp_path):
    few = trained(tmp_path, epochs=2, views=4)
    assert few[0].cache.views == 2
    more = trained(tmp_path, epochs=4, views=4)
    assert (more[0].cache.computed, losses(more[0])[:2]) == (2 * N, losses(few[0]))


def test_a_model_that_trains_whole_has_the_same_views(tmp_path):
    options = {"model": network(is_frozen=False), "epochs": 3}
    whole = trained(True, **options)
    assert whole[0].cache is None
    assert losses(whole[0]) == losses(trained(False, **{**options, "model": network(is_frozen=False)})[0])


@pytest.mark.parametrize("cache", [True, False])
def test_a_resumed_run_goes_on_with_the_next_view(tmp_path, cache):
    whole = trained(tmp_path / "cache" if cache else False, out=tmp_path / "whole")
    trained(tmp_path / "cache" if cache else False, out=tmp_path / "part", epochs=2)
    rest = trained(tmp_path / "cache" if cache else False, out=tmp_path / "part", resume=tmp_path / "part")
    assert losses(rest[0]) == losses(whole[0])
    assert all(map(torch.equal, rest[1].parameters(), whole[1].parameters()))
    with pytest.raises(fl.DataError, match="made with other settings") as error:
        trained(tmp_path / "cache", out=tmp_path / "part", resume=tmp_path / "part", views=2)
    assert "views" in error.value.where


def test_a_head_is_solved_on_the_first_view(tmp_path):
    def model():
        torch.manual_seed(0)
        made = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 4))
        fl.freeze(made, through="3")
        return made

    one, several = (trained(tmp_path, model=model(), init_head="probe", epochs=1, views=views) for views in (1, 1))
    assert losses(one[0]) == losses(several[0])
    many = trained(tmp_path, model=model(), init_head="probe", epochs=3, views=3)
    assert losses(many[0])[0] == losses(one[0])[0]


def test_the_line_moves_with_all_views(tmp_path):
    cached = trained(tmp_path, thaw={3: "1"}, freeze="2", model=network(is_frozen=False))
    same(cached, trained(False, thaw={3: "1"}, freeze="2", model=network(is_frozen=False)))


@pytest.mark.parametrize(("views", "is_cached"), [(None, True), (2, True), (2, False)])
def test_random_validation_data_is_refused(tmp_path, views, is_cached):
    with pytest.raises(fl.DataError, match="The validation data is random") as error:
        trained(tmp_path if is_cached else False, train=Pictures(views is not None), val=Pictures(), views=views)
    assert error.value.where == "fit(val=...), dataset[0]"
    assert "deterministic transform" in error.value.do
    assert trained(tmp_path, val=Pictures(False), views=2)[0].history[-1].val_loss is not None


def test_random_training_data_is_told_of_views(tmp_path):
    with pytest.raises(fl.DataError, match="The dataset is random") as error:
        trained(tmp_path, views=None)
    assert "views=4 of fill and fit, --views 4" in error.value.do
    assert f"once, on this machine, for {N} samples" in error.value.do


@pytest.mark.parametrize("views", [0, -2, True, 2.5, "3"])
def test_a_number_of_views_is_checked_before_anything_runs(views):
    model = network()
    model.forward = lambda x: pytest.fail("the model runs")
    with pytest.raises(fl.DataError, match="views is not a whole number"):
        fl.fit(model, [(torch.randn(1, 8, 8), 0)] * 8, views=views)


def test_cached_features_have_their_views(tmp_path):
    data = fill(tmp_path, data=Random(), views=3)
    head = nn.Linear(6, 4)
    result = fl.fit(head, data, epochs=2, progress=False, monitor=False)
    assert result.cache.views == 3
    with pytest.raises(fl.DataError, match="views of cached features were chosen when they were filled"):
        fl.fit(head, data, views=2)
    with pytest.raises(fl.DataError, match="Validation data has several views"):
        fl.fit(head, data, data, progress=False)


def test_the_data_are_left_as_they_are_without_views():
    data = Pictures()
    assert viewed_data(data, None, 3) is data
    found = viewed_data(data, 8, 3)
    assert isinstance(found, Views)
    assert found.count == 3


def test_a_collate_function_that_stacks_goes_together_with_views(tmp_path):
    def stack(items):
        return torch.stack([image for image, _ in items]), torch.tensor([int(label) for _, label in items])

    def blur(items):
        return stack(items)[0] + len(items), stack(items)[1]

    val = Pictures(False)
    cached, uncached = (trained(own, collate_fn=stack, val=val, epochs=2) for own in (tmp_path / "a", False))
    same(cached, uncached)
    assert losses(cached[0]) == losses(trained(tmp_path / "b", val=val, epochs=2)[0])
    with pytest.raises(fl.DataError, match="more than pad"):
        trained(tmp_path / "c", collate_fn=blur)


def test_of_samples_that_differ_in_size_no_views_are_kept():
    ragged = [(torch.ones(2 + at % 2), 0) for at in range(6)]

    def pad(items):
        return nn.utils.rnn.pad_sequence([x for x, _ in items], batch_first=True), torch.tensor([y for _, y in items])

    with pytest.raises(fl.DataError, match="no views are kept"):
        fl.fit(nn.Linear(2, 2), ragged, views=2, collate_fn=pad, progress=False)
