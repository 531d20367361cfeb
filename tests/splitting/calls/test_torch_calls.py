import operator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from frostline.splitting.calls import torch_calls


def test_functions_and_attributes_have_plain_names():
    assert torch_calls.name_of(F.linear) == "linear"
    assert torch_calls.name_of(Tensor.shape.__get__) == "shape"
    assert torch_calls.name_of(Tensor.requires_grad.__set__) == "requires_grad"
    assert torch_calls.is_setter(Tensor.data.__set__)
    assert not torch_calls.is_setter(Tensor.data.__get__)


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
    assert torch_calls.hands_over(*call(torch.arange(3.0))) is is_handed


def test_what_was_handed_over_is_compared_by_value_or_by_the_content_of_its_tensor():
    x = torch.arange(3.0)
    assert torch_calls.plain_value(5, [x]) == 5
    assert torch_calls.plain_value(x.tolist(), [x]) == "[0.0, 1.0, 2.0]"
    same, other = (torch_calls.plain_value(tensor.numpy(), [tensor]) for tensor in (x.clone(), x + 1))
    assert torch_calls.plain_value(x.numpy(), [x]) == same != other


def test_factories_hold_no_values():
    assert all(map(torch_calls.is_factory, [torch.empty, torch.zeros_like, Tensor.new_ones]))
    assert not torch_calls.is_factory(torch.rand)


def test_calls_read_as_people_write_them():
    x = torch.ones(2)
    assert torch_calls.as_node(Tensor.add, (x, 1), {}) == ("call_function", operator.add, (x, 1))
    assert torch_calls.as_node(Tensor.view, (x, 2), {}) == ("call_method", "view", (x, 2))
    assert torch_calls.as_node(F.gelu, (x,), {})[:2] == ("call_function", F.gelu)
    assert torch_calls.as_node(Tensor.shape.__get__, (x,), {}) == ("call_function", getattr, (x, "shape"))
    assert torch_calls.as_node(Tensor.data.__set__, (x, 5), {}) == ("call_function", setattr, (x, "data", 5))


def test_statistics_of_the_batch_are_seen_in_functions_and_layers():
    x = torch.ones(2)
    assert torch_calls.uses_batch_statistics(F.batch_norm, (x, x, x, None, None, True), {})
    assert torch_calls.uses_batch_statistics(F.batch_norm, (x, x, x), {"training": True})
    assert not torch_calls.uses_batch_statistics(F.batch_norm, (x, x, x), {})
    assert torch_calls.uses_batch_statistics(F.instance_norm, (x, x, x), {})
    assert torch_calls.uses_batch_statistics(torch.instance_norm, (x, None, None, x, x, True, 0.1, 1e-5, False), {})
    assert not torch_calls.uses_batch_statistics(torch.instance_norm, (x, x, x, None, None, True, 0.1, 1e-5, False), {})
    assert not torch_calls.uses_batch_statistics(F.instance_norm, (x,), {})  # each sample by its own
    assert not torch_calls.uses_batch_statistics(F.layer_norm, (x,), {})
    assert torch_calls.is_batch_norm_in_training(nn.BatchNorm1d(2))
    assert not torch_calls.is_batch_norm_in_training(nn.BatchNorm1d(2).eval())


def test_noise_leaves_a_trace_that_can_be_undone():
    before = torch_calls.noise_state()
    first = torch.rand(2)
    assert not torch_calls.is_same_noise(before, torch_calls.noise_state())
    torch_calls.set_noise_state(before)
    assert torch_calls.is_same_noise(before, torch_calls.noise_state())
    assert torch.equal(torch.rand(2), first)


def test_the_users_line_is_quoted():
    line = torch_calls.user_line()
    assert line.startswith("test_torch_calls.py:")
    assert line.endswith("line = torch_calls.user_line()")


