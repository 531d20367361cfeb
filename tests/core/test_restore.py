import collections
import copy
import random
import traceback

import numpy as np
import pytest
import torch
from torch import nn

from frostline.core import restore


def test_what_is_kept_is_put_back_on_errors_too():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[0].weight.grad = torch.ones(2, 2)
    gradient, state = model[0].weight.grad, copy.deepcopy(model.state_dict())
    torch.manual_seed(4)
    expected = (torch.rand(2), np.random.rand(), random.random())
    torch.manual_seed(4)
    np.random.seed(0)
    random.seed(0)
    expected = (torch.rand(2), np.random.rand(), random.random())
    torch.manual_seed(4)
    np.random.seed(0)
    random.seed(0)
    with pytest.raises(ZeroDivisionError), restore.kept_generators(), restore.kept_modes(model), \
            restore.kept_gradients(model), restore.kept_buffers(model), restore.kept_parameters(model):  # fmt: skip
        model.eval()
        torch.rand(3), np.random.rand(), random.random()
        model[0].weight.data += 1
        model[1].running_mean = torch.ones(2)
        assert model[0].weight.grad is None
        raise ZeroDivisionError
    assert model[0].training
    assert model[0].weight.grad is gradient
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.rand(2), expected[0])
    assert (np.random.rand(), random.random()) == expected[1:]


@pytest.mark.parametrize("is_training", [True, False])
def test_modules_that_came_in_meanwhile_get_the_mode_of_the_model(is_training):
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train(is_training)
    model[1].train(not is_training)
    with restore.kept_modes(model):
        model[0] = nn.Sequential(model[0], nn.BatchNorm1d(2).train(not is_training))
    assert [module.training for module in (model, model[0], model[0][0], model[0][1])] == [is_training] * 4
    assert model[1].training is not is_training


def test_kept_attributes_puts_back_caches_and_leaves_numbers_if_asked():
    model = nn.Sequential(nn.Linear(2, 2))
    layer = model[0]
    layer.cache, layer.seen, layer.calls, layer.stash = {"a": 1}, [1, 2], 0, None
    cache, seen = layer.cache, layer.seen
    for numbers in (False, True):
        with restore.kept_attributes(model, numbers=numbers):
            layer.cache["b"] = 2
            layer.seen.append(3)
            layer.calls += 1
            layer.stash = layer.other = torch.ones(1)
            layer.eval()
        assert (layer.cache, layer.seen) == ({"a": 1}, [1, 2])
        assert layer.cache is cache
        assert layer.seen is seen
        assert layer.stash is None
        assert not hasattr(layer, "other")
        assert layer.calls == 1
        assert not layer.training
        layer.calls = 1


def test_plain_kernels_are_put_back_on_errors_too():
    was = torch.backends.cudnn.enabled, torch.backends.cuda.flash_sdp_enabled()
    with pytest.raises(ZeroDivisionError), restore.plain_kernels():
        assert not torch.backends.cudnn.enabled
        assert not torch.backends.cuda.flash_sdp_enabled()
        raise ZeroDivisionError
    assert (torch.backends.cudnn.enabled, torch.backends.cuda.flash_sdp_enabled()) == was


@pytest.mark.skipif(
    torch.accelerator.current_accelerator() is not None, reason="torch has to know no device but the CPU: its CPU build"
)
def test_where_no_device_can_start_no_stack_is_noted_for_one(monkeypatch):
    noted = []
    monkeypatch.setattr(traceback, "format_stack", lambda *_: noted.append(1) or [])
    torch.manual_seed(3)
    expected = torch.rand(2)
    assert noted
    noted.clear()
    with restore.kept_generators():
        restore.seed_generators(3)
        assert torch.equal(torch.rand(2), expected)
        assert torch.initial_seed() == 3
    assert not noted


