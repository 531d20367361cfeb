"""Rows that are computed again in other batches, before they are published."""

import pytest
import torch

import frostline as fl
from frostline.caching import row_proof
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


class Deciding(torch.nn.Module):
    """A place decides for the batch by a value that neither plain nor extreme samples have."""

    def __init__(self, place):
        super().__init__()
        self.low, self.high, self.place = torch.nn.Linear(D, D), torch.nn.Linear(D, 2), place

    def forward(self, x):
        low = self.low(x)
        return self.high(low * 0.5 if ((x[self.place, 0] - 6).abs() < 0.5).any() else low)


@pytest.mark.parametrize("place", [slice(0, 1), slice(1, 2), slice(-1, None)])
def test_one_sample_that_decides_for_its_batch_from_one_place_is_found(tmp_path, place):
    model = Deciding(place)
    fl.freeze(model, modules=[model.low])
    data = [(row, 0) for row in torch.randn(230, D).clamp(-2, 2)]
    data[133][0][0] = 6.0  # neither the first of its batch of eight, nor the second, nor the last
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
