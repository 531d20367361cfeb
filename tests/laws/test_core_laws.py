"""Laws of the ground floor: batching, slicing and moving inputs and back again; what is kept is put back."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from frostline.core import inputs, restore
from frostline.core.collate import collate
from frostline.core.order import epoch_order
from frostline.splitting.parts.frontier import Layout, find_layout, from_rows

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
shapes = st.lists(st.integers(1, 4), max_size=3).map(tuple)


def values(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 100, shape, generator=generator).to(dtype)


tensors = st.builds(values, shapes, st.sampled_from(DTYPES), st.integers(0, 99))


def structures(leaf: Any) -> Any:
    """A tensor, a tuple or a mapping, nested."""
    names = st.sampled_from(["x", "mask", "ids", "extra"])
    return st.recursive(
        leaf,
        lambda part: st.one_of(st.lists(part, min_size=1, max_size=3).map(tuple),
                               st.dictionaries(names, part, min_size=1, max_size=3)),
        max_leaves=5,
    )  # fmt: skip


def is_same(one: Any, other: Any) -> bool:
    """Equal in structure, types, dtypes and bits."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and list(one) == list(other) and all(is_same(one[k], other[k]) for k in one)
    if isinstance(one, (tuple, list)):
        return type(one) is type(other) and len(one) == len(other) and all(map(is_same, one, other))
    return type(one) is type(other) and one == other


def sample_of(batch: Any, at: int) -> Any:
    """One sample without the batch axis."""
    return inputs.map_tensors(inputs.rows(batch, slice(at, at + 1)), lambda x: x[0])


@given(structures(tensors), st.integers(1, 5), st.data())
def test_slicing_a_batch_into_samples_undoes_batching_them(item, count, data):
    samples = [inputs.map_tensors(item, lambda x, at=at: values(x.shape, x.dtype, at)) for at in range(count)]
    batch = collate(samples, range(count))
    assert inputs.batch_size(batch) == count
    assert all(is_same(inputs.map_arrays(sample_of(batch, at)), inputs.map_arrays(samples[at])) for at in range(count))
    order = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=6))
    chosen = inputs.rows(batch, torch.tensor(order))
    assert is_same(chosen, collate([samples[at] for at in order], order))


@given(structures(tensors), st.integers(2, 5))
def test_cutting_a_batch_and_joining_it_is_the_identity(item, count):
    batch = collate([inputs.map_tensors(item, lambda x, at=at: values(x.shape, x.dtype, at))
                            for at in range(count)], range(count))  # fmt: skip
    parts = [inputs.leaves(inputs.rows(batch, slice(at, at + 2))) for at in range(0, count, 2)]
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    assert is_same(joined, inputs.leaves(batch))
    assert is_same(inputs.rows(batch, slice(None)), batch)
    assert is_same(inputs.rows(batch, torch.arange(count)), batch)


@given(structures(tensors))
def test_what_is_shared_is_passed_on_whole(item):
    table = torch.arange(7)
    batch = {"first": torch.zeros(3, 2), "number": torch.tensor(4), "table": table, "more": item}
    assume(all(leaf.dim() == 0 or leaf.shape[0] != 3 for leaf in inputs.leaves(item).values()))
    cut = inputs.rows(batch, slice(0, 2))
    assert cut["first"].shape == (2, 2)
    assert is_same({**cut, "first": 0}, {**batch, "first": 0})


@given(structures(st.one_of(tensors, st.sampled_from(["text", 5, None]))))
def test_moving_there_and_back_and_mapping_by_the_identity_change_nothing(item):
    assert is_same(inputs.move(item, "cpu"), item)
    assert inputs.move(item, None) is item
    assert is_same(inputs.map_tensors(item, lambda x: x), item)
    there = inputs.move(item, "meta")
    assert all(leaf.device.type == "meta" for leaf in inputs.leaves(there).values())
    assert list(inputs.leaves(there)) == list(inputs.leaves(item))
    numbered = dict(enumerate(inputs.leaves(item).values()))
    again = iter(numbered.values())
    assert is_same(inputs.map_tensors(item, lambda x: next(again)), item)


