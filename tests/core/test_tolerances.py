import torch

from frostline.core.tolerances import batch_tolerance, relative_difference


def test_float32_is_as_coarse_as_float16_where_a_gpu_multiplies_in_tf32():
    assert batch_tolerance(torch.float32, is_on_gpu=True) == batch_tolerance(torch.float16, is_on_gpu=False)
    assert batch_tolerance(torch.float64, is_on_gpu=True) < batch_tolerance(torch.float32, is_on_gpu=False)
    assert batch_tolerance(torch.bool, is_on_gpu=True) == 0


def test_differences_are_relative_to_the_largest_value():
    assert relative_difference(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 4.0])) == 0.25
    assert relative_difference(torch.tensor([1.0]), torch.tensor([0.0])) == 1.0
    assert relative_difference(torch.zeros(0), torch.zeros(0)) == 0.0


def test_special_values_are_equal_or_infinitely_far():
    nan, inf = float("nan"), float("inf")
    assert relative_difference(torch.tensor([nan, inf, 1.0]), torch.tensor([nan, inf, 1.0])) == 0.0
    assert relative_difference(torch.tensor([nan, 1.0]), torch.tensor([2.0, 1.0])) == inf
    assert relative_difference(torch.tensor([2.0, 1.0]), torch.tensor([nan, 1.0])) == inf
    assert relative_difference(torch.tensor([inf]), torch.tensor([-inf])) == inf


def test_imaginary_parts_count():
    assert relative_difference(torch.tensor([1 + 1j]), torch.tensor([1 + 0j])) == 1.0


def test_complex_numbers_differ_by_their_modulus_and_infinity_has_no_size():
    assert relative_difference(torch.tensor([3 + 4j, 1j]), torch.tensor([0j, 1j])) == 5.0
    inf = float("inf")
    assert relative_difference(torch.tensor([inf, 3.0]), torch.tensor([inf, 2.0])) == 0.5
    assert relative_difference(torch.tensor([3, 5]), torch.tensor([4, 5])) == 0.2


def test_complex_rows_may_differ_as_their_parts_do():
    assert batch_tolerance(torch.complex64, is_on_gpu=False) == batch_tolerance(torch.float32, is_on_gpu=False)
    assert batch_tolerance(torch.complex128, is_on_gpu=False) == batch_tolerance(torch.float64, is_on_gpu=False)


def test_the_tolerances_are_those_that_were_measured():
    known = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2,
             torch.complex128: 1e-9, torch.complex64: 1e-4, torch.int64: 0.0, torch.bool: 0.0}  # fmt: skip
    assert {dtype: batch_tolerance(dtype, is_on_gpu=False) for dtype in known} == known
    assert {dtype: batch_tolerance(dtype, is_on_gpu=True) for dtype in known} == {**known, torch.float32: 1e-2}
