from frostline.porting.units.forms.tensorflow import renamed
from frostline.porting.units.unit import source_units
from helpers_porting import formed, numbers, source_of


def leaves_of(name, **leaves):
    (unit,) = source_units(source_of("tensorflow", {name: leaves}))
    return {leaf: tensor.shape for leaf, tensor in renamed(unit).leaves.items()}


def test_one_kernel_of_a_cell_is_that_of_its_input_and_that_of_its_state():
    made = leaves_of("rnn/basic_lstm_cell", kernel=numbers(5, 8), bias=numbers(8))
    assert made == {"bias": (8,), "kernel_of_input": (3, 8), "kernel_of_state": (2, 8)}


def test_leaves_of_slim_are_those_of_keras():
    assert leaves_of("fc", weights=numbers(2, 3), biases=numbers(3)) == {"kernel": (2, 3), "bias": (3,)}


def test_matrices_of_tutorials_are_kernels():
    assert leaves_of("fc", W=numbers(2, 3), b=numbers(3)) == {"kernel": (2, 3), "bias": (3,)}
    assert leaves_of("g_h0_lin", Matrix=numbers(2, 3), bias=numbers(3)) == {"kernel": (2, 3), "bias": (3,)}


def test_leaves_that_would_have_one_name_stay_as_they_are():
    assert set(leaves_of("fc", w=numbers(2, 3), kernel=numbers(2, 3))) == {"w", "kernel"}


def test_tables_of_one_scope_are_embeddings_of_their_own():
    tables = {"word_embeddings": numbers(9, 2), "position_embeddings": numbers(4, 2), "bias": numbers(2)}
    made = formed("tensorflow", {"bert/embeddings": tables})
    assert made["bert/embeddings/word_embeddings"] == {"embeddings": (9, 2)}
    assert made["bert/embeddings"] == {"bias": (2,)}
    assert list(formed("keras", {"e": tables})) == ["e"]


def test_gates_and_candidate_of_a_gru_cell_are_one_layer():
    cell = {"rnn/gru_cell/gates": {"kernel": numbers(5, 4), "bias": numbers(4)},
            "rnn/gru_cell/candidate": {"kernel": numbers(5, 2), "bias": numbers(2)}}  # fmt: skip
    assert formed("tensorflow", cell)["rnn/gru_cell"] == {
        "gates_bias": (4,), "candidate_bias": (2,), "gates_of_input": (3, 4), "gates_of_state": (2, 4),
        "candidate_of_input": (3, 2), "candidate_of_state": (2, 2),
    }  # fmt: skip
    assert set(formed("keras", cell)["rnn/gru_cell"]) == {
        f"{p}/{k}" for p in ("gates", "candidate") for k in ("kernel", "bias")
    }
