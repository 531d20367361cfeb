"""The key of two models is one only if their frozen parts compute the same, wherever the difference lies."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import frostline as fl
from frostline.caching.keys import recipe_key
from frostline.splitting.python_state.kept_state import steered_state
from helpers_splitting import FORWARDS, D, Net, x

CALLS = {
    "tensor(array)": lambda m, h: h.clamp(max=torch.tensor(m.held["a"][0])[0]),
    "as_tensor(array)": lambda m, h: h * torch.as_tensor(m.held["a"][0]),
    "asarray(array)": lambda m, h: h * torch.asarray(m.held["a"][0]),
    "new_tensor(array)": lambda m, h: h * m.low.weight.new_tensor(m.held["a"][0]),
    "compared with a number of NumPy": lambda m, h: torch.where(h > m.number, h * 0, h),
    "a number of NumPy on the left": lambda m, h: m.number * h,
    "roll": lambda m, h: torch.roll(h, m.count, 1),
    "slice": lambda m, h: h * h[:, m.count : m.count + 1],
    "index by an array": lambda m, h: h[:, np.arange(D) - m.count],
    "apply_": lambda m, h: h.clone().apply_(m.function),
    "apply_ with self": lambda m, h: h.clone().apply_(lambda v: min(v, m.limit)),
    "a traced function": lambda m, h: m.traced(h),
    "a traced function in the middle": lambda m, h: m.traced(h + 1) * 2,
    "a scripted module in a list": lambda m, h: m.scripts[0](h),
    "a checkpointed layer": lambda m, h: checkpoint(m.inner, h, use_reentrant=True),
    "a checkpointed function": lambda m, h: checkpoint(lambda v: v.clamp(max=m.limit), h, use_reentrant=True),
    "a branch not taken that calls a script": lambda m, h: h if h.max() < 1e9 else m.traced(h),
    "a branch not taken that reads a number of NumPy": lambda m, h: h if h.max() < 1e9 else h * m.number,
    "a branch not taken of a checkpointed function": lambda m, h: checkpoint(
        lambda v: v if v.max() < 1e9 else v * m.limit, h, use_reentrant=True
    ),
}

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


CALLS |= {
    "a branch not taken that reads a dtype": lambda m, h: h if h.max() < 1e9 else h.to(m.dtype).float(),
    "a branch not taken that reads a range": lambda m, h: h if h.max() < 1e9 else h * len(m.range),
    "a branch not taken that calls a function of torch": lambda m, h: h if h.max() < 1e9 else m.builtin(h),
}


class Clip(nn.Module):
    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return torch.where(h > self.limit, h * 0, h)


class Hiding(nn.Module):
    """A frozen layer, then a call that reads a value from an odd place."""

    def __init__(self, call: Any, value: int) -> None:
        super().__init__()
        self.low, self.inner, self.call = nn.Linear(D, D), nn.Linear(D, D), call
        with torch.no_grad():
            self.inner.bias.fill_(value)
        self.held = {"a": [np.full(D, value, dtype=np.float32)]}
        self.number, self.count, self.limit = np.float32(value), np.int64(value), float(value)
        self.dtype, self.range = (torch.float16, torch.bfloat16)[value - 2], range(value)
        self.builtin = (torch.sin, torch.cos)[value - 2]
        self.function = lambda v: min(v, value)
        self.traced = torch.jit.trace(lambda h: torch.where(h > value, h * 0, h), torch.ones(2, D))
        self.scripts = [torch.jit.script(Clip(value))]

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.call(self, self.low(batch))


def key_of(call: Any, value: int) -> str:
    torch.manual_seed(0)
    model = nn.Sequential(Hiding(call, value), nn.Linear(D, 2))
    fl.freeze(model, modules=[model[0]])
    return recipe_key(fl.split(model, x(4)))


@pytest.mark.filterwarnings("ignore:None of the inputs:UserWarning")
@pytest.mark.parametrize("name", CALLS)
def test_every_argument_of_a_frozen_call_changes_the_key(name):
    call = CALLS[name]
    key = key_of(call, 2)
    assert key_of(call, 2) == key
    assert key_of(call, 3) != key


def test_an_argument_without_content_is_refused():
    lock = threading.Lock()
    with pytest.raises(fl.NotCacheable, match="content cannot be read") as error:
        key_of(lambda m, h: h.clone().apply_(lambda v: v + 0 * lock.locked()), 2)
    assert "lock" in error.value.received
    assert "cache=False" in error.value.do


def test_a_frozen_value_from_another_thread_is_refused():
    def in_thread(m, h):
        made = []
        thread = threading.Thread(target=lambda: made.append(h * m.limit))
        thread.start()
        thread.join()
        return made[0]

    with pytest.raises(fl.NotCacheable, match="cannot be recorded"):
        key_of(in_thread, 2)
    with pytest.raises(fl.NotCacheable, match="cannot be recorded"):
        key_of(lambda m, h: in_thread(m, h) + 1, 2)


def test_a_constant_that_no_call_made_is_known_by_its_values():
    def made_from(value):
        return key_of(lambda m, h: h * torch.from_numpy(m.held["a"][0]), value)

    assert made_from(2) == made_from(2) != made_from(3)


class Passing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, batch):
        return batch

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


def test_an_autograd_function_may_return_its_input():
    model = Net(lambda m, batch: m.high(Passing.apply(F.relu(m.low(batch)))))
    assert fl.split(model, x(4)).recipe == fl.split(model, x(4)).recipe


def test_a_constant_that_follows_the_number_of_samples_alone_is_known_by_its_values():
    def made_from(value):
        return key_of(lambda m, h: h * torch.FloatTensor([m.limit] * len(h)).unsqueeze(1), value)

    assert made_from(2) == made_from(2) != made_from(3)


def test_an_operator_that_is_written_in_python_is_known_by_its_code():
    def scaled(scale):
        @torch.library.custom_op("frostline_test_callog::scaled", mutates_args=())
        def operator(h: torch.Tensor) -> torch.Tensor:
            return h * scale

        return operator

    def key(scale):
        operator = scaled(scale)
        return key_of(lambda m, h: operator(h), 2)

    assert key(1.5) == key(1.5) != key(2.5)


def test_an_operator_whose_code_cannot_be_read_is_refused():
    library = torch.library.Library("frostline_test_callog_hidden", "FRAGMENT")
    library.define("scaled(Tensor h) -> Tensor")
    library.impl("scaled", lambda h: h * 2, "CompositeExplicitAutograd")
    with pytest.raises(fl.NotCacheable, match="content cannot be read") as error:
        key_of(lambda m, h: torch.ops.frostline_test_callog_hidden.scaled(h), 2)
    assert "frostline_test_callog_hidden::scaled" in error.value.received


def test_recipes_follow_the_frozen_weights_and_not_the_head():
    model = Net(FORWARDS["plain"])
    first = dict(fl.split(model, x(4)).recipe)
    with torch.no_grad():
        model.high.weight += 1
    assert dict(fl.split(model, x(3)).recipe) == first
    with torch.no_grad():
        model.low.bias[0] += 1e-6
    assert dict(fl.split(model, x(4)).recipe) != first


def test_weights_that_only_training_reads_are_part_of_the_recipe():
    def forward(m, x):
        return m.high(m.low(x)) + (m.high(m.aside(x)) if m.training else 0)

    model = Net(forward, aside=nn.Linear(D, D))
    fl.freeze(model, modules=[model.low, model.aside])
    before = fl.split(model, x(4)).recipe
    assert fl.split(model, x(4)).recipe == before
    with torch.no_grad():
        model.aside.weight[0, 0] += 1
    assert fl.split(model, x(4)).recipe["calls"] != before["calls"]


class Scaled(torch.autograd.Function):
    factor = 2.0

    @staticmethod
    def forward(ctx, batch):
        return batch * Scaled.factor

    @staticmethod
    def backward(ctx, gradient):
        return gradient


def test_the_body_of_a_frozen_autograd_function_is_part_of_the_recipe(monkeypatch):
    model = Net(lambda m, batch: m.high(Scaled.apply(m.low(batch))))
    before = dict(fl.split(model, x(4)).recipe)
    monkeypatch.setattr(Scaled, "factor", 3.0)
    assert dict(fl.split(model, x(4)).recipe) != before


def test_what_a_later_batch_may_read_is_part_of_the_recipe():
    class Chosen(nn.Module):
        def __init__(self):
            super().__init__()
            self.usual, self.rare, self.scale = nn.Linear(D, D), nn.Linear(D, D), 1.0

        def forward(self, batch):
            return self.usual(batch) if batch.max() < 1e9 else self.rare(batch) * self.scale

    model = Net(
        lambda m, batch: m.high(m.chosen(m.low(batch)) * (1.0 if batch.max() < 1e9 else m.gain)), chosen=Chosen()
    )
    model.chosen.requires_grad_(False)
    model.gain = 1.0
    recipes = [dict(fl.split(model, x(4)).recipe)]
    model.chosen.scale = 2.0
    recipes.append(dict(fl.split(model, x(4)).recipe))
    model.gain = 2.0
    recipes.append(dict(fl.split(model, x(4)).recipe))
    with torch.no_grad():
        model.chosen.rare.weight += 1
    split = fl.split(model, x(4))
    assert len({recipe["calls"] for recipe in (*recipes, split.recipe)}) == 4
    split.check_unchanged()


def test_all_that_a_frozen_layer_keeps_is_told_and_an_iterator_is_not():
    layer = nn.BatchNorm1d(2)
    layer.scale, layer.names, layer.numbers = 1.0, ["a"], iter([1, 2])
    layer.register_buffer("none", None)

    def told():
        return steered_state({"norm": layer}, {}, [])

    found = [told()]
    assert told() == found[0]
    assert not any("numbers" in line or "none" in line for line in found[0])
    changes = (
        lambda: layer.weight.data.add_(1), lambda: layer.running_mean.add_(1), lambda: layer.names.append("b"),
        lambda: setattr(layer, "scale", 2.0),
    )  # fmt: skip
    for change in changes:
        change()
        found.append(told())
    assert len({tuple(lines) for lines in found}) == 5


STEERED = """
import sys
sys.path.insert(0, {tests!r})
import torch
from torch import nn
import frostline as fl
from helpers_splitting import D, Net

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(D, D)

    def forward(self, h, alpha=None, beta=None, gamma=None, delta=None, epsilon=None, zeta=None):
        given = [alpha, beta, gamma, delta, epsilon, zeta]
        return self.layer(h) if h.max() > 1e6 or any(own is not None for own in given) else h * 2

torch.manual_seed(0)
model = Net(lambda m, batch: m.high(m.block(m.low(batch))), block=Block())
model.block.requires_grad_(False)
split = fl.split(model, torch.ones(4, D))
print(split.is_steered, split.recipe["calls"])
"""


def test_the_recipe_of_a_steered_model_is_the_same_in_every_process():
    script, found = STEERED.format(tests=str(Path(__file__).parents[1])), set()
    for seed in ("1", "2", "3"):
        environment = {"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1
    assert found.pop().startswith("True ")
