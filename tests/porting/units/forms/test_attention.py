import pytest
from torch import nn

from frostline.porting.units.forms.attention import is_packed
from frostline.porting.units.unit import source_units, target_units
from helpers_porting import formed, numbers, source_of

SQUARE = {"weight": numbers(2, 2), "bias": numbers(2)}
MODULE = nn.MultiheadAttention(2, 1)


def test_projections_by_their_usual_names_are_one_attention():
    bert = {f"layer/0/{part}": SQUARE for part in ("self/query", "self/key", "self/value", "output/dense")}
    assert "output/weight" in formed("torch", bert, MODULE)["layer/0"]
    assert len(formed("torch", bert, nn.Linear(2, 2))) == 4


def test_a_second_layer_of_the_same_shapes_beside_them_may_be_the_one_that_is_meant():
    doubtful = {f"layer/0/{part}": SQUARE for part in ("query", "key", "value", "output", "intermediate")}
    assert len(formed("torch", doubtful, MODULE)) == 5


def test_whether_query_key_and_value_are_one_matrix_in_the_file():
    targets = target_units(nn.Sequential(MODULE))
    assert is_packed(source_units(source_of("torch", {"qkv": {"weight": numbers(6, 2)}})), targets)
    assert not is_packed(source_units(source_of("torch", {"q": {"weight": numbers(2, 2)}})), targets)


def test_the_layers_of_the_perceptron_in_bert_are_no_doubles_of_the_last_projection():
    bert = {f"layer/0/{part}": SQUARE for part in ("query", "key", "value", "dense", "intermediate", "output")}
    assert set(formed("torch", bert, MODULE)) == {"layer/0", "layer/0/intermediate", "layer/0/output"}


@pytest.mark.parametrize(
    "recurrent",
    [
        {"gru": {"kernel": numbers(8, 24), "recurrent_kernel": numbers(8, 24)}},
        {"gru/cell/dense_i": {"kernel": numbers(8, 24)}, "gru/cell/dense_h": {"kernel": numbers(8, 24)}},
        {"gru": {"weight_ih_l0": numbers(24, 8), "weight_hh_l0": numbers(24, 8)}},
    ],
)
def test_three_gates_of_a_recurrent_layer_are_no_packed_attention(recurrent):
    targets = target_units(nn.ModuleList([nn.MultiheadAttention(8, 2), nn.GRU(8, 8)]))
    units = source_units(source_of("flax", recurrent))
    assert not is_packed(units, targets)
    assert is_packed(source_units(source_of("flax", {**recurrent, "qkv": {"kernel": numbers(8, 24)}})), targets)
