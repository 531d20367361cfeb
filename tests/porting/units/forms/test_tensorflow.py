from frostline.porting.units.forms.tensorflow import renamed
from frostline.porting.units.units import source_units
from helpers_porting import numbers, source_of


def leaves_of(name, **leaves):
    (unit,) = source_units(source_of("tensorflow", {name: leaves}))
    return {leaf: tensor.shape for leaf, tensor in renamed(unit).leaves.items()}


def test_one_kernel_of_a_cell_is_that_of_its_input_and_that_of_its_state():
    made = leaves_of("rnn/basic_lstm_cell", kernel=numbers(5, 8), bias=numbers(8))
    assert made == {"bias": (8,), "kernel_of_input": (3, 8), "kernel_of_state": (2, 8)}


def test_leaves_of_slim_are_those_of_keras():
    assert leaves_of("fc", weights=numbers(2, 3), biases=numbers(3)) == {"kernel": (2, 3), "bias": (3,)}
