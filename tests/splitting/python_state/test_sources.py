import contextlib
import functools

import pytest
import torch
from torch import nn

from frostline.core.code_names import loaded, loaded_arguments, nested
from frostline.splitting.python_state.sources import (
    Source,
    catches,
    names_read_by,
    names_written_by,
    reached_from,
    returns_nothing,
    sources_of,
    stored,
    stored_elsewhere,
    texts_as_names,
    with_callees,
)

REGISTRY = {"twice": lambda layer: layer.of_registry}


def _typed(step):
    try:
        return step()
    except ValueError:
        return None


def _bare(step):
    try:
        return step()
    except:  # noqa: E722
        return None


def _suppressed(step):
    with contextlib.suppress(ValueError):
        step()


def _finally(step):
    try:
        step()
    finally:
        step()


def _with(step):
    with step:
        step()


@pytest.mark.parametrize(("function", "expected"), [(_typed, True), (_bare, True), (_suppressed, True),
                                                    (_finally, False), (_with, False)])  # fmt: skip
def test_code_that_handles_errors_is_told_from_code_that_passes_them_on(function, expected):
    assert catches(function.__code__) is expected


class Helper:
    def __call__(self):
        return self.of_call

    def step(self):
        return self.of_step

    def unused(self):
        return self.of_unused


class Layer(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
        self.helper = Helper()

    def forward(self, batch):
        self.written = self._prepared(batch)
        self.calls += 1
        return self.helper() + self.helper.step() + REGISTRY["twice"](self)

    def _prepared(self, batch):
        return batch * self.of_method


def test_names_are_followed_into_methods_helpers_and_registries():
    sources = with_callees(sources_of(Layer()), [Layer()])
    names = {name for source in sources for name in loaded(source.code)}
    assert {"of_method", "of_call", "of_step", "of_registry"} <= names
    assert not names & {"of_unused", "calls"}
    assert "written" in names_written_by([nn.Sequential(Layer())])
    assert stored(Layer.forward.__code__) == {"written", "calls"}


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, batch):
        return batch * Doubled.of_function


class Described:
    def __get__(self, owner, kind=None):
        return owner.of_descriptor

    def __repr__(self):
        return self.of_text


class Made(type):
    @property
    def of_kind(cls):
        return cls.of_metaclass


class Kinds(metaclass=Made):
    @classmethod
    def step(cls):
        return cls.of_class_method


OBJECTS = {"helper": Helper(), "nested": [Helper]}


class Reaching(nn.Module):
    described = Described()

    def forward(self, batch):
        return Doubled.apply(batch) * self.described * Kinds.of_kind * Kinds.step() * OBJECTS["helper"].step()


def test_methods_that_python_calls_unnamed_are_followed():
    sources = sources_of(Reaching())
    wide, narrow = reached_from(sources, [Reaching()])[0], with_callees(sources, [Reaching()])
    names, by_name = ({name for source in own for name in loaded(source.code)} for own in (wide, narrow))
    assert {"of_function", "of_descriptor", "of_metaclass", "of_class_method", "of_step"} <= names
    assert "of_text" not in names
    assert by_name < names
    assert {"of_descriptor", "of_metaclass"}.isdisjoint(by_name)


def test_names_of_attributes_that_code_builds_are_texts():
    code = (lambda layer, at: getattr(layer, f"scale_{at}")).__code__
    assert list(texts_as_names(code)) == ["scale_"]
    assert not list(texts_as_names((lambda layer: {"scale": layer}).__code__))


def test_arguments_that_code_only_adds_to_are_not_read():
    def logging(value, log=[], *, scale=[1.0], shown=[]):  # noqa: B006
        log.append(value)
        return value * scale[0] + sum(inner for inner in (lambda: shown)())

    assert {"value", "scale", "shown"} <= loaded_arguments(logging.__code__)
    assert "log" not in loaded_arguments(logging.__code__)


def test_closures_and_default_arguments_are_known_as_they_are_now():
    factor = 3.0

    def scaled(value, power=[2]):  # noqa: B006
        return value * factor ** power[0]

    source = Source.of_function(scaled)
    assert dict(source.closure) == {"factor": 3.0}
    assert source.defaults == {"power": [2]}
    factor = 4.0
    assert source.closure["factor"] == 4.0


def test_what_a_loss_reads_is_found_in_functions_and_modules():
    class Loss(nn.Module):
        def forward(self, output, target):
            return output.of_output

    assert "of_output" in names_read_by(Loss())
    assert "of_output" in names_read_by(lambda output, target: output.of_output)
    assert not names_read_by("cross_entropy")


def test_inner_functions_belong_to_the_code():
    def outer():
        def inner():
            return REGISTRY

        return inner

    assert [code.co_name for code in nested(outer.__code__)] == ["outer", "inner"]


def _looking(seen, module, gradients):
    seen.append(gradients)


class Looking:
    def __call__(self, module, gradients):
        self.seen = gradients


def _sometimes(module, gradients):
    return gradients if module else None


def test_a_function_that_returns_nothing_cannot_change_what_it_is_given():
    assert returns_nothing(lambda module, gradients: None)
    assert not returns_nothing(_sometimes)
    assert returns_nothing(functools.partial(_looking, []))
    assert not returns_nothing(functools.partial(_sometimes, 1))
    assert returns_nothing(Looking())
    assert not returns_nothing(nn.Linear(2, 2).forward)
    assert not returns_nothing(print)  # not known


class Timed(nn.Linear):
    def train(self, mode=True):
        return super().train(mode)


def test_a_call_begins_with_forward_hooks_and_train():
    layer = Timed(2, 2)
    assert [source.code.co_name for source in sources_of(layer)] == ["train"]  # forward is torch's own
    assert sources_of(layer, has_train=False) == []

    def own_forward(batch):
        return batch

    def before(module, inputs):
        return None

    def after(module, inputs, output):
        return None

    layer.forward = own_forward
    layer.register_forward_pre_hook(before)
    layer.register_forward_hook(after)
    assert {source.code.co_name for source in sources_of(layer)} == {"train", "own_forward", "before", "after"}


class _Marks:
    def __init__(self, value):
        self.own = value

    def write(self, value):
        self.own = functools.marked = _Marks.shared = value
        del self.gone, contextlib.gone


def test_what_code_writes_on_others_is_told_from_its_own_attributes():
    code = _Marks.write.__code__
    assert stored(code) == {"own", "marked", "shared", "gone"}
    assert stored_elsewhere(code) == {"marked", "shared", "gone"}
    assert not stored_elsewhere(_Marks.__init__.__code__)
