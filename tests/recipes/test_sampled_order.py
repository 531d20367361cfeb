"""`fit(sampler=...)`: the order of a sampler, the same cached, uncached, resumed, and with views."""

import copy

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

import frostline as fl
from frostline.core.restore import generator_states
from frostline.recipes.sampled_order import SampledOrder
from helpers_sweep import N, Samples, model, rows


def weighted(generator=None):
    return WeightedRandomSampler(torch.arange(1.0, N + 1), 40, generator=generator)


class Curriculum(Sampler):
    """Easy samples first, more of them in later epochs, with a generator of its own."""

    def __init__(self):
        self.generator, self.epoch = torch.Generator(), 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter(torch.randint(min(N, 20 * (self.epoch + 1)), (50,), generator=self.generator).tolist())


def trained(cache, sampler, *, data=None, made=None, **options):
    made = model() if made is None else made
    data = TensorDataset(*rows()) if data is None else data
    options = {"epochs": 3, "batch_size": 16, "progress": False, "monitor": False, **options}
    return fl.fit(made, data, cache=cache, sampler=sampler, **options), made


def losses(result):
    return [epoch.train_loss for epoch in result[0].history]


@pytest.mark.parametrize(
    "make",
    [weighted, lambda: weighted(torch.Generator()), lambda: SubsetRandomSampler(range(0, N, 3)), Curriculum,
     lambda: [5, 5, 3, 90] * 10, lambda: RandomSampler(range(N), replacement=True, num_samples=200)],
)  # fmt: skip
def test_cached_and_uncached_runs_have_the_same_order(tmp_path, make):
    ours, plain = trained(tmp_path, make()), trained(False, make())
    assert losses(ours) == pytest.approx(losses(plain), abs=1e-6)
    for (name, own), other in zip(ours[1].state_dict().items(), plain[1].state_dict().values(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6, msg=name)
    assert losses(ours) != pytest.approx(losses(trained(tmp_path, None)), abs=1e-4)


def test_a_run_is_what_a_loop_over_the_same_positions_gives(tmp_path):
    """A loop of one's own over the positions that the run has drawn."""
    inputs, labels = rows()
    made = trained(tmp_path, weighted(), optimizer=lambda own: torch.optim.SGD(own, lr=0.1))[1]
    plain = model()
    optimizer = torch.optim.SGD([own for own in plain.parameters() if own.requires_grad], lr=0.1)
    drawn = SampledOrder(weighted(), N, 0)
    for epoch in range(3):
        for positions in drawn.order(epoch).split(16):
            loss = torch.nn.functional.cross_entropy(plain(inputs[positions]), labels[positions])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for own, other in zip(made.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-6)


def test_a_weighted_sampler_shows_rare_samples_more_often(tmp_path):
    seen = torch.zeros(N)
    for epoch in range(20):
        seen += SampledOrder(weighted(), N, 0).order(epoch).bincount(minlength=N)
    assert seen[N // 2 :].sum() > 2 * seen[: N // 2].sum()


def test_a_resumed_run_goes_on_in_the_same_order_and_another_sampler_is_refused(tmp_path):
    whole = trained(tmp_path / "cache", weighted(), epochs=4)
    with pytest.raises(InterruptedError):
        trained(tmp_path / "cache", weighted(), epochs=4, out=tmp_path / "run", callbacks=[Stop()])
    rest = trained(tmp_path / "cache", weighted(), epochs=4, out=tmp_path / "run", resume=tmp_path / "run")
    assert losses(rest) == losses(whole)
    with pytest.raises(fl.DataError, match="sampler"):
        trained(tmp_path / "cache", SequentialSampler(range(N)), epochs=4, out=tmp_path / "run",
                resume=tmp_path / "run")  # fmt: skip


class Stop:
    def on_train_epoch_start(self, run):
        if run.epoch == 3:
            raise InterruptedError


def test_views_follow_the_epoch(tmp_path):
    ours, plain = (trained(cache, weighted(), data=Samples(0.5), views=2) for cache in (tmp_path, False))
    assert losses(ours) == pytest.approx(losses(plain), abs=1e-6)


def test_steps_are_counted_as_they_are_drawn(tmp_path):
    rates = []

    class Note:
        def on_train_batch_end(self, run):
            rates.append(run.optimizer.param_groups[0]["lr"])

    trained(tmp_path, weighted(), scheduler="linear", scheduler_interval="step", callbacks=[Note()])
    assert len(rates) == 3 * 3  # 40 samples in batches of 16
    assert rates[-1] == pytest.approx(0, abs=2e-4)


def test_stored_features_take_a_sampler_too(tmp_path):
    made = model()
    split = fl.split(made, rows()[0][:4])
    data = fl.FeatureCache(tmp_path).fill(split, TensorDataset(*rows()), progress=False)
    plain = trained(False, weighted(), made=copy.deepcopy(made))
    assert losses(trained(True, weighted(), data=data, made=split.head)) == pytest.approx(losses(plain), abs=1e-6)


def test_generators_are_as_they_were(tmp_path):
    generator, made = torch.Generator().manual_seed(3), model()
    before = generator_states(), generator.get_state()
    trained(tmp_path, weighted(generator), made=made)
    assert generator.get_state().equal(before[1])
    assert str(generator_states()) == str(before[0])


class Counting(Sampler):
    """Another order each time it is asked, whatever the seeds."""

    def __init__(self):
        self.calls = 0

    def __iter__(self):
        self.calls += 1
        return iter([self.calls % N, 1, 2])


class Growing(Sampler):
    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        return iter(range(10 + self.epoch))


@pytest.mark.parametrize(
    ("sampler", "text"),
    [
        (3, "no sampler of single samples"),
        ("random", "no sampler of single samples"),
        (WeightedRandomSampler, "no sampler of single samples"),
        (iter([1, 2]), "no sampler of single samples"),
        (BatchSampler(SequentialSampler(range(N)), 4, False), "no sampler of single samples"),
        (DataLoader(list(range(N))), "no sampler of single samples"),
        ([[1, 2], [3]], "gives no positions"),
        ([0, N], "not in the training data"),
        ([0, -1], "not in the training data"),
        ([], "not in the training data"),
        (Counting(), "another order for the same seeds"),
        (Growing(), "another number of samples"),
    ],
)
def test_what_is_no_sampler_is_told_before_anything_is_trained(tmp_path, sampler, text):
    with pytest.raises(fl.DataError, match=text) as error:
        trained(tmp_path, sampler)
    assert error.value.where == "fit(sampler=...)"
