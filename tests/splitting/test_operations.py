import operator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frostline.splitting import operations


def test_functions_and_attributes_have_plain_names():
    assert operations.name_of(F.linear) == "linear"
    assert operations.name_of(Tensor.shape.__get__) == "shape"
    assert operations.name_of(Tensor.requires_grad.__set__) == "requires_grad"
    assert operations.is_setter(Tensor.data.__set__)
    assert not operations.is_setter(Tensor.data.__get__)


@pytest.mark.parametrize(
    ("call", "is_handed"),
    [
        (lambda x: (Tensor.__bool__, bool(x[0])), True),
        (lambda x: (Tensor.item, x[0].item()), True),
        (lambda x: (Tensor.__repr__, repr(x)), True),
        (lambda x: (Tensor.untyped_storage, x.untyped_storage()), True),
        (lambda x: (Tensor.shape.__get__, x.shape), True),
        (lambda x: (torch.equal, torch.equal(x, x)), True),
        (lambda x: (Tensor.dtype.__get__, x.dtype), False),
        (lambda x: (Tensor.add, x + 1), False),
        (lambda x: (Tensor.max, x.view(1, 3).max(1)), False),
    ],
)
def test_whatever_is_no_tensor_is_handed_over_unless_it_is_known_to_hold_no_values(call, is_handed):
    assert operations.hands_over(*call(torch.arange(3.0))) is is_handed


def test_what_was_handed_over_is_compared_by_value_or_by_the_content_of_its_tensor():
    x = torch.arange(3.0)
    assert operations.plain_value(5, [x]) == 5
    assert operations.plain_value(x.tolist(), [x]) == "[0.0, 1.0, 2.0]"
    same, other = (operations.plain_value(tensor.numpy(), [tensor]) for tensor in (x.clone(), x + 1))
    assert operations.plain_value(x.numpy(), [x]) == same != other


def test_factories_hold_no_values():
    assert all(map(operations.is_factory, [torch.empty, torch.zeros_like, Tensor.new_ones]))
    assert not operations.is_factory(torch.rand)


def test_calls_read_as_people_write_them():
    x = torch.ones(2)
    assert operations.as_node(Tensor.add, (x, 1), {}) == ("call_function", operator.add, (x, 1))
    assert operations.as_node(Tensor.view, (x, 2), {}) == ("call_method", "view", (x, 2))
    assert operations.as_node(F.gelu, (x,), {})[:2] == ("call_function", F.gelu)
    assert operations.as_node(Tensor.shape.__get__, (x,), {}) == ("call_function", getattr, (x, "shape"))
    assert operations.as_node(Tensor.data.__set__, (x, 5), {}) == ("call_function", setattr, (x, "data", 5))


def test_statistics_of_the_batch_are_seen_in_functions_and_layers():
    x = torch.ones(2)
    assert operations.uses_batch_statistics(F.batch_norm, (x, x, x, None, None, True), {})
    assert operations.uses_batch_statistics(F.batch_norm, (x, x, x), {"training": True})
    assert not operations.uses_batch_statistics(F.batch_norm, (x, x, x), {})
    assert operations.uses_batch_statistics(F.instance_norm, (x,), {})
    assert not operations.uses_batch_statistics(F.layer_norm, (x,), {})
    assert operations.is_batch_norm_in_training(nn.BatchNorm1d(2))
    assert not operations.is_batch_norm_in_training(nn.BatchNorm1d(2).eval())


def test_noise_leaves_a_trace_that_can_be_undone():
    before = operations.noise_state()
    first = torch.rand(2)
    assert not operations.is_same_noise(before, operations.noise_state())
    operations.set_noise_state(before)
    assert operations.is_same_noise(before, operations.noise_state())
    assert torch.equal(torch.rand(2), first)


def test_the_users_line_is_quoted():
    line = operations.user_line()
    assert line.startswith("test_operations.py:")
    assert line.endswith("line = operations.user_line()")


def test_what_cudnn_computes_is_known():
    assert operations.is_rounded_on_gpu(torch.conv2d)
    assert operations.is_rounded_on_gpu(torch._VF.lstm)
    assert not operations.is_rounded_on_gpu(F.linear)
