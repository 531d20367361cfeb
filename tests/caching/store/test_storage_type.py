import json
from contextlib import ExitStack
from types import MappingProxyType

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import TensorDataset

import frostline as fl
from frostline.caching.store.manifest import Manifest, _digest, read_newest
from frostline.caching.store.manifest_writer import write_manifest
from frostline.caching.store.mapped_shard import KEYS
from frostline.caching.store.shards import Shards
from frostline.caching.store.storage_type import BOUNDS, Storage
from frostline.core.tolerances import relative_difference

N, D = 40, 6
KINDS = ("float16", "bfloat16", "int8")


def model():
    torch.manual_seed(1)
    own = nn.Sequential(nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Conv2d(5, 2, 3), nn.Flatten())
    fl.freeze(own, through="1")
    return own


def data(scale=1.0):
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(scale * torch.randn(N, 1, D, D, generator=generator), torch.arange(N) % 2)


def filled(root, kind="exact", dataset=None, net=None, **options):
    dataset = dataset or data()
    split = fl.split(net or model(), dataset.tensors[0][:4])
    return fl.FeatureCache(root).fill(split, dataset, progress=False, batch_size=16, storage=kind, **options)


def features(cached):
    return torch.stack([cached[at][0][0] for at in range(len(cached))])


@pytest.mark.parametrize("kind", KINDS)
def test_rounded_rows_are_loaded_in_the_models_dtype_within_the_stated_error(tmp_path, kind):
    exact, rounded = features(filled(tmp_path)), filled(tmp_path, kind)
    loaded = features(rounded)
    assert loaded.dtype == exact.dtype
    assert not torch.equal(loaded, exact)
    errors = [relative_difference(ours, row) for ours, row in zip(loaded, exact, strict=True)]
    assert 0 < max(errors) <= rounded.figures.error * (1 + 1e-6) <= BOUNDS[kind] * (1 + 1e-6)
    batch = next(iter(rounded.loader(N)))[0][0]
    assert torch.equal(batch, loaded)
    assert torch.equal(rounded.part([3, 1])[0][0][0], loaded[3])
    assert any(f"stored as {kind}: 1; largest error" in note for note in rounded.notes)


@pytest.mark.parametrize(("kind", "share"), [("float16", 2), ("bfloat16", 2), ("int8", 3.9)])
def test_a_shard_holds_the_smaller_type_and_is_read_by_safetensors_alone(tmp_path, kind, share):
    net = nn.Sequential(nn.Linear(1000, 1000), nn.Linear(1000, 2))
    fl.freeze(net, through="0")
    dataset = TensorDataset(torch.randn(N, 1000), torch.arange(N) % 2)
    sizes = {own: filled(tmp_path / own, own, dataset, net).figures.bytes for own in ("exact", kind)}
    assert sizes["exact"] / sizes[kind] > 0.9 * share
    (shard,) = (tmp_path / kind).glob("*/shards/*.safetensors")
    held = load_file(shard)
    rows = held["0"].float() * (held["0 scale"] if kind == "int8" else 1)
    assert relative_difference(rows, net[0](dataset.tensors[0])) <= BOUNDS[kind] * 1.01


def test_a_scale_belongs_to_each_channel_of_a_row(tmp_path):
    split = fl.split(model(), data().tensors[0][:4])
    storage = Storage("int8", split)
    rows = torch.randn(3, 5, 4, 4) * torch.tensor([1.0, 10, 100, 0, 1e-3]).view(1, 5, 1, 1)
    stored = storage.rounded_rows({"1": rows}, [0, 1, 2])
    assert stored["1"].dtype == torch.int8
    assert tuple(stored["1 scale"].shape) == (3, 5)
    loaded = storage.loaded("1", stored["1"], stored["1 scale"])
    for channel in range(5):
        own, most = rows[:, channel], rows[:, channel].flatten(1).abs().amax(1).view(3, 1, 1)
        assert bool(((loaded[:, channel] - own).abs() <= most / 254 * (1 + 1e-5)).all())


