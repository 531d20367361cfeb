"""Laws of caching: what is stored is what would be computed; the order is a function; a key knows what it must."""

from __future__ import annotations

import copy
import functools
import json
import pickle
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

import frostline as fl
from frostline.caching.keys import item_key, offered_keys, recipe_key
from frostline.caching.store import shard_writer
from frostline.caching.store.shards import Shards
from frostline.core import timing
from laws.networks import plans

D, POOL = 5, 40
INPUTS = torch.randn(POOL, D, generator=torch.Generator().manual_seed(3))
TABLE = torch.tensor([1.0, 2.0, 4.0])


class Part:
    """A frozen part with three outputs: rows of two dtypes, and a shared table; it counts its samples."""

    def __init__(self) -> None:
        self.recipe, self.samples = {"calls": "tanh"}, 0
        self.frontier = (
            fl.FrontierTensor("low", (D,), torch.float32, 4 * D, False),
            fl.FrontierTensor("table", (3,), torch.float32, 0, True),
            fl.FrontierTensor("signs", (D, 1), torch.bool, D, False),
        )

    def extract(self, inputs: Tensor) -> tuple[Tensor, ...]:
        self.samples += len(inputs)
        return inputs.tanh(), TABLE.clone(), (inputs > 0).unsqueeze(2)


def dataset(indices: list[int]) -> TensorDataset:
    """These samples of the pool; a sample's target is its place in the pool."""
    return TensorDataset(INPUTS[indices], torch.tensor(indices))


def fill(root: Path | str, indices: list[int], **options: Any) -> fl.CachedDataset:
    return fl.FeatureCache(root).fill(Part(), dataset(indices), progress=False, **options)


