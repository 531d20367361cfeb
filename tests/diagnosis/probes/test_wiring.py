import pytest
import torch
from torch import nn
from torch.nn import functional as F

import frostline as fl
from frostline.diagnosis import Patient, train
from frostline.diagnosis.probes.wiring import (
    climb_of_step,
    cut_off,
    depends_on_place,
    idle_parts,
    mixes_samples,
    past_all_others,
    unused_twins,
    zero_walls,
)
from helpers_health import mlp, sgd, task


class Detached(nn.Module):
    def __init__(self):
        super().__init__()
        self.lower, self.unused, self.head = nn.Linear(12, 8), nn.Linear(2, 2), nn.Linear(8, 3)

    def forward(self, inputs):
        return self.head(self.lower(inputs).relu().detach())


def idle_of(model, optimizer, data=None):
    patient, data = Patient(model, optimizer), data or task(5)
    start = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    train(patient, data, F.cross_entropy, skips_nonfinite=True)
    weights = [value.clone() for value in model.parameters()]
    found = dict(idle_parts(patient, start, data, F.cross_entropy))
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
    return found


def test_parts_without_a_gradient_are_found():
    model = Detached()
    found = idle_of(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert found == {"lower": "without a gradient", "unused": "without a gradient"}


def test_parts_that_the_optimizer_does_not_know_or_does_not_move_are_found():
    model = mlp(depth=3)
    _, second, *rest = [module for module in model if isinstance(module, nn.Linear)]
    groups = [{"params": second.parameters(), "lr": 0.0}, {"params": [p for one in rest for p in one.parameters()]}]
    found = idle_of(model, torch.optim.SGD(groups, lr=0.1))
    assert list(found.values()) == ["not in the optimizer", "at a learning rate of 0"]


def test_frozen_parts_and_a_network_that_never_moved_are_none():
    model = mlp()
    assert idle_of(model, torch.optim.SGD(model.parameters(), lr=0.1)) == {}
    model[0].requires_grad_(False)
    assert idle_of(model, torch.optim.SGD(model.parameters(), lr=0.1)) == {}
    nan = [(inputs * torch.nan, target) for inputs, target in task(2)]
    assert idle_of(model, torch.optim.SGD(model.parameters(), lr=0.1), nan) == {}


class Recurrent(nn.Module):
    def __init__(self, *, batch_first):
        super().__init__()
        self.rnn, self.head = nn.GRU(3, 8, batch_first=batch_first), nn.Linear(8, 2)

    def forward(self, inputs):
        return self.head(self.rnn(inputs)[0][:, -1])


class Draws(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
        self.own = torch.Generator().manual_seed(0)

    def forward(self, inputs):
        return super().forward(inputs) + torch.randn(len(inputs), 2, generator=self.own)


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_wrong_axis_mixes_samples(batch_first):
    model = Recurrent(batch_first=batch_first)
    inputs, target = torch.randn(6, 5, 3), torch.zeros(6, dtype=torch.long)
    assert mixes_samples(model, inputs, target) is not batch_first
    assert model.training


def test_what_cannot_be_asked_is_not_known():
    inputs, target = torch.randn(6, 5, 3), torch.zeros(6, dtype=torch.long)
    assert mixes_samples(nn.Linear(3, 2), inputs, target) is None  # (6, 5, 2) answers
    assert mixes_samples(Recurrent(batch_first=True), {"x": inputs}, target) is None
    assert mixes_samples(Recurrent(batch_first=True), inputs[:1], target[:1]) is None
    assert mixes_samples(Recurrent(batch_first=False), torch.randn(6, 6, 3), target) is None  # steps may come first
    assert mixes_samples(Draws(), torch.randn(6, 4), target) is None
    assert mixes_samples(nn.BatchNorm1d(4), torch.randn(6, 4), target) is False  # eval mode


def test_a_checkup_tells_both():
    data = [(torch.randn(8, 5, 3), torch.randint(2, (8,))) for _ in range(10)]
    model = Recurrent(batch_first=False)
    diagnosis = fl.checkup(model, data, F.cross_entropy, torch.optim.SGD(model.head.parameters(), lr=0.1))
    assert {"FL405", "FL506"} <= {finding.code for finding in diagnosis.findings}
    assert "rnn: not in the optimizer" in str(diagnosis)


class Leaning(nn.Module):
    """Every answer leans a little on the mean of the batch; `change` makes something else of the answers."""

    def __init__(self, share, change=lambda answers: answers):
        super().__init__()
        self.share, self.change = share, change

    def forward(self, x):
        return self.change(x + self.share * x.mean(0))


def rows(count=8):
    x = torch.zeros(count, 4)
    x[-1] = 1.0  # the largest answer; the first row gets it in its place
    return x


@pytest.mark.parametrize(("share", "expected"), [(0.016, True), (0.004, False)])
def test_answers_that_change_by_more_than_a_thousandth_mix(share, expected):
    for target in (torch.zeros(8, dtype=torch.long), torch.zeros(8, 4)):
        assert mixes_samples(Leaning(share), rows(), target) is expected
        assert mixes_samples(Leaning(share), 1000 * rows(), target) is expected


@pytest.mark.parametrize("count", [2, 4])
def test_two_samples_and_as_many_as_there_are_features_are_enough(count):
    assert mixes_samples(Leaning(1.0), rows(count), torch.zeros(count)) is True


@pytest.mark.parametrize(
    "change",
    [
        lambda x: {"logits": x},
        lambda x: x[:-1],
        lambda x: x.long(),
        lambda x: x / 0,
        lambda x: x[:, 0],
        lambda x: x[None],
    ],
    ids="by-name shorter whole-numbers not-finite flat deeper".split(),
)
def test_answers_of_another_kind_are_not_asked_about(change):
    assert mixes_samples(Leaning(1.0, change), rows(), torch.zeros(8)) is None


@pytest.mark.parametrize("target", [None, torch.zeros(7), torch.zeros(8, 2, 2)])
def test_targets_of_another_kind_are_not_asked_about(target):
    assert mixes_samples(Leaning(1.0), rows(), target) is None
    assert mixes_samples(Leaning(1.0), torch.tensor(1.0), torch.zeros(1)) is None


def test_noise_of_the_common_generator_is_none_and_state_is_put_back():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            return x + torch.rand(len(x), 4)

    model = Counting()
    assert mixes_samples(model, rows(), torch.zeros(8)) is False
    assert model.calls == 0


class Bare(nn.Module):
    """A weight of the model itself, that gets no gradient."""

    def __init__(self):
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.ones(())), nn.Linear(12, 3)

    def forward(self, inputs):
        return self.head(inputs) * self.scale.detach()


def test_a_weight_of_the_model_itself_is_named_by_its_own_name():
    model = Bare()
    assert idle_of(model, torch.optim.SGD(model.parameters(), lr=0.1)) == {"scale": "without a gradient"}


def test_a_part_that_gets_a_gradient_of_zeros_is_known_as_such():
    model = mlp(depth=2)
    with torch.no_grad():
        model[0].bias.fill_(-1e6)  # dead
    assert idle_of(model, torch.optim.SGD(model.parameters(), lr=0.1)) == {"0": "with a gradient of 0"}


def test_of_parts_without_a_gradient_those_whose_values_count_are_cut_off():
    model = Detached()
    idle = (("lower", "without a gradient"), ("unused", "without a gradient"), ("head", "not in the optimizer"))
    weights = [value.clone() for value in model.parameters()]
    assert cut_off(model, idle, task(1)[0], F.cross_entropy) == (("lower",), (), ())
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


def walls_of(model, optimizer=None):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = zero_walls(Patient(model, optimizer or sgd(model)), task(1)[0], F.cross_entropy)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    return found


def test_a_last_layer_of_zeros_that_does_not_train_is_a_wall():
    model = mlp(depth=2)
    last = model[-1]
    nn.init.zeros_(last.weight)
    assert walls_of(model) == ()  # it trains, and is no longer zero after a step
    last.weight.requires_grad_(False)
    assert walls_of(model) == (str(len(model) - 1),)
    last.weight.requires_grad_(True)
    below = [parameter for layer in model[:-1] for parameter in layer.parameters()]
    assert walls_of(model, torch.optim.SGD(below, lr=0.1)) == (str(len(model) - 1),)


def test_frozen_zeros_beside_another_way_for_gradients_are_no_wall():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.lower, self.side, self.head = nn.Linear(12, 3), nn.Linear(3, 3, bias=False), nn.Linear(3, 3)
            nn.init.zeros_(self.side.weight)
            self.side.requires_grad_(False)

        def forward(self, inputs):
            hidden = self.lower(inputs)
            return self.head(hidden + self.side(hidden))

    assert walls_of(Branches()) == ()


class Pooled(nn.Module):
    """A backbone that gives a pooled output as well, which nobody uses."""

    def __init__(self):
        super().__init__()
        self.lower, self.pooler = nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, inputs):
        hidden = self.lower(inputs)
        return hidden, self.pooler(hidden)


