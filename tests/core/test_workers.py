import os

import pytest
import torch

from frostline.core.errors import DataError
from frostline.core.workers import in_workers


def squared(value):
    if value < 0:
        raise DataError(what="This is negative.", where="here", received=str(value), do="pass another.")
    return value * value, os.getpid()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_results_come_in_the_order_of_the_arguments(num_workers):
    found = list(in_workers(squared, [3, 1, 2, 5], num_workers))
    assert [value for value, _ in found] == [9, 1, 4, 25]
    assert ({process for _, process in found} == {os.getpid()}) is (num_workers == 0)
    assert list(in_workers(squared, [], num_workers)) == []


def test_an_error_keeps_its_four_parts_and_the_generators_do_not_move():
    state = torch.get_rng_state()
    found = in_workers(squared, [2, -1], 1)
    assert next(found)[0] == 4
    with pytest.raises(DataError, match="This is negative") as error:
        next(found)
    assert error.value.do == "pass another."
    assert torch.equal(state, torch.get_rng_state())


def drawn(_):
    return float(torch.rand(()))


def test_the_seed_is_that_of_the_workers():
    first, second, other = (list(in_workers(drawn, [0, 1], 1, seed=seed)) for seed in (1, 1, 2))
    assert first == second != other
