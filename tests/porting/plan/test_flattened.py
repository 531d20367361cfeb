"""What a module does with maps, and in which order the rows of its weights come then; nothing is said by hand."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frostline.core.errors import AmbiguousPortError
from frostline.porting.graphs.axes import CHANNELS, PLACE, Part
from frostline.porting.plan.ambiguity import refuse_ambiguity
from frostline.porting.plan.flattened import NOT_FOLLOWED, NOT_RUN, in_order
from frostline.porting.plan.port_plan import make_plan
from helpers_porting import numbers, source_of


class Net(nn.Module):
    """Layers by name, and a function of them and the input."""

    def __init__(self, forward, **layers):
        super().__init__()
        self._function = forward
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self._function(self, x)


CONV = {"kernel": numbers(3, 3, 3, 6)}


def conv():
    return nn.Conv2d(3, 6, 3, padding=1, bias=False)


def dense(*sizes):
    return {"kernel": numbers(*sizes), "bias": numbers(sizes[-1])}


def plan(units, module, framework="keras", layers=()):
    return make_plan(source_of(framework, units, layers=layers), "file", module, inputs=torch.rand(2, 3, 6, 6))


def ways(found):
    (group,) = found.opened
    (steps,) = group.steps.values()
    return steps


def columns(count, *last):
    """Where the module's features lie among those of a map with channels last."""
    return np.arange(count).reshape(last).transpose(2, 0, 1).reshape(-1)


def made(steps, name, own="weight"):
    step = next(one for one in steps if one.target.name == name)
    move = next(one for one in step.moves if one.target == own)
    return move.forward(tuple(step.source.leaves[leaf].load() for leaf in move.sources), step.target.tensors[own])


def test_only_the_inputs_of_the_layer_behind_the_flatten_are_turned():
    units = {"a": CONV, "b": dense(216, 216), "c": dense(216, 4)}
    module = Net(lambda net, x: net.c(F.linear(net.a(x).flatten(1), net.b.weight, net.b.bias).relu()),
                 a=conv(), b=nn.Linear(216, 216), c=nn.Linear(216, 4))  # fmt: skip
    found = plan(units, module)
    assert not found.opened
    assert torch.equal(made(found.steps, "b"), units["b"]["kernel"].T[:, columns(216, 6, 6, 6)])
    assert torch.equal(made(found.steps, "b", "bias"), units["b"]["bias"])
    assert torch.equal(made(found.steps, "c"), units["c"]["kernel"].T)


@pytest.mark.parametrize("turned", [lambda x: x.permute(0, 2, 3, 1), lambda x: x.movedim(1, -1)])
def test_channels_that_the_module_moves_last_stay_there(turned):
    module = Net(lambda net, x: net.b(turned(net.a(x)).flatten(1)), a=conv(), b=nn.Linear(216, 4))
    found = plan({"a": CONV, "b": dense(216, 4)}, module)
    assert not found.opened
    assert found.steps[1].moves[0].text() == "(in, out) to (out, in)"


def test_channels_are_those_of_an_axis_and_not_of_a_size():
    module = Net(lambda net, x: net.b(torch.cat([net.a(x).relu(), (-net.a(x)).relu()], 1)[..., :3].flatten(1)),
                 a=conv(), b=nn.Linear(12 * 18, 4))  # fmt: skip
    found = plan({"a": CONV, "b": dense(216, 4)}, module)
    assert torch.equal(made(found.steps, "b"), numbers(216, 4).T[:, columns(216, 6, 3, 12)])


def test_pieces_that_are_joined_are_turned_each():
    module = Net(lambda net, x: net.b(torch.cat([net.a(x).flatten(1), F.max_pool2d(net.a(x), 2).flatten(1)], 1)),
                 a=conv(), b=nn.Linear(216 + 54, 4))  # fmt: skip
    found = plan({"a": CONV, "b": dense(270, 4)}, module)
    order = [*columns(216, 6, 6, 6), *(216 + columns(54, 3, 3, 6))]
    assert torch.equal(made(found.steps, "b"), numbers(270, 4).T[:, order])