class Dropping(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.first, self.idle, self.head = Pooled(), nn.Linear(12, 12), nn.Linear(3, 3), nn.Linear(12, 3)

    def forward(self, inputs):
        hidden, _ = self.backbone(inputs)
        self.first(hidden)  # its output is dropped
        return self.head(hidden)


def test_a_part_that_runs_for_nothing_is_dropped_and_one_that_others_may_use_is_not():
    idle = tuple((name, "without a gradient") for name in ("backbone.pooler", "first", "idle"))
    assert cut_off(Dropping(), idle, task(1)[0], F.cross_entropy) == ((), ("first",), ())


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.lower, self.first, self.second = nn.Linear(12, 12), nn.Linear(12, 3), nn.Linear(12, 3)

    def forward(self, inputs):
        hidden = self.lower(inputs)
        return self.first(hidden) + self.second(hidden)


@pytest.mark.parametrize(
    ("held", "past"), [(("lower", "first"), ("second",)), (("first", "second"), ()), (("first",), ())],
    ids=["a head is left out", "the backbone is left out", "most is left out"],
)  # fmt: skip
def test_a_head_that_is_left_out_reaches_the_loss_past_all_others(held, past):
    model = TwoHeads()
    optimizer = torch.optim.SGD([p for name in held for p in model.get_submodule(name).parameters()], lr=0.1)
    idle = tuple((name, "not in the optimizer") for name, _ in model.named_children() if name not in held)
    assert past_all_others(Patient(model, optimizer), idle, task(1)[0], F.cross_entropy) == past


def test_a_part_whose_output_the_loss_leaves_out_is_unheard():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.first, self.second = nn.Linear(12, 8), nn.Linear(8, 3), nn.Linear(8, 3)

        def forward(self, inputs):
            hidden = self.body(inputs).relu()
            return self.first(hidden), self.second(hidden)

    def second_alone(output, target):
        return F.cross_entropy(output[1], target)

    idle = (("first", "without a gradient"),)
    assert cut_off(TwoHeads(), idle, task(1)[0], second_alone) == ((), (), ("first",))


class Graphs(nn.Module):
    """Graphs of four nodes that are joined to one; edges may be those of the first alone."""

    def __init__(self, *, moves_on):
        super().__init__()
        self.own, self.moves_on = nn.Linear(3, 2), moves_on

    def forward(self, nodes_NGD):
        flat = self.own(nodes_NGD.flatten(0, 1))
        first = 4 * torch.arange(len(nodes_NGD) if self.moves_on else 1)[:, None]
        into, of = ((first + torch.tensor(one)).flatten() for one in ([0, 1, 2, 3], [1, 2, 3, 0]))
        return flat.index_add(0, into, flat[of]).reshape(len(nodes_NGD), 4, 2)


@pytest.mark.parametrize(
    ("model", "is_placed"),
    [
        (Graphs(moves_on=True), False),
        (Graphs(moves_on=False), True),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.BatchNorm1d(3, track_running_stats=False)), False),
        (nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.Softmax(0)), False),  # rows mix, and no place counts
        (nn.Sequential(nn.Flatten(1, 2), nn.GRU(12, 3)), None),  # a state beside the outputs has no axis of rows
    ],
)
def test_rows_in_another_order_get_the_same_outputs(model, is_placed):
    assert depends_on_place(model, torch.randn(8, 4, 3)) is is_placed


