import pytest
import torch
from torch import nn

from frostline.core.errors import DataError, LayerNotFound, PortError
from frostline.porting.plan.port_plan import make_plan
from helpers_porting import numbers, source_of


class Blocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}) for _ in range(2))


UNITS = {f"block_{at}/{name}": {"weight": numbers(4, 4, seed=at), "bias": numbers(4)} for at in range(2)
         for name in ("first", "second")}  # fmt: skip
PATTERNS = {"block_*/first": "blocks.*.b", "block_*/second": "blocks.*.a"}


def pairs(hints):
    plan = make_plan(source_of("torch", UNITS), "file", Blocks(), hints=hints)
    return {step.source.name: step.target.name for step in plan.steps}


def test_a_pattern_pairs_the_layers_whose_names_differ_in_the_same_text():
    assert pairs(PATTERNS) == {
        "block_0/first": "blocks.0.b", "block_1/first": "blocks.1.b", "block_0/second": "blocks.0.a",
        "block_1/second": "blocks.1.a",
    }  # fmt: skip


def test_a_pattern_with_two_places_keeps_their_order():
    with pytest.raises(LayerNotFound, match=r"named 'blocks\.0\.t'"):
        pairs({"block_*/firs*": "blocks.*.*"})


@pytest.mark.parametrize(("hints", "kind", "text"), [
    ({"block_*/first": "blocks.0.a"}, DataError, "the same number of `*`"),
    ({"stage_*/first": "blocks.*.a"}, LayerNotFound, r"No layer of the file matches 'stage_\*/first'"),
    ({"block_*/first": "blocks.*.c"}, LayerNotFound, "The module has no layer with weights named 'blocks.0.c'"),
    ({"block_*/first": "blocks.*.a", "block_0/second": "blocks.0.a"}, DataError, "each layer occurs once"),
    ("block", DataError, "Hints are a mapping"),
])  # fmt: skip
def test_hints_that_name_nothing_are_refused(hints, kind, text):
    with pytest.raises(kind, match=text.replace("*`", r"\*`")):
        pairs(hints)


def test_layers_that_do_not_fit_are_refused():
    module = nn.Sequential(nn.Linear(4, 2), nn.Linear(4, 4))
    units = {
        "x_0": {"weight": torch.zeros(4, 4), "bias": torch.zeros(4)},
        "x_1": {"weight": torch.zeros(2, 4), "bias": torch.zeros(2)},
    }
    with pytest.raises(PortError, match="A hint pairs layers that do not fit"):
        make_plan(source_of("torch", units), "file", module, hints={"x_*": "*"})
