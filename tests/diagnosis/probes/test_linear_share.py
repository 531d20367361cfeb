import torch

from frostline.diagnosis.probes.linear_share import (
    chosen_rows,
    features,
    joined_rows,
    known_answers,
    linear_share,
    readable_inputs,
)

INPUTS = torch.randn(480, 6, generator=torch.Generator().manual_seed(0))
DATA = [(INPUTS[rows], (INPUTS[rows, 0] > 0).long()) for rows in torch.arange(480).split(40)]


def test_what_can_be_read_is_read():
    known = known_answers(DATA)
    assert known.shape == (480, 2)
    assert linear_share(readable_inputs(DATA), known) > 0.9
    assert linear_share(torch.randn(480, 6, generator=torch.Generator().manual_seed(1)), known) < 0.3
    assert linear_share(torch.ones(480, 6), known) == 0.0


def test_words_are_read_as_columns():
    words = [(inputs.gt(0).long(), target) for inputs, target in DATA]
    assert linear_share(readable_inputs(words), known_answers(words)) > 0.9


def test_few_rows_and_other_targets_are_not_known():
    assert known_answers(DATA[:2]) is None
    assert known_answers([(None, torch.zeros(480, 3))]) is None
    assert known_answers([(None, torch.arange(480))]) is None
    assert len(chosen_rows(DATA * 9)) < len(DATA * 9)
    assert chosen_rows([(None, "text")]) == []


def test_many_values_are_summed():
    assert features(torch.randn(5, 3, 300)).shape[1] < 900
    assert joined_rows([torch.zeros(2, 3), None]) is None
    assert joined_rows([torch.zeros(2, 3), torch.zeros(2, 4)]) is None
    assert joined_rows([torch.zeros(2, 3), torch.zeros(1, 3)]).shape == (3, 3)
