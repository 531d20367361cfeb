"""Caches under URLs, on a store in memory."""

import fsspec
import pytest
import torch
from torch.utils.data import Subset

import frostline as fl
from helpers_caching import Masked, MaskedPart, N, Part, dataset


@pytest.fixture
def url(tmp_path):
    """The address of a store of its own."""
    address = f"memory://{tmp_path.name}/features"
    yield address
    fsspec.filesystem("memory").rm(f"/{tmp_path.name}", recursive=True)


@pytest.fixture
def machine(tmp_path):
    """machine(n): the folder for copies of the n-th machine."""
    return lambda number: tmp_path / f"machine-{number}"


def fill(url, folder, part=None, data=None, **options):
    cache = fl.FeatureCache(url, local_folder=folder)
    return cache.fill(part or Part(), dataset() if data is None else data, progress=False, **options)


def check_rows(data, samples=N):
    own = dataset(samples)
    for at in range(samples):
        assert torch.equal(data[at][0][0], own[at][0] * 2)


def objects(url):
    files, root = fsspec.url_to_fs(url)
    return sorted(path.removeprefix(root) for path in files.find(root))


def test_another_machine_gets_every_row(url, machine):
    assert fill(url, machine(1)).figures.computed == N
    part = Part()
    data = fill(url, machine(2), part)
    assert (data.figures.computed, data.figures.reused, part.samples) == (0, N, 16)  # golden rows alone
    check_rows(data)
    assert data.figures.path.startswith(url)


def test_an_emptied_folder_of_copies_costs_fetching_only(url, machine):
    import shutil

    fill(url, machine(1))
    shutil.rmtree(machine(1))
    data = fill(url, machine(1))
    assert data.figures.computed == 0
    check_rows(data)


def test_what_grows_on_two_machines_is_the_union(url, machine):
    fill(url, machine(1), data=Subset(dataset(), range(25)))
    assert fill(url, machine(2), data=Subset(dataset(), range(15, N))).figures.computed == N - 25
    assert fill(url, machine(3)).figures.computed == 0


def test_inputs_for_the_head_come_along(url, machine):
    fill(url, machine(1), MaskedPart(), Masked())
    data = fill(url, machine(2), MaskedPart(), Masked())
    assert data.figures.computed == 0
    own = Masked()
    assert torch.equal(data[3][0][1], own[3]["mask"])


def test_ls_verify_forget_prune_and_purge(url, machine):
    cache = fl.FeatureCache(url, local_folder=machine(1))
    assert (cache.entries(), cache.verify(), repr(cache)) == ((), (), f"FeatureCache({url!r})")
    fill(url, machine(1))
    other = fl.FeatureCache(url, local_folder=machine(2))
    assert [(entry.rows, entry.bytes > 0) for entry in other.entries()] == [(N, True)]
    assert other.verify() == ()
    before = {name for name in objects(url) if "/shards/" in name}
    assert other.forget(Subset(dataset(), range(5))) == 5
    assert not before & set(objects(url))
    assert fill(url, machine(1)).figures.computed == 5
    assert len(cache.prune(max_bytes=0).evicted) == 1
    assert (cache.entries(), objects(url)) == ((), [])
    assert fill(url, machine(1)).figures.computed == N
    assert cache.purge() > 0
    assert objects(url) == []
