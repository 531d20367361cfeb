import pytest
import torch
from torch import nn

from frostline.diagnosis.monitor.gradients import Step, Weights, _thinned, tables_of
from frostline.diagnosis.monitor.layers import find_layers


def step_of(model):
    return Step(Weights(find_layers(model)))


def numbers_of(*steps):
    """By step, layer and field."""
    found = [{} for _ in steps]
    for table in tables_of(steps, steps[0]._own):
        for field, values in zip(table.fields, table.values.tolist(), strict=True):
            for (place, layer), value in zip(table.owners, values, strict=True):
                found[place].setdefault(layer, {})[field] = value
    return found


def stepped(model, optimizer, **options):
    step = step_of(model)
    step.before(**options)
    optimizer.step()
    step.after()
    return numbers_of(step)[0]


def test_norms_and_updates_by_layer():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1, bias=False).requires_grad_(False), nn.Linear(1, 1))
    model(torch.randn(4, 3)).sum().backward()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    whole = torch.cat([p.grad.flatten() for p in model[0].parameters()]).norm()
    size = torch.cat([p.detach().flatten() for p in model[0].parameters()]).norm()
    found = stepped(model, optimizer)
    assert set(found) == {"0", "2", ""}
    assert found["0"]["gradient_norm"] == pytest.approx(float(whole))
    assert found["0"]["weight_norm"] == pytest.approx(float(size))
    assert found["0"]["update_ratio"] == pytest.approx(0.5 * float(whole / size))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_every_dtype(dtype):
    model = nn.Linear(3, 2, dtype=dtype)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    found = stepped(model, torch.optim.SGD(model.parameters(), lr=0.01))["(the model)"]
    assert found["gradient_norm"] == pytest.approx(8**0.5, rel=1e-3)
    assert found["update_ratio"] > 0


def test_weights_beyond_half_precision_have_a_norm():
    model = nn.Linear(100, 100, bias=False).half()
    with torch.no_grad():
        model.weight.fill_(60_000.0)
    assert stepped(model, torch.optim.SGD(model.parameters(), lr=0.0))["(the model)"]["weight_norm"] == pytest.approx(
        6e6, rel=1e-3
    )


def test_gradients_of_a_closure_are_read_after_it_ran():
    model = nn.Linear(3, 1)
    inputs = torch.randn(8, 3)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)

    def closure():
        optimizer.zero_grad()
        loss = model(inputs).square().mean()
        loss.backward()
        return loss

    step = step_of(model)
    step.before()
    optimizer.step(closure)
    step.after()
    assert numbers_of(step)[0]["(the model)"]["gradient_norm"] > 0
    assert numbers_of(step)[0][""]["gradient_norm"] > 0


def test_scaled_gradients_are_told_unscaled():
    model = nn.Linear(3, 2)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) * 1024
    found = stepped(model, torch.optim.SGD(model.parameters(), lr=0.0), scale=torch.tensor(1024.0))
    assert found["(the model)"]["gradient_norm"] == pytest.approx(8**0.5)


def test_sparse_gradients_stay_the_same_tensors():
    model = nn.Embedding(5, 3, sparse=True)
    (model(torch.tensor([1, 1, 2])) * torch.tensor([[1.0], [2.0], [3.0]])).sum().backward()
    gradient = model.weight.grad
    assert not gradient.is_coalesced()
    step = step_of(model)
    step.before()
    assert model.weight.grad is gradient
    assert not gradient.is_coalesced()
    assert numbers_of(step)[0]["(the model)"]["gradient_norm"] == pytest.approx((3 * 18) ** 0.5)


def test_without_gradients_there_is_no_total():
    step = step_of(nn.Linear(2, 2))
    step.before()
    step.after()
    assert step.norms == ()
    assert set(numbers_of(step)[0]["(the model)"]) == {"weight_norm"}


def test_large_layers_are_thinned_within_the_stated_error():
    torch.manual_seed(0)
    convolution = nn.Conv2d(32, 64, 3).to(memory_format=torch.channels_last)
    model = nn.Sequential(nn.Linear(256, 256), convolution, nn.Linear(300, 200))
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter) * torch.rand(len(parameter)).view(-1, *[1] * (parameter.dim() - 1))
    exact = [
        (torch.cat([p.flatten() for p in layer.parameters()]).norm().item(),
         torch.cat([p.grad.flatten() for p in layer.parameters()]).norm().item()) for layer in model
    ]  # fmt: skip
    found = stepped(model, torch.optim.SGD(model.parameters(), lr=0.1))
    for name, (weight, gradient) in zip("012", exact, strict=True):
        assert found[name]["gradient_norm"] == pytest.approx(gradient, rel=1e-5)
        assert found[name]["weight_norm"] == pytest.approx(weight, rel=3 * 0.031)
        assert found[name]["update_ratio"] == pytest.approx(0.1 * gradient / weight, rel=4 * 0.031)


def test_weights_with_gaps_in_memory_are_read_whole():
    torch.manual_seed(0)
    model = nn.Linear(60, 40, bias=False)
    model.weight = nn.Parameter(torch.randn(40, 120)[:, ::2])
    assert not model.weight.is_contiguous()
    exact = float(model.weight.detach().norm())
    model.weight.grad = torch.ones(40, 60)
    found = stepped(model, torch.optim.SGD(model.parameters(), lr=0.1))["(the model)"]
    assert found["weight_norm"] == pytest.approx(exact, rel=1e-5)
    assert found["update_ratio"] == pytest.approx(0.1 * 2400**0.5 / exact, rel=1e-5)


def test_parameters_that_moved_in_memory_are_found_again():
    model = nn.Linear(40, 40, bias=False)
    weights = Weights(find_layers(model))
    first = weights.views()
    assert weights.views() is first
    model.weight.data = torch.full((40, 40), 2.0)
    second = weights.views()
    assert second is not first
    assert second[0].copied().tolist() == [2.0] * second[0].copied().numel()


def test_steps_of_several_kinds_at_once():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    weights, optimizer, steps = Weights(find_layers(model)), torch.optim.SGD(model.parameters(), lr=1.0), []
    for at in range(4):
        optimizer.zero_grad()
        chosen = model[:1] if at % 2 else model
        for parameter in chosen.parameters():
            parameter.grad = torch.full_like(parameter, at + 1.0)
        steps.append(Step(weights))
        steps[-1].before()
        if at < 3:
            optimizer.step()
            steps[-1].after()
    found = numbers_of(*steps)
    assert [own["0"]["gradient_norm"] for own in found] == pytest.approx([(at + 1) * 8**0.5 for at in range(4)])
    assert ["gradient_norm" in own["1"] for own in found] == [True, False, True, False]
    assert ["update_ratio" in own["0"] for own in found] == [True, True, True, False]


def test_weights_that_are_not_contiguous_are_measured_as_they_are():
    wide = torch.arange(8 * 2048, dtype=torch.float32).reshape(8, 2048)
    weight = wide[:, ::2]
    kept = _thinned(weight)
    assert not weight.is_contiguous()
    assert torch.equal(kept, weight)