def test_kept_attributes_takes_away_what_came_in_and_puts_containers_back_as_they_were():
    model = nn.Sequential(nn.Linear(2, 2))
    layer = model[0]
    layer.kept, layer.order, layer.marks = {"a": 1, "b": 2}, collections.deque([1, 2]), {1}
    layer.text, layer.gone = "old", object()
    kept, order, marks, gone = layer.kept, layer.order, layer.marks, layer.gone
    with restore.kept_attributes(model, numbers=False):
        layer.came, layer.text = None, "new"
        del layer.gone
        layer.kept.update(c=3, a=5)
        layer.order.append(3)
        layer.marks.add(2)
        layer.order, layer.marks = collections.deque(), set()
    assert not hasattr(layer, "came")
    assert (layer.text, layer.gone) == ("old", gone)
    assert (layer.kept, list(layer.order), layer.marks) == ({"a": 1, "b": 2}, [1, 2], {1})
    assert (layer.kept is kept, layer.order is order, layer.marks is marks) == (True, True, True)


def test_a_mapping_in_another_order_is_put_back_in_its_own():
    model = nn.Linear(2, 2)
    model.kept = {"a": 1, "b": 2}
    with restore.kept_attributes(model, numbers=True):
        model.kept["a"] = model.kept.pop("a")
    assert list(model.kept) == ["a", "b"]


def test_plain_ambient_is_as_in_a_fresh_process_and_goes_away_again():
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
            with restore.plain_ambient():
                x = torch.ones(2, 2, requires_grad=True)
                assert (x.dtype, x.device.type, torch.is_grad_enabled()) == (torch.float32, "cpu", True)
                assert not x.is_inference()
                assert (x @ x).dtype == torch.float32
                assert not torch.is_autocast_enabled("cpu")
            assert torch.get_default_dtype() == torch.float64
            assert torch.is_autocast_enabled("cpu")
            assert torch.is_inference_mode_enabled()
            assert torch.zeros(1).is_meta
            with restore.plain_ambient(torch.float64):
                assert torch.ones(1).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 1])
def test_all_generators_are_seeded(seed):
    restore.seed_generators(seed)
    first = (random.random(), np.random.rand(), float(torch.rand(())))
    restore.seed_generators(seed)
    assert (random.random(), np.random.rand(), float(torch.rand(()))) == first
    restore.seed_generators(seed + 1)
    other = (random.random(), np.random.rand(), float(torch.rand(())))
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_the_second_normal_number_of_a_pair_is_drawn_too():
    restore.seed_generators(0)
    np.random.randn()
    before = restore.generator_states()
    assert restore.drawn_generator(before) is None
    np.random.randn()  # no bits move
    assert restore.drawn_generator(before) == "numpy"


def test_a_module_has_its_class_and_a_weight_its_count_of_writes_again():
    class Other(nn.Linear):
        pass

    model = nn.Linear(2, 2)
    writes = model.weight._version
    with restore.kept_attributes(model, numbers=True), restore.kept_parameters(model), torch.no_grad():
        model.__class__ = Other
        model.weight.add_(1)
    assert type(model) is nn.Linear
    assert model.weight._version == writes


def test_frozen_parameters_and_missing_buffers_are_left_alone():
    model = nn.BatchNorm1d(2)
    model.register_buffer("none", None)
    model.bias.requires_grad_(False)
    mean = model.running_mean
    with restore.kept_parameters(model), restore.kept_buffers(model):
        model.bias.data.fill_(3)
        model.weight.data.fill_(3)
        model.running_mean = torch.ones(2)
        model.num_batches_tracked.add_(1)
    assert (model.bias.tolist(), model.weight.tolist()) == ([3, 3], [1, 1])
    assert model.running_mean is mean
    assert (mean.tolist(), int(model.num_batches_tracked)) == ([0, 0], 0)


def test_a_buffer_that_a_call_has_resized_gets_its_size_back():
    model = nn.Linear(2, 2)
    model.register_buffer("least", torch.tensor([]))
    least = model.least
    with restore.kept_buffers(model):
        model.least.resize_(3).fill_(1.0)  # as an observer of a quantisation does
    assert model.least is least
    assert least.shape == (0,)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit
def test_a_module_without_a_mode_keeps_none_in_the_way():
    model = nn.Sequential(torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Linear(2, 2)).eval())), nn.Linear(2, 2))
    with restore.kept_modes(model):
        model.eval()
    assert model.training