@pytest.mark.parametrize(
    ("func", "args", "kwargs", "expected"),
    [
        (F.embedding, (0, 1), {}, False), (F.embedding, (0, 1, None, 1.0), {}, True),
        (F.embedding, (0, 1, None, None), {}, False), (F.embedding, (0, 1), {"max_norm": 2.0}, True),
        (F.embedding, (0,), {"max_norm": 2.0}, False), (F.embedding_bag, (0, 1, None, 2.0), {}, False),
        (F.embedding_bag, (0, 1, None, None, 2.0), {}, True), (F.embedding_bag, (0, 1), {"max_norm": 2.0}, True),
        (F.linear, (0, 1, 2, 3, 4), {"max_norm": 1.0}, False),
    ],
)  # fmt: skip
def test_a_look_up_that_scales_its_weight_is_seen(func, args, kwargs, expected):
    assert torch_calls.renormalises(func, args, kwargs) is expected


def test_what_a_call_is_for_is_known_by_its_name():
    assert torch_calls.asks_for_gradients(Tensor.requires_grad_)
    assert torch_calls.asks_for_gradients(Tensor.requires_grad.__set__)
    assert not torch_calls.asks_for_gradients(Tensor.requires_grad.__get__)
    assert not torch_calls.asks_for_gradients(Tensor.data.__set__)
    assert all(map(torch_calls.converts, [Tensor.item, Tensor.__bool__, Tensor.tolist]))
    assert not torch_calls.converts(Tensor.add)
    assert torch_calls.leaves_torch(Tensor.numpy)
    assert not torch_calls.leaves_torch(Tensor.item)
    assert torch_calls.is_size(Tensor.shape.__get__)
    assert not torch_calls.is_size(Tensor.dtype.__get__)
    assert torch_calls.is_hook(Tensor.register_hook)
    assert not torch_calls.is_hook(Tensor.register_post_accumulate_grad_hook)


def test_a_hook_is_put_where_gradients_flow_and_nowhere_else():
    x, seen = torch.ones(2, requires_grad=True), []
    torch_calls.hook_into(x, seen.append)
    torch_calls.hook_into(torch.ones(2), seen.append)
    x.sum().backward()
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("value", "is_small"),
    [((1,) * 64, True), ((1,) * 65, False), ([[1] * 32, {"a": (None,) * 32}], True),
     ([[1] * 32, {"a": (None,) * 33}], False),
     (slice(1, None, ...), True), ((slice(1, 2),) * 22, False), (object(), False), ("x" * 1000, True),
     ((torch.float32, torch.device("cpu"), torch.ones(9), 1j), True)],
)  # fmt: skip
def test_arguments_that_stand_in_the_code_of_a_graph_are_few(value, is_small):
    assert torch_calls.is_small(value) is is_small


def test_functions_of_a_tensors_own_operators_and_without_a_name_are_kept():
    x = torch.ones(2)
    assert torch_calls.as_node(Tensor.add, (x, 1), {"alpha": 2}) == ("call_method", "add", (x, 1))
    assert torch_calls.as_node(Tensor.__getitem__, (x, 0), {}) == ("call_function", operator.getitem, (x, 0))
    hook = torch_calls.as_node(Tensor.register_hook, (x, print), {})
    assert hook == ("call_function", torch_calls.hook_into, (x, print))

    def unnamed(value):
        return value + 1

    op, target, args = torch_calls.as_node(unnamed, (x,), {})
    assert (op, args) == ("call_function", (unnamed, x))
    assert torch.equal(target(*args), x + 1)


def test_many_values_are_compared_by_the_digest_of_their_tensor():
    many = torch.arange(5000)
    found = torch_calls.plain_value(many.tolist(), [many])
    assert found == torch_calls.plain_value((many + 0).tolist(), [many + 0])
    assert found != torch_calls.plain_value((many + 1).tolist(), [many + 1])
    assert len(str(found)) < 200
    assert torch_calls.plain_value(many.shape, [many]) == (5000,)
    assert torch_calls.plain_value("text", [many]) == "text"


