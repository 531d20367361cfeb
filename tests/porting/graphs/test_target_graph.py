import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from frostline.porting.graphs.target_graph import followed, is_before, is_before_in_containers
from frostline.porting.units.unit import target_units
from helpers_porting import flow


class Block(nn.Module):
    """Registered in another order than it runs; one weight is used by a function."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(32, 2)
        self.short, self.main, self.first = nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))
        self.norm = weight_norm(nn.Conv2d(8, 8, 1))

    def forward(self, x):
        x = self.first(x).relu()
        x = F.conv2d(x, self.main.weight, self.main.bias, padding=1) + self.short(x)
        x = self.norm(x * self.scale)
        x[:, 0] = 0
        return self.last(F.adaptive_avg_pool2d(x, 2).flatten(1))


def test_values_are_followed_through_functions_parameters_and_writes():
    model = Block().train()
    before = torch.get_rng_state()
    seen = flow(model, target_units(model))
    assert seen.edges == {
        "first": set(), "main": {"first"}, "short": {"first"}, "scale": {"main", "short"}, "norm": {"scale"},
        "last": {"norm"},
    }  # fmt: skip
    ((piece,),) = [flat.pieces for flat in seen.flattened["last"]]
    assert [(part.size, part.role) for part in piece] == [(8, "channels"), (2, "place"), (2, "place")]
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)
    assert is_before(seen.edges, "first", "last")
    assert not is_before(seen.edges, "main", "short")


def test_of_layers_that_are_called_in_a_loop_none_is_before_another():
    loop = {"first": {"last"}, "middle": {"first"}, "last": {"middle"}, "head": {"last"}}
    assert not any(is_before(loop, one, other) for one in loop for other in loop if other != "head")
    assert is_before(loop, "middle", "head")


def test_the_layers_of_a_recurrent_module_follow_each_other_and_directions_do_not():
    model = nn.LSTM(2, 3, num_layers=2, bidirectional=True, batch_first=True)
    edges = flow(model, target_units(model)).edges
    assert edges[":l1"] == {":l0", ":l0_reverse"}
    assert edges[":l0_reverse"] == set()


def test_a_module_that_no_example_runs_shows_nothing():
    class Strange(nn.Linear):
        def forward(self, x, *, secret):
            return super().forward(x + secret)

    model = Strange(2, 2)
    assert flow(model, target_units(model)) is None


def test_the_entries_of_a_sequence_are_in_order_and_attributes_are_not():
    model = nn.ModuleDict({"a": nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), "b": nn.Linear(1, 1)})
    assert is_before_in_containers(model, "a.0", "a.1")
    assert not is_before_in_containers(model, "a.1", "a.0")
    assert not is_before_in_containers(model, "a.0", "b")


def test_why_a_module_could_not_be_run_is_said_of_the_first_input():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 2))
    seen, failure = followed(model, target_units(model), torch.ones(2, 3))
    assert seen is None
    assert failure.startswith("an input of shape (2, 3) gives RuntimeError: ")
    seen, failure = followed(model[:1], target_units(model[:1]), torch.ones(2, 3))
    assert seen is not None
    assert failure == ""