def test_modules_that_were_compiled_in_place_run_as_written_and_are_compiled_again_afterwards():
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    calls = []
    model[0]._compiled_call_impl = lambda x: calls.append(1) or x
    model[1].compile(backend="eager")
    kept = model[0]._compiled_call_impl, model[1]._compiled_call_impl
    with pytest.raises(ZeroDivisionError), restore.plain_calls(model):
        model(torch.ones(1, 2))
        assert not calls
        raise ZeroDivisionError
    assert (model[0]._compiled_call_impl, model[1]._compiled_call_impl) == kept
    model[0](torch.ones(1, 2))
    assert calls == [1]


def test_the_default_dtype_comes_back_on_errors_too():
    with pytest.raises(ZeroDivisionError), restore.default_dtype(torch.float64):
        assert torch.ones(1).dtype == torch.float64
        raise ZeroDivisionError
    assert torch.get_default_dtype() == torch.float32


class Record:
    def __init__(self):
        self.text, self.count = "a", 1


@pytest.mark.parametrize("numbers", [True, False])
def test_objects_that_hold_values_are_put_back(numbers):
    model = nn.Linear(2, 2)
    model.record = Record()
    with restore.kept_attributes(model, numbers=numbers):
        model.record.text, model.record.count, model.record.came = "b", 2, "new"
    assert model.record.text == "a"
    assert not hasattr(model.record, "came")
    assert model.record.count == (1 if numbers else 2)


def test_seeds_that_share_their_last_bits_are_others():
    drawn = []
    for seed in (7, 7 + 64, 7 + 2**16, 7 + 2**31):
        restore.seed_generators(seed)
        drawn.append((random.random(), np.random.rand(), float(torch.rand(()))))
    for numbers in zip(*drawn, strict=True):
        assert len(set(numbers)) == 4


def test_containers_that_were_empty_are_emptied_and_functions_keep_what_they_count():
    def counting():
        return None

    model = nn.Linear(2, 2)
    model.seen, model.table, model.marks, model.queue = [], {}, set(), collections.deque()
    model.step, counting.calls = counting, 0
    with restore.kept_attributes(model, numbers=True):
        model.seen.append(1)
        model.table["a"] = 1
        model.marks.add(1)
        model.queue.append(1)
        counting.calls = 1
    assert (model.seen, model.table, model.marks, list(model.queue)) == ([], {}, set(), [])
    assert counting.calls == 1
    model.seen.append(1)
    with restore.kept_attributes(model, numbers=True):
        model.seen.clear()
    assert model.seen == [1]


def test_a_model_may_be_run_and_is_as_it_was():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    model[1].eval()
    state, modes = torch.get_rng_state(), [module.training for module in model.modules()]
    with restore.undisturbed(model):
        assert not model.training
        model[0].running_mean += 1
        model.seen = torch.rand(2)
    assert torch.equal(model[0].running_mean, torch.zeros(2))
    assert not hasattr(model, "seen")
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    with torch.autocast("cpu"), restore.undisturbed(model):
        assert not torch.is_autocast_enabled("cpu")


def test_of_a_head_the_state_of_the_model_it_was_split_from_is_put_back_too():
    model, head = nn.BatchNorm1d(2), nn.Linear(2, 2)
    model.calls = 0
    object.__setattr__(head, "bound_model", model)
    with restore.kept_modes(head), restore.kept_buffers(head), restore.kept_attributes(head, numbers=True):
        model.eval()
        model.calls, model.running_mean = 1, torch.ones(2)
    assert (model.calls, model.training) == (0, True)
    assert torch.equal(model.running_mean, torch.zeros(2))


def test_only_tensors_that_are_written_are_copied_and_put_back():
    one, view, untouched = torch.ones(2), torch.zeros(2, 3), torch.ones(2)
    before = untouched._version
    with pytest.raises(KeyError), restore.kept_if_written([one, view, untouched]):
        one.lerp_(torch.zeros(2), 0.5)
        one.data.mul_(3)
        torch._foreach_add_([view.data[0]], 1.0)
        torch.add(untouched, 1)
        raise KeyError
    assert one.tolist() == [1, 1]
    assert not view.any()
    assert untouched._version == before
