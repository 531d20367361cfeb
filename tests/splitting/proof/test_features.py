"""Extreme samples that a proof puts beside plain ones."""

import pytest
import torch
from torch import nn

import frostline as fl
from frostline.splitting.proof.features import Company, check_repeatable
from helpers_splitting import D, Net, check, unanswered, x


class Block(nn.Module):
    """A frozen layer of which one place decides for the whole batch."""

    def __init__(self, place):
        super().__init__()
        self.layer, self.place = nn.Linear(D, D), place
        self.requires_grad_(False)

    def forward(self, h):
        h = self.layer(h)
        return h * 0.5 if h[self.place].abs().max() > 20 else h


MIXING = {
    "the first sample": lambda h: h * (h[:1].abs().max() < 20),
    "the last sample": lambda h: torch.where(h[-1].abs().max() > 20, h * 0.5, h),
    "the largest of all": lambda h: h / h.abs().max().clamp(min=20),
    "how many are large": lambda h: h + (h.abs().amax(1) > 20).sum(),
    "equal samples": lambda h: h / (h[:, None] == h[None]).all(2).sum(1, keepdim=True),
    "the order of the samples": lambda h: h + 0.1 * (h.abs().amax(1) > 20).cumsum(0).unsqueeze(1),
}


@pytest.mark.parametrize("name", MIXING)
def test_a_sample_that_changes_others_only_when_it_is_large_is_found_among_small_ones(name):
    model = Net(lambda m, batch: m.high(m.mid(MIXING[name](m.low(batch)))), mid=nn.Linear(D, D))
    model.mid.requires_grad_(False)
    with pytest.raises(fl.NotCacheable, match="depends on the other samples"):
        fl.split(model, x(4))


@pytest.mark.parametrize("place", [0, 1, -1])
def test_a_place_that_decides_inside_of_a_frozen_layer_is_found(place):
    with pytest.raises(fl.NotCacheable, match="depends on the other samples"):
        fl.split(Net(lambda m, batch: m.high(m.block(batch)), block=Block(place)), x(4))


BY_PLACE = {
    "the first": lambda m, h: h[0].abs().max() > 20,
    "the last": lambda m, h: h[-1, 0].item() > 20 or h[-1, 0].item() < -20,
    "every other": lambda m, h: bool((h[::2].abs() > 20).any()),
}


@pytest.mark.parametrize("name", BY_PLACE)
def test_a_place_that_decides_what_the_trainable_part_does_is_refused(name):
    def forward(m, batch):
        h = unanswered(m, batch)
        return m.code(h) if BY_PLACE[name](m, h) else m.high(h)

    with pytest.raises(fl.NotCacheable, match="by its place"):
        fl.split(Net(forward), x(4))


def _checked(m, batch):
    if batch.abs().max() > 100:
        raise ValueError("inputs must be normalised")
    return m.high(m.low(batch))


