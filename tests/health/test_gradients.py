import pytest
import torch
from torch import nn

from frostline.health.gradients import Step
from frostline.health.layers import find_layers


def stepped(model, optimizer, **options):
    step = Step(find_layers(model))
    step.before(keeps_weights=True, **options)
    optimizer.step()
    step.after()
    return {name: {key: float(value) for key, value in own.items()} for name, own in step.by_layer().items()}


def test_norms_and_updates_by_layer():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1, bias=False).requires_grad_(False), nn.Linear(1, 1))
    model(torch.randn(4, 3)).sum().backward()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
    whole = torch.cat([p.grad.flatten() for p in model[0].parameters()]).norm()
    size = torch.cat([p.detach().flatten() for p in model[0].parameters()]).norm()
    found = stepped(model, optimizer)
    assert set(found) == {"0", "2"}
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

    step = Step(find_layers(model))
    step.before(keeps_weights=True)
    optimizer.step(closure)
    step.after()
    assert float(step.by_layer()["(the model)"]["gradient_norm"]) > 0
    assert float(step.total) > 0


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
    step = Step(find_layers(model))
    step.before(keeps_weights=False)
    assert model.weight.grad is gradient
    assert not gradient.is_coalesced()
    assert float(step.by_layer()["(the model)"]["gradient_norm"]) == pytest.approx((3 * 18) ** 0.5)


def test_without_gradients_there_is_no_total():
    step = Step(find_layers(nn.Linear(2, 2)))
    step.before(keeps_weights=False)
    step.after()
    assert step.total is None
    assert set(step.by_layer()["(the model)"]) == {"weight_norm"}