@given(structures(tensors), st.sampled_from(["label", "labels"]), st.booleans())
def test_unpacking_an_item_undoes_pairing_it_with_its_target(item, key, is_kept):
    assert is_same(inputs.unpack((item, 3), 0), (item, 3))
    mapping = {"input": item, key: 3}
    kept = frozenset({key}) if is_kept else frozenset()
    found, target = inputs.unpack(mapping, 0, kept)
    assert (target, key in found) == (3, is_kept)
    assert is_same({**found, key: target}, mapping)


@given(st.integers(0, 60), st.integers(-5, 5), st.integers(0, 9))
def test_an_order_is_a_permutation_and_has_an_inverse(count, seed, epoch):
    order = epoch_order(count, shuffle=True, seed=seed, epoch=epoch)
    assert torch.equal(order.sort().values, torch.arange(count))
    assert torch.equal(torch.arange(count)[order][order.argsort()], torch.arange(count))
    assert torch.equal(order, epoch_order(count, shuffle=True, seed=seed, epoch=epoch))


# What is kept is put back


def model_of(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.2), nn.Linear(3, 2))
    model[0].weight.requires_grad_(False)
    model[1].register_buffer("empty", None)
    for parameter in list(model.parameters())[seed % 3 :: 2]:
        parameter.grad = torch.randn_like(parameter)
    for at, module in enumerate(model):
        module.training = (seed >> at) % 2 == 0
    return model


def modes(model: nn.Module) -> Any:
    return [module.training for module in model.modules()]


def gradients(model: nn.Module) -> Any:
    return [(id(p.grad), p.grad.tolist() if p.grad is not None else None) for p in model.parameters()]


def buffers(model: nn.Module) -> Any:
    return [(name, id(b), b.tolist() if b is not None else None) for m in model.modules() for name, b in
            m._buffers.items()]  # fmt: skip


def parameters(model: nn.Module) -> Any:
    return [(id(p), p.data_ptr(), p.tolist()) for p in model.parameters()]


def generators(_: nn.Module) -> Any:
    numpy = np.random.get_state(legacy=False)["state"]
    return random.getstate(), numpy["pos"], numpy["key"].tobytes(), torch.get_rng_state().tolist()


def draw(_: nn.Module) -> None:
    torch.rand(3), np.random.rand(4), random.random(), random.gauss(0, 1)


def flip(model: nn.Module) -> None:
    for module in model.modules():
        module.training = not module.training


def write_gradients(model: nn.Module) -> None:
    for parameter in model.parameters():
        assert parameter.grad is None
        parameter.grad = torch.ones_like(parameter)


def write_buffers(model: nn.Module) -> None:
    model[1].running_mean.add_(1)
    model[1].running_var = torch.full((3,), 5.0)
    model[1].num_batches_tracked.zero_()


