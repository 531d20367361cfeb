import pytest
import torch
from torch import nn

from frostline.core.norms import entries, gradient_norms, separate_norms


def with_gradient(*values, dtype=torch.float32):
    parameter = nn.Parameter(torch.zeros(len(values), dtype=dtype))
    parameter.grad = torch.tensor(values, dtype=dtype)
    return parameter


def test_norms_are_aligned_and_missing_gradients_left_out():
    a, b, c = with_gradient(3.0, 4.0), nn.Parameter(torch.zeros(2)), with_gradient(12.0, dtype=torch.float64)
    measured = gradient_norms([a, b, c, a])
    assert measured.parameters[0] is a
    assert measured.parameters[1] is c
    assert measured.norms.tolist() == [5.0, 12.0]
    assert float(measured.total) == 13.0
    assert measured.total.dtype == torch.float64


def test_no_gradient_at_all_is_zero():
    assert float(gradient_norms([nn.Parameter(torch.zeros(2))]).total) == 0.0
    assert gradient_norms(nn.Parameter(torch.zeros(2))).norms.shape == (0,)


def test_half_precision_is_summed_in_float32():
    assert 1.1e5 < float(gradient_norms(with_gradient(*[6e4] * 4, dtype=torch.float16)).total) < 1.3e5


def test_complex_and_sparse_gradients_count():
    assert float(gradient_norms(with_gradient(3 + 4j, dtype=torch.complex64)).total) == 5.0
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1, 1, 2])).sum().backward()
    assert float(gradient_norms(table.weight).total) ** 2 > 9.99  # row 1 was met twice: (2, 2), (1, 1)


def test_one_precise_gradient_makes_all_norms_precise():
    halves, doubles = with_gradient(3.0, 4.0, dtype=torch.float16), with_gradient(1e200, dtype=torch.float64)
    measured = gradient_norms([halves, doubles])
    assert measured.norms.dtype == torch.float64
    assert measured.norms.tolist() == [5.0, 1e200]
    assert gradient_norms([halves, with_gradient(12.0)]).norms.dtype == torch.float32


def test_a_sparse_gradient_is_coalesced_for_good_or_left_as_it_is():
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1, 1, 2])).sum().backward()
    assert not table.weight.grad.is_coalesced()
    separate_norms([table.weight], coalesces=False)
    assert not table.weight.grad.is_coalesced()
    gradient_norms(table.weight)
    assert table.weight.grad.is_coalesced()


def test_entries_share_the_memory_of_the_gradient():
    complex_one, none = with_gradient(3 + 4j, dtype=torch.complex64), nn.Parameter(torch.zeros(2))
    assert entries(complex_one).tolist() == [[3.0, 4.0]]
    entries(complex_one).mul_(2)
    assert complex_one.grad.tolist() == [6 + 8j]
    assert entries(none).numel() == 0
    table = nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1, 1, 2])).sum().backward()
    entries(table.weight).zero_()
    assert float(table.weight.grad.to_dense().abs().sum()) == 0.0


def test_what_does_not_fit_float32_fits_the_dtype_that_is_asked_for():
    parameter = with_gradient(1e25, 0.0)
    assert not torch.isfinite(gradient_norms(parameter).total)
    assert float(gradient_norms(parameter, dtype=torch.float64).total) == float(parameter.grad[0])


def test_norms_of_half_precision_have_float32_and_an_own_dtype_that_is_asked_for():
    for dtype in (torch.float16, torch.bfloat16):
        assert gradient_norms(with_gradient(3.0, 4.0, dtype=dtype)).norms.dtype == torch.float32
        assert gradient_norms(with_gradient(3.0, 4.0, dtype=dtype), dtype=torch.float64).norms.dtype == torch.float64
    assert gradient_norms(with_gradient(3.0, 4.0)).norms.dtype == torch.float32


def test_gradients_that_are_differentiable_themselves_give_plain_numbers():
    weight = torch.ones(2, requires_grad=True)
    (weight.grad,) = torch.autograd.grad((weight**3).sum(), weight, create_graph=True)
    measured = gradient_norms(weight)
    assert not measured.total.requires_grad
    assert float(measured.total) ** 2 == pytest.approx(18.0)
    weight.grad = None


def test_norms_of_complex_gradients_are_real():
    parameters = [with_gradient(3 + 4j, dtype=kind) for kind in (torch.complex64, torch.complex128)]
    assert [gradient_norms(one).norms.dtype for one in parameters] == [torch.float32, torch.float64]
    assert gradient_norms(parameters).norms.tolist() == [5.0, 5.0]