SOUND = {
    "all samples decide together": lambda m, b: m.code(m.low(b)) if (m.low(b).abs() > 20).any() else m.high(m.low(b)),
    "a loop that stops early": lambda m, b: m.high(m.low(b)) * (2 if any(row.abs().max() > 20 for row in b) else 1),
    "the model checks its inputs": _checked,
    "each sample for itself": lambda m, b: m.high(torch.where(m.low(b) > 20, m.low(b) * 0.5, m.low(b))),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_no_place_decides_is_split(name):
    check(Net(SOUND[name]), x(4), is_graph=name != "a loop that stops early")


def test_whole_numbers_and_masks_go_to_their_ends():
    seen = []

    def run(batch):
        seen.append(batch)
        return (batch["ids"].float(),), []

    frontier = fl.split(Net(SOUND["each sample for itself"]), x(4)).frontier
    sample = {"ids": torch.tensor([[1, 2], [3, 4]]), "mask": torch.tensor([[1.0], [0.0]])}
    Company(run, lambda batch, features: True, frontier).prove(sample, is_steered=False)
    plain, first, second = seen[0], *seen[-2:]
    twins = [batch["ids"].tolist() for batch in seen[1:3]]
    assert twins == [[[1, 2], [1, 2], [3, 4]], [[3, 4], [1, 2], [3, 4]]]
    assert plain["ids"].tolist() == [[1, 2], [3, 4]]
    assert first["ids"].tolist() == [[4, 4], [1, 2], [3, 4], [1, 1]]
    assert first["mask"].tolist() == [[1.0], [1.0], [0.0], [0.0]]
    assert second["ids"].tolist() == [[1, 1], [3, 4], [1, 2], [4, 4]]


class Listed(nn.Module):
    """A frozen layer whose result reaches Python, as an iterator."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(D, D)

    def forward(self, batch):
        return iter([self.inner(batch)])


def _clamped_in_training(m, batch):
    next(m.listed(batch))
    low = m.low(batch)
    return m.high(low + (low.clamp(-5, 5) if m.training else low))


def test_a_branch_on_the_mode_that_changes_large_values_is_seen_where_values_steer_the_model_too():
    model = Net(_clamped_in_training, listed=Listed().requires_grad_(False))
    split = check(model, x(4), is_graph=False)
    far = 100 * x(5)
    model.train()
    split.head.train()
    torch.testing.assert_close(split.head(*split.extract(far)), model(far))


def test_half_precision_is_not_driven_to_infinity():
    model = Net(lambda m, batch: m.high(m.low(batch))).to(torch.bfloat16)
    assert fl.split(model, x(4).to(torch.bfloat16)).frontier[0].dtype == torch.bfloat16


def _clamped(m, low):
    return m.high((low.clamp(-5, 5) if m.training else low) + 1)


def test_large_values_that_the_modes_treat_differently_are_found_among_small_ones():
    with pytest.raises(fl.SplitError, match="far from those of the example"):
        fl.split(Net(lambda m, batch: _clamped(m, unanswered(m, batch))), x(4))
    model = Net(lambda m, batch: _clamped(m, m.low(batch)))
    split, far = check(model, x(4), is_graph=False), x(4) * 1000
    for training in (True, False):
        model.train(training)
        split.head.train(training)
        assert torch.equal(split.head(*split.extract(far)), model(far))


def repeated(*results, model=None):
    """What is said of a frozen part that gives these results, one after the other."""
    given = iter(results)
    return check_repeatable(model or nn.BatchNorm1d(2), lambda: next(given), ["low", "table"])


def test_features_that_are_the_same_twice_are_given_with_the_time_they_took():
    nan = torch.tensor([float("nan"), 1.0])
    (features, elapsed_s) = repeated((nan, torch.ones(1)), (nan.clone(), torch.ones(1)))
    assert torch.equal(features[1], torch.ones(1))
    assert 0 <= elapsed_s < 60


def test_features_that_differ_are_named_with_their_difference():
    with pytest.raises(fl.NotCacheable, match="Cannot cache the output of 'table'") as error:
        repeated((torch.ones(1), torch.tensor([1.0, 3.0])), (torch.ones(1), torch.tensor([1.0, 2.5])))
    assert error.value.received == "largest difference 5.0e-01, allowed 0"


def test_a_buffer_that_moves_is_named_and_one_that_is_nan_stands_still():
    model = nn.BatchNorm1d(2)
    model.running_var.fill_(float("nan"))
    same = (torch.ones(1), torch.ones(1))

    def moving():
        model.running_mean.add_(1)
        return same

    assert check_repeatable(model, lambda: same, ["low", "table"])[0] is same
    with pytest.raises(fl.NotCacheable, match="the buffer 'running_mean' moves"):
        check_repeatable(model, moving, ["low", "table"])

    def growing():
        model.register_buffer("new", torch.ones(1))
        return same

    assert check_repeatable(model, growing, ["low", "table"])[0] is same


def test_complex_inputs_are_scaled_as_others_are(tmp_path):
    class Waves(nn.Module):
        def __init__(self):
            super().__init__()
            self.low, self.high = nn.Linear(4, 4, dtype=torch.cfloat), nn.Linear(4, 2)

        def forward(self, x_BD):
            return self.high(self.low(x_BD).abs())

    model = Waves()
    fl.freeze(model, through="low")
    items = [(row, at % 2) for at, row in enumerate(torch.randn(8, 4, dtype=torch.cfloat))]
    result = fl.fit(model, items, epochs=1, batch_size=4, cache=tmp_path, progress=False)
    assert result.cache.samples == 8
