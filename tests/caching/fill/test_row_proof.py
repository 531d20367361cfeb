"""Rows that are computed again in other batches, before they are published."""

from types import SimpleNamespace

import pytest
import torch

import frostline as fl
from frostline.caching.fill import row_proof
from frostline.caching.store import shard_writer
from helpers_caching import D, Part, fill

N = 64


class Depending(Part):
    """A frozen part whose rows are scaled by something of their batch."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def extract(self, inputs):
        self.samples += len(inputs)
        return (inputs * self.factor(inputs),)


def _column(values):
    return values.float().unsqueeze(1)


COMPANY = {
    "the largest value of the batch": lambda x: 1 / x.abs().max().clamp(min=5),
    "a branch on the batch": lambda x: 0.3 if x.abs().max() > 5 else 1.0,
    "the parity of the place": lambda x: 1 + _column(torch.arange(len(x)) % 2),
    "the first place": lambda x: 1 + _column(torch.arange(len(x)) == 0),
    "the last place": lambda x: 1 + _column(torch.arange(len(x)) == len(x) - 1),
    "the size of the batch": lambda x: float(len(x)),
    "a batch of one": lambda x: 2.0 if len(x) == 1 else 1.0,
    "how many are unusual": lambda x: 1.0 + float((x.abs().amax(1) > 5).sum()),
}


def samples(count=N):
    """The last quarter differs in kind from what came before."""
    x = torch.randn(count, D, generator=torch.Generator().manual_seed(0)).clamp(-2, 2)
    x[3 * count // 4 :] *= 9
    return [(row, 0) for row in x]


@pytest.mark.parametrize("name", COMPANY)
def test_a_row_that_depends_on_its_company_is_never_published(tmp_path, name):
    with pytest.raises(fl.NotCacheable, match="depends on the other samples"):
        fill(tmp_path, Depending(COMPANY[name]), samples(), batch_size=8)
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("count", [1, 2, 3, N])
def test_rows_that_do_not_are_stored_and_the_proof_is_told(tmp_path, count):
    part = Part()
    data = fill(tmp_path, part, samples(count), batch_size=8)
    assert data.figures.computed == count
    assert data.figures.proven > 0


def test_the_proof_costs_two_in_a_hundred_rows_and_a_few(tmp_path):
    part = Part()
    data = fill(tmp_path, part, samples(4000), batch_size=50)
    assert data.figures.proven <= 0.02 * 4000 + 40
    assert part.samples <= 4000 * 1.02 + 60


class Proven(Part):
    """A frozen part that counts the rows that its model computes in a proof, in both modes."""

    is_steered = False

    def prove(self, inputs, features):
        assert torch.equal(features[0], inputs * self.scale)
        self.samples += 2 * len(inputs)

    def check_unchanged(self):
        pass

    def check_weights(self):
        pass


def test_the_passes_of_the_model_are_part_of_the_budget(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_writer, "SHARD_BYTES", 400 * 4 * D)
    part = Proven()
    fill(tmp_path, part, samples(4000), batch_size=50)
    num_steady = 6  # items that are read twice
    assert part.samples <= 4000 * 1.02 + row_proof._COST + num_steady


class DecidingPlace(torch.nn.Module):
    """A place decides for the batch by a value that neither plain nor extreme samples have."""

    def __init__(self, place):
        super().__init__()
        self.low, self.high, self.place = torch.nn.Linear(D, D), torch.nn.Linear(D, 2), place

    def forward(self, x):
        low = torch.nn.functional.linear(x, self.low.weight, self.low.bias)  # not a call that a head could answer
        return self.high(low * 0.5 if ((x[self.place, 0] - 6).abs() < 0.5).any() else low)


@pytest.mark.parametrize("place", [slice(0, 1), slice(1, 2), slice(-1, None)])
def test_one_sample_that_decides_for_its_batch_from_one_place_is_found(tmp_path, place):
    model = DecidingPlace(place)
    fl.freeze(model, modules=[model.low])
    data = [(row, 0) for row in torch.randn(60, D).clamp(-2, 2)]
    data[43][0][0] = 6.0  # neither the first of its batch of eight, nor the second, nor the last
    split = fl.split(model, torch.randn(4, D).clamp(-2, 2))
    assert split.is_steered
    with pytest.raises(fl.FrostlineError):
        fl.FeatureCache(tmp_path).fill(split, data, batch_size=8, progress=False)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_large_rows_are_not_all_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(row_proof, "_MAX_KEPT_BYTES", 3 * 2 * 4 * D)  # three rows, with their inputs
    kept = []
    whole = row_proof.RowProof.offer

    def offer(self, *arguments):
        whole(self, *arguments)
        kept.append((len(self._usual), len(self._unusual), len(self._ends)))

    monkeypatch.setattr(row_proof.RowProof, "offer", offer)
    fill(tmp_path, Part(), samples(), batch_size=8)
    assert kept[-1] == (3, 3, 2)


class Turned(Part):
    """A frozen part that one sample turns, where it is alone in its batch."""

    def __init__(self, is_steered, at=None):
        super().__init__()
        self.is_steered, self.at = is_steered, at

    def extract(self, inputs):
        self.samples += len(inputs)
        is_turned = self.at is not None and len(inputs) == 1 and float(inputs[0, 0]) == self.at
        return (inputs * (3 if is_turned else 2),)

    def prove(self, inputs, features):
        pass

    def check_unchanged(self):
        pass

    def check_weights(self):
        pass


def test_of_a_part_that_values_steer_every_kept_row_is_computed_alone(tmp_path):
    data = [(torch.full((D,), float(at)), 0) for at in [*range(40), 100, 90]]
    proven = [fill(tmp_path / str(steered), Turned(steered), data).figures.proven for steered in (False, True)]
    assert proven[1] > proven[0] + 15
    for at in (100.0, 90.0):  # the two most unusual ones
        with pytest.raises(fl.NotCacheable, match="depends on the other samples"):
            fill(tmp_path / str(at), Turned(True, at), data)


PLAIN = SimpleNamespace(is_steered=False, padding=None)  # stands for the frozen part


def test_a_row_that_is_one_of_many_is_kept_as_often_as_others():
    """Those that stand for the usual ones come from the whole fill."""
    kept = set()
    for seed in range(40):
        proof = row_proof.RowProof(SimpleNamespace(is_steered=False, padding=None), seed)
        proof = row_proof.RowProof(PLAIN, seed)
        for start in range(0, 200, 10):
            x = torch.ones(10, D)
            proof.offer(list(x), x, range(start, start + 10), {"low": x})
        kept.update(row.index for row in proof._usual)
    assert sum(index < 100 for index in kept) > 60
    assert sum(index >= 100 for index in kept) > 60


def test_the_most_unusual_rows_are_kept_whenever_they_come():
    proof = row_proof.RowProof(SimpleNamespace(is_steered=False, padding=None))
    proof = row_proof.RowProof(PLAIN)
    odd = {3, 77, 150, 199}
    for start in range(0, 200, 10):
        x = torch.randn(10, D, generator=torch.Generator().manual_seed(start)).clamp(-2, 2)
        for at in odd & set(range(start, start + 10)):
            x[at - start, at % D] = 50.0
        proof.offer(list(x), x, range(start, start + 10), {"low": x})
    assert odd - {3} <= {row.index for row in proof._unusual}  # the first batch says little of what is usual
    assert [row.index for row in proof._ends] == [0, 199]


class Choosy(Part):
    """A frozen part that takes batches of some sizes only."""

    def __init__(self, takes):
        super().__init__()
        self.takes = takes

    def extract(self, inputs):
        if not self.takes(len(inputs)):
            raise AssertionError("of this size I take none")
        return super().extract(inputs)


def test_a_part_that_takes_pairs_only_is_proven_with_pairs(tmp_path):
    data = fill(tmp_path, Choosy(lambda size: size % 2 == 0), samples(), batch_size=8)
    assert data.figures.proven > 0


def test_a_part_that_takes_one_size_only_is_refused(tmp_path):
    with pytest.raises(fl.NotCacheable, match="takes no batch of 2") as error:
        fill(tmp_path, Choosy(lambda size: size == 8), samples(), batch_size=8)
    assert error.value.received == "AssertionError: of this size I take none"
