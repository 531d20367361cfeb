import pytest
import torch

from frostline.porting.units.forms.projections import (
    divide,
    find_biases,
    find_groups,
    joined,
    plain,
    roles_of,
    select_rows,
)
from frostline.porting.units.unit import source_units
from helpers_porting import numbers, source_of


def units_of(**leaves):
    return source_units(source_of("torch", {name.replace("__", "/"): one for name, one in leaves.items()}))


@pytest.mark.parametrize(
    ("name", "roles"),
    [
        ("h/0/attn/c_attn", 3), ("blocks.0.attn.qkv", 3), ("x/query_key_value", 3), ("x/Wqkv", 3), ("x/to_kv", 2),
        ("x/W_pack", 3), ("x/in_proj", 3), ("x/qkv_proj", 3), ("x/attn", 0), ("x/query", 0), ("x/pack", 0),
    ],
)  # fmt: skip
def test_names_of_packed_layers_say_what_they_hold(name, roles):
    assert len(roles_of(name)) == roles


@pytest.mark.parametrize("names", [
    ("q", "k", "v"), ("q_proj", "k_proj", "v_proj"), ("wq", "wk", "wv"), ("to_q", "to_k", "to_v"),
    ("queryDense", "keyDense", "valueDense"), ("q_lin", "k_lin", "v_lin"),
])  # fmt: skip
def test_projections_that_differ_by_one_word_belong_together(names):
    found = find_groups(units_of(**{f"x__{name}": {"weight": numbers(2, 2)} for name in names}))
    ((parts),) = found.values()
    assert [part.name for part in parts.values()] == [f"x/{name}" for name in names]
    (made,) = joined(list(parts.values()), found)
    assert set(made.leaves) == {"query/weight", "key/weight", "value/weight"}


def test_projections_of_two_attentions_or_of_other_endings_do_not():
    assert not find_groups(
        units_of(x__q={"weight": numbers(2)}, y__k={"weight": numbers(2)}, x__v={"weight": numbers(2)})
    )
    assert not find_groups(
        units_of(x__q={"weight": numbers(2)}, x__k_norm={"w": numbers(2)}, x__v={"weight": numbers(2)})
    )


def test_names_of_onnx_have_another_separator_and_an_operator_behind_them():
    assert plain("/layer.0/attn/q_proj/MatMul_1") == "layer/0/attn/q_proj"


def test_parts_of_a_packed_layer_are_its_rows_in_whatever_order():
    whole = {"weight": numbers(6, 4), "bias": numbers(6)}
    (unit,) = units_of(x__qkv=whole)
    parts = divide(unit, ("query", "key", "value"), (2, 2, 2), 0, {})
    assert [part.name for part in parts] == ["x/query", "x/key", "x/value"]
    assert torch.equal(parts[1].leaves["bias"].load(), whole["bias"][2:4])
    other = select_rows(parts[1], torch.tensor([0, 3, 1, 4, 2, 5]))
    assert torch.equal(other.leaves["weight"].load(), whole["weight"][[1, 4]])
    assert other.leaves["weight"].shape == (2, 4)
    assert other.leaves["weight"].name == "x/qkv/weight[key]"


def test_a_matrix_of_gpt2_is_turned_as_its_parts_no_longer_have_its_name():
    (unit,) = units_of(x__c_attn={"weight": numbers(2, 6)})
    parts = divide(unit, ("query", "key", "value"), (2, 2, 2), 1, {})
    assert torch.equal(parts[2].leaves["weight"].load(), numbers(2, 6)[:, 4:].T)


def test_biases_of_beit_stand_beside_the_matrix():
    units = units_of(x__qkv={"weight": numbers(6, 2)}, x={"q_bias": numbers(2), "v_bias": numbers(2, seed=1)})
    biases, holder = find_biases(units[0], units)
    assert holder == "x"
    parts = divide(units[0], ("query", "key", "value"), (2, 2, 2), 0, biases)
    assert [set(part.leaves) for part in parts] == [{"weight", "bias"}, {"weight"}, {"weight", "bias"}]