def test_noise_and_batches_without_rows_are_not_asked():
    class Noisy(nn.Module):
        def forward(self, inputs):
            return F.dropout(inputs, 0.5)

    assert depends_on_place(Noisy(), torch.randn(8, 4)) is None
    assert depends_on_place(nn.Identity(), torch.randn(2, 4)) is None


def test_a_layer_that_is_not_used_has_a_twin_beside_it():
    class Tables(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.other = nn.Embedding(9, 4), nn.Embedding(9, 4), nn.Embedding(8, 4)

    idle = (("second", "without a gradient"), ("other", "without a gradient"))
    assert unused_twins(Tables(), idle) == (("second", "first"),)
    assert unused_twins(nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]), (("1", "without a gradient"),)) == ()


class Uphill(torch.optim.SGD):
    """With the wrong sign."""

    def step(self, closure=None):
        for group in self.param_groups:
            for one in group["params"]:
                one.data.add_(one.grad, alpha=group["lr"])


@pytest.mark.parametrize(
    ("make", "goes_up"),
    [
        (torch.optim.Adam, False),
        (lambda parameters: torch.optim.SGD(parameters, 0.1, momentum=0.9, weight_decay=1.0), False),
        (lambda parameters: torch.optim.SGD(parameters, 0.1, maximize=True), True),
        (lambda parameters: Uphill(parameters, 0.1), True),
    ],
)
def test_a_step_goes_down_the_slope_or_up(make, goes_up):
    model = mlp()
    cosine = climb_of_step(Patient(model, make(list(model.parameters()))), task(1)[0], F.cross_entropy)
    assert (cosine > 0.05) is goes_up
    assert abs(cosine) > 0.3


def test_of_a_step_that_moves_nothing_or_has_a_past_nothing_is_known():
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    assert climb_of_step(Patient(model, optimizer), task(1)[0], F.cross_entropy) is None
    optimizer = sgd(model)
    train(Patient(model, optimizer), task(3), F.cross_entropy)
    assert climb_of_step(Patient(model, optimizer), task(1)[0], F.cross_entropy) is None