def write_parameters(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(float("nan"))


KEPT = {
    "modes": (restore.kept_modes, modes, flip),
    "gradients": (restore.kept_gradients, gradients, write_gradients),
    "buffers": (restore.kept_buffers, buffers, write_buffers),
    "parameters": (restore.kept_parameters, parameters, write_parameters),
    "generators": (lambda _: restore.kept_generators(), generators, draw),
}


@settings(max_examples=60)
@given(st.sampled_from(sorted(KEPT)), st.integers(0, 31), st.sampled_from([None, KeyError, KeyboardInterrupt]))
def test_what_is_kept_is_put_back_to_the_bit_on_errors_too(name, seed, error):
    keep, state, change = KEPT[name]
    model = model_of(seed)
    before = state(model)
    try:
        with keep(model):
            change(model)
            assert state(model) != before
            if error is not None:
                raise error
    except (KeyError, KeyboardInterrupt):
        pass
    assert state(model) == before


@given(st.lists(st.sampled_from(sorted(KEPT)), min_size=2, max_size=4), st.integers(0, 31))
def test_kept_states_nest(names, seed):
    model = model_of(seed)
    before = {name: KEPT[name][1](model) for name in names}

    def enter(rest: list[str]) -> None:
        if not rest:
            raise ZeroDivisionError
        keep, _, change = KEPT[rest[0]]
        with keep(model):
            change(model)
            enter(rest[1:])

    with pytest.raises(ZeroDivisionError):
        enter(names)
    assert {name: KEPT[name][1](model) for name in names} == before


@given(st.integers(0, 9), st.integers(0, 9))
def test_generators_go_back_to_any_state_they_had(seed, draws):
    restore.seed_generators(seed)
    for _ in range(draws):
        draw(nn.Identity())
    states = restore.generator_states()
    expected = random.random(), np.random.rand(), torch.rand(2).tolist()
    draw(nn.Identity())
    restore.set_generator_states(states)
    assert (random.random(), np.random.rand(), torch.rand(2).tolist()) == expected


# Layouts


@st.composite
def folded(draw: Any) -> tuple[Tensor, Layout, int]:
    """A tensor with the batch somewhere in it, its layout, and the batch size."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    axis, count = draw(st.integers(0, len(shape) - 1)), draw(st.integers(1, 5))
    fold = draw(st.sampled_from([1, 2, 3]))
    shape[axis] = fold * count
    order = draw(st.one_of(st.none(), st.permutations(range(len(shape))).map(tuple)))
    layout = Layout(axis, fold, draw(st.booleans()), order)
    plain = torch.arange(float(np.prod(shape))).view(shape)
    inverse = sorted(range(len(shape)), key=lambda at: (order or range(len(shape)))[at])
    tensor = plain if order is None else plain.permute(order).contiguous().permute(inverse)
    return tensor, layout, count


@settings(max_examples=60)
@given(folded())
def test_a_layout_and_its_inverse_are_the_identity(case):
    tensor, layout, count = case
    rows = layout.to_rows(tensor)
    assert rows.shape[0] == count
    stored = rows.clone(memory_format=torch.contiguous_format)
    back = layout.from_rows(stored)
    assert torch.equal(back, tensor)
    assert torch.equal(from_rows(stored, layout), tensor)
    assert torch.equal(layout.to_rows(back), rows)
    assert not layout.is_plain or torch.equal(rows, tensor)


@settings(max_examples=60)
@given(folded())
def test_the_memory_comes_back_in_the_order_it_had(case):
    tensor, layout, _ = case
    assume(min(tensor.shape) > 1)  # the stride of an axis of one says nothing
    back = layout.from_rows(layout.to_rows(tensor).clone(memory_format=torch.contiguous_format))
    assert back.stride() == tensor.stride()


@settings(max_examples=60)
@given(folded(), st.integers(1, 3))
def test_the_layout_that_is_found_puts_the_same_rows_first(case, more):
    large, layout, count = case
    small_size = max(1, count - more)
    assume(small_size < count)
    rows = layout.to_rows(large)[:small_size]
    small = layout.from_rows(rows.clone(memory_format=torch.contiguous_format))
    found = find_layout(small, large, small_size, count)
    assert found is not None
    assert (found.axis, found.fold) == (layout.axis, layout.fold)
    assert torch.equal(found.to_rows(large)[:small_size], found.to_rows(small))
    assert torch.equal(found.from_rows(found.to_rows(large).contiguous()), large)
    assert found.fold == 1 or small_size == 1 or found.is_batch_major == layout.is_batch_major


def test_a_shared_tensor_is_its_own_row():
    table = torch.randn(3, 2)
    assert Layout(None).to_rows(table) is table
    assert Layout(None).from_rows(table) is table
    assert find_layout(table, table, 2, 4) == Layout(None)
