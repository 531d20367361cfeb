"""What a model may run is found by every way that code is reached in Python."""

import functools
import sys
import types

import pytest
import torch
from torch import nn

from frostline.splitting.proof.reach import hooks_of, reach
from frostline.splitting.python_state.sources import sources_of


def target(value):
    return value


class Inner:
    def run(self, value):
        return target(value)

    def __getitem__(self, value):
        return target(value)


class Static:
    @staticmethod
    def run(value):
        return target(value)

    @property
    def size(self):
        return target(1)


class Block(nn.Module):
    def __init__(self, held=None):
        super().__init__()
        self.layer, self.held = nn.Linear(2, 2), held


def names_of(block):
    reached = reach([own for module in block.modules() for own in sources_of(module)], block.modules())
    assert reached is not None
    return {source.code.co_name for source in reached.sources}


class ByList(Block):
    def forward(self, batch):
        return self.held[0](batch)


class ByMethod(Block):
    def forward(self, batch):
        return self.held[0].run(batch)


class ByItem(Block):
    def forward(self, batch):
        return self.held[0][batch]


class ByProperty(Block):
    def forward(self, batch):
        return batch * self.held[0].size


class ByDefault(Block):
    def forward(self, batch, step=target):
        return step(batch)


class ByText(Block):
    def forward(self, batch):
        return getattr(self, "en" + "code")(batch)

    def encode(self, batch):
        return target(batch)


class ByImport(Block):
    def forward(self, batch):
        from helpers_of_reach import step

        return step(batch)


class Hidden(nn.Module):
    def forward(self, batch):
        return target(batch)


@pytest.mark.parametrize(
    "block",
    [
        ByList([[target]]), ByList([functools.partial(target)]), ByList([Inner().run]), ByList([Hidden()]),
        ByMethod([Inner()]), ByMethod([Static]), ByMethod([types.SimpleNamespace(run=target)]), ByItem([Inner()]),
        ByProperty([Static()]), ByDefault(), ByText(),
    ],
    ids=lambda block: f"{type(block).__name__}-{type((block.held or [None])[0]).__name__}",
)  # fmt: skip
def test_a_function_is_reached(block):
    assert "target" in names_of(block)


def test_a_module_that_is_imported_while_the_code_runs_is_reached(monkeypatch):
    helpers = types.ModuleType("helpers_of_reach")
    helpers.step = target
    monkeypatch.setitem(sys.modules, "helpers_of_reach", helpers)
    block = ByImport()
    reached = reach(sources_of(block), [block])
    assert "target" in names_of(block)
    assert reached.imported == {"helpers_of_reach": helpers}


def test_hooks_are_reached_those_of_weights_too():
    block = ByList([torch.relu])
    assert "target" not in names_of(block)
    block.register_forward_hook(lambda module, inputs, output: None)
    block.layer.weight.register_hook(target)
    assert [table for table, _ in hooks_of(block)] == ["_forward_hooks"]
    assert hooks_of(block.layer) == [("weight", target)]
    assert {"target", "<lambda>"} <= names_of(block)


def test_functions_of_one_code_are_followed_for_what_each_holds():
    def made(step):
        return lambda value: step(value)

    assert "target" in names_of(ByList([made(torch.relu), made(target)]))


def test_more_than_can_be_followed_is_not_followed():
    block = ByList([[] for _ in range(20_001)])
    assert reach(sources_of(block), [block]) is None
