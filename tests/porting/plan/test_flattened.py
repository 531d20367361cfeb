from torch import nn

from frostline.porting.graphs.target_graph import Flat, Flow
from frostline.porting.plan.flattened import ways
from frostline.porting.plan.plan import make_plan
from helpers_porting import numbers, source_of

STEP = make_plan(source_of("keras", {"u": {"kernel": numbers(12, 5)}}), "file", nn.Sequential(nn.Linear(12, 5))).steps[
    0
]


def num_ways(flat, framework="keras", *, has_maps=True):
    flow = Flow({}, {"0": flat} if flat else {})
    return [way.moves[0].text() for way in ways(STEP, flow, framework, has_maps=has_maps)]


def test_what_the_shape_before_tells():
    assert "channels" in num_ways(Flat((3, 2, 2), 3))[0]
    assert num_ways(Flat((2, 2, 3), 3)) == ["(in, out) to (out, in)"]
    assert len(num_ways(Flat((2, 3, 2), 2))) == 2
    assert len(num_ways(Flat((), 0))) == 2
    assert len(num_ways(Flat((12, 1, 1), 12))) == 1
    assert len(num_ways(None)) == 1


def test_frameworks_that_flatten_as_pytorch_does():
    assert num_ways(Flat((3, 2, 2), 3), "torch") == ["(in, out) to (out, in)"]


def test_a_module_that_did_not_run_tells_nothing():
    assert len(ways(STEP, None, "keras", has_maps=True)) == 2
    assert len(ways(STEP, None, "keras", has_maps=False)) == 1