def test_numbers_of_a_norm_and_of_a_parameter_between_flatten_and_layer_are_turned_too():
    module = Net(lambda net, x: net.b(net.n(net.a(x).flatten(1)) * net.p),
                 a=conv(), n=nn.BatchNorm1d(216), p=nn.Parameter(torch.ones(216)), b=nn.Linear(216, 4))  # fmt: skip
    leaves = {name: numbers(216, seed=at) for at, name in enumerate(("scale", "bias", "mean", "var"))}
    found = plan({"a": CONV, "n": leaves, "p": {"p": numbers(216, seed=9)}, "b": dense(216, 4)}, module, "flax")
    order = columns(216, 6, 6, 6)
    assert torch.equal(made(found.steps, "n", "running_mean"), leaves["mean"][order])
    assert torch.equal(made(found.steps, "p", "p"), numbers(216, seed=9)[order])


def test_outputs_that_become_maps_are_turned():
    module = Net(lambda net, x: net.a(net.b(x.mean((2, 3))).view(-1, 3, 4, 4)), a=conv(), b=nn.Linear(3, 48))
    found = plan({"b": dense(3, 48), "a": CONV}, module)
    order = columns(48, 4, 4, 3)
    assert torch.equal(made(found.steps, "b"), numbers(3, 48).T[order])
    assert torch.equal(made(found.steps, "b", "bias"), numbers(48)[order])


def test_channels_that_become_pixels_are_turned():
    module = Net(lambda net, x: F.pixel_shuffle(net.a(x), 2), a=nn.Conv2d(3, 8, 3, bias=False))
    found = plan({"a": {"kernel": numbers(3, 3, 3, 8)}}, module)
    assert torch.equal(made(found.steps, "a"), numbers(3, 3, 3, 8).permute(3, 2, 0, 1)[[0, 2, 4, 6, 1, 3, 5, 7]])


def test_columns_of_maps_that_a_recurrent_layer_reads():
    module = Net(lambda net, x: net.r(net.a(x).permute(0, 3, 1, 2).flatten(2)), a=conv(),
                 r=nn.RNN(36, 4, batch_first=True, bias=False))  # fmt: skip
    leaves = {"kernel": numbers(36, 4), "recurrent_kernel": numbers(4, 4)}
    found = plan({"a": CONV, "r": leaves}, module)
    order = np.arange(36).reshape(6, 6).T.reshape(-1)
    assert torch.equal(made(found.steps, "r:l0", "weight_ih"), numbers(36, 4).T[:, order])


def test_axes_of_an_unknown_operation_leave_every_order_open():
    module = Net(lambda net, x: net.b(net.a(x).roll(1, 2).flatten(1)), a=conv(), b=nn.Linear(216, 4))
    found = plan({"a": CONV, "b": dense(216, 4)}, module)
    assert len({one.moves[0].text() for one in ways(found)}) == 3
    with pytest.raises(AmbiguousPortError, match="The layout of the weights of 'b' in the file") as caught:
        refuse_ambiguity(found)
    assert "axes (1, 2, 0)" in caught.value.received
    assert "golden=(inputs, outputs) with outputs of the source network" in caught.value.do


def test_what_cannot_be_followed_is_said_and_golden_outputs_are_no_remedy():
    module = Net(lambda net, x: net.b(net.a(x).flatten(1)[:, ::2]), a=conv(), b=nn.Linear(108, 4))
    found = plan({"a": CONV, "b": dense(108, 4)}, module)
    assert [one.doubt for one in ways(found)] == [NOT_FOLLOWED]
    with pytest.raises(AmbiguousPortError) as caught:
        refuse_ambiguity(found)
    assert "write that part of the module with channels last" in caught.value.do