def test_what_cudnn_computes_is_known():
    assert torch_calls.is_rounded_on_gpu(torch.conv2d)
    assert torch_calls.is_rounded_on_gpu(torch._VF.lstm)
    assert not torch_calls.is_rounded_on_gpu(F.linear)


@pytest.mark.parametrize(
    ("func", "args", "expected"),
    [
        (torch.nonzero, (0,), True), (torch.unique, (0,), True), (torch.masked_select, (0, 1), True),
        (torch.repeat_interleave, (0, 1), True), (torch.bincount, (0,), True), (torch.where, (0,), True),
        (torch.where, (0, 1, 2), False), (torch.sort, (0,), False),
        (Tensor.__getitem__, (torch.ones(2), torch.tensor([True, False])), True),
        (Tensor.__getitem__, (torch.ones(2), (0, torch.tensor([1, 0], dtype=torch.uint8))), True),
        (Tensor.__getitem__, (torch.tensor([True, False]), torch.tensor([0, 1])), False),
        (Tensor.__getitem__, (torch.ones(2), slice(1)), False),
    ],
)  # fmt: skip
def test_results_whose_size_follows_values_are_known(func, args, expected):
    assert torch_calls.is_sized_by_values(func, args) is expected


def test_as_many_numbers_as_are_compared_one_by_one():
    x = torch.zeros(4097)
    assert torch_calls.plain_value([0.0] * 4096, [x]) == repr([0.0] * 4096)
    assert torch_calls.plain_value((0.0,) * 4096, [x]) == (0.0,) * 4096
    assert torch_calls.plain_value((0.0,) * 4097, [x]) == torch_calls.plain_value([0.0] * 4097, [x])
    assert torch_calls.plain_value((0.0,) * 4097, [x]) != torch_calls.plain_value((0.0,) * 4097, [x + 1])


def test_what_tensors_hand_to_tensors_is_not_handed_to_python():
    x = torch.ones(2, requires_grad=True)
    handle = x.register_hook(lambda gradient: None)
    for result in (None, NotImplemented, x, (x, [x, None]), handle):
        assert not torch_calls.hands_over(torch.add, result)
    for result in (2, x.shape, (x, 1), [[x, "a"]], object()):
        assert torch_calls.hands_over(torch.add, result)
    assert not torch_calls.hands_over(Tensor.data.__set__, 3)


def test_statistics_that_are_asked_for_by_their_place():
    x = torch.ones(2)
    assert not torch_calls.uses_batch_statistics(F.batch_norm, (x, x, x, None, None, False), {})
    assert not torch_calls.uses_batch_statistics(F.instance_norm, (x, x, x, None, None, False), {})
    assert not torch_calls.uses_batch_statistics(F.instance_norm, (x, x, x), {"use_input_stats": False})
    assert not torch_calls.is_batch_norm_in_training(nn.Dropout())
    assert not torch_calls.is_batch_norm_in_training(nn.InstanceNorm1d(2))
    assert torch_calls.is_batch_norm_in_training(nn.InstanceNorm1d(2, track_running_stats=True))


def test_a_line_without_a_source_is_told_by_its_number():
    names = {"ask": torch_calls.user_line}
    exec(compile("\n\ndef call():\n    return ask()", "/nowhere/model.py", "exec"), names)
    assert names["call"]() == "model.py:4"


def test_a_call_of_the_models_own_code_is_told_from_one_of_torch():
    assert torch_calls.is_of_model()
    names = {"ask": torch_calls.is_of_model}
    exec(compile("def call():\n    return ask()", str(nn.__file__), "exec"), names)
    assert not names["call"]()


def test_a_reversed_operator_and_a_function_that_has_a_name_are_called_by_it():
    x = torch.ones(2)
    assert torch_calls.as_node(Tensor.__rsub__, (x, 1), {}) == ("call_method", "__rsub__", (x, 1))
    assert torch_calls.as_node(F.relu, (x,), {}) == ("call_function", F.relu, (x,))
    assert torch_calls.failure_of(F.relu) == "relu failed"
