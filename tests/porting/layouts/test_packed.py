import pytest
import torch
from torch import nn

from frostline.porting.layouts.choice import moves
from frostline.porting.layouts.packed import IN_ORDER, from_packed, is_in_order, orders, to_packed
from frostline.porting.units.forms.projections import find_groups, joined
from frostline.porting.units.unit import source_units, target_units
from helpers_porting import numbers, source_of


def test_names_of_pytorch_and_timm_mean_one_after_the_other():
    assert is_in_order("x/attn.qkv")
    assert is_in_order("Wqkv")
    assert not is_in_order("x/query_key_value")


def test_every_order_is_listed_once():
    found = orders((4, 4, 4), [2])
    assert {name: rows[:4].tolist() for name, rows in found.items()} == {
        IN_ORDER: [0, 1, 2, 3], "(heads, 3, d) of 2 heads": [0, 1, 6, 7], "(heads, d, 3) of 2 heads": [0, 3, 6, 9],
    }  # fmt: skip
    assert list(orders((4, 4, 4), [1])) == [IN_ORDER, "(heads, d, 3) of 1 heads"]


def test_heads_of_queries_stand_before_those_of_the_keys_that_they_share():
    found = orders((8, 4, 4), [2])
    assert found["(heads, 3, d) of 2 heads"][:8].tolist() == [0, 1, 2, 3, 8, 9, 10, 11]
    assert len(found) == 2


@pytest.mark.parametrize("name", [IN_ORDER, "(heads, 3, d) of 2 heads", "(heads, d, 3) of 2 heads"])
def test_orders_have_an_inverse(name):
    rows, whole = orders((4, 4, 4), [2])[name], numbers(12, 3)
    there, back = from_packed(name, rows), to_packed(name, rows)
    assert torch.equal(there.inverse(there.forward(whole)), whole)
    assert torch.equal(back.forward(there.forward(whole)), whole)


def packed_into(target, framework, units):
    made = source_units(source_of(framework, units))
    (unit,) = joined(made, find_groups(made))
    (own,) = target_units(nn.Sequential(target))
    return unit, moves(unit, own)


def test_heads_of_flax_are_joined_and_the_source_comes_back():
    units = {f"x/{role}": {"kernel": numbers(6, 2, 3, seed=at), "bias": numbers(2, 3, seed=at)}
             for at, role in enumerate(("query", "key", "value"))}  # fmt: skip
    unit, made = packed_into(nn.Linear(6, 18), "flax", units)
    for move in made:
        given = tuple(unit.leaves[leaf].load() for leaf in move.sources)
        value = move.forward(given, torch.empty(0))
        assert all(torch.equal(one, other) for one, other in zip(given, move.inverse(value, given), strict=True))
    assert torch.equal(made[0].forward(tuple(units[f"x/{one}"]["kernel"] for one in ("query", "key", "value")), value)[
        6:12], units["x/key"]["kernel"].reshape(6, 6).T)  # fmt: skip


def test_layers_that_do_not_fit_the_packed_one_are_none():
    units = {f"x/{role}": {"weight": numbers(4, 6)} for role in "qkv"}
    assert packed_into(nn.Linear(6, 13, bias=False), "torch", units)[1] is None
    assert packed_into(nn.Linear(6, 12, bias=False), "keras", units)[1] is None
    assert packed_into(nn.Linear(6, 12, bias=False), "torch", {**units, "x/q": {"weight": numbers(5)}})[1] is None
    with_bias = {name: {**one, "bias": numbers(4)} for name, one in units.items()}
    assert packed_into(nn.Linear(6, 12, bias=False), "torch", with_bias)[1] is None


def test_projections_under_a_weight_norm_are_not_packed():
    units = {f"x/{role}": {"weight_g": numbers(4, 1), "weight_v": numbers(4, 6)} for role in "qkv"}
    assert packed_into(nn.Linear(6, 12, bias=False), "torch", units)[1] is None
