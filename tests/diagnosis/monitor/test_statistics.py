import pytest
import torch
from torch import nn

from frostline.diagnosis.monitor import statistics


def test_the_first_tensor_of_any_output():
    x = torch.ones(2, 3)
    packed = nn.utils.rnn.pack_sequence([torch.ones(2, 3), torch.ones(1, 3)])
    assert statistics.first_tensor((x, None)) is x
    assert statistics.first_tensor([[(x,)]]) is x
    assert torch.equal(statistics.first_tensor((packed, None)), packed.data)
    for other in (None, {"x": x}, (), torch.ones(2).long(), torch.ones(0, 3), torch.tensor(1.0), x.to_sparse()):
        assert statistics.first_tensor(other) is None


def test_units_are_channels_of_convolutions_and_the_last_axis_elsewhere():
    assert statistics.units_of(torch.zeros(2, 5, 4, 4), is_channels_first=True).shape == (32, 5)
    assert statistics.units_of(torch.zeros(2, 7, 5), is_channels_first=False).shape == (14, 5)
    assert statistics.units_of(torch.zeros(6), is_channels_first=True).shape == (6, 1)


@pytest.mark.parametrize("shape", [(3, 4), (64, 64), (64, 65), (64, 80), (2, 7, 5), (8, 200), (4096, 8)])
def test_units_are_copies(shape):
    output = torch.randn(shape)
    values = statistics.units_of(output, is_channels_first=False)
    assert values.untyped_storage().data_ptr() != output.untyped_storage().data_ptr()
    assert set(values.flatten().tolist()) <= set(output.flatten().tolist())


def test_small_outputs_are_looked_at_whole():
    output = torch.randn(64, 64)
    assert torch.equal(statistics.units_of(output, is_channels_first=False), output)


def test_large_outputs_are_thinned_evenly():
    places = torch.arange(16 * 32 * 32).view(16, 1, 32, 32).expand(16, 64, 32, 32).float()
    for output in (places, places.contiguous(memory_format=torch.channels_last), places.contiguous()):
        values = statistics.units_of(output, is_channels_first=True)
        assert 60 <= len(values) <= 64
        assert values.shape[1] == 64
        assert len((values[:, 0] % 32).unique()) > 25  # columns of the images
        assert len((values[:, 0] // 1024).unique()) == 16  # samples
    units = torch.arange(3000.0).expand(100, 3000)
    looked = statistics.units_of(units, is_channels_first=False)[0]
    assert looked.tolist() == [*range(16), *range(994, 1010), *range(1988, 2004), *range(2982, 2998)]


def measured(values, activation="", silence=None, owners=None):
    values = values if values.dim() == 3 else values[None]
    owners = owners or tuple((0, str(at)) for at in range(len(values)))
    table = statistics.measure(values.double(), owners, activation, silence or statistics.Silence())
    return dict(zip(table.fields, table.values.tolist(), strict=True))


def test_moments_are_those_of_all_values_of_a_layer():
    values = torch.randn(3, 1000, 4) * torch.tensor([1.0, 1e-20, 1e25])[:, None, None] + 1
    values[0, :, 0] = 3.0
    own = measured(values)
    assert own["mean"] == pytest.approx(values.double().mean((1, 2)).tolist())
    assert own["deviation"][0] == pytest.approx(float(values[0].std(correction=0)), rel=1e-5)
    assert own["deviation"][1] == pytest.approx(0, abs=1e-8)
    assert own["deviation"][2] == pytest.approx(float(values[2].double().std(correction=0)), rel=1e-5)
    assert own["constant"] == [0.25, 1.0, 0.0]


def test_what_is_not_finite_stays_with_its_layer():
    values = torch.randn(3, 20, 4)
    values[1, 3, 2] = float("nan")
    values[2, 0, 0] = float("inf")
    own = measured(values)
    assert [torch.tensor(own["mean"]).isfinite().tolist(), own["mean"][0]] == [[True, False, False], pytest.approx(
        float(values[0].mean()))]  # fmt: skip


def test_thinned_numbers_are_near_those_of_the_whole():
    torch.manual_seed(0)
    output = (torch.randn(256, 1) + torch.randn(256, 512) * torch.rand(512) * 3 - 3 * torch.rand(512)).relu()
    output[:, torch.randperm(512)[:200]] = 0.0
    own = measured(statistics.units_of(output, is_channels_first=False), "relu")
    assert own["deviation"][0] == pytest.approx(float(output.std()), rel=3 * 0.09)
    assert own["dead"][0] == pytest.approx(200 / 512, abs=3 * 0.06)


def test_a_unit_is_dead_if_it_was_silent_in_five_steps_or_in_all_there_were():
    silence = statistics.Silence()
    steps = [[0, 0, 1], [0, 1, 1], *([[0, 0, 0]] * 4), [0, 0, 0], [1, 0, 0]]
    shares = [measured(torch.tensor([[step]] * 1).float(), "relu", silence)["dead"][0] * 3 for step in steps]
    assert shares == pytest.approx([2, 1, 1, 1, 1, 1, 3, 2])


def test_steps_that_are_measured_together_count_one_after_the_other():
    values = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])[:, None]
    owners = ((0, "a"), (1, "a"), (1, "b"), (2, "a"))
    assert measured(values, "relu", owners=owners)["dead"] == [1.0, 0.5, 1.0, 0.0]