def test_tokens_have_a_scale_for_each_feature_and_vectors_one(tmp_path):
    class Part:
        recipe = MappingProxyType({"schema": "test"})
        frontier = (fl.FrontierTensor("tokens", (7, 3), torch.float32, 84, False),
                    fl.FrontierTensor("vector", (9,), torch.float64, 72, False))  # fmt: skip

    storage = Storage("int8", Part())
    stored = storage.rounded_rows({"tokens": torch.randn(2, 7, 3), "vector": torch.randn(2, 9).double()}, [0, 1])
    assert tuple(stored["tokens scale"].shape) == (2, 3)
    assert tuple(stored["vector scale"].shape) == (2, 1)
    assert storage.loaded("vector", stored["vector"], stored["vector scale"]).dtype == torch.float64
    assert storage.row_bytes == 21 + 12 + 9 + 4


class Masked(nn.Module):
    """A feature, a mask of the lowest value, and whole numbers cross the line."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.low, self.high = nn.Linear(D, D), nn.Linear(D, 2)
        self.low.requires_grad_(False)

    def forward(self, x, mask):
        h = self.low(x)
        bias = (1 - mask) * torch.finfo(torch.float32).min
        return self.high(torch.softmax(self.high.weight[:1] * h + bias, 1) * h) * h.argmax(1, keepdim=True)


@pytest.mark.parametrize("frozen_pass", [None, "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_numbers_masks_and_inputs_stay_exact(tmp_path, kind, frozen_pass):
    generator = torch.Generator().manual_seed(0)
    x, mask = torch.randn(N, D, generator=generator), (torch.rand(N, D, generator=generator) > 0.4).float()
    items = [((x[at], mask[at]), at % 2) for at in range(N)]

    split = fl.split(Masked(), (x[:4], mask[:4]))
    cached = fl.FeatureCache(tmp_path).fill(split, items, progress=False, storage=kind, frozen_pass=frozen_pass)
    exact, (loaded, _) = split.extract((x, mask)), next(iter(cached.loader(N)))
    for tensor, ours, theirs in zip(split.frontier, loaded, exact, strict=True):
        is_rounded = tensor.name == "low"
        assert torch.equal(ours, theirs) is not is_rounded, tensor.name


def test_values_beyond_the_range_are_refused_with_their_tensor_and_samples(tmp_path):
    dataset = data()
    dataset.tensors[0][7] *= 1e6
    with pytest.raises(fl.DataError, match="beyond the range of the storage type") as error:
        filled(tmp_path, "float16", dataset)
    assert error.value.where == "1, samples 7"
    assert "bfloat16" in error.value.do
    assert filled(tmp_path, "bfloat16", dataset).figures.computed == N
    assert filled(tmp_path, "int8", dataset).figures.computed == N


def test_each_type_has_rows_of_its_own_and_old_rows_stay(tmp_path):
    exact = filled(tmp_path)
    for kind in KINDS:
        assert filled(tmp_path, kind).figures.computed == N
        assert filled(tmp_path, kind).figures.computed == 0
    again = filled(tmp_path)
    assert (again.figures.computed, again.figures.storage, again.figures.error) == (0, "exact", 0.0)
    assert torch.equal(features(again), features(exact))
    entries = {entry.storage: entry for entry in fl.FeatureCache(tmp_path).entries()}
    assert set(entries) == {"exact", *KINDS}
    assert all(0 < entries[kind].error <= BOUNDS[kind] for kind in KINDS)
    assert entries["int8"].cells()[5] == f"int8, error {entries['int8'].error:.1e}"
    assert fl.FeatureCache(tmp_path).verify() == ()


def test_a_manifest_without_a_storage_type_is_one_of_exact_rows(tmp_path):
    filled(tmp_path)
    (folder,) = tmp_path.glob("*/manifests")
    for path in folder.iterdir():
        whole = json.loads(path.read_text())
        for name in ("storage", "error"):
            del whole["content"][name]
        whole["digest"] = _digest(json.dumps(whole["content"], sort_keys=True))
        path.unlink()
        (folder / f"{path.name.split('-')[0]}-{whole['digest'][:16]}.json").write_text(json.dumps(whole))
    assert read_newest(folder)[1].storage == "exact"
    assert filled(tmp_path).figures.computed == 0


@pytest.mark.parametrize("kind", KINDS)
def test_stored_rows_are_proven_again_within_the_error_and_wrong_ones_are_found(tmp_path, kind):
    filled(tmp_path, kind)
    grown = TensorDataset(*(torch.cat([own, own[:3] + (own.is_floating_point() * 1)]) for own in data().tensors))
    more = filled(tmp_path, kind, grown)
    assert (more.figures.computed, more.figures.reused) == (3, N)
    for shard in tmp_path.glob("*/shards/*.safetensors"):
        held = load_file(shard)
        assert held  # the files are whole
    broken = tmp_path / "broken"
    filled(broken, kind)
    _shift(broken, kind)
    with pytest.raises(fl.CacheError, match="not what the model computes today"):
        filled(broken, kind)


def _shift(root, kind):
    """Write the rows of a cache anew, one place further, under a digest that is theirs."""
    (folder,) = (own.parent for own in root.glob("*/shards"))
    manifest = read_newest(folder / "manifests")[1]
    shards = Shards(folder / "shards")
    with ExitStack() as hold:
        for name in manifest.shards:
            held = dict(shards.open(name))
            moved = {own: value if own == KEYS else value.roll(1, 0) for own, value in held.items()}
            new = shards.write(moved, hold)
            write_manifest(folder / "manifests", Manifest(shards=(new,), rows=(len(held[KEYS]),), storage=kind,
                           replaced=((name, (new,)),), tensors=manifest.tensors))  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_views_and_samples_of_differing_length_are_rounded_too(tmp_path, kind):
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(1)
            self.embed, self.mix, self.out = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 2)
            self.embed.requires_grad_(False)
            self.mix.requires_grad_(False)

        def forward(self, ids, mask):
            h = self.mix(self.embed(ids).tanh())
            return self.out((h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))

    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 9, (N,), generator=generator).tolist()
    items = [({"ids": torch.randint(1, 20, (n,), generator=generator), "mask": torch.ones(n)}, n % 2) for n in lengths]

    def pad(rows):
        keys = rows[0][0].keys()
        inputs = {key: nn.utils.rnn.pad_sequence([own[key] for own, _ in rows], batch_first=True) for key in keys}
        return inputs, torch.tensor([target for _, target in rows])

    net = Words()
    split = fl.split(net, pad(items[:1] * 4)[0])
    cached = fl.FeatureCache(tmp_path).fill(split, items, progress=False, batch_size=8, collate_fn=pad, storage=kind)
    exact = fl.FeatureCache(tmp_path).fill(split, items, progress=False, batch_size=8, collate_fn=pad)
    assert cached.figures.bytes < exact.figures.bytes
    for ours, theirs in zip(cached.loader(8), exact.loader(8), strict=True):
        for tensor, a, b in zip(cached.frontier, ours[0], theirs[0], strict=True):
            assert a.shape == b.shape
            if tensor.name.startswith("input."):
                assert torch.equal(a, b)
            else:
                assert relative_difference(a, b) <= BOUNDS[kind] * 1.01


def test_a_type_that_does_not_exist_is_refused(tmp_path):
    for kind in ("int4", None, torch.float16):
        with pytest.raises(fl.DataError, match="not a storage type") as error:
            filled(tmp_path, kind)
        assert "'bfloat16'" in error.value.do


def test_a_plan_is_that_of_the_type(tmp_path):
    filled(tmp_path, "int8")
    split, cache = fl.split(model(), data().tensors[0][:4]), fl.FeatureCache(tmp_path)
    assert cache.plan(split, data(), storage="int8").num_rows == N
    assert cache.plan(split, data()).num_rows == 0


def test_files_of_other_programs_are_no_rows(tmp_path):
    filled(tmp_path, "int8")
    (shard,) = tmp_path.glob("*/shards/*.safetensors")
    held = load_file(shard)
    save_file({name: own for name, own in held.items() if not name.endswith("scale")}, shard)
    again = filled(tmp_path, "int8")
    assert again.figures.computed == N
    assert any("set aside" in note for note in again.notes)


def test_worker_processes_load_rounded_rows(tmp_path):
    cached = filled(tmp_path, "int8")
    loader = torch.utils.data.DataLoader(cached, batch_size=10, num_workers=1, multiprocessing_context="spawn")
    found = torch.cat([rows[0] for rows, _ in loader])
    assert torch.equal(found, features(cached))
