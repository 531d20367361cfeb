import torch
from torch import nn
from torch.nn import functional as F

from frostline.porting.graphs.axes_of_run import AxesOfRun
from frostline.porting.units.unit import target_units
from helpers_porting import flow


class Net(nn.Module):
    def __init__(self, function, **layers):
        super().__init__()
        self._function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, x):
        return self._function(self, x)


def sides(module, name, x):
    seen = flow(module, target_units(module), x)
    return {flat.side: [[(part.size, part.role) for part in piece] for piece in flat.pieces]
            for flat in seen.flattened.get(name, ())}  # fmt: skip


def test_an_input_may_have_its_channels_first_or_last():
    module = Net(lambda net, x: net.d(x.flatten(1)), d=nn.Linear(60, 2))
    assert sides(module, "d", torch.zeros(2, 3, 4, 5))["inputs"] == [[(3, "given"), (4, "place"), (5, "given")]]
    assert sides(module, "d", torch.zeros(2, 60)) == {}


def test_a_guessed_input_that_is_flattened_at_once_may_have_been_a_map():
    module = Net(lambda net, x: net.d(x.flatten(1)), d=nn.Linear(60, 2))
    assert sides(module, "d", None)["inputs"] == [[(60, "broken")]]
    assert sides(Net(lambda net, x: net.d(x), d=nn.Linear(60, 2)), "d", None) == {}


def test_a_layer_that_is_called_on_values_of_two_kinds_has_no_order():
    module = Net(lambda net, x: net.d(net.a(x).flatten(1)) + net.d(net.a(x).permute(0, 2, 3, 1).flatten(1)),
                 a=nn.Conv2d(3, 4, 1), d=nn.Linear(24, 2))  # fmt: skip
    assert "broken" in str(sides(module, "d", torch.zeros(2, 3, 2, 3)))


def test_an_operation_without_a_rule_leaves_its_weights_in_doubt():
    module = Net(lambda net, x: torch.einsum("bi,io->bo", net.a(x).flatten(1), net.w), a=nn.Conv2d(3, 4, 1),
                 w=nn.Parameter(torch.ones(24, 2)))  # fmt: skip
    assert "other" in sides(module, "w", torch.zeros(2, 3, 2, 3))


def test_makers_of_what_was_cut_are_in_doubt():
    module = Net(lambda net, x: net.a(net.d(x).chunk(2, 1)[0].reshape(-1, 4, 2, 2)), d=nn.Linear(5, 32),
                 a=nn.Conv2d(4, 2, 1))  # fmt: skip
    assert "other" in sides(module, "d", torch.zeros(2, 5))
    summed = Net(lambda net, x: net.a(net.d(x).view(-1, 4, 2, 2) + net.e(x).view(-1, 4, 2, 2)), d=nn.Linear(5, 16),
                 e=nn.Linear(5, 16), a=nn.Conv2d(4, 2, 1))  # fmt: skip
    for name in ("d", "e"):
        assert sides(summed, name, torch.zeros(2, 5)) == {
            "outputs": [[(4, "channels"), (2, "place"), (2, "place")]]}  # fmt: skip


def test_calls_that_are_not_as_a_rule_expects_are_unknown():
    run = AxesOfRun(is_guessed=False)
    x = torch.zeros(2, 3, 4, 5)
    run.begin(x)
    made = x.clone()
    run.follow(torch.cat, (), {}, ([x], [made]), {})
    assert [axis[0].origin.role for axis in run.of(made)] == ["unknown"] * 4
    other = F.relu(x)
    assert not run.has(other)


def test_outputs_that_are_cut_into_axes_may_be_maps():
    module = Net(lambda net, x: net.d(x).view(-1, 3, 4, 4), d=nn.Linear(5, 48))
    (piece,) = sides(module, "d", torch.zeros(2, 5))["outputs"]
    assert {role for _, role in piece} == {"unknown"}


def test_a_map_that_is_flattened_and_cut_elsewhere_cannot_be_followed():
    module = Net(lambda net, x: net.d(net.a(x).flatten(1).view(-1, 6, 2, 8).amax(3).flatten(1)), a=nn.Conv2d(3, 4, 1),
                 d=nn.Linear(12, 2))  # fmt: skip
    assert "broken" in str(sides(module, "d", torch.zeros(2, 3, 6, 4)))


def test_layers_whose_outputs_are_added_have_them_in_one_order():
    for is_early in (False, True):

        def run(net, x, is_early=is_early):
            first, second = net.d(x), net.e(x)
            cut = net.a(first.view(-1, 2, 2, 2)).sum() if is_early else 0
            both = net.f(first + second)
            return both + cut + (0 if is_early else net.a(first.view(-1, 2, 2, 2)).sum())

        module = Net(run, d=nn.Linear(5, 8), e=nn.Linear(5, 8), f=nn.Linear(8, 3), a=nn.Conv2d(2, 2, 1))
        map_of_both = [[(2, "channels"), (2, "place"), (2, "place")]]
        assert sides(module, "d", torch.zeros(2, 5)) == {"outputs": map_of_both}
        assert sides(module, "e", torch.zeros(2, 5)) == {"outputs": map_of_both}
        assert sides(module, "f", torch.zeros(2, 5)) == {"inputs": map_of_both}


def test_a_value_that_is_lost_is_in_doubt_when_no_axis_of_it_is_left():
    module = Net(lambda net, x: net.d(F.glu(net.e(x).view(-1, 2, 4, 4), 1).mean((2, 3))),
                 e=nn.Embedding(20, 4), d=nn.Linear(1, 3))  # fmt: skip
    assert "broken" in str(sides(module, "d", torch.zeros(2, 8, dtype=torch.long)))
    last = Net(lambda net, x: F.glu(net.e(x).view(-1, 2, 4, 4), 1).mean((1, 2, 3)), e=nn.Embedding(20, 4),
               a=nn.Linear(2, 2))  # fmt: skip
    assert sides(last, "e", torch.zeros(2, 8, dtype=torch.long)) == {}  # no layer has taken anything
    taken = Net(lambda net, x: F.glu(net.a(net.e(x)).view(-1, 2, 4, 4), 1).mean((1, 2, 3)), e=nn.Embedding(20, 4),
                a=nn.Linear(4, 4))  # fmt: skip
    assert "broken" in str(sides(taken, "a", torch.zeros(2, 8, dtype=torch.long)))


def test_roles_that_contradict_each_other_are_told_once():
    def run(net, x):
        first, second = net.d(x).view(-1, 2, 4), net.e(x).view(-1, 2, 4)
        return net.a(first).sum() + net.b(first.mT).sum() + net.a(first + second).sum()

    module = Net(run, d=nn.Linear(5, 8), e=nn.Linear(5, 8), a=nn.Conv1d(2, 2, 1), b=nn.Conv1d(4, 2, 1))
    assert "broken" in str(sides(module, "d", torch.zeros(2, 5)))


def test_features_that_are_added_to_a_flattened_map_lie_as_it_does():
    module = Net(lambda net, x: net.e(net.a(x).flatten(1) + net.d(net.a(x).flatten(1))), a=nn.Conv2d(3, 4, 1),
                 d=nn.Linear(24, 24), e=nn.Linear(24, 2))  # fmt: skip
    flat = [[(4, "channels"), (2, "place"), (3, "place")]]
    assert sides(module, "d", torch.zeros(2, 3, 2, 3)) == {"inputs": flat, "outputs": flat}
    assert sides(module, "e", torch.zeros(2, 3, 2, 3)) == {"inputs": flat}