def test_what_is_no_number_is_not_silent():
    assert measured(torch.full((5, 2), float("nan")), "relu")["dead"] == [0.0]


@pytest.mark.parametrize(("activation", "function"), [("tanh", torch.tanh), ("sigmoid", torch.sigmoid)])
def test_saturation_is_by_slope(activation, function):
    inputs = torch.tensor([[0.0, 20.0], [1.0, -20.0]])
    assert measured(function(inputs), activation)["saturated"] == [0.5]
    assert set(measured(inputs, "relu")) == {"dead", "mean", "deviation", "constant"}
    scan = torch.linspace(-8, 8, 4001, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(function(scan).sum(), scan)
    share = float((slope < 0.01 * slope.max()).double().mean())
    assert measured(function(scan).detach()[:, None], activation)["saturated"] == [pytest.approx(share)]


def test_activations_with_ends():
    assert [name for name in ("relu", "relu6", "tanh", "gelu", "") if statistics.can_die(name)] == ["relu", "relu6"]
    assert [name for name in ("relu", "sigmoid", "tanh", "") if statistics.can_saturate(name)] == ["sigmoid", "tanh"]


def test_units_that_give_the_same_value_for_all_samples_do_not_deviate():
    values = torch.full((63, 4), 0.3) * torch.tensor([1.0, 1e20, -1e-20, 0.0])  # the mean of the first is 0.3 + 3e-8
    found = measured(values[:, :1], "")
    assert (found["mean"], found["deviation"], found["constant"]) == (
        [pytest.approx(0.3)], [pytest.approx(0.0, abs=3e-9)], [1.0])  # fmt: skip
    assert all(torch.tensor(value).isfinite().all() for value in measured(values, "").values())


def test_a_unit_is_dead_as_a_count_of_silent_steps_says():
    torch.manual_seed(0)
    silence, silent_for, at = statistics.Silence(), torch.full((2, 8), 5), 0
    for num_steps in (1, 3, 16, 2):
        heard = torch.rand(num_steps, 2, 8) < 0.2
        owners = tuple((at + step, name) for step in range(num_steps) for name in "ab")
        dead = silence.dead(heard.float().flatten(0, 1), owners).view(num_steps, 2, 8)
        for step in range(num_steps):
            silent_for = (silent_for + 1) * ~heard[step]
            assert torch.equal(dead[step], silent_for >= 5)
        at += num_steps


def test_channels_of_sequences_and_rows_without_places():
    assert statistics.units_of(torch.zeros(2, 5, 7), is_channels_first=True).shape == (14, 5)
    assert statistics.units_of(torch.zeros(2, 5), is_channels_first=True).shape == (2, 5)
