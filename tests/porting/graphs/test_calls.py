import pytest
import torch

from frostline.porting.graphs.calls import Call, name_of, names


def call(func, *args, **kwargs):
    return Call(func, func.__name__, args, kwargs, [], [], [], [], 0)


def test_numbers_among_the_arguments():
    assert call(torch.chunk, None, 2, -1).given("dim", 2, 0) == -1
    assert call(torch.chunk, None, 2, dim=1).given("dim", 2, 0) == 1
    assert call(torch.chunk, None, 2).given("dim", 2, 0) == 0
    with pytest.raises(TypeError):
        call(torch.chunk, None, 2, "channels").given("dim", 2, 0)


def test_an_operation_on_sizes_that_no_two_axes_share():
    assert call(torch.permute, None, (0, 2, 1)).on_primes(3).shape == (2, 5, 3)


def test_names_of_functions_and_of_properties():
    assert name_of(torch.Tensor.permute) == "permute"
    assert name_of(torch.Tensor.mT.__get__) == "mT"
    assert names("a  b\n c") == {"a", "b", "c"}