def test_a_norm_over_whole_maps_is_turned():
    for sides in ((6, 6, 6), (6, 6, 5)):  # channels, height, width of the module
        module = Net(lambda net, x, sides=sides: net.n(net.a(x)[..., : sides[2]]), a=conv(), n=nn.LayerNorm(sides))
        leaves = {name: numbers(*sides[1:], sides[0], seed=at) for at, name in enumerate(("scale", "bias"))}
        found = plan({"a": CONV, "n": leaves}, module, "flax")
        assert not found.opened
        assert torch.equal(made(found.steps, "n"), leaves["scale"].permute(2, 0, 1))
        assert torch.equal(made(found.steps, "n", "bias"), leaves["bias"].permute(2, 0, 1))
        (move,) = [move for step in found.steps for move in step.moves if move.target == "bias"]
        assert torch.equal(move.inverse(leaves["bias"].permute(2, 0, 1), (leaves["bias"],))[0], leaves["bias"])


def test_a_parameter_over_whole_maps_is_turned_and_one_of_equal_sides_is_in_doubt():
    module = Net(lambda net, x: net.a(x)[..., :4, :5] * net.n, a=conv(), n=nn.Parameter(torch.ones(6, 4, 5)))
    found = plan({"a": CONV, "n": {"n": numbers(4, 5, 6)}}, module, "flax")
    assert not found.opened
    assert torch.equal(made(found.steps, "n", "n"), numbers(4, 5, 6).permute(2, 0, 1))
    equal = Net(lambda net, x: net.a(x) * net.n.mT, a=conv(), n=nn.Parameter(torch.ones(6, 6, 6)))
    (step,) = plan({"a": CONV, "n": {"n": numbers(6, 6, 6)}}, equal, "flax").opened[0].steps["n", "n"]
    assert step.doubt == NOT_FOLLOWED  # the numbers alone do not show that the module turns them
    module = Net(lambda net, x: net.a(x).flatten(2).mT * net.n, a=conv(), n=nn.Parameter(torch.ones(36, 6)))
    assert not plan({"a": CONV, "n": {"n": numbers(36, 6)}}, module, "flax").opened


def test_a_table_of_places_whose_features_become_a_map():
    module = Net(lambda net, x: net.a((net.t(x) * net.p)[:, 0].view(-1, 3, 2, 2)), t=nn.Embedding(9, 12),
                 p=nn.Parameter(torch.ones(5, 12)), a=nn.Conv2d(3, 2, 1))  # fmt: skip
    units = {"t": {"embedding": numbers(9, 12)}, "p": {"p": numbers(5, 12)},
             "a": {"kernel": numbers(1, 1, 3, 2), "bias": numbers(2)}}  # fmt: skip
    found = make_plan(source_of("flax", units), "file", module, inputs=torch.zeros(2, 5, dtype=torch.long))
    order = columns(12, 2, 2, 3)
    assert torch.equal(made(found.steps, "p", "p"), numbers(5, 12)[:, order])
    assert torch.equal(made(found.steps, "t"), numbers(9, 12)[:, order])


def test_a_tensor_of_whole_maps_with_other_axes_is_in_doubt():
    module = Net(lambda net, x: net.n(net.a(x).permute(0, 2, 3, 1)[:, :5]), a=conv(), n=nn.LayerNorm((5, 6, 6)))
    assert plan({"a": CONV, "n": {"scale": numbers(6, 6, 5), "bias": numbers(6, 6, 5)}}, module, "flax").opened


def test_a_module_that_did_not_run_tells_nothing():
    module = Net(lambda net, x: x.no_such_thing, a=conv(), b=nn.Linear(216, 4))
    found = plan({"a": CONV, "b": dense(216, 4)}, module)
    (doubt,) = [one.doubt for one in ways(found)]
    assert doubt.startswith(NOT_RUN)
    assert doubt.endswith("gives AttributeError: 'Tensor' object has no attribute 'no_such_thing'")
    with pytest.raises(AmbiguousPortError) as caught:
        refuse_ambiguity(found)
    assert "with outputs of the source network" in caught.value.do
    assert not plan({"b": dense(216, 4)}, Net(lambda net, x: x.no_such_thing, b=nn.Linear(216, 4))).opened