def assert_rows(batch: Any, indices: list[int]) -> None:
    (low, table, signs), target = batch
    assert target.tolist() == indices
    expected = Part().extract(INPUTS[indices])
    for ours, theirs in zip((low, table, signs), expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


small_shards = st.sampled_from([1, 200, 10**9]).map(lambda size: patch.object(shard_writer, "SHARD_BYTES", size))
pool = st.integers(0, POOL - 1)
datasets = st.lists(pool, min_size=1, max_size=30)
batch_sizes = st.integers(1, 9)


@settings(max_examples=25)
@given(datasets, batch_sizes, batch_sizes, small_shards, st.data())
def test_what_is_stored_is_what_would_be_computed(indices, filled, loaded, shards, data):
    with tempfile.TemporaryDirectory() as root, shards:
        cached = fill(root, indices, batch_size=filled)
        assert len(cached) == len(indices)
        for at, batch in enumerate(cached.loader(loaded)):
            assert_rows(batch, indices[at * loaded : (at + 1) * loaded])
        for at, batch in enumerate(DataLoader(cached, batch_size=loaded, collate_fn=lambda items: items)):
            for offset, ((low, table, signs), target) in enumerate(batch):
                assert_rows(((low[None], table, signs[None]), target[None]), [indices[at * loaded + offset]])
        for batch in cached.loader(loaded, shuffle=True):  # rows of several shards in one batch, in any order
            assert_rows(batch, batch[1].tolist())
        at = data.draw(st.integers(-len(indices), len(indices) - 1))
        assert int(cached[at][1]) == indices[at]


@settings(max_examples=15)
@given(st.lists(datasets, min_size=2, max_size=4), batch_sizes, small_shards)
def test_growing_shrinking_repeating_and_reordering_compute_each_sample_once(fills, batch_size, shards):
    known: set[int] = set()
    with tempfile.TemporaryDirectory() as root, shards:
        for indices in fills:
            cached = fill(root, indices, batch_size=batch_size)
            assert cached.figures.samples == len(indices)
            assert cached.figures.computed == len(set(indices) - known)
            assert cached.figures.reused == sum(index in known for index in indices)
            assert_rows(next(iter(cached.loader(len(indices)))), indices)
            known |= set(indices)
        assert [entry.rows for entry in fl.FeatureCache(root).entries()] == [len(known)]
        assert fl.FeatureCache(root).verify() == ()


@settings(max_examples=10)
@given(plans(max_blocks=3), st.integers(1, 9), batch_sizes)
def test_the_rows_of_a_real_split_are_its_features(plan, count, batch_size):
    model = plan.frozen()
    split = fl.split(model, plan.inputs(4))
    batch = plan.inputs(count, seed=1)
    with tempfile.TemporaryDirectory() as root:
        cached = fl.FeatureCache(root).fill(
            split, TensorDataset(batch, torch.arange(count)), batch_size=batch_size, progress=False
        )
        features, target = next(iter(cached.loader(count)))
        again = fl.FeatureCache(root).fill(
            fl.split(copy.deepcopy(model), plan.inputs(3)), TensorDataset(batch, torch.arange(count)), progress=False
        )
    assert again.figures.computed == 0
    assert target.tolist() == list(range(count))
    for ours, theirs in zip(features, split.extract(batch), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


# The loader


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("cache"), list(range(POOL)))


def order_of(cached: fl.CachedDataset, size: int, seed: int, epoch: int, **options: Any) -> list[int]:
    loader = cached.loader(size, shuffle=True, seed=seed, **options)
    loader.epoch = epoch
    return [index for _, target in loader for index in target.tolist()]


seeds = st.integers(-3, 2**31)
epochs = st.integers(0, 1000)


@given(st.integers(1, POOL + 3), st.integers(1, POOL), seeds, epochs)
def test_the_order_is_a_permutation_that_seed_and_epoch_alone_choose(cached, size, other_size, seed, epoch):
    order = order_of(cached, size, seed, epoch)
    assert sorted(order) == list(range(POOL))
    assert order == order_of(cached, other_size, seed, epoch)
    assert order != order_of(cached, size, seed, epoch + 1)
    assert order != order_of(cached, size, seed + 1, epoch)
    assert order_of(cached, size, seed, epoch, drop_last=True) == order[: POOL // size * size]


@given(st.integers(1, 12), seeds, epochs, st.integers(0, 3), st.data())
def test_a_loader_resumes_at_any_batch_with_the_same_rest(cached, size, seed, epoch, passes, data):
    loader = cached.loader(size, shuffle=True, seed=seed)
    loader.epoch = epoch
    for _ in range(passes):
        list(loader)
    broken = data.draw(st.integers(0, len(loader)))
    iterator = iter(loader)
    for _ in range(broken):
        next(iterator)
    state = json.loads(json.dumps(loader.state_dict()))
    rest = [target.tolist() for _, target in iterator]
    following = [target.tolist() for _, target in loader]
    resumed = cached.loader(size, shuffle=True, seed=data.draw(seeds))
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    for expected in [rest, following] if broken < len(loader) else [following]:
        batches = list(resumed)
        assert [target.tolist() for _, target in batches] == expected
        for batch in batches:
            assert_rows(batch, batch[1].tolist())


# The recipe key


MEAN, SCALE = torch.tensor([0.5]), 2.0


@dataclass
class Recipe:
    """Everything that a frozen part is made of, and some that it is not."""

    slope: float = 0.1
    eps: float = 1e-5
    weight: float = 0.0
    running_mean: float = 0.0
    mean: float = 0.5
    factor: float = 2.0
    dtype: torch.dtype = torch.float32
    power: int = 1
    cut: str = "norm"
    precision: str = "highest"
    number: float = 1.0
    table: float = 1.0
    shift: int = 0
    capped: float = 9.0
    traced: float = 9.0
    checkpointed: float = 9.0
    head: float = 0.0
    examples: int = 4
    example_seed: int = 0
    training: bool = True
    tracked: int = 0
    note: str = ""

    def key(self) -> str:
        """The recipe key of this split."""
        torch.manual_seed(0)
        model = Preprocessed(self)
        fl.freeze(model, through=self.cut)
        model.train(self.training).to(self.dtype)
        x = torch.randn(self.examples, D, generator=torch.Generator().manual_seed(self.example_seed)).to(self.dtype)
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.precision)
        try:
            return recipe_key(fl.split(model, x))
        finally:
            torch.set_float32_matmul_precision(before)


class Preprocessed(nn.Module):
    """Deterministic preprocessing, frozen layers, and a head."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.low, self.mid, self.act = nn.Linear(D, D), nn.Linear(D, D), nn.LeakyReLU(recipe.slope)
        self.norm = nn.BatchNorm1d(D, eps=recipe.eps)
        self.number, self.shift = np.float32(recipe.number), np.int64(recipe.shift)
        self.table = {"rows": [np.full(D, recipe.table, dtype=np.float32)]}
        self.capped = functools.partial(min, recipe.capped)
        self.traced = torch.jit.trace(lambda x: x.clamp(max=recipe.traced), torch.ones(2, D))
        self.checkpointed = lambda x: x.clamp(max=recipe.checkpointed)
        self.middle, self.high = nn.Linear(D, D), nn.Linear(D, 2)
        self.mean, self.factor, self.power, self.note = (
            torch.tensor(recipe.mean),
            recipe.factor,
            recipe.power,
            recipe.note,
        )
        with torch.no_grad():
            self.mid.weight[1, 2] += recipe.weight
            self.norm.running_mean[0] += recipe.running_mean
            self.norm.num_batches_tracked += recipe.tracked
            self.high.weight += recipe.head
            self.high.bias -= recipe.head

    def forward(self, x: Tensor) -> Tensor:
        x = ((x - self.mean) * self.factor).to(x.dtype)
        x = torch.roll(x * self.number * torch.tensor(self.table["rows"][0]).to(x.dtype), self.shift, 1)
        x = self.traced(x.clone().apply_(self.capped))
        x = checkpoint(self.checkpointed, x, use_reentrant=True)
        for _ in range(self.power):
            x = self.act(self.mid(self.low(x)))
        return self.high(self.middle(self.norm(x)))


small = st.sampled_from([1e-6, -1e-6, 1.0, 3.5])
FIELDS = {
    "slope": st.sampled_from([0.1000001, 0.2]), "eps": st.sampled_from([1e-6, 1e-3]), "weight": small,
    "running_mean": small, "mean": st.sampled_from([0.4, 0.5000001]), "factor": st.sampled_from([2.0000001, 1.0]),
    "dtype": st.sampled_from([torch.float64, torch.bfloat16]), "power": st.sampled_from([2, 3]),
    "cut": st.just("middle"), "precision": st.just("high"), "number": st.sampled_from([1.0000001, 2.0]),
    "table": st.sampled_from([1.0000001, 2.0]), "shift": st.integers(1, D - 1),
    "capped": st.sampled_from([9.0000001, 2.0]), "traced": st.sampled_from([9.0000001, 2.0]),
    "checkpointed": st.sampled_from([9.0000001, 2.0]),
}  # fmt: skip
OTHERS = {
    "head": small, "examples": st.integers(2, 7), "example_seed": st.integers(1, 9), "training": st.just(False),
    "tracked": st.integers(1, 9), "note": st.text(min_size=1, max_size=3),
}  # fmt: skip


PLAIN = functools.cache(lambda: Recipe().key())  # a split of its own for each of 60 comparisons would show nothing more


def one_of(fields: dict[str, Any]) -> Any:
    return st.sampled_from(sorted(fields)).flatmap(lambda name: fields[name].map(lambda value: {name: value}))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "ignore:None of the inputs:UserWarning")
@settings(max_examples=15)
@given(one_of(FIELDS), one_of(OTHERS))
def test_every_field_of_a_recipe_changes_its_key_and_nothing_else_does(field, other):
    changed = Recipe(**field).key()
    assert changed != PLAIN()
    assert Recipe(**other).key() == PLAIN()
    assert Recipe(**field, **other).key() == changed


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning", "ignore:None of the inputs:UserWarning")
@pytest.mark.parametrize("name", FIELDS)
def test_no_field_is_forgotten(name):
    changed = {"slope": 0.3, "eps": 1e-4, "weight": 1e-6, "running_mean": 1e-6, "mean": 0.25, "factor": 3.0,
               "dtype": torch.float64, "power": 2, "cut": "middle", "precision": "high", "number": 1.5, "table": 1.5,
               "shift": 1, "capped": 8.0, "traced": 8.0, "checkpointed": 8.0}  # fmt: skip
    assert Recipe(**{name: changed[name]}).key() != PLAIN()


@given(st.data())
def test_what_is_stored_is_part_of_the_key(data):
    part, other = Part(), Part()
    at = data.draw(st.integers(0, 2))
    entry = part.frontier[at]
    name, value = data.draw(st.sampled_from([("name", "x"), ("shape", (9,)), ("dtype", torch.float16),
                                             ("shared", not entry.shared)]))  # fmt: skip
    other.frontier = tuple(
        fl.FrontierTensor(**{**vars_of(entry), name: value}) if number == at else same
        for number, same in enumerate(part.frontier)
    )
    assert recipe_key(other) != recipe_key(part)
    other.frontier, other.recipe = part.frontier, {**part.recipe, "calls": "tanh "}
    assert recipe_key(other) != recipe_key(part)
    other.recipe = dict(reversed(list(part.recipe.items())))
    assert recipe_key(other) == recipe_key(part)


def vars_of(entry: fl.FrontierTensor) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in ("name", "shape", "dtype", "bytes_per_sample", "shared")}


@settings(max_examples=15)
@given(datasets, st.randoms(use_true_random=False), batch_sizes)
def test_folders_order_and_size_of_the_dataset_are_not_in_the_key(indices, random, batch_size):
    shuffled = random.sample(indices, random.randint(1, len(indices)))
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        folders = [
            Path(fill(root, chosen, batch_size=size).figures.path).name
            for root, chosen, size in ((one, indices, batch_size), (one, shuffled, 3), (other, shuffled, 32))
        ]
        names = [sorted(path.name for path in Path(root).iterdir()) for root in (one, other)]  # fmt: skip
    assert len(set(folders)) == 1
    assert names[0] == names[1] == [folders[0]]


# The sample key


leaves = st.one_of(
    st.integers(-3, 3), st.floats(allow_nan=False, width=16), st.booleans(), st.text(max_size=2), st.none(),
    st.builds(lambda v, d: torch.tensor(v).to(d), st.lists(st.integers(0, 3), max_size=3),
              st.sampled_from([torch.float32, torch.int64, torch.uint8, torch.bfloat16])),
    st.lists(st.integers(0, 3), max_size=3).map(lambda v: torch.tensor(v, dtype=torch.int16).numpy()),
)  # fmt: skip
items = st.recursive(leaves, lambda part: st.one_of(st.lists(part, max_size=3).map(tuple),
                                                    st.dictionaries(st.text(max_size=2), part, max_size=3)),
                     max_leaves=4)  # fmt: skip


def written(value: Any) -> Any:
    """A text that two items share only if they are the same."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key!r}:{written(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, tuple):
        return "(" + ",".join(map(written, value)) + ",)"
    if isinstance(value, Tensor):
        return f"{value.dtype}{tuple(value.shape)}{value.tolist()}"
    return f"{type(value).__name__}{getattr(value, 'shape', '')}{value!r}"


@settings(max_examples=150)
@given(st.one_of(leaves, items), st.one_of(leaves, items))
@example({"a": {}, "b": 1}, {"a": {"b": 1}})
@example({"a": 1, "b": 2}, {"aint 1key b": 2})
def test_two_items_have_one_key_only_if_they_are_the_same(one, other):
    assert item_key(one, 0) == item_key(copy.deepcopy(one), 7)
    assert (item_key(one, 0) == item_key(other, 0)) == (written(one) == written(other))


SAME_SIZE = {torch.float32: torch.int32, torch.int64: torch.float64, torch.uint8: torch.int8,
             torch.bfloat16: torch.int16}  # fmt: skip


def relatives(item: Any) -> list[Any]:
    """Items that are almost the same: other types over the same bytes, other shapes, names and nesting."""
    if isinstance(item, Tensor):
        return [item, item.view(SAME_SIZE[item.dtype]), item.unsqueeze(0), item.unsqueeze(1), item.numpy(force=True)
                if item.dtype != torch.bfloat16 else item.float(), (item,), {"": item}]  # fmt: skip
    if isinstance(item, dict):
        renamed = [{f"{key}'": value for key, value in item.items()}, dict.fromkeys(item, item)]
        return [item, tuple(item.values()), *renamed, *({**item, key: ()} for key in item)]
    if isinstance(item, tuple):
        return [item, (item,), (*item, ()), item[:-1], item[::-1], *({"": part} for part in item)]
    return [item, (item,), str(item), {str(item): item}, {"": item}]


@settings(max_examples=80)
@given(st.one_of(leaves, items))
def test_relatives_of_an_item_have_keys_of_their_own(item):
    found = [(written(other), item_key(other, 0)) for other in relatives(item)]
    assert len({key for _, key in found}) == len({text for text, _ in found})


class Offering:
    def __init__(self, fingerprint: str, key: bytes) -> None:
        self.fingerprint, self.key = fingerprint, key

    def __len__(self) -> int:
        return 2

    def sample_key(self, index: int) -> bytes:
        return self.key


texts, keys = st.text(max_size=4), st.binary(max_size=4)


def every_key(data):
    return [key for _, part in offered_keys(data) for key in part]


@given(texts, texts, keys, keys)
def test_an_offered_key_is_bound_to_its_preprocessing(one, other, key, other_key):
    first, second = every_key(Offering(one, key))[0], every_key(Offering(other, other_key))[1]
    assert (first == second).all() == ((one, key) == (other, other_key))


@given(st.text("ab", min_size=1, max_size=4), st.data())
def test_the_border_between_preprocessing_and_key_counts(text, data):
    borders = [data.draw(st.integers(0, len(text))) for _ in range(2)]
    found = {every_key(Offering(text[:border], text[border:].encode()))[0].tobytes() for border in borders}
    assert len(found) == len(set(borders))


# Damage


@settings(max_examples=25)
@given(datasets, small_shards, st.data())
def test_a_shard_with_one_flipped_bit_is_never_served(indices, shards, data):
    with tempfile.TemporaryDirectory() as root, shards:
        whole = fill(root, indices)
        files = sorted(Path(root).glob("*/shards/*.safetensors"))
        victim = files[data.draw(st.integers(0, len(files) - 1))]
        content = bytearray(victim.read_bytes())
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        victim.chmod(0o600)
        victim.write_bytes(content)
        with pytest.raises(fl.CacheError, match="damaged or missing"):
            dict(Shards(victim.parent).open(victim.name))  # the digest is compared before the first row is given out
        assert any(victim.name in problem for problem in fl.FeatureCache(root).verify())
        elsewhere = pickle.loads(pickle.dumps(whole))  # as a worker process opens it
        if victim.name in elsewhere._gatherer.names:
            with pytest.raises(fl.CacheError, match="damaged or missing"):
                list(elsewhere.loader(4))
        mended = fill(root, indices)
        assert any(victim.name[:12] in note for note in mended.notes)  # which says that its rows were computed anew
        assert (victim.parent.parent / "set-aside" / victim.name).read_bytes() == content
        assert_rows(next(iter(mended.loader(len(indices)))), indices)
        assert fl.FeatureCache(root).verify() == ()


@settings(max_examples=25)
@given(datasets, st.data())
def test_a_manifest_with_one_flipped_bit_costs_work_and_never_rows(indices, data):
    still = SimpleNamespace(perf_counter=lambda: 0.0)  # a time that was measured would make files of other lengths
    with tempfile.TemporaryDirectory() as root, patch.object(timing, "time", still):
        fill(root, indices)
        files = sorted(Path(root).glob("*/manifests/*.json"))
        victim = data.draw(st.sampled_from([files[-1], *files]))
        content = bytearray(victim.read_bytes())
        start = content.index(b'"rows":[')
        figures = [at for at in range(start, content.index(b"]", start)) if chr(content[at]).isdigit()]
        at = data.draw(st.one_of(st.integers(0, len(content) - 1), st.sampled_from(figures or [start])))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
        victim.write_bytes(content)
        try:
            again = fill(root, indices)
        except fl.CacheError as error:
            assert "newer version" in error.what  # the bit made format 1 a later one
            return
        assert_rows(next(iter(again.loader(len(indices)))), indices)
        assert [entry.rows for entry in fl.FeatureCache(root).entries()] == [len(set(indices))]