def test_frameworks_that_flatten_as_pytorch_does():
    module = Net(lambda net, x: net.b(net.a(x).flatten(1)), a=conv(), b=nn.Linear(216, 4))
    units = {"a": {"weight": numbers(6, 3, 3, 3)}, "b": {"weight": numbers(4, 216), "bias": numbers(4)}}
    assert [move.text() for move in plan(units, module, "torch").steps[1].moves] == ["as it is", "as it is"]
    assert len(ways(plan(units, module, "numpy"))) == 2


@pytest.mark.parametrize(("perm", "count"), [((0, 2, 3, 1), 1), ((), 1), ((0, 3, 2, 1), 2)])
def test_onnx_says_whether_channels_were_moved(perm, count):
    turned = [("t", "Transpose", {"perm": list(perm)}, ["a"])] if perm else []
    nodes = [("x", "Input", {}, []), ("a", "Conv", {}, ["x"]), *turned,
             ("f", "Reshape", {}, ["t" if perm else "a"]), ("b", "MatMul", {}, ["f"])]  # fmt: skip
    units = {"a": {"weight": numbers(6, 3, 3, 3)}, "b": {"weight": numbers(216, 4)}}
    module = Net(lambda net, x: net.b(net.a(x).flatten(1)), a=conv(), b=nn.Linear(216, 4, bias=False))
    found = plan(units, module, "onnx", nodes)
    if count > 1:
        assert len(ways(found)) == count
    else:
        order = columns(216, 6, 6, 6) if perm else np.arange(216)
        assert torch.equal(made(found.steps, "b"), numbers(216, 4).T[:, order])


@pytest.mark.parametrize(
    ("formats", "is_turned"), [(["channels_first"], True), (["channels_last"], False), (["channels_last"] * 0, False)]
)
def test_keras_with_channels_first_turns_maps_only_where_flatten_is_told_so(formats, is_turned):
    layers = [("x", "InputLayer", {}, []), ("a", "Conv2D", {"data_format": "channels_first"}, ["x"])]
    layers += [("f", "Flatten", {"data_format": each}, ["a"]) for each in formats]
    units = {"a": CONV, "b": dense(216, 4)}
    module = Net(lambda net, x: net.b(net.a(x).flatten(1)), a=conv(), b=nn.Linear(216, 4))
    found = plan(units, module, "keras", [*layers, ("b", "Dense", {}, ["f" if formats else "a"])])
    order = columns(216, 6, 6, 6) if is_turned else np.arange(216)
    assert torch.equal(made(found.steps, "b"), units["b"]["kernel"].T[:, order])


def test_keras_that_flattens_maps_in_both_orders_leaves_either():
    layers = [("x", "InputLayer", {}, []), ("a", "Conv2D", {"data_format": "channels_first"}, ["x"])]
    layers += [(each, "Flatten", {"data_format": each}, ["a"]) for each in ("channels_first", "channels_last")]
    module = Net(lambda net, x: net.b(net.a(x).flatten(1)), a=conv(), b=nn.Linear(216, 4))
    assert len(ways(plan({"a": CONV, "b": dense(216, 4)}, module, "keras", layers))) == 2


def test_an_axis_in_order_comes_back():
    piece = (Part(3, CHANNELS, (0, 1)), Part(2, PLACE, (0, 2)), Part(2, PLACE, (0, 3)))
    layout = in_order([piece], [(1, 2, 0)], 0)
    rows = torch.arange(12)  # (height 2, width 2, channels 3)
    assert layout.forward(rows).tolist() == [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11]
    assert torch.equal(layout.inverse(layout.forward(rows)), rows)
    assert layout.name == "axis 0 from (2, 2, 3) to (3, 2, 2), axes (1, 2, 0)"
